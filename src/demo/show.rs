//! The course of the demo: follows the cycles over the interface and says what happens.

use std::sync::Arc;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use serde_json::Value;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::DemoError;
use super::feeder::{self, Board, Pace};
use super::report;
use super::stage::Stage;
use crate::stand_in::world::Model;

const POLL: Duration = Duration::from_millis(40);
/// After so many cycles the demo ends if it has seen what it wants to show.
const CYCLES_MIN: i64 = 3;
/// After so many it ends in any case.
const CYCLES_MAX: i64 = 7;
const TIME_MAX: Duration = Duration::from_secs(300);
/// How long a hold may stand before the demo gives up; one that lifts itself is no failure.
const HOLD_PATIENCE: Duration = Duration::from_secs(30);
/// How long the last tasks may take.
const FINISH_TIMEOUT: Duration = Duration::from_secs(90);
/// Among so many of the newest tasks are all that hold a slot.
const NEWEST: usize = 50;
/// The server is killed when so many of a test's 40 slots are held: neither at its start nor at its end.
const KILL_AT_HELD: std::ops::Range<u64> = 20..36;

/// What the demo has seen.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Seen {
    adopted: bool,
    rejected: bool,
    survived_kill: bool,
}

impl Seen {
    /// Whether it was all that the demo wants to show.
    pub(super) const fn is_whole(self) -> bool {
        self.adopted && self.rejected && self.survived_kill
    }

    /// What was not seen, in words.
    pub(super) fn missing(self) -> String {
        let wanted = [
            (self.adopted, "a cycle that ends adopted"),
            (self.rejected, "a cycle that ends rejected by its test"),
            (self.survived_kill, "a test that goes on after its server was killed"),
        ];
        let missing: Vec<&str> =
            wanted.iter().filter(|(seen, _)| !seen).map(|(_, what)| *what).collect();
        missing.join(", ")
    }
}

/// The demo at work.
pub(super) struct Show {
    stage: Stage,
    seed: u64,
    seen: Seen,
    bar: ProgressBar,
    pace: watch::Sender<Pace>,
    feeder: Option<JoinHandle<Result<(), String>>>,
    began: Instant,
}

impl Show {
    /// A show on a stage that stands.
    pub(super) fn new(stage: Stage, seed: u64) -> Self {
        let bar = ProgressBar::new(0);
        if let Ok(style) = ProgressStyle::with_template("{bar:30} {pos}/{len} {msg}") {
            bar.set_style(style);
        }
        Self {
            stage,
            seed,
            seen: Seen::default(),
            bar,
            pace: watch::Sender::new(Pace::Full),
            feeder: None,
            began: Instant::now(),
        }
    }

    /// Runs the pipeline and follows the cycles until everything is shown.
    ///
    /// # Errors
    /// [`DemoError`] when something failed.
    pub(super) async fn play(&mut self) -> Result<Seen, DemoError> {
        println!(
            "Seed            {} (MATHESIS_DEMO_SEED sets it; the decks are random all the same)",
            self.seed
        );
        println!();
        println!(
            "People now put Greek editing tasks on the board. For each, the pipeline has Claude write a prompt"
        );
        println!(
            "for two image models, WaveSpeed draw, Claude judge, and puts the best picture back on the board."
        );
        println!(
            "How good the pictures are follows from the models' prompt documents; Mathesis does not know how,"
        );
        println!("and has to find it out.");
        self.began = Instant::now();
        let clickup = Arc::clone(&self.stage.services().clickup);
        self.feeder = Some(tokio::spawn(feeder::run(clickup, self.seed, self.pace.subscribe())));
        for number in 1..=CYCLES_MAX {
            self.follow(number).await?;
            if number >= CYCLES_MIN && self.seen.is_whole() {
                break;
            }
        }
        self.finish_tasks().await?;
        self.bar.finish_and_clear();
        report::end(&self.stage, self.began.elapsed()).await?;
        Ok(self.seen)
    }

    /// Ends everything that runs.
    pub(super) async fn take_down(mut self) {
        if let Some(feeder) = self.feeder.take() {
            feeder.abort();
        }
        self.bar.finish_and_clear();
        self.stage.take_down().await;
    }

