//! The keys that `workflow.toml` may hold, and the rule of each: one table, so that no key can be read unchecked.

use std::collections::BTreeSet;

use chrono_tz::{TZ_VARIANTS, Tz};
use rust_decimal::Decimal;
use toml::Value;

use crate::analysis::Tags;
use crate::report::Language;
use crate::workflow::definition::NotifyKind;
use crate::workflow::placeholders;
use crate::workflow::schedule::CronExpression;

/// Tokens that one answer may take at most, since answers are not streamed: a longer one would outlive the connection.
pub(crate) const ANSWER_TOKENS_MAX: i64 = 21_333;

/// From which likeness on, 0 to 1, a word is taken for a misspelt key.
const ALIKE_MIN: f64 = 0.65;

/// What a text must be: `None` if it is right, else what is wrong and what would be right.
pub(crate) type TextCheck = fn(&str) -> Option<String>;

/// What a key's value must be.
pub(crate) enum Rule {
    /// A whole number within these bounds, both included.
    Integer(i64, i64),
    /// `true` or `false`.
    Boolean,
    /// A text that passes the check.
    Text(TextCheck),
    /// A list of texts, none twice, that each pass the check.
    TextList(TextCheck),
    /// An amount above zero, as a text or a whole number.
    Money,
}

/// One key and its rule.
pub(crate) struct Key {
    pub(crate) path: &'static str,
    pub(crate) rule: Rule,
}

/// Every key of `workflow.toml` but `name` and `models`, which `validate` reads itself because they are required.
pub(super) const KEYS: &[Key] = &[
    key("description", Rule::Text(description)),
    key("timezone", Rule::Text(timezone)),
    key("score_max", Rule::Integer(1, 1000)),
    key("pass_score", Rule::Integer(0, 1000)),
    key("config_folder", Rule::Text(config_folder)),
    key("trigger.tasks", Rule::Integer(1, 100_000)),
    key("trigger.sweep", Rule::Text(cron)),
    key("split.per_arm", Rule::Integer(1, 200)),
    key("split.block", Rule::Integer(2, 400)),
    key("gate.improvement_basis_points", Rule::Integer(1, 100_000)),
    key("gate.scores_per_arm_min", Rule::Integer(1, 200)),
    key("gate.skip_at_ceiling", Rule::Boolean),
    key("guard.mode", Rule::Text(guard_mode)),
    key("guard.probation_tasks", Rule::Integer(2, 400)),
    key("guard.retain_basis_points", Rule::Integer(0, 100_000)),
    key("guard.probation_scores_per_arm_min", Rule::Integer(1, 200)),
    key("guard.probation_days", Rule::Integer(1, 365)),
    key("guard.strict_looks_max", Rule::Integer(1, 5)),
    key("watch.tolerance_basis_points", Rule::Integer(0, 10_000)),
    key("watch.on_alarm", Rule::Text(on_alarm)),
    key("approval.ask", Rule::Text(approval_ask)),
    key("notify.url", Rule::Text(web_address)),
    key("notify.kinds", Rule::TextList(notify_kind)),
    key("notify.secret_env", Rule::Text(variable_name)),
    key("notify.allow_private", Rule::Boolean),
    key("notify.language", Rule::Text(language)),
    key("notify.dashboard_url", Rule::Text(web_address)),
    key("timeouts.run_silent_hours", Rule::Integer(1, 8760)),
    key("timeouts.slot_score_hours", Rule::Integer(1, 720)),
    key("timeouts.test_days", Rule::Integer(1, 365)),
    key("timeouts.lease_seconds", Rule::Integer(5, 3600)),
    key("timeouts.deals_again_max", Rule::Integer(0, 1000)),
    key("timeouts.claude_call_seconds", Rule::Integer(10, 3600)),
    key("retry.attempts_max", Rule::Integer(1, 100)),
    key("retry.first_delay_seconds", Rule::Integer(1, 86_400)),
    key("retry.delay_max_seconds", Rule::Integer(1, 604_800)),
    key("retention.days", Rule::Integer(1, 36_500)),
    key("retention.cleanup", Rule::Text(cron)),
    key("claude.analysis_model", Rule::Text(claude_model)),
    key("claude.analysis_max_tokens", Rule::Integer(1024, ANSWER_TOKENS_MAX)),
    key("claude.generation_model", Rule::Text(claude_model)),
    key("claude.generation_max_tokens", Rule::Integer(1024, ANSWER_TOKENS_MAX)),
    key("claude.batch", Rule::Boolean),
    key("claude.request_retries_max", Rule::Integer(0, 10)),
    key("claude.budget_usd_per_month", Rule::Money),
    key("claude.analysis_tasks_max", Rule::Integer(1, 2000)),
    key("claude.answers_refused_max", Rule::Integer(0, 10)),
    key("analysis.prompt_tokens_max", Rule::Integer(5_000, 900_000)),
    key("analysis.earlier_insights_max", Rule::Integer(0, 200)),
    key("analysis.failure_tags", Rule::TextList(failure_tag)),
    key("documents.mode", Rule::Text(candidate_mode)),
    key("documents.required_placeholders", Rule::TextList(placeholder)),
    key("documents.size_change_percent_max", Rule::Integer(1, 1000)),
    key("documents.template_bytes_max", Rule::Integer(100, 1_000_000)),
    key("documents.activation_bytes_max", Rule::Integer(100, 1_000_000)),
    key("documents.research_bytes_max", Rule::Integer(100, 10_000_000)),
    key("documents.frozen_sections", Rule::TextList(heading)),
    key("documents.quotation_characters_max", Rule::Integer(10, 1_000)),
];

