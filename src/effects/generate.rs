//! Generating: Claude turns the insights into one candidate a model, as edits of its documents.

use super::paid_call::{self, Caller, Purpose};
use super::{EffectFailure, context};
use crate::claude::MessageRequest;
use crate::cycle::{NoCandidate, NoCandidateReason};
use crate::experiment::deck::{self, DeckRules};
use crate::research;
use crate::runtime::{Candidate, Engine, What};
use crate::store::candidates::{self, EarlierCandidate, RefusedCandidate};
use crate::store::effects::ClaimedEffect;
use crate::store::insights::{InsightRow, Which};
use crate::store::versions::{NewVersion, Version};
use crate::store::{analysis_plans, insights, versions, window};
use crate::workflow::Definition;
use crate::workflow::answer::{Recommendation, generation_schema, template_schema};
use crate::workflow::definition::{CandidateMode, GuardMode, Split};
use crate::workflow::template::render_generation;
use asked::{EARLIER_CANDIDATES_MAX, concerns, generation_context};
use judge::{Judge, Judged, Proposal};

mod asked;
mod judge;

pub(super) async fn perform(engine: &Engine, claim: &ClaimedEffect) -> Result<What, EffectFailure> {
    let (_, definition) = context(engine, claim).await?;
    let pool = engine.store.pool();
    let standing = Which { living: true, ..Which::newest(insights::STANDING_MAX) };
    let mut found = insights::read(pool, claim.workflow_id, standing).await?;
    // This cycle's come first and in their order; the others follow, the newest first.
    found.sort_by_key(|row| {
        let own = row.cycle == claim.cycle;
        (!own, if own { i64::from(row.ordinal) } else { -row.id })
    });
    let recommended = insights::recommendations(pool, claim.workflow_id, claim.cycle).await?;
    let recommended: Vec<Recommendation> = serde_json::from_value(recommended).unwrap_or_default();
    let mut candidates = Vec::new();
    let mut without = Vec::new();
    let mut refused = Vec::new();
    let mut waits = None;
    for model in &definition.models {
        let model = model.name.as_str();
        let material = Material { found: &found, recommended: &recommended };
        match candidate(engine, claim, &definition, model, material, &mut refused).await {
            Ok(Ok(candidate)) => candidates.push(candidate),
            Ok(Err((reason, detail))) => {
                without.push(NoCandidate { model: model.to_owned(), reason, detail });
            }
            // The batches of all models run side by side.
            Err(failure) if failure.waits => waits = Some(failure),
            // What is under way is seen to its end before anything is held.
            Err(failure) => return Err(waits.unwrap_or(failure)),
        }
    }
    if let Some(waits) = waits {
        return Err(waits);
    }
    Ok(What::Candidates { candidates, without, refused })
}

/// What a candidate may draw on.
#[derive(Clone, Copy)]
struct Material<'m> {
    found: &'m [InsightRow],
    recommended: &'m [Recommendation],
}

impl Material<'_> {
    fn speaks_of(&self, model: &str) -> bool {
        self.found.iter().any(|insight| concerns(&insight.model_name, model))
            || self.recommended.iter().any(|named| concerns(&named.model, model))
    }
}

async fn candidate(
    engine: &Engine,
    claim: &ClaimedEffect,
    definition: &Definition,
    model: &str,
    material: Material<'_>,
    refused: &mut Vec<RefusedCandidate>,
) -> Result<Result<Candidate, (NoCandidateReason, String)>, EffectFailure> {
    let none = |reason| Ok(Err((reason, String::new())));
    let in_force = engine.registry.by_id(claim.workflow_id);
    if in_force.is_some_and(|workflow| !workflow.knows(model)) {
        return none(NoCandidateReason::Retired);
    }
    let mut conn = engine.store.pool().acquire().await?;
    let Some(active) = versions::active(&mut conn, claim.workflow_id, model).await? else {
        return none(NoCandidateReason::Retired);
    };
    drop(conn);
    if !material.speaks_of(model) {
        // Nothing found is a valid answer, and nothing to pay for.
        return none(NoCandidateReason::NothingProposed);
    }
    if is_at_ceiling(engine, claim, definition, &active).await? {
        return none(NoCandidateReason::AtCeiling);
    }
    let judged = ask(engine, claim, definition, &active, material, refused).await?;
    let proposal = match judged {
        Judged::Nothing => return none(NoCandidateReason::NothingProposed),
        Judged::RuleBroken(why) => return Ok(Err((NoCandidateReason::RuleBroken, why))),
        Judged::Proposed(proposal) => proposal,
    };
    let content_hash = research::content_hash(&proposal.applied.texts);
    let mut conn = engine.store.pool().acquire().await?;
    let stored = versions::by_content(&mut conn, claim.workflow_id, model, &content_hash).await?;
    if let Some(version) = stored {
        let detail = format!("its texts are those of version {version}");
        return Ok(Err((NoCandidateReason::TestedBefore, detail)));
    }
    let number = versions::greatest(&mut conn, claim.workflow_id, model).await? + 1;
    let version = new_version(claim, &active, number, *proposal, content_hash);
    Ok(Ok(with_deck(engine, definition, version)))
}

