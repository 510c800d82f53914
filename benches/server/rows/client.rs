//! The Python client's log call, measured by its own benchmark.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::options::Row;
use crate::report::{Line, Reach, Rounds};
use crate::{Bench, Outcome};

const ROW: Row = Row::Client;

pub fn run(bench: &Bench) -> Outcome<Vec<Line>> {
    let client = Path::new(env!("CARGO_MANIFEST_DIR")).join("clients/python");
    let folder = tempfile::tempdir()?;
    let python = python(&client, folder.path())?;
    let (mut ours, mut floor) = (Rounds::default(), Rounds::default());
    for _ in 0..bench.options.rounds {
        let ran = Command::new(&python)
            .args(["benchmarks/log_calls.py", "--json"])
            .current_dir(&client)
            .env("PYTHONPATH", client.join("src"))
            .output()?;
        if !ran.status.success() {
            let said = String::from_utf8_lossy(&ran.stderr).into_owned();
            return Err(format!("the client's benchmark did not run: {said}").into());
        }
        let figures: serde_json::Value = serde_json::from_slice(&ran.stdout)?;
        let figure = |name: &str| figures.get(name).and_then(serde_json::Value::as_f64);
        ours.0.push(figure("median_us").ok_or("no median_us")?);
        floor.0.push(figure("empty_median_us").ok_or("no empty_median_us")?);
    }
    let line = Line::new(ROW, "log call, median", "µs", ours);
    Ok(vec![line.against("an empty coroutine", floor).reaching(Reach::Below(50.0))])
}

/// A Python that has what the client needs: the machine's, else one in a folder of the bench.
fn python(client: &Path, folder: &Path) -> Outcome<PathBuf> {
    let own = Command::new("python3").args(["-c", "import httpx"]).output()?;
    if own.status.success() {
        return Ok(PathBuf::from("python3"));
    }
    let python = folder.join("venv/bin/python");
    let made = Command::new("python3").args(["-m", "venv"]).arg(folder.join("venv")).output()?;
    let filled = Command::new(&python)
        .args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check"])
        .arg(client)
        .output()
        .map_err(|error| format!("{error}; {}", String::from_utf8_lossy(&made.stderr)))?;
    if !filled.status.success() {
        return Err(String::from_utf8_lossy(&filled.stderr).into_owned().into());
    }
    Ok(python)
}
