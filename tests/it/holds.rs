//! Holds: what each stops, what it lets through, and how it is lifted.

mod operators;
mod parked;

use std::sync::Arc;

use chrono::TimeDelta;
use mathesis::claude::{ClaudeSettings, HttpClaude};
use mathesis::cycle::StateName;
use mathesis::runtime::{Engine, Operation, Worked, Worker, check_workflow, lift_budget_holds};
use mathesis::workflow::definition::ApprovalAsk;

use crate::support::stage::{NANO, WAN};
use crate::support::{Stage, analysis_answer, candidates_win, no_edit_answer};

fn off() -> Operation {
    Operation::Automation { enabled: false }
}

fn on() -> Operation {
    Operation::Automation { enabled: true }
}

async fn analyzing(stage: &Stage) {
    stage.complete_tasks("task", 50, 7).await;
    assert_eq!(stage.watch().await, 1);
    assert_eq!(stage.state().await, StateName::Analyzing);
}

#[tokio::test]
async fn a_pause_lets_the_running_effect_finish_and_starts_nothing_new() {
    let stage = Stage::new().await;
    analyzing(&stage).await;
    stage.please(Operation::Pause).await;
    stage.claude.answer_json(analysis_answer(&[]));
    assert_eq!(stage.step().await, StateName::Generating, "the analysis had begun");
    assert_eq!(stage.work().await, Worked::Idle);
    assert_eq!(stage.another().await.work().await, Worked::Idle, "no replica claims it either");
    assert_eq!(stage.claude.requests().len(), 1);

    stage.please(Operation::Resume).await;
    stage.claude.answer_json(no_edit_answer()).answer_json(no_edit_answer());
    assert_eq!(
        stage.step().await,
        StateName::Rejected,
        "it goes on, and neither model gets a candidate"
    );
}

#[tokio::test]
async fn a_pause_deals_nothing_while_dealt_tasks_keep_their_arm_and_score() {
    let stage = Stage::new().await;
    stage.start_test("seed").await;
    let dealt = stage.assign("dealt", WAN).await;
    assert!(dealt.arm.is_some());
    stage.please(Operation::Pause).await;

    let newcomer = stage.assign("newcomer", WAN).await;
    assert_eq!((newcomer.version, newcomer.arm), (1, None), "it gets the version that serves");
    assert_eq!(stage.assign("dealt", WAN).await, dealt);
    let run = crate::support::TaskRun::new("dealt", &[(WAN, dealt.version, 8)]);
    stage.log(run.events()).await;
    stage.watch().await;
    let wan =
        stage.status().await.models.into_iter().find(|model| model.model == WAN).expect("tested");
    assert_eq!(wan.scored.control + wan.scored.candidate, 1, "its score counts under the hold");

    stage.please(Operation::Resume).await;
    assert!(stage.assign("next", WAN).await.arm.is_some(), "dealing goes on");
    assert_eq!(stage.assign("newcomer", WAN).await, newcomer, "and the newcomer keeps its answer");
}

#[tokio::test]
async fn resume_lifts_the_operators_own_hold_and_no_other() {
    let stage = Stage::new().await;
    stage.please(Operation::Pause).await;
    stage.please(off()).await;
    assert_eq!(stage.held_by().await, ["operator", "automation_off"]);
    stage.please(Operation::Resume).await;
    assert_eq!(stage.held_by().await, ["automation_off"]);
    let words = stage.refused(Operation::Resume).await;
    assert!(words.contains("`mathesis automation on`"), "it says what helps instead: {words}");
    assert_eq!(stage.held_by().await, ["automation_off"]);
}

#[tokio::test]
async fn automation_off_logs_and_counts_in_silence_until_it_is_on_again() {
    let stage = Stage::new().await;
    stage.please(off()).await;
    stage.complete_tasks("silent", 50, 7).await;
    stage.watch().await;
    assert_eq!(stage.work().await, Worked::Idle);
    assert!(stage.claude.requests().is_empty(), "no call to Claude");
    assert_eq!(stage.number("SELECT count(*) FROM tasks").await, 50);

    stage.please(on()).await;
    stage.watch().await;
    stage.claude.answer_json(analysis_answer(&[]));
    assert_eq!(stage.step().await, StateName::Generating);
}

