//! The rules of a definition: each key alone, by the table in `keys`, and then the keys together.
//!
//! Every function here adds to a list of errors and goes on, so that one reading shows everything that is wrong. A key
//! that is wrong is taken out and its default stands in, so that one mistake is not told twice.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::json;
use toml::de::{DeTable, DeValue};
use toml::{Spanned, Table, Value};

use crate::workflow::definition::{Definition, Prompts};
use crate::workflow::error::DefinitionError;
use crate::workflow::keys::{Key, Rule, candidate_mode, keys_of_section, keys_of_top, unknown};
use crate::workflow::names::{InvalidName, ModelName, NAME_RULE, WorkflowName};
use crate::workflow::together::broken_rules;

/// What a model's block may hold.
const MODEL_KEYS: [&str; 2] = ["name", "mode"];

/// A file of keys that is being checked.
pub(crate) struct Sheet<'a> {
    file: &'a Path,
    text: &'a str,
    spans: Spanned<DeTable<'a>>,
    keys: &'static [Key],
    errors: Vec<DefinitionError>,
}

impl<'a> Sheet<'a> {
    /// Parses the file; the errors are those of TOML's syntax.
    pub(crate) fn parse(
        file: &'a Path,
        text: &'a str,
        keys: &'static [Key],
    ) -> Result<(Self, Table), Vec<DefinitionError>> {
        let (spans, problems) = DeTable::parse_recoverable(text);
        let sheet = Self { file, text, spans, keys, errors: Vec::new() };
        let mut errors: Vec<_> =
            problems.iter().map(|problem| sheet.syntax_error(problem)).collect();
        match text.parse::<Table>() {
            Ok(table) if errors.is_empty() => return Ok((sheet, table)),
            Err(problem) if errors.is_empty() => errors.push(sheet.syntax_error(&problem)),
            _ => errors.sort_by_key(|error| error.line),
        }
        Err(errors)
    }

    /// Checks the whole table and hands back the definition, as far as it can be built, and everything that is wrong.
    pub(super) fn check(
        mut self,
        mut table: Table,
        folder_name: &str,
        prompts: Prompts,
    ) -> (Option<Definition>, Vec<DefinitionError>) {
        self.check_name(&mut table, folder_name);
        self.check_models(&mut table);
        self.check_keys(&mut table, &["name", "models"]);
        let definition = self.build(&table, prompts);
        if let Some(definition) = &definition {
            self.check_together(definition);
        }
        (definition, self.errors)
    }

    /// Everything that was found wrong, in the order of the file.
    pub(crate) fn into_errors(self) -> Vec<DefinitionError> {
        let mut errors = self.errors;
        errors.sort_by_key(|error| error.line);
        errors
    }

    fn check_name(&mut self, table: &mut Table, folder_name: &str) {
        let path = ["name"];
        match table.remove("name") {
            None => self.refuse(
                &path,
                None,
                format!("is missing; write name = {folder_name:?}, like the folder"),
            ),
            Some(Value::String(name)) => match WorkflowName::new(name.as_str()) {
                Err(error) => self.refuse(&path, Some(&Value::String(name)), name_problem(&error)),
                Ok(_) if name == folder_name => {
                    table.insert("name".to_owned(), Value::String(name));
                    return;
                }
                Ok(_) => {
                    let problem = format!("must be the folder's name, {folder_name:?}");
                    self.refuse(&path, Some(&Value::String(name)), problem);
                }
            },
            Some(other) => self.refuse(&path, Some(&other), "must be a text in quotes".to_owned()),
        }
        table.insert("name".to_owned(), Value::String("unnamed".to_owned()));
    }

    fn check_models(&mut self, table: &mut Table) {
        let example = "write one block a model: [[models]] and under it name = \"nano-banana\"";
        let mut good = Vec::new();
        match table.remove("models") {
            None => self.refuse(&["models"], None, format!("is missing; {example}")),
            Some(Value::Array(entries)) if entries.is_empty() => {
                self.refuse(
                    &["models"],
                    Some(&Value::Array(entries)),
                    format!("must hold at least one model; {example}"),
                );
            }
            Some(Value::Array(entries)) => {
                let mut seen = BTreeMap::new();
                for (index, entry) in entries.into_iter().enumerate() {
                    if self.model_is_good(index, &entry, &mut seen) {
                        good.push(entry);
                    }
                }
            }
            Some(other) => self.refuse(
                &["models"],
                Some(&other),
                format!("must be a list of blocks; {example}"),
            ),
        }
        table.insert("models".to_owned(), Value::Array(good));
    }

