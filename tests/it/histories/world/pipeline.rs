//! The pipeline's side of a history: tasks, answers, reports, repeats.

use mathesis::runtime::{Assignment, ForgetError, Operator, forget_task};
use serde_json::{Value, json};

use super::super::act::{How, Sent};
use super::super::model::{Facts, State};
use super::{Differs, NAMES, World, dies_after};
use crate::support::TaskRun;
use crate::support::stage::{NANO, WAN};

impl World {
    fn new_task(&mut self) -> String {
        self.tasks += 1;
        format!("task-{}", self.tasks)
    }

    pub(super) async fn finish(
        &mut self,
        tasks: usize,
        score: i64,
        backwards: bool,
    ) -> Result<(), Differs> {
        let mut batch = Vec::new();
        let mut names = Vec::new();
        for _ in 0..tasks {
            let task = self.new_task();
            batch.extend(TaskRun::new(&task, &[(WAN, 0, score), (NANO, 0, score)]).events());
            self.model.completed(&task);
            names.push(task);
        }
        let sent = if backwards { Sent::Backwards } else { Sent::InOrder };
        self.send(names, batch, sent).await
    }

    /// Sends a batch until it is acknowledged; every event of it is then on record once.
    async fn send(
        &mut self,
        tasks: Vec<String>,
        mut batch: Vec<Value>,
        sent: Sent,
    ) -> Result<(), Differs> {
        if matches!(sent, Sent::Backwards) {
            batch.reverse();
        }
        if let Sent::Unheard { polls } = sent {
            let _unheard = dies_after(polls, self.stage.try_log(batch.clone())).await;
        }
        let report = self.stage.try_log(batch.clone()).await;
        let told = report.accepted + report.duplicate;
        let heard = matches!(sent, Sent::Unheard { .. }) || report.duplicate == 0;
        if told != batch.len() || !heard {
            return Err(format!("of {} new events, the log says {report:?}", batch.len()));
        }
        for event in &batch {
            let task = event["task_id"].as_str().unwrap_or_default().to_owned();
            *self.events.entry(task).or_default() += 1;
        }
        self.sent.push((tasks, batch));
        Ok(())
    }

    pub(super) async fn ask(&mut self, tasks: usize) -> Result<(), Differs> {
        self.stage.assigner.refresh().await.expect("the versions are read");
        for _ in 0..tasks {
            let task = self.new_task();
            let mut told = Vec::new();
            for (model, name) in NAMES.iter().enumerate() {
                let answer = self.answer(&task, name).await;
                let slot = self.slot_of(&task, name).await;
                self.model.told(&task, model, slot, answer.version)?;
                if slot.is_some() && self.answer(&task, name).await != answer {
                    return Err(format!("{task} was told something else when it asked again"));
                }
                told.push(answer);
            }
            self.asked.push((task, told));
        }
        Ok(())
    }

    async fn answer(&self, task: &str, model: &str) -> Assignment {
        let assigner = &self.stage.assigner;
        assigner.assign(&self.stage.workflow, task, "", model).await.expect("the assigner answers")
    }

