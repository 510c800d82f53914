//! Scores from a file.

use std::fs;
use std::path::Path;

use serde_json::Value;

use super::super::failure::Failure;

/// The scores of a file: one JSON array of them, or a line each: a number, or an object with `score`.
///
/// `only` is `field=value`: objects whose field has another value are passed over.
///
/// # Errors
/// [`Failure`] that names the line and what is wrong with it.
pub fn read(path: &Path, only: Option<&str>) -> Result<Vec<u16>, Failure> {
    let wrong = |what: String| Failure::failed(format!("{}: {what}", path.display()));
    let text = fs::read_to_string(path).map_err(|error| wrong(error.to_string()))?;
    parse(&text, only).map_err(wrong)
}

fn parse(text: &str, only: Option<&str>) -> Result<Vec<u16>, String> {
    let only = only
        .map(|only| {
            only.split_once('=').ok_or_else(|| {
                format!("--only is {only:?}, and must be FIELD=VALUE, as in model=nano-banana")
            })
        })
        .transpose()?;
    if let Ok(Value::Array(all)) = serde_json::from_str(text) {
        let numbered = (1..).zip(&all);
        return numbered.filter_map(|(n, value)| score(value, only, ("element", n))).collect();
    }
    let mut scores = Vec::new();
    for (number, line) in (1..).zip(text.lines()) {
        if line.trim().is_empty() {
            continue;
        }
        let value: Value = serde_json::from_str(line)
            .map_err(|error| format!("line {number} is no JSON: {error}"))?;
        if let Some(found) = score(&value, only, ("line", number)) {
            scores.push(found?);
        }
    }
    Ok(scores)
}

/// `None` for what is passed over.
fn score(
    value: &Value,
    only: Option<(&str, &str)>,
    (what, number): (&str, u32),
) -> Option<Result<u16, String>> {
    if let Some((field, wanted)) = only {
        let found = value.get(field)?;
        let matches = match found {
            Value::String(text) => text == wanted,
            other => {
                let shown = other.to_string();
                shown == wanted
            }
        };
        if !matches {
            return None;
        }
    }
    let found = if value.is_object() { value.get("score").unwrap_or(&Value::Null) } else { value };
    let whole = found.as_u64().or_else(|| {
        // JSON's 8.0 is 8.
        found.as_f64().filter(|it| it.fract() == 0.0 && *it >= 0.0).map(|it| it as u64)
    });
    Some(whole.and_then(|it| u16::try_from(it).ok()).ok_or_else(|| {
        format!("{what} {number} has the score {found}, which is no whole number from 0")
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_objects_and_an_array_are_read() {
        assert_eq!(parse("7\n\n8.0\n", None), Ok(vec![7, 8]));
        assert_eq!(parse("[7, {\"score\": 3}]", None), Ok(vec![7, 3]));
        let lines =
            "{\"model\": \"a\", \"score\": 1}\n{\"model\": \"b\", \"score\": 2}\n{\"score\": 3}\n";
        assert_eq!(parse(lines, Some("model=b")), Ok(vec![2]));
        assert_eq!(parse(lines, None), Ok(vec![1, 2, 3]));
        assert_eq!(parse("", None), Ok(vec![]));
    }

    #[test]
    fn what_is_no_score_is_told_with_its_line() {
        let said = |text: &str| parse(text, None).unwrap_err();
        assert_eq!(said("7\n7.5"), "line 2 has the score 7.5, which is no whole number from 0");
        assert_eq!(said("{}"), "line 1 has the score null, which is no whole number from 0");
        assert_eq!(said("[7, -1]"), "element 2 has the score -1, which is no whole number from 0");
        assert_eq!(said("70000"), "line 1 has the score 70000, which is no whole number from 0");
        assert!(said("seven").starts_with("line 1 is no JSON: "));
        assert!(parse("7", Some("model")).unwrap_err().contains("FIELD=VALUE"));
    }
}
