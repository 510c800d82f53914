//! The rules of a definition that compare one key with another, or a key with a prompt file.

use crate::workflow::definition::Definition;
use crate::workflow::placeholders::{KNOWN, placeholders_in};

/// A rule over two keys that does not hold.
pub(super) struct BrokenRule {
    pub(super) path: &'static [&'static str],
    pub(super) value: u32,
    /// The key that the rule compares with.
    pub(super) other: &'static str,
    pub(super) problem: String,
}

type Path = &'static [&'static str];

/// The rules over two keys that do not hold.
pub(super) fn broken_rules(definition: &Definition) -> Vec<BrokenRule> {
    let rules = rules_of_scores(definition)
        .into_iter()
        .chain(rules_of_guard(definition))
        .chain(rules_of_time(definition));
    rules.flatten().collect()
}

fn rules_of_scores(definition: &Definition) -> [Option<BrokenRule>; 4] {
    let Definition { score_max, pass_score, split, gate, .. } = definition;
    let (block, arm, least) = (split.block, split.per_arm, gate.scores_per_arm_min);
    let tasks = arm.saturating_mul(2);
    [
        demand(*pass_score <= *score_max, &["pass_score"], *pass_score, "score_max", || {
            format!("must be at most score_max, which is {score_max}")
        }),
        demand(block.is_multiple_of(2), &["split", "block"], block, "split.block", || {
            "must be even: half of a block is old, half is new".to_owned()
        }),
        demand(block <= tasks, &["split", "block"], block, "split.per_arm", || {
            format!("must be at most {tasks}, the whole test: twice split.per_arm")
        }),
        demand(least <= arm, &["gate", "scores_per_arm_min"], least, "split.per_arm", || {
            format!(
                "must be at most split.per_arm, which is {arm}, or no test could ever be decided"
            )
        }),
    ]
}

fn rules_of_guard(definition: &Definition) -> [Option<BrokenRule>; 2] {
    let guard = &definition.guard;
    let (tasks, least) = (guard.probation_tasks, guard.probation_scores_per_arm_min);
    let arm = tasks / 2;
    [
        demand(
            tasks.is_multiple_of(2),
            &["guard", "probation_tasks"],
            tasks,
            "guard.probation_tasks",
            || "must be even: half of them go to the old version, half to the new one".to_owned(),
        ),
        demand(
            least <= arm,
            &["guard", "probation_scores_per_arm_min"],
            least,
            "guard.probation_tasks",
            || {
                format!(
                    "must be at most {arm}, half of guard.probation_tasks, or no probation could ever decide itself"
                )
            },
        ),
    ]
}

fn rules_of_time(definition: &Definition) -> [Option<BrokenRule>; 3] {
    let Definition { timeouts, retry, retention, .. } = definition;
    let (slot_hours, test_days) = (timeouts.slot_score_hours, timeouts.test_days);
    let (first, longest) = (retry.first_delay_seconds, retry.delay_max_seconds);
    let (silent_hours, days) = (timeouts.run_silent_hours, retention.days);
    let fits = |hours: u32, days: u32| hours <= days.saturating_mul(24);
    let slot: Path = &["timeouts", "slot_score_hours"];
    let delay: Path = &["retry", "delay_max_seconds"];
    [
        demand(fits(slot_hours, test_days), slot, slot_hours, "timeouts.test_days", || {
            format!("must fit into timeouts.test_days, which is {test_days}")
        }),
        demand(first <= longest, delay, longest, "retry.first_delay_seconds", || {
            format!("must be at least retry.first_delay_seconds, which is {first}")
        }),
        demand(
            fits(silent_hours, days),
            &["retention", "days"],
            days,
            "timeouts.run_silent_hours",
            || {
                format!(
                    "must not be shorter than timeouts.run_silent_hours, which is {silent_hours}, or tasks would be removed before they end"
                )
            },
        ),
    ]
}

fn demand(
    holds: bool,
    path: Path,
    value: u32,
    other: &'static str,
    problem: impl FnOnce() -> String,
) -> Option<BrokenRule> {
    (!holds).then(|| BrokenRule { path, value, other, problem: problem() })
}

/// What is wrong with the prompt template, as (line, problem): a placeholder missing, or one that nobody fills in.
pub(super) fn enhancement_problems(definition: &Definition) -> Vec<(Option<usize>, String)> {
    let template = &definition.prompts.enhancement;
    let required = &definition.documents.required_placeholders;
    let found = placeholders_in(template);
    let missing = required.iter().filter(|name| !found.contains(*name)).map(|name| {
        (
            None,
            format!("{{{{{name}}}}} is missing, and documents.required_placeholders asks for it"),
        )
    });
    let strange = found
        .iter()
        .filter(|name| !KNOWN.contains(&name.as_str()) && !required.contains(name))
        .map(|name| {
            let line = template
                .lines()
                .position(|line| line.contains(name.as_str()))
                .map(|index| index + 1);
            let known = "the known ones are {{original_prompt}}, {{activation}} and {{research}}";
            let remedy =
                "name it in documents.required_placeholders if your orchestrator fills it in";
            (
                line,
                format!("{{{{{name}}}}} is a placeholder that nobody fills in; {known}; {remedy}"),
            )
        });
    missing.chain(strange).collect()
}
