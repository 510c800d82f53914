//! The stage: a whole engine on a database of its own, with a scripted Claude and a clock in hand.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use chrono::{DateTime, Utc};
use mathesis::claude::scripted::{NoPause, ScriptedClaude};
use mathesis::clock::{Clock, HandHeldClock};
use mathesis::cycle::{Snapshot, StateName};
use mathesis::runtime::{
    Assignment, Bell, CycleStatus, Engine, EngineSettings, Operation, OperationError, Operator,
    Performed, Registry, Rescuer, VersionAssigner, Worked, Worker, Workflow, check_workflow,
    cycle_status, rules_of,
};
use mathesis::store::cycles::{self, CycleRow, TransitionRow};
use mathesis::store::{Store, versions};
use mathesis::task_log::{LogReport, LoggerLimits, TaskLogger, parse_event};
use mathesis::workflow::definition::GuardMode;
use mathesis::workflow::{Definition, load};
use serde_json::Value;
use sqlx::PgPool;
use tempfile::TempDir;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use uuid::Uuid;

use super::TaskRun;
use super::databases::database_url;

pub use super::documents::{NANO, WAN};

/// A whole engine, moved by hand.
pub struct Stage {
    pub url: String,
    pub store: Store,
    pub engine: Engine,
    pub worker: Arc<Worker>,
    pub assigner: VersionAssigner,
    pub logger: TaskLogger,
    pub workflow: Workflow,
    pub claude: Arc<ScriptedClaude>,
    pub clock: Arc<HandHeldClock>,
    pub folder: Arc<TempDir>,
    /// One rescuer a process: a second one would wait for the first one's lock.
    pub rescuing: tokio::sync::Mutex<Option<Rescuer>>,
}

/// How a stage is set.
///
/// The guard is `off`: a stage shows what one verdict leads to, and those that show a guard say so.
pub struct StageBuilder {
    guard: GuardMode,
    edit: Box<dyn FnOnce(&mut Definition) + Send>,
    seed: u64,
    documents: bool,
    research: Option<String>,
}

impl Default for StageBuilder {
    fn default() -> Self {
        Self {
            guard: GuardMode::Off,
            edit: Box::new(|_| {}),
            seed: 7,
            documents: true,
            research: None,
        }
    }
}

/// Monday noon.
pub fn noon() -> DateTime<Utc> {
    "2026-11-23T12:00:00Z".parse().expect("a moment")
}

/// The workflow that is shipped.
pub fn shipped_definition() -> Definition {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("workflows/image-editing");
    load::load(&folder).expect("the shipped workflow is valid")
}

impl StageBuilder {
    /// Changes the shipped workflow before it is registered.
    pub fn definition(mut self, edit: impl FnOnce(&mut Definition) + Send + 'static) -> Self {
        self.edit = Box::new(edit);
        self
    }

    /// Guards adoptions as the workflow is shipped: by a probation.
    pub fn on_probation(mut self) -> Self {
        self.guard = GuardMode::Probation;
        self
    }

    /// The seed of the first deck; each further deck gets the next one.
    pub fn seed(mut self, seed: u64) -> Self {
        self.seed = seed;
        self
    }

    /// What every model's research.md says.
    pub fn research(mut self, text: String) -> Self {
        self.research = Some(text);
        self
    }

    /// Sets the stage.
    pub async fn build(self) -> Stage {
        let url = database_url().await;
        let folder = TempDir::new().expect("a temporary folder can be made");
        if self.documents {
            write_documents(folder.path(), self.research.as_deref());
        }
        let clock = Arc::new(HandHeldClock::at(noon()));
        let mut definition = shipped_definition();
        definition.guard.mode = self.guard;
        (self.edit)(&mut definition);
        let claude = Arc::new(ScriptedClaude::new().by_clock(clock.clone()));
        Stage::on(url, Arc::new(folder), clock, claude, definition, self.seed).await
    }
}

fn write_documents(root: &std::path::Path, research: Option<&str>) {
    for model in [WAN, NANO] {
        let folder = root.join("config/deep_research").join(model);
        std::fs::create_dir_all(&folder).expect("the folder can be made");
        std::fs::write(
            folder.join("activation.txt"),
            format!("You enhance prompts for {model}.\n"),
        )
        .expect("the file can be written");
        let short =
            format!("# {model}\n\n## What works\nShort prompts.\n\n## Τι αποτυγχάνει\nΆρνηση.\n");
        std::fs::write(folder.join("research.md"), research.unwrap_or(&short))
            .expect("the file can be written");
    }
}

/// A stage in Testing, one candidate a model, after a window of three.
pub async fn testing_stage() -> Stage {
    let stage = Stage::builder().definition(|d| d.trigger.tasks = 3).build().await;
    stage.open_test().await;
    stage
}

