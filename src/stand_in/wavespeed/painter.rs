//! Who draws the pictures.

use std::io::Cursor;

use axum::body::Bytes;
use image::{ImageFormat, Rgb, RgbImage};

/// What is to be drawn.
#[derive(Debug, Clone)]
pub struct Order {
    /// The model's path, such as `google/nano-banana/edit`.
    pub endpoint: String,
    /// The prompt.
    pub prompt: String,
    /// The pictures that were sent along, as they were uploaded.
    pub images: Vec<Bytes>,
}

/// Draws pictures. Any `Fn(&Order) -> Result<Bytes, String>` is one.
pub trait Painter: Send + Sync + 'static {
    /// The picture, as PNG.
    ///
    /// # Errors
    /// The words with which the prediction fails.
    fn paint(&self, order: &Order) -> Result<Bytes, String>;
}

impl<F: Fn(&Order) -> Result<Bytes, String> + Send + Sync + 'static> Painter for F {
    fn paint(&self, order: &Order) -> Result<Bytes, String> {
        self(order)
    }
}

/// Draws a plain picture whose colour follows from the prompt.
#[derive(Debug, Clone, Copy, Default)]
pub struct PlainPainter;

impl Painter for PlainPainter {
    fn paint(&self, order: &Order) -> Result<Bytes, String> {
        let sum = order.prompt.bytes().fold([0_u8; 3], |[r, g, b], byte| {
            [r.wrapping_mul(31).wrapping_add(byte), g.wrapping_add(byte), b ^ byte]
        });
        picture(384, 384, |_, _| sum)
    }
}

/// A PNG of that size; each pixel has the red, green and blue that `colour` gives for its column and row.
///
/// # Errors
/// When it cannot be encoded.
pub fn picture(
    width: u32,
    height: u32,
    colour: impl Fn(u32, u32) -> [u8; 3],
) -> Result<Bytes, String> {
    let picture = RgbImage::from_fn(width, height, |column, row| Rgb(colour(column, row)));
    let mut bytes = Cursor::new(Vec::new());
    picture.write_to(&mut bytes, ImageFormat::Png).map_err(|error| error.to_string())?;
    Ok(Bytes::from(bytes.into_inner()))
}