#[tokio::test]
async fn automation_off_outlives_the_cycle() {
    let stage = Stage::new().await;
    stage.please(off()).await;
    stage.please(Operation::Pause).await;
    stage.please(Operation::Cancel).await;
    assert_eq!(stage.cycle().await.number, 2);
    assert_eq!(stage.held_by().await, ["automation_off"], "the pause ended with its cycle");
}

#[tokio::test]
async fn an_effect_that_failed_for_good_is_held_with_words_and_goes_on_by_retry() {
    let stage = Stage::new().await;
    analyzing(&stage).await;
    stage.claude.status(400, &[]);
    let failed = Worked::Failed { code: "claude_bad_request".to_owned(), held: true };
    assert_eq!(stage.work().await, failed);
    let hold = stage.the_hold().await;
    assert_eq!((hold.kind.as_str(), hold.code.as_str()), ("effect_failed", "claude_bad_request"));
    assert!(
        !hold.reason.is_empty() && hold.remedy.ends_with("Then `mathesis cycle retry`."),
        "{hold:?}"
    );
    assert_eq!(stage.work().await, Worked::Idle);

    stage.claude.answer_json(analysis_answer(&[]));
    stage.please(Operation::Retry).await;
    assert_eq!(stage.step().await, StateName::Generating);
    assert_eq!(stage.held_by().await, [""; 0]);
}

#[tokio::test]
async fn answers_that_cannot_be_used_end_in_a_hold_and_retry_asks_afresh() {
    let stage = Stage::new().await;
    analyzing(&stage).await;
    stage.claude.answer_text("one").answer_text("two").truncated();
    let failed = Worked::Failed { code: "no_usable_answer".to_owned(), held: true };
    assert_eq!(stage.work().await, failed);
    stage.clock.advance(TimeDelta::minutes(5));
    stage.please(Operation::Retry).await;
    stage.claude.answer_json(analysis_answer(&[]));
    assert_eq!(stage.step().await, StateName::Generating, "the old refusals do not count any more");
    assert_eq!(stage.claude.requests().len(), 4);
}

async fn asking(ask: ApprovalAsk) -> Stage {
    Stage::builder().definition(move |definition| definition.approval.ask = ask).build().await
}

#[tokio::test]
async fn candidates_wait_for_a_word_before_their_test() {
    let stage = asking(ApprovalAsk::BeforeTest).await;
    stage.start_test("asked").await;
    assert_eq!(stage.the_hold().await.code, "approval_before_test");
    assert_eq!(stage.assign("early", WAN).await.arm, None, "nothing is dealt before it");
    stage.please(Operation::Approve { models: vec![] }).await;
    assert!(stage.assign("after", WAN).await.arm.is_some());
}

#[tokio::test]
async fn refusing_every_candidate_before_its_test_rejects_the_cycle() {
    let stage = asking(ApprovalAsk::BeforeTest).await;
    stage.start_test("asked").await;
    stage.please(Operation::Refuse { models: vec![] }).await;
    assert_eq!(stage.cycle_number(1).await.snapshot.state.name(), StateName::Rejected);
    assert!(stage.experiments(1).await.iter().all(|row| row.reason.as_deref() == Some("refused")));
    assert_eq!(stage.held_by().await, [""; 0], "the next cycle is free");
}

#[tokio::test]
async fn refusing_one_candidate_leaves_the_other_to_its_test() {
    let stage = asking(ApprovalAsk::BeforeTest).await;
    stage.start_test("asked").await;
    stage.please(Operation::Refuse { models: vec![WAN.to_owned()] }).await;
    stage.please(Operation::Approve { models: vec![] }).await;
    assert_eq!(stage.assign("task", WAN).await.arm, None);
    stage.play_test("test", candidates_win).await;
    assert_eq!(stage.watch().await, 1);
    assert_eq!(stage.step().await, StateName::Applying);
    assert_eq!(stage.step().await, StateName::Applied);
    assert_eq!((stage.active_version(WAN).await, stage.active_version(NANO).await), (1, 2));
}

