//! From a workflow's folder to the definition of its pipeline. Reads files, so it blocks: async callers use
//! `spawn_blocking`.

use std::path::Path;

use sha2::{Digest, Sha256};

use super::check::{KEYS, check};
use super::{PipelineDefinition, PipelineKeys, PipelinePrompts};
use crate::orchestrator::comments::{self, CommentTexts};
use crate::orchestrator::enhance::{self, EnhancePrompts};
use crate::orchestrator::validate::{self, ValidatePrompts};
use crate::workflow::load::read;
use crate::workflow::validate::Sheet;
use crate::workflow::{Definition, DefinitionError, DefinitionErrors, TemplateError};

/// The file of the pipeline's keys, in a workflow's folder.
pub const FILE: &str = "orchestrator.toml";

/// Reads the pipeline of a workflow and checks it wholly; `None` for a workflow that has none.
///
/// # Errors
/// [`DefinitionErrors`] with everything that is wrong: each names the file, the key, its value and what would be right.
pub fn load(
    dir: &Path,
    workflow: &Definition,
) -> Result<Option<PipelineDefinition>, DefinitionErrors> {
    let file = dir.join(FILE);
    if !file.exists() {
        return Ok(None);
    }
    let mut errors = Vec::new();
    let keys =
        read(&file, &mut errors).and_then(|text| keys_of(&file, &text, workflow, &mut errors));
    let prompts = read_prompts(dir, &mut errors);
    match DefinitionErrors::from_list(errors) {
        Some(errors) => Err(errors),
        None => Ok(keys.zip(prompts).map(|(keys, prompts)| PipelineDefinition { keys, prompts })),
    }
}

fn keys_of(
    file: &Path,
    text: &str,
    workflow: &Definition,
    errors: &mut Vec<DefinitionError>,
) -> Option<PipelineKeys> {
    match Sheet::parse(file, text, KEYS) {
        Ok((mut sheet, table)) => {
            let keys = check(&mut sheet, table, workflow);
            errors.extend(sheet.into_errors());
            keys
        }
        Err(found) => {
            errors.extend(found);
            None
        }
    }
}

/// `None` if any file is missing or wrong.
fn read_prompts(dir: &Path, errors: &mut Vec<DefinitionError>) -> Option<PipelinePrompts> {
    let mut read = |name: &str| read(&dir.join(name), errors);
    let enhance = read(enhance::USER_FILE);
    let (system, user) = (read(validate::SYSTEM_FILE), read(validate::USER_FILE));
    let comments = (read(comments::WINNER), read(comments::NO_WINNER), read(comments::FAILED));
    let mut tell = |problems: Vec<TemplateError>| {
        errors.extend(problems.into_iter().map(|problem| DefinitionError {
            file: dir.join(problem.file),
            line: problem.line,
            key: None,
            value: None,
            problem: problem.problem,
        }));
    };
    let enhance = enhance.and_then(|text| EnhancePrompts::new(text).map_err(&mut tell).ok());
    let validate = system.zip(user).and_then(|(system, user)| {
        let version = judge_version(&system, &user);
        ValidatePrompts::new(system, user).map_err(&mut tell).ok().map(|texts| (texts, version))
    });
    let comments = match comments {
        (Some(winner), Some(no_winner), Some(failed)) => {
            CommentTexts::new(winner, no_winner, failed).map_err(&mut tell).ok()
        }
        _ => None,
    };
    let (validate, judge_version) = validate?;
    Some(PipelinePrompts { enhance: enhance?, validate, judge_version, comments: comments? })
}

/// The first 16 digits are enough to tell the texts of one workflow apart.
fn judge_version(system: &str, user: &str) -> String {
    let mut digest = Sha256::new();
    digest.update(system.as_bytes());
    digest.update([0]);
    digest.update(user.as_bytes());
    let hash = hex::encode(digest.finalize());
    hash.get(..16).unwrap_or(&hash).to_owned()
}
