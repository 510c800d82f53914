//! Testing: looks are taken, until every experiment has its verdict.

use statig::Outcome::{Handled, Super};

use super::{Next, Turn, cancelled_outcome, names_model, roll_back, taken_out, to};
use crate::cycle::effect::{ApprovalStage, Effect};
use crate::cycle::event::Event;
use crate::cycle::outcome::{ModelResult, Outcome};
use crate::cycle::snapshot::Approval;
use crate::cycle::state::{Experiment, ModelVerdict, State};
use crate::experiment::Phase;
use crate::experiment::gate::{Decision, Reason, Status};
use crate::experiment::strict::Step;

pub(super) fn testing(experiments: &mut [Experiment], event: &Event, turn: &mut Turn<'_>) -> Next {
    match event {
        Event::LookTaken { model, look, judge_changed } => {
            let Some(experiment) = undecided(experiments, model) else {
                return turn.refuse("no experiment of that model waits for its look");
            };
            let step = if *judge_changed {
                Step::Decided(without_look(Reason::JudgeChanged))
            } else {
                turn.rules.look(experiment.looks + 1, look)
            };
            match step {
                Step::Decided(decision) => experiment.decision = Some(decision),
                Step::GoesOn => go_on(experiment, turn),
            }
            leave_testing_when_decided(experiments, turn)
        }
        Event::TestTimedOut => {
            for experiment in experiments.iter_mut().filter(|e| e.decision.is_none()) {
                experiment.decision = Some(without_look(Reason::TimedOut));
            }
            leave_testing_when_decided(experiments, turn)
        }
        Event::CandidatesRefused { models } => refuse_untested(experiments, models, turn),
        Event::RollbackRequested { .. } | Event::ModelRetired { .. } => {
            let Some((model, reason)) = taken_out(event) else {
                return Super;
            };
            for experiment in experiments.iter_mut().filter(|e| e.model == model) {
                take_experiment_out(experiment, reason);
            }
            roll_back(event, turn);
            leave_testing_when_decided(experiments, turn)
        }
        Event::CancelRequested { reason } => {
            let outcome = cancelled_test(experiments, turn);
            to(State::Cancelled { outcome, reason: reason.clone() })
        }
        _ => Super,
    }
}

fn undecided<'e>(experiments: &'e mut [Experiment], model: &str) -> Option<&'e mut Experiment> {
    experiments
        .iter_mut()
        .find(|experiment| experiment.model == model && experiment.decision.is_none())
}

/// Neither proven nor refuted: the deck is lengthened by as much as it had at first.
fn go_on(experiment: &mut Experiment, turn: &mut Turn<'_>) {
    experiment.looks += 1;
    turn.wants(Effect::Deal {
        model: experiment.model.clone(),
        phase: Phase::Test,
        deck: turn.rules.split,
    });
}

/// A decision that no look led to: the old version stays.
const fn without_look(reason: Reason) -> Decision {
    Decision { status: Status::Inconclusive, reason }
}

/// Ends a test that still runs, or drops an adoption that waits for the other tests. A verdict itself
/// stays as it is, and so does the first reason for which it was dropped.
fn take_experiment_out(experiment: &mut Experiment, reason: Reason) {
    match experiment.decision {
        None => experiment.decision = Some(without_look(reason)),
        Some(decision) if decision.status == Status::Adopted => {
            experiment.dropped.get_or_insert(reason);
        }
        Some(_) => {}
    }
}

fn refuse_untested(experiments: &mut [Experiment], models: &[String], turn: &mut Turn<'_>) -> Next {
    let mut refused = 0_usize;
    for experiment in experiments.iter_mut() {
        if experiment.decision.is_none() && names_model(models, &experiment.model) {
            experiment.decision = Some(without_look(Reason::Refused));
            refused += 1;
        }
    }
    if refused == 0 {
        return turn.refuse("no candidate of those models waits for its verdict");
    }
    let all_refused = experiments
        .iter()
        .all(|e| e.decision.is_some_and(|decision| decision.reason == Reason::Refused));
    if all_refused {
        return to(State::Rejected { outcome: turn.outcome(&verdicts_of(experiments)) });
    }
    leave_testing_when_decided(experiments, turn)
}

fn verdicts_of(experiments: &[Experiment]) -> Vec<ModelVerdict> {
    experiments
        .iter()
        .filter_map(|experiment| {
            Some(ModelVerdict {
                model: experiment.model.clone(),
                control: experiment.control,
                candidate: experiment.candidate,
                decision: experiment.decision?,
                dropped: experiment.dropped,
            })
        })
        .collect()
}

/// How a cancelled test ends: verdicts are told as they are, experiments without one end cancelled.
fn cancelled_test(experiments: &[Experiment], turn: &Turn<'_>) -> Outcome {
    let mut told = experiments.to_vec();
    for experiment in told.iter_mut().filter(|e| e.decision.is_none()) {
        experiment.decision = Some(without_look(Reason::Superseded));
    }
    let mut outcome = cancelled_outcome(turn.outcome(&verdicts_of(&told)));
    for experiment in experiments.iter().filter(|e| e.decision.is_none()) {
        outcome.set(&experiment.model, ModelResult::Cancelled, "cancelled");
    }
    outcome
}

fn leave_testing_when_decided(experiments: &[Experiment], turn: &mut Turn<'_>) -> Next {
    if experiments.iter().any(|experiment| experiment.decision.is_none()) {
        return Handled;
    }
    let verdicts = verdicts_of(experiments);
    if turn.rules.approval == Approval::BeforeApply
        && verdicts.iter().any(ModelVerdict::stands_adopted)
    {
        turn.wants(Effect::AwaitApproval { stage: ApprovalStage::BeforeApply });
    }
    turn.wants(Effect::Decide);
    to(State::Deciding { verdicts })
}
