//! A new workflow from the model folders that are there: `mathesis workflow new`.
//!
//! The new `workflow.toml` is the shipped one with other names in it, so its comments are the shipped ones too.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::workflow::answer::ALL_MODELS;
use crate::workflow::error::DefinitionErrors;
use crate::workflow::load::{self, DEFINITION_FILE};
use crate::workflow::names::{InvalidName, ModelName, WorkflowName};

const SHIPPED_DEFINITION: &str = include_str!("../../workflows/image-editing/workflow.toml");

/// The shipped prompts, by file name.
pub(super) const SHIPPED_PROMPTS: [(&str, &str); 5] = [
    (
        "analysis.system.md",
        include_str!("../../workflows/image-editing/prompts/analysis.system.md"),
    ),
    ("analysis.user.md", include_str!("../../workflows/image-editing/prompts/analysis.user.md")),
    (
        "generation.system.md",
        include_str!("../../workflows/image-editing/prompts/generation.system.md"),
    ),
    (
        "generation.user.md",
        include_str!("../../workflows/image-editing/prompts/generation.user.md"),
    ),
    ("enhancement.md", include_str!("../../workflows/image-editing/prompts/enhancement.md")),
];

const SHIPPED_PIPELINE: &str = include_str!("../../workflows/image-editing/orchestrator.toml");

/// The shipped pipeline's file, in a workflow's folder.
const PIPELINE_FILE: &str = "orchestrator.toml";

/// The prompts of the shipped pipeline, by file name.
const PIPELINE_PROMPTS: [(&str, &str); 6] = [
    (
        "enhancement.user.md",
        include_str!("../../workflows/image-editing/prompts/enhancement.user.md"),
    ),
    (
        "validation.system.md",
        include_str!("../../workflows/image-editing/prompts/validation.system.md"),
    ),
    (
        "validation.user.md",
        include_str!("../../workflows/image-editing/prompts/validation.user.md"),
    ),
    ("comment.winner.md", include_str!("../../workflows/image-editing/prompts/comment.winner.md")),
    (
        "comment.no_winner.md",
        include_str!("../../workflows/image-editing/prompts/comment.no_winner.md"),
    ),
    ("comment.failed.md", include_str!("../../workflows/image-editing/prompts/comment.failed.md")),
];

/// Why no workflow was made. Nothing has been written, and nothing that was there has been touched.
#[derive(Debug, thiserror::Error)]
pub enum ScaffoldError {
    /// The workflow's own name cannot be used.
    #[error(transparent)]
    Name(#[from] InvalidName),
    /// A model folder's name cannot be used.
    #[error("{} cannot be a model's folder; rename it: {problem}", folder.display())]
    ModelFolder {
        /// The folder.
        folder: PathBuf,
        /// What is wrong with its name.
        problem: String,
    },
    /// No folder holds a model's files.
    #[error(
        "{} holds no model: no folder in it has an activation.txt or a research.md; name the folder that holds your models' folders",
        .0.display()
    )]
    NoModels(PathBuf),
    /// The folder's path cannot be written into a definition.
    #[error("{} cannot be a config folder; it must be UTF-8, without \"..\": give a path below this folder, or an absolute one", .0.display())]
    ConfigFolder(PathBuf),
    /// There is something at the new workflow's place.
    #[error("{} is there already and is not overwritten; choose another name, or move it away", .0.display())]
    Exists(PathBuf),
    /// The file system said no.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What it said.
        source: io::Error,
    },
    /// What was written does not pass the check; a defect of Mathesis.
    #[error("the new workflow did not pass its own check and was taken away again: {0}")]
    Check(#[from] DefinitionErrors),
}

