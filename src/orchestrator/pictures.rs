//! Pictures: read within bounds, looked at rather than believed, and made small enough for Claude.

#[cfg(test)]
mod tests;

use std::fmt;
use std::io::Cursor;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use image::codecs::jpeg::JpegEncoder;
use image::imageops::FilterType;
use image::{DynamicImage, ImageDecoder as _, ImageFormat, ImageReader, Limits, Rgb, RgbImage};
use reqwest::Url;
use reqwest::header::LOCATION;

use super::service::{Next, Service, ServiceError};
use crate::outbound::{self, Failure, FailureKind, Reach, Reply, exchange, header};
use crate::task_log::Fault;

/// A picture whose form was looked at.
#[derive(Clone, PartialEq, Eq)]
pub struct Picture {
    /// `image/png`, `image/jpeg` or `image/webp`, by its bytes.
    pub media_type: String,
    /// The file, as it was read.
    pub bytes: Bytes,
    /// In pixels.
    pub width: u32,
    /// In pixels.
    pub height: u32,
}

impl fmt::Debug for Picture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "Picture({}, {}×{}, {} bytes)",
            self.media_type,
            self.width,
            self.height,
            self.bytes.len()
        )
    }
}

/// The longest side of a picture that is worked with, in pixels.
pub const SIDE_MAX: u32 = 12_000;
/// The most pixels of a picture that is worked with: 200 MB when it is unpacked.
pub const PIXELS_MAX: u64 = 50_000_000;
/// The longest side that Claude is sent, in pixels: what older models shrink to by themselves.
pub const CLAUDE_SIDE_MAX: u32 = 1568;
/// The largest file that Claude is sent, in bytes: as base64 it stays under the API's 5 MB.
pub const CLAUDE_BYTES_MAX: usize = 3_500_000;

const REDIRECTS_MAX: usize = 3;
const UNPACKED_BYTES_MAX: u64 = 256 * 1024 * 1024;
const NEVER: Next = Next::Never { fault: Fault::Infrastructure };

/// The client for pictures of one service: no key goes with it, for their addresses are signed or public.
#[derive(Debug, Clone)]
pub struct PictureHttp {
    service: Service,
    reach: Reach,
}

impl PictureHttp {
    /// Prepares a client for pictures that this service names; connects to nothing yet. They may be at `base_url`, where
    /// the service is, or at a public address; at a private one where that is allowed.
    ///
    /// # Errors
    /// `picture_bad_settings` when the address is none, or this machine's certificates cannot be read.
    pub fn new(
        service: Service,
        base_url: &str,
        allow_private: bool,
        timeout: Duration,
    ) -> Result<Self, ServiceError> {
        let bad = |words: String| {
            let words = format!("The HTTPS client could not be set up: {words}.");
            ServiceError::new(service, "picture_bad_settings", words, Next::Operator)
        };
        let own = outbound::base_address(base_url)
            .ok_or_else(|| bad("the service's address is no web address".to_owned()))?;
        let connect_timeout = timeout.min(Duration::from_secs(5));
        let reach = Reach::new(own, allow_private, connect_timeout, timeout).map_err(bad)?;
        Ok(Self { service, reach })
    }

    fn error(&self, code: &'static str, words: impl Into<String>, next: Next) -> ServiceError {
        ServiceError::new(self.service, code, words, next)
    }
}

/// Reads a picture of at most `bytes_max` bytes from an address of the web, or out of a `data:` address.
///
/// # Errors
/// `Later` when the address did not answer; `Never` when there is no picture, or none that can be worked with.
pub async fn fetch(
    http: &PictureHttp,
    url: &str,
    bytes_max: usize,
) -> Result<Picture, ServiceError> {
    let bytes = match url.strip_prefix("data:") {
        Some(rest) => unpack_data(http, rest, bytes_max)?,
        None => download(http, url, bytes_max).await?,
    };
    inspect(bytes).map_err(|problem| {
        http.error(
            "picture_unusable",
            format!("The picture cannot be worked with: {problem}."),
            NEVER,
        )
    })
}

/// Follows few redirects, each of which is looked at like the first address: none leads to a private one.
async fn download(http: &PictureHttp, url: &str, bytes_max: usize) -> Result<Bytes, ServiceError> {
    let mut address = allowed(http, Url::parse(url).ok())?;
    for _hop in 0..=REDIRECTS_MAX {
        let client = http.reach.client_for(&address).map_err(|refused| {
            let words = format!(
                "The picture's address is not called: {refused}. MATHESIS_PICTURES_ALLOW_PRIVATE=true allows it."
            );
            http.error("picture_private_address", words, NEVER)
        })?;
        let reply = exchange(client.get(address.clone()), bytes_max)
            .await
            .map_err(|failure| of_failure(http, &failure))?;
        match reply.status {
            200..=299 => return Ok(reply.body),
            301 | 302 | 303 | 307 | 308 => {
                let next = header(&reply.headers, LOCATION.as_str())
                    .and_then(|place| address.join(place).ok());
                address = allowed(http, next)?;
            }
            _ => return Err(of_status(http, &reply)),
        }
    }
    Err(http.error("picture_redirected", "The picture's address leads in circles.", NEVER))
}

