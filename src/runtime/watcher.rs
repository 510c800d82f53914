//! The watcher: sees that a trigger is reached, a deck complete, a test or a probation out of time, and
//! says so.
//!
//! A bell says which workflows have news; each second a poll asks the database which of all are due, and in the
//! course of a minute every one is looked at. The database is the truth, the bell only makes it quicker.

use std::collections::BTreeSet;
use std::time::Duration;

use chrono::{DateTime, Utc};
use tokio_util::sync::CancellationToken;
use tracing::Instrument as _;

use super::advance::{AdvanceError, Advanced, Submission, What, advance};
use super::bell::News;
use super::engine::Engine;
use super::registry::{Workflow, definition_of_cycle};
use super::worker::Worker;
use crate::cycle::{Event, StateName};
use crate::experiment::Phase;
use crate::experiment::slot::{Fate, judge};
use crate::otlp;
use crate::store::cycles::{self, CycleRow};
use crate::store::experiments::SlotRow;
use crate::store::holds::{self, HoldRow};
use crate::store::{StoreError, due, experiments, parking, probations, window};
use crate::workflow::{Definition, OnAlarm};

/// How often the watcher asks which workflows are due without being told: news of other replicas, and what was
/// rung in a process that died, are seen within this time.
const POLL: Duration = Duration::from_secs(1);
/// Asking takes at most one part in so many of the time, so that very many workflows make it rarer and not dearer.
const POLL_SHARE: u32 = 20;
/// However long asking takes, this is not exceeded.
const POLL_MAX: Duration = Duration::from_secs(30);
/// In so many seconds every workflow is looked at, some each time that is asked: what no statement for all of
/// them sees, such as a test whose time has run out or a late score, is seen within this time.
const SWEEP_SECONDS: usize = 60;

/// How often marks of held effects that outlived their hold are looked for.
const SETTLE_EVERY: chrono::Duration = chrono::Duration::minutes(1);

/// Watches every workflow until the token is cancelled.
pub(super) async fn run(engine: Engine, worker: std::sync::Arc<Worker>, stop: CancellationToken) {
    let clock = std::sync::Arc::clone(&engine.clock);
    let mut watcher = Watcher { engine, worker, swept: 0, settled_at: None };
    let mut ask_at = clock.now();
    while !stop.is_cancelled() {
        let until_asking = (ask_at - clock.now()).to_std().unwrap_or_default();
        let news = tokio::select! {
            () = stop.cancelled() => break,
            news = watcher.engine.watch.heard() => news,
            () = clock.sleep(until_asking) => News::OfAny,
        };
        let began = clock.now();
        let took = || (clock.now() - began).to_std().unwrap_or_default();
        match news {
            News::Of(workflow_ids) => {
                let mut workflows = watcher.engine.registry.all();
                workflows.retain(|it| workflow_ids.contains(&it.workflow_id));
                watcher.ask(&workflows).await;
                // What rings meanwhile is gathered.
                clock.sleep(took().min(POLL)).await;
            }
            News::OfAny => {
                watcher.ask(&watcher.engine.registry.all()).await;
                let rest = (took() * POLL_SHARE).clamp(POLL, POLL_MAX);
                ask_at = clock.now() + rest;
                watcher.sweep_on(rest).await;
            }
        }
    }
}

/// The watcher of a process.
struct Watcher {
    engine: Engine,
    worker: std::sync::Arc<Worker>,
    /// How many workflows of the current sweep have been looked at.
    swept: usize,
    /// When the marks of held effects were last checked.
    settled_at: Option<DateTime<Utc>>,
}

impl Watcher {
    /// Looks at the next few workflows, due or not: as many as come to all of them in a minute when it is called
    /// once in that span.
    async fn sweep_on(&mut self, span: Duration) {
        let workflows = self.engine.registry.all();
        if self.swept >= workflows.len() {
            self.swept = 0;
        }
        let seconds = usize::try_from(span.as_secs()).unwrap_or(SWEEP_SECONDS).max(1);
        let share = (workflows.len() * seconds).div_ceil(SWEEP_SECONDS);
        for workflow in workflows.iter().skip(self.swept).take(share) {
            self.look_at(workflow.workflow_id).await;
            self.check_harm(workflow).await;
        }
        self.swept += share;
        let now = self.engine.now();
        if self.settled_at.is_none_or(|at| now - at >= SETTLE_EVERY) {
            self.settled_at = Some(now);
            self.settle_parked().await;
        }
    }

    async fn settle_parked(&self) {
        match parking::settle(self.engine.store.pool()).await {
            Ok(0) => {}
            Ok(found) => {
                tracing::info!(found, "effects were marked as held that nothing holds; they go on");
                self.engine.work.notify_one();
            }
            Err(error) => {
                tracing::warn!(error = %error, "marks of held effects could not be checked; trying again");
            }
        }
    }

