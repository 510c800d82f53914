//! Asking Claude to rewrite a request into a prompt for one image model.
//!
//! The system prompt is what is learnt: the model's activation and research, the same for every task of a version, and
//! so cached. The user's turn is the task: the picture, the request as quoted data, and from the second iteration on
//! what was wrong with the best result so far.

use serde::{Deserialize, Serialize};
use serde_json::json;

use super::pictures::Picture;
use super::prompts;
use super::service::ServiceError;
use crate::claude::{MessageRequest, ThinkingWish};
use crate::workflow::template::{TemplateError, mark, problems_of};

/// The template of the user's turn, in a workflow's folder.
pub const USER_FILE: &str = "prompts/enhancement.user.md";

/// The template of an enhancement, tried.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EnhancePrompts {
    user: String,
}

impl EnhancePrompts {
    /// Takes the text of [`USER_FILE`].
    ///
    /// # Errors
    /// Everything that is wrong with it.
    pub fn new(user: String) -> Result<Self, Vec<TemplateError>> {
        let problems = problems_of(USER_FILE, &user, &samples());
        if problems.is_empty() { Ok(Self { user }) } else { Err(problems) }
    }
}

/// What is to be enhanced.
#[derive(Debug, Clone)]
pub struct Ask<'a> {
    /// The image model.
    pub model: &'a str,
    /// Who the enhancer is and how it works; learnt.
    pub activation: &'a str,
    /// What is known of the model; learnt.
    pub research: &'a str,
    /// What the person asked for.
    pub request: &'a str,
    /// The original, as [`for_claude`](super::pictures::for_claude) made it.
    pub picture: &'a Picture,
    /// The best result so far, from the second iteration on.
    pub earlier: Option<Earlier>,
    /// The model of Claude's.
    pub claude_model: &'a str,
    /// The most tokens that the answer may have.
    pub max_tokens: u32,
    /// The template.
    pub prompts: &'a EnhancePrompts,
}

/// A prompt that did not pass, and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Earlier {
    /// The prompt.
    pub prompt: String,
    /// What the validator found wrong with its result.
    pub issues: Vec<String>,
}

/// A prompt for an image model.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Enhanced {
    /// The prompt; never empty.
    #[serde(rename = "enhanced_prompt")]
    pub prompt: String,
    /// Why it is as it is.
    pub rationale: String,
}

/// Writes the request.
///
/// # Errors
/// `claude_prompt_template`, see there; nothing was sent.
pub fn request(ask: &Ask<'_>) -> Result<MessageRequest, ServiceError> {
    let context = Context { model: ask.model, request: ask.request, earlier: ask.earlier.as_ref() };
    let user = prompts::render(USER_FILE, &ask.prompts.user, &context)?;
    let system = vec![(ask.activation.to_owned(), false), (ask.research.to_owned(), true)]
        .into_iter()
        // An empty block is one that the API refuses.
        .filter(|(text, _)| !text.trim().is_empty())
        .collect();
    let schema = json!({
        "type": "object",
        "properties": {
            "enhanced_prompt": {
                "type": "string",
                "description": "The prompt for the image model, and nothing else.",
            },
            "rationale": {
                "type": "string",
                "description": "In one or two sentences, why the prompt is as it is.",
            },
        },
        "required": ["enhanced_prompt", "rationale"],
        "additionalProperties": false,
    });
    Ok(MessageRequest::structured(ask.claude_model, ask.max_tokens, system, user, schema)
        .with_pictures(vec![("ORIGINAL:", prompts::image(ask.picture))])
        .tuned(None, ThinkingWish::Least))
}

/// Reads the answer.
///
/// # Errors
/// What is wrong with it, in words that quote nothing of it.
pub fn read(text: &str) -> Result<Enhanced, String> {
    let mut enhanced: Enhanced = serde_json::from_str(text).map_err(|error| error.to_string())?;
    enhanced.prompt = enhanced.prompt.trim().to_owned();
    if enhanced.prompt.is_empty() {
        return Err("the enhanced prompt is empty".to_owned());
    }
    Ok(enhanced)
}

/// The variables of the template.
#[derive(Serialize)]
struct Context<'a> {
    model: &'a str,
    /// Outside text.
    request: &'a str,
    /// Outside text, in both its fields.
    earlier: Option<&'a Earlier>,
}

fn samples() -> [serde_json::Value; 2] {
    [
        json!({
            "model": "model-a",
            "request": mark("request"),
            "earlier": {"prompt": mark("earlier.prompt"), "issues": [mark("earlier.issues")]},
        }),
        json!({"model": "model-a", "request": mark("request"), "earlier": null}),
    ]
}
