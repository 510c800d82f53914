//! A probation with too few scores: extended once, then a person is asked.

use chrono::Duration;
use mathesis::cycle::StateName;
use mathesis::runtime::{Advanced, Operation, Submission, What, advance};

use super::{documents, holds, on_probation, regresses, stands, watch_adoptions};
use crate::support::Stage;
use crate::support::stage::{NANO, WAN};

/// A probation whose time ran out twice with fewer than eight scores an arm.
async fn asked() -> Stage {
    let stage = on_probation().await;
    stage.play("watch", 8, holds).await;
    stage.clock.advance(Duration::days(14));
    assert_eq!(stage.watch().await, 2, "extended");
    stage.clock.advance(Duration::days(14));
    assert_eq!(stage.watch().await, 2, "a person is asked");
    stage
}

#[tokio::test]
async fn too_few_scores_extend_it_once() {
    let stage = on_probation().await;
    stage.play("watch", 8, holds).await;
    stage.clock.advance(Duration::days(14));
    assert_eq!(stage.watch().await, 2);
    assert_eq!(stage.state().await, StateName::Probation);
    assert_eq!(stage.watch().await, 0, "the clock has started over");
    stage.play("more", 22, holds).await;
    assert_eq!(stage.watch().await, 2);
    assert_eq!(stage.cycle_number(1).await.snapshot.state.name(), StateName::Applied);
}

#[tokio::test]
async fn an_extended_probation_deals_again_what_it_had_given_up() {
    let stage = Stage::builder()
        .on_probation()
        .definition(|d| d.timeouts.deals_again_max = 0)
        .build()
        .await;
    watch_adoptions(&stage).await;
    for n in 1..=30 {
        stage.assign(&format!("silent-{n}"), WAN).await;
    }
    stage.clock.advance(Duration::hours(7));
    assert_eq!(stage.watch().await, 1, "no slot waits, and there is no score: extended");
    let open = "SELECT count(*) FROM deck_slots
                 WHERE phase = 'probation' AND model_name = 'wan-2.5-edit' AND state = 'open'";
    assert_eq!(stage.number(open).await, 30);
}

#[tokio::test]
async fn then_a_person_is_asked_once_and_nothing_more_is_dealt() {
    let stage = asked().await;
    let hold = stage.the_hold().await;
    insta::assert_snapshot!(hold.reason, @"a probation could not decide itself: too few scores came, or the validator changed");
    assert_eq!(stage.watch().await, 0);
    assert_eq!(stage.assign("later", WAN).await.arm, None);
}

#[tokio::test]
async fn the_person_may_keep_the_adoption() {
    let stage = asked().await;
    stage.please(Operation::Approve { models: vec![] }).await;
    assert_eq!(stage.cycle_number(1).await.snapshot.state.name(), StateName::Applied);
    let (status, sentence) = stands(&stage, WAN).await;
    assert_eq!(status, "kept");
    insta::assert_snapshot!(sentence.unwrap(), @"wan-2.5-edit v2 stays by a person's word: with its probation it scored 8.71 against 6.0 on 14 tasks each (+45.2%).");
    assert_eq!(stage.held_by().await, Vec::<String>::new());
}

#[tokio::test]
async fn the_person_may_put_it_back() {
    let stage = Stage::builder().on_probation().build().await;
    let files = documents(&stage);
    watch_adoptions(&stage).await;
    for _ in 0..2 {
        stage.clock.advance(Duration::days(14));
        stage.watch().await;
    }
    stage.please(Operation::Refuse { models: Vec::new() }).await;
    assert_eq!(stage.step().await, StateName::RolledBack);
    assert_eq!(documents(&stage), files);
    assert_eq!(stands(&stage, WAN).await.0, "regressed");
}

/// Both models' probations wait for a word.
async fn both_asked() -> Stage {
    let stage = Stage::builder().on_probation().build().await;
    watch_adoptions(&stage).await;
    for _ in 0..2 {
        stage.clock.advance(Duration::days(14));
        stage.watch().await;
    }
    assert_eq!(stage.held_by().await, ["approval"]);
    stage
}

fn of(model: &str) -> Vec<String> {
    vec![model.to_owned()]
}

