//! Which claims this process knows it holds.
//!
//! A commit can succeed while its answer is lost with the connection; the next effect is then claimed
//! by this worker, and nobody would perform it: this process lives, so no rescuer takes it over. The
//! rescuer therefore compares the claims on record with these, and hands back what nobody knows of.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};

/// The claims that this process knows of. Cheap to clone; shared.
#[derive(Debug, Clone, Default)]
pub struct Claims {
    known: Arc<Mutex<HashSet<Claimed>>>,
}

/// What can be claimed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Claimed {
    /// An effect of a cycle.
    Effect(i64),
    /// A job of the pipeline.
    Job(i64),
}

/// A claim that is known for as long as this lives, also when what holds it panics.
#[derive(Debug)]
pub struct KnownClaim {
    claims: Claims,
    claimed: Claimed,
}

impl Claims {
    fn lock(&self) -> std::sync::MutexGuard<'_, HashSet<Claimed>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes a claim.
    #[must_use]
    pub fn note(&self, claimed: Claimed) -> KnownClaim {
        self.lock().insert(claimed);
        KnownClaim { claims: self.clone(), claimed }
    }

    /// True for a claim that somebody in this process holds.
    #[must_use]
    pub fn knows(&self, claimed: Claimed) -> bool {
        self.lock().contains(&claimed)
    }
}

impl Drop for KnownClaim {
    fn drop(&mut self) {
        self.claims.lock().remove(&self.claimed);
    }
}