pub(crate) const fn key(path: &'static str, rule: Rule) -> Key {
    Key { path, rule }
}

impl Rule {
    /// What is wrong with a value, and what would be right; `None` if nothing is.
    pub(crate) fn problem_with(&self, value: &Value) -> Option<String> {
        match (self, value) {
            (Self::Integer(min, max), Value::Integer(number)) if (min..=max).contains(&number) => {
                None
            }
            (Self::Integer(min, max), _) => {
                Some(format!("must be a whole number from {min} to {max}"))
            }
            (Self::Boolean, Value::Boolean(_)) => None,
            (Self::Boolean, _) => Some("must be true or false".to_owned()),
            (Self::Text(check), Value::String(text)) => check(text),
            (Self::Text(_), _) => Some("must be a text in quotes".to_owned()),
            (Self::TextList(check), Value::Array(items)) => list_problem(*check, items),
            (Self::TextList(_), _) => {
                Some("must be a list of texts in brackets, such as [\"one\", \"two\"]".to_owned())
            }
            (Self::Money, value) => money_problem(value),
        }
    }
}

/// The keys of a section; empty if there is no such section.
pub(crate) fn keys_of_section(keys: &[Key], section: &str) -> Vec<&'static str> {
    keys.iter()
        .filter_map(|key| key.path.split_once('.'))
        .filter(|(own, _)| *own == section)
        .map(|(_, leaf)| leaf)
        .collect()
}

/// Keys that stand outside any section, and the sections' own names; `own` are those that the table does not hold.
pub(crate) fn keys_of_top(keys: &[Key], own: &[&'static str]) -> Vec<&'static str> {
    let mut names: Vec<_> =
        keys.iter().map(|key| key.path.split('.').next().unwrap_or(key.path)).collect();
    names.dedup();
    own.iter().copied().chain(names).collect()
}

/// That there is no such key, and which was meant.
pub(crate) fn unknown(keys: &[Key], noun: &str, word: &str, known: &[&str]) -> String {
    if let Some(near) = nearest(word, known) {
        return format!("is no {noun} that Mathesis knows; did you mean {near:?}?");
    }
    // The right key under the wrong heading is the commonest slip after a misspelling.
    let leaves: Vec<_> = keys.iter().filter_map(|key| key.path.rsplit('.').next()).collect();
    let elsewhere = nearest(word, &leaves)
        .and_then(|leaf| keys.iter().find(|key| key.path.rsplit('.').next() == Some(leaf)))
        .filter(|key| !known.contains(&key.path));
    match elsewhere.map(|key| key.path.rsplit_once('.').unwrap_or(("", key.path))) {
        Some(("", leaf)) => {
            format!("is no {noun} of this section; did you mean {leaf:?}, above the first section?")
        }
        Some((section, leaf)) => {
            format!("is no {noun} that Mathesis knows here; did you mean {leaf:?} in [{section}]?")
        }
        None => format!("is no {noun} that Mathesis knows; known here: {}", known.join(", ")),
    }
}

/// The candidate that `word` most likely stands for.
fn nearest<'a>(word: &str, candidates: &[&'a str]) -> Option<&'a str> {
    // A pasted megabyte is no misspelling, and comparing it would take long.
    if word.len() > 200 {
        return None;
    }
    candidates
        .iter()
        .map(|candidate| (strsim::normalized_damerau_levenshtein(word, candidate), *candidate))
        .filter(|(alike, _)| *alike >= ALIKE_MIN)
        .max_by(|(a, _), (b, _)| a.total_cmp(b))
        .map(|(_, candidate)| candidate)
}

fn list_problem(check: TextCheck, items: &[Value]) -> Option<String> {
    let mut seen = BTreeSet::new();
    items.iter().find_map(|item| match item {
        Value::String(text) if !seen.insert(text) => {
            Some(format!("{text:?} stands twice in the list"))
        }
        Value::String(text) => check(text).map(|problem| format!("{text:?} {problem}")),
        other => Some(format!("{other} is not a text; the list must hold texts in quotes")),
    })
}

