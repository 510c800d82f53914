//! Prompt templates: compiled, tried at load, and rendered for Claude.
//!
//! Templates are minijinja with strict undefined values, and the filters `data` and `fenced`, explained in `filters`.

use std::collections::BTreeSet;

use minijinja::syntax::SyntaxConfig;
use minijinja::value::Serde;
use minijinja::{AutoEscape, Environment, Error, UndefinedBehavior, Value};
use serde::Serialize;

use crate::workflow::context::{AnalysisContext, GenerationContext};
use crate::workflow::definition::{Definition, Prompts};
use crate::workflow::filters::{data, fenced, fenced_away};
use crate::workflow::samples;

/// A prompt as it is sent: the system text and the user's turn.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RenderedPrompt {
    /// The system text.
    pub system: String,
    /// The user's turn.
    pub user: String,
}

/// A template that cannot be rendered. Nothing has been sent and nothing has changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{file}{}: {problem}", line.map(|line| format!(":{line}")).unwrap_or_default())]
pub struct TemplateError {
    /// The file, relative to the workflow's folder.
    pub file: &'static str,
    /// The line, from 1, where it is known.
    pub line: Option<usize>,
    /// What is wrong, with the variable's name where one is missing.
    pub problem: String,
}

/// Renders the prompt of an analysis.
///
/// # Errors
/// [`TemplateError`] if a template names something that the context lacks; a definition that was loaded has none such,
/// short of a branch that the samples of the load did not reach.
pub fn render_analysis(
    definition: &Definition,
    context: &AnalysisContext,
) -> Result<RenderedPrompt, TemplateError> {
    let prompts = &definition.prompts;
    Ok(RenderedPrompt {
        system: render(&Source::analysis_system(prompts), context)?,
        user: render(&Source::analysis_user(prompts), context)?,
    })
}

/// Renders the prompt of a generation.
///
/// # Errors
/// As [`render_analysis`].
pub fn render_generation(
    definition: &Definition,
    context: &GenerationContext,
) -> Result<RenderedPrompt, TemplateError> {
    let prompts = &definition.prompts;
    Ok(RenderedPrompt {
        system: render(&Source::generation_system(prompts), context)?,
        user: render(&Source::generation_user(prompts), context)?,
    })
}

/// Tries every template with full and with bare contexts, and tells what is wrong with each.
pub(super) fn problems(prompts: &Prompts) -> Vec<TemplateError> {
    let analysis = [Source::analysis_system(prompts), Source::analysis_user(prompts)];
    let generation = [Source::generation_system(prompts), Source::generation_user(prompts)];
    let mut problems = Vec::new();
    for source in &analysis {
        try_out(source, &[samples::full_analysis(), samples::bare_analysis()], &mut problems);
    }
    for source in &generation {
        try_out(source, &[samples::full_generation(), samples::bare_generation()], &mut problems);
    }
    problems
}

/// Renders one template of another part of the program under the same rules.
///
/// # Errors
/// As [`render_analysis`].
pub(crate) fn render_one(
    file: &'static str,
    text: &str,
    context: &impl Serialize,
) -> Result<String, TemplateError> {
    render(&Source { file, text }, context)
}

/// Tries one template of another part of the program with these contexts, of which the first holds every variable, and
/// tells what is wrong with it. Outside text in them is a [`mark`], so that a template that puts it in bare is found out.
pub(crate) fn problems_of(
    file: &'static str,
    text: &str,
    contexts: &[impl Serialize],
) -> Vec<TemplateError> {
    let mut problems = Vec::new();
    try_out(&Source { file, text }, contexts, &mut problems);
    problems
}

pub(crate) use samples::mark;

struct Source<'a> {
    file: &'static str,
    text: &'a str,
}

impl<'a> Source<'a> {
    fn analysis_system(prompts: &'a Prompts) -> Self {
        Self { file: "prompts/analysis.system.md", text: &prompts.analysis_system }
    }

    fn analysis_user(prompts: &'a Prompts) -> Self {
        Self { file: "prompts/analysis.user.md", text: &prompts.analysis_user }
    }

    fn generation_system(prompts: &'a Prompts) -> Self {
        Self { file: "prompts/generation.system.md", text: &prompts.generation_system }
    }

    fn generation_user(prompts: &'a Prompts) -> Self {
        Self { file: "prompts/generation.user.md", text: &prompts.generation_user }
    }

