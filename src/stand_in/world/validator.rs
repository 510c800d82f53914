//! Claude as the validator: decodes the two pictures that it is shown, and words what it sees.

use serde_json::{Value, json};

use super::asked::{pictures, tagged, user_text};
use super::pictures::{Band, band};
use super::tasks::understood;
use super::truth::{Model, PASS_SCORE, worded};

/// What a validator says of a picture.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Judged {
    /// 0 to 10.
    pub(super) score: u8,
    /// What is wrong with it, the worst first.
    pub(super) issues: Vec<String>,
}

/// The answer in JSON, to a request of the pipeline.
pub(super) fn answer(request: &Value) -> String {
    let product = understood(&tagged(&user_text(request), "request").unwrap_or_default()).product;
    let shown = pictures(request);
    let read = |at: usize| shown.get(at).and_then(Option::as_ref).and_then(band);
    let Judged { score, issues } = judge(read(0), read(1), &product);
    let reasoning = reasoning(score, &issues);
    json!({
        "score": score, "passed": score >= PASS_SCORE, "issues": issues, "reasoning": reasoning,
    })
    .to_string()
}

/// Compares the two.
pub(super) fn judge(original: Option<Band>, edited: Option<Band>, product: &str) -> Judged {
    let worthless = |words: &str| Judged { score: 0, issues: vec![words.to_owned()] };
    let Some(Band::Edited { of, model, twentieths, flaws }) = edited else {
        return worthless("The edited picture shows nothing that can be recognised.");
    };
    let shown = match original {
        Some(Band::Original { number, .. }) => Some(number),
        _ => None,
    };
    if of != shown {
        return worthless("The edited picture was made of another picture than the original.");
    }
    // Ten at most, so the cast loses nothing but the fraction that was rounded away.
    let score = (f64::from(twentieths) / 20.0).round().clamp(0.0, 10.0) as u8;
    let issues =
        if score >= PASS_SCORE { Vec::new() } else { worded(Model::at(model), flaws, product) };
    Judged { score, issues }
}

fn reasoning(score: u8, issues: &[String]) -> String {
    match issues.first() {
        Some(first) => {
            format!("The request is recognisable. What costs most: {first} Scored {score}.")
        }
        None if score >= PASS_SCORE => {
            format!("The request is met and nothing else changed. Scored {score}.")
        }
        None => format!("Acceptable, but not what was asked for in every part. Scored {score}."),
    }
}
