//! A workflow: what is learnt from, how it is tested, and what Claude is asked.
//!
//! A workflow is a folder, `workflows/<name>/`, with a `workflow.toml` and five prompt files. [`load`] reads it, checks
//! it wholly and hands back a [`Definition`]; a cycle keeps the JSON of the definition that it started with, so an edit
//! of the folder reaches the next cycle and never the running one.
//!
//! Reading order: [`definition`] (the keys), `keys` and `validate` (their rules), [`load`] (folder to definition), [`context`]
//! and [`template`] (what Claude is shown), [`answer`] (what Claude gives back), [`scaffold`] (a new workflow).

pub mod answer;
pub mod context;
pub mod definition;
mod describe;
pub mod error;
mod filters;
pub(crate) mod keys;
pub mod load;
pub mod names;
mod placeholders;
mod samples;
pub mod scaffold;
pub mod schedule;
pub mod template;
mod together;
pub(crate) mod validate;

#[cfg(test)]
mod error_tests;
#[cfg(test)]
mod prompt_tests;
#[cfg(test)]
mod tests;

pub use answer::{AnalysisAnswer, GenerationAnswer, analysis_schema, generation_schema};
pub use context::{AnalysisContext, GenerationContext};
pub use definition::{Definition, OnAlarm};
pub use error::{DefinitionError, DefinitionErrors};
pub use names::{InvalidName, ModelName, WorkflowName};
pub use placeholders::placeholders_in;
pub use schedule::CronExpression;
pub use template::{RenderedPrompt, TemplateError, render_analysis, render_generation};