impl Stage {
    /// A stage with the shipped workflow.
    pub async fn new() -> Self {
        StageBuilder::default().build().await
    }

    /// A stage that is set by hand.
    pub fn builder() -> StageBuilder {
        StageBuilder::default()
    }

    /// Another process on the same database, folder, clock and Claude: a replica, or this one after
    /// a crash.
    pub async fn another(&self) -> Self {
        Self::on(
            self.url.clone(),
            Arc::clone(&self.folder),
            Arc::clone(&self.clock),
            Arc::clone(&self.claude),
            self.workflow.definition.as_ref().clone(),
            1_000,
        )
        .await
    }

    async fn on(
        url: String,
        folder: Arc<TempDir>,
        clock: Arc<HandHeldClock>,
        claude: Arc<ScriptedClaude>,
        definition: Definition,
        seed: u64,
    ) -> Self {
        let store = Store::connect(&url, None, 12).await.expect("the database answers");
        let registry = Registry::default();
        let config = folder.path().join(&definition.config_folder);
        let (workflow, _) = registry
            .register(&store, definition, &config, None, clock.now())
            .await
            .expect("the workflow registers");
        let seeds = AtomicU64::new(seed);
        let engine = Engine {
            store: store.clone(),
            clock: clock.clone(),
            claude: claude.clone(),
            pause: Arc::new(NoPause::default()),
            draw_seed: Arc::new(move || seeds.fetch_add(1, Ordering::Relaxed)),
            registry: registry.clone(),
            worker_id: Uuid::now_v7(),
            settings: Arc::new(EngineSettings {
                root: folder.path().to_owned(),
                host: "stage".to_owned(),
                lease: Duration::from_secs(60),
                shutdown_grace: Duration::from_secs(5),
            }),
            work: Arc::new(Notify::new()),
            watch: Bell::default(),
            claims: mathesis::runtime::Claims::default(),
        };
        let logger = TaskLogger::start(
            store.pool().clone(),
            clock.clone(),
            Arc::new(registry),
            LoggerLimits::default(),
            &TaskTracker::new(),
            CancellationToken::new(),
        );
        let assigner = VersionAssigner::new(engine.clone());
        assigner.refresh().await.expect("the versions are read");
        let worker = Arc::new(Worker::new(engine.clone()));
        let rescuing = tokio::sync::Mutex::default();
        Self {
            url,
            store,
            engine,
            worker,
            assigner,
            logger,
            workflow,
            claude,
            clock,
            folder,
            rescuing,
        }
    }

    pub fn pool(&self) -> &PgPool {
        self.store.pool()
    }

    pub fn id(&self) -> i64 {
        self.workflow.workflow_id
    }

    /// Logs events as JSON; every one must be accepted or a duplicate.
    pub async fn log(&self, events: Vec<Value>) -> LogReport {
        let report = self.try_log(events).await;
        assert!(report.rejected.is_empty(), "refused: {:?}", report.rejected);
        report
    }

    /// Logs events as JSON.
    pub async fn try_log(&self, events: Vec<Value>) -> LogReport {
        let parsed = events.iter().map(|event| parse_event(&event.to_string())).collect();
        self.logger.log_parsed(self.workflow.name(), parsed).await.expect("the log answers")
    }

    /// Logs completed tasks `prefix-1` to `prefix-n`, both models scoring `score` under version 1.
    pub async fn complete_tasks(&self, prefix: &str, number: usize, score: i64) {
        let run = |n| TaskRun::new(format!("{prefix}-{n}"), &[(WAN, 0, score), (NANO, 0, score)]);
        self.log((1..=number).flat_map(|n| run(n).events()).collect()).await;
    }

    /// Looks for what is due, as the watcher does; returns how many transitions that made.
    pub async fn watch(&self) -> u32 {
        check_workflow(&self.engine, &self.worker, self.id()).await.expect("the watcher looks")
    }

    /// Performs one effect.
    pub async fn work(&self) -> Worked {
        self.worker.work_once().await.expect("the worker works")
    }

    /// Performs one effect and says where the cycle stands then.
    pub async fn step(&self) -> StateName {
        match self.work().await {
            Worked::Done(Some(state)) => state,
            other => panic!("no transition came of it: {other:?}"),
        }
    }

    pub async fn cycle(&self) -> CycleRow {
        cycles::find_open(self.pool(), self.id())
            .await
            .expect("the database answers")
            .expect("a cycle is open")
    }

    pub async fn cycle_number(&self, number: i64) -> CycleRow {
        cycles::find(self.pool(), self.id(), number)
            .await
            .expect("the database answers")
            .expect("the cycle exists")
    }

