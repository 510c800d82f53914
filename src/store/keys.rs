//! Who may call: API keys, kept as hashes, and the browser sessions that stand for one.
//!
//! A key's secret is shown once, when it is made. The database has its SHA-256 only: a secret is 32
//! random bytes, so there is nothing to guess and no need for a slow hash.

use std::fmt;
use std::str::FromStr;

use chrono::{DateTime, Duration, Utc};
use serde::Serialize;
use sha2::{Digest, Sha256};
use sqlx::{PgConnection, PgPool};

use super::StoreError;
use super::audit::{self, Actor, NO_WORKFLOW, NewEntry, Outcome};

/// How long a browser session lasts from its sign-in, in hours.
pub const SESSION_HOURS: i64 = 12;
/// The fewest characters of a bootstrap key.
pub const BOOTSTRAP_CHARS_MIN: usize = 16;
/// What the history calls whoever uses the bootstrap key.
pub const BOOTSTRAP_NAME: &str = "bootstrap";

const NAME_CHARS_MAX: usize = 64;
const SECRET_CHARS_MAX: usize = 256;

/// What a key may do. `operate` includes the two others.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Log events, ask for versions.
    Ingest,
    /// See everything, change nothing.
    Read,
    /// Everything.
    Operate,
}

impl Role {
    /// Every role.
    pub const ALL: [Self; 3] = [Self::Ingest, Self::Read, Self::Operate];

    /// The name as stored and as part of a secret.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ingest => "ingest",
            Self::Read => "read",
            Self::Operate => "operate",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Role {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let found = Self::ALL.into_iter().find(|role| role.as_str() == text);
        found.ok_or_else(|| format!("{text:?} is no role; the roles are ingest, read and operate"))
    }
}

/// The SHA-256 of a secret, which is all that is ever stored or compared.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct SecretHash([u8; 32]);

impl SecretHash {
    /// The hash of a secret.
    #[must_use]
    pub fn of(secret: &str) -> Self {
        Self(Sha256::digest(secret.as_bytes()).into())
    }

    /// Its bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Debug for SecretHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretHash(…)")
    }
}

/// A key as lists show it: never its secret, never its hash.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct KeyRow {
    /// The key's row.
    pub key_id: i64,
    /// Its name, which the history shows for what it did.
    pub name: String,
    /// What it may do: ingest, read or operate.
    pub role: String,
    /// The beginning of its secret, for telling keys apart.
    pub prefix: String,
    /// When it was made.
    pub created_at: DateTime<Utc>,
    /// Who made it.
    pub created_by: String,
    /// When it was revoked.
    pub revoked_at: Option<DateTime<Utc>>,
}

/// A key that may call now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ActiveKey {
    /// The key's row.
    pub key_id: i64,
    /// Its name.
    pub name: String,
    /// What it may do.
    pub role: Role,
    /// The hash of its secret.
    pub hash: SecretHash,
}

/// A browser session that has not ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Session {
    /// The row of the key that signed in.
    pub key_id: i64,
    /// The name of the key that signed in.
    pub name: String,
    /// What that key may do.
    pub role: Role,
    /// What every form of the session must carry.
    pub csrf_token: String,
    /// When it ends.
    pub expires_at: DateTime<Utc>,
}

/// Why a key was not made or revoked. Nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// The database failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The name cannot be one.
    #[error(
        "a key's name is 1 to 64 visible characters; it is what the history shows for what the key does"
    )]
    InvalidName,
    /// Another key has the name.
    #[error("there is a key named {0:?} already; revoke it first, or choose another name")]
    NameTaken(String),
    /// There is no such key.
    #[error("there is no key named {0:?} that is not revoked; `mathesis key list` shows them")]
    NoSuchKey(String),
    /// The bootstrap key cannot be one.
    #[error(
        "MATHESIS_BOOTSTRAP_KEY must be {BOOTSTRAP_CHARS_MIN} to 256 visible ASCII characters without spaces; `openssl rand -hex 32` makes a good one"
    )]
    WeakBootstrapKey,
}

impl From<sqlx::Error> for KeyError {
    fn from(error: sqlx::Error) -> Self {
        Self::Store(StoreError::Database(error))
    }
}

/// Makes a key and returns its secret, `mth_<role>_<64 hex digits>`. It is shown once: nothing can
/// bring it back.
///
/// # Errors
/// [`KeyError`]; no key was made.
pub async fn create(
    pool: &PgPool,
    name: &str,
    role: Role,
    by: Actor<'_>,
    now: DateTime<Utc>,
) -> Result<String, KeyError> {
    let visible = !name.trim().is_empty() && !name.chars().any(char::is_control);
    if !visible || name.chars().count() > NAME_CHARS_MAX {
        return Err(KeyError::InvalidName);
    }
    let secret = format!("mth_{role}_{}", random_token());
    // The role and four of 64 digits: enough to tell keys apart, too little to guess from.
    let prefix: String = secret.chars().take("mth__".len() + role.as_str().len() + 4).collect();
    let hash = SecretHash::of(&secret);
    let mut tx = pool.begin().await?;
    let inserted = sqlx::query!(
        "INSERT INTO api_keys (name, role, secret_hash, prefix, created_at, created_by)
         VALUES ($1, $2, $3, $4, $5, $6)
         ON CONFLICT (name) WHERE revoked_at IS NULL DO NOTHING",
        name,
        role.as_str(),
        hash.as_bytes(),
        prefix,
        now,
        by.name
    )
    .execute(&mut *tx)
    .await?;
    if inserted.rows_affected() == 0 {
        return Err(KeyError::NameTaken(name.to_owned()));
    }
    let said = format!("a key with the role {role} is made");
    note(&mut tx, "key_create", name, by, &said, now).await?;
    tx.commit().await?;
    Ok(secret)
}

