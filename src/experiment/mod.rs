//! The experiment: who gets which prompt, what the scores decide, and what a person may read from them.
//!
//! Everything here is a pure function of its arguments: no database, no clock, and no randomness but a seed.
//! [`deck`] deals the two arms, and [`gate`] decides by the integer rule. The [`guard`]s catch its errors: [`probation`]
//! decides whether an adoption stands, [`strict`] asks for proof, [`paired`] compares task by task, and [`judge`] keeps
//! two validators apart. [`evidence`] puts numbers beside the verdict, and
//! [`figures`] words to the numbers. The rest is the arithmetic behind these:
//! [`permutation`], [`eprocess`], [`shrinkage`] and [`missingness`].

pub mod arm;
pub mod confidence;
pub mod deck;
pub mod discovery;
pub mod eprocess;
pub mod evidence;
pub mod figures;
pub mod gate;
pub mod guard;
pub mod judge;
pub mod missingness;
pub mod noise;
pub mod paired;
pub mod permutation;
mod phase;
pub mod power;
pub mod probation;
pub mod replay;
pub mod shrinkage;
pub mod slot;
pub mod standing;
pub mod strict;
pub mod watch;

#[cfg(test)]
mod known_answers;
#[cfg(test)]
mod tests;

pub use arm::{Arm, ByArm, UnknownName};
pub use guard::Guard;
pub use phase::Phase;
