//! What an analysis shows of a window, computed: figures, failure tags, the sample, shortened texts. Pure.
//!
//! Claude is to explain figures, not to invent them; so whatever can be counted is counted here, over the whole
//! window, however little of it is shown.

pub mod clip;
pub mod facts;
pub mod greek;
pub mod sample;
pub mod tags;

pub use facts::{Attempt, Facts};
pub use sample::{Head, Sampled};
pub use tags::Tags;
