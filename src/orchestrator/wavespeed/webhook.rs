//! The signature of what WaveSpeed sends when a prediction has ended.
//!
//! The body is the bare prediction, without an envelope. The pipeline looks for its predictions by itself and needs no
//! webhook; who wants one checks it here.

use chrono::{DateTime, Utc};
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

use super::wire::Prediction;

/// How far the delivery's time may be from ours, in seconds.
const AGE_MAX_S: u64 = 300;

/// The three headers of a delivery.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SignatureHeaders<'a> {
    /// `webhook-id`
    pub id: &'a str,
    /// `webhook-timestamp`, in unix seconds.
    pub timestamp: &'a str,
    /// `webhook-signature`, such as `v3,6bc9…`.
    pub signature: &'a str,
}

/// Whether a delivery is WaveSpeed's and no older than five minutes.
///
/// The key is the secret without its `whsec_`, as it is written, not decoded. Takes the same time for every signature of
/// the right length.
#[must_use]
pub fn signature_is_valid(
    secret: &str,
    headers: SignatureHeaders<'_>,
    body: &[u8],
    now: DateTime<Utc>,
) -> bool {
    let key = secret.strip_prefix("whsec_").unwrap_or(secret);
    let fresh = headers
        .timestamp
        .parse::<i64>()
        .is_ok_and(|sent_unix_s| now.timestamp().abs_diff(sent_unix_s) <= AGE_MAX_S);
    let signature =
        headers.signature.strip_prefix("v3,").and_then(|signature| hex::decode(signature).ok());
    let (true, false, Some(signature)) = (fresh, key.is_empty(), signature) else {
        return false;
    };
    Hmac::<Sha256>::new_from_slice(key.as_bytes()).is_ok_and(|mut mac| {
        for part in [headers.id.as_bytes(), b".", headers.timestamp.as_bytes(), b".", body] {
            mac.update(part);
        }
        mac.verify_slice(&signature).is_ok()
    })
}

/// Reads the body of a delivery whose signature has been checked.
///
/// # Errors
/// What is wrong with it, in words.
pub fn parse(body: &[u8]) -> Result<Prediction, String> {
    let prediction: Prediction = serde_json::from_slice(body).map_err(|error| error.to_string())?;
    if super::wire::is_id(&prediction.id) { Ok(prediction) } else { Err("it has no id".to_owned()) }
}
