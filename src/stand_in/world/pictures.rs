//! The world's pictures: small PNGs that show a scene, with a band of black and white squares that says what is in it.
//!
//! The squares are pixels like any others, so they survive whatever keeps a picture recognisable: another format,
//! another size. Each is read off its middle.

use axum::body::Bytes;
use image::RgbImage;

use crate::stand_in::wavespeed::picture;

/// Sides of every picture, in pixels; the least that wan-2.5 takes.
const SIDE: u32 = 384;
/// Squares in a row.
const COLUMNS: u32 = 24;
/// The band at the bottom.
const FIRST_ROW: u32 = 20;
const ROWS: u32 = 24;
/// The first byte of every band.
const MARK: u8 = 0xa7;
const BYTES: usize = 12;

/// What a band says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Band {
    /// An original.
    Original {
        /// Which.
        number: u32,
        /// How much harder than usual it is to edit, from 0 (easy) to 4.
        hardship: u8,
    },
    /// An edited picture.
    Edited {
        /// Which original it was made of; none when that one was not drawn here.
        of: Option<u32>,
        /// The model's place in the list of models.
        model: u8,
        /// How good it is, in twentieths of a point.
        twentieths: u8,
        /// What is wrong with it: two bits for each of the model's complaints, whether it shows and how it is worded.
        flaws: u8,
    },
}

impl Band {
    fn bytes(self) -> [u8; BYTES] {
        let (kind, number, rest) = match self {
            Self::Original { number, hardship } => (1, Some(number), [hardship, 0, 0]),
            Self::Edited { of, model, twentieths, flaws } => (2, of, [model, twentieths, flaws]),
        };
        let [a, b, c, d] = number.unwrap_or(0).to_be_bytes();
        let [x, y, z] = rest;
        let mut bytes = [MARK, kind, u8::from(number.is_some()), a, b, c, d, x, y, z, 0, 0];
        bytes[10] = !check(&bytes);
        bytes[11] = check(&bytes);
        bytes
    }

    fn of_bytes(bytes: [u8; BYTES]) -> Option<Self> {
        let [mark, kind, known, a, b, c, d, x, y, z, _, _] = bytes;
        let mut unsealed = bytes;
        (unsealed[10], unsealed[11]) = (0, 0);
        let inverse = !check(&unsealed);
        unsealed[10] = inverse;
        if mark != MARK || bytes[10] != inverse || bytes[11] != check(&unsealed) {
            return None;
        }
        let number = u32::from_be_bytes([a, b, c, d]);
        match kind {
            1 => Some(Self::Original { number, hardship: x }),
            2 => {
                let of = (known == 1).then_some(number);
                Some(Self::Edited { of, model: x, twentieths: y, flaws: z })
            }
            _ => None,
        }
    }
}

/// Differs when any one byte differs.
fn check(bytes: &[u8]) -> u8 {
    bytes.iter().fold(0x5c, |sum: u8, byte| sum.rotate_left(3) ^ byte)
}

/// The original of a task: the number decides how hard it is to edit.
///
/// # Errors
/// When it cannot be encoded.
pub(super) fn original(number: u64) -> Result<Bytes, String> {
    let hardship = u8::try_from(number % 5).unwrap_or(0);
    // Of a number beyond 32 bits the lower ones tell originals apart well enough.
    let number = u32::try_from(number & u64::from(u32::MAX)).unwrap_or(0);
    drawn(Band::Original { number, hardship }, [196, 208, 214])
}

/// Draws a scene of that colour over a band.
///
/// # Errors
/// When it cannot be encoded.
pub(super) fn drawn(band: Band, [red, green, blue]: [u8; 3]) -> Result<Bytes, String> {
    let bytes = band.bytes();
    picture(SIDE, SIDE, |x, y| {
        let (column, row) = (x * COLUMNS / SIDE, y * ROWS / SIDE);
        if row >= FIRST_ROW {
            return if bit(&bytes, (row - FIRST_ROW) * COLUMNS + column) {
                [16; 3]
            } else {
                [240; 3]
            };
        }
        let is_product = (9..15).contains(&column) && (7..18).contains(&row);
        // At most 20 rows of 3 shades, so the fall is below 60.
        let fall = if is_product { 90 } else { u8::try_from(row * 3).unwrap_or(60) };
        [red.saturating_sub(fall), green.saturating_sub(fall), blue.saturating_sub(fall / 2)]
    })
}

fn bit(bytes: &[u8; BYTES], at: u32) -> bool {
    let byte = usize::try_from(at / 8).ok().and_then(|at| bytes.get(at));
    byte.is_some_and(|byte| byte >> (7 - at % 8) & 1 == 1)
}

/// Reads a picture's band; none when it was not drawn here, or is spoilt.
pub(super) fn band(picture: &RgbImage) -> Option<Band> {
    let (width, height) = picture.dimensions();
    if width < COLUMNS || height < ROWS {
        return None;
    }
    let mut bytes = [0_u8; BYTES];
    for (at, byte) in (0_u32..).zip(&mut bytes) {
        for place in 0..8 {
            let square = at * 8 + place;
            let (column, row) = (square % COLUMNS, FIRST_ROW + square / COLUMNS);
            let x = (2 * column + 1) * width / (2 * COLUMNS);
            let y = (2 * row + 1) * height / (2 * ROWS);
            let dark = picture.get_pixel_checked(x, y)?.0.iter().all(|shade| *shade < 128);
            *byte = *byte << 1 | u8::from(dark);
        }
    }
    Band::of_bytes(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use image::ImageFormat;
    use image::imageops::FilterType;
    use proptest::prelude::*;
    use std::io::Cursor;

    fn read(bytes: &[u8]) -> RgbImage {
        image::load_from_memory(bytes).expect("a real picture").to_rgb8()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(12))]
        #[test]
        fn a_band_is_read_as_it_was_drawn(
            number: u32, known: bool, model in 0_u8..2, twentieths: u8, flaws: u8, colour: [u8; 3]
        ) {
            let of = known.then_some(number);
            let edited = Band::Edited { of, model, twentieths, flaws };
            let bytes = drawn(edited, colour).expect("a picture");
            prop_assert_eq!(band(&read(&bytes)), Some(edited));
        }
    }

    #[test]
    fn a_band_survives_another_size_and_another_format() {
        let picture = read(&original(12).expect("a picture"));
        let wanted = Some(Band::Original { number: 12, hardship: 2 });
        let smaller = image::imageops::resize(&picture, 200, 150, FilterType::Triangle);
        assert_eq!(band(&smaller), wanted);
        let mut jpeg = Cursor::new(Vec::new());
        picture.write_to(&mut jpeg, ImageFormat::Jpeg).expect("a JPEG");
        assert_eq!(band(&read(jpeg.get_ref())), wanted);
    }

    #[test]
    fn a_picture_from_elsewhere_has_no_band() {
        assert_eq!(band(&RgbImage::new(384, 384)), None);
        assert_eq!(band(&RgbImage::new(2, 2)), None);
    }

    #[test]
    fn a_picture_is_small() {
        assert!(original(3).expect("a picture").len() < 20_000);
    }
}
