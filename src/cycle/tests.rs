//! The machine's tests. This file sets the stage; each file under tests/ shows one side of it.

mod page;
mod probation;
mod properties;
mod refusals;
mod stored;
mod strict;
mod taken_out;
mod walks;

use super::*;
use crate::experiment::deck::DeckRules;
use crate::experiment::gate::{GateRules, Look, Sum};
use crate::experiment::{ByArm, Phase};

const SEEDREAM: &str = "seedream";
const QWEN: &str = "qwen";
const FLUX: &str = "flux";

/// A cycle under test, and what its last event asked for.
struct Cycle {
    snapshot: Snapshot,
    effects: Vec<Effect>,
}

impl Cycle {
    fn open(guard: Guard, approval: Approval) -> Self {
        Self { snapshot: Snapshot::open(7, rules(guard, approval)), effects: Vec::new() }
    }

    fn standing_at(state: State, rules: Rules) -> Self {
        let mut snapshot = Snapshot::open(7, rules);
        snapshot.state = state;
        Self { snapshot, effects: Vec::new() }
    }

    /// In Testing, with one experiment a model.
    fn testing(guard: Guard, approval: Approval, models: &[&str]) -> Self {
        let mut cycle = Self::open(guard, approval);
        cycle.on(trigger());
        cycle.on(analysed());
        cycle.on(candidates(models, &[]));
        cycle
    }

    /// In Probation, with every model's adoption on watch.
    fn on_probation(models: &[&str]) -> Self {
        let mut cycle = Self::testing(Guard::Probation, Approval::None, models);
        for model in models {
            cycle.on(adopting_look(model));
        }
        cycle.on(Event::VerdictsSettled);
        cycle.on(Event::FilesApplied);
        cycle
    }

    #[track_caller]
    fn on(&mut self, event: Event) -> &Self {
        let (next, effects) = step(&self.snapshot, &event).expect("the event is accepted");
        self.snapshot = next;
        self.effects = effects;
        self
    }

    #[track_caller]
    fn refuses(&self, event: Event) -> InvalidTransition {
        step(&self.snapshot, &event).expect_err("the event is refused")
    }

    #[track_caller]
    fn is(&self, state: StateName, effects: &[Effect]) -> &Self {
        assert_eq!(self.snapshot.state.name(), state);
        assert_eq!(self.effects, effects);
        self
    }

    fn stands(&self) -> StateName {
        self.snapshot.state.name()
    }

    /// `model: result (reason)`, one a model, of a cycle that has ended.
    #[track_caller]
    fn ended(&self) -> Vec<String> {
        let outcome = self.snapshot.state.outcome().expect("the cycle has ended");
        let words = |m: &ModelOutcome| format!("{}: {} ({})", m.model, m.result, m.reason);
        outcome.models.iter().map(words).collect()
    }
}

fn rules(guard: Guard, approval: Approval) -> Rules {
    Rules {
        trigger_tasks: 50,
        gate: GateRules { threshold_basis_points: 1000, scores_per_arm_min: 8, score_max: 10 },
        guard,
        split: DeckRules { per_arm: 10, block: 4 },
        probation: DeckRules { per_arm: 15, block: 4 },
        strict_looks_max: 5,
        retain_basis_points: 500,
        probation_scores_per_arm_min: 8,
        approval,
    }
}

fn trigger() -> Event {
    Event::TriggerReached { window: Window { tasks: 50 } }
}

fn analysed() -> Event {
    Event::AnalysisFinished { insights: 4 }
}

fn candidates(models: &[&str], without: &[&str]) -> Event {
    let experiment = |model: &&str| Experiment {
        model: (*model).to_owned(),
        control: 3,
        candidate: 4,
        looks: 0,
        decision: None,
        dropped: None,
    };
    let none = |model: &&str| NoCandidate {
        model: (*model).to_owned(),
        reason: NoCandidateReason::AtCeiling,
        detail: String::new(),
    };
    Event::CandidatesGenerated {
        experiments: models.iter().map(experiment).collect(),
        without: without.iter().map(none).collect(),
    }
}

/// Ten scores an arm that add up to 70 for the old version, and to `candidate_total` for the new one.
fn look(model: &str, candidate_total: u16) -> Event {
    let over_seven = candidate_total.saturating_sub(70);
    let score = |task: u16| 7 + u16::from(task < over_seven);
    let block = |block: u16| ByArm {
        control: vec![7, 7],
        candidate: vec![score(2 * block), score(2 * block + 1)],
    };
    Event::LookTaken {
        model: model.to_owned(),
        look: Look { blocks: (0..5).map(block).collect(), missed: ByArm::default() },
        judge_changed: false,
    }
}

fn adopting_look(model: &str) -> Event {
    look(model, 78)
}

fn rejecting_look(model: &str) -> Event {
    look(model, 77)
}

/// 25 pooled scores an arm, 175 in sum for the old version; `count` of each are the probation's.
fn probation_look(model: &str, candidate_total: u64, count: u64) -> Event {
    let sum = |total, count| Sum { total, count };
    Event::ProbationLookTaken {
        model: model.to_owned(),
        pooled: ByArm { control: sum(175, 25), candidate: sum(candidate_total, 25) },
        probation: ByArm { control: sum(7 * count, count), candidate: sum(7 * count, count) },
        judge_changed: false,
    }
}

/// 184 of 175 is 5.1% more.
fn keeping_look(model: &str) -> Event {
    probation_look(model, 184, 15)
}

/// 183 of 175 is 4.6% more.
fn regressing_look(model: &str) -> Event {
    probation_look(model, 183, 15)
}

fn undecided_look(model: &str) -> Event {
    probation_look(model, 184, 7)
}

fn settled(model: &str, keep: bool) -> Event {
    Event::ProbationSettled { model: model.to_owned(), keep }
}

fn refused(models: &[&str]) -> Event {
    Event::CandidatesRefused { models: models.iter().map(|&model| model.to_owned()).collect() }
}

fn rollback(model: &str) -> Event {
    Event::RollbackRequested { model: model.to_owned(), from: 4, to: 1 }
}

fn rolls_back(model: &str) -> Effect {
    Effect::RollBack { change: change(model, 4, 1) }
}

fn retired(model: &str) -> Event {
    Event::ModelRetired { model: model.to_owned() }
}

fn cancelled() -> Event {
    Event::CancelRequested { reason: "the judge was wrong".to_owned() }
}

fn change(model: &str, from: i32, to: i32) -> Adoption {
    Adoption { model: model.to_owned(), from, to }
}

fn applies(models: &[&str]) -> Effect {
    Effect::Apply { adoptions: models.iter().map(|model| change(model, 3, 4)).collect() }
}

fn reverts(models: &[&str]) -> Effect {
    Effect::Revert { reverts: models.iter().map(|model| change(model, 4, 3)).collect() }
}

fn deals(model: &str) -> Effect {
    let deck = DeckRules { per_arm: 15, block: 4 };
    Effect::Deal { model: model.to_owned(), phase: Phase::Probation, deck }
}

fn extends(model: &str) -> Effect {
    Effect::Extend { model: model.to_owned() }
}

const fn asks(stage: ApprovalStage) -> Effect {
    Effect::AwaitApproval { stage }
}
