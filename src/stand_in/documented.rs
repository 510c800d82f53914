//! The errors that the documentation of the three services names, as they go over the wire.
//!
//! Of WaveSpeed's and some of ClickUp's bodies only the form and the status are documented; their words and ClickUp's
//! rarer codes are a guess. No caller may go by them.

use serde::Deserialize;

use crate::orchestrator::service::Service;

/// An error by its name. Scripts write it in snake case: `claude_overloaded`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Documented {
    /// Claude, 429. Too many requests, with `retry-after`.
    ClaudeRateLimited,
    /// Claude, 429. Too many requests, without `retry-after`.
    ClaudeRateLimitedWithoutRetryAfter,
    /// Claude, 429. Traffic that rose too fast, with `retry-after`.
    ClaudeRampLimit,
    /// Claude, 429. The month's money is spent: no `retry-after`, and no use in trying.
    ClaudeSpendLimit,
    /// Claude, 529. Overloaded.
    ClaudeOverloaded,
    /// Claude, 400. A picture with too many pixels.
    ClaudeImageDimensions,
    /// Claude, 400. A picture with too many bytes.
    ClaudeImageBytes,
    /// Claude, 400. No credit left.
    ClaudeCreditTooLow,
    /// Claude, 400. A schema that is too large.
    ClaudeSchemaTooLarge,
    /// Claude, 401. A wrong key.
    ClaudeInvalidKey,
    /// Claude, 402. A problem with the bill.
    ClaudeBilling,
    /// Claude, 403. A key without permission.
    ClaudePermission,
    /// Claude, 404. A model that is gone or was never there.
    ClaudeUnknownModel,
    /// Claude, 409. A conflict.
    ClaudeConflict,
    /// Claude, 413. A request over 32 MB.
    ClaudeTooLarge,
    /// Claude, 500. An error of its own.
    ClaudeApiError,
    /// Claude, 503. Not available.
    ClaudeUnavailable,
    /// Claude, 504. It took too long.
    ClaudeTimeout,
    /// WaveSpeed, 400. A field that is missing or wrong.
    WavespeedBadField,
    /// WaveSpeed, 401. A wrong key, or one made before the first top-up.
    WavespeedInvalidKey,
    /// WaveSpeed, 402. No balance, or too low a tier.
    WavespeedBalance,
    /// WaveSpeed, 403. Refused by its policy.
    WavespeedPolicy,
    /// WaveSpeed, 404. A model or a prediction that is not there.
    WavespeedUnknownModel,
    /// WaveSpeed, 413. A body that is too large.
    WavespeedTooLarge,
    /// WaveSpeed, 429. Too many pictures a minute, or at a time.
    WavespeedTooManyRequests,
    /// WaveSpeed, 500. An error of its own.
    WavespeedServerError,
    /// WaveSpeed, 503. Not available.
    WavespeedUnavailable,
    /// ClickUp, 401. A wrong token.
    ClickupTokenInvalid,
    /// ClickUp, 401. A token that does not reach this workspace.
    ClickupTeamNotAuthorized,
    /// ClickUp, 400. A body that lacks something.
    ClickupBadRequest,
    /// ClickUp, 404. A task that is not there, or no longer.
    ClickupTaskNotFound,
    /// ClickUp, 400. A status that the list does not have.
    ClickupStatusNotFound,
    /// ClickUp, 400. No room left for attachments.
    ClickupStorageFull,
    /// ClickUp, 429. Too many requests a minute; `X-RateLimit-Reset` says until when.
    ClickupRateLimited,
    /// ClickUp, 500. An error of its own.
    ClickupServerError,
    /// ClickUp, 503. Not available.
    ClickupUnavailable,
}

impl Documented {
    /// All of them, in the order of the table in `docs/stand-ins.md`.
    pub fn all() -> impl Iterator<Item = Self> {
        TABLE.iter().map(|(documented, ..)| *documented)
    }

