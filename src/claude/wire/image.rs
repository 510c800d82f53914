//! Pictures in a request.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::{InputBlock, MessageRequest};

/// Where the bytes of a picture come from.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
#[non_exhaustive]
pub enum ImageSource {
    /// They are in the request.
    Base64 {
        /// Such as `image/png`.
        media_type: String,
        /// The bytes, as base64 with padding.
        data: String,
    },
    /// Claude fetches them.
    Url {
        /// An address that anybody can read.
        url: String,
    },
}

/// A picture belongs into no log, and neither does an address that may be signed.
impl fmt::Debug for ImageSource {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Base64 { media_type, data } => {
                write!(out, "Base64({media_type}, {} characters)", data.len())
            }
            Self::Url { .. } => out.write_str("Url(hidden)"),
        }
    }
}

impl ImageSource {
    /// What the picture counts as in bytes of prompt, at three bytes a token: what the model reads of a picture is set by
    /// its sides, never by the length of its base64.
    ///
    /// A picture in the request has been shrunk to 1,568 pixels, so it is at most 1,568² / 750 tokens. One that Claude
    /// fetches can have any size, and is shrunk there, to 2,576 pixels.
    #[must_use]
    pub const fn prompt_bytes(&self) -> usize {
        match self {
            Self::Base64 { .. } => 3 * (1568 * 1568_usize).div_ceil(750),
            Self::Url { .. } => 3 * (2576 * 2576_usize).div_ceil(750),
        }
    }
}

impl InputBlock {
    /// What the block counts as in bytes of prompt.
    #[must_use]
    pub const fn prompt_bytes(&self) -> usize {
        match self {
            Self::Text { text } => text.len(),
            Self::Image { source } => source.prompt_bytes(),
        }
    }
}

impl MessageRequest {
    /// The same request with these pictures before its text, each under its label, which is how Claude reads them best.
    #[must_use]
    pub fn with_pictures(mut self, pictures: Vec<(&str, ImageSource)>) -> Self {
        let blocks = pictures.into_iter().flat_map(|(label, source)| {
            [InputBlock::Text { text: label.to_owned() }, InputBlock::Image { source }]
        });
        if let Some(message) = self.messages.last_mut() {
            message.content.splice(0..0, blocks);
        }
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn picture(data: &str) -> ImageSource {
        ImageSource::Base64 { media_type: "image/png".to_owned(), data: data.to_owned() }
    }

    fn request(pictures: Vec<(&str, ImageSource)>) -> MessageRequest {
        MessageRequest::structured("claude-opus-5-5", 10, vec![], "Judge.".to_owned(), json!({}))
            .with_pictures(pictures)
    }

    #[test]
    fn pictures_stand_before_the_text_under_their_labels_as_documented() {
        let url = ImageSource::Url { url: "https://example.com/1.png".to_owned() };
        let request = request(vec![("ORIGINAL:", picture("aGk=")), ("EDITED:", url)]);
        let body = serde_json::to_value(&request).unwrap();
        assert_eq!(
            body["messages"][0]["content"],
            json!([
                {"type": "text", "text": "ORIGINAL:"},
                {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "aGk="}},
                {"type": "text", "text": "EDITED:"},
                {"type": "image", "source": {"type": "url", "url": "https://example.com/1.png"}},
                {"type": "text", "text": "Judge."}
            ])
        );
        assert_eq!(serde_json::from_value::<MessageRequest>(body).unwrap(), request);
    }

    #[test]
    fn a_picture_counts_by_what_is_read_of_it_and_not_by_its_base64() {
        let bare = request(vec![]).prompt_bytes();
        let with = |data: &str| request(vec![("", picture(data))]).prompt_bytes() - bare;
        assert_eq!(with("aGk="), 9837);
        assert_eq!(with(&"A".repeat(1_000_000)), 9837);
    }

    #[test]
    fn a_picture_shows_nothing_of_itself() {
        let url = ImageSource::Url { url: "https://example.com/?signature=1".to_owned() };
        let shown = format!("{:?}", request(vec![("A", picture("aGk=")), ("B", url)]));
        assert!(!shown.contains("aGk=") && !shown.contains("signature"), "{shown}");
    }
}
