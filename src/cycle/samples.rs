//! Meaningful samples of every state and event, for the state machine's page and its tests.

use super::event::{Event, NoCandidate, NoCandidateReason};
use super::outcome::{ModelOutcome, ModelResult, Outcome};
use super::snapshot::{Approval, Rules};
use super::state::{
    Adoption, AnalysisSummary, Experiment, ModelVerdict, OnProbation, ProbationDecision, State,
    Window,
};
use crate::experiment::deck::DeckRules;
use crate::experiment::gate::{Decision, GateRules, Look, Reason, Status, Sum};
use crate::experiment::{ByArm, Guard};

const FIRST: &str = "seedream";
const SECOND: &str = "qwen";
const WITHOUT: &str = "flux";

const ADOPTED: Decision = Decision { status: Status::Adopted, reason: Reason::Improved };
const REJECTED: Decision = Decision { status: Status::Rejected, reason: Reason::NotImproved };

/// At least one state of each name; where what it carries steers the machine, one for each way.
#[must_use]
pub fn sample_states() -> Vec<State> {
    vec![
        State::Collecting,
        State::Analyzing { window: Window { tasks: 50 } },
        State::Generating { analysis: AnalysisSummary { tasks: 50, insights: 4 } },
        State::Testing { experiments: vec![experiment(FIRST, None)] },
        State::Testing { experiments: vec![experiment(FIRST, None), experiment(SECOND, None)] },
        State::Testing {
            experiments: vec![experiment(FIRST, None), experiment(SECOND, Some(ADOPTED))],
        },
        State::Deciding { verdicts: vec![verdict(FIRST, REJECTED, None)] },
        State::Deciding {
            verdicts: vec![verdict(FIRST, ADOPTED, None), verdict(SECOND, REJECTED, None)],
        },
        State::Deciding {
            verdicts: vec![verdict(FIRST, ADOPTED, None), verdict(SECOND, ADOPTED, None)],
        },
        applying(None),
        applying(Some(Reason::Superseded)),
        probation(&[watched(FIRST, None)]),
        probation(&[OnProbation { extended: true, ..watched(FIRST, None) }]),
        probation(&[OnProbation { extended: true, asked: true, ..watched(FIRST, None) }]),
        probation(&[watched(FIRST, None), watched(SECOND, None)]),
        probation(&[watched(FIRST, None), watched(SECOND, Some(ProbationDecision::Kept))]),
        probation(&[watched(FIRST, None), watched(SECOND, Some(ProbationDecision::Regressed))]),
        reverting(&[SECOND], None),
        reverting(&[], None),
        reverting(&[], Some("the judge was wrong")),
        State::Applied { outcome: outcome(ModelResult::Adopted, "improved") },
        State::Rejected { outcome: outcome(ModelResult::Rejected, "not_improved") },
        State::RolledBack { outcome: outcome(ModelResult::RolledBack, "regressed") },
        State::Cancelled {
            outcome: outcome(ModelResult::Cancelled, "cancelled"),
            reason: "the judge was wrong".to_owned(),
        },
    ]
}

/// At least one event of each name, about the models of [`sample_states`].
#[must_use]
pub fn sample_events() -> Vec<Event> {
    vec![
        Event::TriggerReached { window: Window { tasks: 50 } },
        Event::AnalysisFinished { insights: 4 },
        Event::CandidatesGenerated {
            experiments: vec![experiment(FIRST, None), experiment(SECOND, None)],
            without: vec![without()],
        },
        Event::CandidatesGenerated { experiments: Vec::new(), without: vec![without()] },
        look_taken(FIRST, 8),
        look_taken(FIRST, 7),
        look_taken(SECOND, 8),
        barely_better(FIRST),
        Event::TestTimedOut,
        Event::VerdictsSettled,
        Event::FilesApplied,
        probation_look(FIRST, 8, 15),
        probation_look(FIRST, 7, 15),
        probation_look(FIRST, 8, 7),
        probation_look(SECOND, 8, 15),
        settled(FIRST, true),
        settled(FIRST, false),
        Event::FilesReverted,
        Event::CandidatesRefused { models: vec![FIRST.to_owned()] },
        Event::CandidatesRefused { models: Vec::new() },
        Event::RollbackRequested { model: FIRST.to_owned(), from: 3, to: 1 },
        Event::ModelRetired { model: FIRST.to_owned() },
        Event::CancelRequested { reason: "the judge was wrong".to_owned() },
    ]
}