/// The one place that every address of a picture passes before it is called.
fn allowed(http: &PictureHttp, address: Option<Url>) -> Result<Url, ServiceError> {
    address.filter(|address| matches!(address.scheme(), "http" | "https")).ok_or_else(|| {
        http.error("picture_bad_address", "The picture's address is none of the web.", NEVER)
    })
}

fn unpack_data(http: &PictureHttp, rest: &str, bytes_max: usize) -> Result<Bytes, ServiceError> {
    let too_large = || {
        let words = format!("The picture is larger than {bytes_max} bytes.");
        http.error("picture_too_large", words, NEVER)
    };
    let (head, text) = rest.split_once(',').unwrap_or_default();
    if text.len() / 4 * 3 > bytes_max.saturating_add(3) {
        return Err(too_large());
    }
    let decoded = head.ends_with(";base64").then(|| STANDARD.decode(text).ok()).flatten();
    let bytes = decoded.ok_or_else(|| {
        http.error("picture_bad_address", "The picture's text is not base64.", NEVER)
    })?;
    if bytes.len() > bytes_max { Err(too_large()) } else { Ok(bytes.into()) }
}

fn of_failure(http: &PictureHttp, failure: &Failure) -> ServiceError {
    let words = &failure.words;
    match failure.kind {
        FailureKind::TooLarge => {
            http.error("picture_too_large", format!("The picture was dropped: {words}."), NEVER)
        }
        FailureKind::NotSent => http.error(
            "picture_bad_address",
            format!("The picture's address is not called: {words}."),
            NEVER,
        ),
        FailureKind::NoConnection | FailureKind::TimedOut | FailureKind::Interrupted => http.error(
            "picture_unreachable",
            format!("The picture could not be read: {words}. It is tried again by itself."),
            Next::Later { after: None },
        ),
    }
}

fn of_status(http: &PictureHttp, reply: &Reply) -> ServiceError {
    let status = reply.status;
    match status {
        408 | 429 | 500.. => http.error(
            "picture_unreachable",
            format!("The picture's address answered {status}. It is tried again by itself."),
            Next::Later { after: None },
        ),
        _ => http.error(
            "picture_gone",
            format!("The picture's address answered {status}: it was taken away, or its signature has ended."),
            NEVER,
        ),
    }
}

/// Looks at the bytes: which form, how large.
///
/// # Errors
/// What is wrong, in words.
pub fn inspect(bytes: Bytes) -> Result<Picture, String> {
    let format = format_of(&bytes)?;
    let reader = ImageReader::with_format(Cursor::new(bytes.as_ref()), format);
    let (width, height) = reader.into_dimensions().map_err(|error| {
        format!("its head cannot be read ({})", outbound::shorten(&error.to_string(), 120))
    })?;
    let pixels = u64::from(width) * u64::from(height);
    if width == 0 || height == 0 {
        return Err("it has no size".to_owned());
    }
    if width > SIDE_MAX || height > SIDE_MAX || pixels > PIXELS_MAX {
        return Err(format!(
            "it is {width}×{height} pixels, and at most {SIDE_MAX} a side and {} million in all are taken",
            PIXELS_MAX / 1_000_000
        ));
    }
    Ok(Picture { media_type: format.to_mime_type().to_owned(), bytes, width, height })
}

fn format_of(bytes: &[u8]) -> Result<ImageFormat, String> {
    match image::guess_format(bytes) {
        Ok(format @ (ImageFormat::Png | ImageFormat::Jpeg | ImageFormat::WebP)) => Ok(format),
        Ok(other) => {
            Err(format!("it is {}, and only PNG, JPEG and WebP are taken", other.to_mime_type()))
        }
        Err(_) => Err("its bytes are none of PNG, JPEG or WebP".to_owned()),
    }
}

/// The picture as Claude is sent it: the same if it is small enough, else shrunk to [`CLAUDE_SIDE_MAX`] and packed anew.
///
/// It works for a while without waiting: call it through `spawn_blocking`.
///
/// # Errors
/// `picture_unusable` when it cannot be unpacked.
pub fn for_claude(picture: &Picture) -> Result<Picture, ServiceError> {
    let small = picture.width.max(picture.height) <= CLAUDE_SIDE_MAX;
    if small && picture.bytes.len() <= CLAUDE_BYTES_MAX {
        return Ok(picture.clone());
    }
    shrink(picture).map_err(|problem| {
        let words = format!("The picture cannot be shown to Claude: {problem}.");
        ServiceError::new(Service::Claude, "picture_unusable", words, NEVER)
    })
}

