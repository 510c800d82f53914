//! The machine that the figures are from.

use std::fmt;

use serde::Serialize;
use tokio::runtime::Runtime;

use super::Outcome;
use super::cluster::Cluster;

/// What a reader needs to judge absolute figures.
#[derive(Debug, Serialize)]
pub struct Machine {
    processor: String,
    cores: usize,
    memory_gib: u64,
    kernel: String,
    postgres: String,
    filesystem: String,
    load_before: String,
    at: String,
}

impl Machine {
    pub fn read(cluster: &Cluster, runtime: &Runtime) -> Outcome<Self> {
        let text = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
        let field = |text: &str, name: &str| {
            let line = text.lines().find(|line| line.starts_with(name)).unwrap_or_default();
            line.split_once(':').map_or("?", |(_, value)| value.trim()).to_owned()
        };
        let memory = field(&text("/proc/meminfo"), "MemTotal");
        let kib: u64 = memory.split_whitespace().next().unwrap_or_default().parse().unwrap_or(0);
        let postgres = runtime.block_on(cluster.setting("server_version"))?;
        Ok(Self {
            processor: field(&text("/proc/cpuinfo"), "model name"),
            cores: std::thread::available_parallelism()?.get(),
            memory_gib: kib >> 20,
            kernel: text("/proc/sys/kernel/osrelease").trim().to_owned(),
            postgres,
            filesystem: filesystem_of(&cluster.folder().to_string_lossy()),
            load_before: text("/proc/loadavg").trim().to_owned(),
            at: mathesis::clock::Clock::now(&mathesis::clock::SystemClock)
                .format("%Y-%m-%d %H:%M UTC")
                .to_string(),
        })
    }
}

/// The kind of file system that holds a path: that of the longest mount point before it.
fn filesystem_of(path: &str) -> String {
    let mounts = std::fs::read_to_string("/proc/mounts").unwrap_or_default();
    let found = mounts
        .lines()
        .filter_map(|line| {
            let mut words = line.split_whitespace().skip(1);
            Some((words.next()?, words.next()?))
        })
        .filter(|(point, _)| path.starts_with(point))
        .max_by_key(|(point, _)| point.len());
    found.map_or_else(|| "?".to_owned(), |(_, kind)| kind.to_owned())
}

impl fmt::Display for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}, {} cores, {} GiB, Linux {}, PostgreSQL {} on {} with fsync and synchronous_commit on; \
             server, load and PostgreSQL on this machine; load average before: {}; {}",
            self.processor,
            self.cores,
            self.memory_gib,
            self.kernel,
            self.postgres,
            self.filesystem,
            self.load_before,
            self.at
        )
    }
}
