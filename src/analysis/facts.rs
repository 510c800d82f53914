//! Figures of a window per model and version, from one attempt after another.
//!
//! What relates a score to something else (length, Greek, failure tags) is counted over first iterations only: a
//! later one exists because the first failed, and had the validator's feedback.

use std::collections::BTreeMap;

use super::{Tags, greek};
use crate::workflow::context::{Band, FirstIterations, ModelFacts, TagFact};

/// With fewer attempts than this, no relation between a score and something else is told: it would be chance.
pub const RELATED_ATTEMPTS_MIN: usize = 6;

/// One attempt of a window.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Attempt {
    /// The model's name.
    pub model: String,
    /// The prompt version; 0 when none was named.
    pub version: i32,
    /// The iteration, from 1.
    pub iteration: i32,
    /// The validator's score.
    pub score: Option<i32>,
    /// Whether the validator let it pass.
    pub passed: Option<bool>,
    /// Whether its result was chosen.
    pub selected: bool,
    /// What the person asked for.
    pub original_prompt: Option<String>,
    /// What the model was asked.
    pub enhanced_prompt: Option<String>,
    /// What the validator found wrong.
    pub issues: Vec<String>,
    /// Whose fault its error was, if it ended in one: `prompt` or `infrastructure`.
    pub fault: Option<String>,
}

/// Figures in the making. Holds numbers only, so a window of any size fits into memory.
#[derive(Debug)]
pub struct Facts<'t> {
    tags: &'t Tags,
    models: BTreeMap<(String, i32), Tally>,
}

#[derive(Debug, Default)]
struct Tally {
    attempts: u32,
    wins: u32,
    all: Scores,
    first: Scores,
    first_attempts: u32,
    later_attempts: u32,
    later: Scores,
    errors_of_prompt: u32,
    errors_of_infrastructure: u32,
    lengths_passed: Mean,
    lengths_failed: Mean,
    requests: u32,
    requests_mostly_greek: u32,
    scored_first: Vec<Scored>,
    untagged: u32,
}

/// A first iteration with its score.
#[derive(Debug)]
struct Scored {
    score: i32,
    passed: bool,
    length: Option<u32>,
    greek_request: Option<f64>,
    greek_prompt: Option<f64>,
    tags: Vec<bool>,
}

impl<'t> Facts<'t> {
    /// No figures yet; failures are sorted by these tags.
    #[must_use]
    pub fn new(tags: &'t Tags) -> Self {
        Self { tags, models: BTreeMap::new() }
    }

    /// Takes one attempt in.
    pub fn add(&mut self, attempt: &Attempt) {
        let tally = self.models.entry((attempt.model.clone(), attempt.version)).or_default();
        tally.add(attempt, self.tags);
    }

    /// The figures, by model and version.
    #[must_use]
    pub fn finish(self) -> Vec<ModelFacts> {
        let tags = self.tags;
        self.models
            .into_iter()
            .map(|((model, version), tally)| tally.finish(model, version, tags))
            .collect()
    }
}

impl Tally {
    fn add(&mut self, attempt: &Attempt, tags: &Tags) {
        let is_first = attempt.iteration <= 1;
        let length = attempt.enhanced_prompt.as_deref().map(chars);
        let greek_request = attempt.original_prompt.as_deref().and_then(greek::share);
        self.attempts += 1;
        self.wins += u32::from(attempt.selected);
        if is_first {
            self.first_attempts += 1;
        } else {
            self.later_attempts += 1;
        }
        match attempt.fault.as_deref() {
            Some("prompt") => self.errors_of_prompt += 1,
            Some(_) => self.errors_of_infrastructure += 1,
            None => {}
        }
        if attempt.original_prompt.is_some() {
            self.requests += 1;
            self.requests_mostly_greek += u32::from(greek_request > Some(0.5));
        }
        match (attempt.passed, length) {
            (Some(true), Some(length)) => self.lengths_passed.add(length),
            (Some(false), Some(length)) => self.lengths_failed.add(length),
            _ => {}
        }
        let Some(score) = attempt.score else { return };
        let passed = attempt.passed == Some(true);
        self.all.add(score, passed);
        if !is_first {
            return self.later.add(score, passed);
        }
        self.first.add(score, passed);
        let shown = tags.shown_by(&attempt.issues);
        self.untagged += u32::from(attempt.passed == Some(false) && !shown.contains(&true));
        self.scored_first.push(Scored {
            score,
            passed,
            length,
            greek_request,
            greek_prompt: attempt.enhanced_prompt.as_deref().and_then(greek::share),
            tags: shown,
        });
    }

