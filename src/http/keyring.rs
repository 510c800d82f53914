//! The keys that may call, in memory, so that the hot path costs no statement.
//!
//! A known key is answered from memory that is at most [`FRESH`] old, plus at most [`READ_TIMEOUT`]
//! for the read under way: a revoked key is refused within two seconds. A key that is not in memory is
//! refused only by a read that began after it came, so a new key works at once, whichever process made
//! it; but unknown keys together cause at most one read each [`MISS_PAUSE`], and wait for it. While the database is away the keys of the last read go on working, since
//! production asks for its versions with them and is answered from memory.

use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use subtle::ConstantTimeEq as _;
use tokio::sync::Mutex;
use tokio::time::Instant;

use crate::store::keys::{self, ActiveKey, SecretHash};
use crate::store::{Store, StoreError};

const FRESH: Duration = Duration::from_secs(1);
const MISS_PAUSE: Duration = Duration::from_millis(25);
const READ_TIMEOUT: Duration = Duration::from_millis(900);

#[derive(Debug, Default)]
struct Ring {
    keys: Vec<Arc<ActiveKey>>,
    /// False until a read has ended well.
    was_read: bool,
    /// When the last read began, with or without success.
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
        let came = Instant::now();
        let Some(found) = self.look(hash) else {
            return self.look_anew(hash, came).await;
        };
        if !self.is_stale() {
            return Ok(Some(found));
        }
        // Whoever has a key in hand does not wait for another request's read.
        let Ok(_turn) = self.reading.try_lock() else { return Ok(Some(found)) };
        if !self.is_stale() {
            return Ok(self.look(hash));
        }
        self.read().await?;
        Ok(self.look(hash))
    }

    /// What a read that began after `came` says. One read answers all that wait for it.
    async fn look_anew(
        &self,
        hash: SecretHash,
        came: Instant,
    ) -> Result<Option<Arc<ActiveKey>>, StoreError> {
        let _turn = self.reading.lock().await;
        let (was_read, tried_at) = self.past();
        let answers = |at: Instant| at >= came && was_read;
        if !tried_at.is_some_and(answers) {
            if let (true, Some(at)) = (was_read, tried_at) {
                tokio::time::sleep_until(at + MISS_PAUSE).await;
            }
            self.read().await?;
        }
        Ok(self.look(hash))
    }

    fn look(&self, hash: SecretHash) -> Option<Arc<ActiveKey>> {
        let ring = self.ring.read().unwrap_or_else(PoisonError::into_inner);
        // Every key is compared, each in constant time, so the time tells nothing about a near miss.
        ring.keys.iter().fold(None, |found, key| {
            let same: bool = key.hash.as_bytes().ct_eq(hash.as_bytes()).into();
            if same { Some(Arc::clone(key)) } else { found }
        })
    }

    fn is_stale(&self) -> bool {
        self.past().1.is_none_or(|at| at.elapsed() >= FRESH)
    }

    /// Whether the keys were ever read, and when that was last tried.
    fn past(&self) -> (bool, Option<Instant>) {
        let ring = self.ring.read().unwrap_or_else(PoisonError::into_inner);
        (ring.was_read, ring.tried_at)
    }

    /// Reads the keys. Those of the last read go on working where this one fails.
    async fn read(&self) -> Result<(), StoreError> {
        let began = Instant::now();
        let read = tokio::time::timeout(READ_TIMEOUT, keys::active(self.store.pool())).await;
        let read = read.unwrap_or(Err(StoreError::Database(sqlx::Error::PoolTimedOut)));
        let mut ring = self.ring.write().unwrap_or_else(PoisonError::into_inner);
        // A failed read is tried again after the same pause, not by every request.
        ring.tried_at = Some(began);
        match read {
            Ok(keys) => {
                ring.keys = keys.into_iter().map(Arc::new).collect();
                ring.was_read = true;
            }
            Err(error) if ring.was_read => {
                tracing::warn!(error = %error, "the keys could not be read; those known before go on working");
            }
            Err(error) => return Err(error),
        }
        Ok(())
    }
}
