//! Whether a proposal keeps to the workflow's rules.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use super::super::paid_call::{self, Unusable};
use crate::research::{
    self, Applied, BytesMax, Edit, EditNote, EditRefusal, EditRules, Texts, check_copies,
};
use crate::store::candidates::RefusedCandidate;
use crate::store::insights::InsightRow;
use crate::store::versions::Version;
use crate::workflow::Definition;
use crate::workflow::answer::{
    EditOperation, EditedDocument, GenerationAnswer, ProposedEdit, TemplateAnswer,
};
use crate::workflow::definition::CandidateMode;

/// How the reason of an answer begins that was read and broke a rule. Stored with the calls, so it is fixed.
const RULE_BROKEN: &str = "the candidate breaks a rule, ";
/// A candidate goes back so often for a rule; then there is none.
const RULE_BROKEN_MAX: usize = 1;

/// What became of an answer.
#[derive(Debug)]
pub(super) enum Judged {
    /// No change was proposed.
    Nothing,
    /// The candidate broke a rule once more than it may; the reason.
    RuleBroken(String),
    /// A candidate that keeps to every rule.
    Proposed(Box<Proposal>),
}

/// A candidate's edits, applied.
#[derive(Debug)]
pub(super) struct Proposal {
    /// What changes, in words.
    pub(super) summary: String,
    /// The insights that it rests on, as they were shown.
    pub(super) because: Vec<String>,
    /// The edits.
    pub(super) edits: Vec<EditNote>,
    /// The texts.
    pub(super) applied: Applied,
}

/// Judges the answers of one generation. Each answer is judged once, in the order given, so what it remembers is the
/// same when the answers are read from the record.
pub(super) struct Judge<'j> {
    definition: &'j Definition,
    mode: CandidateMode,
    model: &'j str,
    parent: Texts,
    rules: EditRules,
    /// The insights shown: by name, the handle.
    handles: HashMap<String, String>,
    tasks: Vec<String>,
    refused: Mutex<Vec<RefusedCandidate>>,
}

impl<'j> Judge<'j> {
    pub(super) fn new(
        definition: &'j Definition,
        active: &'j Version,
        cycle: i64,
        shown: &[&InsightRow],
        tasks: Vec<String>,
    ) -> Self {
        let documents = &definition.documents;
        let bytes = |limit: u32| usize::try_from(limit).unwrap_or(usize::MAX);
        Self {
            definition,
            mode: definition.mode_of(&active.model_name),
            model: &active.model_name,
            parent: active.texts(),
            rules: EditRules {
                required_placeholders: documents.required_placeholders.clone(),
                size_change_percent_max: documents.size_change_percent_max,
                frozen_sections: documents.frozen_sections.clone(),
                bytes_max: BytesMax {
                    template: bytes(documents.template_bytes_max),
                    activation: bytes(documents.activation_bytes_max),
                    research: bytes(documents.research_bytes_max),
                },
                insights: shown.iter().map(|insight| insight.name_in(cycle)).collect(),
            },
            handles: shown
                .iter()
                .map(|insight| (insight.name_in(cycle), insight.handle()))
                .collect(),
            tasks,
            refused: Mutex::default(),
        }
    }

    /// Reads an answer and applies it.
    ///
    /// # Errors
    /// [`Unusable`], which goes back to Claude, when the answer cannot be read, or breaks a rule for the first time.
    pub(super) fn judge(&self, text: &str, rejected: &[String]) -> Result<Judged, Unusable> {
        let (summary, edits) = self.read(text)?;
        if edits.is_empty() {
            return Ok(Judged::Nothing);
        }
        match self.apply(&edits) {
            Ok(applied) => {
                let mut because: Vec<String> =
                    edits.iter().flat_map(|edit| edit.because.iter().cloned()).collect();
                because.sort();
                because.dedup();
                let edits = self.notes(&edits);
                Ok(Judged::Proposed(Box::new(Proposal { summary, because, edits, applied })))
            }
            Err(refusal) => {
                let why = format!("{RULE_BROKEN}{}: {refusal}", refusal.code());
                self.note(&refusal, summary, &edits);
                let broken = rejected.iter().filter(|why| why.starts_with(RULE_BROKEN)).count();
                // Where no further answer would be asked for, the cycle would be held; a broken rule is no reason.
                let refused_max = self.definition.claude.answers_refused_max as usize;
                if broken >= RULE_BROKEN_MAX || rejected.len() >= refused_max {
                    return Ok(Judged::RuleBroken(format!("{}: {refusal}", refusal.code())));
                }
                Err(Unusable(why))
            }
        }
    }

    /// The answers that broke a rule.
    pub(super) fn refused(&self) -> Vec<RefusedCandidate> {
        std::mem::take(&mut *self.refused.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn read(&self, text: &str) -> Result<(String, Vec<Edit>), Unusable> {
        let (summary, edits) = match self.mode {
            CandidateMode::Sections => {
                let answer: GenerationAnswer = paid_call::read(text)?;
                (answer.summary, answer.edits.iter().map(edit_of).collect())
            }
            CandidateMode::Template => {
                let answer: TemplateAnswer = paid_call::read(text)?;
                (answer.summary.clone(), whole_template(answer))
            }
        };
        let edits: Vec<Edit> = edits;
        let said =
            edits.iter().flat_map(|edit| edit.because.iter().chain([&edit.section, &edit.after]));
        if said.chain([&summary]).any(|text| text.contains('\0')) {
            return Err(Unusable(
                "the summary, a section's id or a reason holds a NUL character".to_owned(),
            ));
        }
        Ok((summary, edits))
    }

    fn apply(&self, edits: &[Edit]) -> Result<Applied, EditRefusal> {
        let applied = research::apply(&self.parent, edits, &self.rules)?;
        let tasks = self.tasks.iter().map(String::as_str);
        let quotation = self.definition.documents.quotation_characters_max;
        check_copies(&self.parent, &applied.texts, tasks, quotation as usize)?;
        Ok(applied)
    }

    fn notes(&self, edits: &[Edit]) -> Vec<EditNote> {
        let handle = |name: &String| self.handles.get(name).unwrap_or(name).clone();
        edits
            .iter()
            .map(|edit| EditNote::of(edit, &self.parent, edit.because.iter().map(handle).collect()))
            .collect()
    }

    fn note(&self, refusal: &EditRefusal, summary: String, edits: &[Edit]) {
        let mut refused = self.refused.lock().unwrap_or_else(PoisonError::into_inner);
        let ordinal = i32::try_from(refused.len() + 1).unwrap_or(i32::MAX);
        refused.push(RefusedCandidate {
            model_name: self.model.to_owned(),
            ordinal,
            code: refusal.code().to_owned(),
            // A NUL that broke the rule is named, not repeated, by every refusal.
            reason: refusal.to_string(),
            summary,
            edits: self.notes(edits),
        });
    }
}

/// An empty template proposes nothing.
fn whole_template(answer: TemplateAnswer) -> Vec<Edit> {
    if answer.prompt_template.trim().is_empty() {
        return Vec::new();
    }
    vec![Edit {
        document: research::Which::Template,
        operation: research::Operation::Replace,
        section: String::new(),
        text: answer.prompt_template,
        after: String::new(),
        because: answer.because,
    }]
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
            EditOperation::Move => research::Operation::Move,
        },
        section: proposed.section.clone(),
        text: proposed.text.clone(),
        after: proposed.after.clone(),
        because: proposed.because.clone(),
    }
}