    fn finish(self, model: String, version: i32, tags: &Tags) -> ModelFacts {
        let scored = &self.scored_first;
        ModelFacts {
            model,
            version,
            attempts: self.attempts,
            scored: self.all.count,
            mean: self.all.mean(),
            pass_rate: self.all.pass_rate(),
            wins: self.wins,
            mean_prompt_length_passed: self.lengths_passed.rounded(),
            mean_prompt_length_failed: self.lengths_failed.rounded(),
            greek_share: (self.requests > 0)
                .then(|| percent(self.requests_mostly_greek, self.requests)),
            first: FirstIterations {
                attempts: self.first_attempts,
                scored: self.first.count,
                mean: self.first.mean(),
                spread: self.first.spread(),
                pass_rate: self.first.pass_rate(),
            },
            later_attempts: self.later_attempts,
            later_mean: self.later.mean(),
            errors_of_prompt: self.errors_of_prompt,
            errors_of_infrastructure: self.errors_of_infrastructure,
            length_bands: length_bands(scored),
            length_correlation: length_correlation(scored),
            greek_request_bands: greek_bands(scored, |one| one.greek_request),
            greek_prompt_bands: greek_bands(scored, |one| one.greek_prompt),
            tags: tag_facts(scored, tags),
            untagged: self.untagged,
        }
    }
}

/// Three bands of about equally many attempts; attempts of one length are in one band.
fn length_bands(scored: &[Scored]) -> Vec<Band> {
    let mut lengths: Vec<u32> = scored.iter().filter_map(|one| one.length).collect();
    if lengths.len() < RELATED_ATTEMPTS_MIN {
        return Vec::new();
    }
    lengths.sort_unstable();
    let at = |place: usize| lengths.get(place.saturating_sub(1)).copied().unwrap_or_default();
    let (low, high) = (at(lengths.len() / 3), at(2 * lengths.len() / 3));
    [
        (format!("up to {low} characters"), 0, low),
        (format!("{} to {high} characters", low.saturating_add(1)), low.saturating_add(1), high),
        (format!("more than {high} characters"), high.saturating_add(1), u32::MAX),
    ]
    .into_iter()
    .filter_map(|(label, from, to)| {
        let within = |one: &&Scored| one.length.is_some_and(|length| (from..=to).contains(&length));
        band(label, scored.iter().filter(within))
    })
    .collect()
}

fn greek_bands(scored: &[Scored], share_of: impl Fn(&Scored) -> Option<f64>) -> Vec<Band> {
    type Within = fn(f64) -> bool;
    let bands: [(&str, Within); 3] = [
        ("no Greek letter", |share| share == 0.0),
        ("some Greek, up to half of the letters", |share| share > 0.0 && share <= 0.5),
        ("mostly Greek", |share| share > 0.5),
    ];
    bands
        .into_iter()
        .filter_map(|(label, within)| {
            band(label.to_owned(), scored.iter().filter(|one| share_of(one).is_some_and(within)))
        })
        .collect()
}

fn tag_facts(scored: &[Scored], tags: &Tags) -> Vec<TagFact> {
    let mut facts: Vec<TagFact> = tags
        .names()
        .enumerate()
        .filter_map(|(place, name)| {
            let shows = |one: &Scored| one.tags.get(place) == Some(&true);
            let with = tally(scored.iter().filter(|one| shows(one)));
            let without = tally(scored.iter().filter(|one| !shows(one)));
            (with.count > 0).then(|| TagFact {
                tag: name.to_owned(),
                attempts: with.count,
                share: percent(with.count, with.count + without.count),
                mean_with: with.mean().unwrap_or_default(),
                mean_without: without.mean(),
            })
        })
        .collect();
    facts.sort_by_key(|fact| std::cmp::Reverse(fact.attempts));
    facts
}

