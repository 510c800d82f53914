//! What a generation is asked with.

use super::Material;
use crate::research::Document;
use crate::store::candidates::EarlierCandidate as EarlierRow;
use crate::store::versions::Version;
use crate::workflow::Definition;
use crate::workflow::answer::ALL_MODELS;
use crate::workflow::context::{
    BytesMaxForGeneration, EarlierCandidate, GenerationContext, InsightForGeneration,
    SectionForGeneration,
};

/// A generation is told of so many candidates that came to nothing, those of the newest cycles.
pub(super) const EARLIER_CANDIDATES_MAX: i64 = 12;
/// Of each of their texts, it is told so many characters.
const EARLIER_TEXT_CHARS: usize = 300;
/// Of each of their edits lists, so many.
const EARLIER_EDITS_MAX: usize = 6;

pub(super) fn concerns(named: &str, model: &str) -> bool {
    named == model || named == ALL_MODELS
}

pub(super) fn generation_context(
    definition: &Definition,
    active: &Version,
    cycle: i64,
    material: Material<'_>,
    earlier: &[EarlierRow],
    rejected: &[String],
) -> GenerationContext {
    let model = active.model_name.as_str();
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
    let documents = &definition.documents;
    GenerationContext {
        model: model.to_owned(),
        version_now: active.version,
        prompt_template: active.prompt_template.clone(),
        activation: active.activation_text.clone(),
        research: active.research_text.clone(),
        mode: definition.mode_of(model).as_str().to_owned(),
        sections: sections(&active.research_text),
        activation_sections: headed_sections(&active.activation_text),
        insights,
        recommendations,
        required_placeholders: documents.required_placeholders.clone(),
        size_change_percent_max: documents.size_change_percent_max,
        bytes_max: BytesMaxForGeneration {
            template: documents.template_bytes_max,
            activation: documents.activation_bytes_max,
            research: documents.research_bytes_max,
        },
        quotation_characters_max: documents.quotation_characters_max,
        frozen_sections: documents.frozen_sections.clone(),
        earlier_candidates: earlier.iter().map(earlier_candidate).collect(),
        rejected: rejected.to_vec(),
    }
}

fn sections(text: &str) -> Vec<SectionForGeneration> {
    let document = Document::parse(text);
    let sections = document.sections().iter();
    sections
        .map(|section| SectionForGeneration {
            id: section.id.clone(),
            heading: section.heading.clone(),
            bytes: section.range.len(),
        })
        .collect()
}

/// None for a text without a heading, which is edited as a whole.
fn headed_sections(text: &str) -> Vec<SectionForGeneration> {
    let found = sections(text);
    if found.len() > 1 { found } else { Vec::new() }
}

fn earlier_candidate(row: &EarlierRow) -> EarlierCandidate {
    EarlierCandidate {
        cycle: row.cycle,
        ended: row.ended.clone(),
        what: brief(&row.summary),
        edits: row
            .edits
            .iter()
            .take(EARLIER_EDITS_MAX)
            .map(|edit| brief(&edit.in_words()))
            .collect(),
        why: brief(&row.why),
    }
}

fn brief(text: &str) -> String {
    if text.chars().count() <= EARLIER_TEXT_CHARS {
        return text.to_owned();
    }
    text.chars().take(EARLIER_TEXT_CHARS - 1).chain(['…']).collect()
}
