//! The Models API: every model of the price list, with the ends that are published.

use chrono::{DateTime, NaiveTime, Utc};
use serde_json::{Value, json};

use super::rules::Refusal;
use crate::claude::cost;
use crate::claude::lifecycle::{Stage, published_stage};

/// One model's address, up to its name.
pub(super) const PATH: &str = "/v1/models/";

/// What the API says of a model.
pub(super) fn model(id: &str, now: DateTime<Utc>) -> Result<Value, Refusal> {
    let (lifecycle, end) = match published_stage(id, now.date_naive()) {
        Stage::Active if !cost::is_known_model(id) => {
            return Err(Refusal::new(404, "not_found_error", format!("model: {id}")));
        }
        Stage::Active => ("active", None),
        Stage::Deprecated(end) => ("deprecated", end),
        Stage::Retired(end) => ("retired", end),
    };
    let retires_at = end.map(|end| end.and_time(NaiveTime::MIN).and_utc());
    Ok(json!({
        "type": "model",
        "id": id,
        "display_name": id,
        "lifecycle": lifecycle,
        "retires_at": retires_at,
    }))
}
