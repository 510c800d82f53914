//! A conflict as people look at it: for each document what they changed, what changed since, and both together.

use serde::Serialize;
use utoipa::ToSchema;

use super::engine::Engine;
use crate::research::{ConfigFile, ThreeWay, three_way};
use crate::store::StoreError;
use crate::store::conflicts::{self, Conflict};
use crate::store::versions::{self, Version};

/// A conflict with its three-way comparison.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct ConflictShown {
    /// The conflict.
    #[serde(flatten)]
    pub conflict: Conflict,
    /// The version that serves: theirs.
    pub active_version: i32,
    /// What the edit is compared from: the version that the marker names, else the active one.
    pub compared_from: i32,
    /// `activation.txt` and `research.md`.
    pub documents: Vec<DocumentShown>,
}

/// One file of a conflict.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct DocumentShown {
    /// The file's name.
    pub file: &'static str,
    /// Why there is no text of it to compare: `missing` or `too_long`.
    pub absent: Option<&'static str>,
    /// The comparison; none where there is no text.
    #[serde(flatten)]
    #[schema(ignore)]
    pub compared: Option<ThreeWay>,
}

/// A conflict of a workflow; none when there is no such one.
///
/// # Errors
/// [`StoreError`] when the database fails, or holds no version to compare with.
pub async fn conflict_shown(
    engine: &Engine,
    workflow_id: i64,
    conflict_id: i64,
) -> Result<Option<ConflictShown>, StoreError> {
    let pool = engine.store.pool();
    let Some(conflict) = conflicts::find(pool, workflow_id, conflict_id).await? else {
        return Ok(None);
    };
    let Some(edited) = conflicts::texts(pool, workflow_id, conflict_id).await? else {
        return Ok(None);
    };
    let model = &conflict.model_name;
    let mut conn = pool.acquire().await?;
    let active = versions::active(&mut conn, workflow_id, model).await?.ok_or_else(|| {
        let row = format!("workflow {workflow_id} model {model}");
        StoreError::corrupt("prompt_versions", "is_active", row, "no version is active")
    })?;
    drop(conn);
    let named = match conflict.base_version {
        Some(number) => versions::find(pool, workflow_id, model, number).await?,
        None => None,
    };
    let base = named.as_ref().unwrap_or(&active);
    let files = conflict.files();
    let documents = ConfigFile::ALL
        .into_iter()
        .map(|file| {
            let mine = match file {
                ConfigFile::Activation => edited.activation_text.as_deref(),
                ConfigFile::Research => edited.research_text.as_deref(),
            };
            let absent = match (files.get(file), mine) {
                (None, _) => Some("missing"),
                (Some(_), None) => Some("too_long"),
                _ => None,
            };
            let compared = mine
                .map(|mine| three_way(file.file_name(), of(base, file), mine, of(&active, file)));
            DocumentShown { file: file.file_name(), absent, compared }
        })
        .collect();
    let (active_version, compared_from) = (active.version, base.version);
    Ok(Some(ConflictShown { conflict, active_version, compared_from, documents }))
}

fn of(version: &Version, file: ConfigFile) -> &str {
    match file {
        ConfigFile::Activation => &version.activation_text,
        ConfigFile::Research => &version.research_text,
    }
}
