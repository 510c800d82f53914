//! Pictures that are drawn here, served on a real socket, and looked at.

use image::{ExtendedColorType, ImageEncoder as _, Rgba, RgbaImage};
use proptest::prelude::*;

use super::*;
use crate::orchestrator::testing::{self, Canned, file, html, json};

/// A square of noise, which no packing makes small.
fn noise(width: u32, height: u32) -> DynamicImage {
    let mut state = 1_u32;
    DynamicImage::ImageRgb8(RgbImage::from_fn(width, height, |_, _| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        let [a, b, c, _] = state.to_be_bytes();
        Rgb([a, b, c])
    }))
}

fn packed(image: &DynamicImage, format: ImageFormat) -> Bytes {
    let mut bytes = Cursor::new(Vec::new());
    image.write_to(&mut bytes, format).unwrap();
    bytes.into_inner().into()
}

fn png(width: u32, height: u32) -> Bytes {
    packed(&DynamicImage::new_rgb8(width, height), ImageFormat::Png)
}

/// The client for pictures of a service.
fn of_service(base_url: &str, allow_private: bool) -> PictureHttp {
    let timeout = Duration::from_millis(500);
    PictureHttp::new(Service::ClickUp, base_url, allow_private, timeout).unwrap()
}

async fn fetched(answers: Vec<Canned>, bytes_max: usize) -> Result<Picture, ServiceError> {
    let service = testing::Service::answering(answers).await;
    let http = of_service(&service.base_url, false);
    fetch(&http, &format!("{}/a.png?sig=SECRET", service.base_url), bytes_max).await
}

#[tokio::test]
async fn the_form_is_seen_in_the_bytes_and_not_believed() {
    for (format, media_type) in [
        (ImageFormat::Png, "image/png"),
        (ImageFormat::Jpeg, "image/jpeg"),
        (ImageFormat::WebP, "image/webp"),
    ] {
        let bytes = packed(&DynamicImage::new_rgb8(40, 30), format);
        let picture = fetched(vec![file(&bytes)], 1 << 20).await.unwrap();
        assert_eq!(picture.media_type, media_type);
        assert_eq!((picture.width, picture.height), (40, 30));
        assert_eq!(picture.bytes, bytes, "the file stays as it was");
    }
}

#[tokio::test]
async fn what_is_no_picture_that_can_be_worked_with_is_refused() {
    let gif = b"GIF89a\x01\0\x01\0\0\0\0;".to_vec();
    let mut bomb = png(8, 8).to_vec();
    // The head claims 60,000 by 60,000 pixels; its checksum is made right again.
    bomb[16..24].copy_from_slice(&[0, 0, 0xea, 0x60, 0, 0, 0xea, 0x60]);
    let sum = crc32(&bomb[12..29]);
    bomb[29..33].copy_from_slice(&sum.to_be_bytes());
    for (bytes, words) in [
        (b"<svg/>".to_vec(), "none of PNG, JPEG or WebP"),
        (Vec::new(), "none of PNG, JPEG or WebP"),
        (gif, "image/gif"),
        (png(8, 8)[..20].to_vec(), "head cannot be read"),
        (bomb, "60000×60000"),
    ] {
        let error = fetched(vec![file(&bytes)], 1 << 20).await.unwrap_err();
        assert_eq!((error.code, error.next), ("picture_unusable", NEVER));
        assert!(error.words.contains(words), "{error}");
    }
}

/// As PNG's specification defines it.
fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(u32::MAX, |sum, byte| {
        (0..8).fold(sum ^ u32::from(*byte), |sum, _| {
            (sum >> 1) ^ (0xedb8_8320 & (sum & 1).wrapping_neg())
        })
    })
}

