//! The workflows of this process: registered from their definitions, and what the machine needs of them.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, PoisonError, RwLock};

use chrono::{DateTime, Utc};
use serde_json::Value;
use sqlx::PgConnection;

use crate::cycle::{Approval, Guard, Rules, Snapshot, State};
use crate::experiment::deck::DeckRules;
use crate::experiment::gate::GateRules;
use crate::research::{self, FilesError, Texts};
use crate::store::changes::{ChangeKind, Intent};
use crate::store::versions::NewVersion;
use crate::store::{
    Store, StoreError, automation, changes, cycles, schedules, versions, workflows,
};
use crate::workflow::Definition;
use crate::workflow::definition::{ApprovalAsk, GuardMode};

/// A workflow as the runtime knows it.
#[derive(Debug, Clone)]
pub struct Workflow {
    /// Its id, the distribution column of every table.
    pub workflow_id: i64,
    /// The definition in force for what is not part of a running cycle.
    pub definition: Arc<Definition>,
}

impl Workflow {
    /// The workflow's name.
    #[must_use]
    pub fn name(&self) -> &str {
        self.definition.name.as_str()
    }

    /// The names of the models that learn.
    pub fn models(&self) -> impl Iterator<Item = &str> {
        self.definition.models.iter().map(|model| model.name.as_str())
    }

    /// True for a model that the workflow knows; others are logged as observed.
    #[must_use]
    pub fn knows(&self, model: &str) -> bool {
        self.models().any(|known| known == model)
    }
}

/// The workflows of this process, by name. Cheap to clone; shared.
#[derive(Debug, Clone, Default)]
pub struct Registry {
    by_name: Arc<RwLock<BTreeMap<String, Workflow>>>,
}

/// Why a workflow could not be registered. It was stored wholly or not at all; [`RegistryError::fate`] says which is
/// known. Registering again is safe.
#[derive(Debug, thiserror::Error)]
pub enum RegistryError {
    /// The database failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A model's documents cannot be read.
    #[error("the documents of {model} cannot be read: {cause}")]
    Files {
        /// The model.
        model: String,
        /// What is wrong.
        cause: Box<FilesError>,
    },
    /// A model has no documents at all, so there is no version 1 to start from.
    #[error(
        "{model} has no documents: neither {folder}/{model}/activation.txt nor {folder}/{model}/research.md exists, and the workflow ships no starter documents for it. Put the team's documents there, or make the workflow from them with `mathesis workflow new --from {folder}`"
    )]
    NoDocuments {
        /// The model.
        model: String,
        /// The config folder.
        folder: String,
    },
}

impl RegistryError {
    /// What became of the registration, for people. A connection that breaks while COMMIT is under way leaves it unknown.
    #[must_use]
    pub fn fate(&self) -> &'static str {
        match self {
            Self::Store(error) if error.is_transient() => {
                "It was stored wholly or not at all; starting again is safe"
            }
            _ => "Nothing of it was stored",
        }
    }
}

impl From<sqlx::Error> for RegistryError {
    fn from(error: sqlx::Error) -> Self {
        Self::Store(StoreError::Database(error))
    }
}

impl Registry {
    /// The workflow of that name.
    #[must_use]
    pub fn find(&self, name: &str) -> Option<Workflow> {
        self.by_name.read().unwrap_or_else(PoisonError::into_inner).get(name).cloned()
    }

    /// The workflow of that id.
    #[must_use]
    pub fn by_id(&self, workflow_id: i64) -> Option<Workflow> {
        self.all().into_iter().find(|workflow| workflow.workflow_id == workflow_id)
    }

    /// Every workflow, by name.
    #[must_use]
    pub fn all(&self) -> Vec<Workflow> {
        self.by_name.read().unwrap_or_else(PoisonError::into_inner).values().cloned().collect()
    }

    fn put(&self, workflow: Workflow) {
        let name = workflow.name().to_owned();
        self.by_name.write().unwrap_or_else(PoisonError::into_inner).insert(name, workflow);
    }

    /// Reads the workflows that the database knows, for commands that attach to a running system.
    ///
    /// # Errors
    /// [`RegistryError`] when the database fails or a stored definition cannot be read.
    pub async fn attach(store: &Store) -> Result<Self, RegistryError> {
        let registry = Self::default();
        for (row, json) in workflows::list(store.pool()).await? {
            let definition = read_definition(row.workflow_id, &row.definition_hash, &json)?;
            registry
                .put(Workflow { workflow_id: row.workflow_id, definition: Arc::new(definition) });
        }
        Ok(registry)
    }

