//! The demo's server process: the real `orchestrate`, that dies with the demo, however the demo dies.

use std::ffi::OsString;
use std::fs::OpenOptions;
use std::io;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::postgres::shim;

/// What of our own environment the server may see. Everything else, `PORT` and real keys first of all, would make it
/// another server than the demo's.
const ENVIRONMENT_KEPT: [&str; 5] =
    ["PATH", "HOME", "TMPDIR", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH"];
/// How long the server may take to end by itself.
const STOP_TIMEOUT: Duration = Duration::from_secs(10);
const POLL: Duration = Duration::from_millis(20);

/// How to start the server.
#[derive(Debug, Clone)]
pub(super) struct Launch {
    /// This program.
    pub(super) program: PathBuf,
    /// The demo's home, its working folder.
    pub(super) home: PathBuf,
    /// Where it listens, on loopback.
    pub(super) port: u16,
    /// The whole of its settings.
    pub(super) environment: Vec<(&'static str, OsString)>,
}

impl Launch {
    /// The file with everything that it says.
    pub(super) fn log(&self) -> PathBuf {
        self.home.join("server.log")
    }

    /// The whole task log, one task a line, as `mathesis export` writes it. Blocks for a moment.
    ///
    /// # Errors
    /// Those of running a program, and its own words when it fails.
    pub(super) fn export(&self) -> io::Result<String> {
        let mut command = Command::new(&self.program);
        command.arg("export");
        self.settle(&mut command);
        let done = command.stdin(Stdio::null()).output()?;
        if !done.status.success() {
            return Err(io::Error::other(String::from_utf8_lossy(&done.stderr).into_owned()));
        }
        Ok(String::from_utf8_lossy(&done.stdout).into_owned())
    }

    /// Gives a program the demo's environment and nothing else, in the demo's folder.
    fn settle(&self, command: &mut Command) {
        command.env_clear().current_dir(&self.home);
        for name in ENVIRONMENT_KEPT {
            if let Some(value) = std::env::var_os(name) {
                command.env(name, value);
            }
        }
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
    }

    fn command(&self) -> io::Result<Command> {
        let mut command = Command::new(&self.program);
        if cfg!(target_os = "linux") {
            // The shim asks for a signal at our death and then becomes the program: here, the server.
            command.arg(shim::MARK).arg(std::process::id().to_string()).args(["-", "-"]);
            command.arg(&self.program);
        }
        command.arg("orchestrate").arg("--port").arg(self.port.to_string());
        self.settle(&mut command);
        let log = OpenOptions::new().create(true).append(true).open(self.log())?;
        command
            // Ctrl-C is for the demo alone, which then stops the server in its own time.
            .process_group(0)
            .stdin(Stdio::null())
            .stdout(Stdio::from(log.try_clone()?))
            .stderr(Stdio::from(log));
        Ok(command)
    }
}

enum Order {
    Stop,
    Kill,
}

/// A running server process. Dropping it stops it: SIGTERM, and SIGKILL if it does not end in time. That blocks.
///
/// A thread of its own starts it and waits for it, because the signal of the parent's death is sent when the thread
/// ends that started the child.
#[derive(Debug)]
pub(super) struct ServerProcess {
    pid: u32,
    orders: Sender<Order>,
    keeper: Option<JoinHandle<io::Result<()>>>,
}

impl ServerProcess {
    /// Starts the server; it may take a moment more until it answers.
    ///
    /// # Errors
    /// Those of starting a program.
    pub(super) fn start(launch: &Launch) -> io::Result<Self> {
        let mut command = launch.command()?;
        let (orders, received) = mpsc::channel();
        let (report, started) = mpsc::channel();
        let keeper =
            thread::Builder::new().name("demo-server-keeper".to_owned()).spawn(move || {
                let mut child = match command.spawn() {
                    Ok(child) => child,
                    Err(error) => {
                        let _nobody_waits = report.send(Err(error));
                        return Ok(());
                    }
                };
                let _nobody_waits = report.send(Ok(child.id()));
                keep(&mut child, &received)
            })?;
        let pid = started
            .recv()
            .unwrap_or_else(|_| Err(io::Error::other("the thread that starts the server ended")))?;
        Ok(Self { pid, orders, keeper: Some(keeper) })
    }

    /// Its process.
    pub(super) const fn pid(&self) -> u32 {
        self.pid
    }

    /// True once it has ended by itself.
    pub(super) fn has_ended(&self) -> bool {
        self.keeper.as_ref().is_none_or(JoinHandle::is_finished)
    }

    /// SIGKILL, as a crash; returns when the process is gone. Blocks for a moment.
    ///
    /// # Errors
    /// Those of waiting for a process.
    pub(super) fn kill(mut self) -> io::Result<()> {
        self.end(Order::Kill)
    }

    fn end(&mut self, order: Order) -> io::Result<()> {
        // The keeper may be gone already, and then so is the server.
        let _ended_already = self.orders.send(order);
        match self.keeper.take().map(JoinHandle::join) {
            Some(Ok(result)) => result,
            Some(Err(_)) => Err(io::Error::other("the thread that keeps the server panicked")),
            None => Ok(()),
        }
    }
}

impl Drop for ServerProcess {
    fn drop(&mut self) {
        if self.keeper.is_some()
            && let Err(error) = self.end(Order::Stop)
        {
            tracing::error!(%error, "the demo's server could not be stopped");
        }
    }
}

fn keep(child: &mut Child, orders: &Receiver<Order>) -> io::Result<()> {
    loop {
        match orders.recv_timeout(POLL) {
            Err(RecvTimeoutError::Timeout) => {
                if child.try_wait()?.is_some() {
                    return Ok(());
                }
            }
            Ok(Order::Kill) => {
                child.kill()?;
                return child.wait().map(drop);
            }
            Ok(Order::Stop) | Err(RecvTimeoutError::Disconnected) => return stop(child),
        }
    }
}

fn stop(child: &mut Child) -> io::Result<()> {
    // The child is ours and not waited for yet, so the number is still its own.
    if let Some(pid) = i32::try_from(child.id()).ok().and_then(Pid::from_raw) {
        let _gone_already = kill_process(pid, Signal::TERM);
    }
    let deadline = Instant::now() + STOP_TIMEOUT;
    while Instant::now() < deadline {
        if child.try_wait()?.is_some() {
            return Ok(());
        }
        thread::sleep(POLL);
    }
    child.kill()?;
    child.wait().map(drop)
}

/// The last lines of the server's log, for when it would not start.
pub(super) fn last_lines(log: &Path) -> String {
    let text = std::fs::read_to_string(log).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    lines.get(lines.len().saturating_sub(6)..).unwrap_or_default().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_server_sees_only_what_the_demo_sets() {
        let home = tempfile::tempdir().expect("a temporary folder");
        let launch = Launch {
            program: PathBuf::from("/bin/true"),
            home: home.path().to_owned(),
            port: 1,
            environment: vec![("DATABASE_URL", "postgres://demo".into())],
        };
        let command = launch.command().expect("the log can be opened");
        for (name, _) in command.get_envs() {
            let name = name.to_string_lossy();
            assert!(name == "DATABASE_URL" || ENVIRONMENT_KEPT.contains(&&*name), "{name}");
        }
    }
}