#[tokio::test]
async fn adopted_candidates_wait_for_a_word_before_they_serve() {
    let stage = asking(ApprovalAsk::BeforeApply).await;
    stage.reach_deciding("asked", candidates_win).await;
    assert_eq!(stage.the_hold().await.code, "approval_before_apply");
    assert_eq!(stage.work().await, Worked::Idle);
    stage.please(Operation::Refuse { models: vec![NANO.to_owned()] }).await;
    assert_eq!(stage.work().await, Worked::Idle, "the other still waits");
    stage.please(Operation::Approve { models: vec![] }).await;
    assert_eq!(stage.step().await, StateName::Applying);
    assert_eq!(stage.step().await, StateName::Applied);
    assert_eq!((stage.active_version(WAN).await, stage.active_version(NANO).await), (2, 1));
}

#[tokio::test]
async fn refusing_every_adopted_candidate_rejects_the_cycle() {
    let stage = asking(ApprovalAsk::BeforeApply).await;
    stage.reach_deciding("asked", candidates_win).await;
    stage.please(Operation::Refuse { models: vec![] }).await;
    assert_eq!(stage.cycle_number(1).await.snapshot.state.name(), StateName::Rejected);
    assert_eq!(stage.work().await, Worked::Idle);
    let kept: Vec<String> = stage.experiments(1).await.into_iter().map(|row| row.status).collect();
    assert_eq!(kept, ["adopted", "adopted"], "the verdicts stay what they were");
}

async fn poor() -> Stage {
    Stage::builder()
        .definition(|definition| {
            definition.claude.budget_usd_per_month = "0.01".parse().expect("a price");
        })
        .build()
        .await
}

#[tokio::test]
async fn a_spent_budget_holds_before_the_call_and_lifts_itself_when_the_month_turns() {
    let stage = poor().await;
    analyzing(&stage).await;
    assert_eq!(stage.work().await, Worked::Failed { code: "budget_spent".to_owned(), held: true });
    assert_eq!(stage.the_hold().await.kind, "budget_spent");
    assert!(
        stage.claude.requests().is_empty() && stage.calls(1).await.is_empty(),
        "nothing is billed"
    );
    assert_eq!(stage.last_effect(1).await.attempts, 0, "and no try is spent");

    // December begins in Athens two hours before it does in UTC.
    stage.clock.set("2026-11-30T21:59:59Z".parse().expect("a moment"));
    lift_budget_holds(&stage.engine).await.expect("the database answers");
    assert_eq!(stage.held_by().await, ["budget_spent"]);
    stage.clock.set("2026-11-30T22:00:00Z".parse().expect("a moment"));
    lift_budget_holds(&stage.engine).await.expect("the database answers");
    assert_eq!(stage.held_by().await, [""; 0]);
    assert_eq!(stage.work().await, Worked::Failed { code: "budget_spent".to_owned(), held: true });
}

#[tokio::test]
async fn a_raised_budget_goes_on_by_retry() {
    let stage = poor().await;
    analyzing(&stage).await;
    stage.work().await;
    let mut richer = stage.workflow.definition.as_ref().clone();
    richer.claude.budget_usd_per_month = "15".parse().expect("a price");
    let folder = stage.folder.path().join(&richer.config_folder);
    let registry = &stage.engine.registry;
    let registered =
        registry.register(&stage.store, richer, &folder, None, stage.engine.now()).await;
    registered.expect("the edited workflow registers");

    stage.please(Operation::Retry).await;
    stage.claude.answer_json(analysis_answer(&[]));
    assert_eq!(stage.step().await, StateName::Generating);
}

#[tokio::test]
async fn without_a_key_the_cycle_is_held_at_analyzing() {
    let stage = Stage::new().await;
    let keyless =
        HttpClaude::new(ClaudeSettings::new("https://api.anthropic.com", None)).expect("a client");
    let engine = Engine { claude: Arc::new(keyless), ..stage.engine.clone() };
    let worker = Worker::new(engine.clone());
    stage.complete_tasks("task", 50, 7).await;
    assert_eq!(check_workflow(&engine, &worker, stage.id()).await.expect("the watcher looks"), 1);
    let worked = worker.work_once().await.expect("the worker works");
    assert_eq!(worked, Worked::Failed { code: "claude_not_configured".to_owned(), held: true });
    assert_eq!(stage.state().await, StateName::Analyzing);
    let hold = stage.the_hold().await;
    assert_eq!(hold.code, "claude_not_configured");
    assert!(hold.remedy.contains("ANTHROPIC_API_KEY"), "{}", hold.remedy);
    assert!(stage.calls(1).await.is_empty());
}

