//! The plant: the real binary as `mathesis orchestrate`, among the three stand-ins, to be killed at will.

use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use mathesis::stand_in::claude::{ClaudeStandIn, Reply, StandInSettings};
use mathesis::stand_in::clickup::{ClickUpStandIn, ClickUpStandInSettings, LIST, NewTask};
use mathesis::stand_in::script::Script;
use mathesis::stand_in::wavespeed::{PlainPainter, WaveSpeedStandIn, WaveSpeedStandInSettings};
use serde_json::{Value, json};
use sqlx::postgres::PgConnectOptions;
use sqlx::{Connection as _, PgConnection, PgPool};
use tempfile::TempDir;

use super::png;
use crate::support::database_url;
use crate::support::site::{free_port, until, write_site};
use crate::support::stage::{NANO, WAN};

/// What each task's text begins with; its number follows.
pub const TEXT: &str = "Εργασία ";

/// The binary with all that is around it.
pub struct Plant {
    pub pool: PgPool,
    pub script: Script,
    pub clickup: ClickUpStandIn,
    pub wavespeed: WaveSpeedStandIn,
    claude: ClaudeStandIn,
    url: String,
    folder: TempDir,
    port: u16,
    grace_seconds: u32,
    server: Mutex<Option<Child>>,
}

impl Plant {
    /// A plant whose server is not started yet. A picture takes its time; the first round passes nowhere, a second one
    /// with the better score for nano-banana.
    pub async fn new() -> Self {
        Self::guarded_by("off").await
    }

    /// The same under another guard.
    pub async fn guarded_by(guard: &str) -> Self {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let url = database_url().await;
        let folder = TempDir::new().expect("a temporary folder can be made");
        write_site(&folder, guard);
        set_limits(&folder.path().join("workflows/image-editing/orchestrator.toml"));
        let script = Script::new(7);
        let clickup = ClickUpStandIn::start(ClickUpStandInSettings::default(), script.clone());
        let wavespeed = WaveSpeedStandInSettings {
            inference: Duration::from_millis(300),
            ..WaveSpeedStandInSettings::default()
        };
        let wavespeed = WaveSpeedStandIn::start(wavespeed, script.clone(), PlainPainter);
        let settings = StandInSettings { api_key: "sk-test".to_owned(), port: 0 };
        let claude = ClaudeStandIn::start_scripted(settings, script.clone(), answer);
        Self {
            pool: PgPool::connect(&url).await.expect("the database answers"),
            clickup: clickup.await.expect("ClickUp's stand-in starts"),
            wavespeed: wavespeed.await.expect("WaveSpeed's stand-in starts"),
            claude: claude.await.expect("Claude's stand-in starts"),
            script,
            url,
            folder,
            port: free_port(),
            grace_seconds: 3,
            server: Mutex::new(None),
        }
    }

    /// Lets ClickUp tell the server of everything from now on.
    pub fn hook(&self) {
        self.clickup.deliver_to(&format!("http://127.0.0.1:{}/webhooks/clickup", self.port));
    }