#[tokio::test]
async fn one_models_adoption_may_be_kept_and_the_others_put_back() {
    let stage = both_asked().await;
    stage.please(Operation::Approve { models: of(WAN) }).await;
    assert_eq!(stage.state().await, StateName::Probation, "the other one still waits");
    assert_eq!(stage.held_by().await, ["approval"]);
    assert_eq!(stands(&stage, WAN).await.0, "kept");
    assert_eq!(stands(&stage, NANO).await.0, "open");
    stage.please(Operation::Refuse { models: of(NANO) }).await;
    assert_eq!(stage.step().await, StateName::Applied, "an adoption stands");
    assert_eq!((stage.active_version(WAN).await, stage.active_version(NANO).await), (2, 1));
    assert_eq!(stands(&stage, NANO).await.0, "regressed");
    assert_eq!(stage.held_by().await, [""; 0]);
}

#[tokio::test]
async fn a_model_that_waits_for_no_word_is_told_so_with_the_next_command() {
    let stage = both_asked().await;
    stage.please(Operation::Refuse { models: of(NANO) }).await;
    let said = [
        stage.refused(Operation::Approve { models: of(NANO) }).await,
        stage.refused(Operation::Refuse { models: vec![WAN.to_owned(), NANO.to_owned()] }).await,
    ];
    insta::assert_snapshot!(said.join("\n"));
    assert_eq!(stands(&stage, WAN).await.0, "open", "nothing was changed");
}

#[tokio::test]
async fn scores_that_come_after_the_question_answer_it() {
    let stage = on_probation().await;
    let mut told = Vec::new();
    for n in 1..=30 {
        let task = format!("slow-{n}");
        for model in [WAN, NANO] {
            told.push((task.clone(), model, stage.assign(&task, model).await));
        }
    }
    // A hold keeps the holders' patience from running out, not the question from being asked before.
    for _ in 0..2 {
        let cycle = stage.cycle().await;
        for model in [WAN, NANO] {
            let from = stage.clock_of_probation(model).await;
            stage.clock.advance(Duration::minutes(1));
            look(&stage, cycle.number, model, from).await;
        }
    }
    assert_eq!(stage.held_by().await, ["approval"]);
    for (task, model, told) in &told {
        let attempts = [(*model, told.version, regresses(model, told))];
        let mut events = crate::support::TaskRun::new(task.clone(), &attempts).events();
        events.retain(|event| event["type"] != "completed" && event["type"] != "winner");
        stage.try_log(events).await;
    }
    assert_eq!(stage.watch().await, 2);
    assert_eq!(stage.state().await, StateName::Reverting);
    assert_eq!(stage.held_by().await, Vec::<String>::new(), "the question is gone");
}

#[tokio::test]
async fn of_two_replicas_that_find_the_time_run_out_one_extends_it() {
    let stage = on_probation().await;
    let from = stage.clock_of_probation(WAN).await;
    stage.clock.advance(Duration::days(14));
    assert!(look(&stage, 1, WAN, from).await);
    assert!(!look(&stage, 1, WAN, from).await, "that clock was started over");
}

#[tokio::test]
async fn refusing_what_nobody_asked_about_is_told_so() {
    let stage = on_probation().await;
    let said = stage.refused(Operation::Refuse { models: Vec::new() }).await;
    insta::assert_snapshot!(said, @"no probation of cycle 1 waits for a person's word; `mathesis version rollback` puts a model's version back");
    assert_eq!(stage.state().await, StateName::Probation);
}

/// Submits a look at a probation whose clock was found run out; true when it was taken.
async fn look(stage: &Stage, cycle: i64, model: &str, from: chrono::DateTime<chrono::Utc>) -> bool {
    let submission = Submission {
        workflow_id: stage.id(),
        cycle: Some(cycle),
        actor: "a replica",
        reason: None,
        what: What::ProbationLook { model: model.to_owned(), ran_out_from: Some(from) },
        completes: None,
        claims_next: false,
    };
    let advanced = advance(&stage.engine, submission).await.expect("the cycle answers");
    matches!(advanced, Advanced::Moved(_))
}
