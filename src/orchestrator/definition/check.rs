//! The rules of `orchestrator.toml`: each key alone, by the table here, and then the keys together.

use std::collections::BTreeSet;

use toml::{Table, Value};

use super::PipelineKeys;
use crate::workflow::Definition;
use crate::workflow::keys::{ANSWER_TOKENS_MAX, Key, Rule, claude_model, key, unknown};
use crate::workflow::validate::Sheet;

/// Every key but those of `[[models]]`, which are checked one block after another.
pub(super) const KEYS: &[Key] = &[
    key("clickup.lists", Rule::TextList(list_id)),
    key("clickup.ready_status", Rule::Text(status)),
    key("clickup.working_status", Rule::Text(status)),
    key("clickup.done_status", Rule::Text(status)),
    key("clickup.person_status", Rule::Text(status)),
    key("clickup.type_field", Rule::Text(field_name)),
    key("clickup.category_field", Rule::Text(field_name)),
    key("run.iterations_max", Rule::Integer(1, 10)),
    key("run.at_once", Rule::Integer(1, 200)),
    key("run.picture_megabytes_max", Rule::Integer(1, 100)),
    key("claude.enhancement_model", Rule::Text(claude_model)),
    key("claude.enhancement_max_tokens", Rule::Integer(256, ANSWER_TOKENS_MAX)),
    key("claude.validation_model", Rule::Text(claude_model)),
    key("claude.validation_max_tokens", Rule::Integer(256, ANSWER_TOKENS_MAX)),
    key("claude.request_retries_max", Rule::Integer(0, 10)),
    key("claude.answers_refused_max", Rule::Integer(0, 10)),
    key("wavespeed.submits_per_minute", Rule::Integer(1, 100_000)),
    key("wavespeed.concurrent_max", Rule::Integer(1, 10_000)),
    key("timeouts.clickup_seconds", Rule::Integer(1, 600)),
    key("timeouts.wavespeed_seconds", Rule::Integer(1, 600)),
    key("timeouts.claude_seconds", Rule::Integer(1, 3600)),
    key("timeouts.download_seconds", Rule::Integer(1, 600)),
    key("timeouts.poll_seconds", Rule::Integer(1, 60)),
    key("timeouts.generation_seconds", Rule::Integer(1, 7200)),
    key("waiting.first_seconds", Rule::Integer(1, 3600)),
    key("waiting.delay_max_seconds", Rule::Integer(1, 86_400)),
    key("waiting.give_up_hours", Rule::Integer(1, 720)),
    key("waiting.picture_minutes", Rule::Integer(0, 1440)),
    key("waiting.straggler_minutes", Rule::Integer(0, 1440)),
    key("rounds.sweep_minutes", Rule::Integer(1, 1440)),
    key("rounds.feedback_minutes", Rule::Integer(1, 1440)),
    key("rounds.kept_after_days", Rule::Integer(1, 365)),
];

const STATUSES: [&str; 4] = ["ready_status", "working_status", "done_status", "person_status"];
const MODEL_KEYS: [&str; 6] =
    ["name", "endpoint", "price_usd", "side_min_px", "side_max_px", "body"];

/// Checks the whole table; `None` when something is wrong, which the sheet then knows.
pub(super) fn check(
    sheet: &mut Sheet<'_>,
    mut table: Table,
    workflow: &Definition,
) -> Option<PipelineKeys> {
    require_statuses(sheet, &mut table);
    check_models(sheet, &mut table, workflow);
    sheet.check_keys(&mut table, &["models"]);
    let json = serde_json::to_value(&table).unwrap_or_default();
    match serde_path_to_error::deserialize::<_, PipelineKeys>(&json) {
        Ok(definition) => {
            check_together(sheet, &definition, workflow);
            Some(definition)
        }
        Err(error) => {
            sheet.refuse(&[&error.path().to_string()], None, error.inner().to_string());
            None
        }
    }
}

