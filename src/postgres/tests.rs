//! Real servers on temporary homes. They skip nothing: a machine without PostgreSQL fails them.

use super::*;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::process::{Command, Stdio};
use tempfile::TempDir;

fn new_home() -> TempDir {
    temporary_home().expect("a home")
}

/// A test binary is no shim, so the server is started directly.
fn options(home: &Path) -> ServerOptions {
    ServerOptions {
        purpose: Purpose::Throwaway,
        max_connections: 20,
        shim_executable: None,
        ..ServerOptions::new(home)
    }
}

fn started(home: &Path) -> PrivateServer {
    PrivateServer::start(options(home)).expect("a running server")
}

fn is_alive(pid: u32) -> bool {
    let pid = pidfile::to_pid(pid).expect("a process");
    rustix::process::test_kill_process(pid).is_ok()
}

/// One query through the protocol itself; gives the bytes of the answer as text.
fn answer(url: &str, sql: &str) -> String {
    let socket = url
        .split_once("?host=")
        .and_then(|(_, rest)| rest.split_once('&'))
        .expect("our own url")
        .0
        .replace("%2F", "/");
    let mut stream = UnixStream::connect(format!("{socket}/.s.PGSQL.5432")).expect("connected");
    let mut hello = vec![0, 0, 0, 0, 0, 3, 0, 0];
    hello.extend_from_slice(b"user\0mathesis\0database\0mathesis\0\0");
    let length = u32::try_from(hello.len()).expect("short").to_be_bytes();
    hello.splice(0..4, length);
    let mut query = vec![b'Q'];
    query.extend_from_slice(&u32::try_from(sql.len() + 5).expect("short").to_be_bytes());
    query.extend_from_slice(sql.as_bytes());
    query.extend_from_slice(b"\0X\0\0\0\x04");
    stream.write_all(&hello).expect("sent");
    stream.write_all(&query).expect("sent");
    let mut reply = Vec::new();
    stream.read_to_end(&mut reply).expect("answered");
    String::from_utf8_lossy(&reply).into_owned()
}

#[test]
fn data_survives_a_restart_and_no_process_is_left() {
    let home = new_home();
    let first = started(home.path());
    answer(first.url(), "CREATE TABLE kept AS SELECT 'still ' || 'here' AS words");
    let pid = first.pid();
    assert!(is_alive(pid));
    first.stop().expect("stopped");
    assert!(!is_alive(pid));

    let second = started(home.path());
    assert!(answer(second.url(), "SELECT words FROM kept").contains("still here"));
}

#[test]
fn a_dropped_server_is_a_stopped_server() {
    let home = new_home();
    let pid = started(home.path()).pid();
    assert!(!is_alive(pid));
    assert_eq!(attach(home.path()).expect("readable"), None);
}

#[test]
fn a_second_owner_is_refused_and_may_attach() {
    let home = new_home();
    let owner = started(home.path());
    let refused = PrivateServer::start(options(home.path())).expect_err("one owner at a time");
    assert!(
        matches!(refused, PostgresError::AlreadyOwned { owner: Some(pid), .. }
            if pid == std::process::id()),
        "{refused}"
    );
    assert_eq!(attach(home.path()).expect("readable").as_deref(), Some(owner.url()));
    let access = start_or_attach(options(home.path())).expect("access");
    assert!(matches!(access, Access::Attached { .. }));
    assert!(answer(access.url(), "SELECT 40 + 2").contains("42"));
}

#[test]
fn many_commands_at_once_share_one_server() {
    let home = new_home();
    let everyone: Vec<Access> = thread::scope(|scope| {
        let starts: Vec<_> = (0..4)
            .map(|_| scope.spawn(|| start_or_attach(options(home.path())).expect("access")))
            .collect();
        starts.into_iter().map(|start| start.join().expect("no panic")).collect()
    });
    let owners = everyone.iter().filter(|access| matches!(access, Access::Owned(_)));
    assert_eq!(owners.count(), 1);
    for access in &everyone {
        assert!(answer(access.url(), "SELECT 40 + 2").contains("42"));
    }
}

