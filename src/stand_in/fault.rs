//! What can be made to happen to a request.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Deserializer};

use super::documented::Documented;
use crate::orchestrator::service::Service;

/// What happens to a request that a rule has met.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Fault {
    /// Nothing: it is answered as ever. It takes its place among the rules, so that a later rule meets the nth request.
    Pass,
    /// An error that the service's documentation names, with its status, headers and body. The work is not done.
    Documented(Documented),
    /// This answer. The work is not done.
    Status {
        /// The HTTP status.
        status: u16,
        /// Headers beside those that the service always sends.
        #[serde(default)]
        headers: BTreeMap<String, String>,
        /// The body, sent as JSON; empty for none.
        #[serde(default)]
        body: String,
    },
    /// A page such as a proxy sends. The work is not done.
    Html(u16),
    /// No answer until the stand-in stops or the caller gives up. The work is not done.
    Hang,
    /// The work is done; the answer breaks off in its middle, with the connection.
    CutBody,
    /// The work is done, and billed; the connection breaks before a byte of the answer. The caller cannot know.
    DropBeforeAnswer,
    /// The connection breaks, and the work is not done. To the caller it looks the same.
    DropBeforeWork,
    /// The usual answer after a while.
    #[serde(rename = "slow_ms", deserialize_with = "milliseconds")]
    Slow(Duration),
    /// Claude answers 200 with something that is of no use.
    Answer(Answer),
    /// Claude takes a batch, and it ends like this.
    Batch(BatchFate),
    /// WaveSpeed takes a submit, and something becomes of it.
    Prediction(Prediction),
    /// ClickUp delivers an event in a way of its own.
    Delivery(Delivery),
}

impl Fault {
    /// This answer, without a header of its own.
    #[must_use]
    pub fn status(status: u16, body: impl Into<String>) -> Self {
        Self::Status { status, headers: BTreeMap::new(), body: body.into() }
    }

    /// The service that knows this fault; none when all do.
    #[must_use]
    pub const fn service(&self) -> Option<Service> {
        match self {
            Self::Documented(documented) => Some(documented.service()),
            Self::Answer(_) | Self::Batch(_) => Some(Service::Claude),
            Self::Prediction(_) => Some(Service::WaveSpeed),
            Self::Delivery(_) => Some(Service::ClickUp),
            _ => None,
        }
    }
}

/// What Claude answers under status 200.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    /// Half of its text, cut off at `max_tokens`.
    Truncated,
    /// A refusal, without any text.
    Refusal,
    /// A thinking block before the text. The text is all right.
    ThinkingFirst,
    /// Thinking that used up `max_tokens`, and no text.
    ThinkingOnly,
    /// A turn that was paused.
    PauseTurn,
    /// A text that is not the JSON asked for.
    NotJson,
    /// No body at all.
    Empty,
}

/// What becomes of a batch. Without a word it is answered when it is first looked at.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BatchFate {
    /// It is answered.
    #[default]
    Answered,
    /// It is answered, and is in progress for so many looks before.
    Slow {
        /// How many.
        looks: u32,
    },
    /// It is in progress until its day is over.
    NeverEnds,
    /// Its day is over.
    Expired,
    /// Somebody cancelled it.
    Canceled,
    /// Its requests fail inside the service.
    Errored,
}

/// What becomes of a prediction. All but [`Prediction::CodeNot200`] are on the bill.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Prediction {
    /// It fails, in these words; such a one is refunded.
    Failed {
        /// What the service says.
        words: String,
    },
    /// It stays in `processing` for good.
    NeverFinishes,
    /// Code 5004: the synchronous wait is over, and the prediction goes on.
    SyncTimedOut,
    /// It is completed and has no picture.
    EmptyOutputs,
    /// It is completed with a picture whose bytes are none.
    BrokenPicture,
    /// It ends with a status that no documentation names.
    UnknownStatus,
    /// The submit is answered HTTP 200 with another code inside, and nothing is begun.
    CodeNot200,
}

/// How ClickUp delivers an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Delivery {
    /// Not at all.
    Lost,
    /// Twice.
    Twice,
    /// With a signature that is wrong.
    BadSignature,
    /// Without a signature.
    NoSignature,
}

fn milliseconds<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    u64::deserialize(deserializer).map(Duration::from_millis)
}
