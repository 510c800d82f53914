//! What a test sees behind the stage, and the few acts that only a test does.

use std::time::Duration;

use chrono::{DateTime, Utc};
use mathesis::cycle::StateName;
use mathesis::experiment::Arm;
use mathesis::runtime::{Assignment, HoldStatus, Operation, OperationError, Operator, Performed};
use mathesis::store::claude_calls::{self, CallIntent, CallRow, Payer};
use mathesis::store::effects::{self, EffectRow};
use mathesis::store::experiments::{self, ExperimentRow};
use mathesis::workflow::Definition;
use rust_decimal::Decimal;
use serde_json::Value;
use sqlx::{Connection, PgConnection};
use uuid::Uuid;

use super::stage::Stage;
use super::{analysis_answer, edit_answer, nano_edit_answer};

/// Scores that let every candidate win clearly.
pub fn candidates_win(_: &str, told: &Assignment) -> i64 {
    if told.arm == Some(Arm::Candidate) { 9 } else { 6 }
}

/// Scores that show no difference.
pub fn no_difference(_: &str, _: &Assignment) -> i64 {
    7
}

/// A call of Claude that is about to be made.
pub fn asking(payer: Payer<'_>) -> CallIntent<'_> {
    let call_id = Uuid::now_v7();
    CallIntent {
        call_id,
        payer,
        purpose: "analysis",
        model_name: "",
        attempt: 1,
        batch: false,
        claude_model: "claude-opus-5-5",
        request_hash: "",
        estimated_cost_usd: Decimal::ZERO,
        worker_id: match payer {
            Payer::Effect(claim) => claim.worker_id,
            Payer::Rehearsal(_) => call_id,
        },
        plan: None,
    }
}

impl Stage {
    /// One number from the database.
    pub async fn number(&self, sql: &'static str) -> i64 {
        sqlx::query_scalar(sql).fetch_one(self.pool()).await.expect("the query answers")
    }

    /// One text from the database.
    pub async fn text(&self, sql: &'static str) -> String {
        sqlx::query_scalar(sql).fetch_one(self.pool()).await.expect("the query answers")
    }

    /// Changes rows by hand, as nobody should; returns how many.
    pub async fn by_hand(&self, sql: &'static str) -> u64 {
        sqlx::query(sql).execute(self.pool()).await.expect("the statement runs").rows_affected()
    }

    /// Puts the workflow and its open cycle on a definition, as the version of the program does that can read it.
    pub async fn redefine(&self, definition: &Value) {
        let redefined = "WITH stored AS (
                 INSERT INTO workflow_definitions (workflow_id, definition_hash, definition, created_at)
                 VALUES ($1, $2, $3, now()) ON CONFLICT DO NOTHING),
             cycle AS (UPDATE cycles SET definition_hash = $2 WHERE workflow_id = $1 AND ended_at IS NULL)
             UPDATE workflows SET definition_hash = $2 WHERE workflow_id = $1";
        let query = sqlx::query(redefined).bind(self.id()).bind(Definition::hash_of(definition));
        query.bind(definition).execute(self.pool()).await.expect("the statement runs");
    }

    /// A connection of its own, beside every pool.
    pub async fn own_connection(&self) -> PgConnection {
        PgConnection::connect(&self.url).await.expect("the database answers")
    }

    /// From now on every transaction that would move a cycle fails at its end, as if the process had
    /// died just before COMMIT.
    pub async fn crash_before_commit(&self) {
        let mut connection = self.own_connection().await;
        sqlx::raw_sql(
            "CREATE FUNCTION crash() RETURNS trigger LANGUAGE plpgsql AS
                 $$ BEGIN RAISE EXCEPTION 'the process died here' USING ERRCODE = '57P01'; END $$;
             CREATE TRIGGER crash BEFORE INSERT ON cycle_transitions
                 FOR EACH ROW EXECUTE FUNCTION crash()",
        )
        .execute(&mut connection)
        .await
        .expect("the trigger is there");
    }

    /// Transactions commit again.
    pub async fn commit_again(&self) {
        self.by_hand("DROP FUNCTION crash() CASCADE").await;
    }

    pub async fn effects(&self, cycle: i64) -> Vec<EffectRow> {
        effects::list(self.pool(), self.id(), cycle).await.expect("the database answers")
    }

    /// The newest effect of a cycle.
    pub async fn last_effect(&self, cycle: i64) -> EffectRow {
        self.effects(cycle).await.pop().expect("the cycle has an effect")
    }

    pub async fn calls(&self, cycle: i64) -> Vec<CallRow> {
        claude_calls::of_cycle(self.pool(), self.id(), cycle).await.expect("the database answers")
    }

    /// The status of each call of a cycle, oldest first; "running" without an outcome.
    pub async fn call_statuses(&self, cycle: i64) -> Vec<String> {
        let calls = self.calls(cycle).await;
        calls.into_iter().map(|call| call.status.unwrap_or_else(|| "running".to_owned())).collect()
    }

    pub async fn experiments(&self, cycle: i64) -> Vec<ExperimentRow> {
        let mut conn = self.pool().acquire().await.expect("a connection");
        experiments::of_cycle(&mut conn, self.id(), cycle).await.expect("the database answers")
    }

    /// Since when the clock of a model's open probation runs.
    pub async fn clock_of_probation(&self, model: &str) -> DateTime<Utc> {
        sqlx::query_scalar(
            "SELECT coalesce(extended_at, opened_at) FROM probations
              WHERE model_name = $1 AND status = 'open'",
        )
        .bind(model)
        .fetch_one(self.pool())
        .await
        .expect("a probation is open")
    }

    /// The experiment of a model, whole, as text that can be compared.
    pub async fn experiment_as_text(&self, cycle: i64, model: &str) -> String {
        let rows = self.experiments(cycle).await;
        let row =
            rows.into_iter().find(|row| row.model_name == model).expect("the model is tested");
        serde_json::to_string_pretty(&row).expect("a row is JSON")
    }

    /// What holds the open cycle, by kind.
    pub async fn held_by(&self) -> Vec<String> {
        self.status().await.holds.into_iter().map(|hold| hold.kind).collect()
    }

    /// The only hold of the open cycle.
    pub async fn the_hold(&self) -> HoldStatus {
        let mut holds = self.status().await.holds;
        assert_eq!(holds.len(), 1, "one hold stands: {holds:?}");
        holds.remove(0)
    }

    /// Does what an operator asks; it must be possible.
    pub async fn please(&self, operation: Operation) -> Performed {
        self.operate(operation).await.expect("the operation is possible")
    }

    /// Asks for what is not possible; returns why not, in words.
    pub async fn refused(&self, operation: Operation) -> String {
        self.operate(operation).await.expect_err("the operation is refused").to_string()
    }

    /// Does what an operator asks of a certain cycle.
    pub async fn operate_on(
        &self,
        cycle: i64,
        operation: Operation,
    ) -> Result<Performed, OperationError> {
        let operator =
            Operator { name: "Ελένη", reason: Some("for the test"), cycle: Some(cycle) };
        operation.perform(&self.engine, self.id(), operator).await
    }

    /// Claude will analyse, and write a candidate for each model that says `line`.
    pub fn script_candidates(&self, line: &str) {
        self.claude.answer_json(analysis_answer(&[]));
        self.claude.answer_json(edit_answer(&format!("{line}, for wan.")));
        self.claude.answer_json(nano_edit_answer(&format!("{line}, for nano.")));
    }

    /// From Collecting to Testing, whatever the cycle's number.
    pub async fn start_test(&self, name: &str) {
        self.complete_tasks(name, 50, 7).await;
        assert_eq!(self.watch().await, 1, "the trigger opens the analysis");
        self.script_candidates(name);
        assert_eq!(self.step().await, StateName::Generating);
        assert_eq!(self.step().await, StateName::Testing);
    }

    /// From Collecting to Deciding, with the scores given.
    pub async fn reach_deciding(&self, name: &str, score: impl Fn(&str, &Assignment) -> i64) {
        self.start_test(name).await;
        self.play_test(&format!("{name}-test"), score).await;
        assert_eq!(self.watch().await, 2, "each model takes its look");
        assert_eq!(self.state().await, StateName::Deciding);
    }

    /// From Collecting to Applying, both candidates adopted.
    pub async fn reach_applying(&self, name: &str) {
        self.reach_deciding(name, candidates_win).await;
        assert_eq!(self.step().await, StateName::Applying);
    }

    /// From Collecting to Applied, both candidates adopted.
    pub async fn reach_applied(&self, name: &str) {
        self.reach_applying(name).await;
        assert_eq!(self.step().await, StateName::Applied);
    }

    /// Gives the effects of dead workers to the living; returns how many.
    pub async fn rescue(&self) -> u64 {
        let mut kept = self.rescuing.lock().await;
        let rescuer =
            kept.get_or_insert_with(|| self.rescuer().trusting_locks_after(Duration::ZERO));
        rescuer.look().await.expect("the rescuer looks")
    }
}