    /// Asks which of these workflows are due, and looks at those.
    async fn ask(&self, workflows: &[Workflow]) {
        let pool = self.engine.store.pool();
        let ids: Vec<i64> = workflows.iter().map(|workflow| workflow.workflow_id).collect();
        match due::cycles(pool, &ids).await {
            Ok(due) => {
                for workflow_id in due {
                    self.look_at(workflow_id).await;
                }
            }
            Err(error) => {
                tracing::warn!(error = %error, "asking which cycles are due failed; trying again");
            }
        }
        let rolls_back = |it: &&Workflow| it.definition.watch.on_alarm == OnAlarm::RollBack;
        let roll_back: Vec<i64> =
            workflows.iter().filter(rolls_back).map(|workflow| workflow.workflow_id).collect();
        let settled = super::harm::settled(&self.engine);
        match due::standing_watches(pool, &ids, &roll_back, settled).await {
            Ok(due) => {
                for workflow in workflows.iter().filter(|it| due.contains(&it.workflow_id)) {
                    self.check_harm(workflow).await;
                }
            }
            Err(error) => {
                tracing::warn!(error = %error, "asking for adopted versions that have news failed; trying again");
            }
        }
    }

    async fn look_at(&self, workflow_id: i64) {
        if let Err(error) = check_workflow(&self.engine, &self.worker, workflow_id).await {
            tracing::warn!(workflow.id = workflow_id, error = %error,
                "looking for triggers and complete decks failed; trying again");
        }
    }

    async fn check_harm(&self, workflow: &Workflow) {
        if let Err(error) = super::harm::check(&self.engine, workflow).await {
            tracing::warn!(workflow.name = workflow.name(), error = %error,
                "the standing watch over adopted versions could not go on; trying again");
        }
    }
}

/// Submits what one workflow is due for: its trigger, its looks, its test's time-out. Returns how many
/// transitions that made.
///
/// # Errors
/// [`AdvanceError`]; what was not submitted is found again by the next look.
pub async fn check_workflow(
    engine: &Engine,
    worker: &Worker,
    workflow_id: i64,
) -> Result<u32, AdvanceError> {
    let Some(cycle) = cycles::find_open(engine.store.pool(), workflow_id).await? else {
        return Ok(0);
    };
    match cycle.snapshot.state.name() {
        StateName::Collecting => check_trigger(engine, worker, &cycle).await,
        StateName::Testing => check_test(engine, worker, &cycle).await,
        StateName::Probation => check_probation(engine, worker, &cycle).await,
        _ => Ok(0),
    }
}

async fn check_trigger(
    engine: &Engine,
    worker: &Worker,
    cycle: &CycleRow,
) -> Result<u32, AdvanceError> {
    let trigger = i64::from(cycle.snapshot.rules.trigger_tasks);
    let full = window::is_full(engine.store.pool(), cycle.workflow_id, trigger).await?;
    if full { submit(engine, worker, cycle, What::Trigger).await } else { Ok(0) }
}

async fn check_test(
    engine: &Engine,
    worker: &Worker,
    cycle: &CycleRow,
) -> Result<u32, AdvanceError> {
    let definition = definition_of_cycle(&engine.store, cycle).await?;
    let mut conn = engine.store.pool().acquire().await?;
    let running = experiments::of_cycle(&mut conn, cycle.workflow_id, cycle.number).await?;
    drop(conn);
    let mut moved = 0;
    for experiment in running.iter().filter(|experiment| experiment.status == "testing") {
        let model = &experiment.model_name;
        if sync_deck(engine, cycle, (model, Phase::Test), &definition).await? {
            moved += submit(engine, worker, cycle, What::Look { model: model.clone() }).await?;
        }
    }
    experiments::keep_late_scores(engine.store.pool(), cycle.workflow_id, cycle.number).await?;
    let (from, days) = (cycle.state_entered_at, definition.timeouts.test_days);
    if moved == 0 && is_out_of_time(engine, cycle, from, days).await? {
        moved += submit(engine, worker, cycle, What::Event(Event::TestTimedOut)).await?;
    }
    Ok(moved)
}

