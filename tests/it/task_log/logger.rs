//! The logger: many callers, few commits, and an answer to each after its commit.

use std::sync::Arc;

use mathesis::clock::HandHeldClock;
use mathesis::task_log::{
    Enhancement, LogError, LogReport, Logged, LoggerLimits, TaskLogger, TaskStarted, Validation,
    Winner, WorkflowDirectory, WorkflowInfo, parse_event,
};
use serde_json::{Value, json};
use sqlx::PgPool;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::{count, models, task, time, workflow};
use crate::support;

/// One workflow, named "w".
struct OneWorkflow(WorkflowInfo);

impl WorkflowDirectory for OneWorkflow {
    fn find(&self, name: &str) -> Option<WorkflowInfo> {
        (name == "w").then(|| self.0.clone())
    }
}

/// A logger over a fresh database, and what ends it.
struct Stage {
    pool: PgPool,
    workflow_id: i64,
    logger: TaskLogger,
    tasks: TaskTracker,
    stop: CancellationToken,
}

impl Stage {
    async fn set(limits: LoggerLimits) -> Self {
        let pool = support::database().await;
        let workflow_id = workflow(&pool, "w").await;
        let (tasks, stop) = (TaskTracker::new(), CancellationToken::new());
        let info = WorkflowInfo { workflow_id, models: models(), score_max: 10 };
        let logger = TaskLogger::start(
            pool.clone(),
            Arc::new(HandHeldClock::at(time(0))),
            Arc::new(OneWorkflow(info)),
            limits,
            &tasks,
            stop.clone(),
        );
        tasks.close();
        Self { pool, workflow_id, logger, tasks, stop }
    }

    /// Logs a `completed` for each task at once, a call each.
    async fn complete_all(
        &self,
        names: impl Iterator<Item = String>,
    ) -> Vec<Result<LogReport, LogError>> {
        let calls = names.map(|name| {
            let event =
                parse_event(&json!({"type": "completed", "task_id": name}).to_string()).unwrap();
            self.logger.log("w", vec![event])
        });
        futures::future::join_all(calls).await
    }
}