    async fn slot_of(&self, task: &str, model: &str) -> Option<usize> {
        let slot: Option<i32> = sqlx::query_scalar(
            "SELECT (SELECT count(*) FROM deck_slots earlier
                      WHERE earlier.workflow_id = held.workflow_id AND earlier.cycle = held.cycle
                        AND earlier.model_name = held.model_name AND earlier.slot < held.slot)::int
               FROM deck_slots held WHERE clickup_task_id = $1 AND model_name = $2",
        )
        .bind(task)
        .bind(model)
        .fetch_optional(self.stage.pool())
        .await
        .expect("the deck reads");
        slot.and_then(|slot| usize::try_from(slot).ok())
    }

    pub(super) async fn report(
        &mut self,
        tasks: usize,
        how: How,
        (old, new): (i64, i64),
        ends: bool,
        sent: Sent,
    ) -> Result<(), Differs> {
        let most = if how == How::Scores { tasks } else { tasks.min(2) };
        let most = most.min(self.asked.len());
        let score = |_: &str, _: usize, is_new: bool| if is_new { new } else { old };
        self.report_of(most, how, score, ends, sent).await
    }

    /// So many of the tasks that asked report, each model by what its arm scores.
    pub(super) async fn report_of(
        &mut self,
        tasks: usize,
        how: How,
        score: impl Fn(&str, usize, bool) -> i64,
        ends: bool,
        sent: Sent,
    ) -> Result<(), Differs> {
        let reporting: Vec<_> = self.asked.drain(..tasks).collect();
        let (mut batch, mut names) = (Vec::new(), Vec::new());
        for (task, told) in reporting {
            for (model, answer) in told.iter().enumerate() {
                let is_new = answer.arm.is_some_and(|arm| arm.as_str() == "candidate");
                let score = score(&task, model, is_new);
                let (events, facts) = attempt(&task, NAMES[model], answer.version, how, score);
                batch.extend(events);
                self.model.reported(&task, model, facts);
            }
            if how == How::RunFails {
                batch.push(json!({ "type": "error", "task_id": task, "error": "the run broke" }));
                self.model.completed(&task);
            } else if ends {
                batch.push(
                    json!({ "type": "completed", "task_id": task, "processing_time_ms": 9_000 }),
                );
                self.model.completed(&task);
            }
            names.push(task);
        }
        if batch.is_empty() { Ok(()) } else { self.send(names, batch, sent).await }
    }

    pub(super) async fn repeat(&mut self, back: usize) -> Result<(), Differs> {
        let Some((_, batch)) = self.sent.iter().rev().nth(back) else { return Ok(()) };
        let forgotten = batch.iter().filter(|event| !self.is_known(event)).count();
        let report = self.stage.try_log(batch.clone()).await;
        let right = (report.accepted, report.duplicate, report.rejected.len())
            == (0, batch.len() - forgotten, forgotten);
        if right { Ok(()) } else { Err(format!("a batch sent again is told {report:?}")) }
    }

    fn is_known(&self, event: &Value) -> bool {
        event["task_id"].as_str().is_some_and(|task| self.events.contains_key(task))
    }

    pub(super) async fn contradict(&mut self, back: usize) -> Result<(), Differs> {
        let Some((_, batch)) = self.sent.iter().rev().nth(back) else { return Ok(()) };
        let scored =
            batch.iter().find(|event| event["type"] == "validation" && self.is_known(event));
        let Some(mut other) = scored.cloned() else { return Ok(()) };
        let score = other["score"].as_i64().unwrap_or_default();
        other["score"] = json!(10 - score);
        if score == 5 {
            return Ok(());
        }
        let report = self.stage.try_log(vec![other]).await;
        let codes: Vec<_> = report.rejected.iter().map(|rejection| rejection.code).collect();
        if codes == ["event_conflict"] {
            return Ok(());
        }
        Err(format!("another score for the same attempt is told {report:?}"))
    }

    pub(super) async fn forget(&mut self, back: usize) -> Result<(), Differs> {
        let Some(task) = self.sent.iter().rev().nth(back).and_then(|(tasks, _)| tasks.first())
        else {
            return Ok(());
        };
        let task = task.clone();
        let operator =
            Operator { name: "Ελένη", reason: Some("a customer asked"), cycle: None };
        let done =
            forget_task(&self.stage.engine, &self.stage.workflow, &task, None, operator).await;
        match done {
            Ok(_) if self.model.needs(&task) => Err(format!("{task} was needed and is forgotten")),
            Ok(_) => {
                self.model.forgotten(&task);
                self.events.remove(&task);
                Ok(())
            }
            // While Claude is asked, nothing that it may be asked about again is forgotten.
            Err(ForgetError::InUse(_))
                if self.model.needs(&task)
                    || matches!(self.model.state, State::Analyzing | State::Generating) =>
            {
                Ok(())
            }
            Err(error) => Err(format!("{task} cannot be forgotten: {error}")),
        }
    }
}

/// One attempt as it is logged, and what it says.
fn attempt(task: &str, model: &str, version: i32, how: How, score: i64) -> (Vec<Value>, Facts) {
    let named = if how == How::ScoresUnderAnother { version + 1 } else { version };
    let mut facts = Facts { named: Some(named), ..Facts::default() };
    let mut events = vec![json!({
        "type": "enhancement", "task_id": task, "model": model, "version": named,
        "original_prompt": "Λευκό φόντο", "enhanced_prompt": "White background."
    })];
    let fails = |fault: &str| {
        json!({
            "type": "error", "task_id": task, "model": model, "error": "it broke", "fault": fault
        })
    };
    match how {
        How::Scores | How::ScoresUnderAnother => {
            facts.score = Some(score);
            events.push(json!({
                "type": "validation", "task_id": task, "model": model, "score": score, "passed": score >= 8
            }));
        }
        How::PromptFails => {
            facts.prompt_failed = true;
            events.push(fails("prompt"));
        }
        How::InfrastructureFails => {
            facts.infrastructure_failed = true;
            events.push(fails("infrastructure"));
        }
        How::RunFails => facts.run_failed = true,
    }
    (events, facts)
}