    /// Whose it is.
    #[must_use]
    pub const fn service(self) -> Service {
        // The variants stand in the order of the services.
        if (self as u8) < (Self::WavespeedBadField as u8) {
            Service::Claude
        } else if (self as u8) < (Self::ClickupTokenInvalid as u8) {
            Service::WaveSpeed
        } else {
            Service::ClickUp
        }
    }

    /// The HTTP status.
    #[must_use]
    pub fn status(self) -> u16 {
        self.entry().0
    }

    /// The body as it is sent; Claude's without its envelope, which has the request's id in it.
    #[must_use]
    pub fn body(self) -> &'static str {
        self.entry().1
    }

    /// A header of its own, beside those that the service always sends.
    #[must_use]
    pub const fn header(self) -> Option<(&'static str, &'static str)> {
        match self {
            Self::ClaudeRateLimited | Self::ClaudeRampLimit => Some(("retry-after", "1")),
            Self::ClaudeImageDimensions
            | Self::ClaudeImageBytes
            | Self::ClaudeCreditTooLow
            | Self::ClaudeSchemaTooLarge => Some(("x-should-retry", "false")),
            _ => None,
        }
    }

    fn entry(self) -> (u16, &'static str) {
        let found = TABLE.iter().find(|(documented, ..)| *documented == self);
        // Every variant has its line; a test says so.
        found.map_or((500, "{}"), |(_, status, body)| (*status, body))
    }
}

