//! A site: the real binary on a database of its own, with a Claude on loopback, to be killed at will.

mod asked;
mod files;
mod ground;

use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use mathesis::stand_in::claude::{ClaudeStandIn, StandInSettings};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use sqlx::{PgPool, Postgres, Transaction};
use tempfile::TempDir;

pub use ground::free_port;

use asked::Asked;

use super::databases::database_url;
pub use super::documents::write_site;
use super::stage::{NANO, WAN};
use super::{Record, TaskRun};

/// How long a condition is awaited before the test gives up.
const PATIENCE: Duration = Duration::from_secs(60);

/// The real binary, its database, its Claude and its folder.
pub struct Site {
    pub pool: PgPool,
    url: String,
    folder: TempDir,
    claude: ClaudeStandIn,
    asked: Arc<Asked>,
    server: Mutex<Option<Child>>,
    port: u16,
    http: reqwest::Client,
    next_task: AtomicU32,
    environment: Vec<(&'static str, String)>,
}

/// A task that drew a slot, and what it was told.
pub struct Drawn {
    task: String,
    model: &'static str,
    told: Value,
}

impl Drawn {
    pub fn task(&self) -> &str {
        &self.task
    }

    pub fn model(&self) -> &'static str {
        self.model
    }

    /// What it was told.
    pub fn told(&self) -> &Value {
        &self.told
    }
}

impl Site {
    /// A site whose server is not started yet, with the guard `off`. Claude finds one pattern and
    /// improves each document.
    pub async fn new() -> Self {
        Self::guarded_by("off").await
    }

    /// The same under another guard.
    pub async fn guarded_by(guard: &str) -> Self {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let url = database_url().await;
        let folder = TempDir::new().expect("a temporary folder can be made");
        write_site(&folder, guard);
        let asked = Arc::new(Asked::default());
        let responder = Arc::clone(&asked);
        let settings = StandInSettings { api_key: "sk-test".to_owned(), port: 0 };
        let claude =
            ClaudeStandIn::start(settings, move |request: &Value| responder.answer(request))
                .await
                .expect("the stand-in starts");
        Self {
            pool: PgPool::connect(&url).await.expect("the database answers"),
            url,
            folder,
            claude,
            asked,
            server: Mutex::new(None),
            port: free_port(),
            http: reqwest::Client::builder().timeout(PATIENCE).build().expect("a client"),
            next_task: AtomicU32::new(1),
            environment: Vec::new(),
        }
    }

    /// The database that it uses.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Gives the server, at its next start, another database.
    pub async fn move_to(&mut self, url: String) {
        self.pool = PgPool::connect(&url).await.expect("the database answers");
        self.url = url;
    }

    /// Gives the server, at its next start, another variable.
    pub fn set(&mut self, name: &'static str, value: String) {
        self.environment.push((name, value));
    }

    /// Posts events as a client does that is itself part of a trace.
    pub async fn post_events_within(&self, traceparent: &str, events: Value) {
        let post = self.http.post(self.address("/events")).header("traceparent", traceparent);
        let answer = post.json(&events).send().await.expect("the server answers");
        assert_eq!(answer.status(), 200);
    }

    /// Changes the workflow before the server is started; `from` must be in it.
    pub fn edit_workflow(&self, from: &str, to: &str) {
        let file = self.folder.path().join("workflows/image-editing/workflow.toml");
        let text = std::fs::read_to_string(&file).expect("the workflow reads");
        assert!(text.contains(from), "{from} stands in the workflow");
        std::fs::write(&file, text.replace(from, to)).expect("the workflow is written");
    }

    /// Changes how many completed tasks open an analysis.
    pub fn open_analyses_after(&self, tasks: usize) {
        self.edit_workflow("\ntasks = 50\n", &format!("\ntasks = {tasks}\n"));
    }