#[tokio::test]
async fn the_logger_answers_for_each_event_at_its_place() {
    let stage = Stage::set(LoggerLimits::default()).await;
    let read = |sent: Value| parse_event(&sent.to_string());
    let report = stage
        .logger
        .log_parsed("w", vec![
            read(json!({"type": "completed", "task_id": "a"})),
            read(json!({"type": "completed", "task_id": "a", "colour": 1})),
            read(json!({"type": "validation", "task_id": "a", "model": "wan", "score": 11, "passed": true})),
            read(json!({"type": "completed", "task_id": "a"})),
            read(json!({"type": "completed", "task_id": "a", "processing_time_ms": 7})),
        ])
        .await
        .unwrap();
    insta::assert_json_snapshot!(report, @r#"
    {
      "accepted": 1,
      "duplicate": 1,
      "rejected": [
        {
          "index": 1,
          "code": "unknown_field",
          "detail": "`completed` has no field `colour`; put what else is worth keeping into `metadata`"
        },
        {
          "index": 2,
          "code": "score_out_of_range",
          "detail": "`score` is 11, and this workflow's scores go from 0 to 10"
        },
        {
          "index": 4,
          "code": "event_conflict",
          "detail": "a `completed` with other content was logged for this run before; the first one stands"
        }
      ]
    }
    "#);
    assert_eq!(
        stage.logger.touched().next().await.into_iter().collect::<Vec<_>>(),
        [stage.workflow_id]
    );
    let unknown = stage.logger.log("nowhere", Vec::new()).await.unwrap_err();
    assert_eq!(unknown.to_string(), r#"there is no workflow "nowhere"; nothing was logged"#);
}

#[tokio::test]
async fn the_pipelines_own_calls_make_a_run() {
    let stage = Stage::set(LoggerLimits::default()).await;
    let run = stage.logger.run("w", "86c1", "");
    let prompt = "Ἀλλάξτε".to_owned();
    run.log_task_start(TaskStarted { original_prompt: prompt.clone(), ..TaskStarted::default() })
        .await
        .unwrap();
    let enhancement = Enhancement {
        original_prompt: prompt,
        enhanced_prompt: "q".to_owned(),
        latency_ms: Some(2300),
    };
    run.log_enhancement("wan", 1, Some(2), enhancement).await.unwrap();
    run.log_validation("wan", 1, Validation { score: 10, passed: true, ..Validation::default() })
        .await
        .unwrap();
    let winner =
        Winner { winner: Some("wan".to_owned()), score: Some(10), total_iterations: 1, leg: None };
    assert_eq!(run.log_winner(winner.clone()).await.unwrap(), Logged::Accepted);
    assert_eq!(run.log_winner(winner).await.unwrap(), Logged::Duplicate);
    let refused = run.log_validation("../../etc", 1, Validation::default()).await.unwrap();
    assert!(matches!(refused, Logged::Rejected(rejection) if rejection.code == "invalid_name"));
    let task = task(&stage.pool, stage.workflow_id, "86c1").await;
    assert_eq!((task.winner_model.as_deref(), task.attempts.len()), (Some("wan"), 1));
    assert!(task.attempts[0].was_selected);
}

#[tokio::test]
async fn many_callers_share_few_commits_and_each_gets_its_own_answer() {
    let stage = Stage::set(LoggerLimits { queue_kib_max: 16, ..LoggerLimits::default() }).await;
    let reports = stage.complete_all((0..300).map(|n| format!("t{}", n / 2))).await;
    let reports: Vec<LogReport> = reports.into_iter().map(Result::unwrap).collect();
    assert_eq!(reports.iter().map(|report| report.accepted).sum::<usize>(), 150);
    assert_eq!(reports.iter().map(|report| report.duplicate).sum::<usize>(), 150);
    assert_eq!(count(&stage.pool, "SELECT count(*) FROM tasks").await, 150);
    let commits = count(&stage.pool, "SELECT count(DISTINCT xmin::text) FROM tasks").await;
    assert!(commits <= 60, "{commits} transactions for 300 calls");
}

#[tokio::test]
async fn a_caller_out_of_step_falls_in_with_the_others() {
    let stage = Stage::set(LoggerLimits { writers: 1, ..LoggerLimits::default() }).await;
    let caller = async |name: usize| {
        for event in 0..10 {
            let reports = stage.complete_all(std::iter::once(format!("{name}-{event}"))).await;
            assert!(reports.iter().all(Result::is_ok), "{reports:?}");
        }
    };
    let in_step = futures::future::join_all((1..20).map(caller));
    let late = async {
        for _ in 0..3 {
            tokio::task::yield_now().await;
        }
        caller(20).await;
    };
    futures::future::join(in_step, late).await;
    assert_eq!(count(&stage.pool, "SELECT count(*) FROM tasks").await, 200);
    let commits = count(&stage.pool, "SELECT count(DISTINCT xmin::text) FROM tasks").await;
    // One for its first event, which came too late for theirs; a commit each for it and for them would be twenty.
    assert!(commits <= 14, "{commits} transactions for ten events of each");
}

#[tokio::test]
async fn one_callers_data_does_not_cost_the_others_their_events() {
    let stage = Stage::set(LoggerLimits::default()).await;
    sqlx::query("ALTER TABLE tasks ADD CHECK (clickup_task_id <> 'poison')")
        .execute(&stage.pool)
        .await
        .unwrap();
    let names = ["a", "poison", "b"].map(str::to_owned);
    let reports = stage.complete_all(names.into_iter()).await;
    assert_eq!(reports.iter().map(Result::is_ok).collect::<Vec<_>>(), [true, false, true]);
    assert_eq!(count(&stage.pool, "SELECT count(*) FROM tasks").await, 2);
}

#[tokio::test]
async fn a_deadlock_is_tried_again_and_again_but_not_for_ever() {
    let stage = Stage::set(LoggerLimits::default()).await;
    // A stand-in for a rival: the first three transactions that touch a task are rolled back.
    sqlx::raw_sql(
        "CREATE SEQUENCE tries;
         CREATE FUNCTION rival() RETURNS trigger LANGUAGE plpgsql AS $$
         BEGIN
             IF nextval('tries') <= 3 THEN RAISE EXCEPTION 'deadlock detected' USING ERRCODE = '40P01'; END IF;
             RETURN NEW;
         END $$;
         CREATE TRIGGER rival BEFORE INSERT ON tasks FOR EACH STATEMENT EXECUTE FUNCTION rival();",
    )
    .execute(&stage.pool)
    .await
    .unwrap();
    let reports = stage.complete_all(["a".to_owned()].into_iter()).await;
    assert_eq!(reports[0].as_ref().unwrap().accepted, 1);
    sqlx::query("ALTER SEQUENCE tries MINVALUE -1000 RESTART WITH -1000")
        .execute(&stage.pool)
        .await
        .unwrap();
    let reports = stage.complete_all(["b".to_owned()].into_iter()).await;
    assert!(matches!(reports[0], Err(LogError::Store(_))));
    assert_eq!(
        count(&stage.pool, "SELECT last_value FROM tries").await,
        -995,
        "one try and five more"
    );
}

#[tokio::test]
async fn shutting_down_commits_what_waits_and_refuses_what_comes_later() {
    let stage = Stage::set(LoggerLimits { batch_events_max: 4, ..LoggerLimits::default() }).await;
    let calls = stage.complete_all((0..50).map(|n| format!("t{n}")));
    let (reports, ()) = tokio::join!(calls, async {
        // The calls have been made: join! polled them first.
        stage.stop.cancel();
    });
    assert!(reports.iter().all(Result::is_ok));
    stage.tasks.wait().await;
    assert_eq!(count(&stage.pool, "SELECT count(*) FROM tasks").await, 50);
    let late = stage.complete_all(["late".to_owned()].into_iter()).await;
    assert!(matches!(late[0], Err(LogError::Stopped)));
}
