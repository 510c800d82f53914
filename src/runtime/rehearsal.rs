//! A rehearsal: what the next cycle would find and propose over recorded tasks, with nothing live touched.
//!
//! It is the real engine on a scratch copy: the same effects analyse and generate, and stop before a test would begin.
//! The scratch schema is dropped at the end; after a crash the next rehearsal puts the costs on record and drops it.

use std::path::PathBuf;
use std::sync::Arc;

use rust_decimal::Decimal;
use serde::Serialize;
use tokio::sync::Notify;
use uuid::Uuid;

use super::advance::AdvanceError;
use super::bell::Bell;
use super::engine::{Engine, EngineSettings};
use super::registry::{Registry, RegistryError, Workflow, rules_of};
use super::watcher::check_workflow;
use super::worker::{Worked, Worker};
use crate::claude::{self, error::NOTHING_IS_LOST};
use crate::cycle::{Snapshot, StateName};
use crate::effects::THEN_RETRY;
use crate::store::holds::HoldRow;
use crate::store::insights::{self, InsightRow, Which};
use crate::store::{Store, StoreError, claude_calls, costs, cycles, holds, rehearsal, versions};
use crate::workflow::Definition;
use crate::workflow::definition::ApprovalAsk;

/// Bytes of prompt, schema, figures and earlier insights around the tasks, or around the documents.
const FRAME_BYTES: usize = 60_000;

/// A rehearsal that is ready to be played: the copy is made, and nothing is paid yet.
pub struct Rehearsal {
    id: Uuid,
    live: Engine,
    scratch: Engine,
    workflow: Workflow,
    _lock: sqlx::PgConnection,
    /// Tasks that it is about.
    pub tasks: u64,
    /// What it costs at most, or close to it, in US dollars.
    pub estimate_usd: Decimal,
}

/// What the next cycle would find and propose.
#[derive(Debug, Clone, Serialize)]
pub struct Rehearsed {
    /// Tasks that were analysed.
    pub tasks: u64,
    /// What it was said to cost at most, in US dollars.
    pub estimate_usd: Decimal,
    /// What it cost, in US dollars.
    pub cost_usd: Decimal,
    /// The calls that were made.
    pub calls: i64,
    /// The analysis in a few sentences.
    pub summary: String,
    /// What was found.
    pub insights: Vec<InsightRow>,
    /// What would be proposed, per model.
    pub models: Vec<RehearsedModel>,
}

/// What would be proposed for one model.
#[derive(Debug, Clone, Serialize)]
pub struct RehearsedModel {
    /// The image model.
    pub model: String,
    /// The version that serves.
    pub version_now: Option<i32>,
    /// What the candidate changes, in a few sentences; none where there is no candidate.
    pub summary: Option<String>,
    /// What it changes, as a unified diff.
    pub diff: Option<String>,
}

/// Why a rehearsal was not played to its end. Nothing live has changed; what it cost is on record.
#[derive(Debug, thiserror::Error)]
pub enum RehearsalError {
    /// The database failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The copy of the workflow could not be registered.
    #[error(transparent)]
    Registry(#[from] RegistryError),
    /// The copied cycle could not be moved.
    #[error("the rehearsal's cycle could not be moved: {0}")]
    Advance(String),
    /// There is nothing to rehearse over.
    #[error("no finished task is on record, so there is nothing to rehearse over")]
    NoTasks,
    /// The month's money does not suffice.
    #[error(
        "this month's calls cost {spent} USD, the rehearsal may cost up to {next} USD, and the budget is {budget} USD; rehearse over fewer tasks (--last), or raise claude.budget_usd_per_month"
    )]
    Budget {
        /// Spent so far.
        spent: Decimal,
        /// At most for this.
        next: Decimal,
        /// The budget.
        budget: Decimal,
    },
    /// A call failed, or no answer could be used.
    #[error("the rehearsal stopped: {reason} What helps: {remedy}")]
    Held {
        /// What happened.
        reason: String,
        /// What to do.
        remedy: String,
    },
}

impl From<sqlx::Error> for RehearsalError {
    fn from(error: sqlx::Error) -> Self {
        Self::Store(StoreError::Database(error))
    }
}

impl From<AdvanceError> for RehearsalError {
    fn from(error: AdvanceError) -> Self {
        Self::Advance(error.to_string())
    }
}