/// A probation ends with its last score, when its time is out, or when as many tasks have come and gone
/// as open the next analysis.
async fn check_probation(
    engine: &Engine,
    worker: &Worker,
    cycle: &CycleRow,
) -> Result<u32, AdvanceError> {
    let definition = definition_of_cycle(&engine.store, cycle).await?;
    let pool = engine.store.pool();
    let mut moved = 0;
    for probation in probations::of_cycle(pool, cycle.workflow_id, cycle.number).await? {
        if probation.status != "open" {
            continue;
        }
        let model = probation.model_name.clone();
        let complete = sync_deck(engine, cycle, (&model, Phase::Probation), &definition).await?;
        let from = probation.clock_from();
        let ran_out =
            !complete && probation_is_out_of_time(engine, cycle, &definition, from).await?;
        if complete || ran_out {
            let ran_out_from = ran_out.then_some(from);
            let look = What::ProbationLook { model, ran_out_from };
            moved += submit(engine, worker, cycle, look).await?;
        }
    }
    experiments::keep_late_scores(pool, cycle.workflow_id, cycle.number).await?;
    Ok(moved)
}

async fn probation_is_out_of_time(
    engine: &Engine,
    cycle: &CycleRow,
    definition: &Definition,
    from: DateTime<Utc>,
) -> Result<bool, StoreError> {
    let days = definition.guard.probation_days;
    if is_out_of_time(engine, cycle, from, days).await? {
        return Ok(true);
    }
    let trigger = i64::from(cycle.snapshot.rules.trigger_tasks);
    let pool = engine.store.pool();
    Ok(window::waiting_since(pool, cycle.workflow_id, from, trigger).await? >= trigger)
}

async fn submit(
    engine: &Engine,
    worker: &Worker,
    cycle: &CycleRow,
    what: What,
) -> Result<u32, AdvanceError> {
    let submission = Submission {
        workflow_id: cycle.workflow_id,
        cycle: Some(cycle.number),
        actor: "mathesis",
        reason: None,
        what,
        completes: None,
        claims_next: true,
    };
    let span = tracing::info_span!(
        "transition",
        workflow.id = cycle.workflow_id,
        cycle.number = cycle.number,
        cycle.from = cycle.snapshot.state.name().as_str(),
    );
    otlp::continue_from(&span, otlp::take_cause(cycle.workflow_id).as_deref());
    match advance(engine, submission).instrument(span).await {
        Ok(Advanced::Moved(moved)) => {
            if let Some(claim) = moved.claimed {
                worker.take_over(claim);
            }
            Ok(1)
        }
        // Another replica was quicker, or the moment has passed: both are well.
        Ok(Advanced::NotNow) | Err(AdvanceError::Invalid(_) | AdvanceError::CycleEnded { .. }) => {
            Ok(0)
        }
        Err(error) => Err(error),
    }
}

/// Brings one deck up to date with what its holders reported: counts scores, takes slots back from
/// holders that will not report. True when its look is due: no slot waits any more, or a second judge
/// gave a score, be it since an earlier look or since the test.
///
/// # Errors
/// [`StoreError`] when the database fails; the deck is then as it was.
async fn sync_deck(
    engine: &Engine,
    cycle: &CycleRow,
    (model, phase): (&str, Phase),
    definition: &Definition,
) -> Result<bool, StoreError> {
    let (workflow_id, cycle) = (cycle.workflow_id, cycle.number);
    let mut tx = engine.store.pool().begin().await?;
    let Some(mut deck) = experiments::lock(&mut tx, workflow_id, cycle, model, phase).await? else {
        return Ok(false);
    };
    let patience = chrono::Duration::hours(i64::from(definition.timeouts.slot_score_hours));
    let now = engine.now();
    let holds = holds::since(&mut tx, workflow_id, cycle, deck.clock_from).await?;
    let lost_before = unheld_before(&holds, now, patience);
    let slots = experiments::slots(&mut tx, workflow_id, &deck, lost_before).await?;
    let mut complete = true;
    let mut judges = BTreeSet::new();
    for (place, slot) in slots.iter().enumerate() {
        if !matches!(slot.state.as_str(), "dealt" | "scored") {
            complete &= slot.state == "missing";
            continue;
        }
        match fate_of(&slots, place, deck.paired) {
            Fate::Waits => complete &= slot.state == "scored",
            Fate::Scores(score) => {
                if slot.facts.score.is_some() {
                    judges.insert(slot.judge.clone());
                }
                let score = i32::from(score);
                if slot.score != Some(score) {
                    experiments::count_score(&mut tx, workflow_id, &deck, slot, score).await?;
                }
            }
            Fate::Missing(loss) => {
                let allowed =
                    i32::try_from(definition.timeouts.deals_again_max).unwrap_or(i32::MAX);
                // A pair takes two slots, and both go or stay.
                let slots_a_task = if deck.paired { 2 } else { 1 };
                let again = deck.deals_again < allowed.saturating_mul(slots_a_task);
                let because = loss.as_str();
                experiments::take_slot_back(&mut tx, workflow_id, &deck, slot, because, again)
                    .await?;
                deck.deals_again += i32::from(again);
                complete &= !again;
            }
        }
    }
    if !complete {
        // Earlier looks' slots are frozen, and so are the test's under a probation: their scores are pooled, too.
        let counted =
            experiments::counted_scores(&mut tx, workflow_id, cycle, model, Phase::Test).await?;
        judges.extend(counted.into_iter().filter(|it| it.is_judged).map(|it| it.judge));
    }
    tx.commit().await?;
    Ok(complete || judges.len() > 1)
}

