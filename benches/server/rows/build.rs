//! How long whoever changes the program waits: a build from clean, and a changed line until the unit tests are green.

use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

use tempfile::TempDir;

use crate::options::Row;
use crate::report::{Line, Rounds};
use crate::{Bench, Outcome};

const ROW: Row = Row::Build;
/// What a build reads.
const SOURCES: [&str; 10] = [
    ".cargo",
    ".sqlx",
    "Cargo.lock",
    "Cargo.toml",
    "benches",
    "docs",
    "migrations",
    "src",
    "tests",
    "workflows",
];

/// In a copy of the sources, so that neither they nor their build folder are touched.
pub fn run(bench: &Bench) -> Outcome<Vec<Line>> {
    let copy = TempDir::new()?;
    for source in SOURCES {
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join(source);
        if source.exists() {
            run_to_its_end(Command::new("cp").arg("-r").arg(source).arg(copy.path()))?;
        }
    }
    let clean = cargo(copy.path(), &["build"])?;
    eprintln!("  the first build of the unit tests, which is not measured …");
    cargo(copy.path(), &["test", "--lib"])?;
    let mut changed = Rounds::default();
    for round in 0..bench.options.rounds {
        let line = format!("\n// Changed line {round}.\n");
        let file = std::fs::File::options().append(true).open(copy.path().join("src/lib.rs"));
        file?.write_all(line.as_bytes())?;
        changed.0.push(cargo(copy.path(), &["test", "--lib"])?);
    }
    Ok(vec![
        Line::once(ROW, "build from clean, dev", "s", clean),
        Line::new(ROW, "one changed line to green unit tests", "s", changed),
    ])
}

/// Seconds that a cargo command takes.
fn cargo(folder: &Path, arguments: &[&str]) -> Outcome<f64> {
    let began = Instant::now();
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    // What cargo told this bench is not meant for the one below it.
    for (name, _) in std::env::vars_os() {
        let name = name.to_string_lossy();
        if name.starts_with("CARGO_PKG") || name.starts_with("CARGO_BIN") {
            command.env_remove(&*name);
        }
    }
    command.env_remove("CARGO_MANIFEST_DIR").env("CARGO_TARGET_DIR", folder.join("target"));
    run_to_its_end(command.args(arguments).current_dir(folder))?;
    Ok(began.elapsed().as_secs_f64())
}

fn run_to_its_end(command: &mut Command) -> Outcome<()> {
    let ended = command.stdin(Stdio::null()).output()?;
    if ended.status.success() {
        return Ok(());
    }
    Err(format!("{command:?}: {}", String::from_utf8_lossy(&ended.stderr)).into())
}
