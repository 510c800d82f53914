//! The sentences, in English; `greek` has the same in Greek.

use chrono::{DateTime, Utc};
use chrono_tz::Tz;
use rust_decimal::Decimal;

use super::{Facts, Language, Link, NOTICED_MAX, Noticed, Part, Report, Tried, greek};
use crate::cycle::StateName;

/// Texts of others that are quoted are cut after this many characters.
const QUOTED_CHARS_MAX: usize = 300;

/// The report of a cycle. `link` says where the page of something is: see [`Target`].
#[must_use]
pub fn report(facts: &Facts, language: Language, link: impl Fn(Target<'_>) -> String) -> Report {
    let words = Words::of(language);
    Report {
        language,
        title: (words.title)(&facts.workflow, facts.cycle),
        span: (words.span)(facts.opened_at, facts.ended_at, facts.time_zone),
        lead: lead(facts, &words),
        parts: vec![
            noticed(facts, &words),
            tried(facts, &words),
            gained(facts, &words),
            Part {
                heading: words.headings[3],
                opening: (words.cost)(facts.calls, facts.cost_usd, facts.cost_estimated),
                lines: Vec::new(),
            },
        ],
        links: links(facts, &words, link),
    }
}

/// What a link leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target<'t> {
    /// The cycle's page, with its buttons.
    Cycle(i64),
    /// The page that asks before it puts a version back.
    PutBack(&'t str, i32),
}

/// Everything that differs between the languages.
pub(super) struct Words {
    pub(super) title: fn(&str, i64) -> String,
    pub(super) span: fn(DateTime<Utc>, Option<DateTime<Utc>>, Tz) -> String,
    /// Noticed, tried, gained, cost.
    pub(super) headings: [&'static str; 4],
    pub(super) adopted: fn(&str) -> String,
    pub(super) stays: &'static str,
    pub(super) rolled_back: &'static str,
    pub(super) cancelled: &'static str,
    pub(super) under_way: fn(StateName) -> String,
    pub(super) held: fn(&str) -> String,
    pub(super) read: fn(i32) -> String,
    pub(super) not_read: &'static str,
    pub(super) found: fn(usize, usize) -> String,
    pub(super) all_models: &'static str,
    pub(super) claim: fn(&str, &str, f64) -> String,
    pub(super) candidates: fn(usize) -> String,
    pub(super) candidate: fn(&Tried, &str) -> String,
    pub(super) without: fn(&str, &str) -> String,
    pub(super) nothing_tested: &'static str,
    pub(super) gain: fn(&Tried, u32) -> String,
    pub(super) gains: &'static str,
    pub(super) cost: fn(usize, Decimal, bool) -> String,
    pub(super) look: &'static str,
    pub(super) approve: &'static str,
    pub(super) refuse: &'static str,
    pub(super) put_back: fn(&str, i32) -> String,
    pub(super) and: &'static str,
}

impl Words {
    const fn of(language: Language) -> Self {
        match language {
            Language::English => ENGLISH,
            Language::Greek => greek::WORDS,
        }
    }
}

fn lead(facts: &Facts, words: &Words) -> String {
    let adopted: Vec<&str> = facts
        .tried
        .iter()
        .filter(|it| {
            it.status == "adopted" && !matches!(it.probation.as_deref(), Some("regressed"))
        })
        .map(|it| it.model.as_str())
        .collect();
    let lead = match facts.state {
        StateName::Applied => (words.adopted)(&listed(&adopted, words.and)),
        StateName::Rejected => words.stays.to_owned(),
        StateName::RolledBack => words.rolled_back.to_owned(),
        StateName::Cancelled => words.cancelled.to_owned(),
        state => (words.under_way)(state),
    };
    let held = facts.holds.iter().map(|hold| (words.held)(&quoted(&hold.reason)));
    std::iter::once(lead).chain(held).collect::<Vec<_>>().join(" ")
}

fn listed(names: &[&str], and: &str) -> String {
    match names {
        [] => String::new(),
        [one] => (*one).to_owned(),
        [first @ .., last] => format!("{} {and} {last}", first.join(", ")),
    }
}

fn noticed(facts: &Facts, words: &Words) -> Part {
    let told: Vec<&Noticed> = facts.noticed.iter().take(NOTICED_MAX).collect();
    let opening = match facts.tasks {
        Some(tasks) => {
            format!("{} {}", (words.read)(tasks), (words.found)(facts.noticed.len(), told.len()))
        }
        None => words.not_read.to_owned(),
    };
    let line = |it: &&Noticed| {
        let model = if it.model == "all" { words.all_models } else { &it.model };
        (words.claim)(model, &quoted(&it.claim), it.confidence)
    };
    Part { heading: words.headings[0], opening, lines: told.iter().map(line).collect() }
}

fn tried(facts: &Facts, words: &Words) -> Part {
    let candidates = facts.tried.iter().map(|it| (words.candidate)(it, &quoted(&it.summary)));
    let without = facts.without.iter().map(|(model, reason)| (words.without)(model, reason));
    Part {
        heading: words.headings[1],
        opening: if facts.tried.is_empty() {
            words.nothing_tested.to_owned()
        } else {
            (words.candidates)(facts.tried.len())
        },
        lines: candidates.chain(without).collect(),
    }
}

fn gained(facts: &Facts, words: &Words) -> Part {
    let lines: Vec<String> =
        facts.tried.iter().map(|it| (words.gain)(it, facts.score_max)).collect();
    let opening = if lines.is_empty() { words.stays } else { words.gains };
    Part { heading: words.headings[2], opening: opening.to_owned(), lines }
}

fn links(facts: &Facts, words: &Words, link: impl Fn(Target<'_>) -> String) -> Vec<Link> {
    let cycle = link(Target::Cycle(facts.cycle));
    let to_cycle = |label: &str| Link { label: label.to_owned(), path: cycle.clone() };
    let mut links = Vec::new();
    if facts.holds.iter().any(|hold| hold.kind == "approval") {
        links.push(to_cycle(words.approve));
        links.push(to_cycle(words.refuse));
    }
    let standing = facts.tried.iter().filter(|it| {
        it.status == "adopted" && matches!(it.probation.as_deref(), None | Some("open" | "kept"))
    });
    links.extend(standing.map(|it| Link {
        label: (words.put_back)(&it.model, it.old_version),
        path: link(Target::PutBack(&it.model, it.old_version)),
    }));
    links.push(to_cycle(words.look));
    links
}

/// Somebody else's text on one line, cut where it is long.
fn quoted(text: &str) -> String {
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    match line.char_indices().nth(QUOTED_CHARS_MAX) {
        Some((end, _)) => format!("{}…", line.get(..end).unwrap_or(&line).trim_end()),
        None => line,
    }
}

/// A change in per cent with its sign.
pub(super) fn percent(ratio: f64) -> String {
    format!("{:+.1}%", ratio * 100.0).replace('-', "\u{2212}")
}

const ENGLISH: Words = Words {
    title: |workflow, cycle| format!("{workflow}: report of learning cycle {cycle}"),
    span: |from, to, zone| {
        let day = |at: DateTime<Utc>| at.with_timezone(&zone).format("%-d %b %Y").to_string();
        match to {
            Some(to) => format!("{} to {}", day(from), day(to)),
            None => format!("Since {}", day(from)),
        }
    },
    headings: ["What was noticed", "What was tried", "What was gained", "What it cost"],
    adopted: |models| format!("Better instructions were found and are in use now, for {models}."),
    stays: "The instructions stay as they were.",
    rolled_back: "New instructions were put to use, did not hold up, and the old ones are back.",
    cancelled: "A person ended this cycle; no change of it stands.",
    under_way: |state| {
        let doing = match state {
            StateName::Collecting => "finished tasks are being collected",
            StateName::Analyzing => "finished tasks are being read for patterns",
            StateName::Generating => "better instructions are being written",
            StateName::Testing => "new instructions are being tried against the old ones",
            StateName::Probation => "the new instructions are in use and are being watched",
            StateName::Reverting => "the old instructions are being put back",
            _ => "what was decided is being put to use",
        };
        format!("This cycle is under way: {doing}.")
    },
    held: |reason| format!("It stands still at the moment: {reason}"),
    read: |tasks| format!("{tasks} finished tasks were read."),
    not_read: "No tasks have been read yet.",
    found: |all, told| match (all, told) {
        (0, _) => "Nothing was found that explains good and bad pictures.".to_owned(),
        (1, _) => "One pattern was found:".to_owned(),
        (all, told) if all == told => format!("{all} patterns were found:"),
        (all, told) => format!("{all} patterns were found; the {told} surest:"),
    },
    all_models: "all models",
    claim: |model, claim, sure| format!("{model}: “{claim}” ({:.0}% sure)", sure * 100.0),
    candidates: |number| match number {
        1 => "One new set of instructions was tried:".to_owned(),
        number => format!("{number} new sets of instructions were tried:"),
    },
    candidate: |it, summary| {
        let what = if summary.is_empty() { String::new() } else { format!(": “{summary}”") };
        format!("{}: version {} against version {}{what}", it.model, it.new_version, it.old_version)
    },
    without: |model, reason| {
        let why = match reason {
            "at_ceiling" => "its pictures are so good already that a gain could not be seen",
            "nothing_proposed" => "nothing better was proposed",
            "tested_before" => "what was proposed had been tried before",
            _ => "it took no part to the end",
        };
        format!("{model}: nothing was tried, because {why}")
    },
    nothing_tested: "Nothing was tried against the instructions in use.",
    gain: english_gain,
    gains: "Average scores of the same judge, on tasks dealt by lot:",
    cost: |calls, cost, estimated| {
        let part = if estimated { ", in part estimated" } else { "" };
        let calls = if calls == 1 { "1 call".to_owned() } else { format!("{calls} calls") };
        format!("${:.2} for {calls} of Claude{part}.", cost.round_dp(2))
    },
    look: "See everything about this cycle",
    approve: "Approve it",
    refuse: "Refuse it",
    put_back: |model, version| format!("Put version {version} of {model} back"),
    and: "and",
};

fn english_gain(it: &Tried, score_max: u32) -> String {
    let scores = match (it.old, it.new) {
        (Some((old, _)), Some((new, _))) => {
            let change = it.improvement.map(|ratio| format!(" ({})", percent(ratio)));
            format!(
                "{old:.1} before, {new:.1} with the new ones, of {score_max}{}",
                change.unwrap_or_default()
            )
        }
        _ => "no scores decide yet".to_owned(),
    };
    let likely = it
        .likely
        .filter(|_| it.status == "adopted")
        .map(|ratio| format!("; about {:+.0}% is likely to last", ratio * 100.0));
    let end = match (it.status.as_str(), it.probation.as_deref()) {
        ("testing", _) => "the test is not over",
        ("adopted", Some("open")) => "in use, and watched",
        ("adopted", Some("kept")) => "in use, and it held up under watch",
        ("adopted", Some("regressed")) => {
            "it did not hold up under watch, and the old version is back"
        }
        ("adopted", _) => "in use",
        ("inconclusive", _) => "nothing can be said, so the old version stays",
        _ => "not better by enough, so the old version stays",
    };
    format!("{}: {scores}{}; {end}", it.model, likely.unwrap_or_default())
}