    fn model_is_good(
        &mut self,
        index: usize,
        entry: &Value,
        seen: &mut BTreeMap<String, String>,
    ) -> bool {
        let position = index.to_string();
        let Some(entry) = entry.as_table() else {
            let problem = "must be a block: [[models]] and under it name = \"nano-banana\"";
            self.refuse(&["models", &position], Some(entry), problem.to_owned());
            return false;
        };
        let before = self.errors.len();
        for key in entry.keys().filter(|key| !MODEL_KEYS.contains(&key.as_str())) {
            self.refuse(
                &["models", &position, key],
                None,
                unknown(self.keys, "key of a model", key, &MODEL_KEYS),
            );
        }
        if let Some(mode) = entry.get("mode") {
            let problem = Rule::Text(candidate_mode).problem_with(mode);
            self.keep_if_good(&["models", &position, "mode"], mode, problem);
        }
        let path = ["models", &position, "name"];
        match entry.get("name") {
            None => self.refuse(&path, None, "is missing; every model has a name".to_owned()),
            Some(value @ Value::String(name)) => match ModelName::new(name.as_str()) {
                Err(error) => self.refuse(&path, Some(value), name_problem(&error)),
                Ok(_) if name.eq_ignore_ascii_case("all") => {
                    let problem =
                        "cannot be a model's name: in an insight it stands for every model";
                    self.refuse(&path, Some(value), problem.to_owned());
                }
                // Two names that differ in case only would share a folder on some file systems.
                Ok(_) => {
                    if let Some(earlier) = seen.insert(name.to_lowercase(), name.clone()) {
                        let problem =
                            format!("names the same model as {earlier:?} above; each stands once");
                        self.refuse(&path, Some(value), problem);
                    }
                }
            },
            Some(other) => self.refuse(&path, Some(other), "must be a text in quotes".to_owned()),
        }
        self.errors.len() == before
    }

