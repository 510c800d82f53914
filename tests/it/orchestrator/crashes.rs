//! A process that dies: at every point of a run, inside a paid call, and beside a replica.

use std::collections::HashSet;
use std::sync::{Arc, Mutex};

use mathesis::orchestrator::{Probe, Worked};

use super::Works;

pub(super) const ROWS: &str = "SELECT jsonb_build_object(
    'tasks', (SELECT jsonb_agg(jsonb_build_object('run', run_id, 'ended', ended_by, 'winner', winner_model,
        'score', winner_score, 'iterations', total_iterations)) FROM tasks),
    'attempts', (SELECT jsonb_agg(jsonb_build_object('model', model_name, 'iteration', iteration,
        'version', prompt_version, 'prompt', enhanced_prompt, 'score', validation_score,
        'selected', was_selected, 'error', error, 'cost', cost_usd) ORDER BY model_name, iteration, version)
        FROM attempts),
    'events', (SELECT count(*) FROM task_events),
    'calls', (SELECT jsonb_agg(DISTINCT status) FROM pipeline_calls),
    'paid', (SELECT sum(cost_usd) FROM pipeline_calls WHERE service = 'wavespeed'),
    'outcome', (SELECT outcome FROM pipeline_jobs))";

/// Dies once at every point that `chosen` takes.
pub(super) fn dying_once(chosen: fn(&str, &str) -> bool) -> Probe {
    let seen: Arc<Mutex<HashSet<(String, String)>>> = Arc::default();
    Probe::dying(move |when, step| {
        chosen(when, step)
            && seen
                .lock()
                .expect("no test panicked with it")
                .insert((when.to_owned(), step.to_owned()))
    })
}

/// Lets the run die and be taken over until it ends; says how often it died.
pub(super) async fn walk_dying(works: &Works, probe: &Probe) -> usize {
    let mut deaths = 0;
    loop {
        let process = works.process(probe.clone()).await;
        match process.work_once().await.expect("the database answers") {
            Worked::Died => {
                deaths += 1;
                works.rescue(&process).await;
                // Two models die at several points each before any step ends, which would count as a run that kills.
                sqlx::query("UPDATE pipeline_jobs SET deaths = 0")
                    .execute(works.stage.pool())
                    .await
                    .expect("the database answers");
            }
            Worked::Finished(_) => return deaths,
            other => panic!("after {deaths} deaths: {other:?}"),
        }
    }
}

#[tokio::test]
async fn a_run_that_dies_at_every_step_ends_as_if_it_had_not() {
    let undisturbed = Works::new(&[5, 7], &[6, 9]).await;
    let task = undisturbed.task("Σκούρος ουρανός");
    undisturbed.deliver_status(&task, "ready for edit", "1").await;
    assert!(matches!(undisturbed.work().await, Worked::Finished(_)));
    let wanted = undisturbed.value(ROWS).await;

    let works = Works::new(&[5, 7], &[6, 9]).await;
    let task = works.task("Σκούρος ουρανός");
    works.deliver_status(&task, "ready for edit", "1").await;
    // A crash inside a submit is another test's: it loses the attempt.
    let probe =
        dying_once(|when, step| !(step.ends_with("/submit") && matches!(when, "begun" | "sent")));
    let deaths = walk_dying(&works, &probe).await;
    assert!(deaths > 40, "it died at {deaths} points only");
    assert_eq!(works.value(ROWS).await, wanted);
    assert_eq!(works.wavespeed.billed().len(), 4);
    assert_eq!(works.own_pictures(&task), 1);
    assert_eq!(works.state(&task).comments.len(), 1);
    assert_eq!(works.state(&task).status, "review");
}

#[tokio::test]
async fn a_picture_that_was_being_asked_for_at_the_crash_is_not_asked_for_again() {
    let works = Works::new(&[9], &[9]).await;
    let task = works.task("Σκούρος ουρανός");
    works.deliver_status(&task, "ready for edit", "1").await;
    let probe = dying_once(|when, step| when == "sent" && step == "1/wan-2.5-edit/submit");
    assert_eq!(walk_dying(&works, &probe).await, 1);
    let asked: Vec<String> =
        works.wavespeed.billed().into_iter().map(|bill| bill.endpoint).collect();
    let wan = asked.iter().filter(|endpoint| endpoint.contains("wan")).count();
    assert_eq!((asked.len(), wan), (2, 1), "{asked:?}");
    let error =
        works.value("SELECT to_jsonb(error) FROM attempts WHERE model_name = 'wan-2.5-edit'").await;
    assert!(
        error.as_str().is_some_and(|words| words.contains("may have been made and billed")),
        "{error}"
    );
    // The other model went on and won.
    assert_eq!(works.value("SELECT to_jsonb(winner_model) FROM tasks").await, "nano-banana");
    let lost =
        works.value("SELECT to_jsonb(count(*)) FROM pipeline_calls WHERE status = 'lost'").await;
    assert_eq!(lost, 1);
}

#[tokio::test]
async fn a_worker_that_lost_its_job_writes_nothing() {
    let works = Works::new(&[9], &[9]).await;
    let task = works.task("Σκούρος ουρανός");
    works.deliver_status(&task, "ready for edit", "1").await;
    let slow = works.process(dying_once(|when, step| (when, step) == ("recorded", "task"))).await;
    assert_eq!(slow.work_once().await.expect("it works"), Worked::Died);
    // Still claimed: nobody else may take it.
    assert_eq!(works.work().await, Worked::Idle);
    works.rescue(&slow).await;
    assert!(matches!(works.work().await, Worked::Finished(_)));
    assert_eq!(slow.work_once().await.expect("it works"), Worked::Idle);
    assert_eq!(works.wavespeed.billed().len(), 2);
}

#[tokio::test]
async fn two_replicas_share_the_work_and_do_each_task_once() {
    let works = Works::new(&[9], &[8]).await;
    let other = works.process(Probe::default()).await;
    for number in 0..6 {
        let task = works.task(&format!("Εργασία {number}"));
        works.deliver_status(&task, "ready for edit", &number.to_string()).await;
    }
    let (mut mine, mut theirs) = (0, 0);
    loop {
        let (a, b) = tokio::join!(works.pipeline.work_once(), other.work_once());
        let done = |worked: Worked| usize::from(matches!(worked, Worked::Finished(_)));
        let (a, b) = (done(a.expect("it works")), done(b.expect("it works")));
        (mine, theirs) = (mine + a, theirs + b);
        if a + b == 0 {
            break;
        }
    }
    assert_eq!((mine, theirs), (3, 3));
    assert_eq!(works.wavespeed.billed().len(), 12);
    assert_eq!(works.clickup.count(&["review"]), 6);
}
