//! The section `[analysis]`.

use serde::{Deserialize, Serialize};

/// What an analysis is shown.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Analysis {
    /// Tokens that its request may have; a window that needs more is sampled.
    pub prompt_tokens_max: u32,
    /// How many earlier insights that stand it is asked about.
    pub earlier_insights_max: u32,
    /// What failures are sorted by, each as `name: word, word`.
    pub failure_tags: Vec<String>,
}

/// Words of a validator of edited pictures, in English and Greek.
const FAILURE_TAGS: [&str; 10] = [
    "greek text: greek, accent, tonos, diacritic, ελληνικ, τόνο",
    "text: text, letter, spell, word, font, typograph, caption",
    "logo or brand: logo, brand, trademark, label",
    "not done: not applied, not follow, did not, unchanged, ignor, missing, incomplete",
    "too much done: unwanted, unrequested, extra, invented, also changed, added",
    "identity: face, identit, person, likeness",
    "background: background",
    "colour and light: color, colour, hue, light, shadow, tone, contrast, saturat, bright, dark",
    "place and size: position, place, align, size, scale, proportion, layout, crop, perspective",
    "artefacts: artifact, artefact, distort, blur, deform, glitch, quality, pixel",
];

impl Default for Analysis {
    fn default() -> Self {
        Self {
            prompt_tokens_max: 90_000,
            earlier_insights_max: 40,
            failure_tags: FAILURE_TAGS.map(str::to_owned).to_vec(),
        }
    }
}
