//! From a standing adoption to its end: Applying, Probation and Reverting.

use statig::Outcome::{Handled, Super};

use super::{Next, Turn, cancelled_outcome, standing_adoptions, take_out, to};
use crate::cycle::effect::{ApprovalStage, Effect};
use crate::cycle::event::Event;
use crate::cycle::outcome::{ModelResult, Outcome};
use crate::cycle::state::{Adoption, ModelVerdict, OnProbation, ProbationDecision, State};
use crate::experiment::gate;
use crate::experiment::{Guard, Phase};

pub(super) fn applying(verdicts: &mut [ModelVerdict], event: &Event, turn: &mut Turn<'_>) -> Next {
    match event {
        Event::FilesApplied => {
            let standing = standing_adoptions(verdicts);
            if standing.is_empty() {
                return to(State::RolledBack { outcome: turn.outcome(verdicts) });
            }
            match turn.rules.guard {
                Guard::Off | Guard::Strict | Guard::Paired => {
                    to(State::Applied { outcome: turn.outcome(verdicts) })
                }
                Guard::Probation => {
                    for adoption in &standing {
                        turn.wants(Effect::Deal {
                            model: adoption.model.clone(),
                            phase: Phase::Probation,
                            deck: turn.rules.probation,
                        });
                    }
                    to(State::Probation {
                        verdicts: verdicts.to_vec(),
                        on_probation: standing.into_iter().map(watch).collect(),
                    })
                }
            }
        }
        Event::RollbackRequested { .. } | Event::ModelRetired { .. } => {
            take_out(verdicts, event, turn)
        }
        Event::CancelRequested { reason } => {
            // A model that an operator rolled back meanwhile keeps the version that he named.
            revert(verdicts, &standing_adoptions(verdicts), Vec::new(), Some(reason), turn)
        }
        _ => Super,
    }
}

const fn watch(adoption: Adoption) -> OnProbation {
    OnProbation { adoption, extended: false, asked: false, decision: None }
}

fn revert(
    verdicts: &[ModelVerdict],
    adoptions: &[Adoption],
    kept: Vec<Adoption>,
    cancelled_because: Option<&String>,
    turn: &mut Turn<'_>,
) -> Next {
    let reverts: Vec<Adoption> = adoptions
        .iter()
        .map(|a| Adoption { model: a.model.clone(), from: a.to, to: a.from })
        .collect();
    turn.wants(Effect::Revert { reverts: reverts.clone() });
    to(State::Reverting {
        verdicts: verdicts.to_vec(),
        reverts,
        kept,
        cancelled_because: cancelled_because.cloned(),
    })
}

pub(super) fn probation(
    verdicts: &mut [ModelVerdict],
    on_probation: &mut [OnProbation],
    event: &Event,
    turn: &mut Turn<'_>,
) -> Next {
    match event {
        Event::ProbationLookTaken { model, pooled, probation, judge_changed } => {
            let enough = u64::from(turn.rules.probation_scores_per_arm_min);
            let Some(watched) = watched(on_probation, model) else {
                return turn.refuse("no probation of that model waits for its look");
            };
            let too_few = probation.control.count < enough || probation.candidate.count < enough;
            if *judge_changed || too_few {
                return undecided(watched, *judge_changed, turn);
            }
            let kept =
                gate::exceeds(pooled.control, pooled.candidate, turn.rules.retain_basis_points);
            watched.decision = Some(kept_or_regressed(kept));
            leave_probation_when_decided(verdicts, on_probation, turn)
        }
        Event::ProbationSettled { model, keep } => {
            let Some(watched) = watched(on_probation, model) else {
                return turn.refuse("no probation of that model waits for a decision");
            };
            watched.decision = Some(kept_or_regressed(*keep));
            leave_probation_when_decided(verdicts, on_probation, turn)
        }
        Event::RollbackRequested { model, .. } | Event::ModelRetired { model } => {
            let ended = match event {
                Event::ModelRetired { .. } => ProbationDecision::Retired,
                _ => ProbationDecision::Superseded,
            };
            for watched in on_probation.iter_mut().filter(|w| w.adoption.model == *model) {
                if stays_in_the_cycle(watched) {
                    watched.decision = Some(ended);
                }
            }
            take_out(verdicts, event, turn);
            leave_probation_when_decided(verdicts, on_probation, turn)
        }
        Event::CancelRequested { reason } => {
            let adopted: Vec<Adoption> = on_probation
                .iter()
                .filter(|watched| stays_in_the_cycle(watched))
                .map(|watched| watched.adoption.clone())
                .collect();
            revert(verdicts, &adopted, Vec::new(), Some(reason), turn)
        }
        _ => Super,
    }
}