    /// Registers a definition: its row, its schedules, version 1 of each new model from the files as
    /// they stand, and its first cycle. All in one transaction; done twice, it changes nothing.
    ///
    /// `folder` is the workflow's config folder on this machine, `starter` a folder of documents that
    /// a model begins with when the config folder has none. Returns the models that left
    /// while the open cycle still had something to decide about them.
    ///
    /// # Errors
    /// [`RegistryError`]; it was stored wholly or not at all.
    pub async fn register(
        &self,
        store: &Store,
        definition: Definition,
        folder: &Path,
        starter: Option<&Path>,
        now: DateTime<Utc>,
    ) -> Result<(Workflow, Vec<String>), RegistryError> {
        let hash = definition.content_hash();
        let json = cycles::to_json(&definition, "workflow_definitions", "definition")?;
        let mut tx = store.pool().begin().await?;
        let switch = automation::keep_still(&mut tx).await?;
        let row = workflows::register(&mut tx, definition.name.as_str(), &hash, &json, now).await?;
        register_schedules(&mut tx, row.workflow_id, &definition, now).await?;
        for model in &definition.models {
            let model = model.name.as_str();
            first_version(&mut tx, row.workflow_id, &definition, model, folder, starter, now)
                .await?;
        }
        let open = cycles::lock_open(&mut tx, row.workflow_id).await?;
        let retired = open
            .as_ref()
            .map(|cycle| retired_models(&cycle.snapshot, &definition))
            .unwrap_or_default();
        if open.is_none() {
            let snapshot = Snapshot::open(1, rules_of(&definition));
            cycles::open(&mut tx, row.workflow_id, &snapshot, &hash, now).await?;
        }
        automation::join(&mut tx, &switch, row.workflow_id, now).await?;
        tx.commit().await?;
        let workflow = Workflow { workflow_id: row.workflow_id, definition: Arc::new(definition) };
        self.put(workflow.clone());
        Ok((workflow, retired))
    }
}

/// The models that the open cycle still has something to decide about and the definition no longer
/// names. Asked at every start, so that a crash before the cycle was told is made good by the next.
fn retired_models(open: &Snapshot, definition: &Definition) -> Vec<String> {
    let in_play: Vec<&str> = match &open.state {
        State::Testing { experiments } => experiments
            .iter()
            .filter(|experiment| experiment.decision.is_none())
            .map(|experiment| experiment.model.as_str())
            .collect(),
        State::Deciding { verdicts } | State::Applying { verdicts, .. } => verdicts
            .iter()
            .filter(|verdict| verdict.stands_adopted())
            .map(|verdict| verdict.model.as_str())
            .collect(),
        State::Probation { on_probation, .. } => on_probation
            .iter()
            .filter(|watched| watched.decision.is_none())
            .map(|watched| watched.adoption.model.as_str())
            .collect(),
        _ => Vec::new(),
    };
    in_play
        .into_iter()
        .filter(|model| definition.models.iter().all(|known| known.name.as_str() != *model))
        .map(str::to_owned)
        .collect()
}

async fn register_schedules(
    tx: &mut PgConnection,
    workflow_id: i64,
    definition: &Definition,
    now: DateTime<Utc>,
) -> Result<(), StoreError> {
    let timezone = definition.timezone;
    for (name, cron) in
        [("sweep", &definition.trigger.sweep), ("cleanup", &definition.retention.cleanup)]
    {
        // An expression without any next moment (30 February) is due never; far is near enough.
        let next = cron.next_after(now, timezone).unwrap_or(DateTime::<Utc>::MAX_UTC);
        schedules::register(tx, workflow_id, name, cron.as_str(), timezone.name(), next).await?;
    }
    Ok(())
}

/// Takes version 1 of a model from the files as they stand, or from the starter documents.
async fn first_version(
    tx: &mut PgConnection,
    workflow_id: i64,
    definition: &Definition,
    model: &str,
    folder: &Path,
    starter: Option<&Path>,
    now: DateTime<Utc>,
) -> Result<(), RegistryError> {
    if versions::greatest(tx, workflow_id, model).await? > 0 {
        return Ok(());
    }
    let (activation, research, source) = first_documents(folder, starter, model, definition)?;
    let texts = Texts { template: definition.prompts.enhancement.clone(), activation, research };
    let version = NewVersion {
        model_name: model.to_owned(),
        version: 1,
        content_hash: research::content_hash(&texts),
        texts,
        parent_version: None,
        edits: Vec::new(),
        lineage: Vec::new(),
        diff: String::new(),
        summary: format!("taken from {source} on the first start"),
        cycle: None,
        based_on: Vec::new(),
        is_active: true,
        created_by: "mathesis".to_owned(),
    };
    versions::insert(tx, workflow_id, &version, now).await?;
    let intent = Intent {
        kind: ChangeKind::FirstStart,
        model,
        from_version: None,
        to_version: 1,
        origin: None,
        backup_name: &changes::backup_name(now),
        summary: &version.summary,
        changed_by: "mathesis",
        reason: None,
    };
    let id = changes::intend(tx, workflow_id, &intent, now).await?;
    changes::finish(tx, workflow_id, id, None, now).await?;
    Ok(())
}

