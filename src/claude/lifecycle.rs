//! How long a Claude model lives: what the Models API says of it, and the published dates for when it cannot be asked.

use chrono::{DateTime, NaiveDate, Utc};
use serde::Deserialize;

/// What `GET /v1/models/{id}` says of a model.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct ModelInfo {
    /// Its name, in full: a short name is answered with the dated one.
    pub id: String,
    /// `active`, `deprecated` or `retired`; others may come.
    #[serde(default)]
    pub lifecycle: Option<String>,
    /// When its end comes, where one is set.
    #[serde(default)]
    pub retires_at: Option<DateTime<Utc>>,
}

/// Where a model stands in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// Served, and no end is set.
    Active,
    /// Served until this day, or until a day that nobody has named.
    Deprecated(Option<NaiveDate>),
    /// Calls to it fail, since this day where it is known.
    Retired(Option<NaiveDate>),
}

impl ModelInfo {
    /// Where the model stands today, by what the API says of it.
    #[must_use]
    pub fn stage(&self, today: NaiveDate) -> Stage {
        let end = self.retires_at.map(|at| at.date_naive());
        match self.lifecycle.as_deref() {
            Some("retired") => Stage::Retired(end),
            _ if end.is_some_and(|end| end <= today) => Stage::Retired(end),
            Some("deprecated") => Stage::Deprecated(end),
            _ if end.is_some() => Stage::Deprecated(end),
            // A word that is not known yet is no reason to frighten anybody.
            _ => Stage::Active,
        }
    }
}

/// The day on which [`published_stage`]'s dates were collected.
pub const PUBLISHED_AS_OF: &str = "2026-11-22";

/// Where a model stands today by the published dates; [`Stage::Active`] for one that is not among them.
#[must_use]
pub fn published_stage(model: &str, today: NaiveDate) -> Stage {
    let found = RETIREMENTS.iter().find(|(known, ..)| is_form_of(model, known));
    match found.and_then(|(_, year, month, day)| NaiveDate::from_ymd_opt(*year, *month, *day)) {
        None => Stage::Active,
        Some(end) if end <= today => Stage::Retired(Some(end)),
        Some(end) => Stage::Deprecated(Some(end)),
    }
}

/// The newest model of the same line, which is what to move to; for a name that is mistyped, of the line it looks like.
#[must_use]
pub fn successor(model: &str) -> &'static str {
    const NEWEST: [(&str, &str); 6] = [
        ("haiku", "claude-haiku-5-5"),
        ("instant", "claude-haiku-5-5"),
        ("sonnet", "claude-sonnet-5-5"),
        ("opus", "claude-opus-5-5"),
        ("fable", "claude-fable-5-2"),
        ("mythos", "claude-fable-5-2"),
    ];
    let of_line = NEWEST.iter().find(|(line, _)| model.contains(line));
    let like = |name: &str| strsim::jaro_winkler(model, name);
    let nearest = || NEWEST.iter().max_by(|(_, one), (_, other)| like(one).total_cmp(&like(other)));
    of_line.or_else(nearest).map_or("claude-opus-5-5", |(_, newest)| newest)
}

/// The ends that Anthropic has published, by the model's name without its date.
const RETIREMENTS: &[(&str, i32, u32, u32)] = &[
    ("claude-1", 2024, 11, 6),
    ("claude-1.3", 2024, 11, 6),
    ("claude-1.3-100k", 2024, 11, 6),
    ("claude-instant-1.1", 2024, 11, 6),
    ("claude-instant-1.1-100k", 2024, 11, 6),
    ("claude-instant-1.2", 2024, 11, 6),
    ("claude-2.0", 2025, 7, 21),
    ("claude-2.1", 2025, 7, 21),
    ("claude-3-sonnet", 2025, 7, 21),
    ("claude-3-opus", 2026, 1, 5),
    ("claude-3-5-haiku", 2026, 2, 19),
    ("claude-3-7-sonnet", 2026, 2, 19),
    ("claude-opus-4", 2026, 6, 15),
    ("claude-opus-4-0", 2026, 6, 15),
    ("claude-sonnet-4", 2026, 6, 15),
    ("claude-sonnet-4-0", 2026, 6, 15),
    ("claude-mythos-preview", 2026, 6, 30),
    ("claude-opus-4-1", 2026, 8, 5),
    ("claude-sonnet-4-5", 2026, 11, 30),
];

/// The name itself, with a date behind it, or with `-latest`.
fn is_form_of(model: &str, known: &str) -> bool {
    match model.strip_prefix(known) {
        Some("" | "-latest") => true,
        Some(rest) => rest.strip_prefix('-').is_some_and(|date| {
            date.len() == 8 && date.bytes().all(|digit| digit.is_ascii_digit())
        }),
        None => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn day(text: &str) -> NaiveDate {
        text.parse().unwrap()
    }

    #[test]
    fn a_published_end_is_told_before_it_and_after_it() {
        let end = Some(day("2026-11-30"));
        for form in ["claude-sonnet-4-5", "claude-sonnet-4-5-20250929", "claude-sonnet-4-5-latest"]
        {
            assert_eq!(published_stage(form, day("2026-11-29")), Stage::Deprecated(end));
            assert_eq!(published_stage(form, day("2026-11-30")), Stage::Retired(end));
        }
        for form in ["claude-opus-4-1", "claude-opus-4-1-20250805"] {
            let end = Stage::Retired(Some(day("2026-08-05")));
            assert_eq!(
                published_stage(form, day("2026-11-30")),
                end,
                "and not as a form of opus-4"
            );
        }
        assert_eq!(published_stage("claude-opus-5-5", day("2026-11-30")), Stage::Active);
        assert_eq!(published_stage("claude-sonnet-4-6", day("2026-11-30")), Stage::Active);
    }

    #[test]
    fn the_api_is_believed_about_a_models_life() {
        let stage =
            |json: &str| serde_json::from_str::<ModelInfo>(json).unwrap().stage(day("2026-11-30"));
        let model = |rest: &str| stage(&format!(r#"{{"type":"model","id":"claude-x"{rest}}}"#));
        assert_eq!(model(""), Stage::Active);
        assert_eq!(model(r#","lifecycle":"active","retires_at":null"#), Stage::Active);
        assert_eq!(model(r#","lifecycle":"rare""#), Stage::Active);
        assert_eq!(model(r#","lifecycle":"deprecated""#), Stage::Deprecated(None));
        assert_eq!(model(r#","lifecycle":"retired""#), Stage::Retired(None));
        let ends = |at: &str| model(&format!(r#","lifecycle":"deprecated","retires_at":"{at}""#));
        assert_eq!(ends("2027-01-02T00:00:00Z"), Stage::Deprecated(Some(day("2027-01-02"))));
        assert_eq!(ends("2026-11-30T00:00:00Z"), Stage::Retired(Some(day("2026-11-30"))));
    }

    #[test]
    fn whoever_has_to_move_is_told_a_model_that_has_a_price_and_no_end() {
        for (model, ..) in RETIREMENTS {
            let next = successor(model);
            assert!(super::super::cost::is_known_model(next), "{next}");
            assert_eq!(published_stage(next, day("2026-11-30")), Stage::Active);
        }
        assert_eq!(successor("claude-3-5-haiku-latest"), "claude-haiku-5-5");
        assert_eq!(successor("claude-sonet-5-5"), "claude-sonnet-5-5");
    }
}
