//! Runs of many workflows that ask at the same time are dealt to in one commit.

use futures::future::join_all;
use mathesis::experiment::Arm;
use mathesis::runtime::{Assignment, Workflow};
use mathesis::store::assignments::{AssignmentRow, RunKey};
use mathesis::store::dealing::deal_together;

use crate::support::stage::{WAN, testing_stage};
use crate::support::{Stage, Statements};

/// Further workflows whose tests are as far as the stage's own.
async fn with_others(stage: &Stage, names: &[&str]) -> Vec<Workflow> {
    let mut workflows = vec![stage.workflow.clone()];
    for name in names {
        let mut definition = stage.workflow.definition.as_ref().clone();
        definition.name = name.parse().expect("it is a name");
        let config = stage.engine.config_folder(&definition.config_folder);
        let (store, now) = (&stage.engine.store, stage.engine.now());
        let registered =
            stage.engine.registry.register(store, definition, &config, None, now).await;
        workflows.push(registered.expect("it registers").0);
    }
    for copied in [
        "INSERT INTO prompt_versions (workflow_id, model_name, version, prompt_template, activation_text, research_text,
                                      content_hash, parent_version, created_at, created_by)
         SELECT w.workflow_id, model_name, version, prompt_template, activation_text, research_text, content_hash,
                parent_version, v.created_at, created_by
           FROM prompt_versions v, workflows w
          WHERE v.version = 2 AND w.workflow_id > v.workflow_id",
        "INSERT INTO experiments (workflow_id, cycle, model_name, control_version, candidate_version, deck_seed,
                                  opened_at, status)
         SELECT w.workflow_id, cycle, model_name, control_version, candidate_version, deck_seed, opened_at, status
           FROM experiments e, workflows w WHERE w.workflow_id > e.workflow_id",
        "INSERT INTO deck_slots (workflow_id, cycle, model_name, slot, block, arm, state)
         SELECT w.workflow_id, cycle, model_name, slot, block, arm, state
           FROM deck_slots s, workflows w WHERE w.workflow_id > s.workflow_id",
    ] {
        assert!(stage.by_hand(copied).await > 0);
    }
    stage.assigner.refresh().await.expect("the versions are read");
    workflows
}

fn key<'k>(workflow: &Workflow, task: &'k str) -> RunKey<'k> {
    RunKey { workflow_id: workflow.workflow_id, task, run: "", model: WAN }
}

async fn together(stage: &Stage, keys: &[RunKey<'_>]) -> Vec<Option<AssignmentRow>> {
    deal_together(stage.pool(), keys, stage.engine.now()).await.expect("the database answers")
}

async fn ask_all(
    stage: &Stage,
    workflows: &[Workflow],
    tasks: std::ops::Range<usize>,
) -> Vec<Assignment> {
    let asked = tasks.flat_map(|task| workflows.iter().map(move |workflow| (workflow, task)));
    let answers = join_all(asked.map(async |(workflow, task)| {
        stage.assigner.assign(workflow, &format!("task-{task}"), "", WAN).await
    }));
    answers.await.into_iter().map(|told| told.expect("it is told")).collect()
}

#[tokio::test]
async fn runs_that_ask_at_the_same_time_fill_every_deck_exactly_in_few_commits() {
    let stage = testing_stage().await;
    let workflows = with_others(&stage, &["second", "third", "fourth"]).await;
    let replica = stage.another().await;
    for name in ["second", "third", "fourth"] {
        let own = workflows.iter().find(|workflow| workflow.name() == name);
        let definition = own.expect("it is there").definition.as_ref().clone();
        let config = stage.engine.config_folder(&definition.config_folder);
        let (store, now) = (&replica.engine.store, stage.engine.now());
        replica
            .engine
            .registry
            .register(store, definition, &config, None, now)
            .await
            .expect("known");
    }
    let statements = Statements::counting();
    let first = ask_all(&stage, &workflows, 0..5).await;
    assert!(
        statements.since() < first.len() / 2,
        "as many statements as calls were dealt to one by one"
    );
    let (more, others) =
        tokio::join!(ask_all(&stage, &workflows, 5..25), ask_all(&replica, &workflows, 5..25));
    assert_eq!(more, others, "a run is told the same whichever process it asks");

    let dealt = "SELECT string_agg(dealt, '; ' ORDER BY workflow_id) FROM (
                     SELECT workflow_id, count(*) FILTER (WHERE arm = 'control') || ' and ' ||
                            count(*) FILTER (WHERE arm = 'candidate') || ' of ' ||
                            count(DISTINCT clickup_task_id) AS dealt
                       FROM assignments WHERE model_name = 'wan-2.5-edit' GROUP BY workflow_id) AS decks";
    let each = "10 and 10 of 25";
    assert_eq!(stage.text(dealt).await, [each; 4].join("; "));
    let holders = "SELECT count(*) FROM deck_slots s JOIN assignments a USING (workflow_id, clickup_task_id, run_id,
                          model_name, cycle, slot, arm) WHERE s.state = 'dealt'";
    assert_eq!(stage.number(holders).await, 80, "every slot is held by the run that was told so");
    assert_eq!(ask_all(&replica, &workflows, 0..5).await, first);
}

