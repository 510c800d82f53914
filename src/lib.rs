//! Mathesis: the learning layer of a generative pipeline.
//!
//! It watches every task, learns what works, and improves each model's prompts by itself: a learning
//! cycle that is a durable state machine in PostgreSQL. `docs/architecture.md` is the map.

#![forbid(unsafe_code)]
#![warn(missing_docs)]

pub mod analysis;
mod broken;
pub mod claude;
pub mod cli;
pub mod clock;
pub mod cycle;
pub mod dashboard;
pub mod demo;
pub mod effects;
pub mod experiment;
pub mod http;
pub mod notify;
pub mod orchestrator;
pub mod otlp;
pub mod outbound;
pub mod postgres;
pub mod report;
pub mod research;
pub mod runtime;
pub mod server;
pub mod settings;
pub mod stand_in;
pub mod store;
pub mod task_log;
pub mod workflow;
