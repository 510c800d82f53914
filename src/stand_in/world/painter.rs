//! WaveSpeed's part: draws what a prompt leads to.

use axum::body::Bytes;

use super::enhancer::{MENDS, followed};
use super::pictures::{Band, band, drawn};
use super::tasks::kind_of;
use super::truth::{Circumstances, Model, Trait, outcome};

/// An original from elsewhere is neither easy nor hard.
const USUAL_HARDSHIP: u8 = 2;

/// Draws the picture.
///
/// # Errors
/// The words with which the prediction fails: the original cannot be read, or the picture cannot be encoded.
pub(super) fn paint(seed: u64, order: &super::Order) -> Result<Bytes, String> {
    let original = order.images.first().ok_or("there is no input image")?;
    let original = image::load_from_memory(original)
        .map_err(|_| "an input image could not be read".to_owned())?
        .to_rgb8();
    let (of, hardship) = match band(&original) {
        Some(Band::Original { number, hardship }) => (Some(number), hardship),
        _ => (None, USUAL_HARDSHIP),
    };
    let model = Model::of_endpoint(&order.endpoint);
    let followed = followed(&order.prompt);
    let iteration = order.prompt.matches(MENDS).count().saturating_add(1);
    let outcome = outcome(&Circumstances {
        seed,
        number: u64::from(of.unwrap_or(0)),
        hardship,
        kind: kind_of(&order.prompt),
        model,
        iteration: u32::try_from(iteration).unwrap_or(u32::MAX),
        guidance: &followed,
    });
    // In range by the clamp, so the cast loses nothing but the fraction that was rounded away.
    let twentieths = (outcome.quality * 20.0).round().clamp(0.0, 255.0) as u8;
    let colour = if followed.says(Trait::Cinematic) { [246, 190, 120] } else { [168, 200, 228] };
    drawn(Band::Edited { of, model: model as u8, twentieths, flaws: outcome.flaws }, colour)
}
