//! What the doctor says of the reference pipeline; nothing where no workflow has one.

use std::collections::BTreeMap;

use super::super::context::{Context, zone};
use super::super::output;
use super::{Finding, bad, good, note};
use crate::orchestrator::definition::{FILE, load};
use crate::runtime::Workflow;
use crate::server::missing_settings;
use crate::settings::Settings;
use crate::store::pipeline::overview::{self, JobRow};
use crate::workflow::load::load_all;

/// Failed runs are told of for so long.
const FAILED_TOLD_DAYS: i64 = 7;
/// Jobs that are looked at, at most.
const JOBS_MAX: i64 = 1000;

/// The pipelines that the workflows' folders describe, and what they need to be started.
pub(super) fn of_settings(settings: &Settings) -> Vec<Finding> {
    // What is wrong with a workflow itself has been said.
    let workflows = load_all(&settings.workflows).unwrap_or_default();
    let mut findings = Vec::new();
    for workflow in &workflows {
        let name = workflow.name.as_str();
        let check = format!("pipeline of {name}");
        match load(&settings.workflows.join(name), workflow) {
            Ok(None) => {}
            Err(errors) => findings.push(bad(
                check,
                errors.to_string(),
                format!("Mend the lines of {FILE} that are named, and look again."),
            )),
            Ok(Some(definition)) if definition.keys.clickup.lists.is_empty() => findings.push(note(
                check,
                format!("{FILE} is valid and names no list, so a task whose webhook never comes is not found"),
                "Name the lists under [clickup], by the number in each list's address.",
            )),
            Ok(Some(_)) => findings.push(good(check, format!("{FILE} is valid"))),
        }
    }
    if findings.is_empty() {
        return findings;
    }
    let missing = missing_settings(settings);
    findings.push(if missing.is_empty() {
        good("pipeline's services", "a token, a secret and keys are set for all three")
    } else {
        note(
            "pipeline's services",
            format!("`mathesis orchestrate` will not start without {}", missing.join(", ")),
            "A team with an orchestrator of its own does not need them; docs/orchestrator.md says where each comes from.",
        )
    });
    findings
}

/// Runs that wait, one finding for each thing they wait for, and runs that failed lately.
pub(super) async fn of_jobs(context: &Context, workflow: &Workflow) -> Vec<Finding> {
    let check = format!("runs of {}", workflow.name());
    let since = context.engine.now() - chrono::Duration::days(FAILED_TOLD_DAYS);
    let pool = context.engine.store.pool();
    let jobs = match overview::jobs(pool, workflow.workflow_id, since, JOBS_MAX).await {
        Ok(jobs) => jobs,
        Err(error) => {
            return vec![bad(
                check,
                error.to_string(),
                "See that PostgreSQL is up, then look again.",
            )];
        }
    };
    let mut waiting: BTreeMap<&str, Vec<&JobRow>> = BTreeMap::new();
    for job in &jobs {
        if let (None, Some(code)) = (job.finished_at, &job.wait_code) {
            waiting.entry(code).or_default().push(job);
        }
    }
    let mut findings: Vec<Finding> = waiting
        .iter()
        .filter_map(|(code, jobs)| {
            let oldest = jobs.iter().min_by_key(|job| job.waiting_since)?;
            let at = oldest.waiting_since.map(|at| output::time(at, zone(workflow)));
            let said = format!(
                "{} since {}: {code}: {}",
                counted(jobs.len(), "waits", "wait"),
                at.unwrap_or_default(),
                oldest.wait_words.as_deref().unwrap_or_default()
            );
            Some(note(&check, said, "`mathesis orchestrate status` lists them; once it is mended they go on by themselves."))
        })
        .collect();
    let failed = jobs.iter().filter(|job| job.finished_at.is_some()).count();
    if failed > 0 {
        findings.push(note(
            &check,
            format!("{} in the last {FAILED_TOLD_DAYS} days", counted(failed, "failed", "failed")),
            "`mathesis orchestrate status` says why. Put such a task back into the ready status to have it run again.",
        ));
    }
    findings
}

fn counted(count: usize, one: &str, several: &str) -> String {
    if count == 1 { format!("1 run {one}") } else { format!("{count} runs {several}") }
}
