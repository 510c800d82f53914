//! A PostgreSQL of our own with one migrated template, from which each test takes a database.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, PoisonError};

use mathesis::postgres::{PrivateServer, Purpose, ServerOptions, temporary_home};
use rustix::process::{Pid, Signal, kill_process};
use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection};
use tokio::sync::OnceCell;

/// A running server. It ends with this value, and with this process.
pub struct Cluster {
    options: ServerOptions,
    server: Mutex<Option<PrivateServer>>,
    url: String,
    template: OnceCell<()>,
    next: AtomicU32,
    _remover: Child,
}

impl Cluster {
    /// Starts the server in a temporary folder. Blocks. The shim gives it the death signal, so that it ends with this
    /// process.
    pub fn start(purpose: Purpose, shim: PathBuf) -> Self {
        let home = temporary_home().expect("a temporary folder can be made").keep();
        let remover = remover_of(&home);
        let mut options = ServerOptions::new(home);
        options.purpose = purpose;
        options.max_connections = 400;
        options.shim_executable = Some(shim);
        let server = PrivateServer::start(options.clone())
            .expect("PostgreSQL starts; see the message for what to install");
        let url = server.url().to_owned();
        Self {
            options,
            server: Mutex::new(Some(server)),
            url,
            template: OnceCell::const_new(),
            next: AtomicU32::new(1),
            _remover: remover,
        }
    }

    /// The URL of a fresh database with the schema in it.
    pub async fn database_url(&self) -> String {
        self.template.get_or_init(|| self.migrate_template()).await;
        self.create("TEMPLATE template_mathesis").await
    }

    /// The URL of a fresh database that is made with these words of `CREATE DATABASE`.
    pub async fn create(&self, options: &str) -> String {
        let name = format!("test_{}", self.next.fetch_add(1, Ordering::Relaxed));
        run(&self.url_of("mathesis"), format!("CREATE DATABASE {name} {options}")).await;
        self.url_of(&name)
    }

    /// Removes a database of this server, with whatever sessions are left in it.
    pub async fn discard(&self, url: &str) {
        let path = url.split('?').next().unwrap_or_default();
        let name = path.rsplit('/').next().unwrap_or_default();
        run(&self.url_of("mathesis"), format!("DROP DATABASE {name} WITH (FORCE)")).await;
    }

    /// Kills the server and all its sessions, as a crash of the machine would, and starts it again on what is on the
    /// disk, at the same address.
    pub async fn crash_and_restart(&self) -> Result<(), String> {
        let options = self.options.clone();
        let server = self.server.lock().unwrap_or_else(PoisonError::into_inner).take();
        let restarted = tokio::task::spawn_blocking(move || {
            if let Some(server) = server {
                for process in family(server.pid()) {
                    let _gone = kill_process(process, Signal::KILL);
                }
            }
            PrivateServer::start(options)
        });
        let server = restarted.await.map_err(|panic| panic.to_string())?;
        let server = server.map_err(|error| error.to_string())?;
        assert_eq!(server.url(), self.url, "the address of before");
        *self.server.lock().unwrap_or_else(PoisonError::into_inner) = Some(server);
        Ok(())
    }

    fn url_of(&self, database: &str) -> String {
        self.url.replacen("/mathesis?", &format!("/{database}?"), 1)
    }

    async fn migrate_template(&self) {
        run(&self.url_of("mathesis"), "CREATE DATABASE template_mathesis".to_owned()).await;
        let mut connection = PgConnection::connect(&self.url_of("template_mathesis"))
            .await
            .expect("the template answers");
        mathesis::store::MIGRATOR
            .run_direct(None, &mut connection, false)
            .await
            .expect("the migrations run");
        connection.close().await.expect("the connection closes");
    }
}

/// A process that removes the folder, gigabytes after a run, once this one has ended, however it did: nothing of a test
/// binary is dropped at its end, but then its end of the pipe is closed.
fn remover_of(home: &Path) -> Child {
    const WHEN_OVER: &str = r#"trap '' INT TERM HUP; read -r _
        for second in 1 2 3 4 5 6 7 8 9 10; do [ -e "$0/postgres/data/postmaster.pid" ] || break; sleep 1; done
        for try in 1 2 3; do rm -rf "$0" && break; sleep 1; done"#;
    Command::new("sh")
        .args(["-c", WHEN_OVER])
        .arg(home)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("a shell starts")
}

async fn run(url: &str, statement: String) {
    let mut connection = PgConnection::connect(url).await.expect("the cluster answers");
    connection.execute(AssertSqlSafe(statement)).await.expect("the statement runs");
    connection.close().await.expect("the connection closes");
}

/// A process and its children, the parent first.
fn family(parent: u32) -> Vec<Pid> {
    let mut found = vec![parent];
    for entry in std::fs::read_dir("/proc").into_iter().flatten().flatten() {
        let status = std::fs::read_to_string(entry.path().join("stat")).unwrap_or_default();
        // Behind the name, which may hold anything: state and parent.
        let mut fields = status.rsplit(')').next().unwrap_or_default().split_whitespace();
        let own: Option<u32> = entry.file_name().to_string_lossy().parse().ok();
        if fields.nth(1).and_then(|field| field.parse().ok()) == Some(parent) {
            found.extend(own);
        }
    }
    found.into_iter().filter_map(|pid| Pid::from_raw(i32::try_from(pid).ok()?)).collect()
}
