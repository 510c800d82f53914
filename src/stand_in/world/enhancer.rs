//! Claude as the enhancer: writes the prompt that the documents lead to.

use serde_json::{Value, json};

use super::asked::{listed, system_text, tagged, user_text};
use super::tasks::understood;
use super::truth::{Guidance, Trait};

/// How a sentence begins that minds what was wrong with an earlier picture. A prompt has one for each.
pub(super) const MENDS: &str = "Mind above all:";

/// The answer in JSON, to a request of the pipeline.
pub(super) fn answer(request: &Value) -> String {
    let guidance = Guidance::read(&system_text(request));
    let asked = user_text(request);
    let wanted = tagged(&asked, "request").unwrap_or_default();
    let earlier = tagged(&asked, "earlier_prompt").unwrap_or_default();
    let issues = listed(&asked, "issues");
    let rationale = match guidance.said().count() {
        0 => "The documents ask for nothing in particular.".to_owned(),
        count => format!("Follows {count} points of the documents."),
    };
    let prompt = enhance(&wanted, &guidance, &earlier, &issues);
    json!({"enhanced_prompt": prompt, "rationale": rationale}).to_string()
}

/// What is made of a request by the documents. A later prompt minds what was wrong with the earlier ones' pictures.
pub(super) fn enhance(
    request: &str,
    guidance: &Guidance,
    earlier: &str,
    issues: &[String],
) -> String {
    let asked = understood(request);
    let mut prompt = asked.english;
    let mut add = |sentence: &str| {
        prompt.push(' ');
        prompt.push_str(sentence);
    };
    match (&asked.words, guidance.says(Trait::Verbatim), guidance.says(Trait::Translate)) {
        (Some(words), true, _) => {
            add(&format!("Render exactly \"{words}\", letter by letter, accents included."));
        }
        (None, true, _) => {
            add("Leave all Greek text as it is, letter by letter, accents included.")
        }
        (_, false, true) => add("Translate the Greek words into English first."),
        (Some(_), false, false) => add("Write it in Greek."),
        (None, false, false) => {}
    }
    if guidance.says(Trait::OneChange) {
        add("This is the only change.");
    } else {
        add("Also improve the composition, the colours and the overall look.");
    }
    if guidance.says(Trait::Preserve) {
        let product = asked.product;
        add(&format!("Keep the {product} with its logo, its shape and all other text unchanged."));
    }
    if guidance.says(Trait::Cinematic) {
        add("Cinematic golden light with soft volumetric rays.");
    }
    if guidance.says(Trait::Surfaces) {
        add("Rich tactile texture on every surface.");
    }
    if !earlier.is_empty() {
        let before = earlier.matches(MENDS).count();
        let mended =
            issues.first().map_or("the request is to be met in every part.", String::as_str);
        for _ in 0..=before {
            add(&format!("{MENDS} {mended}"));
        }
    }
    prompt
}

/// What a prompt asks for, as an image model takes it.
pub(super) fn followed(prompt: &str) -> Guidance {
    Guidance::of(|wanted| {
        prompt.contains(match wanted {
            Trait::Preserve => "its shape and all other text unchanged",
            Trait::Verbatim => "letter by letter, accents included",
            Trait::Translate => "Translate the Greek words",
            Trait::OneChange => "This is the only change",
            Trait::Cinematic => "Cinematic golden light",
            Trait::Surfaces => "Rich tactile texture",
        })
    })
}
