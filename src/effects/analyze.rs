//! Analyzing: Claude finds the patterns of the window, and judges what earlier windows showed.

mod shown;
mod taken;

use super::paid_call::{self, Caller, Purpose};
use super::{EffectFailure, context};
use crate::claude::MessageRequest;
use crate::runtime::{Engine, What};
use crate::store::effects::ClaimedEffect;
use crate::store::window;
use crate::workflow::answer::{AnalysisAnswer, analysis_schema};
use crate::workflow::context::AnalysisContext;
use crate::workflow::template::render_analysis;
use crate::workflow::{Definition, ModelName};

/// Crash contract. Until the first paid call's intent is written, nothing is fixed and a redo begins anew. From
/// then on the plan says which tasks and insights are shown, so a redo asks the very same question and finds the
/// answers on record.
pub(super) async fn perform(engine: &Engine, claim: &ClaimedEffect) -> Result<What, EffectFailure> {
    let (_, definition) = context(engine, claim).await?;
    let shown = shown::choose(engine, claim, &definition).await?;
    let build = |rejected: &[String]| {
        let asked = AnalysisContext { rejected: rejected.to_vec(), ..shown.context.clone() };
        request(&definition, &asked)
    };
    let caller = Caller {
        engine,
        claim,
        definition: &definition,
        purpose: Purpose { name: "analysis", model: "" },
        plan: Some(&shown.plan),
    };
    let answer: AnalysisAnswer =
        paid_call::ask(caller, build, |text, _| taken::usable(text, &definition)).await?;
    let in_window = window::task_ids(engine.store.pool(), claim.workflow_id, claim.cycle).await?;
    let known = taken::Known { in_window: &in_window, earlier: &shown.earlier };
    Ok(What::Analysis(taken::to_rows(answer, &shown.context.window, known)))
}

fn request(
    definition: &Definition,
    asked: &AnalysisContext,
) -> Result<MessageRequest, EffectFailure> {
    let models: Vec<ModelName> = definition.models.iter().map(|model| model.name.clone()).collect();
    let prompt = render_analysis(definition, asked)?;
    Ok(MessageRequest::structured(
        definition.claude.analysis_model.clone(),
        definition.claude.analysis_max_tokens,
        vec![(prompt.system, true)],
        prompt.user,
        analysis_schema(&models),
    ))
}
