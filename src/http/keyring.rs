//! The keys that may call, in memory, so that the hot path costs no statement.
//!
//! A known key is answered from memory that is at most [`FRESH`] old, plus at most [`READ_TIMEOUT`]
//! for the read under way: a revoked key is refused within two seconds. A key that is not in memory is
//! looked for at once, so a new key works at once; but unknown keys together cause at most one read
//! each [`MISS_PAUSE`]. While the database is away the keys of the last read go on working, since
//! production asks for its versions with them and is answered from memory.

use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use subtle::ConstantTimeEq as _;
use tokio::sync::Mutex;
use tokio::time::Instant;

use crate::store::keys::{self, ActiveKey, SecretHash};
use crate::store::{Store, StoreError};

const FRESH: Duration = Duration::from_secs(1);
const MISS_PAUSE: Duration = Duration::from_millis(100);
const READ_TIMEOUT: Duration = Duration::from_millis(900);

#[derive(Debug, Default)]
struct Ring {
    keys: Vec<Arc<ActiveKey>>,
    /// When the read that gave these keys began.
    read_at: Option<Instant>,
    /// When a read was last tried, with or without success.
    tried_at: Option<Instant>,
}

/// The keys of this process. Shared by every request.
#[derive(Debug)]
pub struct Keyring {
    store: Store,
    ring: RwLock<Ring>,
    reading: Mutex<()>,
}

impl Keyring {
    /// An empty ring; the first request reads the keys.
    pub fn new(store: Store) -> Self {
        Self { store, ring: RwLock::default(), reading: Mutex::default() }
    }

    /// The key of that secret, unless it is unknown or revoked.
    ///
    /// # Errors
    /// [`StoreError`] when the keys could never be read and the database is away.
    pub async fn find(&self, secret: &str) -> Result<Option<Arc<ActiveKey>>, StoreError> {
        let hash = SecretHash::of(secret);
        let (found, due) = self.look(hash);
        if !due {
            return Ok(found);
        }
        // Whoever has a key in hand does not wait for another request's read; who has none does.
        let turn = match &found {
            Some(_) => self.reading.try_lock().ok(),
            None => Some(self.reading.lock().await),
        };
        let Some(_turn) = turn else { return Ok(found) };
        let (found, due) = self.look(hash);
        if !due {
            return Ok(found);
        }
        match self.read().await {
            Ok(()) => Ok(self.look(hash).0),
            Err(error) if self.was_read() => {
                tracing::warn!(error = %error, "the keys could not be read; those known before go on working");
                Ok(found)
            }
            Err(error) => Err(error),
        }
    }

    /// The key, and whether the ring should be read before the answer is given.
    fn look(&self, hash: SecretHash) -> (Option<Arc<ActiveKey>>, bool) {
        let ring = self.ring.read().unwrap_or_else(PoisonError::into_inner);
        // Every key is compared, each in constant time, so the time tells nothing about a near miss.
        let found = ring.keys.iter().fold(None, |found, key| {
            let same: bool = key.hash.as_bytes().ct_eq(hash.as_bytes()).into();
            if same { Some(Arc::clone(key)) } else { found }
        });
        let pause = if found.is_some() { FRESH } else { MISS_PAUSE };
        let due = ring.read_at.is_none() || ring.tried_at.is_none_or(|at| at.elapsed() >= pause);
        (found, due)
    }

    fn was_read(&self) -> bool {
        self.ring.read().unwrap_or_else(PoisonError::into_inner).read_at.is_some()
    }

    async fn read(&self) -> Result<(), StoreError> {
        let began = Instant::now();
        let read = tokio::time::timeout(READ_TIMEOUT, keys::active(self.store.pool())).await;
        let read = read.unwrap_or(Err(StoreError::Database(sqlx::Error::PoolTimedOut)));
        let mut ring = self.ring.write().unwrap_or_else(PoisonError::into_inner);
        // A failed read is tried again after the same pause, not by every request.
        ring.tried_at = Some(began);
        ring.keys = read?.into_iter().map(Arc::new).collect();
        ring.read_at = Some(began);
        Ok(())
    }
}
