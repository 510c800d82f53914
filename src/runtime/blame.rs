//! Blame and why: from a section, or from a picture, to the insights and tasks that it goes back to.

use std::collections::{BTreeSet, HashMap};

use serde::Serialize;
use utoipa::ToSchema;

use crate::research::blame::{Step, blame};
use crate::research::{Operation, Texts, Which, kept_prefix_bytes};
use crate::store::blame::{self as rows, AttemptRow, Gain, Reason, RunRow};
use crate::store::{Store, StoreError, versions};

/// Why blame has no answer. Nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum BlameError {
    /// The model has no such version.
    #[error("{model} has no version {version}; `mathesis version list` shows those it has")]
    UnknownVersion {
        /// The model.
        model: String,
        /// What was asked for.
        version: i32,
    },
    /// No version of the model is active, so it is not one of the workflow's.
    #[error("{0} has no active version; `mathesis version list` shows the models")]
    UnknownModel(String),
    /// The task was never logged, or retention has removed it.
    #[error("there is no task {0:?}: it was never logged here, or it is older than what is kept")]
    UnknownTask(String),
    /// The run chose no picture.
    #[error(
        "task {task:?} has no chosen picture; name a model, one of: {}", models.join(", ")
    )]
    NoWinner {
        /// The task.
        task: String,
        /// The models that tried.
        models: Vec<String>,
    },
    /// The model did not try this task.
    #[error("{model} made no attempt at task {task:?}; those that did: {}", models.join(", "))]
    NoAttempt {
        /// The task.
        task: String,
        /// The model asked for.
        model: String,
        /// The models that tried.
        models: Vec<String>,
    },
    /// Nobody logged which version made the picture.
    #[error(
        "nothing says which prompt version {model} used for task {task:?}: its events name none, and it was assigned none"
    )]
    NoVersion {
        /// The task.
        task: String,
        /// The model.
        model: String,
    },
    /// The database failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl BlameError {
    /// A stable name for programs.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::UnknownVersion { .. } => "unknown_version",
            Self::UnknownModel(_) => "unknown_model",
            Self::UnknownTask(_) => "unknown_task",
            Self::NoWinner { .. } => "no_winner",
            Self::NoAttempt { .. } => "no_attempt",
            Self::NoVersion { .. } => "no_version_recorded",
            Self::Store(_) => "internal",
        }
    }
}

/// A version, section by section.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct VersionBlame {
    /// The model.
    pub model: String,
    /// The version.
    pub version: i32,
    /// How much of its parent's documents the prompt cache still has.
    pub kept: Vec<Kept>,
    /// Its sections, in the order in which they stand: template, activation, research.
    pub sections: Vec<BlamedSection>,
}

/// How much of a document stands at its beginning as the parent has it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
#[schema(as = KeptDocument)]
pub struct Kept {
    /// The document.
    pub document: Which,
    /// Its size.
    pub bytes: usize,
    /// So many bytes at its beginning are the parent's.
    pub kept_prefix_bytes: usize,
}

/// A section, and what put it there.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct BlamedSection {
    /// The document.
    pub document: Which,
    /// The section's id.
    pub section: String,
    /// Its heading; empty for what stands before the first one.
    pub heading: String,
    /// Its size.
    pub bytes: usize,
    /// The version in which it first stood, under whatever name and in whatever place.
    pub since_version: i32,
    /// True where versions from before edits were kept may have changed it, too.
    pub incomplete: bool,
    /// The edits that made it what it is, the newest first; none for what the first version had.
    pub edits: Vec<BlamedEdit>,
}

/// An edit with its reasons, and what came of the version that it made.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct BlamedEdit {
    /// The version that it made.
    pub version: i32,
    /// The cycle that generated it.
    pub cycle: Option<i64>,
    /// What it did.
    pub operation: Operation,
    /// The section's id in that version.
    pub section: String,
    /// The insights that it rests on, with example tasks.
    pub because: Vec<Reason>,
    /// What that version gained in its test, which is the gain of all its edits together.
    pub gained: Option<Gain>,
}

/// Why a picture looks as it does.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct Why {
    /// The task.
    pub task: String,
    /// The run, and the model that it chose.
    #[serde(flatten)]
    pub run: RunRow,
    /// Every attempt of the run.
    pub attempts: Vec<AttemptRow>,
    /// The attempt that is explained: the chosen one, or the model's last.
    pub attempt: AttemptRow,
    /// The sections that the attempt's prompt was written by, and where they come from.
    pub blame: VersionBlame,
}

