//! What the engine costs: commits a transition, statements an assignment.

use mathesis::cycle::StateName;
use mathesis::runtime::Operation;
use mathesis::store::StoreError;

use crate::support::stage::{NANO, WAN};
use crate::support::{Stage, Statements, candidates_win};

/// From now on each transaction that writes leaves its number, for every table that it wrote to.
async fn record_commits(stage: &Stage) {
    let mut connection = stage.own_connection().await;
    sqlx::raw_sql(
        "CREATE TABLE written (xid xid8, relation text);
         CREATE FUNCTION note_write() RETURNS trigger LANGUAGE plpgsql AS
             $$ BEGIN INSERT INTO written VALUES (pg_current_xact_id(), TG_TABLE_NAME); RETURN NULL; END $$;
         DO $$ DECLARE name text; BEGIN
             FOR name IN SELECT tablename FROM pg_tables WHERE schemaname = 'public' AND tablename <> 'written' LOOP
                 EXECUTE format('CREATE TRIGGER note AFTER INSERT OR UPDATE OR DELETE ON %I
                                 FOR EACH ROW EXECUTE FUNCTION note_write()', name);
             END LOOP;
         END $$",
    )
    .execute(&mut connection)
    .await
    .expect("the triggers are there");
}

/// How many transactions wrote to the engine's tables, by what they were for.
const COMMITS: &str = "
    SELECT string_agg(purpose || ' ' || commits, ', ' ORDER BY purpose) FROM (
        SELECT purpose, count(*) AS commits FROM (
            SELECT CASE WHEN bool_or(relation = 'cycle_transitions') THEN 'transitions'
                        WHEN bool_or(relation = 'claude_calls') THEN 'intents'
                        WHEN bool_or(relation = 'claude_call_outcomes') THEN 'outcomes'
                        WHEN bool_or(relation = 'effects') THEN 'claims'
                        WHEN bool_or(relation = 'deck_slots') THEN 'scores'
                        ELSE 'other' END AS purpose
              FROM written GROUP BY xid) AS transactions
        GROUP BY purpose) AS counted";

#[tokio::test]
async fn a_cycle_costs_one_commit_a_transition_and_two_a_paid_call() {
    let stage = Stage::new().await;
    stage.complete_tasks("task", 50, 7).await;
    record_commits(&stage).await;
    assert_eq!(stage.watch().await, 1);
    stage.script_candidates("priced");
    assert_eq!(stage.step().await, StateName::Generating);
    assert_eq!(stage.step().await, StateName::Testing);
    assert_eq!(stage.text(COMMITS).await, "intents 3, outcomes 3, transitions 3");

    stage.by_hand("TRUNCATE written").await;
    stage.play_test("test", candidates_win).await;
    stage.by_hand("TRUNCATE written").await;
    assert_eq!(stage.watch().await, 2);
    assert_eq!(stage.step().await, StateName::Applying);
    assert_eq!(stage.step().await, StateName::Applied);
    assert_eq!(
        stage.text(COMMITS).await,
        "scores 2, transitions 4",
        "two looks, the verdicts, the files"
    );
}

#[tokio::test]
async fn a_rescue_costs_one_commit_and_the_claim_after_it_another() {
    let stage = Stage::new().await;
    stage.complete_tasks("task", 50, 7).await;
    assert_eq!(stage.watch().await, 1);
    record_commits(&stage).await;
    let replica = stage.another().await;
    assert_eq!(replica.rescue().await, 1);
    stage.script_candidates("rescued");
    assert_eq!(replica.step().await, StateName::Generating);
    assert_eq!(stage.text(COMMITS).await, "claims 2, intents 1, outcomes 1, transitions 1");
}

#[tokio::test]
async fn looking_without_anything_to_do_writes_nothing() {
    let stage = Stage::new().await;
    stage.start_test("idle").await;
    record_commits(&stage).await;
    stage.watch().await;
    stage.work().await;
    stage.rescue().await;
    stage.assigner.refresh().await.expect("the versions are read");
    assert_eq!(stage.number("SELECT count(*) FROM written").await, 0);
}

#[tokio::test]
async fn without_a_test_an_assignment_needs_no_database_at_all() {
    let stage = Stage::new().await;
    stage.assign("before", WAN).await;
    stage.store.pool().close().await;
    for n in 1..=100 {
        for model in [WAN, NANO] {
            let told =
                stage.assigner.assign(&stage.workflow, &format!("task-{n}"), "", model).await;
            assert_eq!(told.expect("it answers from memory").version, 1);
        }
    }
}

#[tokio::test]
async fn a_run_that_is_looked_up_is_written_first_however_many_others_wait() {
    let stage = Stage::new().await;
    for n in 0..30_000 {
        let told = stage.assigner.assign(&stage.workflow, &format!("task-{n}"), "", WAN).await;
        told.expect("it answers from memory");
    }
    let told = stage.assigner.look_up(&stage.workflow, "task-17", "", WAN).await;
    assert_eq!(told.expect("it is told").version, 1);
    assert_eq!(
        stage.text("SELECT string_agg(clickup_task_id, ',') FROM assignments").await,
        "task-17"
    );
}

#[tokio::test]
async fn an_assignment_in_a_test_is_one_statement_the_first_time_and_every_time() {
    let stage = Stage::new().await;
    stage.start_test("dealt").await;
    stage.assign("before", WAN).await;
    let statements = Statements::counting();
    let ask = async |task: &str| {
        let told = stage.assigner.assign(&stage.workflow, task, "", WAN).await;
        (told.expect("it is told").arm, statements.since())
    };
    let first = ask("task").await;
    assert!(matches!(first, (Some(_), 1)), "{first:?}");
    assert_eq!(ask("task").await, first);

    stage.by_hand("UPDATE deck_slots SET frozen = true").await;
    statements.since();
    assert_eq!(ask("task").await, first, "a holder keeps its answer");
    let (arm, several) = ask("late").await;
    assert!(
        arm.is_none() && several > 1,
        "who finds no slot is pinned, which takes more: {several}"
    );
}

#[tokio::test]
async fn a_transition_costs_few_statements() {
    let stage = Stage::new().await;
    stage.complete_tasks("task", 50, 7).await;
    let statements = Statements::counting();
    assert_eq!(stage.watch().await, 1);
    // Two to see that it is due; then lock, count, mark, checkpoint, effect, COMMIT.
    assert_eq!(statements.since(), 8);
}

#[tokio::test]
async fn pins_wait_while_the_database_is_gone_and_are_written_when_it_is_back() {
    let stage = Stage::new().await;
    stage.by_hand("ALTER TABLE assignments RENAME TO gone").await;
    let told = stage
        .assigner
        .assign(&stage.workflow, "patient", "", WAN)
        .await
        .expect("it answers from memory");
    let failed = stage.assigner.write_pins().await.expect_err("there is no table");
    assert!(matches!(failed, StoreError::Database(_)));
    stage.by_hand("ALTER TABLE gone RENAME TO assignments").await;
    stage.assigner.write_pins().await.expect("the pins are written");
    assert_eq!(
        stage.number("SELECT count(*) FROM assignments WHERE clickup_task_id = 'patient'").await,
        1
    );

    stage.reach_applied("newer").await;
    assert_eq!(stage.assign("patient", WAN).await, told, "the run keeps what it was told");
    assert_eq!(stage.assign("later", WAN).await.version, 2);
    stage.please(Operation::Pause).await;
    assert_eq!(stage.assign("patient", WAN).await, told);
}
