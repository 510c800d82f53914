//! The Messages API as it is spoken: requests and responses of `POST /v1/messages`, `anthropic-version` 2026-10-21.
//!
//! Requests are built so that a body the API would refuse cannot be written down: there is no temperature, and the
//! thinking setting follows the model. Responses are read leniently: a block, a stop reason or a field that came later
//! than this code is tolerated.

mod image;

pub use image::ImageSource;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest, Sha256};

/// The version of the API this module speaks, sent with every request.
pub const API_VERSION: &str = "2026-10-21";

/// The body of one request.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct MessageRequest {
    /// The model's id, such as `claude-opus-5-5`.
    pub model: String,
    /// The most tokens the answer may have, thinking included.
    pub max_tokens: u32,
    /// The system prompt, in blocks so that the unchanging part can be cached.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub system: Vec<SystemBlock>,
    /// The conversation; here always one message from the user.
    pub messages: Vec<InputMessage>,
    /// How much the model thinks; absent leaves it to the model. Set it through [`MessageRequest::tuned`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub thinking: Option<Thinking>,
    /// The effort and the schema of the answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output_config: Option<OutputConfig>,
    /// An opaque id of the one asking, never a name or an address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metadata: Option<Metadata>,
}

/// One block of the system prompt.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename = "text")]
pub struct SystemBlock {
    /// What it says.
    pub text: String,
    /// Set where everything up to this block is to be cached.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cache_control: Option<CacheControl>,
}

/// How long a prefix is cached.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum CacheControl {
    /// For a while after its last use.
    Ephemeral {
        /// `5m` or `1h`; absent means five minutes.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        ttl: Option<String>,
    },
}

/// One message of the conversation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct InputMessage {
    /// Who speaks.
    pub role: Role,
    /// What is said, in order.
    pub content: Vec<InputBlock>,
}

/// Who speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// The one asking.
    User,
    /// Claude.
    Assistant,
}

/// One block of a message.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
#[non_exhaustive]
pub enum InputBlock {
    /// Plain text.
    Text {
        /// What it says.
        text: String,
    },
    /// A picture.
    Image {
        /// Its bytes, or where they are.
        source: ImageSource,
    },
}

/// The thinking settings that today's models accept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Thinking {
    /// Only between uses of tools, so not at all where there are no tools.
    BetweenTools,
    /// Never.
    Disabled,
}

/// What the caller wishes about thinking; [`MessageRequest::tuned`] turns it into what the model accepts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ThinkingWish {
    /// As the model would by itself.
    #[default]
    ModelDefault,
    /// As little as the model allows.
    Least,
}

/// How hard the model tries. Only the three levels that every model accepts with every thinking setting.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Effort {
    /// Quick and cheap.
    Low,
    /// In between.
    Medium,
    /// Thorough and dear.
    High,
}

/// The effort and the form of the answer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct OutputConfig {
    /// Absent leaves it to the model.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub effort: Option<Effort>,
    /// The form of the answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub format: Option<OutputFormat>,
}

/// The form of the answer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum OutputFormat {
    /// JSON that keeps to a schema.
    JsonSchema {
        /// The schema, within the subset the API supports.
        schema: Value,
    },
}

/// Who asks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Metadata {
    /// An opaque id.
    pub user_id: String,
}

impl MessageRequest {
    /// A request whose answer is JSON that keeps to `schema`.
    ///
    /// `system` holds the blocks of the system prompt, each with whether the prefix that ends with it is cached.
    #[must_use]
    pub fn structured(
        model: impl Into<String>,
        max_tokens: u32,
        system: Vec<(String, bool)>,
        user: String,
        schema: Value,
    ) -> Self {
        Self {
            model: model.into(),
            max_tokens,
            system: system
                .into_iter()
                .map(|(text, cached)| SystemBlock {
                    text,
                    cache_control: cached.then_some(CacheControl::Ephemeral { ttl: None }),
                })
                .collect(),
            messages: vec![InputMessage {
                role: Role::User,
                content: vec![InputBlock::Text { text: user }],
            }],
            thinking: None,
            output_config: Some(OutputConfig {
                effort: None,
                format: Some(OutputFormat::JsonSchema { schema }),
            }),
            metadata: None,
        }
    }