/// Every way in which a workflow's rules steer the machine: each guard with each approval.
#[must_use]
pub fn sample_rules() -> Vec<Rules> {
    let with = |guard| {
        Approval::ALL.iter().map(move |&approval| Rules {
            trigger_tasks: 50,
            gate: GateRules { threshold_basis_points: 1000, scores_per_arm_min: 8, score_max: 10 },
            guard,
            split: DeckRules { per_arm: 10, block: 4 },
            probation: DeckRules { per_arm: 15, block: 4 },
            strict_looks_max: 5,
            retain_basis_points: 500,
            probation_scores_per_arm_min: 8,
            approval,
        })
    };
    Guard::ALL.iter().copied().flat_map(with).collect()
}

fn experiment(model: &str, decision: Option<Decision>) -> Experiment {
    Experiment {
        model: model.to_owned(),
        control: 3,
        candidate: 4,
        looks: 0,
        decision,
        dropped: None,
    }
}

fn verdict(model: &str, decision: Decision, dropped: Option<Reason>) -> ModelVerdict {
    ModelVerdict { model: model.to_owned(), control: 3, candidate: 4, decision, dropped }
}

fn adoption(model: &str) -> Adoption {
    Adoption { model: model.to_owned(), from: 3, to: 4 }
}

fn applying(dropped: Option<Reason>) -> State {
    State::Applying {
        verdicts: vec![verdict(FIRST, ADOPTED, dropped)],
        adoptions: vec![adoption(FIRST)],
    }
}

fn probation(on_probation: &[OnProbation]) -> State {
    let adopted = |watched: &OnProbation| verdict(&watched.adoption.model, ADOPTED, None);
    State::Probation {
        verdicts: on_probation.iter().map(adopted).collect(),
        on_probation: on_probation.to_vec(),
    }
}

fn watched(model: &str, decision: Option<ProbationDecision>) -> OnProbation {
    OnProbation { adoption: adoption(model), extended: false, asked: false, decision }
}

fn reverting(kept: &[&str], cancelled_because: Option<&str>) -> State {
    let adopted = std::iter::once(FIRST).chain(kept.iter().copied());
    State::Reverting {
        verdicts: adopted.map(|model| verdict(model, ADOPTED, None)).collect(),
        reverts: vec![Adoption { model: FIRST.to_owned(), from: 4, to: 3 }],
        kept: kept.iter().map(|model| adoption(model)).collect(),
        cancelled_because: cancelled_because.map(str::to_owned),
    }
}

fn outcome(result: ModelResult, reason: &str) -> Outcome {
    Outcome {
        models: vec![ModelOutcome {
            model: FIRST.to_owned(),
            result,
            candidate: Some(4),
            reason: reason.to_owned(),
            detail: String::new(),
        }],
    }
}

fn without() -> NoCandidate {
    NoCandidate {
        model: WITHOUT.to_owned(),
        reason: NoCandidateReason::AtCeiling,
        detail: String::new(),
    }
}

/// Ten scores an arm: 7 throughout for the control, so that 7 rejects and 8 adopts.
fn look_taken(model: &str, candidate_score: u16) -> Event {
    let block = ByArm { control: vec![7, 7], candidate: vec![candidate_score, candidate_score] };
    Event::LookTaken {
        model: model.to_owned(),
        look: Look { blocks: vec![block; 5], missed: ByArm::default() },
        judge_changed: false,
    }
}

/// Ten scores an arm that pass the rule and may be chance: what `strict` looks at again.
fn barely_better(model: &str) -> Event {
    let block = ByArm { control: vec![5, 9], candidate: vec![6, 10] };
    Event::LookTaken {
        model: model.to_owned(),
        look: Look { blocks: vec![block; 5], missed: ByArm::default() },
        judge_changed: false,
    }
}

/// A look with `count` scores an arm in the probation, after ten an arm in the test.
fn probation_look(model: &str, candidate_score: u64, count: u64) -> Event {
    let sums = |count| ByArm {
        control: Sum { total: 7 * count, count },
        candidate: Sum { total: candidate_score * count, count },
    };
    Event::ProbationLookTaken {
        model: model.to_owned(),
        pooled: sums(10 + count),
        probation: sums(count),
        judge_changed: false,
    }
}

fn settled(model: &str, keep: bool) -> Event {
    Event::ProbationSettled { model: model.to_owned(), keep }
}