/// Makes sure that the secret of `MATHESIS_BOOTSTRAP_KEY` is an operate key named `bootstrap`.
///
/// Nothing happens when a key with that secret exists, revoked ones included: a revoked key stays
/// revoked however often the process starts. Another secret than before replaces the bootstrap key.
/// Returns true when it made one.
///
/// # Errors
/// [`KeyError`]; nothing was changed.
pub async fn bootstrap(pool: &PgPool, secret: &str, now: DateTime<Utc>) -> Result<bool, KeyError> {
    let usable = secret.chars().all(|c| c.is_ascii_graphic());
    if !usable || !(BOOTSTRAP_CHARS_MIN..=SECRET_CHARS_MAX).contains(&secret.len()) {
        return Err(KeyError::WeakBootstrapKey);
    }
    let hash = SecretHash::of(secret);
    let mut tx = pool.begin().await?;
    let known = sqlx::query_scalar!(
        r#"SELECT EXISTS (SELECT FROM api_keys WHERE secret_hash = $1) AS "known!""#,
        hash.as_bytes()
    )
    .fetch_one(&mut *tx)
    .await?;
    if known {
        return Ok(false);
    }
    sqlx::query!(
        "UPDATE api_keys SET revoked_at = $2 WHERE name = $1 AND revoked_at IS NULL",
        BOOTSTRAP_NAME,
        now
    )
    .execute(&mut *tx)
    .await?;
    // Two replicas may start at once: the loser's row is the winner's.
    let made = sqlx::query!(
        "INSERT INTO api_keys (name, role, secret_hash, prefix, created_at, created_by)
         VALUES ($1, 'operate', $2, 'MATHESIS_BOOTSTRAP_KEY', $3, 'environment')
         ON CONFLICT DO NOTHING",
        BOOTSTRAP_NAME,
        hash.as_bytes(),
        now
    )
    .execute(&mut *tx)
    .await?;
    if made.rows_affected() > 0 {
        let by = Actor { name: "environment", reason: Some("MATHESIS_BOOTSTRAP_KEY") };
        let said = "a key with the role operate is made from the environment";
        note(&mut tx, "key_create", BOOTSTRAP_NAME, by, said, now).await?;
    }
    tx.commit().await?;
    Ok(made.rows_affected() > 0)
}

/// Every key, newest first, revoked ones included.
///
/// # Errors
/// [`StoreError`] when the database fails.
pub async fn list(pool: &PgPool) -> Result<Vec<KeyRow>, StoreError> {
    Ok(sqlx::query_as!(
        KeyRow,
        "SELECT key_id, name, role, prefix, created_at, created_by, revoked_at
           FROM api_keys ORDER BY key_id DESC"
    )
    .fetch_all(pool)
    .await?)
}

/// Revokes a key by its name. Its sessions end with it; serving processes know within two seconds.
///
/// # Errors
/// [`KeyError`]; nothing was revoked.
pub async fn revoke(
    pool: &PgPool,
    name: &str,
    by: Actor<'_>,
    now: DateTime<Utc>,
) -> Result<(), KeyError> {
    let mut tx = pool.begin().await?;
    let revoked = sqlx::query!(
        "UPDATE api_keys SET revoked_at = $2 WHERE name = $1 AND revoked_at IS NULL",
        name,
        now
    )
    .execute(&mut *tx)
    .await?;
    if revoked.rows_affected() == 0 {
        return Err(KeyError::NoSuchKey(name.to_owned()));
    }
    note(&mut tx, "key_revoke", name, by, "the key is revoked, and its sessions end", now).await?;
    tx.commit().await?;
    Ok(())
}

async fn note(
    conn: &mut PgConnection,
    act: &str,
    name: &str,
    actor: Actor<'_>,
    said: &str,
    now: DateTime<Utc>,
) -> Result<(), StoreError> {
    let entry = NewEntry { act, subject: name, cycle: None, actor, result: Outcome::Done, said };
    audit::record(conn, NO_WORKFLOW, &entry, now).await
}

