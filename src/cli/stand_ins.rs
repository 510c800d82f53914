//! `mathesis stand-ins`.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use super::failure::Failure;
use super::serve::Signals;
use crate::stand_in::claude::{ClaudeStandIn, StandInSettings};
use crate::stand_in::clickup::{ClickUpStandIn, ClickUpStandInSettings, LIST, TEAM};
use crate::stand_in::script::{self, Script};
use crate::stand_in::wavespeed::{WaveSpeedStandIn, WaveSpeedStandInSettings};
use crate::stand_in::world::{WorldClaude, WorldPainter, new_task};

/// The only key that Claude's stand-in takes. It opens nothing else.
const CLAUDE_KEY: &str = "sk-ant-key-of-the-stand-in";

const AFTER_HELP: &str = "\
Prints the environment in which `mathesis orchestrate` uses them; paste it, start the pipeline, and make tasks:

  curl -X POST $CLICKUP_BASE_URL/stand-in/tasks -d '{\"text\": \"Κάνε τον ουρανό ηλιοβασίλεμα\"}'
  curl -X POST $CLICKUP_BASE_URL/stand-in/script -d '{\"service\": \"claude\", \"fault\": {\"documented\": \"claude_overloaded\"}}'
  curl $CLICKUP_BASE_URL/stand-in/tasks

docs/stand-ins.md has the other calls, the faults, and what the scores follow from.";

/// Play Claude, WaveSpeed and ClickUp on this machine, without an account and without cost.
///
/// They speak the services' wire formats, listen on loopback only and keep everything in memory. How well a task's
/// picture turns out follows from what the prompt documents say.
#[derive(Debug, Clone, Args)]
#[command(after_help = AFTER_HELP)]
pub struct StandIns {
    /// Claude listens here, WaveSpeed on the next port, ClickUp on the one after [default: free ones]
    #[arg(long, value_name = "PORT", value_parser = clap::value_parser!(u16).range(1..=65_533))]
    port_base: Option<u16>,
    /// Decides ids, pictures and scores
    #[arg(long, value_name = "NUMBER", default_value_t = 1)]
    seed: u64,
    /// A file of faults, as docs/stand-ins.md describes it
    #[arg(long, value_name = "FILE")]
    script: Option<PathBuf>,
    /// Where ClickUp delivers its events from the start; `mathesis orchestrate register` does the same later
    #[arg(long, value_name = "URL")]
    webhook: Option<String>,
    /// How long a picture takes, in milliseconds
    #[arg(long, value_name = "MS", default_value_t = 500)]
    inference_ms: u64,
    /// Make this many tasks at the start
    #[arg(long, value_name = "COUNT", default_value_t = 0)]
    tasks: u32,
}

/// Runs the command until Ctrl-C or SIGTERM.
pub async fn run(command: StandIns) -> Result<(), Failure> {
    let mut signals = Signals::listen()?;
    let script = Script::new(command.seed);
    if let Some(path) = &command.script {
        let text = std::fs::read_to_string(path).map_err(|error| {
            Failure::usage(format!(
                "{} cannot be read: {error}. Nothing was started.",
                path.display()
            ))
        })?;
        let rules = script::parse(&text)
            .map_err(|error| Failure::usage(format!("{}: {error}", path.display())))?;
        script.add(rules);
    }
    let stand_ins = start(&command, &script).await?;
    for number in 0..u64::from(command.tasks) {
        let task = new_task(command.seed, number).map_err(Failure::failed)?;
        stand_ins.clickup.create_task(task);
    }
    println!("{}", environment(&stand_ins));
    eprintln!("The stand-ins run. Ctrl-C ends them; what they hold is gone then.");
    signals.next().await;
    stand_ins.clickup.stop().await;
    stand_ins.wavespeed.stop().await;
    stand_ins.claude.stop().await;
    Ok(())
}

struct Running {
    claude: ClaudeStandIn,
    wavespeed: WaveSpeedStandIn,
    clickup: ClickUpStandIn,
}

async fn start(command: &StandIns, script: &Script) -> Result<Running, Failure> {
    let port = |place: u16| command.port_base.map_or(0, |base| base.saturating_add(place));
    let failed = |name: &str, error: std::io::Error| {
        Failure::failed(format!(
            "the stand-in for {name} could not listen: {error}. Choose another --port-base; nothing was kept."
        ))
    };
    let claude = StandInSettings { api_key: CLAUDE_KEY.to_owned(), port: port(0) };
    let claude = ClaudeStandIn::start_scripted(claude, script.clone(), WorldClaude::default());
    let wavespeed = WaveSpeedStandInSettings {
        port: port(1),
        inference: Duration::from_millis(command.inference_ms),
        ..WaveSpeedStandInSettings::default()
    };
    let painter = WorldPainter::new(command.seed);
    let wavespeed = WaveSpeedStandIn::start(wavespeed, script.clone(), painter);
    let clickup = ClickUpStandInSettings {
        port: port(2),
        webhook_endpoint: command.webhook.clone(),
        ..ClickUpStandInSettings::default()
    };
    let clickup = ClickUpStandIn::start(clickup, script.clone());
    Ok(Running {
        claude: claude.await.map_err(|error| failed("Claude", error))?,
        wavespeed: wavespeed.await.map_err(|error| failed("WaveSpeed", error))?,
        clickup: clickup.await.map_err(|error| failed("ClickUp", error))?,
    })
}

/// The lines to paste into a shell.
fn environment(running: &Running) -> String {
    let (wavespeed, clickup) =
        (WaveSpeedStandInSettings::default(), ClickUpStandInSettings::default());
    [
        ("ANTHROPIC_BASE_URL", running.claude.base_url()),
        ("ANTHROPIC_API_KEY", CLAUDE_KEY),
        ("WAVESPEED_BASE_URL", running.wavespeed.base_url()),
        ("WAVESPEED_API_KEY", &wavespeed.key),
        ("CLICKUP_BASE_URL", running.clickup.base_url()),
        ("CLICKUP_API_TOKEN", &clickup.token),
        ("CLICKUP_WEBHOOK_SECRET", &clickup.webhook_secret),
    ]
    .iter()
    .map(|(name, value)| format!("export {name}={value}"))
    .chain([format!("# The workspace is {TEAM}, the list {LIST}.")])
    .collect::<Vec<_>>()
    .join("\n")
}