    /// Starts the server and waits until it is ready.
    pub async fn start(&self) {
        let log = std::fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(self.folder.path().join("server.log"))
            .expect("the log opens");
        let child = Command::new(env!("CARGO_BIN_EXE_mathesis"))
            .args(["serve", "--port", &self.port.to_string()])
            .current_dir(self.folder.path())
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("HOME", self.folder.path())
            .env("DATABASE_URL", &self.url)
            .env("ANTHROPIC_BASE_URL", self.claude.base_url())
            .env("ANTHROPIC_API_KEY", "sk-test")
            .env("MATHESIS_WORKFLOWS", self.folder.path().join("workflows"))
            .env("MATHESIS_CONNECTIONS_MAX", "8")
            .envs(self.environment.iter().cloned())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .expect("the binary starts");
        *self.server.lock().expect("no test panicked with it") = Some(child);
        let ready = format!("http://127.0.0.1:{}/readyz", self.port);
        until("the server is ready", || async {
            self.http.get(&ready).send().await.is_ok_and(|answer| answer.status() == 200)
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

    /// Asks the server to end (SIGTERM), as whoever supervises it does.
    pub fn terminate(&self) {
        let server = self.server.lock().expect("no test panicked with it");
        let pid = Pid::from_child(server.as_ref().expect("the server runs"));
        kill_process(pid, Signal::TERM).expect("the server is told");
    }

    /// Waits until the server has ended; with which code it did.
    pub async fn exit_code(&self) -> Option<i32> {
        let server = self.server.lock().expect("no test panicked with it").take();
        let mut server = server.expect("the server was started");
        let ending = tokio::task::spawn_blocking(move || server.wait());
        let ended = tokio::time::timeout(PATIENCE, ending).await.expect("it ends");
        ended.expect("nobody panicked").expect("it was our child").code()
    }

    fn address(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}/v1/workflows/image-editing{path}", self.port)
    }

    pub async fn post(&self, path: &str, body: Value) -> Value {
        let answer = self
            .http
            .post(self.address(path))
            .json(&body)
            .send()
            .await
            .expect("the server answers");
        let status = answer.status();
        let body: Value = answer.json().await.expect("the answer is JSON");
        assert!(status.is_success(), "{path}: {status} {body}");
        body
    }

    pub async fn get(&self, path: &str) -> Value {
        let answer = self.http.get(self.address(path)).send().await.expect("the server answers");
        assert_eq!(answer.status(), 200, "{path}");
        answer.json().await.expect("the answer is JSON")
    }

    /// A page of the dashboard.
    pub async fn page(&self, path: &str) -> String {
        let address = format!("http://127.0.0.1:{}{path}", self.port);
        let answer = self.http.get(address).send().await.expect("the server answers");
        assert_eq!(answer.status(), 200, "{path}");
        answer.text().await.expect("the answer is text")
    }

    /// Runs a command beside the server, and gives what it says.
    pub fn command(&self, arguments: &[&str]) -> String {
        let done = Command::new(env!("CARGO_BIN_EXE_mathesis"))
            .args(arguments)
            .current_dir(self.folder.path())
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("USER", "eleni")
            .env("DATABASE_URL", &self.url)
            .output()
            .expect("the program runs");
        let said = String::from_utf8(done.stdout).expect("UTF-8");
        let err = String::from_utf8_lossy(&done.stderr);
        assert!(done.status.success(), "{arguments:?}: {said}{err}");
        said
    }

    /// Posts as a client does that must go on whatever happens; true when it was acknowledged.
    pub async fn try_post(&self, path: &str, body: Value) -> bool {
        let answer = self.http.post(self.address(path)).json(&body).send().await;
        answer.is_ok_and(|answer| answer.status().is_success())
    }

    pub async fn assign(&self, task: &str, model: &str) -> Value {
        let path = format!("/tasks/{task}/assignments/{model}");
        let answer = self.http.put(self.address(&path)).send().await.expect("the server answers");
        assert_eq!(answer.status(), 200, "{path}");
        answer.json().await.expect("the answer is JSON")
    }

    pub async fn complete_tasks(&self, from: usize, to: usize) {
        for n in from..=to {
            let run = TaskRun::new(format!("task-{n}"), &[(WAN, 0, 7), (NANO, 0, 7)]);
            self.post("/events", Value::Array(run.events())).await;
        }
    }

    /// Fills that many more slots of both models' decks and reports their scores; the candidate is
    /// better.
    pub async fn play_test(&self, slots: usize) {
        for drawn in self.draw_slots(slots).await {
            self.report(&drawn).await;
        }
    }

    /// Draws that many slots of both models' decks, without reporting a score yet. A task that asks
    /// before this process has heard of the test gets no slot, as it should, and is left alone.
    pub async fn draw_slots(&self, slots: usize) -> Vec<Drawn> {
        let mut drawn = Vec::new();
        let asked_until = std::time::Instant::now() + PATIENCE;
        for model in [WAN, NANO] {
            let wanted = drawn.len() + slots;
            while drawn.len() < wanted {
                assert!(std::time::Instant::now() < asked_until, "no slots are dealt");
                let task = format!("test-{}", self.next_task.fetch_add(1, Ordering::SeqCst));
                let told = self.assign(&task, model).await;
                if told["arm"].is_string() {
                    drawn.push(Drawn { task, model, told });
                }
            }
        }
        drawn
    }

    /// Fills that many more slots of both models' decks with scores that undo what the test showed.
    pub async fn play_regressing(&self, slots: usize) {
        for drawn in self.draw_slots(slots).await {
            self.report_regressing(&drawn).await;
        }
    }

    /// Reports what the pipeline made of a task that drew a slot.
    pub async fn report(&self, drawn: &Drawn) {
        self.report_scores(drawn, 9, 7).await;
    }

    /// Reports a score that undoes what the test showed.
    pub async fn report_regressing(&self, drawn: &Drawn) {
        self.report_scores(drawn, 5, 8).await;
    }

    async fn report_scores(&self, drawn: &Drawn, candidate: i64, control: i64) {
        let version = drawn.told["version"].as_i64().and_then(|v| i32::try_from(v).ok());
        let score = if drawn.told["arm"] == "candidate" { candidate } else { control };
        let attempt = (drawn.model, version.expect("a version"), score);
        let run = TaskRun::new(drawn.task.clone(), &[attempt]);
        self.post("/events", Value::Array(run.events())).await;
    }

    /// Lifts every hold behind the program's back.
    pub async fn lift_holds(&self) {
        sqlx::query(
            "UPDATE holds SET lifted_at = now(), lifted_by = 'the test' WHERE lifted_at IS NULL",
        )
        .execute(&self.pool)
        .await
        .expect("the holds are lifted");
        sqlx::query("UPDATE effects SET parked = false WHERE parked")
            .execute(&self.pool)
            .await
            .expect("their effects are no longer marked");
    }

    pub async fn operate(&self, operation: &str) {
        self.post(&format!("/cycles/1/{operation}"), json!({ "reason": "for the test" })).await;
    }

    pub async fn until_state(&self, state: &str) {
        until(state, || async { self.state_of(1).await == state }).await;
    }

    pub async fn state_of(&self, cycle: i64) -> String {
        sqlx::query_scalar("SELECT state FROM cycles WHERE number = $1")
            .bind(cycle)
            .fetch_one(&self.pool)
            .await
            .expect("the cycle is there")
    }

    /// Locks the open cycle from outside, so that the next checkpoint waits just before it.
    pub async fn lock_cycle(&self) -> Transaction<'static, Postgres> {
        let mut lock = self.pool.begin().await.expect("a transaction");
        sqlx::query("SELECT FROM cycles WHERE ended_at IS NULL FOR UPDATE")
            .execute(&mut *lock)
            .await
            .expect("the cycle is locked");
        lock
    }

    /// Waits until the server stands before the checkpoint that `lock_cycle` keeps it from.
    pub async fn until_blocked(&self) {
        self.until_blocked_are(1).await;
    }

    /// Waits until so many wait in line for the open cycle.
    pub async fn until_blocked_are(&self, number: i64) {
        let waits = "SELECT count(*) FROM pg_stat_activity
                      WHERE datname = current_database() AND wait_event_type = 'Lock'
                        AND query LIKE '%FROM cycles%FOR UPDATE%'";
        until("the checkpoint waits", || async {
            let blocked: i64 =
                sqlx::query_scalar(waits).fetch_one(&self.pool).await.expect("an answer");
            blocked >= number
        })
        .await;
    }

    /// From now on Claude takes the question and never answers, until it is told to again.
    pub fn claude_hangs(&self, hangs: bool) {
        self.asked.hang.store(u32::from(hangs), Ordering::SeqCst);
    }

    /// From now on Claude takes its time before it answers.
    pub fn claude_is_slow(&self) {
        self.asked.slow.store(1, Ordering::SeqCst);
    }

    pub fn analyses(&self) -> u32 {
        self.asked.analyses.load(Ordering::SeqCst)
    }

    pub fn generations(&self) -> u32 {
        self.asked.generations.load(Ordering::SeqCst)
    }

    pub async fn until_asked(&self, analyses: u32, generations: u32) {
        until("Claude is asked", || async {
            self.analyses() >= analyses && self.generations() >= generations
        })
        .await;
    }

    /// Waits until that many probations have ended.
    pub async fn until_decided(&self, number: i64) {
        self.until_count("SELECT count(*) FROM probations WHERE status <> 'open'", number).await;
    }

    /// Waits until a count has come to so much.
    pub async fn until_count(&self, query: &'static str, number: i64) {
        until(query, || async { self.count(query).await >= number }).await;
    }

    /// Fills both models' decks, one after the other, so that their looks come in this order.
    pub async fn play_test_in_turn(&self) {
        let decided = "SELECT count(*) FROM experiments WHERE status <> 'testing'";
        for (ordinal, drawn) in (1..).zip(self.draw_slots(20).await.chunks(20)) {
            for drawn in drawn {
                self.report(drawn).await;
            }
            self.until_count(decided, ordinal).await;
        }
    }

    /// How many changes of that kind were carried out.
    pub async fn changes_done(&self, kind: &str) -> i64 {
        let done = "SELECT count(*) FROM config_changes WHERE kind = $1 AND status = 'done'";
        sqlx::query_scalar(done).bind(kind).fetch_one(&self.pool).await.expect("an answer")
    }

    /// The first version of every model with its texts, and whether it serves.
    pub async fn first_versions(&self) -> String {
        sqlx::query_scalar(
            "SELECT string_agg(concat_ws('|', model_name, is_active, content_hash, prompt_template,
                           activation_text, research_text), E'\\n' ORDER BY model_name)
               FROM prompt_versions WHERE version = 1",
        )
        .fetch_one(&self.pool)
        .await
        .expect("an answer")
    }

    pub async fn count(&self, query: &'static str) -> i64 {
        sqlx::query_scalar(query).fetch_one(&self.pool).await.expect("an answer")
    }

    pub async fn decks(&self) -> Vec<(String, i32, String)> {
        sqlx::query_as("SELECT model_name, slot, arm FROM deck_slots WHERE cycle = 1 ORDER BY 1, 2")
            .fetch_all(&self.pool)
            .await
            .expect("the decks")
    }

    pub async fn walk(&self) -> Vec<String> {
        sqlx::query_scalar("SELECT to_state FROM cycle_transitions WHERE cycle = 1 ORDER BY seq")
            .fetch_all(&self.pool)
            .await
            .expect("the history")
    }

    /// What stands in the database and on the disk by now.
    pub async fn record(&self) -> Record {
        Record::of(&self.pool, &self.config_root()).await
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        self.kill();
        if std::thread::panicking() {
            println!("--- the server's log\n{}", self.log());
        }
    }
}

/// Awaits a condition of another process, which can only be asked for again and again.
pub async fn until<F: Future<Output = bool>>(what: &str, condition: impl Fn() -> F) {
    let asked_until = std::time::Instant::now() + PATIENCE;
    while !condition().await {
        assert!(std::time::Instant::now() < asked_until, "waited in vain: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Gives a lock back.
pub async fn unlock(lock: Transaction<'static, Postgres>) {
    lock.rollback().await.expect("the lock is given back");
}
