//! Which score a slot counts, and how a task loses its slot.

use chrono::Duration;
use mathesis::store::experiments;
use serde_json::json;

use super::{again, deck, enhanced, failed, held, is, lost, scored};
use crate::support::stage::{NANO, WAN, testing_stage};

#[tokio::test]
async fn a_score_counts_only_under_the_version_of_its_slot() {
    let stage = testing_stage().await;
    let told = stage.assign("a", WAN).await;
    stage.log(vec![enhanced("a", WAN, 3 - told.version), scored("a", WAN, 9)]).await;
    stage.watch().await;
    assert_eq!(held(&stage, "a").await, is("dealt", None));
    stage.clock.advance(Duration::hours(7));
    stage.watch().await;
    assert_eq!(held(&stage, "a").await, None, "the slot is dealt again");
    assert_eq!(lost(&stage, "a").await.0.as_deref(), Some("timed_out"));
}

#[tokio::test]
async fn a_score_without_a_named_version_waits_for_the_name() {
    let stage = testing_stage().await;
    let told = stage.assign("a", WAN).await;
    stage.log(vec![scored("a", WAN, 8)]).await;
    stage.watch().await;
    assert_eq!(held(&stage, "a").await, is("dealt", None));
    stage.log(vec![enhanced("a", WAN, told.version)]).await;
    stage.watch().await;
    assert_eq!(held(&stage, "a").await, is("scored", Some(8)));
}

#[tokio::test]
async fn the_first_iterations_score_is_the_one() {
    let stage = testing_stage().await;
    let told = stage.assign("a", WAN).await;
    let second = [again(enhanced("a", WAN, told.version), 2), again(scored("a", WAN, 9), 2)];
    stage.log(second.to_vec()).await;
    stage.watch().await;
    assert_eq!(held(&stage, "a").await, is("dealt", None));
    stage.log(vec![enhanced("a", WAN, told.version), scored("a", WAN, 4)]).await;
    stage.watch().await;
    assert_eq!(held(&stage, "a").await, is("scored", Some(4)));
}

#[tokio::test]
async fn a_score_may_be_written_with_a_point() {
    let stage = testing_stage().await;
    let told = stage.assign("a", WAN).await;
    let mut score = scored("a", WAN, 8);
    score["score"] = json!(8.0);
    stage.log(vec![enhanced("a", WAN, told.version), score]).await;
    stage.watch().await;
    assert_eq!(held(&stage, "a").await, is("scored", Some(8)));
}

#[tokio::test]
async fn a_silent_holder_loses_its_slot_after_six_hours_and_its_late_score_never_counts() {
    let stage = testing_stage().await;
    let told = stage.assign("slow", WAN).await;
    stage.clock.advance(Duration::hours(6));
    stage.watch().await;
    assert_eq!(held(&stage, "slow").await, is("dealt", None), "six hours are allowed");
    stage.clock.advance(Duration::seconds(1));
    stage.watch().await;
    assert_eq!(held(&stage, "slow").await, None);
    assert_eq!(stage.assign("slow", WAN).await, told, "it keeps its arm all the same");

    let next = stage.assign("next", WAN).await;
    assert_eq!(next.arm, told.arm, "dealt again in the same arm");
    stage.log(vec![enhanced("slow", WAN, told.version), scored("slow", WAN, 1)]).await;
    stage.log(vec![enhanced("next", WAN, next.version), scored("next", WAN, 8)]).await;
    stage.watch().await;
    assert_eq!(held(&stage, "next").await, is("scored", Some(8)));
    assert_eq!(held(&stage, "slow").await, None);
    assert_eq!(lost(&stage, "slow").await, (Some("timed_out".to_owned()), Some(1)));
}

/// What an error does to the slot of its task.
#[tokio::test]
async fn only_the_prompts_own_failure_at_the_first_iteration_scores_zero() {
    let zero = is("scored", Some(0));
    let waits = is("dealt", None);
    let rows = [
        ("prompt", failed("prompt", Some(WAN), Some("prompt")), zero, None),
        ("infra", failed("infra", Some(WAN), Some("infrastructure")), None, Some("infrastructure")),
        ("nobody", failed("nobody", Some(WAN), None), None, Some("infrastructure")),
        ("second", again(failed("second", Some(WAN), Some("prompt")), 2), waits.clone(), None),
        ("run", failed("run", None, Some("prompt")), None, Some("run_failed")),
        ("other", failed("other", Some(NANO), Some("prompt")), waits, None),
    ];
    let stage = testing_stage().await;
    for (task, error, _, _) in &rows {
        stage.assign(task, WAN).await;
        stage.log(vec![error.clone()]).await;
    }
    stage.watch().await;
    for (task, _, slot, because) in rows {
        assert_eq!(held(&stage, task).await, slot, "{task}");
        assert_eq!(lost(&stage, task).await.0.as_deref(), because, "{task}");
    }
}

#[tokio::test]
async fn a_score_outranks_an_error_of_the_same_attempt_in_either_order() {
    let stage = testing_stage().await;
    for (task, error_first, fault, looks_between) in [
        ("a", true, "prompt", true),
        ("b", true, "prompt", false),
        ("c", false, "prompt", true),
        ("d", false, "infrastructure", true),
        ("e", true, "infrastructure", false),
    ] {
        let told = stage.assign(task, WAN).await;
        stage.log(vec![enhanced(task, WAN, told.version)]).await;
        let mut events = [failed(task, Some(WAN), Some(fault)), scored(task, WAN, 7)];
        if !error_first {
            events.reverse();
        }
        for event in events {
            stage.log(vec![event]).await;
            if looks_between {
                stage.watch().await;
            }
        }
        stage.watch().await;
        assert_eq!(held(&stage, task).await, is("scored", Some(7)), "{task}");
    }
}

#[tokio::test]
async fn a_model_is_dealt_again_six_times_and_then_a_slot_stays_empty() {
    let stage = testing_stage().await;
    for n in 1..=9 {
        let task = format!("broken-{n}");
        stage.assign(&task, WAN).await;
        stage.log(vec![failed(&task, Some(WAN), Some("infrastructure"))]).await;
        stage.watch().await;
        let missing = deck(&stage, WAN).await.iter().filter(|slot| slot.state == "missing").count();
        assert_eq!(missing, usize::saturating_sub(n, 6), "after {n} losses");
    }
    let rows = experiments::of_cycle(
        &mut stage.pool().acquire().await.expect("a connection"),
        stage.id(),
        1,
    )
    .await
    .expect("the experiments read");
    let wan = rows.iter().find(|row| row.model_name == WAN).expect("its experiment");
    assert_eq!((wan.deals_again, wan.missed_control + wan.missed_candidate), (6, 9));
}
