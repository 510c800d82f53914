//! What the prompts of the pipeline share: strict templates, and pictures for Claude.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Serialize;

use super::pictures::Picture;
use super::service::{Next, Service, ServiceError};
use crate::claude::ImageSource;
use crate::workflow::template::{TemplateError, render_one};

/// Renders a template that was tried when it was loaded.
///
/// # Errors
/// `claude_prompt_template` when the template's author wrote a branch that no trial reached; nothing was sent.
pub(super) fn render(
    file: &'static str,
    text: &str,
    context: &impl Serialize,
) -> Result<String, ServiceError> {
    render_one(file, text, context).map_err(|error: TemplateError| {
        let words = format!("A prompt cannot be made: {error}. Mend the file; nothing was sent.");
        ServiceError::new(Service::Claude, "claude_prompt_template", words, Next::Operator)
    })
}

/// The picture as Claude takes it, in the request.
pub(super) fn image(picture: &Picture) -> ImageSource {
    ImageSource::Base64 {
        media_type: picture.media_type.clone(),
        data: STANDARD.encode(&picture.bytes),
    }
}
