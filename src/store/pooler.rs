//! Whether a session is one's own, which a pooler in transaction mode makes untrue.
//!
//! A worker's claim lives as long as the advisory lock of its session, hints come by LISTEN, and
//! statements are prepared once a connection. Behind a pooler that hands the same server session to
//! whoever has a transaction, all three are lost or mixed up, so such an address is refused.

use sqlx::postgres::PgConnectOptions;
use sqlx::{AssertSqlSafe, Connection, Executor as _, PgConnection, Row as _};
use uuid::Uuid;

use super::StoreError;

/// Of no meaning to PostgreSQL, which keeps any setting with a dot in its name for the session.
const SETTING: &str = "mathesis.session";

/// Connects and refuses an address whose sessions are shared out by transaction.
///
/// # Errors
/// [`StoreError::PooledByTransaction`], or why the database cannot be reached.
pub(super) async fn refuse_shared_sessions(options: &PgConnectOptions) -> Result<(), StoreError> {
    let mut own = PgConnection::connect_with(options).await?;
    let mark = Uuid::now_v7().simple().to_string();
    own.execute(AssertSqlSafe(format!("SET {SETTING} = '{mark}'"))).await?;
    let mut other = PgConnection::connect_with(options).await?;
    // While the other one is inside a transaction, a pooler has lent it the session that was marked last.
    other.execute("BEGIN").await?;
    let lent = marked_with(&mut other, &mark).await?;
    let kept = marked_with(&mut own, &mark).await?;
    other.execute("ROLLBACK").await?;
    own.execute(AssertSqlSafe(format!("RESET {SETTING}"))).await?;
    other.close().await?;
    own.close().await?;
    if lent || !kept { Err(StoreError::PooledByTransaction) } else { Ok(()) }
}

/// Asked as one plain statement, since an older pooler mixes up prepared ones.
async fn marked_with(session: &mut PgConnection, mark: &str) -> Result<bool, StoreError> {
    let ask = format!("SELECT coalesce(current_setting('{SETTING}', true), '') = '{mark}'");
    let row = sqlx::raw_sql(AssertSqlSafe(ask)).fetch_one(session).await?;
    Ok(row.try_get(0)?)
}