/// Every key that may call now. A process reads them at most about once a second.
///
/// # Errors
/// [`StoreError`] when the database fails.
pub async fn active(pool: &PgPool) -> Result<Vec<ActiveKey>, StoreError> {
    let rows = sqlx::query!(
        "SELECT key_id, name, role, secret_hash FROM api_keys WHERE revoked_at IS NULL"
    )
    .fetch_all(pool)
    .await?;
    rows.into_iter()
        .map(|row| {
            let corrupt = |column, cause: String| {
                StoreError::corrupt("api_keys", column, format!("key {}", row.key_id), cause)
            };
            let hash: [u8; 32] = row.secret_hash.as_slice().try_into().map_err(|_| {
                corrupt("secret_hash", format!("{} bytes instead of 32", row.secret_hash.len()))
            })?;
            let role = row.role.parse().map_err(|cause| corrupt("role", cause))?;
            Ok(ActiveKey { key_id: row.key_id, name: row.name, role, hash: SecretHash(hash) })
        })
        .collect()
}

/// The key with that hash, unless it is revoked.
///
/// # Errors
/// [`StoreError`] when the database fails.
pub async fn find_by_hash(
    pool: &PgPool,
    hash: SecretHash,
) -> Result<Option<ActiveKey>, StoreError> {
    use subtle::ConstantTimeEq as _;
    let keys = active(pool).await?;
    Ok(keys.into_iter().find(|key| key.hash.0.ct_eq(&hash.0).into()))
}

/// True when a key exists that is not revoked. Without one the server binds to loopback only.
///
/// # Errors
/// [`StoreError`] when the database fails.
pub async fn any_key_exists(pool: &PgPool) -> Result<bool, StoreError> {
    Ok(sqlx::query_scalar!(
        r#"SELECT EXISTS (SELECT FROM api_keys WHERE revoked_at IS NULL) AS "exists!""#
    )
    .fetch_one(pool)
    .await?)
}

/// Opens a browser session for a key; returns the token that the cookie carries. Sessions that have
/// ended are removed on the way.
///
/// # Errors
/// [`StoreError`] when the database fails; no session was opened.
pub async fn open_session(
    pool: &PgPool,
    key_id: i64,
    now: DateTime<Utc>,
) -> Result<String, StoreError> {
    expire_sessions(pool, now).await?;
    let token = random_token();
    let hash = SecretHash::of(&token);
    sqlx::query!(
        "INSERT INTO sessions (session_hash, key_id, csrf_token, created_at, expires_at)
         VALUES ($1, $2, $3, $4, $5)",
        hash.as_bytes(),
        key_id,
        random_token(),
        now,
        now + Duration::hours(SESSION_HOURS)
    )
    .execute(pool)
    .await?;
    Ok(token)
}

/// The session of that token, while it lasts and its key is not revoked.
///
/// # Errors
/// [`StoreError`] when the database fails.
pub async fn find_session(
    pool: &PgPool,
    token: &str,
    now: DateTime<Utc>,
) -> Result<Option<Session>, StoreError> {
    let hash = SecretHash::of(token);
    let row = sqlx::query!(
        "SELECT k.key_id, k.name, k.role, s.csrf_token, s.expires_at
           FROM sessions s JOIN api_keys k ON k.key_id = s.key_id
          WHERE s.session_hash = $1 AND s.expires_at > $2 AND k.revoked_at IS NULL",
        hash.as_bytes(),
        now
    )
    .fetch_optional(pool)
    .await?;
    row.map(|row| {
        let role = row.role.parse().map_err(|cause: String| {
            StoreError::corrupt("api_keys", "role", format!("key {}", row.key_id), cause)
        })?;
        Ok(Session {
            key_id: row.key_id,
            name: row.name,
            role,
            csrf_token: row.csrf_token,
            expires_at: row.expires_at,
        })
    })
    .transpose()
}

/// Ends a session.
///
/// # Errors
/// [`StoreError`] when the database fails.
pub async fn close_session(pool: &PgPool, token: &str) -> Result<(), StoreError> {
    let hash = SecretHash::of(token);
    sqlx::query!("DELETE FROM sessions WHERE session_hash = $1", hash.as_bytes())
        .execute(pool)
        .await?;
    Ok(())
}

/// Removes the sessions that have ended; returns how many.
///
/// # Errors
/// [`StoreError`] when the database fails.
pub async fn expire_sessions(pool: &PgPool, now: DateTime<Utc>) -> Result<u64, StoreError> {
    let removed =
        sqlx::query!("DELETE FROM sessions WHERE expires_at <= $1", now).execute(pool).await?;
    Ok(removed.rows_affected())
}

/// 32 bytes from the operating system's generator by way of a cryptographic one, as 64 hex digits.
#[must_use]
pub fn random_token() -> String {
    hex::encode(rand::random::<[u8; 32]>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_role_has_one_name() {
        for role in Role::ALL {
            assert_eq!(role.as_str().parse(), Ok(role));
        }
        assert!("Operate".parse::<Role>().is_err());
    }

    #[test]
    fn a_hash_is_of_its_secret_and_does_not_show_itself() {
        let hash = SecretHash::of("mth_read_1");
        assert_eq!(hash, SecretHash::of("mth_read_1"));
        assert_ne!(hash, SecretHash::of("mth_read_2"));
        assert_eq!(format!("{hash:?}"), "SecretHash(…)");
    }

    #[test]
    fn tokens_differ() {
        assert_eq!(random_token().len(), 64);
        assert_ne!(random_token(), random_token());
    }
}
