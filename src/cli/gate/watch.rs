//! `mathesis gate watch`.

use clap::Args;
use serde::Serialize;

use super::super::context::{Context, Need, with_context, zone};
use super::super::failure::Failure;
use super::super::output::{self, Colour};
use super::super::{AsJson, OfWorkflow};
use crate::experiment::gate::Sum;
use crate::settings::Settings;
use crate::store::watches::{self, WatchRow};

/// How the adopted versions do since their adoption, and whether one of them does harm.
///
/// Each is held against what its predecessor scored in the test, less a tolerance. The alarm rings
/// when the evidence of harm is twenty to one.
#[derive(Debug, Clone, Args)]
pub struct ShowWatch {
    /// How many, those of versions that serve first
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(i64).range(1..=10_000))]
    limit: i64,
    #[command(flatten)]
    of: OfWorkflow,
    #[command(flatten)]
    as_json: AsJson,
}

/// A watch with the means that a person compares.
#[derive(Serialize)]
struct Line<'w> {
    #[serde(flatten)]
    watch: &'w WatchRow,
    mean: Option<f64>,
    reference_mean: Option<f64>,
    /// How many times over a bet on harm has multiplied its stake.
    evidence_of_harm: f64,
}

/// Runs the command.
pub async fn run(command: ShowWatch, settings: &Settings) -> Result<(), Failure> {
    with_context!(settings, Need::Existing, |context| show(&command, &context))
}

fn line(watch: &WatchRow) -> Line<'_> {
    let mean = |total: i64, count: i32| {
        Sum { total: total.unsigned_abs(), count: u64::from(count.unsigned_abs()) }.mean()
    };
    Line {
        watch,
        mean: mean(watch.score_sum, watch.scores),
        reference_mean: mean(i64::from(watch.reference_sum), watch.reference_count),
        evidence_of_harm: watch.log_e.exp().min(f64::MAX),
    }
}

async fn show(command: &ShowWatch, context: &Context) -> Result<(), Failure> {
    let workflow = context.workflow(&command.of)?;
    let pool = context.engine.store.pool();
    let rows = watches::list(pool, workflow.workflow_id, command.limit).await?;
    let lines: Vec<Line<'_>> = rows.iter().map(line).collect();
    if command.as_json.json {
        return output::say_json(&lines);
    }
    let mut table = output::table(&[
        "model",
        "version",
        "since",
        "tasks",
        "mean",
        "predecessor",
        "tolerated",
        "evidence of harm",
        "stands",
    ]);
    for line in &lines {
        let watch = line.watch;
        let points = |it: Option<f64>| output::or_dash(it.map(|it| format!("{it:.2}")));
        table.add_row([
            watch.model_name.clone(),
            watch.version.to_string(),
            output::time(watch.opened_at, zone(&workflow)),
            watch.scores.to_string(),
            points(line.mean),
            points(line.reference_mean),
            format!("-{}%", f64::from(watch.tolerance_basis_points) / 100.0),
            format!("{:.2} to 1", line.evidence_of_harm),
            standing(watch),
        ]);
    }
    output::say_table(
        &table,
        "No adopted version is watched; a watch opens with the next adoption.",
    )
}

fn standing(watch: &WatchRow) -> String {
    let alarm = watch.alarmed_at.map(|_| output::paint(Colour::Red, "alarm"));
    let ended = watch.ended_because.as_deref().map(|because| match because {
        "judge_changed" => "ended: another judge scores now",
        _ => "ended: another version serves",
    });
    match (alarm, ended) {
        (Some(alarm), Some(ended)) => format!("{alarm}; {ended}"),
        (Some(alarm), None) => alarm,
        (None, Some(ended)) => ended.to_owned(),
        (None, None) => "watching".to_owned(),
    }
}