impl Rehearsal {
    /// Copies what the next cycle would read of the last `tasks` finished tasks, and says what it would cost.
    ///
    /// # Errors
    /// [`RehearsalError`]; nothing was paid.
    pub async fn prepare(
        live: &Engine,
        workflow: &Workflow,
        tasks: i64,
    ) -> Result<Self, RehearsalError> {
        rehearsal::clear_away(&live.store).await?;
        let id = Uuid::now_v7();
        let mut lock = live.store.pool().acquire().await?.detach();
        rehearsal::lock(&mut lock, id).await?;
        let store = rehearsal::make(&live.store, id).await?;
        let (copied, last_cycle) = rehearsal::copy(&store, workflow.workflow_id, tasks).await?;
        let definition = rehearsed(&workflow.definition, copied);
        let scratch = engine_on(live, store);
        let estimate_usd = estimate(&scratch, workflow.workflow_id, &definition).await?;
        let budget = definition.claude.budget_usd_per_month;
        let since = crate::effects::month_start(live.now(), definition.timezone);
        let pool = live.store.pool();
        let spent = claude_calls::cost_since(pool, workflow.workflow_id, since).await?;
        let mut prepared = Self {
            id,
            live: live.clone(),
            scratch,
            workflow: workflow.clone(),
            _lock: lock,
            tasks: copied,
            estimate_usd,
        };
        let refused = if copied == 0 {
            Some(RehearsalError::NoTasks)
        } else if spent + estimate_usd > budget {
            let (spent, next) = (spent.round_dp(2), estimate_usd.round_dp(2));
            Some(RehearsalError::Budget { spent, next, budget })
        } else {
            None
        };
        if let Some(refused) = refused {
            prepared.put_away().await?;
            return Err(refused);
        }
        prepared.set_up(definition, last_cycle).await?;
        Ok(prepared)
    }

    async fn set_up(
        &mut self,
        definition: Definition,
        last_cycle: i64,
    ) -> Result<(), RehearsalError> {
        let now = self.scratch.now();
        let (pool, id) = (self.scratch.store.pool(), self.workflow.workflow_id);
        let snapshot = Snapshot::open(last_cycle + 1, rules_of(&definition));
        let mut conn = pool.acquire().await?;
        let hash = definition.content_hash();
        let json = cycles::to_json(&definition, "workflow_definitions", "definition")?;
        crate::store::workflows::register(&mut conn, definition.name.as_str(), &hash, &json, now)
            .await?;
        cycles::open(&mut conn, id, &snapshot, &hash, now).await?;
        drop(conn);
        let nowhere = PathBuf::new();
        let registry = &self.scratch.registry;
        let registered =
            registry.register(&self.scratch.store, definition, &nowhere, None, now).await?;
        self.workflow = registered.0;
        Ok(())
    }

    /// Analyses and generates, puts the cost on record, and drops the copy.
    ///
    /// # Errors
    /// [`RehearsalError`]; what was paid until then is on record.
    pub async fn play(mut self) -> Result<Rehearsed, RehearsalError> {
        let played = self.played().await;
        let kept = rehearsal::keep_costs(&self.scratch.store, self.id).await;
        self.put_away().await?;
        kept?;
        played
    }

    /// Drops the copy without having paid anything.
    ///
    /// # Errors
    /// [`RehearsalError`] when the database fails; the next rehearsal drops it.
    pub async fn put_away(&mut self) -> Result<(), RehearsalError> {
        self.scratch.store.pool().close().await;
        rehearsal::drop_schema(&self.live.store, self.id).await?;
        Ok(())
    }

    async fn played(&mut self) -> Result<Rehearsed, RehearsalError> {
        let worker = Worker::new(self.scratch.clone());
        let id = self.workflow.workflow_id;
        check_workflow(&self.scratch, &worker, id).await?;
        loop {
            let worked = worker.work_once().await?;
            rehearsal::keep_costs(&self.scratch.store, self.id).await?;
            match worked {
                Worked::Done(Some(StateName::Testing | StateName::Rejected)) => {
                    return self.told().await;
                }
                Worked::Done(_) => {}
                Worked::Failed { held: false, .. } | Worked::Waits => self.hurry().await?,
                Worked::Failed { .. } | Worked::Idle | Worked::Lost => {
                    return Err(self.held().await?);
                }
            }
        }
    }

    /// A person sits before it: what is tried again is tried at once.
    async fn hurry(&self) -> Result<(), RehearsalError> {
        let pool = self.scratch.store.pool();
        let id = self.workflow.workflow_id;
        let mut conn = pool.acquire().await?;
        if let Some(open) = cycles::lock_open(&mut conn, id).await? {
            let now = self.scratch.now();
            crate::store::effects::retry_failed(&mut conn, id, open.number, now).await?;
        }
        Ok(())
    }

    async fn held(&self) -> Result<RehearsalError, RehearsalError> {
        let id = self.workflow.workflow_id;
        let mut conn = self.scratch.store.pool().acquire().await?;
        let open = cycles::lock_open(&mut conn, id).await?;
        let cycle = open.map_or(0, |open| open.number);
        let hold = holds::standing(&mut conn, id, cycle).await?.into_iter().next();
        Ok(match hold {
            Some(hold) => RehearsalError::Held { reason: reason(&hold), remedy: remedy(&hold) },
            None => RehearsalError::Advance("it stands still".to_owned()),
        })
    }