#[tokio::test]
async fn each_end_of_a_download_means_what_it_says() {
    let later = Next::Later { after: None };
    for (answer, code, next) in [
        (html(404), "picture_gone", NEVER),
        (html(403), "picture_gone", NEVER),
        (html(503), "picture_unreachable", later),
        (json(429, ""), "picture_unreachable", later),
        (Canned::Drop, "picture_unreachable", later),
        (Canned::Cut, "picture_unreachable", later),
        (Canned::Hang, "picture_unreachable", later),
        (file(&vec![0; 1001]), "picture_too_large", NEVER),
        (json(302, "").with("location", "/a.png"), "picture_redirected", NEVER),
        (json(302, "").with("location", "file:///etc/passwd"), "picture_bad_address", NEVER),
        (json(302, ""), "picture_bad_address", NEVER),
    ] {
        let error = fetched(vec![answer.clone()], 1000).await.unwrap_err();
        assert_eq!((error.code, error.next), (code, next), "{answer:?}");
        assert!(!format!("{error:?}").contains("SECRET"), "{error:?}");
    }
}

#[tokio::test]
async fn a_redirect_is_followed() {
    let moved = json(302, "").with("location", "/elsewhere.png");
    assert_eq!(fetched(vec![moved, file(&png(8, 8))], 1000).await.unwrap().width, 8);
}

#[tokio::test]
async fn a_private_address_is_not_called_unless_that_is_allowed() {
    let inside = testing::Service::answering([file(&png(8, 8))]).await;
    let port = inside.base_url.rsplit(':').next().unwrap();
    let public = of_service("https://api.clickup.com", false);
    for (url, code) in [
        (format!("{}/a.png", inside.base_url), "picture_private_address"),
        (format!("http://2130706433:{port}/a.png"), "picture_private_address"),
        (format!("http://[::ffff:127.0.0.1]:{port}/a.png"), "picture_private_address"),
        ("http://169.254.169.254/latest/meta-data".to_owned(), "picture_private_address"),
        // A name is looked at when it is connected to, so that it cannot be rebound in between.
        (format!("http://localhost:{port}/a.png"), "picture_bad_address"),
    ] {
        let error = fetch(&public, &url, 1000).await.unwrap_err();
        assert_eq!((error.code, error.next), (code, NEVER), "{url}: {error}");
    }
    assert_eq!(inside.calls(), 0, "nothing was sent");
    let allowed = of_service("https://api.clickup.com", true);
    for host in ["127.0.0.1", "localhost"] {
        let url = format!("http://{host}:{port}/a.png");
        assert_eq!(fetch(&allowed, &url, 1000).await.unwrap().width, 8, "{url}");
    }
}

#[tokio::test]
async fn a_redirect_to_a_private_address_is_not_followed() {
    let inside = testing::Service::answering([file(&png(8, 8))]).await;
    let moved = json(302, "").with("location", format!("{}/a.png", inside.base_url));
    let error = fetched(vec![moved], 1000).await.unwrap_err();
    assert_eq!((error.code, error.next), ("picture_private_address", NEVER));
    assert_eq!(inside.calls(), 0, "nothing was sent");
}

#[tokio::test]
async fn a_picture_in_its_address_is_unpacked_within_the_same_bound() {
    let http = of_service("https://api.wavespeed.ai", false);
    let text = STANDARD.encode(png(8, 8));
    let url = format!("data:application/octet-stream;base64,{text}");
    assert_eq!(fetch(&http, &url, 1000).await.unwrap().media_type, "image/png");
    assert_eq!(fetch(&http, &url, 20).await.unwrap_err().code, "picture_too_large");
    for wrong in ["data:image/png,abc", "data:;base64,***", "data:", "ftp://a/b.png", "a.png"] {
        let error = fetch(&http, wrong, 1000).await.unwrap_err();
        assert_eq!(error.code, "picture_bad_address", "{wrong}");
    }
}

#[test]
fn a_small_picture_reaches_claude_byte_for_byte() {
    let picture = inspect(png(1568, 20)).unwrap();
    assert_eq!(for_claude(&picture).unwrap(), picture);
}