    /// Checks every key by the table, and takes out what is wrong; `own` are those that the caller checks itself.
    pub(crate) fn check_keys(&mut self, table: &mut Table, own: &[&'static str]) {
        let keys = self.keys;
        table.retain(|key, value| {
            if own.contains(&key) {
                return true;
            }
            if let Some(known) = keys.iter().find(|known| known.path == key) {
                let problem = known.rule.problem_with(value);
                return self.keep_if_good(&[key], value, problem);
            }
            let section_keys = keys_of_section(keys, key);
            if section_keys.is_empty() {
                let known = keys_of_top(keys, own);
                self.refuse(&[key], None, unknown(keys, "key", key, &known));
                return false;
            }
            let Some(section) = value.as_table_mut() else {
                let problem = format!(
                    "must be a section: write [{key}] on a line of its own, its keys below"
                );
                return self.keep_if_good(&[key], value, Some(problem));
            };
            section.retain(|inner, value| {
                let path = format!("{key}.{inner}");
                let Some(known) = keys.iter().find(|known| known.path == path) else {
                    self.refuse(&[key, inner], None, unknown(keys, "key", inner, &section_keys));
                    return false;
                };
                let problem = known.rule.problem_with(value);
                self.keep_if_good(&[key, inner], value, problem)
            });
            true
        });
    }

    /// Notes a problem, if there is one; true when there is none.
    pub(crate) fn keep_if_good(
        &mut self,
        path: &[&str],
        value: &Value,
        problem: Option<String>,
    ) -> bool {
        match problem {
            None => true,
            Some(problem) => {
                self.refuse(path, Some(value), problem);
                false
            }
        }
    }

    /// Every rule has passed by now, so a failure means that a rule and a type disagree; it is told all the same.
    fn build(&mut self, table: &Table, prompts: Prompts) -> Option<Definition> {
        let mut json = serde_json::to_value(table).unwrap_or_default();
        if let Some(map) = json.as_object_mut() {
            map.insert("prompts".to_owned(), json!(prompts));
        }
        match Definition::from_json(&json) {
            Ok(definition) => Some(definition),
            Err(error) => {
                self.refuse(&[&error.key], None, error.problem);
                None
            }
        }
    }

    /// A rule over two keys is passed over if one of them is wrong by itself: its default stands in for it then, and
    /// nobody has written that.
    fn check_together(&mut self, definition: &Definition) {
        let told: Vec<_> = self.errors.iter().filter_map(|error| error.key.clone()).collect();
        for broken in broken_rules(definition) {
            let own = broken.path.join(".");
            if told.iter().any(|key| *key == own || *key == broken.other) {
                continue;
            }
            self.refuse(broken.path, Some(&Value::Integer(broken.value.into())), broken.problem);
            if let Some(error) = self.errors.last_mut().filter(|error| error.line.is_none()) {
                error.value = Some(format!("{} (the default)", broken.value));
            }
        }
    }

    /// Notes what is wrong with the key at a path.
    pub(crate) fn refuse(&mut self, path: &[&str], value: Option<&Value>, problem: String) {
        self.errors.push(DefinitionError {
            file: self.file.to_owned(),
            line: self.line_of(path),
            key: Some(path_text(path)),
            value: value.map(|value| shortened(&value.to_string())),
            problem,
        });
    }

    fn syntax_error(&self, error: &toml::de::Error) -> DefinitionError {
        let line = error.span().map(|span| line_at(self.text, span.start));
        let text = line.and_then(|line| self.text.lines().nth(line.saturating_sub(1)));
        let mut problem = format!("this is not TOML: {}", error.message().replace('\n', "; "));
        if let Some(text) = text.map(str::trim).filter(|text| !text.is_empty()) {
            problem.push_str(&format!(", in: {}", shortened(text)));
        }
        DefinitionError { file: self.file.to_owned(), line, key: None, value: None, problem }
    }

    /// The line of the key at `path`, or of the innermost part of the path that the file holds.
    fn line_of(&self, path: &[&str]) -> Option<usize> {
        let mut line = None;
        let (first, rest) = path.split_first()?;
        let mut value = step_into(self.spans.get_ref(), first, self.text, &mut line)?;
        for part in rest {
            let next = match value.get_ref() {
                DeValue::Table(table) => step_into(table, part, self.text, &mut line),
                DeValue::Array(items) => {
                    part.parse().ok().and_then(|index: usize| items.get(index))
                }
                _ => None,
            };
            let Some(next) = next else { return line };
            if matches!(value.get_ref(), DeValue::Array(_)) {
                line = Some(line_at(self.text, next.span().start));
            }
            value = next;
        }
        line
    }
}

fn step_into<'t, 'a>(
    table: &'t DeTable<'a>,
    part: &str,
    text: &str,
    line: &mut Option<usize>,
) -> Option<&'t Spanned<DeValue<'a>>> {
    let (key, value) = table.iter().find(|(key, _)| key.get_ref() == part)?;
    *line = Some(line_at(text, key.span().start));
    Some(value)
}

fn name_problem(error: &InvalidName) -> String {
    format!("cannot be used: {}; {NAME_RULE}", error.problem())
}

fn path_text(path: &[&str]) -> String {
    path.iter().fold(String::new(), |text, part| match (text.as_str(), part.parse::<usize>()) {
        ("", _) => shortened(part),
        ("models", Ok(index)) => format!("{text}[{index}]"),
        _ => format!("{text}.{}", shortened(part)),
    })
}

fn shortened(text: &str) -> String {
    let line = text.replace('\n', " ");
    if line.chars().count() <= 80 {
        line
    } else {
        line.chars().take(77).chain("...".chars()).collect()
    }
}

fn line_at(text: &str, offset: usize) -> usize {
    text.bytes().take(offset).filter(|byte| *byte == b'\n').count() + 1
}
