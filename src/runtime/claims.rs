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
    known: Arc<Mutex<HashSet<i64>>>,
}

/// A claim that is known for as long as this lives, also when what holds it panics.
#[derive(Debug)]
pub struct KnownClaim {
    claims: Claims,
    effect_id: i64,
}

impl Claims {
    fn lock(&self) -> std::sync::MutexGuard<'_, HashSet<i64>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes a claim.
    #[must_use]
    pub fn note(&self, effect_id: i64) -> KnownClaim {
        self.lock().insert(effect_id);
        KnownClaim { claims: self.clone(), effect_id }
    }

    /// True for a claim that somebody in this process holds.
    #[must_use]
    pub fn knows(&self, effect_id: i64) -> bool {
        self.lock().contains(&effect_id)
    }
}

impl Drop for KnownClaim {
    fn drop(&mut self) {
        self.claims.lock().remove(&self.effect_id);
    }
}
