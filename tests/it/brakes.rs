//! The operators' brakes: every act on record, the switch over all workflows, and what a person may take away.

mod audit;
mod forgetting;
mod overall;
