//! Servers in processes of their own, as in production.

use std::fs::File;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use super::Outcome;
use super::floor::BARE_AXUM;

/// The key that every request carries: production has keys.
pub const KEY: &str = "bench-key-bench-key-bench-key-32";
const READY_TIMEOUT: Duration = Duration::from_secs(120);

/// A server that runs until this is dropped.
pub struct Served {
    child: Child,
    pub address: SocketAddr,
    /// From its start until it said that it was ready.
    pub ready_after: Duration,
    folder: Option<TempDir>,
}

impl Served {
    /// `mathesis serve` on a database, with the workflows of a folder.
    pub fn mathesis(database_url: &str, workflows: &Path) -> Outcome<Self> {
        let folder = tempfile::tempdir()?;
        let address = free_address()?;
        let log = File::create(folder.path().join("log"))?;
        let began = Instant::now();
        let child = Command::new(env!("CARGO_BIN_EXE_mathesis"))
            .args(["serve", "--port", &address.port().to_string()])
            .arg("--workflows")
            .arg(workflows)
            .current_dir(folder.path())
            .env("DATABASE_URL", database_url)
            .env("MATHESIS_BOOTSTRAP_KEY", KEY)
            .env_remove("ANTHROPIC_API_KEY")
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()?;
        let mut served = Self { child, address, ready_after: Duration::ZERO, folder: Some(folder) };
        served.wait_until_ready()?;
        served.ready_after = began.elapsed();
        Ok(served)
    }

    fn wait_until_ready(&mut self) -> Outcome<()> {
        let deadline = Instant::now() + READY_TIMEOUT;
        while !is_ready(self.address) {
            if let Some(status) = self.child.try_wait()? {
                return Err(format!("the server ended with {status}: {}", self.log()).into());
            }
            if Instant::now() > deadline {
                return Err(format!("the server was never ready: {}", self.log()).into());
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        Ok(())
    }

    /// The server of the floor, which is this program itself.
    pub fn bare_axum() -> Outcome<Self> {
        let began = Instant::now();
        let mut child = Command::new(std::env::current_exe()?)
            .arg(BARE_AXUM)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()?;
        let mut line = String::new();
        if let Some(out) = child.stdout.take() {
            BufReader::new(out).read_line(&mut line)?;
        }
        let address = line.trim().rsplit('/').next().unwrap_or_default().parse();
        let address = address.map_err(|_| format!("the bare server said {line:?}"))?;
        Ok(Self { child, address, ready_after: began.elapsed(), folder: None })
    }

    /// What the server wrote.
    fn log(&self) -> String {
        let path = self.folder.as_ref().map(|folder| folder.path().join("log"));
        path.and_then(|path| std::fs::read_to_string(path).ok()).unwrap_or_default()
    }

    /// Its memory now, in MiB.
    pub fn memory_mib(&self) -> Outcome<f64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id()))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kib = line.and_then(|line| line.split_whitespace().next()).ok_or("no VmRSS")?;
        Ok(kib.parse::<f64>()? / 1024.0)
    }

    /// The time that it has spent on a processor so far.
    pub fn processor_time(&self) -> Outcome<Duration> {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.child.id()))?;
        // The name in parentheses may hold blanks; user and system time are the 12th and 13th after it.
        let (_, rest) = stat.rsplit_once(')').ok_or("no name in stat")?;
        let ticks = rest.split_whitespace().skip(11).take(2).map(str::parse::<u64>);
        let ticks = ticks.collect::<Result<Vec<_>, _>>()?.iter().sum::<u64>();
        Ok(Duration::from_millis(ticks * 1_000 / rustix::param::clock_ticks_per_second()))
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        // Everything acknowledged is committed, and the database goes with the bench.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn free_address() -> Outcome<SocketAddr> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?)
}

fn is_ready(address: SocketAddr) -> bool {
    let asked = TcpStream::connect(address).and_then(|mut stream| {
        stream.set_read_timeout(Some(Duration::from_secs(5)))?;
        stream
            .write_all(b"GET /readyz HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer)
    });
    asked.is_ok_and(|answer| answer.starts_with("HTTP/1.1 200"))
}

/// The workflow that is shipped.
pub fn shipped_workflows() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("workflows")
}
