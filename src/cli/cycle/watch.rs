//! `mathesis cycle show --watch`: the cycle as it moves.

use std::time::Duration;

use tokio::time::{MissedTickBehavior, interval};

use super::{no_cycle, tell};
use crate::cli::AsJson;
use crate::cli::context::{Context, zone};
use crate::cli::failure::Failure;
use crate::cli::output;
use crate::runtime::{CycleStatus, Workflow, cycle_status};
use crate::store::StoreError;

/// How often the database is asked.
const PAUSE: Duration = Duration::from_secs(1);

/// How a cycle is watched.
#[derive(Debug, Clone, Copy, clap::Args)]
pub struct Watching {
    /// Go on showing it as it moves: drawn anew on a terminal, one line a change elsewhere
    #[arg(long)]
    pub watch: bool,
    /// End when the cycle has ended
    #[arg(long, requires = "watch")]
    pub until_done: bool,
}

/// Shows the cycle at each change, until it is interrupted or the cycle has ended.
///
/// # Errors
/// When there is no such cycle, or the database fails. One that is away for a while is waited for.
pub async fn watch(
    context: &Context,
    workflow: &Workflow,
    number: Option<i64>,
    until_done: bool,
    as_json: AsJson,
) -> Result<(), Failure> {
    let shown = async {
        let mut watch = Watch { context, workflow, number, as_json, until_done, seen: None };
        let mut second = interval(PAUSE);
        second.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            second.tick().await;
            if watch.look().await? {
                return Ok(());
            }
        }
    };
    // Ended in order, since a private database of this command's own has to be stopped.
    tokio::select! {
        ended = shown => ended,
        _ = tokio::signal::ctrl_c() => Ok(()),
    }
}

struct Watch<'w> {
    context: &'w Context,
    workflow: &'w Workflow,
    number: Option<i64>,
    as_json: AsJson,
    until_done: bool,
    seen: Option<Seen>,
}

/// What was told last.
#[derive(Debug, PartialEq, Eq)]
enum Seen {
    Standing { cycle: i64, seq: i64, sentence: String, holds: usize },
    Away,
}

impl Watch<'_> {
    /// Looks once and tells what is new; true when there is nothing more to wait for.
    async fn look(&mut self) -> Result<bool, Failure> {
        let status = match cycle_status(&self.context.engine, self.workflow, self.number).await {
            Ok(status) => status.ok_or_else(|| no_cycle(self.number))?,
            Err(error) if error.is_transient() && self.seen.is_some() => {
                self.tell_away(&error);
                return Ok(false);
            }
            Err(error) => return Err(error.into()),
        };
        if self.until_done {
            // The cycle that was open at first, not the one after it.
            self.number = Some(status.cycle);
        }
        let seen = Seen::Standing {
            cycle: status.cycle,
            seq: status.seq,
            sentence: status.sentence.clone(),
            holds: status.holds.len(),
        };
        if self.seen.as_ref() != Some(&seen) {
            self.tell(&status)?;
            self.seen = Some(seen);
        }
        Ok(self.until_done && status.state.is_terminal())
    }

    fn tell(&self, status: &CycleStatus) -> Result<(), Failure> {
        if self.as_json.json {
            return output::say_json_line(status);
        }
        if output::is_terminal() {
            output::clear()?;
            return tell(status, self.workflow);
        }
        let at = self.context.engine.now();
        output::say(&format!("{}  {}", output::time(at, zone(self.workflow)), status.sentence))
    }

    fn tell_away(&mut self, error: &StoreError) {
        if self.seen != Some(Seen::Away) {
            eprintln!("mathesis: the database does not answer ({error}); waiting for it");
            self.seen = Some(Seen::Away);
        }
    }
}
