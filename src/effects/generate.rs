//! Generating: Claude turns the insights into one candidate a model, as edits of its documents.

use super::paid_call::{self, Caller, Purpose, Unusable};
use super::{EffectFailure, context};
use crate::claude::MessageRequest;
use crate::cycle::{NoCandidate, NoCandidateReason};
use crate::experiment::deck::{self, DeckRules};
use crate::research::{self, Document, Edit, EditRules, Texts};
use crate::runtime::{Candidate, Engine, What};
use crate::store::effects::ClaimedEffect;
use crate::store::insights::{InsightRow, Which};
use crate::store::versions::{NewVersion, Version};
use crate::store::{insights, versions, window};
use crate::workflow::Definition;
use crate::workflow::answer::{
    ALL_MODELS, EditOperation, EditedDocument, GenerationAnswer, ProposedEdit, Recommendation,
    generation_schema,
};
use crate::workflow::context::{GenerationContext, InsightForGeneration, SectionForGeneration};
use crate::workflow::definition::{GuardMode, Split};
use crate::workflow::template::render_generation;

/// A candidate may draw on so many insights that stand, those found or judged last.
const INSIGHTS_MAX: i64 = 60;

pub(super) async fn perform(engine: &Engine, claim: &ClaimedEffect) -> Result<What, EffectFailure> {
    let (_, definition) = context(engine, claim).await?;
    let pool = engine.store.pool();
    let standing = Which { living: true, ..Which::newest(INSIGHTS_MAX) };
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
    let mut waits = None;
    for model in &definition.models {
        let model = model.name.as_str();
        let material = Material { found: &found, recommended: &recommended };
        match candidate(engine, claim, &definition, model, material).await {
            Ok(Ok(candidate)) => candidates.push(candidate),
            Ok(Err(reason)) => without.push(NoCandidate { model: model.to_owned(), reason }),
            // The batches of all models run side by side.
            Err(failure) if failure.waits => waits = Some(failure),
            // What is under way is seen to its end before anything is held.
            Err(failure) => return Err(waits.unwrap_or(failure)),
        }
    }
    if let Some(waits) = waits {
        return Err(waits);
    }
    Ok(What::Candidates { candidates, without })
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
) -> Result<Result<Candidate, NoCandidateReason>, EffectFailure> {
    let in_force = engine.registry.by_id(claim.workflow_id);
    if in_force.is_some_and(|workflow| !workflow.knows(model)) {
        return Ok(Err(NoCandidateReason::Retired));
    }
    let mut conn = engine.store.pool().acquire().await?;
    let Some(active) = versions::active(&mut conn, claim.workflow_id, model).await? else {
        return Ok(Err(NoCandidateReason::Retired));
    };
    drop(conn);
    if !material.speaks_of(model) {
        // Nothing found is a valid answer, and nothing to pay for.
        return Ok(Err(NoCandidateReason::NothingProposed));
    }
    if is_at_ceiling(engine, claim, definition, &active).await? {
        return Ok(Err(NoCandidateReason::AtCeiling));
    }
    let (answer, texts) = ask(engine, claim, definition, &active, material).await?;
    let Some(texts) = texts else { return Ok(Err(NoCandidateReason::NothingProposed)) };
    let content_hash = research::content_hash(&texts);
    let mut conn = engine.store.pool().acquire().await?;
    if versions::by_content(&mut conn, claim.workflow_id, model, &content_hash).await?.is_some() {
        return Ok(Err(NoCandidateReason::TestedBefore));
    }
    let number = versions::greatest(&mut conn, claim.workflow_id, model).await? + 1;
    let version = new_version(claim, &active, number, &answer, texts, content_hash);
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

async fn ask(
    engine: &Engine,
    claim: &ClaimedEffect,
    definition: &Definition,
    active: &Version,
    material: Material<'_>,
) -> Result<(GenerationAnswer, Option<Texts>), EffectFailure> {
    let parent = active.texts();
    let purpose = Purpose { name: "generation", model: &active.model_name };
    let caller = Caller { engine, claim, definition, purpose, plan: None };
    let build = |rejected: &[String]| {
        let asked = generation_context(definition, active, claim.cycle, material, rejected);
        let prompt = render_generation(definition, &asked)?;
        Ok(MessageRequest::structured(
            definition.claude.generation_model.clone(),
            definition.claude.generation_max_tokens,
            vec![(prompt.system, true)],
            prompt.user,
            generation_schema(),
        ))
    };
    paid_call::ask(caller, build, |text| judge(text, &parent, definition)).await
}

/// Applies the proposed edits; an answer whose edits break a rule cannot be used.
fn judge(
    text: &str,
    parent: &Texts,
    definition: &Definition,
) -> Result<(GenerationAnswer, Option<Texts>), Unusable> {
    let answer: GenerationAnswer = paid_call::read(text)?;
    if answer.edits.is_empty() {
        return Ok((answer, None));
    }
    let edits: Vec<Edit> = answer.edits.iter().map(edit_of).collect();
    let documents = &definition.documents;
    let rules = EditRules {
        required_placeholders: documents.required_placeholders.clone(),
        size_change_percent_max: documents.size_change_percent_max,
        frozen_sections: documents.frozen_sections.clone(),
    };
    let texts = research::apply(parent, &edits, &rules)
        .map_err(|refusal| Unusable(format!("{}: {refusal}", refusal.code())))?;
    let named = answer.edits.iter().flat_map(|edit| &edit.because);
    if named.chain([&answer.summary]).any(|text| text.contains('\0')) {
        return Err(Unusable("the summary or a reason holds a NUL character".to_owned()));
    }
    Ok((answer, Some(texts)))
}

fn edit_of(proposed: &ProposedEdit) -> Edit {
    Edit {
        document: match proposed.document {
            EditedDocument::Activation => research::Which::Activation,
            EditedDocument::Research => research::Which::Research,
            EditedDocument::Template => research::Which::Template,
        },
        operation: match proposed.operation {
            EditOperation::Replace => research::Operation::Replace,
            EditOperation::AddAfter => research::Operation::AddAfter,
            EditOperation::Append => research::Operation::Append,
            EditOperation::Remove => research::Operation::Remove,
        },
        section: proposed.section.clone(),
        text: proposed.text.clone(),
        because: proposed.because.clone(),
    }
}

fn concerns(named: &str, model: &str) -> bool {
    named == model || named == ALL_MODELS
}

fn generation_context(
    definition: &Definition,
    active: &Version,
    cycle: i64,
    material: Material<'_>,
    rejected: &[String],
) -> GenerationContext {
    let model = active.model_name.as_str();
    let document = Document::parse(&active.research_text);
    let sections = document
        .sections()
        .iter()
        .map(|section| SectionForGeneration {
            id: section.id.clone(),
            heading: section.heading.clone(),
            bytes: section.range.len(),
        })
        .collect();
    let insights = material
        .found
        .iter()
        .filter(|insight| concerns(&insight.model_name, model))
        .map(|insight| InsightForGeneration {
            id: insight.name_in(cycle),
            insight_type: insight.insight_type.clone(),
            model_name: insight.model_name.clone(),
            description: insight.description.clone(),
            confidence_score: insight.confidence_score,
            suggested_change: insight.suggested_change.clone(),
            standing: insight.standing.clone(),
            confirmed: insight.confirmed,
            weakened: insight.weakened,
            helpful: insight.helpful,
            harmful: insight.harmful,
        })
        .collect();
    let recommendations = material
        .recommended
        .iter()
        .filter(|recommendation| concerns(&recommendation.model, model))
        .map(|recommendation| recommendation.text.clone())
        .collect();
    GenerationContext {
        model: model.to_owned(),
        version_now: active.version,
        prompt_template: active.prompt_template.clone(),
        activation: active.activation_text.clone(),
        research: active.research_text.clone(),
        sections,
        insights,
        recommendations,
        required_placeholders: definition.documents.required_placeholders.clone(),
        size_change_percent_max: definition.documents.size_change_percent_max,
        frozen_sections: definition.documents.frozen_sections.clone(),
        rejected: rejected.to_vec(),
    }
}

fn new_version(
    claim: &ClaimedEffect,
    active: &Version,
    number: i32,
    answer: &GenerationAnswer,
    texts: Texts,
    content_hash: String,
) -> NewVersion {
    let mut based_on: Vec<String> =
        answer.edits.iter().flat_map(|edit| edit.because.iter().cloned()).collect();
    based_on.sort();
    based_on.dedup();
    NewVersion {
        model_name: active.model_name.clone(),
        version: number,
        diff: research::version_diff(&active.texts(), &texts, active.version, number),
        texts,
        content_hash,
        parent_version: Some(active.version),
        summary: answer.summary.clone(),
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
