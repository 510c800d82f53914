//! A replicated database: the address names several hosts, one goes, the next one is found. And a
//! pooler in between, which is refused where it takes a session apart.

use std::net::Ipv4Addr;
use std::process::{Child, Command, Stdio};

use mathesis::store::{Store, StoreError};
use sqlx::postgres::PgConnectOptions;
use tempfile::TempDir;
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream, UnixStream};
use tokio_util::sync::CancellationToken;

use crate::support::site::Site;
use crate::support::{database, database_url, until};

/// A host of the database on a port of its own, which can be taken away.
struct Host {
    port: u16,
    gone: CancellationToken,
}

impl Host {
    /// Hands every connection on to the cluster's socket.
    async fn before(options: &PgConnectOptions) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let folder = options.get_socket().expect("the cluster has a socket");
        let socket = folder.join(format!(".s.PGSQL.{}", options.get_port()));
        let gone = CancellationToken::new();
        let stop = gone.clone();
        tokio::spawn(async move {
            loop {
                let accepted = tokio::select! {
                    () = stop.cancelled() => return,
                    accepted = listener.accept() => accepted,
                };
                let (mut client, _) = accepted.expect("a client");
                let (stop, socket) = (stop.clone(), socket.clone());
                tokio::spawn(async move {
                    let mut server = UnixStream::connect(socket).await.expect("the cluster");
                    tokio::select! {
                        () = stop.cancelled() => {}
                        _ = copy_bidirectional(&mut client, &mut server) => {}
                    }
                });
            }
        });
        Self { port, gone }
    }

    async fn go(&self) {
        self.gone.cancel();
        until(async || TcpStream::connect((Ipv4Addr::LOCALHOST, self.port)).await.is_err()).await;
    }
}

fn address(hosts: &[&Host], options: &PgConnectOptions) -> String {
    let places: Vec<String> = hosts.iter().map(|host| format!("127.0.0.1:{}", host.port)).collect();
    let database = options.get_database().expect("a database");
    format!("postgres://{}@{}/{database}", options.get_username(), places.join(","))
}

async fn cluster() -> PgConnectOptions {
    database_url().await.parse().expect("an address")
}

async fn answers(store: &Store) -> bool {
    sqlx::query_scalar::<_, i32>("SELECT 1").fetch_one(store.pool()).await.is_ok()
}

#[tokio::test]
async fn a_host_that_is_gone_is_passed_over_at_the_start() {
    let options = cluster().await;
    let (one, two) = (Host::before(&options).await, Host::before(&options).await);
    one.go().await;
    let address = address(&[&one, &two], &options);
    Store::reach(&address).await.expect("the other host answers");
    let store = Store::connect(&address, None, 2).await.expect("the other host answers");
    assert!(answers(&store).await);
}

#[tokio::test]
async fn the_pool_follows_the_database_to_the_host_that_is_left() {
    let options = cluster().await;
    let (one, two) = (Host::before(&options).await, Host::before(&options).await);
    let store = Store::connect(&address(&[&one, &two], &options), None, 2).await.expect("a store");
    let mut followers = store.followers();
    let follower = followers.first_mut().expect("several hosts are followed");
    let current = || store.pool().connect_options().get_port();
    follower.look().await.expect("both answer");
    let (serving, other) = if current() == one.port { (one, two) } else { (two, one) };
    serving.go().await;
    assert!(follower.look().await.expect("one is left"), "the pool is turned");
    assert_eq!(current(), other.port);
    assert!(answers(&store).await, "connections that broke are replaced");
    assert!(!follower.look().await.expect("it stays"), "and stays there");
    other.go().await;
    let away = follower.look().await.expect_err("nobody is left");
    assert!(away.is_transient(), "{away}");
}

#[tokio::test]
async fn one_address_of_one_host_needs_no_follower() {
    let store = Store::connect(&database_url().await, None, 1).await.expect("a store");
    assert!(store.followers().is_empty());
}

#[tokio::test]
async fn the_dashboard_reads_where_it_is_told_to_and_everything_else_stays_at_the_primary() {
    let (replica, mut primary) = (Site::new().await, Site::new().await);
    replica.start().await;
    replica.complete_tasks(1, 7).await;
    replica.kill();
    primary.set("DATABASE_READ_URL", replica.url().to_owned());
    primary.start().await;
    primary.complete_tasks(1, 3).await;
    let page = primary.page("/analytics/image-editing/tasks").await;
    assert!(page.contains("task-7"), "{page}");
    assert_eq!(primary.count("SELECT count(*) FROM tasks").await, 3);
    assert_eq!(replica.count("SELECT count(*) FROM tasks").await, 7, "nothing is written there");
}

/// Debian's pgbouncer before the tests' cluster.
struct Pooler {
    process: Child,
    port: u16,
    _folder: TempDir,
}

