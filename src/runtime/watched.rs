//! Ends the probations that a transition decided, in the same transaction as its checkpoint.

use sqlx::PgConnection;

use super::advance::look_of;
use super::project::{Turn, narrow};
use crate::cycle::{Event, ModelResult, ProbationDecision, State};
use crate::experiment::evidence;
use crate::experiment::standing::Ending;
use crate::experiment::{ByArm, Phase, probation};
use crate::store::experiments::{self, ExperimentRow};
use crate::store::probations::{self, Ended};
use crate::store::{StoreError, versions};
use crate::workflow::definition::NotifyKind;

/// Writes down how probations ended, and freezes their scores: of every model that the transition
/// decided, and of all that are open where it left Probation.
pub(super) async fn ended(tx: &mut PgConnection, turn: &Turn<'_>) -> Result<(), StoreError> {
    let cycle = turn.after.cycle;
    let open: Vec<String> = probations::of_cycle(&mut *tx, turn.workflow_id, cycle)
        .await?
        .into_iter()
        .filter(|probation| probation.status == "open")
        .map(|probation| probation.model_name)
        .collect();
    if open.is_empty() {
        return Ok(());
    }
    let experiments = experiments::of_cycle(tx, turn.workflow_id, cycle).await?;
    for experiment in experiments.iter().filter(|row| open.contains(&row.model_name)) {
        if let Some(ending) = ending(turn, &experiment.model_name) {
            end(tx, turn, experiment, ending).await?;
        }
    }
    Ok(())
}

/// How a model's probation ended with this transition; `None` while it goes on.
fn ending(turn: &Turn<'_>, model: &str) -> Option<Ending> {
    let by_hand = matches!(&turn.transition.event, Event::ProbationSettled { .. });
    let kept = if by_hand { Ending::KeptByHand } else { Ending::Kept };
    let regressed = if by_hand { Ending::PutBackByHand } else { Ending::Regressed };
    match &turn.after.state {
        State::Probation { on_probation, .. } => {
            let watched = on_probation.iter().find(|watched| watched.adoption.model == model)?;
            Some(match watched.decision? {
                ProbationDecision::Kept => kept,
                ProbationDecision::Regressed => regressed,
                ProbationDecision::Superseded => Ending::Superseded,
                ProbationDecision::Retired => Ending::Retired,
            })
        }
        State::Reverting { cancelled_because: Some(_), .. } => Some(Ending::Cancelled),
        State::Reverting { reverts, kept: stands, .. } => {
            if reverts.iter().any(|change| change.model == model) {
                Some(regressed)
            } else if stands.iter().any(|adoption| adoption.model == model) {
                Some(kept)
            } else {
                Some(taken_out(&turn.transition.event))
            }
        }
        state => {
            let ended = state.outcome()?.models.iter().find(|entry| entry.model == model)?;
            Some(match ended.result {
                ModelResult::Adopted => kept,
                ModelResult::Superseded => Ending::Superseded,
                ModelResult::Retired => Ending::Retired,
                _ => regressed,
            })
        }
    }
}

const fn taken_out(event: &Event) -> Ending {
    match event {
        Event::ModelRetired { .. } => Ending::Retired,
        _ => Ending::Superseded,
    }
}

async fn end(
    tx: &mut PgConnection,
    turn: &Turn<'_>,
    experiment: &ExperimentRow,
    ending: Ending,
) -> Result<(), StoreError> {
    let (workflow_id, cycle, model) = (turn.workflow_id, turn.after.cycle, &experiment.model_name);
    let test = experiments::counted_scores(tx, workflow_id, cycle, model, Phase::Test).await?;
    let scores =
        experiments::counted_scores(tx, workflow_id, cycle, model, Phase::Probation).await?;
    let own = look_of(&scores, ByArm::default()).sums();
    let pooled = probation::pooled(look_of(&test, ByArm::default()).sums(), own);
    let versions =
        ByArm { control: experiment.control_version, candidate: experiment.candidate_version };
    let retain = turn.after.rules.retain_basis_points;
    let ended = Ended {
        status: ending.as_str(),
        improvement: evidence::improvement(pooled.control, pooled.candidate),
        sum: own.map(|sum| narrow(sum.total)),
        count: own.map(|sum| narrow(sum.count)),
        sentence: &ending.sentence(model, versions, pooled, retain),
    };
    probations::end(tx, workflow_id, (cycle, model), &ended, turn.now).await?;
    turn.tell(tx, NotifyKind::Verdict, model, ended.sentence).await?;
    let tasks = narrow(pooled.candidate.count);
    versions::note_test(tx, workflow_id, model, versions.candidate, pooled.candidate.mean(), tasks)
        .await
}