/// What becomes of a slot. A pair stays together: where one leg is missing, the task is no pair, and both
/// slots go to another one.
fn fate_of(slots: &[SlotRow], place: usize, paired: bool) -> Fate {
    let own = slots.get(place).map_or(Fate::Waits, |slot| judge(&slot.facts));
    if !paired || matches!(own, Fate::Missing(_)) {
        return own;
    }
    let block = slots.get(place).map(|slot| slot.block);
    let lost = slots
        .iter()
        .enumerate()
        .filter(|(other, slot)| *other != place && Some(slot.block) == block)
        .map(|(_, slot)| judge(&slot.facts))
        .find(|fate| matches!(fate, Fate::Missing(_)));
    lost.unwrap_or(own)
}

/// The clock of a test or a probation stands still while anything holds its cycle.
async fn is_out_of_time(
    engine: &Engine,
    cycle: &CycleRow,
    from: DateTime<Utc>,
    days: u32,
) -> Result<bool, StoreError> {
    let now = engine.now();
    let limit = chrono::Duration::days(i64::from(days));
    if now - from < limit {
        return Ok(false);
    }
    let mut conn = engine.store.pool().acquire().await?;
    let holds = holds::since(&mut conn, cycle.workflow_id, cycle.number, from).await?;
    Ok(now - from - held_time(&holds, from, now) >= limit)
}

/// The moment since which that much time has passed without a hold.
fn unheld_before(
    holds: &[HoldRow],
    now: DateTime<Utc>,
    patience: chrono::Duration,
) -> DateTime<Utc> {
    let mut spans: Vec<(DateTime<Utc>, DateTime<Utc>)> =
        holds.iter().map(|hold| (hold.lifted_at.unwrap_or(now), hold.placed_at)).collect();
    spans.sort_unstable();
    let (mut reached, mut left) = (now, patience);
    for (end, start) in spans.into_iter().rev() {
        let free = reached - end.min(reached);
        if free >= left {
            break;
        }
        left -= free;
        reached = start.min(reached);
    }
    reached - left
}

/// How much of a span at least one hold stood.
fn held_time(holds: &[HoldRow], from: DateTime<Utc>, to: DateTime<Utc>) -> chrono::Duration {
    let mut spans: Vec<(DateTime<Utc>, DateTime<Utc>)> = holds
        .iter()
        .map(|hold| (hold.placed_at.max(from), hold.lifted_at.unwrap_or(to).min(to)))
        .filter(|(start, end)| start < end)
        .collect();
    spans.sort_unstable();
    let mut held = chrono::Duration::zero();
    let mut covered_to = from;
    for (start, end) in spans {
        let start = start.max(covered_to);
        if start < end {
            held += end - start;
            covered_to = end;
        }
    }
    held
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(hour: i64) -> DateTime<Utc> {
        DateTime::UNIX_EPOCH + chrono::Duration::hours(hour)
    }

    fn hold(placed: i64, lifted: Option<i64>) -> HoldRow {
        HoldRow {
            hold_id: 1,
            cycle: Some(1),
            kind: "operator".to_owned(),
            subject: String::new(),
            code: String::new(),
            reason: String::new(),
            remedy: String::new(),
            placed_at: at(placed),
            placed_by: String::new(),
            lifted_at: lifted.map(at),
            lifted_by: None,
            lift_reason: None,
        }
    }

    #[test]
    fn overlapping_holds_stop_the_clock_once() {
        let holds = [hold(2, Some(5)), hold(4, Some(6)), hold(8, Some(9))];
        assert_eq!(held_time(&holds, at(0), at(10)), chrono::Duration::hours(5));
    }

    #[test]
    fn a_holders_patience_goes_back_over_every_hold_in_between() {
        let holds = [hold(2, Some(5)), hold(6, Some(8))];
        let six = chrono::Duration::hours(6);
        assert_eq!(unheld_before(&[], at(10), six), at(4));
        assert_eq!(
            unheld_before(&holds, at(10), six),
            at(-1),
            "two, one and three hours free of holds"
        );
        assert_eq!(
            unheld_before(&[hold(1, None)], at(10), six),
            at(-5),
            "a hold that still stands"
        );
    }

    #[test]
    fn a_hold_from_before_the_test_and_one_that_still_stands_count_within_it_only() {
        let holds = [hold(0, Some(3)), hold(9, None)];
        assert_eq!(held_time(&holds, at(2), at(10)), chrono::Duration::hours(2));
    }
}
