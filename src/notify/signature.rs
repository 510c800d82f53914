//! Signatures as the Standard Webhooks specification has them: HMAC-SHA256 over id, time and body.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

use crate::settings::Secret;

/// A secret that is shorter can be guessed.
const BYTES_MIN: usize = 16;

/// A secret that cannot sign. Nothing of it is shown.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadSecret {
    /// What follows `whsec_` is no base64.
    #[error("what follows `whsec_` is not base64")]
    NotBase64,
    /// It is too short.
    #[error("it has fewer than {BYTES_MIN} bytes; `openssl rand -base64 32` makes a good one")]
    TooShort,
}

/// What signs messages.
#[derive(Clone)]
pub struct SigningKey(Vec<u8>);

impl SigningKey {
    /// Reads a secret: `whsec_` and base64, as the specification writes it, or the bytes of any other text.
    ///
    /// # Errors
    /// [`BadSecret`] when it cannot sign.
    pub fn new(secret: &Secret) -> Result<Self, BadSecret> {
        let text = secret.expose();
        let bytes = match text.strip_prefix("whsec_") {
            Some(encoded) => STANDARD.decode(encoded).map_err(|_| BadSecret::NotBase64)?,
            None => text.as_bytes().to_vec(),
        };
        if bytes.len() < BYTES_MIN { Err(BadSecret::TooShort) } else { Ok(Self(bytes)) }
    }

    /// The value of `webhook-signature`. `timestamp` is in unix seconds.
    #[must_use]
    pub fn sign(&self, id: &str, timestamp: i64, body: &[u8]) -> String {
        // HMAC takes keys of any length.
        let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(&self.0) else { return String::new() };
        for part in [id.as_bytes(), b".", timestamp.to_string().as_bytes(), b".", body] {
            mac.update(part);
        }
        format!("v1,{}", STANDARD.encode(mac.finalize().into_bytes()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signature_is_that_of_the_specification() {
        // The example of the specification's reference libraries.
        let secret = Secret::new("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw");
        let signed = SigningKey::new(&secret).unwrap().sign(
            "msg_p5jXN8AQM9LWM0D4loKWxJek",
            1_614_265_330,
            br#"{"test": 2432232314}"#,
        );
        assert_eq!(signed, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
    }

    #[test]
    fn a_secret_that_cannot_sign_is_told_apart_and_not_shown() {
        let told = |secret: &str| SigningKey::new(&Secret::new(secret)).err();
        assert_eq!(told("whsec_not base64"), Some(BadSecret::NotBase64));
        assert_eq!(told("short"), Some(BadSecret::TooShort));
        assert_eq!(told("whsec_c2hvcnQ="), Some(BadSecret::TooShort));
        assert_eq!(told("sixteen bytes or more"), None);
    }
}