#[test]
fn a_home_without_a_server_has_nothing_to_attach_to() {
    let home = new_home();
    assert_eq!(attach(home.path()).expect("readable"), None);
    assert_eq!(attach(&home.path().join("missing")).expect("readable"), None);
}

#[test]
fn a_killed_server_is_noticed_and_started_again() {
    let home = new_home();
    let options = ServerOptions { purpose: Purpose::ThrowawayDurable, ..options(home.path()) };
    let killed = PrivateServer::start(options.clone()).expect("a running server");
    answer(killed.url(), "CREATE TABLE kept AS SELECT 'still here' AS words");
    let pid = pidfile::to_pid(killed.pid()).expect("a process");
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).expect("killed");
    while killed.is_running() {
        thread::yield_now();
    }
    killed.stop().expect("nothing left to stop");

    let again = PrivateServer::start(options).expect("a running server");
    assert!(answer(again.url(), "SELECT words FROM kept").contains("still here"));
}

#[test]
fn a_stale_pid_file_whose_number_was_given_out_again_is_no_obstacle() {
    let home = new_home();
    drop(started(home.path()));
    let data = Layout::of(home.path()).expect("a layout").data();
    let mut stranger = Command::new("sleep")
        .arg("600")
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("a process");
    let pid = stranger.id();
    let stale = format!("{pid}\n{}\n0\n5432\n/nowhere\n\n\nready\n", data.display());
    std::fs::write(data.join("postmaster.pid"), stale).expect("written");
    assert_eq!(attach(home.path()).expect("readable"), None);
    cluster::clear_earlier_run(&data).expect("cleared");
    assert!(!data.join("postmaster.pid").exists());
    assert_eq!(stranger.try_wait().expect("a child"), None, "it was left alone");
    stranger.kill().expect("stopped");
    stranger.wait().expect("ended");
}

#[test]
fn a_server_without_an_owner_is_stopped_by_the_next_owner() {
    let home = new_home();
    let first = started(home.path());
    let data = Layout::of(home.path()).expect("a layout").data();
    // What the next owner does once it holds the lock, with the old server still there.
    cluster::clear_earlier_run(&data).expect("cleared");
    assert!(!data.join("postmaster.pid").exists());
    drop(first);
}

#[test]
fn a_start_cut_short_by_a_crash_leaves_no_trace() {
    let home = new_home();
    std::fs::create_dir_all(home.path().join("postgres/data.tmp/base")).expect("a folder");
    std::fs::write(home.path().join("postgres/data.tmp/PG_VERSION"), "15").expect("a file");
    let server = started(home.path());
    assert!(server.is_running());
    assert!(!home.path().join("postgres/data.tmp").exists());
}

#[test]
fn a_folder_that_is_no_data_is_left_alone() {
    let home = new_home();
    let theirs = home.path().join("postgres/data/letter.txt");
    std::fs::create_dir_all(theirs.parent().expect("inside")).expect("a folder");
    std::fs::write(&theirs, "dear").expect("a file");
    if rustix::process::geteuid().is_root() {
        std::os::unix::fs::chown(theirs.parent().expect("inside"), Some(65_534), None)
            .expect("handed over");
    }
    let refused = PrivateServer::start(options(home.path())).expect_err("not ours");
    assert!(matches!(refused, PostgresError::NotADataFolder { .. }), "{refused}");
    assert!(theirs.exists());
}

#[test]
fn a_server_that_ends_early_is_quoted() {
    let home = new_home();
    drop(started(home.path()));
    let data = Layout::of(home.path()).expect("a layout").data();
    std::fs::write(data.join("postgresql.auto.conf"), "shared_buffers = 'much'\n")
        .expect("written");
    let refused = PrivateServer::start(options(home.path())).expect_err("a bad setting");
    assert!(refused.to_string().contains("much"), "{refused}");
}