fn shrink(picture: &Picture) -> Result<Picture, String> {
    let mut image = unpack(picture)?;
    if image.width().max(image.height()) > CLAUDE_SIDE_MAX {
        image = image.resize(CLAUDE_SIDE_MAX, CLAUDE_SIDE_MAX, FilterType::Lanczos3);
    }
    // Letters keep their edges in a PNG; a photograph may be too large for one.
    if picture.media_type != "image/jpeg" {
        let mut packed = Cursor::new(Vec::new());
        image.write_to(&mut packed, ImageFormat::Png).map_err(|error| error.to_string())?;
        if packed.get_ref().len() <= CLAUDE_BYTES_MAX {
            return inspect(packed.into_inner().into());
        }
    }
    let opaque = on_white(&image);
    for quality in [92, 80, 60, 30] {
        let mut packed = Vec::new();
        JpegEncoder::new_with_quality(&mut packed, quality)
            .encode_image(&opaque)
            .map_err(|error| error.to_string())?;
        if packed.len() <= CLAUDE_BYTES_MAX {
            return inspect(packed.into());
        }
    }
    Err("it stays too large however it is packed".to_owned())
}

/// Unpacks within bounds, the right way up: a shrunk picture has lost the note of how the camera was held.
fn unpack(picture: &Picture) -> Result<DynamicImage, String> {
    let format = format_of(&picture.bytes)?;
    let mut reader = ImageReader::with_format(Cursor::new(picture.bytes.as_ref()), format);
    let mut limits = Limits::default();
    limits.max_image_width = Some(SIDE_MAX);
    limits.max_image_height = Some(SIDE_MAX);
    limits.max_alloc = Some(UNPACKED_BYTES_MAX);
    reader.limits(limits);
    let words = |error: image::ImageError| outbound::shorten(&error.to_string(), 120);
    let mut decoder = reader.into_decoder().map_err(words)?;
    let orientation = decoder.orientation().map_err(words)?;
    let mut image = DynamicImage::from_decoder(decoder).map_err(words)?;
    image.apply_orientation(orientation);
    Ok(image)
}

/// JPEG knows no transparency; what shows through is white, as in a browser.
fn on_white(image: &DynamicImage) -> RgbImage {
    if !image.color().has_alpha() {
        return image.to_rgb8();
    }
    let rgba = image.to_rgba8();
    RgbImage::from_fn(rgba.width(), rgba.height(), |x, y| {
        let [red, green, blue, alpha] = rgba.get_pixel(x, y).0;
        let mixed = |part: u8| {
            let sum = u32::from(part) * u32::from(alpha) + 255 * (255 - u32::from(alpha));
            u8::try_from(sum / 255).unwrap_or(u8::MAX)
        };
        Rgb([mixed(red), mixed(green), mixed(blue)])
    })
}

/// What an image model takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PictureLimits {
    /// The shortest that a side may be, in pixels.
    pub side_min: Option<u32>,
    /// The longest that a side may be, in pixels.
    pub side_max: Option<u32>,
    /// How many pictures a request may have.
    pub images_max: Option<u32>,
}

/// Whether an image model takes these pictures, given by their width and height. Nothing is asked for otherwise.
///
/// # Errors
/// `picture_outside_limits`, with words that name the side and the limit.
pub fn check(
    model: &str,
    limits: &PictureLimits,
    sizes: &[(u32, u32)],
) -> Result<(), ServiceError> {
    let refused = |problem: String| {
        let words = format!("{model} does not take this: {problem}. Nothing was asked for.");
        Err(ServiceError::new(Service::WaveSpeed, "picture_outside_limits", words, NEVER))
    };
    if sizes.is_empty() {
        return refused("there is no picture".to_owned());
    }
    if let Some(most) = limits.images_max
        && u32::try_from(sizes.len()).unwrap_or(u32::MAX) > most
    {
        return refused(format!("there are {} pictures, and it takes {most}", sizes.len()));
    }
    for (width, height) in sizes {
        if let Some(least) = limits.side_min.filter(|least| width.min(height) < least) {
            return refused(format!(
                "the picture is {width}×{height} pixels, and each side must have at least {least}"
            ));
        }
        if let Some(most) = limits.side_max.filter(|most| width.max(height) > most) {
            return refused(format!(
                "the picture is {width}×{height} pixels, and no side may have more than {most}"
            ));
        }
    }
    Ok(())
}