impl Pooler {
    async fn start(program: &str, mode: &str, options: &PgConnectOptions) -> Self {
        let folder = TempDir::new().expect("a temporary folder can be made");
        let port = {
            let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a port");
            listener.local_addr().expect("an address").port()
        };
        let socket = options.get_socket().expect("the cluster has a socket").display().to_string();
        let settings = folder.path().join("pgbouncer.ini");
        let (user, database) =
            (options.get_username(), options.get_database().expect("a database"));
        let text = format!(
            "[databases]\n{database} = host={socket} port={} user={user}\n[pgbouncer]\nlisten_addr = 127.0.0.1\n\
             listen_port = {port}\nunix_socket_dir =\nauth_type = any\npool_mode = {mode}\n\
             ignore_startup_parameters = extra_float_digits\n",
            options.get_port()
        );
        std::fs::write(&settings, text).expect("the settings are written");
        open_to_everybody(folder.path());
        let mut command = Command::new(program);
        if rustix::process::geteuid().is_root() {
            command.args(["-u", "postgres"]);
        }
        let process = command
            .arg("-q")
            .arg(&settings)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("pgbouncer starts");
        until(async || TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await.is_ok()).await;
        Self { process, port, _folder: folder }
    }

    fn address(&self, options: &PgConnectOptions) -> String {
        let (user, database) =
            (options.get_username(), options.get_database().expect("a database"));
        format!("postgres://{user}@127.0.0.1:{}/{database}", self.port)
    }
}

impl Drop for Pooler {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn open_to_everybody(folder: &std::path::Path) {
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::set_permissions(folder, std::fs::Permissions::from_mode(0o755)).expect("a mode");
}

fn pgbouncer() -> Option<&'static str> {
    let found = ["/usr/sbin/pgbouncer", "/usr/bin/pgbouncer"]
        .into_iter()
        .find(|path| std::path::Path::new(path).exists());
    if found.is_none() {
        eprintln!("skipped: this machine has no pgbouncer");
    }
    found
}

#[tokio::test]
async fn a_pooler_in_transaction_mode_is_refused_with_words() {
    let Some(program) = pgbouncer() else { return };
    let options = cluster().await;
    let pooler = Pooler::start(program, "transaction", &options).await;
    let refused = Store::reach(&pooler.address(&options)).await.expect_err("it is refused");
    assert!(matches!(refused, StoreError::PooledByTransaction), "{refused}");
    assert!(refused.to_string().contains("pool_mode = session"), "{refused}");
    assert!(!refused.is_transient(), "waiting mends nothing");
}

#[tokio::test]
async fn a_pooler_in_session_mode_will_do() {
    let Some(program) = pgbouncer() else { return };
    let options = cluster().await;
    let pooler = Pooler::start(program, "session", &options).await;
    let address = pooler.address(&options);
    Store::reach(&address).await.expect("its sessions are one's own");
    let store = Store::connect(&address, None, 2).await.expect("a store");
    assert!(answers(&store).await);
}

/// What `docs/shards.sql` says of a database.
async fn hindrances(pool: &sqlx::PgPool) -> Vec<(String, String)> {
    let script = include_str!("../../docs/shards.sql").trim_end().trim_end_matches(';');
    let found = format!("SELECT \"table\"::text, problem FROM ({script}) AS found");
    sqlx::query_as(sqlx::AssertSqlSafe(found)).fetch_all(pool).await.expect("the script runs")
}

#[tokio::test]
async fn nothing_keeps_the_schema_from_being_sharded_by_workflow() {
    let pool = database().await;
    assert_eq!(hindrances(&pool).await, [], "as it is shipped");
    for statement in [
        "CREATE TABLE loose (workflow_id bigint, id bigint PRIMARY KEY, task_id bigint)",
        "CREATE TABLE tied (workflow_id bigint, id bigint, loose_id bigint REFERENCES loose, PRIMARY KEY (workflow_id, id))",
        "CREATE TABLE tied_well (workflow_id bigint, id bigint, FOREIGN KEY (workflow_id, id) REFERENCES tied)",
        "CREATE FUNCTION nothing() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END'",
        "CREATE TRIGGER hook BEFORE INSERT ON loose FOR EACH ROW EXECUTE FUNCTION nothing()",
    ] {
        sqlx::query(statement).execute(&pool).await.expect("the statement runs");
    }
    let found: Vec<String> = hindrances(&pool)
        .await
        .into_iter()
        .map(|(table, problem)| format!("{table} {problem}"))
        .collect();
    assert_eq!(
        found,
        [
            "loose has a trigger",
            "loose does not contain workflow_id",
            "loose is unique without workflow_id",
            "tied refers to a sharded table without workflow_id"
        ]
    );
}
