//! The transitions. A sync statig machine over our own [`State`], wrapped by the pure [`step`].
//!
//! Facts of statig 0.4 that shape this file: a restored machine runs entry actions again, so there
//! are none; an event that nobody handles is swallowed, so the root superstate records it as a
//! refusal; and a state can be restored safely only by a transition, hence [`Node::Restoring`].

mod adopting;
mod testing;

use std::collections::BTreeSet;

use adopting::{applying, probation, reverting};
use testing::testing;

use statig::Outcome::{Handled, Super, Transition};
use statig::blocking::{IntoStateMachine, IntoStateMachineExt, State as Handler, Superstate};

use super::effect::{ApprovalStage, Effect};
use super::event::{Event, EventName, NoCandidate};
use super::outcome::{ModelResult, Outcome};
use super::snapshot::{Approval, Rules, Snapshot};
use super::state::{Adoption, AnalysisSummary, Experiment, ModelVerdict, State, StateName};
use crate::experiment::gate::Reason;

type Next = statig::Outcome<Node>;

/// An event that the state it met does not accept. Nothing was changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{event} is not possible while the cycle is {state}: {why}")]
pub struct InvalidTransition {
    /// The state that refused.
    pub state: StateName,
    /// The event that was refused.
    pub event: EventName,
    /// Why, in words.
    pub why: &'static str,
}

/// Takes one event: the next snapshot, and the effects that the transition wants done.
///
/// Pure: the same snapshot and event give the same result on every machine, which is what makes a
/// stored history replayable. A crash in it has no consequence, since nothing was written yet.
///
/// # Errors
/// [`InvalidTransition`] names state and event; the snapshot stays as it was.
pub fn step(
    snapshot: &Snapshot,
    event: &Event,
) -> Result<(Snapshot, Vec<Effect>), InvalidTransition> {
    let mut turn = Turn {
        rules: &snapshot.rules,
        without: snapshot.without.clone(),
        effects: Vec::new(),
        refusal: None,
    };
    let mut machine = Machine.state_machine();
    machine.handle_with_context(&Input::Restore(&snapshot.state), &mut turn);
    machine.handle_with_context(&Input::Happened(event), &mut turn);
    if let Some(why) = turn.refusal {
        return Err(InvalidTransition { state: snapshot.state.name(), event: event.name(), why });
    }
    let state = match machine.state() {
        Node::At(state) => state.clone(),
        Node::Restoring => snapshot.state.clone(),
    };
    if state.name() != snapshot.state.name() && state.name().is_terminal() {
        turn.effects.push(Effect::OpenNextCycle);
    }
    let next = Snapshot { seq: snapshot.seq + 1, without: turn.without, state, ..snapshot.clone() };
    Ok((next, turn.effects))
}

struct Machine;

#[derive(Debug)]
enum Node {
    Restoring,
    At(State),
}

enum Input<'e> {
    Restore(&'e State),
    Happened(&'e Event),
}

/// What one step reads beside the state, and what it collects.
struct Turn<'s> {
    rules: &'s Rules,
    without: Vec<NoCandidate>,
    effects: Vec<Effect>,
    refusal: Option<&'static str>,
}

impl Turn<'_> {
    fn refuse(&mut self, why: &'static str) -> Next {
        self.refusal = Some(why);
        Handled
    }

    fn wants(&mut self, effect: Effect) {
        self.effects.push(effect);
    }

    fn outcome(&self, verdicts: &[ModelVerdict]) -> Outcome {
        let mut outcome = Outcome::of(verdicts);
        outcome.models.extend(Outcome::without_candidates(&self.without).models);
        outcome
    }
}

struct Root;

impl IntoStateMachine for Machine {
    type Event<'e> = Input<'e>;
    type Context<'c> = Turn<'c>;
    type State = Node;
    type Superstate<'s> = Root;

    fn initial() -> Node {
        Node::Restoring
    }
}