    /// The program with these arguments and the whole environment of the plant.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let (clickup, wavespeed) =
            (ClickUpStandInSettings::default(), WaveSpeedStandInSettings::default());
        let mut command = Command::new(env!("CARGO_BIN_EXE_mathesis"));
        command
            .args(arguments)
            .current_dir(self.folder.path())
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("HOME", self.folder.path())
            .env("DATABASE_URL", &self.url)
            .env("MATHESIS_SHUTDOWN_GRACE_SECONDS", self.grace_seconds.to_string())
            .env("MATHESIS_CONNECTIONS_MAX", "8")
            .env("ANTHROPIC_BASE_URL", self.claude.base_url())
            .env("ANTHROPIC_API_KEY", "sk-test")
            .env("WAVESPEED_BASE_URL", self.wavespeed.base_url())
            .env("WAVESPEED_API_KEY", wavespeed.key)
            .env("CLICKUP_BASE_URL", self.clickup.base_url())
            .env("CLICKUP_API_TOKEN", clickup.token)
            .env("CLICKUP_WEBHOOK_SECRET", clickup.webhook_secret)
            .stdin(Stdio::null());
        command
    }

    /// Runs a command to its end.
    pub fn run(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().expect("the program runs")
    }

    /// A file of the plant's folder.
    pub fn path(&self, inside: &str) -> PathBuf {
        self.folder.path().join(inside)
    }

    /// Starts the server and waits until it is ready.
    pub async fn start(&self) {
        let log = std::fs::OpenOptions::new().create(true).append(true).open(self.path("log"));
        let child = self
            .command(&["orchestrate", "--port", &self.port.to_string()])
            .env("MATHESIS_LOG", "trace")
            .stdout(Stdio::null())
            .stderr(log.expect("the log opens"))
            .spawn()
            .expect("the binary starts");
        *self.server.lock().expect("no test panicked with it") = Some(child);
        let ready = format!("http://127.0.0.1:{}/readyz", self.port);
        until("the server is ready", || async {
            reqwest::get(&ready).await.is_ok_and(|answer| answer.status() == 200)
        })
        .await;
    }

    /// Kills the server with SIGKILL, as a crash would.
    pub fn kill(&self) {
        let child = self.server.lock().expect("no test panicked with it").take();
        if let Some(mut child) = child {
            child.kill().expect("the server can be killed");
            child.wait().expect("the server is gone");
        }
    }

    /// Tells the server to stop, as a platform does; how it ended, and how long that took.
    pub async fn terminate(&self) -> (Option<i32>, Duration) {
        let told_at = Instant::now();
        let pid = self.child(|child| child.id().to_string());
        let told = Command::new("kill").args(["-TERM", &pid]).status();
        assert!(told.expect("kill runs").success());
        let ended = || self.child(|child| child.try_wait().expect("it can be waited for"));
        until("the server ends", || async { ended().is_some() }).await;
        (ended().and_then(|status| status.code()), told_at.elapsed())
    }

    fn child<T>(&self, of: impl FnOnce(&mut Child) -> T) -> T {
        let mut server = self.server.lock().expect("no test panicked with it");
        of(server.as_mut().expect("the server runs"))
    }

    /// How long a server may take from SIGTERM to its end: the grace, and a little for the rest.
    pub fn stop_max(&self) -> Duration {
        Duration::from_secs(u64::from(self.grace_seconds) + 2)
    }

    /// Makes that many ready tasks, each with its number in its text.
    pub fn tasks(&self, count: usize) -> Vec<String> {
        (0..count)
            .map(|number| {
                self.clickup.create_task(NewTask {
                    text: format!("{TEXT}{number}."),
                    picture: Some(png()),
                    ..NewTask::default()
                })
            })
            .collect()
    }

    /// Awaits that so many tasks stand in the done status and no run is open any more.
    pub async fn until_done(&self, tasks: usize) {
        until("every task is done", || async {
            self.clickup.count(&["review", "needs attention"]) == tasks
                && self
                    .value("SELECT to_jsonb(count(*)) FROM pipeline_jobs WHERE finished_at IS NULL")
                    .await
                    == 0
        })
        .await;
    }

    /// A connection to another database of the same server.
    pub async fn beside(&self) -> PgConnection {
        let options: PgConnectOptions = self.url.parse().expect("the address is one");
        PgConnection::connect_with(&options.database("postgres")).await.expect("it answers")
    }

    /// One value from the database.
    pub async fn value(&self, query: &'static str) -> Value {
        sqlx::query_scalar(query).fetch_one(&self.pool).await.expect("an answer")
    }

    /// Every task has what a person waits for, once, and whatever failed on the way, the log tells no key of a service.
    pub fn assert_given_back(&self, tasks: &[String]) {
        let (clickup, wavespeed) =
            (ClickUpStandInSettings::default(), WaveSpeedStandInSettings::default());
        let log = std::fs::read_to_string(self.path("log")).expect("the log reads");
        assert!(log.contains("TRACE"), "all of it is there");
        for key in [clickup.token, clickup.webhook_secret, wavespeed.key] {
            assert!(!log.contains(&key), "the log tells a key: {key}");
        }
        for task in tasks {
            let state = self.clickup.state(task).expect("the task is there");
            let own = state.attachments.iter().filter(|file| file.title.starts_with("edited-"));
            assert_eq!((state.status.as_str(), own.count()), ("review", 1), "{state:?}");
            assert_eq!(state.comments.len(), 1, "{:?}", state.comments);
        }
    }
}

impl Drop for Plant {
    fn drop(&mut self) {
        self.kill();
        if std::thread::panicking() {
            let log = std::fs::read_to_string(self.path("log")).unwrap_or_default();
            println!("--- the server's log\n{log}");
        }
    }
}

/// More than the smallest account allows, so that the limits are not what a test waits for. And more rounds, since
/// each kill may cut off a round's submits: three of them would leave a task to a person, and rightly so.
fn set_limits(file: &std::path::Path) {
    let text = std::fs::read_to_string(file).expect("orchestrator.toml reads");
    let changed = text
        .replace("lists = []", &format!("lists = [\"{LIST}\"]"))
        .replace("submits_per_minute = 10\n", "submits_per_minute = 10000\n")
        .replace("concurrent_max = 3\n", "concurrent_max = 100\n")
        .replace("\niterations_max = 3\n", "\niterations_max = 6\n");
    assert!(changed.contains("10000") && changed.contains("= 100\n") && changed.contains(LIST));
    assert!(changed.contains("\niterations_max = 6\n"));
    std::fs::write(file, changed).expect("orchestrator.toml is written");
}

/// Claude in both roles. A prompt names its task; one that was improved says so, and its picture passes.
fn answer(request: &Value) -> Reply {
    let text = request["messages"][0]["content"].to_string();
    let model = if text.contains(&format!("Target model: {WAN}")) { WAN } else { NANO };
    let schema = &request["output_config"]["format"]["schema"]["properties"];
    if schema.get("score").is_none() {
        let number = text.split(TEXT).nth(1).and_then(|rest| rest.split('.').next());
        let better = if text.contains("too dark") { "Improved, " } else { "" };
        let prompt = format!("{better}{model} for {TEXT}{}.", number.unwrap_or_default());
        let answer = json!({"enhanced_prompt": prompt, "rationale": "short"});
        return Reply::Text(answer.to_string());
    }
    let score = match (text.contains("Improved"), model) {
        (false, _) => 6,
        (true, NANO) => 9,
        (true, _) => 8,
    };
    let answer = json!({
        "score": score, "passed": score >= 8,
        "issues": if score >= 8 { vec![] } else { vec!["too dark"] },
        "reasoning": "seen",
    });
    Reply::Text(answer.to_string())
}