#[test]
fn a_deep_home_works_through_a_short_socket() {
    let top = new_home();
    let home = top.path().join("deep/".repeat(30));
    let server = started(&home);
    assert!(server.url().contains("mathesis-"), "{}", server.url());
    assert!(answer(server.url(), "SELECT 40 + 2").contains("42"));
    let socket = server.url().split("host=").nth(1).expect("a host").replace("%2F", "/");
    let socket = PathBuf::from(socket.trim_end_matches("&sslmode=disable"));
    assert!(socket.is_dir());
    drop(server);
    assert!(!socket.exists());
}

#[test]
fn another_database_is_made_where_it_is_missing() {
    let home = new_home();
    drop(started(home.path()));
    for _ in 0..2 {
        let server = PrivateServer::start(ServerOptions {
            database: "Other \"one\"".to_owned(),
            ..options(home.path())
        })
        .expect("a running server");
        assert!(server.url().contains("/Other%20%22one%22?"), "{}", server.url());
    }
}

#[test]
fn a_name_that_cannot_be_a_database_is_refused_before_anything_is_made() {
    let home = new_home();
    for database in ["", "a\0b", &"x".repeat(64)] {
        let refused = PrivateServer::start(ServerOptions {
            database: database.to_owned(),
            ..options(home.path())
        });
        assert!(matches!(refused, Err(PostgresError::DatabaseName { .. })));
    }
    assert!(!home.path().join("postgres").exists());
}

#[test]
fn a_durable_server_forces_to_disk_and_a_throwaway_does_not() {
    let home = new_home();
    for (purpose, expected) in
        [(Purpose::Throwaway, "off"), (Purpose::ThrowawayDurable, "on"), (Purpose::Durable, "on")]
    {
        let server = PrivateServer::start(ServerOptions { purpose, ..options(home.path()) })
            .expect("a running server");
        let settings = "SELECT string_agg(name || '=' || setting, ' ' ORDER BY name) \
                        FROM pg_settings WHERE name IN ('fsync', 'full_page_writes', 'synchronous_commit')";
        let wanted =
            format!("fsync={expected} full_page_writes={expected} synchronous_commit={expected}");
        let found = answer(server.url(), settings);
        assert!(found.contains(&wanted), "{found}");
    }
}

#[test]
fn roots_server_cannot_live_behind_a_closed_folder() {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let closed = tempfile::Builder::new()
        .permissions(std::os::unix::fs::PermissionsExt::from_mode(0o700))
        .tempdir()
        .expect("a folder closed to others");
    let refused = PrivateServer::start(options(&closed.path().join("home"))).expect_err("closed");
    assert!(
        matches!(&refused, PostgresError::Unreachable { folder, .. }
            if *folder == std::fs::canonicalize(closed.path()).expect("resolved")),
        "{refused}"
    );
}

#[test]
fn the_socket_is_closed_to_others() {
    use std::os::unix::fs::MetadataExt;
    let home = new_home();
    let server = started(home.path());
    let folder = std::fs::metadata(home.path().join("postgres/socket")).expect("there");
    let data = std::fs::metadata(home.path().join("postgres/data")).expect("there");
    assert_eq!((folder.mode() & 0o777, data.mode() & 0o777), (0o700, 0o700));
    assert_ne!(folder.uid(), 0, "PostgreSQL never runs as root");
    drop(server);
}

#[test]
fn psql_takes_the_url_too() {
    let home = new_home();
    let server = started(home.path());
    let output = Command::new("psql")
        .args([server.url(), "-XAtc", "SELECT current_database(), inet_server_addr() IS NULL"])
        .env("PGPORT", "1")
        .stdin(Stdio::null())
        .output();
    // Some machines have the server and no psql.
    if let Ok(output) = output {
        assert_eq!(String::from_utf8_lossy(&output.stdout).trim(), "mathesis|t");
    }
}