    /// Lets the tasks under way come to their end, so that all records can be compared.
    async fn finish_tasks(&mut self) -> Result<(), DemoError> {
        self.pace.send_replace(Pace::Stop);
        if let Some(feeder) = self.feeder.take() {
            let finished = tokio::time::timeout(FINISH_TIMEOUT, feeder).await;
            let finished =
                finished.map_err(|_| DemoError::Unfinished(FINISH_TIMEOUT.as_secs()))??;
            finished.map_err(DemoError::Feeder)?;
        }
        self.check_health()
    }

    fn say(&self, line: &str) {
        let seconds = self.began.elapsed().as_secs_f64();
        self.bar.suspend(|| println!("{seconds:5.1} s  {line}"));
    }

    /// Follows one cycle from its first state to its last.
    async fn follow(&mut self, number: i64) -> Result<(), DemoError> {
        self.bar.suspend(|| println!("\nCycle {number}"));
        self.say("Collecting");
        let mut told = 0;
        let mut held_since: Option<Instant> = None;
        loop {
            self.check_health()?;
            let history =
                self.stage.api().workflow(&format!("/cycles/{number}/transitions")).await?;
            told = self.tell(number, &history, told).await?;
            let status = self.stage.api().workflow(&format!("/cycles/{number}")).await?;
            if status["ended_at"].is_string() {
                // The last step may have been taken between the two looks.
                let history =
                    self.stage.api().workflow(&format!("/cycles/{number}/transitions")).await?;
                self.tell(number, &history, told).await?;
                self.note_end(&status).await?;
                return Ok(());
            }
            self.show_progress(&status);
            held_since = held(&status, held_since, Instant::now())?;
            self.maybe_kill(number, &status).await?;
            tokio::time::sleep(POLL).await;
        }
    }

    fn check_health(&self) -> Result<(), DemoError> {
        if let Some(log) = self.stage.server_ended() {
            return Err(DemoError::NotReady(log));
        }
        if self.began.elapsed() > TIME_MAX {
            return Err(DemoError::OutOfTime(TIME_MAX.as_secs()));
        }
        Ok(())
    }

    /// Says what has come into the history since the last look; returns how much has been said.
    async fn tell(&self, number: i64, history: &Value, told: usize) -> Result<usize, DemoError> {
        let rows = history["transitions"].as_array().map(Vec::as_slice).unwrap_or_default();
        for row in rows.get(told..).unwrap_or_default() {
            let (from, to) = (row["from"].as_str(), row["to"].as_str().unwrap_or_default());
            if from == Some(to) {
                continue;
            }
            for line in report::entered(&self.stage, number, to).await? {
                self.say(&line);
            }
        }
        Ok(rows.len())
    }

    async fn note_end(&mut self, status: &Value) -> Result<(), DemoError> {
        let ended = |result: &str| {
            let models = status["outcome"].as_array().map(Vec::as_slice).unwrap_or_default();
            models.iter().any(|model| model["result"] == result)
        };
        match status["state"].as_str() {
            Some("applied") => self.seen.adopted |= ended("adopted"),
            // A cycle without any candidate is rejected, too, but no test said so.
            Some("rejected") => self.seen.rejected |= ended("rejected"),
            _ => {}
        }
        for line in report::means(status, &self.stage.ledger().await?) {
            self.say(&line);
        }
        Ok(())
    }

    fn show_progress(&self, status: &Value) {
        let state = status["state"].as_str().unwrap_or_default();
        let number = |value: &Value| value.as_u64().unwrap_or(0);
        let draws_tasks = matches!(state, "collecting" | "testing" | "probation");
        let pace = if draws_tasks { Pace::Full } else { Pace::Trickle };
        self.pace.send_if_modified(|now| std::mem::replace(now, pace) != pace);
        let (position, length) = match state {
            "collecting" => (number(&status["tasks_waiting"]), number(&status["trigger_tasks"])),
            "testing" | "probation" => {
                let models = status["models"].as_array().map(Vec::as_slice).unwrap_or_default();
                let both = |what: &str| -> u64 {
                    models
                        .iter()
                        .map(|model| {
                            number(&model[what]["control"]) + number(&model[what]["candidate"])
                        })
                        .sum()
                };
                (both("scored"), both("deck"))
            }
            _ => (0, 0),
        };
        self.bar.set_length(length);
        self.bar.set_position(position.min(length));
        let board = Board::of(&self.stage.services().clickup.tasks());
        self.bar.set_message(format!("{state}, {} tasks done", board.finished()));
    }

