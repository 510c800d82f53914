//! The course of the demo: follows the cycles over the interface and says what happens.

use std::sync::Arc;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use serde_json::Value;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::DemoError;
use super::pipeline::{self, Held, Ledger, Pace};
use super::report;
use super::stage::Stage;

const POLL: Duration = Duration::from_millis(40);
/// After so many cycles the demo ends if it has seen what it wants to show.
const CYCLES_MIN: i64 = 3;
/// After so many it ends in any case.
const CYCLES_MAX: i64 = 7;
const TIME_MAX: Duration = Duration::from_secs(300);
/// How long a hold may stand before the demo gives up; one that lifts itself is no failure.
const HOLD_PATIENCE: Duration = Duration::from_secs(30);
/// How long the last tasks may take.
const FINISH_TIMEOUT: Duration = Duration::from_secs(30);
/// The server is killed when so many of a test's 40 slots are held: neither at its start nor at its end.
const KILL_AT_HELD: std::ops::Range<usize> = 20..36;

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
    ledger: Arc<Ledger>,
    seed: u64,
    seen: Seen,
    bar: ProgressBar,
    pace: watch::Sender<Pace>,
    pipeline: Option<JoinHandle<()>>,
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
            ledger: Arc::default(),
            seed,
            seen: Seen::default(),
            bar,
            pace: watch::Sender::new(Pace::Full),
            pipeline: None,
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
            "A simulated pipeline now works through Greek editing tasks with two models. Its scores follow"
        );
        println!(
            "from what the models' documents say; Mathesis does not know how, and has to find it out."
        );
        self.began = Instant::now();
        let api = self.stage.api().clone();
        self.pipeline = Some(tokio::spawn(pipeline::run(
            api,
            self.seed,
            Arc::clone(&self.ledger),
            self.pace.subscribe(),
        )));
        for number in 1..=CYCLES_MAX {
            self.follow(number).await?;
            if number >= CYCLES_MIN && self.seen.is_whole() {
                break;
            }
        }
        self.finish_pipeline().await?;
        self.bar.finish_and_clear();
        report::end(&self.stage, &self.ledger, self.began.elapsed()).await?;
        Ok(self.seen)
    }

    /// Ends everything that runs.
    pub(super) async fn take_down(mut self) {
        if let Some(pipeline) = self.pipeline.take() {
            pipeline.abort();
        }
        self.bar.finish_and_clear();
        self.stage.take_down().await;
    }

    /// Lets the tasks in flight come to their end, so that both sides can be compared.
    async fn finish_pipeline(&mut self) -> Result<(), DemoError> {
        self.pace.send_replace(Pace::Stop);
        if let Some(pipeline) = self.pipeline.take() {
            let finished = tokio::time::timeout(FINISH_TIMEOUT, pipeline).await;
            finished.map_err(|_| DemoError::Unfinished(FINISH_TIMEOUT.as_secs()))??;
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
                self.note_end(&status);
                return Ok(());
            }
            self.show_progress(&status);
            held_since = held(&status, held_since, Instant::now())?;
            self.maybe_kill(number, &status).await?;
            tokio::time::sleep(POLL).await;
        }
    }

    fn check_health(&self) -> Result<(), DemoError> {
        if let Some(words) = self.ledger.failure() {
            return Err(DemoError::Pipeline(words));
        }
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

    fn note_end(&mut self, status: &Value) {
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
        for line in report::means(status, &self.ledger) {
            self.say(&line);
        }
    }

    fn show_progress(&self, status: &Value) {
        let state = status["state"].as_str().unwrap_or_default();
        let number = |value: &Value| value.as_u64().unwrap_or(0);
        let pace =
            if matches!(state, "collecting" | "testing") { Pace::Full } else { Pace::Trickle };
        self.pace.send_if_modified(|now| std::mem::replace(now, pace) != pace);
        let (position, length) = match state {
            "collecting" => (number(&status["tasks_waiting"]), number(&status["trigger_tasks"])),
            "testing" => {
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
        self.bar.set_message(format!("{state}, {} tasks done", self.ledger.finished()));
    }

    /// Once, in the middle of a test: kills the server, starts it again, and compares.
    async fn maybe_kill(&mut self, number: i64, status: &Value) -> Result<(), DemoError> {
        let testing = status["state"] == "testing";
        if self.seen.survived_kill
            || !testing
            || !KILL_AT_HELD.contains(&self.ledger.held(number).len())
        {
            return Ok(());
        }
        let before = self.stage.api().workflow(&format!("/cycles/{number}")).await?;
        let held = self.ledger.held(number);
        self.say(&format!("           before: {}", report::deck_counts(&before)));
        self.say(&format!(
            "           kill -9 of the server, process {}, in the middle of the test",
            self.stage.pid(),
        ));
        self.stage.kill_server().await?;
        self.stage.start_server().await?;
        let after = self.stage.api().workflow(&format!("/cycles/{number}")).await?;
        let same = self.count_same(&held).await?;
        self.say(&format!("           started again, process {}", self.stage.pid()));
        self.say(&format!("           after:  {}", report::deck_counts(&after)));
        self.say(&format!("           asked again: {same} of the {} slots dealt are held by the same task, version and arm", held.len()));
        if same != held.len() {
            return Err(DemoError::Pipeline(format!(
                "{} tasks were told another version or arm after the restart",
                held.len() - same
            )));
        }
        self.seen.survived_kill = true;
        Ok(())
    }

    async fn count_same(&self, held: &[Held]) -> Result<usize, DemoError> {
        let mut same = 0;
        for before in held {
            let path = format!("/tasks/{}/assignments/{}", before.task, before.model);
            let now = self.stage.api().workflow(&path).await?;
            same +=
                usize::from(now["version"] == before.version && now["arm"] == before.arm.as_str());
        }
        Ok(same)
    }
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
