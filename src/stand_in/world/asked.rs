//! Reads what the pipeline asks Claude.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use image::RgbImage;
use serde_json::Value;

/// The text of the user's turn, whether it came as a string or as blocks.
pub(super) fn user_text(request: &Value) -> String {
    let content = &request["messages"][0]["content"];
    match content {
        Value::Array(blocks) => {
            blocks.iter().filter_map(|block| block["text"].as_str()).collect::<Vec<_>>().join("\n")
        }
        other => other.as_str().unwrap_or_default().to_owned(),
    }
}

/// The system prompt, whole.
pub(super) fn system_text(request: &Value) -> String {
    match &request["system"] {
        Value::Array(blocks) => {
            blocks.iter().filter_map(|block| block["text"].as_str()).collect::<Vec<_>>().join("\n")
        }
        other => other.as_str().unwrap_or_default().to_owned(),
    }
}

/// The pictures of the user's turn, in their order; one that cannot be decoded is none.
pub(super) fn pictures(request: &Value) -> Vec<Option<RgbImage>> {
    let no_blocks = Vec::new();
    let blocks = request["messages"][0]["content"].as_array().unwrap_or(&no_blocks);
    blocks
        .iter()
        .filter(|block| block["type"] == "image")
        .map(|block| {
            let bytes = STANDARD.decode(block["source"]["data"].as_str()?).ok()?;
            Some(image::load_from_memory(&bytes).ok()?.to_rgb8())
        })
        .collect()
}

/// What stands between the tags of that name, as the JSON string that it is, or as it stands; none without the tags.
pub(super) fn tagged(text: &str, tag: &str) -> Option<String> {
    let (_, rest) = text.split_once(&format!("<{tag}>\n"))?;
    let (inside, _) = rest.split_once(&format!("\n</{tag}>"))?;
    let inside = inside.trim();
    Some(serde_json::from_str(inside).unwrap_or_else(|_| inside.to_owned()))
}

/// The quoted lines between the tags of that name.
pub(super) fn listed(text: &str, tag: &str) -> Vec<String> {
    let inside = text
        .split_once(&format!("<{tag}>\n"))
        .and_then(|(_, rest)| rest.split_once(&format!("</{tag}>")))
        .map(|(inside, _)| inside)
        .unwrap_or_default();
    let quoted = |line: &str| serde_json::from_str(line.trim().strip_prefix("- ")?).ok();
    inside.lines().filter_map(quoted).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_quoted_is_read_as_it_was_written() {
        let text = "<request>\n\"Γράψε \\u003cb\\u003e «Α»\\nκάτω\"\n</request>\n<issues>\n- \"one\"\n- none was named\n</issues>";
        assert_eq!(tagged(text, "request").as_deref(), Some("Γράψε <b> «Α»\nκάτω"));
        assert_eq!(listed(text, "issues"), ["one"]);
        assert_eq!(tagged(text, "earlier_prompt"), None);
    }
}