fn first_documents(
    folder: &Path,
    starter: Option<&Path>,
    model: &str,
    definition: &Definition,
) -> Result<(String, String, &'static str), RegistryError> {
    let sources = [(Some(folder), "the config folder"), (starter, "the starter documents")];
    for (source, name) in sources {
        let Some(source) = source else { continue };
        let state = research::read_model(source, model).map_err(|cause| RegistryError::Files {
            model: model.to_owned(),
            cause: Box::new(cause),
        })?;
        if state.activation.is_some() || state.research.is_some() {
            let text = |file: Option<research::FileText>| file.map(|f| f.text).unwrap_or_default();
            return Ok((text(state.activation), text(state.research), name));
        }
    }
    Err(RegistryError::NoDocuments {
        model: model.to_owned(),
        folder: definition.config_folder.clone(),
    })
}

fn read_definition(workflow_id: i64, hash: &str, json: &Value) -> Result<Definition, StoreError> {
    Definition::from_json(json).map_err(|cause| {
        let row = format!("workflow {workflow_id} definition {hash}");
        let table = "workflow_definitions";
        if Definition::hash_of(json) == hash {
            return StoreError::Newer { table, row, cause: cause.to_string() };
        }
        StoreError::corrupt(table, "definition", row, cause)
    })
}

/// The definition that a cycle started with.
///
/// # Errors
/// [`StoreError`] when the database fails or the definition cannot be read.
pub(crate) async fn definition_of_cycle(
    store: &Store,
    cycle: &cycles::CycleRow,
) -> Result<Definition, StoreError> {
    let mut conn = store.pool().acquire().await?;
    let json =
        workflows::definition_by_hash(&mut conn, cycle.workflow_id, &cycle.definition_hash).await?;
    let json = json.unwrap_or(Value::Null);
    read_definition(cycle.workflow_id, &cycle.definition_hash, &json)
}

/// The machine's rules of a stored definition.
pub(super) fn rules_of_stored(
    workflow_id: i64,
    hash: &str,
    json: &Value,
) -> Result<Rules, StoreError> {
    read_definition(workflow_id, hash, json).map(|definition| rules_of(&definition))
}

/// The part of a definition that steers the machine.
#[must_use]
pub fn rules_of(definition: &Definition) -> Rules {
    Rules {
        trigger_tasks: definition.trigger.tasks,
        gate: GateRules {
            threshold_basis_points: definition.gate.improvement_basis_points,
            scores_per_arm_min: definition.gate.scores_per_arm_min,
            score_max: u16::try_from(definition.score_max).unwrap_or(u16::MAX),
        },
        guard: match definition.guard.mode {
            GuardMode::Off => Guard::Off,
            GuardMode::Probation => Guard::Probation,
            GuardMode::Strict => Guard::Strict,
            GuardMode::Paired => Guard::Paired,
        },
        split: DeckRules { per_arm: definition.split.per_arm, block: definition.split.block },
        probation: DeckRules {
            per_arm: definition.guard.probation_tasks / 2,
            block: definition.split.block.min(definition.guard.probation_tasks),
        },
        strict_looks_max: definition.guard.strict_looks_max,
        retain_basis_points: definition.guard.retain_basis_points,
        probation_scores_per_arm_min: definition.guard.probation_scores_per_arm_min,
        approval: match definition.approval.ask {
            ApprovalAsk::None => Approval::None,
            ApprovalAsk::BeforeTest => Approval::BeforeTest,
            ApprovalAsk::BeforeApply => Approval::BeforeApply,
        },
    }
}

impl crate::task_log::WorkflowDirectory for Registry {
    fn find(&self, name: &str) -> Option<crate::task_log::WorkflowInfo> {
        let workflow = Self::find(self, name)?;
        Some(crate::task_log::WorkflowInfo {
            workflow_id: workflow.workflow_id,
            models: workflow.models().map(str::to_owned).collect(),
            score_max: u16::try_from(workflow.definition.score_max).unwrap_or(u16::MAX),
        })
    }
}
