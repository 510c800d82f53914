//! The guard `strict`: a test that cannot tell goes on over longer decks, one model at a time.

use std::sync::atomic::{AtomicUsize, Ordering};

use mathesis::cycle::{ModelResult, StateName};
use mathesis::experiment::Arm;
use mathesis::runtime::Assignment;
use mathesis::workflow::definition::GuardMode;
use serde_json::json;

use crate::support::stage::{NANO, WAN};
use crate::support::{Stage, TaskRun};

/// A stage in Testing, whose only model is Wan.
async fn strict_test() -> Stage {
    let stage = Stage::builder()
        .definition(|definition| {
            definition.trigger.tasks = 3;
            definition.guard.mode = GuardMode::Strict;
            definition.models.retain(|model| model.name.as_str() == WAN);
        })
        .build()
        .await;
    stage.complete_tasks("seed", 3, 7).await;
    assert_eq!(stage.watch().await, 1);
    let mut answer = crate::support::analysis_answer(&["seed-1"]);
    answer["patterns"].as_array_mut().expect("patterns").truncate(1);
    stage.claude.answer_json(answer);
    stage.claude.answer_json(crate::support::edit_answer("Keep the logo."));
    assert_eq!(stage.step().await, StateName::Generating);
    assert_eq!(stage.step().await, StateName::Testing);
    stage
}

/// Scores by arm, each arm's in turn.
struct Scores {
    control: &'static [i64],
    candidate: &'static [i64],
    next: [AtomicUsize; 2],
}

impl Scores {
    const fn new(control: &'static [i64], candidate: &'static [i64]) -> Self {
        Self { control, candidate, next: [AtomicUsize::new(0), AtomicUsize::new(0)] }
    }

    fn of(&self, told: &Assignment) -> i64 {
        let (scores, next) = match told.arm.expect("a slot is dealt") {
            Arm::Control => (self.control, &self.next[0]),
            Arm::Candidate => (self.candidate, &self.next[1]),
        };
        scores[next.fetch_add(1, Ordering::Relaxed) % scores.len()]
    }
}

/// Twenty more tasks, and the look at all scores so far.
async fn look(stage: &Stage, number: u32, scores: &Scores) {
    for n in 1..=20 {
        let task = format!("look-{number}-{n}");
        let told = stage.assign(&task, WAN).await;
        stage.log(TaskRun::new(task, &[(WAN, told.version, scores.of(&told))]).events()).await;
    }
    assert_eq!(stage.watch().await, 1, "look {number} is taken");
    assert_eq!(stage.watch().await, 0, "and once");
}

/// What stands of the experiment: status, reason, sizes of the arms, looks.
async fn stands(stage: &Stage) -> (String, Option<String>, i64, i64) {
    let row = stage.experiments(1).await.remove(0);
    let looks = stage.number("SELECT max(looks)::bigint FROM experiments").await;
    (row.status, row.reason, row.candidate_count.unwrap_or(0).into(), looks)
}

/// Slots dealt so far, by arm, and blocks of other than two and two.
async fn dealt(stage: &Stage) -> (i64, i64, i64) {
    let of = async |arm| {
        sqlx::query_scalar("SELECT count(*) FROM deck_slots WHERE arm = $1 AND phase = 'test'")
            .bind(arm)
            .fetch_one(stage.pool())
            .await
            .expect("the slots count")
    };
    let uneven = "SELECT count(*) FROM (SELECT FROM deck_slots GROUP BY block
        HAVING count(*) FILTER (WHERE arm = 'candidate') <> 2 OR count(*) <> 4) b";
    (of("control").await, of("candidate").await, stage.number(uneven).await)
}

/// Better by a tenth and a bit, within what chance does: proven only after several looks.
fn noisy() -> Scores {
    Scores::new(&[2, 10], &[4, 10])
}

#[tokio::test]
async fn a_test_that_cannot_tell_goes_on_over_longer_decks_until_it_is_proven() {
    let stage = strict_test().await;
    assert_eq!(dealt(&stage).await, (10, 10, 0));
    look(&stage, 1, &noisy()).await;
    assert_eq!(stage.state().await, StateName::Testing);
    assert_eq!(stands(&stage).await, ("testing".to_owned(), None, 0, 1));
    assert_eq!(dealt(&stage).await, (20, 20, 0), "lengthened by as much again, in blocks of four");

    look(&stage, 2, &noisy()).await;
    assert_eq!(stands(&stage).await, ("testing".to_owned(), None, 0, 2));
    assert_eq!(dealt(&stage).await, (30, 30, 0));

    // Now it shows.
    look(&stage, 3, &Scores::new(&[2, 3], &[10, 9])).await;
    assert_eq!(stage.state().await, StateName::Deciding);
    let adopted = ("adopted".to_owned(), Some("improved".to_owned()), 30, 3);
    assert_eq!(stands(&stage).await, adopted, "all thirty scores an arm count");
    assert_eq!(stage.assign("after", WAN).await.arm, None, "nothing more is dealt");
    assert_eq!(
        stage.step().await,
        StateName::Applying,
        "the verdict agrees with the stored scores"
    );
    assert_eq!(stage.step().await, StateName::Applied, "an adoption is final");
    assert_eq!(stage.active_version(WAN).await, 2);
    assert_eq!(stage.number("SELECT count(*) FROM probations").await, 0);
}

#[tokio::test]
async fn a_candidate_that_is_no_longer_ahead_is_rejected_at_a_later_look() {
    let stage = strict_test().await;
    let before = stage.read(WAN, "research.md");
    look(&stage, 1, &noisy()).await;
    look(&stage, 2, &noisy()).await;
    look(&stage, 3, &Scores::new(&[10], &[5])).await;
    assert_eq!(
        stands(&stage).await,
        ("rejected".to_owned(), Some("not_improved".to_owned()), 30, 3)
    );
    assert_eq!(stage.step().await, StateName::Rejected);
    assert_eq!((stage.active_version(WAN).await, stage.read(WAN, "research.md")), (1, before));
}

