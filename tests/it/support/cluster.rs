//! One throw-away cluster a run, one migrated template, one database a test.

use std::path::PathBuf;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

use mathesis::postgres::{PrivateServer, Purpose, ServerOptions, temporary_home};
use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection, PgPool};
use tokio::sync::OnceCell;

static CLUSTER: OnceLock<PrivateServer> = OnceLock::new();
static TEMPLATE: OnceCell<()> = OnceCell::const_new();
static NEXT: AtomicU32 = AtomicU32::new(1);

fn cluster() -> &'static PrivateServer {
    CLUSTER.get_or_init(|| {
        let home = temporary_home().expect("a temporary folder can be made").keep();
        let mut options = ServerOptions::new(home);
        options.purpose = Purpose::Throwaway;
        options.max_connections = 400;
        // The shim gives the server the death signal, so that it ends with this process.
        options.shim_executable = Some(PathBuf::from(env!("CARGO_BIN_EXE_mathesis")));
        PrivateServer::start(options)
            .expect("PostgreSQL starts; see the message for what to install")
    })
}

fn url_of(database: &str) -> String {
    cluster().url().replacen("/mathesis?", &format!("/{database}?"), 1)
}

async fn run(url: &str, statement: String) {
    let mut connection = PgConnection::connect(url).await.expect("the cluster answers");
    connection.execute(AssertSqlSafe(statement)).await.expect("the statement runs");
    connection.close().await.expect("the connection closes");
}

async fn migrate_template() {
    run(&url_of("mathesis"), "CREATE DATABASE template_mathesis".to_owned()).await;
    let mut connection =
        PgConnection::connect(&url_of("template_mathesis")).await.expect("the template answers");
    mathesis::store::MIGRATOR
        .run_direct(None, &mut connection, false)
        .await
        .expect("the migrations run");
    connection.close().await.expect("the connection closes");
}

/// The URL of a fresh database with the schema in it.
pub async fn database_url() -> String {
    tokio::task::spawn_blocking(cluster).await.expect("the cluster starts");
    TEMPLATE.get_or_init(migrate_template).await;
    let name = format!("test_{}", NEXT.fetch_add(1, Ordering::Relaxed));
    let create = format!("CREATE DATABASE {name} TEMPLATE template_mathesis");
    run(&url_of("mathesis"), create).await;
    url_of(&name)
}

/// A pool on a fresh database with the schema in it.
pub async fn database() -> PgPool {
    PgPool::connect(&database_url().await).await.expect("the database answers")
}