    pub async fn state(&self) -> StateName {
        self.cycle().await.snapshot.state.name()
    }

    pub async fn status(&self) -> CycleStatus {
        cycle_status(&self.engine, &self.workflow, None)
            .await
            .expect("the database answers")
            .expect("a cycle is open")
    }

    pub async fn history(&self, cycle: i64) -> Vec<TransitionRow> {
        cycles::history(self.pool(), self.id(), cycle).await.expect("the history reads")
    }

    /// Asks for a version as an orchestrator does.
    pub async fn assign(&self, task: &str, model: &str) -> Assignment {
        self.assigner.refresh().await.expect("the versions are read");
        self.assigner.assign(&self.workflow, task, "", model).await.expect("the assigner answers")
    }

    /// Does what an operator asks.
    pub async fn operate(&self, operation: Operation) -> Result<Performed, OperationError> {
        let operator = Operator { name: "Ελένη", reason: Some("for the test"), cycle: None };
        operation.perform(&self.engine, self.id(), operator).await
    }

    pub async fn active_version(&self, model: &str) -> i32 {
        let mut conn = self.pool().acquire().await.expect("a connection");
        versions::active_head(&mut conn, self.id(), model)
            .await
            .expect("the database answers")
            .expect("a version is active")
            .0
    }

    pub fn file(&self, model: &str, name: &str) -> PathBuf {
        self.folder.path().join("config/deep_research").join(model).join(name)
    }

    pub fn read(&self, model: &str, name: &str) -> String {
        std::fs::read_to_string(self.file(model, name)).expect("the file is there")
    }

    /// The backups of a model, by name.
    pub fn backups(&self, model: &str) -> Vec<String> {
        let mut found: Vec<String> = std::fs::read_dir(self.file(model, ""))
            .expect("the folder is there")
            .map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned())
            .filter(|name| name.starts_with("backup_"))
            .collect();
        found.sort();
        found
    }

    /// The snapshot of a cycle before its first event.
    pub fn opened(&self, cycle: i64) -> Snapshot {
        Snapshot::open(cycle, rules_of(&self.workflow.definition))
    }

    /// A rescuer of this process.
    pub fn rescuer(&self) -> Rescuer {
        Rescuer::new(self.engine.clone())
    }

    /// Runs Collecting to Testing with a good candidate for each model.
    pub async fn reach_testing(&self) {
        self.complete_tasks("seed", 50, 7).await;
        assert_eq!(self.watch().await, 1, "the trigger opens the analysis");
        self.claude.answer_json(super::analysis_answer(&["seed-1", "seed-2"]));
        self.claude.answer_json(super::edit_answer("Name what must stay unchanged."));
        self.claude.answer_json(super::nano_edit_answer("Keep the logo."));
        assert_eq!(self.step().await, StateName::Generating);
        assert_eq!(self.step().await, StateName::Testing);
    }

    /// Runs Collecting to Testing over a window of three; for stages whose trigger is 3.
    pub async fn open_test(&self) {
        self.complete_tasks("seed", 3, 7).await;
        assert_eq!(self.watch().await, 1, "the trigger opens the analysis");
        self.claude.answer_json(super::analysis_answer(&["seed-1", "seed-2"]));
        self.claude.answer_json(super::edit_answer("Name what must stay unchanged."));
        self.claude.answer_json(super::nano_edit_answer("Keep the logo."));
        assert_eq!(self.step().await, StateName::Generating);
        assert_eq!(self.step().await, StateName::Testing);
    }

    /// The same process started again with another definition, on the same database and folder.
    pub async fn restarted_with(&self, edit: impl FnOnce(&mut Definition)) -> Self {
        let mut definition = self.workflow.definition.as_ref().clone();
        edit(&mut definition);
        Self::on(
            self.url.clone(),
            Arc::clone(&self.folder),
            Arc::clone(&self.clock),
            Arc::clone(&self.claude),
            definition,
            2_000,
        )
        .await
    }

    /// Sends tasks through the running test: each asks for both models and scores what `score` says
    /// for its arm.
    pub async fn play_test(&self, prefix: &str, score: impl Fn(&str, &Assignment) -> i64) {
        self.play(prefix, 20, score).await;
    }

    /// Sends that many tasks through whatever deck is being dealt.
    pub async fn play(&self, prefix: &str, tasks: u32, score: impl Fn(&str, &Assignment) -> i64) {
        for n in 1..=tasks {
            let task = format!("{prefix}-{n}");
            let mut attempts = Vec::new();
            for model in [WAN, NANO] {
                let told = self.assign(&task, model).await;
                attempts.push((model, told.version, score(model, &told)));
            }
            self.log(TaskRun::new(task, &attempts).events()).await;
        }
    }
}