#[tokio::test]
async fn what_the_last_look_cannot_prove_is_rejected() {
    let stage = strict_test().await;
    for number in 1..=4 {
        look(&stage, number, &noisy()).await;
        assert_eq!(stage.state().await, StateName::Testing, "look {number}");
    }
    look(&stage, 5, &noisy()).await;
    assert_eq!(stands(&stage).await, ("rejected".to_owned(), Some("not_proven".to_owned()), 50, 5));
    assert_eq!(stage.step().await, StateName::Rejected);
    assert_eq!(stage.active_version(WAN).await, 1);
}

#[tokio::test]
async fn a_lengthened_test_whose_time_runs_out_is_inconclusive() {
    let stage = strict_test().await;
    look(&stage, 1, &noisy()).await;
    let asked = stage.assign("silent", WAN).await;
    assert!(asked.arm.is_some(), "the longer deck is being dealt");
    stage.clock.advance(chrono::Duration::days(14));
    while stage.state().await == StateName::Testing {
        assert!(stage.watch().await > 0, "the watcher ends the test");
    }
    let (status, _, _, looks) = stands(&stage).await;
    assert_eq!((status.as_str(), looks), ("inconclusive", 1));
    while stage.cycle().await.number == 1 {
        stage.step().await;
    }
    assert_eq!(ended(&stage).await, (StateName::Rejected, ModelResult::Inconclusive));
    assert_eq!(stage.active_version(WAN).await, 1);
}

async fn ended(stage: &Stage) -> (StateName, ModelResult) {
    let state = stage.cycle_number(1).await.snapshot.state;
    let result = state.outcome().expect("the cycle has ended").models[0].result;
    (state.name(), result)
}

/// Scores a task under its version, as a validator that names itself.
async fn scored_by(stage: &Stage, judge: &str, task: &str, model: &str, score: fn(Arm) -> i64) {
    let told = stage.assign(task, model).await;
    let arm = told.arm.expect("a slot is dealt");
    let mut events = TaskRun::new(task, &[(model, told.version, score(arm))]).events();
    for event in events.iter_mut().filter(|event| event["type"] == "validation") {
        event["judge"] = json!({ "model": "claude", "prompt_version": judge });
    }
    stage.log(events).await;
}

const fn candidate_wins(arm: Arm) -> i64 {
    match arm {
        Arm::Control => 6,
        Arm::Candidate => 9,
    }
}

#[tokio::test]
async fn a_judge_that_changes_midway_decides_nothing_under_any_guard_and_the_old_version_stays() {
    for guard in [GuardMode::Off, GuardMode::Probation, GuardMode::Strict] {
        let stage = Stage::builder().definition(move |d| d.guard.mode = guard).build().await;
        let files = (stage.read(WAN, "research.md"), stage.read(NANO, "research.md"));
        stage.start_test("first").await;
        for n in 1..=12 {
            scored_by(&stage, "1", &format!("wan-{n}"), WAN, candidate_wins).await;
        }
        assert_eq!(stage.watch().await, 0, "{guard:?}: one judge so far");
        // One score is enough: no further one is waited for.
        scored_by(&stage, "2", "wan-13", WAN, candidate_wins).await;
        assert_eq!(stage.watch().await, 1, "{guard:?}: the test is over at once");
        assert_eq!(stage.assign("later", WAN).await.arm, None, "{guard:?}");
        for n in 1..=20 {
            scored_by(
                &stage,
                if n < 20 { "1" } else { "2" },
                &format!("nano-{n}"),
                NANO,
                candidate_wins,
            )
            .await;
        }
        assert_eq!(stage.watch().await, 1, "{guard:?}: with the last score, too");
        for row in stage.experiments(1).await {
            let stands = (row.status.as_str(), row.reason.as_deref());
            assert_eq!(stands, ("inconclusive", Some("judge_changed")), "{guard:?}");
        }
        assert_eq!(stage.step().await, StateName::Rejected, "{guard:?}");
        assert_eq!((stage.active_version(WAN).await, stage.active_version(NANO).await), (1, 1));
        assert_eq!((stage.read(WAN, "research.md"), stage.read(NANO, "research.md")), files);
        assert!(stage.backups(WAN).is_empty(), "{guard:?}: nothing was written");
    }
}

#[tokio::test]
async fn a_judge_that_changes_between_two_looks_ends_a_lengthened_test() {
    let stage = strict_test().await;
    let scores = noisy();
    for n in 1..=20 {
        let task = format!("first-{n}");
        let told = stage.assign(&task, WAN).await;
        let mut events = TaskRun::new(task, &[(WAN, told.version, scores.of(&told))]).events();
        for event in events.iter_mut().filter(|event| event["type"] == "validation") {
            event["judge"] = json!({ "model": "claude", "prompt_version": "1" });
        }
        stage.log(events).await;
    }
    assert_eq!(stage.watch().await, 1);
    assert_eq!(stands(&stage).await, ("testing".to_owned(), None, 0, 1));
    scored_by(&stage, "2", "second-1", WAN, candidate_wins).await;
    assert_eq!(stage.watch().await, 1);
    let (status, reason, _, _) = stands(&stage).await;
    assert_eq!((status.as_str(), reason.as_deref()), ("inconclusive", Some("judge_changed")));
    assert_eq!(stage.step().await, StateName::Rejected);
    assert_eq!(ended(&stage).await.1, ModelResult::Inconclusive);
    assert_eq!(stage.active_version(WAN).await, 1);
}