    /// The same request with this effort and this wish about thinking, as far as its model allows.
    ///
    /// Sonnet 5.5 refuses `disabled` and takes `between_tools`; Haiku 5.5 takes `disabled` only at its own effort; the
    /// others always think, and for them nothing is sent.
    #[must_use]
    pub fn tuned(mut self, effort: Option<Effort>, thinking: ThinkingWish) -> Self {
        let format = self.output_config.take().and_then(|config| config.format);
        if effort.is_some() || format.is_some() {
            self.output_config = Some(OutputConfig { effort, format });
        }
        self.thinking = match thinking {
            ThinkingWish::Least if self.model.starts_with("claude-sonnet-5-5") => {
                Some(Thinking::BetweenTools)
            }
            ThinkingWish::Least
                if self.model.starts_with("claude-haiku-5-5") && effort.is_none() =>
            {
                Some(Thinking::Disabled)
            }
            ThinkingWish::ModelDefault | ThinkingWish::Least => None,
        };
        self
    }

    /// The body of `POST /v1/messages/count_tokens`: all that Claude would read, without what it would do.
    #[must_use]
    pub fn count_body(&self) -> Value {
        let mut body = serde_json::to_value(self).unwrap_or(Value::Null);
        if let Some(fields) = body.as_object_mut() {
            fields.remove("max_tokens");
            fields.remove("metadata");
        }
        body
    }

    /// SHA-256, in hex, of the body with its keys in order: two requests that say the same have the same hash.
    #[must_use]
    pub fn request_hash(&self) -> String {
        let mut body = serde_json::to_value(self).unwrap_or(Value::Null);
        body.sort_all_objects();
        hex::encode(Sha256::digest(body.to_string()))
    }

    /// How many bytes the model reads: the system prompt, the messages and the schema. A picture counts as
    /// [`ImageSource::prompt_bytes`] says.
    #[must_use]
    pub fn prompt_bytes(&self) -> usize {
        let system: usize = self.system.iter().map(|block| block.text.len()).sum();
        let messages: usize = self
            .messages
            .iter()
            .flat_map(|message| &message.content)
            .map(InputBlock::prompt_bytes)
            .sum();
        let schema = match self.output_config.as_ref().and_then(|c| c.format.as_ref()) {
            Some(OutputFormat::JsonSchema { schema }) => schema.to_string().len(),
            None => 0,
        };
        system.saturating_add(messages).saturating_add(schema)
    }
}

/// The answer of `POST /v1/messages/count_tokens`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokenCount {
    /// What the request would have as its prompt.
    pub input_tokens: u64,
}

/// The body of a response with status 200.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct MessageResponse {
    /// The message's id.
    pub id: String,
    /// The model that answered, perhaps with a date behind its name.
    pub model: String,
    /// The answer's blocks, in order.
    pub content: Vec<ContentBlock>,
    /// Why the answer ended.
    #[serde(default)]
    pub stop_reason: Option<StopReason>,
    /// More about the end, where there is more to say.
    #[serde(default)]
    pub stop_details: Option<StopDetails>,
    /// What was read and written.
    pub usage: Usage,
}

impl MessageResponse {
    /// All text blocks, one behind the other; empty where the model only thought.
    #[must_use]
    pub fn text(&self) -> String {
        self.content
            .iter()
            .filter_map(|block| match block {
                ContentBlock::Text { text } => Some(text.as_str()),
                ContentBlock::Thinking { .. } | ContentBlock::Unknown => None,
            })
            .collect()
    }
}

/// One block of an answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum ContentBlock {
    /// Part of the answer.
    Text {
        /// What it says.
        text: String,
    },
    /// What the model thought; mostly empty, for the text is left out.
    Thinking {
        /// The thought.
        #[serde(default)]
        thinking: String,
        /// The API's seal on it.
        #[serde(default)]
        signature: String,
    },
    /// A kind this code does not know.
    #[serde(other)]
    Unknown,
}