/// True when the active version scores so high in the window that passing the gate would take more
/// than the best score.
async fn is_at_ceiling(
    engine: &Engine,
    claim: &ClaimedEffect,
    definition: &Definition,
    active: &Version,
) -> Result<bool, EffectFailure> {
    if !definition.gate.skip_at_ceiling {
        return Ok(false);
    }
    let (sum, count) = window::scores_of_version(
        engine.store.pool(),
        claim.workflow_id,
        claim.cycle,
        &active.model_name,
        active.version,
    )
    .await?;
    let best = i128::from(count) * i128::from(definition.score_max) * 10_000;
    let needed = i128::from(sum) * (10_000 + i128::from(definition.gate.improvement_basis_points));
    Ok(count > 0 && needed >= best)
}

/// Asks for the model's candidate. What broke a rule is added to `refused`, also where a later answer kept to all.
async fn ask(
    engine: &Engine,
    claim: &ClaimedEffect,
    definition: &Definition,
    active: &Version,
    material: Material<'_>,
    refused: &mut Vec<RefusedCandidate>,
) -> Result<Judged, EffectFailure> {
    let model = active.model_name.as_str();
    let pool = engine.store.pool();
    let earlier: Vec<EarlierCandidate> =
        candidates::earlier(pool, claim.workflow_id, model, EARLIER_CANDIDATES_MAX).await?;
    let shown: Vec<&InsightRow> =
        material.found.iter().filter(|insight| concerns(&insight.model_name, model)).collect();
    let judge = Judge::new(
        definition,
        active,
        claim.cycle,
        &shown,
        task_texts(engine, claim, &shown).await?,
    );
    let mode = definition.mode_of(model);
    let purpose = Purpose { name: "generation", model };
    let caller = Caller { engine, claim, definition, purpose, plan: None };
    let build = |rejected: &[String]| {
        let asked =
            generation_context(definition, active, claim.cycle, material, &earlier, rejected);
        let prompt = render_generation(definition, &asked)?;
        Ok(MessageRequest::structured(
            definition.claude.generation_model.clone(),
            definition.claude.generation_max_tokens,
            vec![(prompt.system, true)],
            prompt.user,
            match mode {
                CandidateMode::Sections => generation_schema(),
                CandidateMode::Template => template_schema(),
            },
        ))
    };
    let judged =
        paid_call::ask(caller, build, |text, rejected| judge.judge(text, rejected)).await?;
    refused.extend(judge.refused());
    Ok(judged)
}

/// The texts that a candidate may have copied: of the tasks that Claude was shown in this cycle's analysis, and of those
/// that the insights rest on. No other task's text ever reached it.
async fn task_texts(
    engine: &Engine,
    claim: &ClaimedEffect,
    shown: &[&InsightRow],
) -> Result<Vec<String>, EffectFailure> {
    let pool = engine.store.pool();
    let plan = analysis_plans::find(pool, claim.workflow_id, claim.cycle).await?;
    let ids = plan.map(|plan| plan.shown_tasks).unwrap_or_default();
    let evidence: Vec<String> =
        shown.iter().flat_map(|insight| insight.example_task_ids.iter().cloned()).collect();
    Ok(window::texts(pool, claim.workflow_id, &ids, &evidence).await?)
}

fn new_version(
    claim: &ClaimedEffect,
    active: &Version,
    number: i32,
    proposal: Proposal,
    content_hash: String,
) -> NewVersion {
    let Proposal { summary, because: based_on, edits, applied } = proposal;
    NewVersion {
        model_name: active.model_name.clone(),
        version: number,
        diff: research::version_diff(&active.texts(), &applied.texts, active.version, number),
        texts: applied.texts,
        edits,
        lineage: applied.lineage,
        content_hash,
        parent_version: Some(active.version),
        summary,
        cycle: Some(claim.cycle),
        based_on,
        is_active: false,
        created_by: "mathesis".to_owned(),
    }
}

/// Shuffles the candidate's deck. The seed is drawn here and stored with the deck.
fn with_deck(engine: &Engine, definition: &Definition, version: NewVersion) -> Candidate {
    let Split { per_arm, block } = definition.split;
    let rules = match definition.guard.mode {
        // As many tasks as the two arms would take together, each a pair of its own.
        GuardMode::Paired => DeckRules { per_arm: per_arm * 2, block: 2 },
        _ => DeckRules { per_arm, block },
    };
    let seed = (engine.draw_seed)();
    Candidate { version, deck_seed: seed.cast_signed(), slots: deck::shuffle(&rules, seed) }
}