#[test]
fn a_long_picture_is_shrunk_in_its_proportions() {
    let shown = for_claude(&inspect(png(3136, 100)).unwrap()).unwrap();
    assert_eq!((shown.width, shown.height, shown.media_type.as_str()), (1568, 50, "image/png"));
    let photograph = packed(&DynamicImage::new_rgb8(100, 3136), ImageFormat::Jpeg);
    let shown = for_claude(&inspect(photograph).unwrap()).unwrap();
    assert_eq!((shown.width, shown.height, shown.media_type.as_str()), (50, 1568, "image/jpeg"));
}

#[test]
fn a_heavy_picture_is_packed_anew() {
    let heavy = inspect(packed(&noise(1200, 1200), ImageFormat::Png)).unwrap();
    assert!(heavy.bytes.len() > CLAUDE_BYTES_MAX);
    let shown = for_claude(&heavy).unwrap();
    assert!(shown.bytes.len() <= CLAUDE_BYTES_MAX);
    assert_eq!((shown.width, shown.media_type.as_str()), (1200, "image/jpeg"));
}

#[test]
fn what_shows_through_is_white() {
    let glass = DynamicImage::ImageRgba8(RgbaImage::from_pixel(1, 1, Rgba([0, 0, 0, 0])));
    assert_eq!(on_white(&glass).get_pixel(0, 0).0, [255, 255, 255]);
    let half = DynamicImage::ImageRgba8(RgbaImage::from_pixel(1, 1, Rgba([255, 0, 0, 128])));
    assert_eq!(on_white(&half).get_pixel(0, 0).0, [255, 127, 127]);
}

#[test]
fn a_shrunk_picture_stands_as_the_camera_was_held() {
    // Orientation 6: the camera was held to the side, so the picture is wider than it is shown.
    let exif = b"II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x06\0\0\0\0\0\0\0".to_vec();
    let mut bytes = Vec::new();
    let mut encoder = JpegEncoder::new(&mut bytes);
    encoder.set_exif_metadata(exif).unwrap();
    let wide = RgbImage::new(3136, 64);
    encoder.write_image(wide.as_raw(), 3136, 64, ExtendedColorType::Rgb8).unwrap();
    let shown = for_claude(&inspect(bytes.into()).unwrap()).unwrap();
    assert_eq!((shown.width, shown.height), (32, 1568));
}

#[test]
fn the_limits_of_a_model_are_named_in_words() {
    let wan = PictureLimits { side_min: Some(384), side_max: Some(5000), images_max: Some(2) };
    let words = |sizes: &[(u32, u32)]| {
        check("wan-2.5-edit", &wan, sizes).map_err(|error| {
            assert_eq!(error.code, "picture_outside_limits");
            error.words
        })
    };
    assert_eq!(words(&[(384, 5000), (600, 600)]), Ok(()));
    insta::assert_snapshot!(words(&[(383, 900)]).unwrap_err(), @"wan-2.5-edit does not take this: the picture is 383×900 pixels, and each side must have at least 384. Nothing was asked for.");
    insta::assert_snapshot!(words(&[(600, 5001)]).unwrap_err(), @"wan-2.5-edit does not take this: the picture is 600×5001 pixels, and no side may have more than 5000. Nothing was asked for.");
    insta::assert_snapshot!(words(&[(600, 600); 3]).unwrap_err(), @"wan-2.5-edit does not take this: there are 3 pictures, and it takes 2. Nothing was asked for.");
    insta::assert_snapshot!(words(&[]).unwrap_err(), @"wan-2.5-edit does not take this: there is no picture. Nothing was asked for.");
    let any = PictureLimits { side_min: None, side_max: None, images_max: None };
    assert_eq!(check("nano-banana", &any, &[(1, 9000)]), Ok(()));
}

proptest! {
    #[test]
    fn no_bytes_make_it_panic(tail: Vec<u8>, head in 0_usize..4) {
        let heads: [&[u8]; 4] = [b"", b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"RIFF\x10\0\0\0WEBPVP8 "];
        if let Ok(picture) = inspect([heads[head], &tail].concat().into()) {
            let _ = for_claude(&picture);
        }
    }
}