fn money_problem(value: &Value) -> Option<String> {
    let amount = match value {
        Value::String(text) => text.parse::<Decimal>().ok(),
        Value::Integer(number) => Some(Decimal::from(*number)),
        _ => None,
    };
    let right =
        "must be an amount of US dollars above 0 and at most 1000000, in quotes, such as \"15.00\"";
    match amount {
        Some(amount) if amount > Decimal::ZERO && amount <= Decimal::from(1_000_000) => None,
        _ => Some(right.to_owned()),
    }
}

fn description(text: &str) -> Option<String> {
    let good = text.chars().count() <= 500 && !text.contains(char::is_control);
    (!good).then(|| "must be one line of at most 500 characters".to_owned())
}

fn failure_tag(text: &str) -> Option<String> {
    if text.chars().count() > 500 || text.contains(char::is_control) {
        return Some("must be one line of at most 500 characters".to_owned());
    }
    Tags::parse([text]).err().map(|error| error.to_string())
}

fn timezone(text: &str) -> Option<String> {
    if text.parse::<Tz>().is_ok() {
        return None;
    }
    let names: Vec<_> = TZ_VARIANTS.iter().map(|zone| zone.name()).collect();
    let right = "must be a time zone of the IANA list, such as \"UTC\" or \"Europe/Athens\"";
    Some(match nearest(text, &names) {
        Some(name) => format!("{right}; did you mean {name:?}?"),
        None => right.to_owned(),
    })
}

fn cron(text: &str) -> Option<String> {
    let error = CronExpression::new(text).err()?;
    Some(format!(
        "must be a cron expression of five fields, such as \"0 3 * * *\" for every day at 03:00: {}",
        error.problem()
    ))
}

fn web_address(text: &str) -> Option<String> {
    let rest = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://"));
    let host = rest.and_then(|rest| rest.split(['/', '?']).next());
    let good = text.is_empty()
        || (host.is_some_and(|host| !host.is_empty() && !host.contains('@'))
            && text.len() <= 2_000
            && !text.contains(|c: char| c.is_whitespace() || c.is_control() || c == '#'));
    (!good).then(|| {
        "must be empty, or an address that begins with https:// or http://, without a user, a password or #".to_owned()
    })
}

fn notify_kind(text: &str) -> Option<String> {
    let good = NotifyKind::ALL.iter().any(|kind| kind.as_str() == text);
    (!good).then(|| {
        let known = NotifyKind::ALL.map(NotifyKind::as_str).join(", ");
        format!("is nothing that is told; known here: {known}")
    })
}

fn variable_name(text: &str) -> Option<String> {
    let mut letters = text.chars();
    let good = letters.next().is_some_and(|first| first.is_ascii_uppercase())
        && letters.all(|c| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_')
        && text.len() <= 100;
    (!good).then(|| {
        "must be the name of an environment variable in capitals, such as \"MATHESIS_NOTIFY_SECRET\"; the secret itself does not belong here".to_owned()
    })
}

fn language(text: &str) -> Option<String> {
    text.parse::<Language>().err().map(|_| "must be \"en\" or \"el\"".to_owned())
}

fn config_folder(text: &str) -> Option<String> {
    let right = "must be a folder, written without \"..\", such as \"config/deep_research\"";
    let good = !text.trim().is_empty() && !text.contains("..") && !text.contains(char::is_control);
    (!good).then(|| right.to_owned())
}

fn guard_mode(text: &str) -> Option<String> {
    match text {
        "off" | "probation" | "strict" | "paired" => None,
        _ => Some("must be \"off\", \"probation\", \"strict\" or \"paired\"".to_owned()),
    }
}

/// What a way of writing candidates may be called, here and in a model's own block.
pub(super) fn candidate_mode(text: &str) -> Option<String> {
    let good = matches!(text, "sections" | "template");
    (!good).then(|| "must be \"sections\" or \"template\"".to_owned())
}

fn on_alarm(text: &str) -> Option<String> {
    let good = matches!(text, "tell" | "hold" | "roll_back");
    (!good).then(|| "must be \"tell\", \"hold\" or \"roll_back\"".to_owned())
}

fn approval_ask(text: &str) -> Option<String> {
    let good = matches!(text, "none" | "before_test" | "before_apply");
    (!good).then(|| "must be \"none\", \"before_test\" or \"before_apply\"".to_owned())
}

pub(crate) fn claude_model(text: &str) -> Option<String> {
    let good = (1..=100).contains(&text.len()) && text.chars().all(|c| c.is_ascii_graphic());
    (!good).then(|| "must be the name of a Claude model, such as \"claude-opus-5-5\"".to_owned())
}

fn placeholder(text: &str) -> Option<String> {
    (!placeholders::is_placeholder_name(text)).then(|| {
        "is no placeholder; write its name without braces, in a-z, 0-9 and underscores, such as \"original_prompt\""
            .to_owned()
    })
}

fn heading(text: &str) -> Option<String> {
    let good = !text.trim().is_empty() && !text.contains(char::is_control);
    (!good).then(|| {
        "is no heading; write it as it stands in research.md, without the leading #".to_owned()
    })
}
