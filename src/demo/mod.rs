//! `mathesis demo`: the whole product at work in about a minute, with nothing scripted about the result.
//!
//! Real: the server with the pipeline in it (`mathesis orchestrate` as a child process), PostgreSQL, the deck, the gate,
//! the files, a kill -9 in the middle of a test. Stood in for: Claude, WaveSpeed and ClickUp (`crate::stand_in`), with a
//! world behind them in which scores follow from the words of the documents. Every task goes the whole way, from the
//! webhook to the picture at the task. Everything lives in a temporary folder and goes with it.

mod api;
mod child;
pub(crate) mod documents;
mod feeder;
mod ledger;
mod report;
mod show;
mod stage;

use tokio::signal::unix::{SignalKind, signal};

use stage::Stage;

/// Chooses the demo's tasks and scores; the deck is random all the same.
const SEED_VARIABLE: &str = "MATHESIS_DEMO_SEED";

/// The exit code of a program that Ctrl-C ended.
const INTERRUPTED: u8 = 130;

/// How the demonstration runs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Options {
    /// End after the last step, for scripts, instead of waiting for Ctrl-C with the dashboard open.
    pub exit: bool,
    /// The server's port; one that is busy, or none, is replaced by a free one.
    pub port: Option<u16>,
}

/// Why the demonstration ended early. Nothing but its temporary folder was touched.
#[derive(Debug, thiserror::Error)]
enum DemoError {
    #[error("the temporary home could not be set up: {0}")]
    Home(std::io::Error),
    #[error(transparent)]
    Postgres(#[from] crate::postgres::PostgresError),
    #[error("a stand-in could not listen: {0}")]
    StandIn(std::io::Error),
    #[error("the server could not be started: {0}")]
    Server(std::io::Error),
    #[error("the server did not become ready. The end of its log:\n{0}")]
    NotReady(String),
    #[error(transparent)]
    Api(#[from] api::ApiError),
    #[error("no further task could be made: {0}")]
    Feeder(String),
    #[error("the task log could not be read: {0}")]
    Export(std::io::Error),
    #[error("the restart changed something: {0}")]
    Changed(String),
    #[error("the records do not agree: {0}")]
    Disagree(String),
    #[error("the pipeline did not finish its last tasks in {0} s")]
    Unfinished(u64),
    #[error("the cycle is held: {0}")]
    Held(String),
    #[error("after {0} s there was not yet both an adoption and a rejection")]
    OutOfTime(u64),
    #[error("a thread for blocking work ended: {0}")]
    Interrupted(#[from] tokio::task::JoinError),
}

/// Runs the demonstration and gives the exit code: 0 if one cycle ended adopted and one rejected and nothing failed,
/// 130 if it was interrupted before that, else 1.
///
/// Processes and files are gone when this returns; when this process is killed, its children end by themselves.
pub async fn run(options: Options) -> u8 {
    let seed = match seed() {
        Ok(seed) => seed,
        Err(words) => {
            eprintln!("{words}");
            return 1;
        }
    };
    let set_up = tokio::select! {
        set_up = Stage::set_up(options.port, seed) => set_up,
        () = interrupted() => return INTERRUPTED,
    };
    let stage = match set_up {
        Ok(stage) => stage,
        Err(error) => {
            eprintln!("The demo could not begin: {error}");
            return 1;
        }
    };
    let mut show = show::Show::new(stage, seed);
    let played = tokio::select! {
        played = show.play() => Some(played),
        () = interrupted() => None,
    };
    let code = match played {
        Some(Ok(seen)) if seen.is_whole() => {
            if !options.exit {
                println!("Press Ctrl-C to end; the server and its database are removed then.");
                interrupted().await;
            }
            0
        }
        Some(Ok(seen)) => {
            eprintln!("The demo did not see everything: {}", seen.missing());
            1
        }
        Some(Err(error)) => {
            eprintln!("The demo ended early: {error}");
            1
        }
        None => INTERRUPTED,
    };
    show.take_down().await;
    code
}

fn seed() -> Result<u64, String> {
    match std::env::var(SEED_VARIABLE) {
        Ok(text) => text.trim().parse().map_err(|_| {
            format!("{SEED_VARIABLE} is {text:?}; it must be a whole number from 0 to {}", u64::MAX)
        }),
        Err(_) => Ok(rand::random::<u64>() % 1_000_000),
    }
}

/// Ctrl-C or SIGTERM. A machine that cannot listen for them ends the demo by other means.
async fn interrupted() {
    let terminated = async {
        match signal(SignalKind::terminate()) {
            Ok(mut terminated) => {
                let _asked = terminated.recv().await;
            }
            Err(_) => std::future::pending().await,
        }
    };
    tokio::select! {
        pressed = tokio::signal::ctrl_c() => if pressed.is_err() { std::future::pending().await },
        () = terminated => {}
    }
}
