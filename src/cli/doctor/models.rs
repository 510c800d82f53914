//! What the doctor says of the Claude models that are configured, and of the key that calls them.

use std::collections::BTreeMap;
use std::path::Path;

use chrono::NaiveDate;

use super::{Finding, bad, good, note};
use crate::claude::lifecycle::{PUBLISHED_AS_OF, Stage, published_stage, successor};
use crate::claude::{AttemptError, AttemptErrorKind, ClaudeSettings, HttpClaude, cost};
use crate::clock::{Clock, SystemClock};
use crate::orchestrator::definition::{FILE, load};
use crate::settings::Settings;
use crate::workflow::load::load_all;

/// The models by name, each with the settings that name it.
type Configured = BTreeMap<String, Vec<String>>;

/// The key, and each model that a workflow or its pipeline names.
pub(super) async fn of_claude(settings: &Settings) -> Vec<Finding> {
    let configured = configured(&settings.workflows);
    let today = SystemClock.now().date_naive();
    let client = match client(settings) {
        Ok(client) => client,
        Err(finding) => return vec![finding],
    };
    let mut asked = BTreeMap::new();
    let mut failed = None;
    if let Some(client) = &client {
        for model in configured.keys() {
            match client.model(model).await {
                Ok(found) => _ = asked.insert(model.as_str(), found),
                // What failed for one fails for the next, and each would wait for its time.
                Err(error) => {
                    failed = Some(error);
                    break;
                }
            }
        }
    }
    let mut findings = vec![of_key(settings, asked.is_empty(), failed.as_ref())];
    findings.extend(configured.iter().map(|(model, named_by)| match asked.get(model.as_str()) {
        Some(Some(info)) => of_stage(model, named_by, info.stage(today), By::Api),
        Some(None) => unknown(model, named_by),
        None => of_stage(model, named_by, published_stage(model, today), By::Published),
    }));
    findings
}

fn client(settings: &Settings) -> Result<Option<HttpClaude>, Finding> {
    let Some(key) = settings.anthropic_api_key.clone() else {
        return Ok(None);
    };
    HttpClaude::new(ClaudeSettings::new(settings.anthropic_base_url.clone(), Some(key)))
        .map(Some)
        .map_err(|error| {
            bad(
                "Claude",
                error.to_string(),
                "Set ANTHROPIC_BASE_URL to where the API is, without a path.",
            )
        })
}

fn of_key(settings: &Settings, untried: bool, failed: Option<&AttemptError>) -> Finding {
    let place = &settings.anthropic_base_url;
    if settings.anthropic_api_key.is_none() {
        return note(
            "Claude",
            "ANTHROPIC_API_KEY is not set: tasks are logged and counted, and learning waits",
            "Set ANTHROPIC_API_KEY and start `mathesis serve` again; what waited goes on by itself.",
        );
    }
    match failed {
        None if untried => good("Claude", format!("a key is set, for {place}")),
        None => good("Claude", format!("the key is accepted by {place}")),
        Some(error) if refuses_the_key(error) => bad(
            "Claude",
            format!("{place} refuses the key: {}", error.message),
            "Set ANTHROPIC_API_KEY to a key of the Claude Console that is not revoked, and start `mathesis serve` again.",
        ),
        Some(error) => note(
            "Claude",
            format!(
                "a key is set, and {place} could not be asked about the models: {}",
                error.message
            ),
            "See that this machine reaches it. The dates below are those published until then.",
        ),
    }
}

fn refuses_the_key(error: &AttemptError) -> bool {
    matches!(&error.kind, AttemptErrorKind::Status { error_type: Some(kind), .. }
        if kind == "authentication_error" || kind == "permission_error")
}

/// Who says how a model stands.
#[derive(Clone, Copy)]
enum By {
    Api,
    Published,
}

fn of_stage(model: &str, named_by: &[String], stage: Stage, by: By) -> Finding {
    let check = format!("Claude model {model}");
    let source = match by {
        By::Api => "by the Models API".to_owned(),
        By::Published => format!("by the dates published until {PUBLISHED_AS_OF}"),
    };
    let on = |end: Option<NaiveDate>, word: &str| {
        end.map_or_else(String::new, |end| format!(" {word} {end}"))
    };
    match stage {
        Stage::Retired(end) => bad(
            check,
            format!("retired{}, {source}: calls to it fail", on(end, "since")),
            change(model, named_by),
        ),
        Stage::Deprecated(end) => note(
            check,
            format!("deprecated{}, {source}", on(end, "and served until")),
            change(model, named_by),
        ),
        Stage::Active if !cost::is_known_model(model) => note(
            check,
            format!(
                "not on the price list of {}, so its costs are guessed from the dearest model",
                cost::prices_as_of()
            ),
            format!("Correct the name if it is mistyped: {}.", named_by.join(", ")),
        ),
        Stage::Active => match by {
            By::Api => good(check, format!("active, {source}")),
            By::Published => good(check, format!("no end is set, {source}")),
        },
    }
}

fn unknown(model: &str, named_by: &[String]) -> Finding {
    bad(
        format!("Claude model {model}"),
        "the Models API knows none of that name: it is mistyped, or retired, or not open to this key",
        change(model, named_by),
    )
}

fn change(model: &str, named_by: &[String]) -> String {
    format!(
        "Set {} to another, such as {}, and start `mathesis serve` again; the next cycle uses it.",
        named_by.join(" and "),
        successor(model)
    )
}

/// What the workflows' folders name; what is wrong with a folder itself is said elsewhere.
fn configured(folder: &Path) -> Configured {
    let mut configured = Configured::new();
    let mut name = |model: &str, key: &str, file: std::path::PathBuf| {
        configured
            .entry(model.to_owned())
            .or_default()
            .push(format!("{key} in {}", file.display()));
    };
    for workflow in load_all(folder).unwrap_or_default() {
        let dir = folder.join(workflow.name.as_str());
        let file = || dir.join("workflow.toml");
        name(&workflow.claude.analysis_model, "claude.analysis_model", file());
        name(&workflow.claude.generation_model, "claude.generation_model", file());
        if let Ok(Some(pipeline)) = load(&dir, &workflow) {
            let keys = &pipeline.keys.claude;
            name(&keys.enhancement_model, "claude.enhancement_model", dir.join(FILE));
            name(&keys.validation_model, "claude.validation_model", dir.join(FILE));
        }
    }
    configured
}