    async fn told(&self) -> Result<Rehearsed, RehearsalError> {
        let (pool, id) = (self.scratch.store.pool(), self.workflow.workflow_id);
        let costs = costs::by_cycle(pool, id, 1).await?;
        let cycle = costs.first().map_or(0, |cost| cost.cycle);
        let which = Which { cycle: Some(cycle), ..Which::newest(i64::MAX) };
        let analysis = insights::analysis(pool, id, cycle).await?;
        let mut models = Vec::new();
        for model in self.workflow.models() {
            let mut conn = pool.acquire().await?;
            let active = versions::active(&mut conn, id, model).await?;
            let newest = versions::greatest(&mut conn, id, model).await?;
            drop(conn);
            let candidate = versions::find(pool, id, model, newest).await?;
            let candidate = candidate.filter(|version| version.cycle == Some(cycle));
            models.push(RehearsedModel {
                model: model.to_owned(),
                version_now: active.map(|version| version.version),
                summary: candidate.as_ref().map(|version| version.summary.clone()),
                diff: candidate.map(|version| version.diff),
            });
        }
        Ok(Rehearsed {
            tasks: self.tasks,
            estimate_usd: self.estimate_usd.normalize(),
            cost_usd: costs.iter().map(|cost| cost.cost_usd).sum::<Decimal>().normalize(),
            calls: costs.iter().map(|cost| cost.calls).sum(),
            summary: analysis.map(|analysis| analysis.summary).unwrap_or_default(),
            insights: insights::read(pool, id, which).await?,
            models,
        })
    }
}

/// What happened, without what it means to a cycle: no live one was touched.
fn reason(hold: &HoldRow) -> String {
    let reason = hold.reason.trim_end();
    let reason = reason.strip_suffix(NOTHING_IS_LOST).unwrap_or(reason);
    format!("{}.", reason.trim_end_matches('.'))
}

/// What to do: the hold's own remedy ends with what is to be done to a cycle, and this one is gone.
fn remedy(hold: &HoldRow) -> String {
    if let Some(mended) = hold.remedy.strip_suffix(THEN_RETRY) {
        return match mended.strip_suffix(", then retry.") {
            Some(first) => format!("{first}, then rehearse again."),
            None => format!("{mended} Then rehearse again."),
        };
    }
    match hold.code.as_str() {
        "no_usable_answer" => {
            "Rehearse again; if it goes on, name a stronger model under [claude] in workflow.toml.".to_owned()
        }
        "budget_spent" => {
            "Raise claude.budget_usd_per_month in workflow.toml and start `mathesis serve` again, or wait for the next month.".to_owned()
        }
        _ => "`mathesis doctor` tells what is wrong here. Then rehearse again.".to_owned(),
    }
}

/// The definition that is rehearsed: all of the tasks open the analysis, nobody is asked, and answers come at once.
fn rehearsed(definition: &Definition, tasks: u64) -> Definition {
    let mut rehearsed = definition.clone();
    rehearsed.trigger.tasks = u32::try_from(tasks).unwrap_or(u32::MAX).max(1);
    rehearsed.approval.ask = ApprovalAsk::None;
    rehearsed.claude.batch = false;
    rehearsed
}

fn engine_on(live: &Engine, store: Store) -> Engine {
    Engine {
        store,
        registry: Registry::default(),
        worker_id: Uuid::now_v7(),
        settings: Arc::new(EngineSettings {
            root: PathBuf::new(),
            ..live.settings.as_ref().clone()
        }),
        work: Arc::new(Notify::new()),
        watch: Bell::default(),
        claims: super::claims::Claims::default(),
        ..live.clone()
    }
}

async fn estimate(
    scratch: &Engine,
    workflow_id: i64,
    definition: &Definition,
) -> Result<Decimal, StoreError> {
    let shown = usize::try_from(rehearsal::text_bytes(&scratch.store).await?).unwrap_or(usize::MAX);
    let most = usize::try_from(definition.analysis.prompt_tokens_max).unwrap_or(usize::MAX);
    let bytes = shown.saturating_add(FRAME_BYTES).min(most.saturating_mul(3));
    let keys = &definition.claude;
    let mut sum = claude::estimate(&keys.analysis_model, bytes, keys.analysis_max_tokens);
    for model in &definition.models {
        let mut conn = scratch.store.pool().acquire().await?;
        let active = versions::active(&mut conn, workflow_id, model.name.as_str()).await?;
        let documents = active.map_or(0, |version| {
            version.research_text.len()
                + version.activation_text.len()
                + version.prompt_template.len()
        });
        let bytes = documents.saturating_add(FRAME_BYTES);
        sum += claude::estimate(&keys.generation_model, bytes, keys.generation_max_tokens);
    }
    Ok(sum)
}
