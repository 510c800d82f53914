//! From a response to an answer that can be used, or to the error that says why not.

use super::attempt::AttemptOutcome;
use super::cost::cost;
use super::error::CallError;
use super::journal::CallId;
use super::wire::{ContentBlock, MessageRequest, MessageResponse, StopReason, Usage};
use crate::outbound::shorten;
use rust_decimal::Decimal;
use serde::de::DeserializeOwned;

/// A whole answer.
#[derive(Debug, Clone, PartialEq)]
pub struct Answer {
    /// What Claude wrote; never empty.
    pub text: String,
    /// Why it ended: the model had finished, or a stop sequence came.
    pub stop_reason: StopReason,
    /// What was read and written.
    pub usage: Usage,
    /// What it cost, in US dollars.
    pub cost: Decimal,
    /// The API's name for the request.
    pub request_id: Option<String>,
    /// The API's name for the answer.
    pub message_id: String,
    /// The model that answered.
    pub model: String,
    /// The journal's name for the attempt that brought it.
    pub call_id: CallId,
}

/// Reads the answer's text as JSON.
///
/// # Errors
/// [`CallError::InvalidJson`], which names the place in the document and quotes little of the text.
pub fn parse_json<T: DeserializeOwned>(answer: &Answer) -> Result<T, CallError> {
    let invalid = |path: String, error: &serde_json::Error| CallError::InvalidJson {
        path,
        message: shorten(&error.to_string(), 160),
    };
    let mut reader = serde_json::Deserializer::from_str(&answer.text);
    let value = serde_path_to_error::deserialize(&mut reader)
        .map_err(|error| invalid(error.path().to_string(), error.inner()))?;
    reader.end().map_err(|error| invalid("after the document".to_owned(), &error))?;
    Ok(value)
}

/// What an outcome means to the caller.
pub(super) fn interpret(
    request: &MessageRequest,
    outcome: &AttemptOutcome,
    call_id: CallId,
) -> Result<Answer, CallError> {
    let response = match &outcome.result {
        Ok(response) => response,
        Err(error) => return Err(CallError::from_attempt(request, outcome.status, error)),
    };
    let text = response.text();
    let reason =
        response.stop_reason.clone().unwrap_or_else(|| StopReason::Other("none".to_owned()));
    match &reason {
        StopReason::EndTurn | StopReason::StopSequence if text.is_empty() => {
            Err(CallError::Empty { only_thought: only_thought(response) })
        }
        StopReason::EndTurn | StopReason::StopSequence => Ok(Answer {
            text,
            stop_reason: reason,
            usage: response.usage.clone(),
            cost: cost(&response.model, &response.usage).usd,
            request_id: outcome.request_id.clone(),
            message_id: response.id.clone(),
            model: response.model.clone(),
            call_id,
        }),
        StopReason::MaxTokens => Err(CallError::Truncated {
            max_tokens: request.max_tokens,
            only_thought: only_thought(response),
        }),
        StopReason::Refusal => {
            let details = response.stop_details.clone().unwrap_or_default();
            Err(CallError::Refused { category: details.category, explanation: details.explanation })
        }
        StopReason::PauseTurn => Err(CallError::Paused),
        StopReason::ToolUse => Err(CallError::ToolUse),
        StopReason::ModelContextWindowExceeded => Err(CallError::ContextWindowExceeded),
        StopReason::Other(word) => Err(CallError::UnknownStop { stop_reason: shorten(word, 80) }),
    }
}

fn only_thought(response: &MessageResponse) -> bool {
    response.text().is_empty()
        && response.content.iter().any(|block| matches!(block, ContentBlock::Thinking { .. }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde::Deserialize;

    #[derive(Debug, PartialEq, Deserialize)]
    struct Verdict {
        items: Vec<Item>,
    }

    #[derive(Debug, PartialEq, Deserialize)]
    struct Item {
        score: u8,
    }

    fn read(text: &str) -> Result<Verdict, CallError> {
        parse_json(&Answer {
            text: text.to_owned(),
            stop_reason: StopReason::EndTurn,
            usage: Usage::default(),
            cost: Decimal::ZERO,
            request_id: None,
            message_id: "msg".to_owned(),
            model: "claude-opus-5-5".to_owned(),
            call_id: CallId(uuid::Uuid::from_u128(1)),
        })
    }

    #[test]
    fn json_is_read() {
        let expected = Verdict { items: vec![Item { score: 7 }] };
        assert_eq!(read(r#"{"items":[{"score":7}]}"#), Ok(expected));
    }

    #[test]
    fn a_wrong_value_is_named_by_its_place() {
        let error = read(r#"{"items":[{"score":7},{"score":"nine"}]}"#).unwrap_err();
        assert!(error.to_string().contains("items[1].score"), "{error}");
    }

    #[test]
    fn a_wrong_document_never_shows_whole_in_the_error() {
        let long = "secret ".repeat(1000);
        let error = read(&format!(r#"{{"items":"{long}"}}"#)).unwrap_err();
        assert!(error.to_string().len() < 300, "{error}");
    }

    #[test]
    fn words_behind_the_document_are_an_error() {
        let error = read(r#"{"items":[]} I hope this helps."#).unwrap_err();
        assert_eq!(error.code(), "claude_invalid_json");
    }
}
