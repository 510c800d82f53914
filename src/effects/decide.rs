//! Deciding: the verdicts are checked once more against the frozen scores before they are carried out.

use super::{EffectFailure, context};
use crate::cycle::{Event, State};
use crate::experiment::gate::Decision;
use crate::experiment::strict::Step;
use crate::experiment::{ByArm, Phase};
use crate::runtime::{Engine, What, look_of};
use crate::store::effects::ClaimedEffect;
use crate::store::experiments::{self, ExperimentRow};

/// A verdict is made by the guard's rule when its look is taken. Here it is made again from
/// what the tables hold; if the two differ, somebody changed a frozen score, and nothing is carried
/// out until a person has looked.
pub(super) async fn perform(engine: &Engine, claim: &ClaimedEffect) -> Result<What, EffectFailure> {
    let (cycle, _) = context(engine, claim).await?;
    let State::Deciding { verdicts } = &cycle.snapshot.state else {
        return Ok(What::Event(Event::VerdictsSettled));
    };
    let mut conn = engine.store.pool().acquire().await?;
    let rows = experiments::of_cycle(&mut conn, claim.workflow_id, claim.cycle).await?;
    for verdict in verdicts {
        if !verdict.decision.reason.comes_from_a_look() {
            continue;
        }
        let row = rows.iter().find(|row| row.model_name == verdict.model);
        let scores = experiments::counted_scores(
            &mut conn,
            claim.workflow_id,
            claim.cycle,
            &verdict.model,
            Phase::Test,
        )
        .await?;
        let look = look_of(&scores, row.map_or_else(ByArm::default, ExperimentRow::missed));
        let looks = row.map_or(1, |row| row.looks.unsigned_abs().max(1));
        let again = cycle.snapshot.rules.look(looks, &look);
        let agrees = again == Step::Decided(verdict.decision)
            && row.is_some_and(|row| agrees(row, verdict.decision));
        if !agrees {
            return Err(EffectFailure::for_good(
                "verdict_differs",
                format!(
                    "the stored scores of {} do not give the verdict that was committed; a frozen score was changed by hand",
                    verdict.model
                ),
                "compare `mathesis cycle show` with the deck_slots table, put the scores back, then `mathesis cycle retry`; or `mathesis cycle cancel`",
            ));
        }
    }
    Ok(What::Event(Event::VerdictsSettled))
}

fn agrees(row: &ExperimentRow, decision: Decision) -> bool {
    row.status == decision.status.as_str()
        && row.reason.as_deref() == Some(decision.reason.as_str())
}
