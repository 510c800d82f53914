//! The task log: every step of every run, taken in any order, counted once, and folded into the rows
//! of `tasks` and `attempts`.
//!
//! An event goes through these files in turn: `body` and `parse` make a typed [`TaskEvent`] of JSON,
//! `check` holds it to the limits, `key` gives it its identity, `logger` and `writer` gather what many
//! callers log into one transaction (`importer` does so for a file), and `fold` says what the rows become. All but the logger and
//! its writer are pure; the SQL is in `store::task_log`.

mod body;
mod check;
mod error;
mod event;
mod fold;
mod importer;
mod json;
mod key;
mod logger;
mod parse;
mod run;
mod schema;
mod writer;

pub use body::{EVENTS_MAX, parse_body};
pub use check::{ID_CHARS_MAX, PROMPT_BYTES_MAX};
pub use error::{BodyError, EventError};
pub use event::{
    Completed, Enhancement, EventBody, EventType, Failure, Fault, Feedback, Generation, Judge,
    TaskEvent, TaskStarted, Validation, Winner,
};
pub use fold::{
    Arrived, AttemptChange, End, EndedBy, EnhancementFields, ErrorFields, FeedbackFields, Folded,
    Metadata, Stamp, StartFields, TaskChange, fold,
};
pub use importer::Importer;
pub use key::{ContentHash, EventKey};
pub use logger::{
    LogError, LogReport, LoggerLimits, Rejection, TaskLogger, Touched, WorkflowDirectory,
    WorkflowInfo,
};
pub use parse::parse_event;
pub use run::{Logged, RunLog};
pub use schema::event_schema;