/// The blame of a version; of the active one where none is named.
///
/// # Errors
/// [`BlameError`] when there is no such version, or the database fails.
pub async fn version_blame(
    store: &Store,
    workflow_id: i64,
    model: &str,
    version: Option<i32>,
) -> Result<VersionBlame, BlameError> {
    let pool = store.pool();
    let found = match version {
        Some(version) => versions::find(pool, workflow_id, model, version)
            .await?
            .ok_or_else(|| BlameError::UnknownVersion { model: model.to_owned(), version })?,
        None => {
            let mut conn = pool.acquire().await.map_err(StoreError::from)?;
            versions::active(&mut conn, workflow_id, model)
                .await?
                .ok_or_else(|| BlameError::UnknownModel(model.to_owned()))?
        }
    };
    let texts = found.texts();
    let parent = match found.parent_version {
        Some(parent) => versions::find(pool, workflow_id, model, parent).await?,
        None => None,
    };
    let chain = rows::chain(pool, workflow_id, model, found.version).await?;
    let sections = sections(store, workflow_id, model, &texts, &chain).await?;
    let kept = parent.map(|parent| kept(&parent.texts(), &texts)).unwrap_or_default();
    Ok(VersionBlame { model: model.to_owned(), version: found.version, kept, sections })
}

fn kept(old: &Texts, new: &Texts) -> Vec<Kept> {
    let documents = [
        (Which::Template, &old.template, &new.template),
        (Which::Activation, &old.activation, &new.activation),
        (Which::Research, &old.research, &new.research),
    ];
    let kept = |(document, old, new): (Which, &String, &String)| Kept {
        document,
        bytes: new.len(),
        kept_prefix_bytes: kept_prefix_bytes(old, new),
    };
    documents.map(kept).into()
}

async fn sections(
    store: &Store,
    workflow_id: i64,
    model: &str,
    texts: &Texts,
    chain: &[Step],
) -> Result<Vec<BlamedSection>, StoreError> {
    let blamed = blame(texts, chain);
    let touches = || blamed.iter().flat_map(|section| &section.touches);
    let handles: BTreeSet<String> =
        touches().flat_map(|touch| touch.because.iter().cloned()).collect();
    let numbers: BTreeSet<i32> = touches().map(|touch| touch.version).collect();
    let pool = store.pool();
    let handles: Vec<String> = handles.into_iter().collect();
    let numbers: Vec<i32> = numbers.into_iter().collect();
    let reasons = rows::reasons(pool, workflow_id, &handles).await?;
    let reasons: HashMap<&str, &Reason> =
        reasons.iter().map(|reason| (reason.insight.as_str(), reason)).collect();
    let gains = rows::gains(pool, workflow_id, model, &numbers).await?;
    let edit = |touch: &crate::research::blame::Touch| BlamedEdit {
        version: touch.version,
        cycle: touch.cycle,
        operation: touch.operation,
        section: touch.section.clone(),
        because: touch
            .because
            .iter()
            .filter_map(|handle| reasons.get(handle.as_str()).map(|reason| (*reason).clone()))
            .collect(),
        gained: gains.iter().find(|gain| gain.version == touch.version).cloned(),
    };
    Ok(blamed
        .iter()
        .map(|section| BlamedSection {
            document: section.document,
            section: section.section.clone(),
            heading: section.heading.clone(),
            bytes: section.bytes,
            since_version: section.since_version,
            incomplete: section.incomplete,
            edits: section.touches.iter().map(edit).collect(),
        })
        .collect())
}

/// Why a task's picture looks as it does: the chosen one, or the last one of `model`; of the newest
/// run where none is named.
///
/// # Errors
/// [`BlameError`] when there is no such task or picture, nothing says which version made it, or the
/// database fails.
pub async fn why(
    store: &Store,
    workflow_id: i64,
    task: &str,
    run: Option<&str>,
    model: Option<&str>,
) -> Result<Why, BlameError> {
    let pool = store.pool();
    let run = rows::run_of(pool, workflow_id, task, run)
        .await?
        .ok_or_else(|| BlameError::UnknownTask(task.to_owned()))?;
    let attempts = rows::attempts_of(pool, workflow_id, run.id).await?;
    let attempt = explained(task, &run, &attempts, model)?.clone();
    let version = attempt.version.ok_or_else(|| BlameError::NoVersion {
        task: task.to_owned(),
        model: attempt.model.clone(),
    })?;
    let blame = version_blame(store, workflow_id, &attempt.model, Some(version)).await?;
    Ok(Why { task: task.to_owned(), run, attempts, attempt, blame })
}

fn explained<'a>(
    task: &str,
    run: &RunRow,
    attempts: &'a [AttemptRow],
    model: Option<&str>,
) -> Result<&'a AttemptRow, BlameError> {
    let tried = || {
        let models: BTreeSet<String> =
            attempts.iter().map(|attempt| attempt.model.clone()).collect();
        models.into_iter().collect()
    };
    let Some(wanted) = model.or(run.winner_model.as_deref()) else {
        return Err(BlameError::NoWinner { task: task.to_owned(), models: tried() });
    };
    let own = || attempts.iter().filter(|attempt| attempt.model == wanted);
    own().find(|attempt| attempt.selected).or_else(|| own().next_back()).ok_or_else(|| {
        BlameError::NoAttempt { task: task.to_owned(), model: wanted.to_owned(), models: tried() }
    })
}