    fn error(&self, error: &Error) -> TemplateError {
        let line = error.line();
        let text =
            line.and_then(|line| self.text.lines().nth(line.saturating_sub(1))).map(str::trim);
        let said = error.detail().map_or_else(|| error.kind().to_string(), str::to_owned);
        let problem = match text {
            Some(text) => format!("{said}, in: {text}"),
            None => said,
        };
        TemplateError { file: self.file, line, problem }
    }

    /// The first line that holds all of `words`.
    fn line_with(&self, words: &[&str]) -> Option<usize> {
        self.text
            .lines()
            .position(|line| words.iter().all(|word| line.contains(word)))
            .map(|index| index + 1)
    }
}

fn render(source: &Source, context: &impl Serialize) -> Result<String, TemplateError> {
    let environment = environment(fenced);
    environment
        .template_from_named_str(source.file, source.text)
        .and_then(|template| template.render(Value::from(Serde(context))))
        .map_err(|error| source.error(&error))
}

type Fence = fn(&str, &str) -> Result<String, Error>;

fn environment<'a>(fence: Fence) -> Environment<'a> {
    let mut environment = Environment::new();
    environment.set_undefined_behavior(UndefinedBehavior::Strict);
    // Prompts are Markdown, whatever their files are called.
    environment.set_auto_escape_callback(|_| AutoEscape::None);
    let mut syntax = SyntaxConfig::builder();
    syntax.trim_blocks(true).lstrip_blocks(true);
    if let Ok(syntax) = syntax.build() {
        environment.set_syntax(syntax);
    }
    environment.add_filter("data", data);
    environment.add_filter("fenced", move |text: &str, label: &str| fence(text, label));
    environment
}

fn try_out(source: &Source, contexts: &[impl Serialize], problems: &mut Vec<TemplateError>) {
    let before = problems.len();
    if source.text.trim().is_empty() {
        problems.push(TemplateError {
            file: source.file,
            line: None,
            problem: "the prompt is empty".to_owned(),
        });
        return;
    }
    let environment = environment(fenced_away);
    let template = match environment.template_from_named_str(source.file, source.text) {
        Ok(template) => template,
        Err(error) => return problems.push(source.error(&error)),
    };
    let known = contexts.first().map(|context| serde_json::json!(context)).unwrap_or_default();
    let names: BTreeSet<_> = template.undeclared_variables(true).into_iter().collect();
    for name in names
        .iter()
        .filter(|name| !holds(&known, name) && !environment.globals().any(|(own, _)| own == *name))
    {
        let known = known.as_object().map(|map| map.keys().cloned().collect::<Vec<_>>().join(", "));
        problems.push(TemplateError {
            file: source.file,
            line: source.line_with(&[name]),
            problem: format!(
                "there is no variable `{name}`; known here: {}",
                known.unwrap_or_default()
            ),
        });
    }
    // What the names have told, a rendering would only tell again.
    if problems.len() > before {
        return;
    }
    let mut told = BTreeSet::new();
    for context in contexts {
        match template.render(Value::from(Serde(context))) {
            Err(error) => {
                let error = source.error(&error);
                if told.insert(error.problem.clone()) {
                    problems.push(error);
                }
            }
            Ok(rendered) => {
                for field in unguarded(&rendered) {
                    if told.insert(field.clone()) {
                        problems.push(source.unguarded(&field));
                    }
                }
            }
        }
    }
}

impl Source<'_> {
    fn unguarded(&self, field: &str) -> TemplateError {
        TemplateError {
            file: self.file,
            line: self.line_with(&["{{", field]),
            problem: format!(
                "`{field}` is text from outside and is put in bare, where it could pass for an instruction; write {{{{ … {field} | data }}}}"
            ),
        }
    }
}

fn holds(context: &serde_json::Value, path: &str) -> bool {
    let pointer = format!("/{}", path.replace('.', "/"));
    context.pointer(&pointer).is_some()
}

/// The fields whose marks came out of a rendering as they went in.
fn unguarded(rendered: &str) -> BTreeSet<String> {
    let lower = rendered.to_lowercase();
    let fields = lower.split(samples::MARK).skip(1);
    fields.filter_map(|rest| rest.split_once(';')).map(|(field, _)| field.to_owned()).collect()
}