#[tokio::test]
async fn a_tests_fourteen_days_stand_still_while_it_is_held() {
    let stage = Stage::new().await;
    stage.start_test("slow").await;
    stage.clock.advance(TimeDelta::days(5));
    stage.please(Operation::Pause).await;
    stage.clock.advance(TimeDelta::days(30));
    assert_eq!(stage.watch().await, 0, "thirty days of a pause do not count");
    stage.please(Operation::Resume).await;
    stage.clock.advance(TimeDelta::hours(9 * 24 - 1));
    assert_eq!(stage.watch().await, 0, "an hour is left");
    stage.clock.advance(TimeDelta::hours(1));
    assert_eq!(stage.watch().await, 1);
    assert_eq!(stage.state().await, StateName::Deciding);
    for row in stage.experiments(1).await {
        assert_eq!(
            (row.status.as_str(), row.reason.as_deref()),
            ("inconclusive", Some("timed_out"))
        );
    }
}

#[tokio::test]
async fn a_slots_six_hours_stand_still_while_it_is_held() {
    let stage = Stage::new().await;
    stage.start_test("seed").await;
    stage.assign("patient", WAN).await;
    stage.clock.advance(TimeDelta::hours(5));
    stage.please(Operation::Pause).await;
    stage.clock.advance(TimeDelta::days(3));
    stage.watch().await;
    stage.please(Operation::Resume).await;
    stage.clock.advance(TimeDelta::minutes(59));
    stage.watch().await;
    let dealt = "SELECT count(*) FROM deck_slots WHERE clickup_task_id = 'patient'";
    assert_eq!(stage.number(dealt).await, 1, "a minute is left");
    stage.clock.advance(TimeDelta::minutes(2));
    stage.watch().await;
    assert_eq!(stage.number(dealt).await, 0);
}

#[tokio::test]
async fn a_slot_whose_task_went_silent_is_dealt_again_in_its_arm_and_the_late_score_does_not_count()
{
    let stage = Stage::new().await;
    stage.start_test("seed").await;
    let lost = stage.assign("lost", WAN).await;
    stage.clock.advance(TimeDelta::hours(7));
    stage.watch().await;
    let heir = stage.assign("heir", WAN).await;
    assert_eq!(heir.arm, lost.arm, "the slot keeps its arm");
    assert_eq!(stage.assign("lost", WAN).await, lost, "the former holder keeps its answer");
    stage.log(crate::support::TaskRun::new("lost", &[(WAN, lost.version, 10)]).events()).await;
    stage.watch().await;
    assert_eq!(stage.number("SELECT count(*) FROM deck_slots WHERE state = 'scored'").await, 0);
    assert_eq!(
        stage
            .number("SELECT late_score::bigint FROM assignments WHERE clickup_task_id = 'lost'")
            .await,
        10
    );
    assert!(lost.arm.is_some());
}

#[tokio::test]
async fn a_score_that_comes_after_its_test_is_kept_as_late_by_the_sweep() {
    let stage = Stage::new().await;
    stage.start_test("seed").await;
    let told = stage.assign("straggler", WAN).await;
    stage.please(Operation::Cancel).await;
    stage.log(crate::support::TaskRun::new("straggler", &[(WAN, told.version, 9)]).events()).await;
    stage.clock.advance(TimeDelta::hours(1));
    mathesis::runtime::run_due_schedules(&stage.engine, &stage.worker)
        .await
        .expect("the sweep runs");
    let late = "SELECT late_score::bigint FROM assignments WHERE clickup_task_id = 'straggler' AND slot IS NOT NULL";
    assert_eq!(stage.number(late).await, 9);
}
