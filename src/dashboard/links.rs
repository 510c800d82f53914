//! Where each page is. Names are percent-encoded here and nowhere else.

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

/// Everything but what RFC 3986 calls unreserved.
const RESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// A text as one segment of a path, or as a value of a query.
#[must_use]
pub fn encoded(text: &str) -> String {
    utf8_percent_encode(text, RESERVED).to_string()
}

/// A workflow's first page.
#[must_use]
pub fn workflow(workflow: &str) -> String {
    format!("/analytics/{}", encoded(workflow))
}

/// One of a workflow's pages: `cycles`, `tasks`, `insights`, `verdicts`, `changes`, `conflicts`.
#[must_use]
pub fn section(workflow: &str, section: &str) -> String {
    format!("/analytics/{}/{section}", encoded(workflow))
}

/// A cycle's page.
#[must_use]
pub fn cycle(workflow: &str, cycle: i64) -> String {
    format!("/analytics/{}/cycles/{cycle}", encoded(workflow))
}

/// A model's page, with its versions.
#[must_use]
pub fn model(workflow: &str, model: &str) -> String {
    format!("/analytics/{}/models/{}", encoded(workflow), encoded(model))
}

/// A version's page, with its texts.
#[must_use]
pub fn version(workflow: &str, model: &str, version: i32) -> String {
    format!("{}/versions/{version}", self::model(workflow, model))
}

/// A conflict's page, with its ways out.
#[must_use]
pub fn conflict(workflow: &str, conflict: i64) -> String {
    format!("{}/{conflict}", section(workflow, "conflicts"))
}

/// The page of one run of a task.
#[must_use]
pub fn task(workflow: &str, task: &str, run: &str) -> String {
    let page = format!("/analytics/{}/tasks/{}", encoded(workflow), encoded(task));
    if run.is_empty() { page } else { format!("{page}?run={}", encoded(run)) }
}

/// The page that tells how the prompt behind a model's picture came to be.
#[must_use]
pub fn why(workflow: &str, task: &str, run: &str, model: &str) -> String {
    let page = format!("{}/why", self::task(workflow, task, ""));
    with_query(&page, &query(&[("run", run), ("model", model)]))
}

/// A query of the values that are not empty.
#[must_use]
pub fn query(values: &[(&str, &str)]) -> String {
    let set = values.iter().filter(|(_, value)| !value.is_empty());
    let set: Vec<String> = set.map(|(name, value)| format!("{name}={}", encoded(value))).collect();
    set.join("&")
}

/// Appends to an address that may have a query already.
#[must_use]
pub fn with_query(address: &str, query: &str) -> String {
    match (query.is_empty(), address.contains('?')) {
        (true, _) => address.to_owned(),
        (false, true) => format!("{address}&{query}"),
        (false, false) => format!("{address}?{query}"),
    }
}

/// What a page may link to outside this server: an address of the web, nothing that a browser would
/// run. The texts come from the pipeline.
#[must_use]
pub fn outside(address: &str) -> Option<&str> {
    let lower = address.get(..8)?.to_ascii_lowercase();
    let web = lower.starts_with("https://") || lower.starts_with("http://");
    (web && !address.contains(|letter: char| letter.is_control() || letter.is_whitespace()))
        .then_some(address)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_one_segment_whatever_it_holds() {
        assert_eq!(task("w", "a/b?c#d é", "2"), "/analytics/w/tasks/a%2Fb%3Fc%23d%20%C3%A9?run=2");
        assert_eq!(version("w", "wan-2.5-edit", 3), "/analytics/w/models/wan-2.5-edit/versions/3");
    }

    #[test]
    fn only_the_web_is_linked() {
        assert_eq!(outside("https://cdn/x.png"), Some("https://cdn/x.png"));
        for wrong in ["javascript:alert(1)", "data:text/html,x", "https://a\nb", "x", "file:///etc"]
        {
            assert_eq!(outside(wrong), None, "{wrong}");
        }
    }
}