/// Makes `out_dir/name` with a commented `workflow.toml` and the default prompts, for the models whose folders are in
/// `config_dir`, and hands back its path.
///
/// The prompts of the reference pipeline are among them, and its `orchestrator.toml` where the shipped one says of every
/// model how it is reached.
///
/// A model's folder holds an `activation.txt` or a `research.md`; folders called `backup_*` are passed over. The
/// workflow is made beside its place, checked, and moved there in one step, so a crash leaves at most a hidden folder.
///
/// # Errors
/// [`ScaffoldError`]; nothing has been made then.
pub fn new_from(config_dir: &Path, name: &str, out_dir: &Path) -> Result<PathBuf, ScaffoldError> {
    let name = WorkflowName::new(name)?;
    let place = out_dir.join(name.as_str());
    if place.symlink_metadata().is_ok() {
        return Err(ScaffoldError::Exists(place));
    }
    let config_folder = config_dir
        .to_str()
        .map(|folder| folder.trim_end_matches('/'))
        .filter(|folder| {
            !folder.is_empty() && !folder.contains("..") && !folder.contains(char::is_control)
        })
        .ok_or_else(|| ScaffoldError::ConfigFolder(config_dir.to_owned()))?;
    let models = models_in(config_dir)?;

    fs::create_dir_all(out_dir).map_err(at(out_dir))?;
    let draft =
        tempfile::Builder::new().prefix(".new-").tempdir_in(out_dir).map_err(at(out_dir))?;
    // The check compares the definition's name with its folder's, so the draft has its final name inside.
    let folder = draft.path().join(name.as_str());
    let prompts = folder.join("prompts");
    fs::create_dir_all(&prompts).map_err(at(&prompts))?;
    let definition = definition_for(&name, config_folder, &models);
    let files = SHIPPED_PROMPTS.iter().chain(&PIPELINE_PROMPTS);
    let files = files.map(|(file, text)| (prompts.join(file), *text));
    let pipeline = pipeline_for(&models);
    let pipeline = pipeline.as_deref().map(|text| (folder.join(PIPELINE_FILE), text));
    let definition = (folder.join(DEFINITION_FILE), definition.as_str());
    for (file, text) in files.chain([definition]).chain(pipeline) {
        fs::write(&file, text).map_err(at(&file))?;
    }
    load::load(&folder)?;
    fs::rename(&folder, &place).map_err(at(&place))?;
    Ok(place)
}

fn at(path: &Path) -> impl FnOnce(io::Error) -> ScaffoldError {
    let path = path.to_owned();
    move |source| ScaffoldError::Io { path, source }
}

fn models_in(config_dir: &Path) -> Result<Vec<ModelName>, ScaffoldError> {
    let mut models = Vec::new();
    for entry in fs::read_dir(config_dir).map_err(at(config_dir))? {
        let folder = entry.map_err(at(config_dir))?.path();
        let is_model =
            folder.join("activation.txt").is_file() || folder.join("research.md").is_file();
        let name = folder.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if !is_model || name.starts_with("backup_") {
            continue;
        }
        let refuse =
            |problem: String| ScaffoldError::ModelFolder { folder: folder.clone(), problem };
        if name.eq_ignore_ascii_case(ALL_MODELS) {
            return Err(refuse("in an insight, \"all\" stands for every model".to_owned()));
        }
        models.push(ModelName::new(name).map_err(|error| refuse(error.to_string()))?);
    }
    if models.is_empty() {
        return Err(ScaffoldError::NoModels(config_dir.to_owned()));
    }
    models.sort();
    Ok(models)
}

/// The shipped pipeline with the blocks of these models alone; none where it lacks one of them.
fn pipeline_for(models: &[ModelName]) -> Option<String> {
    const BLOCK: &str = "[[models]]\n";
    let mut found = 0;
    let mut kept = Vec::new();
    // No block has an empty line in it, and each is a paragraph; the first one has a comment above it.
    for paragraph in SHIPPED_PIPELINE.trim_end().split("\n\n") {
        let Some((above, block)) = paragraph.split_once(BLOCK) else {
            kept.push(paragraph.to_owned());
            continue;
        };
        let is_of =
            |model: &&ModelName| block.starts_with(&format!("name = \"{}\"\n", model.as_str()));
        if models.iter().any(|model| is_of(&model)) {
            found += 1;
            kept.push(paragraph.to_owned());
        } else if !above.is_empty() {
            kept.push(above.trim_end().to_owned());
        }
    }
    (found == models.len()).then(|| format!("{}\n", kept.join("\n\n")))
}

/// The shipped definition with other names, line by line, so that every comment stays.
fn definition_for(name: &WorkflowName, config_folder: &str, models: &[ModelName]) -> String {
    let quoted = |text: &str| toml::Value::String(text.to_owned()).to_string();
    let mut out = String::new();
    let mut in_models = false;
    for line in SHIPPED_DEFINITION.lines() {
        let key = line.split_once(" = ").map_or(line, |(key, _)| key);
        match key {
            "[[models]]" if in_models => continue,
            "[[models]]" => {
                in_models = true;
                for model in models {
                    out.push_str(&format!("[[models]]\nname = {}\n\n", quoted(model.as_str())));
                }
                continue;
            }
            // The blocks' own lines; the first comment after them ends them.
            "name" | "" if in_models => continue,
            "name" => out.push_str(&format!("name = {}", quoted(name.as_str()))),
            "description" => out.push_str("description = \"\""),
            "timezone" => out.push_str("timezone = \"UTC\""),
            "config_folder" => out.push_str(&format!("config_folder = {}", quoted(config_folder))),
            _ => {
                in_models = false;
                out.push_str(line);
            }
        }
        out.push('\n');
    }
    out
}
