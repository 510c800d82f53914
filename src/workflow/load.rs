//! From a folder to a definition. Reads files, so it blocks: async callers use `spawn_blocking`.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use crate::workflow::definition::{Definition, Prompts};
use crate::workflow::error::{DefinitionError, DefinitionErrors};
use crate::workflow::keys::KEYS;
use crate::workflow::template;
use crate::workflow::together::enhancement_problems;
use crate::workflow::validate::Sheet;

/// The file of a workflow's keys, in its folder.
pub const DEFINITION_FILE: &str = "workflow.toml";

/// Where the prompt template of version 1 is, in a workflow's folder.
const ENHANCEMENT_FILE: &str = "prompts/enhancement.md";

/// Reads a workflow's folder and checks it wholly.
///
/// # Errors
/// [`DefinitionErrors`] with everything that is wrong: each names the file, the key, its value and what would be right.
/// Nothing is kept of a folder that has an error.
pub fn load(dir: &Path) -> Result<Definition, DefinitionErrors> {
    let mut errors = Vec::new();
    let text = read(&dir.join(DEFINITION_FILE), &mut errors);
    let prompts = read_prompts(dir, &mut errors);
    let definition = text
        .and_then(|text| check_keys(dir, &text, prompts.clone().unwrap_or_default(), &mut errors));

    if let Some(prompts) = &prompts {
        errors.extend(template::problems(prompts).into_iter().map(|problem| DefinitionError {
            file: dir.join(problem.file),
            line: problem.line,
            key: None,
            value: None,
            problem: problem.problem,
        }));
        if let Some(definition) = &definition {
            errors.extend(enhancement_problems(definition).into_iter().map(|(line, problem)| {
                DefinitionError {
                    file: dir.join(ENHANCEMENT_FILE),
                    line,
                    key: None,
                    value: None,
                    problem,
                }
            }));
        }
    }
    match (DefinitionErrors::from_list(errors), definition) {
        (Some(errors), _) => Err(errors),
        (None, Some(definition)) => Ok(definition),
        (None, None) => {
            Err(whole_file(&dir.join(DEFINITION_FILE), "it could not be read".to_owned()).into())
        }
    }
}

/// Reads every workflow in a folder, in the order of their names. Files and hidden folders are passed over.
///
/// # Errors
/// [`DefinitionErrors`] with everything that is wrong with any of them; none of them is taken over then.
pub fn load_all(workflows_dir: &Path) -> Result<Vec<Definition>, DefinitionErrors> {
    let folders = match folders_in(workflows_dir) {
        Ok(folders) => folders,
        Err(error) => {
            return Err(
                whole_file(workflows_dir, format!("the folder cannot be read: {error}")).into()
            );
        }
    };
    let mut definitions = Vec::new();
    let mut errors = Vec::new();
    for folder in folders {
        match load(&folder) {
            Ok(definition) => definitions.push(definition),
            Err(found) => errors.extend(found),
        }
    }
    definitions.sort_by(|a, b| a.name.cmp(&b.name));
    match DefinitionErrors::from_list(errors) {
        Some(errors) => Err(errors),
        None => Ok(definitions),
    }
}

fn folders_in(dir: &Path) -> std::io::Result<Vec<PathBuf>> {
    let mut folders = Vec::new();
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        let hidden = entry.file_name().to_string_lossy().starts_with('.');
        if !hidden && entry.path().is_dir() {
            folders.push(entry.path());
        }
    }
    folders.sort();
    Ok(folders)
}

fn check_keys(
    dir: &Path,
    text: &str,
    prompts: Prompts,
    errors: &mut Vec<DefinitionError>,
) -> Option<Definition> {
    let file = dir.join(DEFINITION_FILE);
    match Sheet::parse(&file, text, KEYS) {
        Ok((sheet, table)) => {
            let (definition, mut found) = sheet.check(table, &folder_name(dir), prompts);
            found.sort_by_key(|error| error.line);
            errors.extend(found);
            definition
        }
        Err(found) => {
            errors.extend(found);
            None
        }
    }
}

/// `.` and `..` have no name of their own; the folder behind them has.
fn folder_name(dir: &Path) -> String {
    let name = match dir.file_name() {
        Some(name) => Some(name.to_owned()),
        None => dir.canonicalize().ok().and_then(|dir| dir.file_name().map(ToOwned::to_owned)),
    };
    name.map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
}

/// `None` if any file is missing: the templates are then not tried, since an empty one would only be told again.
fn read_prompts(dir: &Path, errors: &mut Vec<DefinitionError>) -> Option<Prompts> {
    let mut read = |name: &str| read(&dir.join("prompts").join(name), errors);
    let analysis_system = read("analysis.system.md");
    let analysis_user = read("analysis.user.md");
    let generation_system = read("generation.system.md");
    let generation_user = read("generation.user.md");
    let enhancement = read("enhancement.md");
    Some(Prompts {
        analysis_system: analysis_system?,
        analysis_user: analysis_user?,
        generation_system: generation_system?,
        generation_user: generation_user?,
        enhancement: enhancement?,
    })
}

/// Reads a text and notes why it cannot be read. A byte order mark goes and line ends become LF, so that a checkout elsewhere has the same content hash.
pub(crate) fn read(file: &Path, errors: &mut Vec<DefinitionError>) -> Option<String> {
    let problem = match fs::read(file) {
        Ok(bytes) => match String::from_utf8(bytes) {
            Ok(text) => return Some(text.trim_start_matches('\u{feff}').replace("\r\n", "\n")),
            Err(error) => {
                format!("is not UTF-8, from byte {} on", error.utf8_error().valid_up_to())
            }
        },
        Err(error) if error.kind() == ErrorKind::NotFound => "the file is missing".to_owned(),
        Err(error) => format!("the file cannot be read: {error}"),
    };
    errors.push(whole_file(file, problem));
    None
}

fn whole_file(file: &Path, problem: String) -> DefinitionError {
    DefinitionError { file: file.to_owned(), line: None, key: None, value: None, problem }
}