/// The four statuses have no default: what they are called is the list's own.
fn require_statuses(sheet: &mut Sheet<'_>, table: &mut Table) {
    let section = table.entry("clickup").or_insert_with(|| Value::Table(Table::new()));
    let Some(section) = section.as_table_mut() else { return };
    for name in STATUSES {
        let good =
            section.get(name).and_then(Value::as_str).is_some_and(|text| status(text).is_none());
        if good {
            continue;
        }
        match section.get(name) {
            None => {
                let problem = "is missing; write a status of the list, such as \"ready for edit\"";
                sheet.refuse(&["clickup", name], None, problem.to_owned());
            }
            Some(value) => {
                let problem = Rule::Text(status).problem_with(value).unwrap_or_default();
                sheet.refuse(&["clickup", name], Some(value), problem);
            }
        }
        // A status that nothing else has stands in, so that one mistake is not told twice.
        section.insert(name.to_owned(), Value::String(format!("({name})")));
    }
}

fn check_models(sheet: &mut Sheet<'_>, table: &mut Table, workflow: &Definition) {
    let known: Vec<&str> = workflow.models.iter().map(|model| model.name.as_str()).collect();
    let mut seen = BTreeSet::new();
    let mut good = Vec::new();
    match table.remove("models") {
        None => {}
        Some(Value::Array(blocks)) => {
            for (index, block) in blocks.into_iter().enumerate() {
                if model_is_good(sheet, index, &block, &known, &mut seen) {
                    good.push(block);
                }
            }
        }
        Some(other) => {
            let problem = "must be a list of blocks: write one [[models]] a model";
            sheet.refuse(&["models"], Some(&other), problem.to_owned());
        }
    }
    for name in known.iter().filter(|name| !seen.contains(**name)) {
        sheet.refuse(
            &["models"],
            None,
            format!(
                "has no block for {name:?}, which workflow.toml names; write [[models]] and under it name = {name:?}, endpoint and price_usd"
            ),
        );
    }
    table.insert("models".to_owned(), Value::Array(good));
}

fn model_is_good(
    sheet: &mut Sheet<'_>,
    index: usize,
    block: &Value,
    known: &[&str],
    seen: &mut BTreeSet<String>,
) -> bool {
    let position = index.to_string();
    let at = |key: &'static str| ["models".to_owned(), position.clone(), key.to_owned()];
    let Some(block) = block.as_table() else {
        sheet.refuse(&["models", &position], Some(block), "must be a block: [[models]]".to_owned());
        return false;
    };
    let mut good = true;
    let mut refuse = |path: &[String], value: Option<&Value>, problem: String| {
        let path: Vec<&str> = path.iter().map(String::as_str).collect();
        sheet.refuse(&path, value, problem);
        good = false;
    };
    for key in block.keys().filter(|key| !MODEL_KEYS.contains(&key.as_str())) {
        let path = ["models".to_owned(), position.clone(), key.clone()];
        refuse(&path, None, unknown(KEYS, "key of a model", key, &MODEL_KEYS));
    }
    match block.get("name") {
        None => refuse(&at("name"), None, format!("is missing; it is one of {}", known.join(", "))),
        Some(value) => match value.as_str() {
            Some(name) if !known.contains(&name) => {
                let problem =
                    format!("is no model of workflow.toml, which names {}", known.join(", "));
                refuse(&at("name"), Some(value), problem);
            }
            Some(name) if !seen.insert(name.to_owned()) => {
                refuse(
                    &at("name"),
                    Some(value),
                    "stands twice; each model has one block".to_owned(),
                );
            }
            Some(_) => {}
            None => refuse(&at("name"), Some(value), "must be a text in quotes".to_owned()),
        },
    }
    let required = [("endpoint", Rule::Text(endpoint)), ("price_usd", Rule::Money)];
    for (key, rule) in required {
        match block.get(key) {
            None => {
                let example =
                    if key == "endpoint" { "\"google/nano-banana/edit\"" } else { "\"0.03\"" };
                refuse(&at(key), None, format!("is missing; write it such as {key} = {example}"));
            }
            Some(value) => {
                if let Some(problem) = rule.problem_with(value) {
                    refuse(&at(key), Some(value), problem);
                }
            }
        }
    }
    for key in ["side_min_px", "side_max_px"] {
        if let Some(value) = block.get(key)
            && let Some(problem) = Rule::Integer(1, 16_384).problem_with(value)
        {
            refuse(&at(key), Some(value), problem);
        }
    }
    if let Some(problem) = block.get("body").and_then(body_problem) {
        refuse(&at("body"), block.get("body"), problem);
    }
    good
}

