//! Stand-ins: small servers on this machine that speak the wire formats of the paid services.
//!
//! They let the demonstration run, and the tests, without an account and without cost. They hold callers to the rules
//! of the real services as far as those are documented. A [`script::Script`], shared by the three, makes a chosen
//! request fail in a chosen way.

pub mod claude;
pub mod clickup;
pub mod documented;
pub mod fault;
mod listener;
pub mod script;
pub mod wavespeed;
pub mod world;