/// Why an answer ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "String", into = "String")]
pub enum StopReason {
    /// The model had finished.
    EndTurn,
    /// `max_tokens` was reached.
    MaxTokens,
    /// A stop sequence was written.
    StopSequence,
    /// The model wants a tool.
    ToolUse,
    /// The model paused in a long turn.
    PauseTurn,
    /// The model or a safety classifier declined.
    Refusal,
    /// The context window was full.
    ModelContextWindowExceeded,
    /// A reason this code does not know.
    Other(String),
}

impl StopReason {
    /// The word on the wire.
    #[must_use]
    pub fn as_str(&self) -> &str {
        match self {
            Self::EndTurn => "end_turn",
            Self::MaxTokens => "max_tokens",
            Self::StopSequence => "stop_sequence",
            Self::ToolUse => "tool_use",
            Self::PauseTurn => "pause_turn",
            Self::Refusal => "refusal",
            Self::ModelContextWindowExceeded => "model_context_window_exceeded",
            Self::Other(word) => word,
        }
    }
}

impl From<String> for StopReason {
    fn from(word: String) -> Self {
        match word.as_str() {
            "end_turn" => Self::EndTurn,
            "max_tokens" => Self::MaxTokens,
            "stop_sequence" => Self::StopSequence,
            "tool_use" => Self::ToolUse,
            "pause_turn" => Self::PauseTurn,
            "refusal" => Self::Refusal,
            "model_context_window_exceeded" => Self::ModelContextWindowExceeded,
            _ => Self::Other(word),
        }
    }
}

impl From<StopReason> for String {
    fn from(reason: StopReason) -> Self {
        reason.as_str().to_owned()
    }
}

/// More about why an answer ended; filled on refusals.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct StopDetails {
    /// The family of the refusal, such as `cyber`; open ended.
    pub category: Option<String>,
    /// Claude's own words.
    pub explanation: Option<String>,
}

/// What was read and written, in tokens.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Usage {
    /// Read at the full price: neither written to the cache nor read from it.
    pub input_tokens: u64,
    /// Written, thinking included.
    pub output_tokens: u64,
    /// Written to the cache.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cache_creation_input_tokens: Option<u64>,
    /// Read from the cache.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cache_read_input_tokens: Option<u64>,
    /// The writes to the cache by how long they stay.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cache_creation: Option<CacheCreation>,
    /// The written tokens by kind.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output_tokens_details: Option<OutputTokensDetails>,
    /// `standard`, `priority` or `batch`; `batch` costs half.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service_tier: Option<String>,
    /// `standard` or `fast`; `fast` costs double.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub speed: Option<String>,
    /// Where the model ran; `us` costs a tenth more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub inference_geo: Option<String>,
}

/// Writes to the cache by how long they stay, in tokens.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct CacheCreation {
    /// For five minutes.
    pub ephemeral_5m_input_tokens: Option<u64>,
    /// For an hour.
    pub ephemeral_1h_input_tokens: Option<u64>,
}

/// Written tokens by kind.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct OutputTokensDetails {
    /// Spent on thinking.
    pub thinking_tokens: Option<u64>,
}

/// The body of a response with any other status.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct ErrorEnvelope {
    /// The error.
    pub error: ErrorBody,
    /// The request's id, as in the header.
    #[serde(default)]
    pub request_id: Option<String>,
}

/// The error inside an [`ErrorEnvelope`].
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct ErrorBody {
    /// Its family, such as `rate_limit_error`.
    #[serde(rename = "type")]
    pub error_type: String,
    /// Words for a person; no decision may rest on them.
    #[serde(default)]
    pub message: String,
    /// The finer code that newer errors carry.
    #[serde(default)]
    pub details: Option<ErrorDetails>,
}

/// The finer code of an error.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct ErrorDetails {
    /// Such as `enforced_spend_limit_reached`.
    #[serde(default)]
    pub error_code: Option<String>,
}

#[cfg(test)]
pub(super) mod tests;
