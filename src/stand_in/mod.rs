//! Stand-ins: small servers on this machine that speak the wire formats of the paid services.
//!
//! They let the demonstration run, and the tests, without an account and without cost. They hold callers to the rules
//! of the real services as far as those are documented.

pub mod claude;
