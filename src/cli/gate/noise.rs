//! `mathesis gate noise-floor`.

use clap::Args;

use super::super::context::{Context, Need, with_context};
use super::super::failure::Failure;
use super::super::output::{self, Colour};
use super::super::{AsJson, OfWorkflow};
use crate::settings::Settings;
use crate::store::gate;

/// How far the same version's scores differ from one analysis window to the next.
///
/// What two windows of one version differ by, no new version can be credited with. A test is not
/// fooled by it, since it deals both versions at the same time; a comparison of months is.
#[derive(Debug, Clone, Args)]
pub struct ShowNoise {
    #[command(flatten)]
    of: OfWorkflow,
    #[command(flatten)]
    as_json: AsJson,
}

/// Runs the command.
pub async fn run(command: ShowNoise, settings: &Settings) -> Result<(), Failure> {
    with_context!(settings, Need::Existing, |context| show(&command, &context))
}

async fn show(command: &ShowNoise, context: &Context) -> Result<(), Failure> {
    let workflow = context.workflow(&command.of)?;
    let lines = gate::noise_floors(context.engine.store.reads(), workflow.workflow_id, 0).await?;
    if command.as_json.json {
        return output::say_json(&lines);
    }
    let mut table = output::table(&[
        "model",
        "version",
        "windows",
        "scores",
        "mean",
        "spread",
        "by chance",
        "noise floor",
    ]);
    for line in &lines {
        let points = |it: f64| format!("{it:.2}");
        table.add_row([
            line.model.clone(),
            line.version.to_string(),
            line.floor.windows.to_string(),
            line.floor.scores.to_string(),
            points(line.floor.mean),
            output::or_dash(line.floor.spread.map(points)),
            points(line.floor.spread_by_chance),
            format!("±{:.1}%", line.floor.difference_95 * 100.0),
        ]);
    }
    output::say_table(&table, "No analysis window holds eight scores of one version yet.")?;
    for line in lines.iter().filter(|line| line.hides_ten_percent) {
        let warning = output::paint(Colour::Yellow, "Warning");
        output::say(&format!(
            "\n{warning}: two windows of {} v{} differ by up to {:.1}% by themselves, so an effect of 10% between \
             windows cannot be told from noise. Trust tests, not trends.",
            line.model,
            line.version,
            line.floor.difference_95 * 100.0
        ))?;
    }
    Ok(())
}