#[tokio::test]
async fn dealt_to_together_each_run_is_told_what_it_would_be_told_alone() {
    let stage = testing_stage().await;
    let workflows =
        with_others(&stage, &["told", "held", "begun", "paired", "full", "ended", "watched"]).await;
    let place = |name: &str| workflows.iter().position(|workflow| workflow.name() == name);
    for set_up in [
        "INSERT INTO holds (workflow_id, kind, code, reason, remedy, placed_at, placed_by)
         SELECT workflow_id, 'automation_off', 'off', '', '', now(), 'test' FROM workflows WHERE name = 'held'",
        "INSERT INTO tasks (workflow_id, clickup_task_id, created_at, last_event_at)
         SELECT workflow_id, 'task', now(), now() FROM workflows WHERE name = 'begun'",
        "INSERT INTO attempts (workflow_id, task_id, model_name, iteration, created_at)
         SELECT workflow_id, id, 'wan-2.5-edit', 1, now() FROM tasks WHERE clickup_task_id = 'task'",
        "UPDATE experiments e SET paired = true FROM workflows w
          WHERE w.workflow_id = e.workflow_id AND w.name = 'paired'",
        "UPDATE deck_slots s SET arm = CASE slot % 2 WHEN 1 THEN 'control' ELSE 'candidate' END FROM workflows w
          WHERE w.workflow_id = s.workflow_id AND w.name = 'paired'",
        "UPDATE deck_slots s SET frozen = true FROM workflows w
          WHERE w.workflow_id = s.workflow_id AND w.name = 'full'",
        "UPDATE experiments e SET status = 'adopted', reason = 'improved', decided_at = now() FROM workflows w
          WHERE w.workflow_id = e.workflow_id AND w.name IN ('ended', 'watched')",
        "INSERT INTO probations (workflow_id, cycle, model_name, opened_at, status)
         SELECT workflow_id, 1, 'wan-2.5-edit', now(), 'open' FROM workflows WHERE name = 'watched'",
    ] {
        assert!(stage.by_hand(set_up).await > 0, "{set_up}");
    }
    let before = stage.engine.now();
    let told_before = deal_together(stage.pool(), &[key(&workflows[1], "task")], before).await;
    let told_before = told_before.expect("the database answers").remove(0);

    let keys: Vec<_> = workflows.iter().map(|workflow| key(workflow, "task")).collect();
    let told = together(&stage, &keys).await;
    let at = |name| place(name).and_then(|place| told[place].clone());
    let arms: Vec<_> = told.iter().map(|told| told.as_ref().and_then(|told| told.arm)).collect();
    let first = arms[0].expect("the stage's own run gets the first slot");
    assert_eq!(at("told"), told_before, "who was told keeps its answer");
    for nothing in ["held", "begun", "full", "ended"] {
        assert_eq!(at(nothing), None, "{nothing}: it asks alone");
    }
    assert_eq!(at("watched").and_then(|told| told.arm), Some(first), "a probation has a deck, too");
    let pair = at("paired").expect("it gets two slots");
    assert_eq!((pair.arm, pair.version, pair.pair), (Some(Arm::Control), 1, Some(2)));
    assert_eq!(
        stage
            .text(
                "SELECT string_agg(slot::text, ',' ORDER BY slot) FROM deck_slots s
                     JOIN workflows USING (workflow_id)
                    WHERE name = 'paired' AND s.state = 'dealt'"
            )
            .await,
        "1,2"
    );
    for (own, told) in keys.iter().zip(&told) {
        let alone = mathesis::effects::deal::deal(&stage.engine, *own).await.expect("it answers");
        let alone = alone.expect("there is a version");
        assert!(told.as_ref().is_none_or(|told| *told == alone), "{own:?} keeps its answer");
    }
}

#[tokio::test]
async fn a_test_that_somebody_has_locked_makes_no_other_run_wait() {
    let stage = testing_stage().await;
    let workflows = with_others(&stage, &["second"]).await;
    let mut locking = stage.own_connection().await;
    sqlx::raw_sql("BEGIN; SELECT FROM experiments WHERE workflow_id = 1 FOR UPDATE")
        .execute(&mut locking)
        .await
        .expect("it is locked");
    let told = together(&stage, &[key(&workflows[0], "task"), key(&workflows[1], "task")]).await;
    assert!(told[0].is_none() && told[1].is_some(), "{told:?}");
}
