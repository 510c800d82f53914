//! Workflows in the bench's own process, and their cycles driven by hand.
//!
//! A transition is one call of `advance`, with what a worker would hand in. Claude is not asked: what its
//! answers lead to is made here. So a paid call's own commits, one before it and one after it, are not
//! among the figures; a test holds their number (tests/it/engine/price.rs).

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use mathesis::claude::scripted::{NoPause, ScriptedClaude};
use mathesis::clock::SystemClock;
use mathesis::cycle::Event;
use mathesis::experiment::deck;
use mathesis::research::{Texts, content_hash};
use mathesis::runtime::{
    Advanced, Bell, Candidate, Claims, Engine, EngineSettings, FileChange, Registry, Submission,
    What, Workflow, advance, rules_of,
};
use mathesis::store::Store;
use mathesis::store::effects::ClaimedEffect;
use mathesis::store::insights::{NewAnalysis, NewInsight};
use mathesis::store::versions::NewVersion;
use mathesis::workflow::load;
use serde_json::json;
use tempfile::TempDir;
use tokio::sync::Notify;
use uuid::Uuid;

use super::process::shipped_workflows;
use super::requests::MODELS;
use super::{Outcome, tables};

/// Tasks that open an analysis, as shipped.
pub const WINDOW: i32 = 50;

/// An engine with its workflows.
pub struct Site {
    pub engine: Engine,
    pub workflows: Vec<Workflow>,
    /// Where the workflows lie, for a server that is to know them, too.
    pub folder: TempDir,
}

impl Site {
    /// That many workflows, copies of the shipped one under names of their own, without a guard.
    pub async fn with(url: &str, number: u32, connections: u32) -> Outcome<Self> {
        let folder = tempfile::tempdir()?;
        for place in 1..=number {
            copy_workflow(&folder.path().join("workflows"), &format!("wf-{place:04}"))?;
        }
        let store = Store::connect(url, None, connections).await?;
        let engine = engine(store, folder.path());
        let mut site = Self { engine, workflows: Vec::new(), folder };
        for definition in load::load_all(&site.workflows_folder())? {
            let config = site.engine.config_folder(&definition.config_folder);
            let starter = site.workflows_folder().join(definition.name.as_str()).join("starter");
            let now = site.engine.now();
            let registry = &site.engine.registry;
            let registered = registry
                .register(&site.engine.store, definition, &config, Some(&starter), now)
                .await?;
            site.workflows.push(registered.0);
        }
        Ok(site)
    }

    /// The folder of the workflows.
    pub fn workflows_folder(&self) -> PathBuf {
        self.folder.path().join("workflows")
    }

    /// Every workflow's id.
    pub fn ids(&self) -> Vec<i64> {
        self.workflows.iter().map(|workflow| workflow.workflow_id).collect()
    }
}

fn engine(store: Store, root: &Path) -> Engine {
    let seeds = AtomicU64::new(7);
    Engine {
        store,
        clock: Arc::new(SystemClock),
        claude: Arc::new(ScriptedClaude::new()),
        pause: Arc::new(NoPause::default()),
        draw_seed: Arc::new(move || seeds.fetch_add(1, Ordering::Relaxed)),
        registry: Registry::default(),
        worker_id: Uuid::now_v7(),
        settings: Arc::new(EngineSettings {
            root: root.to_owned(),
            host: "bench".to_owned(),
            lease: Duration::from_secs(60),
            shutdown_grace: Duration::from_secs(5),
        }),
        claims: Claims::default(),
        work: Arc::new(Notify::new()),
        watch: Bell::default(),
    }
}

/// Copies the shipped workflow's folder, with its own name, config folder and no guard.
fn copy_workflow(workflows: &Path, name: &str) -> Outcome<()> {
    let from = shipped_workflows().join("image-editing");
    let to = workflows.join(name);
    let models = MODELS.map(|model| format!("starter/{model}"));
    for folder in ["prompts"].into_iter().chain(models.iter().map(String::as_str)) {
        std::fs::create_dir_all(to.join(folder))?;
        for entry in std::fs::read_dir(from.join(folder))? {
            let entry = entry?;
            std::fs::copy(entry.path(), to.join(folder).join(entry.file_name()))?;
        }
    }
    let shipped = std::fs::read_to_string(from.join("workflow.toml"))?;
    let own = shipped
        .replacen("name = \"image-editing\"", &format!("name = \"{name}\""), 1)
        .replacen("\nmode = \"probation\"", "\nmode = \"off\"", 1)
        .replacen("\ndays = 90", "\ndays = 3650", 1)
        .replacen(
            "config_folder = \"config/deep_research\"",
            &format!("config_folder = \"config/{name}\""),
            1,
        );
    std::fs::write(to.join("workflow.toml"), own)?;
    Ok(())
}

/// A cycle's steps, in order: each is one transition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    Trigger,
    Analysis,
    Candidates,
    Look(usize),
    Settle,
    Files,
}

/// What each step is, for people.
pub const STEP_NAMES: [&str; STEPS.len()] = [
    "the trigger, which takes 50 tasks",
    "an analysis with its insights",
    "two candidates with their decks",
    "the first model's look",
    "the second model's look",
    "the verdicts settled",
    "the files applied",
];

const STEPS: [Step; 7] = [
    Step::Trigger,
    Step::Analysis,
    Step::Candidates,
    Step::Look(0),
    Step::Look(1),
    Step::Settle,
    Step::Files,
];