/// Too few scores: the same time once more, then a person is asked. More time does not make two judges
/// one, so a person is asked at once.
fn undecided(watched: &mut OnProbation, judge_changed: bool, turn: &mut Turn<'_>) -> Next {
    if watched.asked {
        return turn.refuse("a person was asked about that probation and has not answered");
    }
    if judge_changed || watched.extended {
        watched.asked = true;
        turn.wants(Effect::AwaitApproval { stage: ApprovalStage::ProbationUndecided });
    } else {
        watched.extended = true;
        turn.wants(Effect::Extend { model: watched.adoption.model.clone() });
    }
    Handled
}

fn watched<'p>(on_probation: &'p mut [OnProbation], model: &str) -> Option<&'p mut OnProbation> {
    on_probation
        .iter_mut()
        .find(|watched| watched.adoption.model == model && watched.decision.is_none())
}

/// False once the model was rolled back by hand or retired: the cycle then leaves its files alone.
const fn stays_in_the_cycle(watched: &OnProbation) -> bool {
    !matches!(watched.decision, Some(ProbationDecision::Superseded | ProbationDecision::Retired))
}

const fn kept_or_regressed(kept: bool) -> ProbationDecision {
    if kept { ProbationDecision::Kept } else { ProbationDecision::Regressed }
}

fn leave_probation_when_decided(
    verdicts: &[ModelVerdict],
    on_probation: &[OnProbation],
    turn: &mut Turn<'_>,
) -> Next {
    if on_probation.iter().any(|watched| watched.decision.is_none()) {
        return Handled;
    }
    let ended = |decision| {
        on_probation
            .iter()
            .filter(move |watched| watched.decision == Some(decision))
            .map(|watched| watched.adoption.clone())
            .collect::<Vec<_>>()
    };
    let kept = ended(ProbationDecision::Kept);
    let regressed = ended(ProbationDecision::Regressed);
    if !regressed.is_empty() {
        return revert(verdicts, &regressed, kept, None, turn);
    }
    let mut outcome = turn.outcome(verdicts);
    for watched in on_probation {
        if let Some(decision) = watched.decision {
            outcome = outcome.after_probation(&watched.adoption.model, decision);
        }
    }
    if kept.is_empty() { to(State::RolledBack { outcome }) } else { to(State::Applied { outcome }) }
}

pub(super) fn reverting(
    verdicts: &mut [ModelVerdict],
    kept: &mut Vec<Adoption>,
    cancelled_because: Option<&str>,
    event: &Event,
    turn: &mut Turn<'_>,
) -> Next {
    match event {
        Event::FilesReverted => {
            if let Some(reason) = cancelled_because {
                let outcome = cancelled_outcome(turn.outcome(verdicts));
                return to(State::Cancelled { outcome, reason: reason.to_owned() });
            }
            let outcome = reverted_outcome(turn.outcome(verdicts), kept);
            if kept.is_empty() {
                to(State::RolledBack { outcome })
            } else {
                to(State::Applied { outcome })
            }
        }
        // An Apply that was already running when the cancel came still reports; the revert waits
        // for it and undoes it.
        Event::FilesApplied => Handled,
        Event::RollbackRequested { model, .. } | Event::ModelRetired { model } => {
            kept.retain(|adoption| adoption.model != *model);
            take_out(verdicts, event, turn)
        }
        _ => Super,
    }
}

fn reverted_outcome(mut outcome: Outcome, kept: &[Adoption]) -> Outcome {
    let reverted: Vec<String> = outcome
        .models
        .iter()
        .filter(|entry| entry.result == ModelResult::Adopted)
        .filter(|entry| kept.iter().all(|adoption| adoption.model != entry.model))
        .map(|entry| entry.model.clone())
        .collect();
    for model in reverted {
        outcome.set(&model, ModelResult::RolledBack, "regressed");
    }
    outcome
}
