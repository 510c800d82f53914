//! One throw-away cluster a run, one database a test.

use std::path::PathBuf;
use std::sync::OnceLock;

use mathesis::postgres::Purpose;
use sqlx::PgPool;

use super::cluster::Cluster;

static CLUSTER: OnceLock<Cluster> = OnceLock::new();

fn cluster() -> &'static Cluster {
    CLUSTER.get_or_init(|| {
        Cluster::start(Purpose::Throwaway, PathBuf::from(env!("CARGO_BIN_EXE_mathesis")))
    })
}

/// The URL of a fresh database with the schema in it.
pub async fn database_url() -> String {
    let cluster = tokio::task::spawn_blocking(cluster).await.expect("the cluster starts");
    cluster.database_url().await
}

/// The URL of a database with nothing in it, for what brings its own schema.
pub async fn empty_database_url() -> String {
    let cluster = tokio::task::spawn_blocking(cluster).await.expect("the cluster starts");
    cluster.create("").await
}

/// A pool on a fresh database with the schema in it.
pub async fn database() -> PgPool {
    PgPool::connect(&database_url().await).await.expect("the database answers")
}

/// Removes a database that nobody needs any more; for tests that make very many.
pub async fn discard(url: &str) {
    cluster().discard(url).await;
}