/// Steps until the test runs, and those after it.
pub const STEPS_TO_TEST: usize = 3;
pub const STEPS_AFTER_TEST: usize = STEPS.len() - STEPS_TO_TEST;

/// A workflow's cycle under way.
pub struct Cycle {
    pub workflow: Workflow,
    pub number: i64,
    step: usize,
    claim: Option<ClaimedEffect>,
}

impl Cycle {
    /// The first cycle of a workflow, of which nothing has been driven.
    pub const fn first(workflow: Workflow) -> Self {
        Self { workflow, number: 1, step: 0, claim: None }
    }

    /// What the next step will hand in; made before the clock runs.
    pub async fn prepare(&self, engine: &Engine) -> Outcome<What> {
        Ok(match STEPS.get(self.step).copied().unwrap_or(Step::Trigger) {
            Step::Trigger => What::Trigger,
            Step::Analysis => What::Analysis(analysis()),
            Step::Candidates => {
                let candidates = MODELS.iter().map(|model| self.candidate(model)).collect();
                What::Candidates { candidates, without: Vec::new(), refused: Vec::new() }
            }
            Step::Look(model) => {
                What::Look { model: MODELS.get(model).copied().unwrap_or_default().to_owned() }
            }
            Step::Settle => What::Event(Event::VerdictsSettled),
            Step::Files => {
                let pool = engine.store.pool();
                let intended = tables::intended_changes(pool, self.workflow.workflow_id).await?;
                let changes = intended.into_iter().map(|(change_id, model, version)| FileChange {
                    change_id,
                    model,
                    version: Some(version),
                    backup_path: None,
                });
                What::Files { event: Event::FilesApplied, changes: changes.collect() }
            }
        })
    }

    /// Makes one transition; it must be taken. After the last one this is the next cycle.
    pub async fn advance(&mut self, engine: &Engine, what: What) -> Outcome<()> {
        let claim = self.claim.take();
        let submission = Submission {
            workflow_id: self.workflow.workflow_id,
            cycle: Some(self.number),
            actor: "mathesis",
            reason: None,
            what,
            completes: claim.as_ref(),
            claims_next: true,
        };
        match advance(engine, submission).await? {
            Advanced::Moved(moved) => self.claim = moved.claimed,
            Advanced::NotNow => return Err("a transition was not due, so none was measured".into()),
        }
        self.step += 1;
        if self.step == STEPS.len() {
            self.step = 0;
            self.number += 1;
        }
        Ok(())
    }

    /// Drives one whole cycle of a site with this one workflow, whose tasks for the window are there. How long its
    /// transitions took, each by itself, without what stands between them.
    pub async fn whole(&mut self, site: &Site) -> Outcome<[Duration; STEPS.len()]> {
        let mut spent = [Duration::ZERO; STEPS.len()];
        for (step, took) in spent.iter_mut().enumerate() {
            if step == STEPS_TO_TEST {
                tables::score_decks(site.engine.store.pool(), &site.ids()).await?;
            }
            let what = self.prepare(&site.engine).await?;
            let began = Instant::now();
            self.advance(&site.engine, what).await?;
            *took = began.elapsed();
        }
        Ok(spent)
    }

    fn candidate(&self, model: &str) -> Candidate {
        let active = i32::try_from(self.number).unwrap_or(i32::MAX);
        let line = format!("- Name what must stay as it is ({model}, {active}).\n");
        let texts = Texts {
            template: self.workflow.definition.prompts.enhancement.clone(),
            activation: format!("You enhance prompts for {model}.\n"),
            research: format!("# {model}\n\n## What works\n{}", line.repeat(60)),
        };
        let version = NewVersion {
            model_name: model.to_owned(),
            version: active + 1,
            content_hash: content_hash(&texts),
            texts,
            parent_version: Some(active),
            edits: Vec::new(),
            lineage: Vec::new(),
            diff: format!("@@ -1 +1,2 @@\n # {model}\n+{line}"),
            summary: "what must stay is named".to_owned(),
            cycle: Some(self.number),
            based_on: vec![format!("{}.1", self.number)],
            is_active: false,
            created_by: "claude".to_owned(),
        };
        let seed = u64::try_from(self.workflow.workflow_id + self.number).unwrap_or(7);
        let rules = rules_of(&self.workflow.definition);
        let slots = deck::shuffle(&rules.split, seed);
        Candidate { version, deck_seed: seed.cast_signed(), slots }
    }
}

fn analysis() -> NewAnalysis {
    let insight = |model: &str| NewInsight {
        insight_type: "prompt_pattern".to_owned(),
        model_name: model.to_owned(),
        description: "What must stay is lost where the prompt does not name it.".to_owned(),
        confidence_score: 0.8,
        example_task_ids: vec!["window-1-1".to_owned(), "window-1-2".to_owned()],
        suggested_change: "Name what must stay.".to_owned(),
    };
    NewAnalysis {
        tasks_analyzed: WINDOW,
        tasks_shown: WINDOW,
        summary: "Logos are lost.".to_owned(),
        model_insights: json!({}),
        recommendations: json!({}),
        evidence_dropped: 0,
        judgements_dropped: 0,
        insights: MODELS.iter().map(|model| insight(model)).collect(),
        judgements: Vec::new(),
    }
}
