//! Asking Claude how well an edited picture does what was asked for.

use serde::{Deserialize, Serialize};
use serde_json::json;

use super::pictures::Picture;
use super::prompts;
use super::service::ServiceError;
use crate::claude::{Effort, MessageRequest, ThinkingWish};
use crate::workflow::template::{TemplateError, mark, problems_of};

/// The template of the system prompt, in a workflow's folder.
pub const SYSTEM_FILE: &str = "prompts/validation.system.md";
/// The template of the user's turn.
pub const USER_FILE: &str = "prompts/validation.user.md";

/// The templates of a validation, tried.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ValidatePrompts {
    system: String,
    user: String,
}

impl ValidatePrompts {
    /// Takes the texts of [`SYSTEM_FILE`] and [`USER_FILE`].
    ///
    /// # Errors
    /// Everything that is wrong with them.
    pub fn new(system: String, user: String) -> Result<Self, Vec<TemplateError>> {
        let mut problems = problems_of(SYSTEM_FILE, &system, &[system_sample()]);
        problems.extend(problems_of(USER_FILE, &user, &[user_sample()]));
        if problems.is_empty() { Ok(Self { system, user }) } else { Err(problems) }
    }
}

/// What is to be judged.
#[derive(Debug, Clone)]
pub struct Ask<'a> {
    /// The image model that made it.
    pub model: &'a str,
    /// What the person asked for.
    pub request: &'a str,
    /// The prompt that it was made from.
    pub enhanced: &'a str,
    /// The original, as [`for_claude`](super::pictures::for_claude) made it.
    pub original: &'a Picture,
    /// The result, as [`for_claude`](super::pictures::for_claude) made it.
    pub edited: &'a Picture,
    /// The best score.
    pub score_max: u16,
    /// The score from which a picture passes.
    pub pass_score: u16,
    /// The model of Claude's.
    pub claude_model: &'a str,
    /// The most tokens that the answer may have, thinking included.
    pub max_tokens: u32,
    /// The templates.
    pub prompts: &'a ValidatePrompts,
}

/// A judgement.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Judged {
    /// 0 to `score_max`.
    pub score: u16,
    /// Whether it passed, as the validator says, which was told the score from which that is so.
    pub passed: bool,
    /// What is wrong with the picture, the worst first.
    pub issues: Vec<String>,
    /// Why the score is what it is.
    pub reasoning: String,
}

/// Writes the request.
///
/// # Errors
/// `claude_prompt_template` when a template cannot be rendered; nothing was sent.
pub fn request(ask: &Ask<'_>) -> Result<MessageRequest, ServiceError> {
    let scale = Scale { score_max: ask.score_max, pass_score: ask.pass_score };
    let system = prompts::render(SYSTEM_FILE, &ask.prompts.system, &scale)?;
    let context = Context {
        model: ask.model,
        request: ask.request,
        enhanced: ask.enhanced,
        score_max: ask.score_max,
        pass_score: ask.pass_score,
    };
    let user = prompts::render(USER_FILE, &ask.prompts.user, &context)?;
    // A range cannot be said in the schemas that the API holds an answer to; a list of numbers can.
    let scores: Vec<u16> = (0..=ask.score_max).collect();
    let schema = json!({
        "type": "object",
        "properties": {
            "score": {"type": "integer", "enum": scores},
            "passed": {"type": "boolean"},
            "issues": {"type": "array", "items": {"type": "string"}},
            "reasoning": {"type": "string"},
        },
        "required": ["score", "passed", "issues", "reasoning"],
        "additionalProperties": false,
    });
    let system = vec![(system, true)];
    Ok(MessageRequest::structured(ask.claude_model, ask.max_tokens, system, user, schema)
        .with_pictures(vec![
            ("ORIGINAL:", prompts::image(ask.original)),
            ("EDITED:", prompts::image(ask.edited)),
        ])
        .tuned(Some(Effort::Medium), ThinkingWish::ModelDefault))
}

/// Reads the answer.
///
/// # Errors
/// What is wrong with it, in words that quote nothing of it.
pub fn read(text: &str, score_max: u16) -> Result<Judged, String> {
    let judged: Judged = serde_json::from_str(text).map_err(|error| error.to_string())?;
    if judged.score > score_max {
        return Err(format!("the score is {}, and {score_max} is the best", judged.score));
    }
    Ok(judged)
}

/// The variables of the system prompt.
#[derive(Serialize)]
struct Scale {
    score_max: u16,
    pass_score: u16,
}

/// The variables of the user's turn.
#[derive(Serialize)]
struct Context<'a> {
    model: &'a str,
    /// Outside text.
    request: &'a str,
    /// Outside text.
    enhanced: &'a str,
    score_max: u16,
    pass_score: u16,
}

fn system_sample() -> serde_json::Value {
    json!({"score_max": 10, "pass_score": 8})
}

fn user_sample() -> serde_json::Value {
    json!({
        "model": "model-a",
        "request": mark("request"),
        "enhanced": mark("enhanced"),
        "score_max": 10,
        "pass_score": 8,
    })
}