impl Superstate<Machine> for Root {
    fn call_handler(&mut self, _: &mut Machine, _: &Input<'_>, turn: &mut Turn<'_>) -> Next {
        turn.refuse("this state does not wait for it")
    }
}

impl Handler<Machine> for Node {
    fn call_handler(&mut self, _: &mut Machine, input: &Input<'_>, turn: &mut Turn<'_>) -> Next {
        match (self, input) {
            (Self::Restoring, Input::Restore(state)) => Transition(Self::At((*state).clone())),
            (Self::At(state), Input::Happened(event)) => dispatch(state, event, turn),
            (Self::Restoring, Input::Happened(_)) | (Self::At(_), Input::Restore(_)) => Super,
        }
    }

    fn superstate(&mut self) -> Option<Root> {
        Some(Root)
    }
}

fn dispatch(state: &mut State, event: &Event, turn: &mut Turn<'_>) -> Next {
    match state {
        State::Collecting => collecting(event, turn),
        State::Analyzing { window } => analyzing(window.tasks, event, turn),
        State::Generating { .. } => generating(event, turn),
        State::Testing { experiments } => testing(experiments, event, turn),
        State::Deciding { verdicts } => deciding(verdicts, event, turn),
        State::Applying { verdicts, .. } => applying(verdicts, event, turn),
        State::Probation { verdicts, on_probation } => {
            probation(verdicts, on_probation, event, turn)
        }
        State::Reverting { verdicts, kept, cancelled_because, .. } => {
            reverting(verdicts, kept, cancelled_because.as_deref(), event, turn)
        }
        State::Applied { .. }
        | State::Rejected { .. }
        | State::RolledBack { .. }
        | State::Cancelled { .. } => turn.refuse("the cycle has ended"),
    }
}

fn to(state: State) -> Next {
    Transition(Node::At(state))
}

fn collecting(event: &Event, turn: &mut Turn<'_>) -> Next {
    match event {
        Event::TriggerReached { window } if window.tasks < turn.rules.trigger_tasks => {
            turn.refuse("the window holds fewer tasks than the trigger asks for")
        }
        Event::TriggerReached { window } => {
            turn.wants(Effect::Analyze);
            to(State::Analyzing { window: window.clone() })
        }
        _ => before_testing(event, turn),
    }
}

fn analyzing(window_tasks: u32, event: &Event, turn: &mut Turn<'_>) -> Next {
    match event {
        Event::AnalysisFinished { insights } => {
            turn.wants(Effect::Generate);
            let analysis = AnalysisSummary { tasks: window_tasks, insights: *insights };
            to(State::Generating { analysis })
        }
        _ => before_testing(event, turn),
    }
}

fn generating(event: &Event, turn: &mut Turn<'_>) -> Next {
    match event {
        Event::CandidatesGenerated { experiments, without } => {
            if named_twice(experiments, without) {
                return turn.refuse("a model is named twice");
            }
            if experiments.iter().any(|e| e.decision.is_some() || e.dropped.is_some()) {
                return turn.refuse("an experiment comes with a verdict before its test");
            }
            turn.without.clone_from(without);
            if experiments.is_empty() {
                return to(State::Rejected { outcome: turn.outcome(&[]) });
            }
            if turn.rules.approval == Approval::BeforeTest {
                turn.wants(Effect::AwaitApproval { stage: ApprovalStage::BeforeTest });
            }
            to(State::Testing { experiments: experiments.clone() })
        }
        _ => before_testing(event, turn),
    }
}

fn named_twice(experiments: &[Experiment], without: &[NoCandidate]) -> bool {
    let mut seen = BTreeSet::new();
    let tested = experiments.iter().map(|e| &e.model);
    let untested = without.iter().map(|none| &none.model);
    !tested.chain(untested).all(|model| seen.insert(model))
}