const TABLE: [(Documented, u16, &str); 36] = [
    (
        Documented::ClaudeRateLimited,
        429,
        r#"{"type": "rate_limit_error", "message": "This request would exceed your organization's rate limit of 50 requests per minute."}"#,
    ),
    (
        Documented::ClaudeRateLimitedWithoutRetryAfter,
        429,
        r#"{"type": "rate_limit_error", "message": "This request would exceed your organization's rate limit of 50 requests per minute."}"#,
    ),
    (
        Documented::ClaudeRampLimit,
        429,
        r#"{"type": "rate_limit_error", "message": "Traffic rose too fast.", "details": {"error_code": "ramp_limit_exceeded"}}"#,
    ),
    (
        Documented::ClaudeSpendLimit,
        429,
        r#"{"type": "rate_limit_error", "message": "Monthly usage threshold reached.", "details": {"error_code": "enforced_spend_limit_reached"}}"#,
    ),
    (Documented::ClaudeOverloaded, 529, r#"{"type": "overloaded_error", "message": "Overloaded"}"#),
    (
        Documented::ClaudeImageDimensions,
        400,
        r#"{"type": "invalid_request_error", "message": "messages.0.content.1: image too large", "details": {"error_code": "image_dimensions_too_large", "max_side_length_pixels": 8000, "paths": ["messages.0.content.1"]}}"#,
    ),
    (
        Documented::ClaudeImageBytes,
        400,
        r#"{"type": "invalid_request_error", "message": "messages.0.content.1.image.source.base64: image exceeds 5 MB maximum: 6507076 bytes > 5242880 bytes"}"#,
    ),
    (
        Documented::ClaudeCreditTooLow,
        400,
        r#"{"type": "invalid_request_error", "message": "Your credit balance is too low to access the Anthropic API. Please go to Plans & Billing to upgrade or purchase credits."}"#,
    ),
    (
        Documented::ClaudeSchemaTooLarge,
        400,
        r#"{"type": "invalid_request_error", "message": "output_config.format.schema: Invalid schema: The compiled grammar is too large, which would cause performance issues. Simplify your tool schemas or reduce the number of strict tools."}"#,
    ),
    (
        Documented::ClaudeInvalidKey,
        401,
        r#"{"type": "authentication_error", "message": "invalid x-api-key"}"#,
    ),
    (
        Documented::ClaudeBilling,
        402,
        r#"{"type": "billing_error", "message": "There is a problem with your billing information."}"#,
    ),
    (
        Documented::ClaudePermission,
        403,
        r#"{"type": "permission_error", "message": "Your API key does not have permission to use the specified resource."}"#,
    ),
    (
        Documented::ClaudeUnknownModel,
        404,
        r#"{"type": "not_found_error", "message": "model: claude-opus-3"}"#,
    ),
    (Documented::ClaudeConflict, 409, r#"{"type": "conflict_error", "message": "Conflict"}"#),
    (
        Documented::ClaudeTooLarge,
        413,
        r#"{"type": "request_too_large", "message": "Request exceeds the maximum size"}"#,
    ),
    (
        Documented::ClaudeApiError,
        500,
        r#"{"type": "api_error", "message": "Internal server error"}"#,
    ),
    (
        Documented::ClaudeUnavailable,
        503,
        r#"{"type": "api_error", "message": "Service unavailable"}"#,
    ),
    (
        Documented::ClaudeTimeout,
        504,
        r#"{"type": "timeout_error", "message": "Request timed out"}"#,
    ),
    (
        Documented::WavespeedBadField,
        400,
        r#"{"code": 400, "message": "property \"images\" is missing"}"#,
    ),
    (Documented::WavespeedInvalidKey, 401, r#"{"code": 401, "message": "invalid authentication"}"#),
    (Documented::WavespeedBalance, 402, r#"{"code": 402, "message": "insufficient balance"}"#),
    (Documented::WavespeedPolicy, 403, r#"{"code": 403, "message": "content policy violation"}"#),
    (Documented::WavespeedUnknownModel, 404, r#"{"code": 404, "message": "not found"}"#),
    (Documented::WavespeedTooLarge, 413, r#"{"code": 413, "message": "Payload Too Large"}"#),
    (Documented::WavespeedTooManyRequests, 429, r#"{"code": 429, "message": "Too Many Requests"}"#),
    (Documented::WavespeedServerError, 500, r#"{"code": 500, "message": "Internal Server Error"}"#),
    (Documented::WavespeedUnavailable, 503, r#"{"code": 503, "message": "Service Unavailable"}"#),
    (Documented::ClickupTokenInvalid, 401, r#"{"err": "Token invalid", "ECODE": "OAUTH_025"}"#),
    (
        Documented::ClickupTeamNotAuthorized,
        401,
        r#"{"err": "Team not authorized", "ECODE": "OAUTH_023"}"#,
    ),
    (Documented::ClickupBadRequest, 400, r#"{"err": "Invalid request", "ECODE": "INPUT_001"}"#),
    (
        Documented::ClickupTaskNotFound,
        404,
        r#"{"err": "Task not found, deleted", "ECODE": "ITEM_013"}"#,
    ),
    (
        Documented::ClickupStatusNotFound,
        400,
        r#"{"err": "Status not found", "ECODE": "CRTSK_001"}"#,
    ),
    (
        Documented::ClickupStorageFull,
        400,
        r#"{"err": "Storage limit reached", "ECODE": "GBUSED_005"}"#,
    ),
    (Documented::ClickupRateLimited, 429, r#"{"err": "Rate limit reached", "ECODE": "APP_002"}"#),
    (
        Documented::ClickupServerError,
        500,
        r#"{"err": "Internal server error", "ECODE": "INTERNAL_001"}"#,
    ),
    (
        Documented::ClickupUnavailable,
        503,
        r#"{"err": "Service unavailable", "ECODE": "INTERNAL_002"}"#,
    ),
];

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;

    #[test]
    fn every_error_has_its_line_in_the_order_of_the_names() {
        for (documented, at) in Documented::all().zip(0_u8..) {
            assert_eq!(documented as u8, at, "{documented:?}");
            let _is_json: Value = serde_json::from_str(documented.body()).expect("JSON");
        }
        assert_eq!(Documented::all().last(), Some(Documented::ClickupUnavailable));
    }

    #[test]
    fn the_fields_of_the_bodies_are_those_of_the_service() {
        for documented in Documented::all() {
            let body: Value = serde_json::from_str(documented.body()).expect("JSON");
            let field = match documented.service() {
                Service::Claude => "type",
                Service::WaveSpeed => "code",
                Service::ClickUp => "ECODE",
            };
            assert!(!body[field].is_null(), "{documented:?} has no {field}");
        }
    }
}