    /// Once, in the middle of a test: kills the server with the pipeline in it, starts it again, and compares.
    async fn maybe_kill(&mut self, number: i64, status: &Value) -> Result<(), DemoError> {
        let in_the_middle = KILL_AT_HELD.contains(&report::slots_dealt(status));
        if self.seen.survived_kill || status["state"] != "testing" || !in_the_middle {
            return Ok(());
        }
        let held = self.slots_held(number).await?;
        // The test went on meanwhile.
        let before = self.stage.api().workflow(&format!("/cycles/{number}")).await?;
        if before["state"] != "testing" {
            return Ok(());
        }
        let board = Board::of(&self.stage.services().clickup.tasks());
        self.say(&format!("           before: {}", report::deck_counts(&before)));
        self.say(&format!(
            "           kill -9 of the server, process {}, in the middle of the test, with {} tasks under way",
            self.stage.pid(),
            board.under_way(),
        ));
        self.stage.kill_server().await?;
        self.stage.start_server().await?;
        let after = self.stage.api().workflow(&format!("/cycles/{number}")).await?;
        let same = self.count_same(&held).await?;
        self.say(&format!("           started again, process {}", self.stage.pid()));
        self.say(&format!("           after:  {}", report::deck_counts(&after)));
        self.say(&format!("           asked again: {same} of the {} slots dealt are held by the same task, version and arm", held.len()));
        if same != held.len() {
            return Err(DemoError::Changed(format!(
                "{} tasks were told another version or arm after the restart",
                held.len() - same
            )));
        }
        self.seen.survived_kill = true;
        Ok(())
    }

    /// What the tasks that hold a slot of that cycle's test were told.
    async fn slots_held(&self, number: i64) -> Result<Vec<Held>, DemoError> {
        let tasks = self.stage.services().clickup.tasks();
        // Newer tasks hold them; older ones only make the search longer.
        let newest = tasks.iter().rev().take(NEWEST);
        let asked = newest.flat_map(|task| Model::ALL.map(|model| (task, model.name()))).map(
            |(task, model)| async move {
                let told = self.told(&task.id, model).await?;
                Ok::<_, DemoError>(Held { task: task.id.clone(), model, told })
            },
        );
        let mut held = futures::future::try_join_all(asked).await?;
        held.retain(|held| held.told["arm"].is_string() && held.told["cycle"] == number);
        Ok(held)
    }

    async fn told(&self, task: &str, model: &str) -> Result<Value, DemoError> {
        // A task's first run is called 1.
        let path = format!("/tasks/{task}/assignments/{model}?run=1");
        Ok(self.stage.api().workflow(&path).await?)
    }

    async fn count_same(&self, held: &[Held]) -> Result<usize, DemoError> {
        let mut same = 0;
        for before in held {
            let now = self.told(&before.task, before.model).await?;
            let kept =
                ["version", "arm", "cycle"].iter().all(|what| now[*what] == before.told[*what]);
            same += usize::from(kept);
        }
        Ok(same)
    }
}

/// A slot of a test, by what its task was told.
struct Held {
    task: String,
    model: &'static str,
    told: Value,
}

/// Gives up on a hold that does not lift itself.
fn held(
    status: &Value,
    since: Option<Instant>,
    now: Instant,
) -> Result<Option<Instant>, DemoError> {
    let stands = status["holds"].as_array().is_some_and(|holds| !holds.is_empty());
    let since = stands.then(|| since.unwrap_or(now));
    match since {
        Some(since) if now.duration_since(since) > HOLD_PATIENCE => {
            Err(DemoError::Held(status["sentence"].as_str().unwrap_or_default().to_owned()))
        }
        _ => Ok(since),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_not_seen_is_named() {
        let seen = Seen { adopted: true, rejected: false, survived_kill: false };
        insta::assert_snapshot!(seen.missing(), @"a cycle that ends rejected by its test, a test that goes on after its server was killed");
        assert!(Seen { rejected: true, survived_kill: true, ..seen }.is_whole());
    }

    #[test]
    fn a_hold_is_given_up_only_when_it_does_not_lift_itself() {
        let standing =
            serde_json::json!({"holds": [{}], "sentence": "Cycle 1 Analyzing. Held: no key."});
        let lifted = serde_json::json!({"holds": []});
        let start = Instant::now();
        let late = start + HOLD_PATIENCE + POLL;
        let since = held(&standing, None, start).expect("a new hold is waited for");
        assert_eq!(held(&lifted, since, late).expect("it is lifted"), None);
        assert!(held(&standing, since, late).is_err());
    }
}