/// What every state before Testing accepts beside its own event.
fn before_testing(event: &Event, turn: &mut Turn<'_>) -> Next {
    match event {
        Event::CancelRequested { reason } => {
            to(State::Cancelled { outcome: turn.outcome(&[]), reason: reason.clone() })
        }
        Event::RollbackRequested { .. } => roll_back(event, turn),
        // The generation asks the workflow's definition of the day, so there is nothing to note.
        Event::ModelRetired { .. } => Handled,
        _ => Super,
    }
}

/// Asks for the rollback itself; what it means for the model's test is the caller's.
fn roll_back(event: &Event, turn: &mut Turn<'_>) -> Next {
    if let Event::RollbackRequested { model, from, to } = event {
        let change = Adoption { model: model.clone(), from: *from, to: *to };
        turn.wants(Effect::RollBack { change });
    }
    Handled
}

/// The model and the reason of an event that takes a model out of the cycle.
fn taken_out(event: &Event) -> Option<(&str, Reason)> {
    match event {
        Event::RollbackRequested { model, .. } => Some((model, Reason::Superseded)),
        Event::ModelRetired { model } => Some((model, Reason::ModelRetired)),
        _ => None,
    }
}

fn deciding(verdicts: &mut [ModelVerdict], event: &Event, turn: &mut Turn<'_>) -> Next {
    match event {
        Event::VerdictsSettled => {
            let adoptions = standing_adoptions(verdicts);
            if adoptions.is_empty() {
                return to(State::Rejected { outcome: turn.outcome(verdicts) });
            }
            turn.wants(Effect::Apply { adoptions: adoptions.clone() });
            to(State::Applying { verdicts: verdicts.to_vec(), adoptions })
        }
        Event::CandidatesRefused { models } => {
            let refused =
                drop_adoptions(verdicts, Reason::Refused, |model| names_model(models, model));
            if refused == 0 {
                return turn.refuse("no adopted candidate of those models waits for approval");
            }
            if standing_adoptions(verdicts).is_empty() {
                return to(State::Rejected { outcome: turn.outcome(verdicts) });
            }
            Handled
        }
        Event::RollbackRequested { .. } | Event::ModelRetired { .. } => {
            take_out(verdicts, event, turn)
        }
        Event::CancelRequested { reason } => cancel(verdicts, reason, turn),
        _ => Super,
    }
}

fn names_model(models: &[String], model: &str) -> bool {
    models.is_empty() || models.iter().any(|named| named == model)
}

fn standing_adoptions(verdicts: &[ModelVerdict]) -> Vec<Adoption> {
    verdicts.iter().filter(|verdict| verdict.stands_adopted()).map(ModelVerdict::adoption).collect()
}

fn drop_adoptions(
    verdicts: &mut [ModelVerdict],
    reason: Reason,
    concerns: impl Fn(&str) -> bool,
) -> usize {
    let mut dropped = 0;
    for verdict in verdicts.iter_mut() {
        if verdict.stands_adopted() && concerns(&verdict.model) {
            verdict.dropped = Some(reason);
            dropped += 1;
        }
    }
    dropped
}

fn take_out(verdicts: &mut [ModelVerdict], event: &Event, turn: &mut Turn<'_>) -> Next {
    let Some((model, reason)) = taken_out(event) else {
        return Super;
    };
    drop_adoptions(verdicts, reason, |name| name == model);
    roll_back(event, turn)
}

fn cancel(verdicts: &[ModelVerdict], reason: &str, turn: &Turn<'_>) -> Next {
    to(State::Cancelled {
        outcome: cancelled_outcome(turn.outcome(verdicts)),
        reason: reason.to_owned(),
    })
}

/// No adoption stands in a cancelled cycle, whatever the verdicts said.
fn cancelled_outcome(mut outcome: Outcome) -> Outcome {
    let adopted: Vec<String> = outcome
        .models
        .iter()
        .filter(|entry| entry.result == ModelResult::Adopted)
        .map(|entry| entry.model.clone())
        .collect();
    for model in adopted {
        outcome.set(&model, ModelResult::Cancelled, "cancelled");
    }
    outcome
}
