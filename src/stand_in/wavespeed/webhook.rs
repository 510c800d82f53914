//! The webhook that a submit can ask for with `?webhook=`.

use chrono::{DateTime, Utc};
use hmac::{Hmac, KeyInit, Mac};
use serde_json::Value;
use sha2::Sha256;

/// The signature of a delivery, as the header `webhook-signature` carries it. The secret's prefix `whsec_` is no part
/// of the key.
#[must_use]
pub fn signature(secret: &str, id: &str, timestamp: i64, body: &str) -> String {
    let key = secret.strip_prefix("whsec_").unwrap_or(secret);
    let message = format!("{id}.{timestamp}.{body}");
    // HMAC takes keys of any length.
    let Ok(mut hmac) = Hmac::<Sha256>::new_from_slice(key.as_bytes()) else { return String::new() };
    hmac.update(message.as_bytes());
    format!("v3,{}", hex::encode(hmac.finalize().into_bytes()))
}

/// Delivers once. The documentation promises no second attempt.
pub(super) async fn deliver(
    http: reqwest::Client,
    secret: String,
    address: String,
    now: DateTime<Utc>,
    prediction: Value,
) {
    let id = prediction["id"].as_str().unwrap_or_default().to_owned();
    let body = prediction.to_string();
    let timestamp = now.timestamp();
    let sent = http
        .post(&address)
        .header("content-type", "application/json")
        .header("webhook-signature", signature(&secret, &id, timestamp, &body))
        .header("webhook-id", &id)
        .header("webhook-timestamp", timestamp)
        .body(body)
        .send()
        .await;
    if let Err(error) = sent {
        tracing::info!(prediction.id = id, %error, "nobody took WaveSpeed's webhook");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_documented_vector_is_met() {
        let body = r#"{"id":"45b392b22c3b449fa935bd4dc0000001","model":"google/nano-banana/edit","status":"completed","outputs":["https://d1q70pf5vjeyhc.cloudfront.net/predictions/45b392b22c3b449fa935bd4dc0000001/1.png"],"urls":{"get":"https://api.wavespeed.ai/api/v3/predictions/45b392b22c3b449fa935bd4dc0000001/result"},"has_nsfw_contents":[false],"created_at":"2026-11-22T10:00:00.123Z","error":""}"#;
        let signed = signature(
            "whsec_0123456789abcdef0123456789abcdef",
            "45b392b22c3b449fa935bd4dc",
            1_758_798_328,
            body,
        );
        assert_eq!(signed, "v3,6bc9fd2d889f36070660f4edfe76e8e9378f186a2abb698eb3661b35a238e7ba");
    }
}