fn tally<'s>(scored: impl Iterator<Item = &'s Scored>) -> Scores {
    let mut scores = Scores::default();
    scored.for_each(|one| scores.add(one.score, one.passed));
    scores
}

fn band<'s>(label: String, scored: impl Iterator<Item = &'s Scored>) -> Option<Band> {
    let scores = tally(scored);
    let (mean, pass_rate) = (scores.mean()?, scores.pass_rate()?);
    Some(Band { label, attempts: scores.count, mean, pass_rate })
}

/// Spearman's rank correlation, ties by their mean rank; none where it would be chance, or where one of the two
/// does not vary.
fn length_correlation(scored: &[Scored]) -> Option<String> {
    let pairs: Vec<(f64, f64)> = scored
        .iter()
        .filter_map(|one| Some((f64::from(one.length?), f64::from(one.score))))
        .collect();
    if pairs.len() < RELATED_ATTEMPTS_MIN {
        return None;
    }
    let (lengths, scores): (Vec<f64>, Vec<f64>) = pairs.into_iter().unzip();
    let rho = pearson(&ranks(&lengths), &ranks(&scores))?;
    // Adding zero makes -0.00 a plain 0.00.
    Some(format!("{:+.2}", (rho * 100.0).round() / 100.0 + 0.0))
}

fn ranks(values: &[f64]) -> Vec<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    values
        .iter()
        .map(|value| {
            let below = sorted.partition_point(|other| other < value);
            let up_to = sorted.partition_point(|other| other <= value);
            (below + up_to) as f64 / 2.0
        })
        .collect()
}

fn pearson(xs: &[f64], ys: &[f64]) -> Option<f64> {
    let mean = |values: &[f64]| values.iter().sum::<f64>() / values.len() as f64;
    let (mean_x, mean_y) = (mean(xs), mean(ys));
    let sum = |of: &dyn Fn(f64, f64) -> f64| -> f64 {
        xs.iter().zip(ys).map(|(x, y)| of(x - mean_x, y - mean_y)).sum()
    };
    let scale = (sum(&|x, _| x * x) * sum(&|_, y| y * y)).sqrt();
    (scale > 0.0).then(|| sum(&|x, y| x * y) / scale)
}

#[derive(Debug, Default)]
struct Scores {
    count: u32,
    passed: u32,
    sum: f64,
    squares: f64,
}

impl Scores {
    fn add(&mut self, score: i32, passed: bool) {
        self.count += 1;
        self.passed += u32::from(passed);
        self.sum += f64::from(score);
        self.squares += f64::from(score) * f64::from(score);
    }

    fn mean(&self) -> Option<String> {
        (self.count > 0).then(|| format!("{:.2}", self.sum / f64::from(self.count)))
    }

    /// The standard deviation of the sample.
    fn spread(&self) -> Option<String> {
        let count = f64::from(self.count);
        (self.count > 1).then(|| {
            let variance = (self.squares - self.sum * self.sum / count) / (count - 1.0);
            format!("{:.2}", variance.max(0.0).sqrt())
        })
    }

    fn pass_rate(&self) -> Option<String> {
        (self.count > 0).then(|| percent(self.passed, self.count))
    }
}

#[derive(Debug, Default)]
struct Mean {
    sum: u64,
    count: u64,
}

impl Mean {
    fn add(&mut self, length: u32) {
        self.sum += u64::from(length);
        self.count += 1;
    }

    fn rounded(&self) -> Option<u32> {
        let mean = (2 * self.sum + self.count).checked_div(2 * self.count)?;
        u32::try_from(mean).ok()
    }
}

fn percent(part: u32, whole: u32) -> String {
    format!("{:.0}%", f64::from(part) / f64::from(whole) * 100.0)
}

fn chars(text: &str) -> u32 {
    u32::try_from(text.chars().count()).unwrap_or(u32::MAX)
}

#[cfg(test)]
#[path = "facts_tests.rs"]
mod tests;
