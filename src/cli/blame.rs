//! `mathesis version blame` and `mathesis why`: where a section, or a picture, comes from.

use super::context::{Context, Need, with_context};
use super::failure::Failure;
use super::output::{self, Colour};
use super::{AsJson, OfWorkflow};
use crate::runtime::blame::{self, BlameError, BlamedEdit, BlamedSection, VersionBlame, Why};
use crate::settings::Settings;
use crate::store::blame::Gain;

/// Example tasks are named up to so many; `--json` has them all.
const TASKS_SHOWN_MAX: usize = 5;

/// Which picture is explained.
#[derive(Debug, Clone, clap::Args)]
pub struct WhyArgs {
    /// The task, by the id that the pipeline gave it
    task: String,
    /// The run [default: the newest]
    #[arg(long)]
    run: Option<String>,
    /// The model whose picture is meant [default: the one that was chosen]
    #[arg(long)]
    model: Option<String>,
    #[command(flatten)]
    of: OfWorkflow,
    #[command(flatten)]
    as_json: AsJson,
}

/// Runs `mathesis why`.
pub async fn run(args: WhyArgs, settings: &Settings) -> Result<(), Failure> {
    with_context!(settings, Need::Existing, |context| why(args, &context))
}

async fn why(args: WhyArgs, context: &Context) -> Result<(), Failure> {
    let workflow = context.workflow(&args.of)?;
    let store = &context.engine.store;
    let (run, model) = (args.run.as_deref(), args.model.as_deref());
    let found = blame::why(store, workflow.workflow_id, &args.task, run, model).await?;
    if args.as_json.json {
        return output::say_json(&found);
    }
    output::say(&format!("{}\n\n{}", picture(&found), sections(&found.blame)))
}

/// Tells the blame of one version.
pub(super) async fn version(
    context: &Context,
    (model, version): (&str, Option<i32>),
    of: &OfWorkflow,
    as_json: AsJson,
) -> Result<(), Failure> {
    let workflow = context.workflow(of)?;
    let store = &context.engine.store;
    let found = blame::version_blame(store, workflow.workflow_id, model, version).await?;
    if as_json.json {
        return output::say_json(&found);
    }
    output::say(&format!("{} version {}\n\n{}", found.model, found.version, sections(&found)))
}

fn picture(why: &Why) -> String {
    let attempt = &why.attempt;
    let score = attempt
        .score
        .map_or_else(|| "without a score".to_owned(), |score| format!("score {score}"));
    let run =
        if why.run.run_id.is_empty() { String::new() } else { format!(", run {}", why.run.run_id) };
    let chosen = if attempt.selected { ", chosen" } else { "" };
    let url = attempt.image_url.as_ref().map_or_else(String::new, |url| format!("\n{url}"));
    let mut text = format!(
        "Task {}{run}: {} version {}, iteration {}, {score}{chosen}{url}",
        why.task, attempt.model, why.blame.version, attempt.iteration
    );
    for other in why.attempts.iter().filter(|other| *other != attempt) {
        let version = output::or_dash(other.version);
        let score = output::or_dash(other.score);
        text.push_str(&format!(
            "\n  beside it: {} version {version}, iteration {}, score {score}",
            other.model, other.iteration
        ));
    }
    text
}

fn sections(blame: &VersionBlame) -> String {
    let mut text = String::new();
    for kept in blame.kept.iter().filter(|kept| kept.bytes > 0) {
        text.push_str(&format!(
            "{}: the first {} of {} bytes are as in the version before\n",
            kept.document.as_str(),
            kept.kept_prefix_bytes,
            kept.bytes
        ));
    }
    for section in &blame.sections {
        text.push_str(&format!("\n{}", one(section)));
    }
    text.trim_end().to_owned()
}

fn one(section: &BlamedSection) -> String {
    let head =
        output::paint(Colour::Bold, &format!("{} {}", section.document.as_str(), section.section));
    let known = if section.incomplete { ", or before: its edits are not on record" } else { "" };
    let mut text = format!(
        "{head} ({} bytes, since version {}{known})\n",
        section.bytes, section.since_version
    );
    for edit in &section.edits {
        text.push_str(&told(edit));
    }
    text
}

fn told(edit: &BlamedEdit) -> String {
    let cycle = edit.cycle.map_or_else(String::new, |cycle| format!(", cycle {cycle}"));
    let mut text = format!(
        "  version {}{cycle}: {}; {}\n",
        edit.version,
        edit.operation.as_str(),
        edit.gained.as_ref().map_or_else(|| "not tested".to_owned(), Gain::in_words)
    );
    for reason in &edit.because {
        let mut tasks: Vec<&str> =
            reason.tasks.iter().take(TASKS_SHOWN_MAX).map(String::as_str).collect();
        if reason.tasks.len() > TASKS_SHOWN_MAX {
            tasks.push("…");
        }
        text.push_str(&format!(
            "    {} ({}): {} Tasks: {}\n",
            reason.insight,
            reason.standing,
            reason.claim,
            tasks.join(", ")
        ));
    }
    text
}

impl From<BlameError> for Failure {
    fn from(error: BlameError) -> Self {
        match error {
            BlameError::Store(error) => error.into(),
            other => Self::not_found(format!("{} ({})", other, other.code())),
        }
    }
}
