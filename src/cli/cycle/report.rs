//! `mathesis cycle report`: a cycle for somebody who is no engineer.

use std::path::PathBuf;

use crate::cli::context::Context;
use crate::cli::failure::Failure;
use crate::cli::output;
use crate::cli::{AsJson, OfWorkflow};
use crate::dashboard::pages::report as pages;
use crate::report::{Language, markdown};
use crate::store::{cycles, reports};

/// Tell a cycle in plain words: what was noticed, tried and gained, and what it cost
#[derive(Debug, Clone, clap::Args)]
pub struct ReportOf {
    /// The cycle's number [default: the last that ended, else the open one]
    number: Option<i64>,
    /// The language: `en` or `el`
    #[arg(long, value_name = "LANGUAGE", default_value_t = Language::English)]
    lang: Language,
    /// Write it as one HTML file that needs nothing else
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
    /// Where the dashboard is, for links to approve, refuse and put back [default: no links]
    #[arg(long, value_name = "URL")]
    url: Option<String>,
    #[command(flatten)]
    of: OfWorkflow,
    #[command(flatten)]
    as_json: AsJson,
}

/// Runs the command.
pub async fn run(command: ReportOf, context: &Context) -> Result<(), Failure> {
    let workflow = context.workflow(&command.of)?;
    let pool = context.engine.store.pool();
    let number = match command.number {
        Some(number) => number,
        None => latest(pool, workflow.workflow_id).await?,
    };
    let of = reports::Of {
        workflow_id: workflow.workflow_id,
        workflow: workflow.name(),
        time_zone: workflow.definition.timezone,
        score_max: workflow.definition.score_max,
        now: context.engine.now(),
    };
    let facts = reports::load(pool, of, number).await?;
    let facts = facts.ok_or_else(|| super::no_cycle(Some(number)))?;
    let base = command.url.as_deref();
    if let Some(file) = &command.html {
        let html = pages::file(&facts, command.lang, base).map_err(Failure::failed)?;
        std::fs::write(file, html).map_err(|error| {
            Failure::failed(format!(
                "the report could not be written to {}: {error}",
                file.display()
            ))
        })?;
        if !command.as_json.json {
            return output::say(&format!("The report of cycle {number} is in {}", file.display()));
        }
    }
    let report = pages::of(&facts, command.lang);
    if command.as_json.json {
        return output::say_json(&serde_json::json!({ "facts": facts, "report": report }));
    }
    output::say(markdown(&report, base).trim_end())
}

/// The last cycle that ended; the open one where none has.
async fn latest(pool: &sqlx::PgPool, workflow_id: i64) -> Result<i64, Failure> {
    let newest = cycles::list(pool, workflow_id, 2).await?;
    let ended = newest.iter().find(|cycle| cycle.ended_at.is_some());
    let found = ended.or_else(|| newest.first());
    found.map(|cycle| cycle.number).ok_or_else(|| super::no_cycle(None))
}