/// What the body must not hold: what each run fills in, and what would change the form of the answer.
fn body_problem(body: &Value) -> Option<String> {
    let Some(body) = body.as_table() else {
        return Some("must be a section: write [models.body] under its model".to_owned());
    };
    let filled_in = ["prompt", "images"].into_iter().find(|key| body.contains_key(*key));
    if let Some(key) = filled_in {
        return Some(format!("must not hold {key:?}, which each run fills in"));
    }
    let switched_on = ["enable_sync_mode", "enable_base64_output"]
        .into_iter()
        .find(|key| body.get(*key).is_some_and(|value| value.as_bool() != Some(false)));
    if let Some(key) = switched_on {
        return Some(format!(
            "must not set {key:?}: pictures are polled for and read from their address"
        ));
    }
    let odd = body.iter().find(|(_, value)| value.is_datetime());
    odd.map(|(key, _)| {
        format!("holds a date under {key:?}, which JSON does not know; put it in quotes")
    })
}

fn check_together(sheet: &mut Sheet<'_>, definition: &PipelineKeys, workflow: &Definition) {
    let keys = &definition.clickup;
    let statuses =
        [&keys.ready_status, &keys.working_status, &keys.done_status, &keys.person_status];
    for (index, name) in STATUSES.iter().enumerate().skip(1) {
        let twin =
            (0..index).find(|earlier| super::same_status(statuses[*earlier], statuses[index]));
        if let Some(earlier) = twin {
            let value = Value::String(statuses[index].clone());
            let problem = format!(
                "must differ from {}: a task that was worked on must not look as if it were to be",
                STATUSES[earlier]
            );
            sheet.refuse(&["clickup", name], Some(&value), problem);
        }
    }
    for (index, model) in definition.models.iter().enumerate() {
        if model.side_min_px > model.side_max_px {
            let value = Value::Integer(model.side_min_px.into());
            let problem = format!("must be at most side_max_px, which is {}", model.side_max_px);
            sheet.refuse(&["models", &index.to_string(), "side_min_px"], Some(&value), problem);
        }
    }
    let waiting = &definition.waiting;
    if waiting.first_seconds > waiting.delay_max_seconds {
        let value = Value::Integer(waiting.delay_max_seconds.into());
        let problem =
            format!("must be at least waiting.first_seconds, which is {}", waiting.first_seconds);
        sheet.refuse(&["waiting", "delay_max_seconds"], Some(&value), problem);
    }
    let silent = workflow.timeouts.run_silent_hours;
    if waiting.give_up_hours >= silent {
        let value = Value::Integer(waiting.give_up_hours.into());
        let problem = format!(
            "must be less than timeouts.run_silent_hours of workflow.toml, which is {silent}, or the run would have ended as abandoned before"
        );
        sheet.refuse(&["waiting", "give_up_hours"], Some(&value), problem);
    }
    let (kept, days) = (definition.rounds.kept_after_days, workflow.retention.days);
    if kept >= days {
        let value = Value::Integer(kept.into());
        let problem = format!(
            "must be less than retention.days of workflow.toml, which is {days}, or the run would be gone before"
        );
        sheet.refuse(&["rounds", "kept_after_days"], Some(&value), problem);
    }
}

fn status(text: &str) -> Option<String> {
    let good =
        !text.trim().is_empty() && text.chars().count() <= 100 && !text.contains(char::is_control);
    (!good).then(|| "must be a status of the list, such as \"ready for edit\"".to_owned())
}

fn field_name(text: &str) -> Option<String> {
    let good = text.chars().count() <= 200 && !text.contains(char::is_control);
    (!good).then(|| "must be the name of a custom field, or empty".to_owned())
}

fn list_id(text: &str) -> Option<String> {
    let good = (1..=50).contains(&text.len())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
    (!good).then(|| {
        "is no list's id; it is the number in the list's address, such as \"162641062\"".to_owned()
    })
}

fn endpoint(text: &str) -> Option<String> {
    let part = |part: &str| {
        !part.is_empty()
            && part != "."
            && part != ".."
            && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte))
    };
    let good = text.len() <= 200 && text.contains('/') && text.split('/').all(part);
    (!good).then(|| {
        "must be WaveSpeed's path of the model, without host and version, such as \"google/nano-banana/edit\"".to_owned()
    })
}
