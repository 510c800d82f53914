//! The hidden truth of the demo: what the documents say, what comes of it, and how a validator words it.
//!
//! Nothing here knows which version a task got or which arm it is in. A score follows from the words of the documents
//! that the task was given, the task, and chance; only the words can make the next score better.

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::tasks::{Kind, Task, mixed};

pub(super) use crate::stand_in::world::Model;

/// What one picture costs, in US dollars, as the events say it.
const fn picture_usd(model: Model) -> &'static str {
    match model {
        Model::Wan => "0.030",
        Model::Nano => "0.038",
    }
}

/// Something that documents may say.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Trait {
    /// Name what must stay unchanged.
    Preserve,
    /// Carry Greek words letter by letter.
    Verbatim,
    /// Translate Greek words: harmful, since they then stand in the picture in English.
    Translate,
    /// One change in each sentence.
    OneChange,
    /// Describe the light like a film's.
    Cinematic,
    /// Describe surfaces in rich words.
    Surfaces,
}

impl Trait {
    const ALL: [Self; 6] = [
        Self::Preserve,
        Self::Verbatim,
        Self::Translate,
        Self::OneChange,
        Self::Cinematic,
        Self::Surfaces,
    ];

    /// Words that stand together in one line of a document that says it.
    const fn words(self) -> &'static [&'static str] {
        match self {
            Self::Preserve => &["stay", "unchanged"],
            Self::Verbatim => &["greek", "letter by letter"],
            Self::Translate => &["translate", "greek", "into english"],
            Self::OneChange => &["one change", "sentence"],
            Self::Cinematic => &["cinematic"],
            Self::Surfaces => &["texture", "surface"],
        }
    }

    fn is_said_by(self, line: &str) -> bool {
        let denied = self == Self::Translate && (line.contains("never") || line.contains("not "));
        !denied && self.words().iter().all(|word| line.contains(word))
    }
}

/// What a model's documents say, as far as it matters.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Guidance(Vec<Trait>);

impl Guidance {
    /// Reads the documents.
    pub(super) fn read(activation: &str, research: &str) -> Self {
        let lines: Vec<String> =
            activation.lines().chain(research.lines()).map(str::to_lowercase).collect();
        let said = |wanted: &Trait| lines.iter().any(|line| wanted.is_said_by(line));
        Self(Trait::ALL.into_iter().filter(said).collect())
    }

    /// Whether the documents say it.
    pub(super) fn says(&self, wanted: Trait) -> bool {
        self.0.contains(&wanted)
    }
}

/// What the enhancer makes of a task by its documents. A later iteration has the validator's issues to go by.
pub(super) fn enhance(task: &Task, guidance: &Guidance, issues: &[String]) -> String {
    let mut prompt = task.english.clone();
    let mut add = |sentence: &str| {
        prompt.push(' ');
        prompt.push_str(sentence);
    };
    if let Some(words) = task.words {
        if guidance.says(Trait::Verbatim) {
            add(&format!("Render exactly \"{words}\", letter by letter, accents included."));
        } else if guidance.says(Trait::Translate) {
            add("Translate the Greek words into English first.");
        } else {
            add("Write it in Greek.");
        }
    }
    if guidance.says(Trait::OneChange) {
        add("This is the only change.");
    } else {
        add("Also improve the composition, the colours and the overall look.");
    }
    if guidance.says(Trait::Preserve) {
        add(&format!(
            "Keep the {} with its logo, its shape and all other text unchanged.",
            task.product
        ));
    }
    if guidance.says(Trait::Cinematic) {
        add("Cinematic golden light with soft volumetric rays.");
    }
    if guidance.says(Trait::Surfaces) {
        add("Rich tactile texture on every surface.");
    }
    if let Some(issue) = issues.first() {
        add(&format!("The last attempt failed, mend this: {issue}"));
    }
    prompt
}

/// What the validator says of one picture, and what the generation reports beside it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Judged {
    /// 0 to 10.
    pub(super) score: u8,
    /// True from [`PASS_SCORE`] up.
    pub(super) passed: bool,
    /// What is wrong with it.
    pub(super) issues: Vec<String>,
    /// Why the score.
    pub(super) reasoning: String,
    /// A figure, not a time that anybody waits for.
    pub(super) generation_time_ms: u32,
    /// US dollars, as the events carry them.
    pub(super) cost_usd: &'static str,
}

/// From this score up a picture has passed; the shipped workflow says the same.
pub(super) const PASS_SCORE: u8 = 8;

/// Generates and judges: the same task, documents and iteration always give the same.
pub(super) fn judge(
    seed: u64,
    number: u64,
    task: &Task,
    model: Model,
    iteration: u32,
    guidance: &Guidance,
) -> Judged {
    let mut rng = StdRng::seed_from_u64(mixed(
        mixed(seed ^ (model as u64 + 1), number),
        u64::from(iteration),
    ));
    let truth = truth_of(model);
    let hardship = f64::from(u8::try_from(number % 5).unwrap_or(0)).mul_add(0.12, -0.24);
    let mut quality = truth.base + kind_offset(task.kind) - hardship;
    for effect in truth.effects {
        if guidance.says(effect.of) {
            quality += effect.points;
        }
    }
    // The validator's remarks help the second and third round, whatever the documents say.
    quality += f64::from(iteration.saturating_sub(1)) * 0.7;
    quality += bell(&mut rng) * 0.6;
    // In range by the clamp, so the cast loses nothing but the fraction that was rounded away.
    let score = quality.round().clamp(0.0, 10.0) as u8;
    let passed = score >= PASS_SCORE;
    let issues = if passed { Vec::new() } else { issues(&truth, task, guidance, &mut rng) };
    let reasoning = reasoning(score, &issues);
    Judged {
        score,
        passed,
        issues,
        reasoning,
        generation_time_ms: rng.random_range(6_000..24_000),
        cost_usd: picture_usd(model),
    }
}

fn reasoning(score: u8, issues: &[String]) -> String {
    match issues.first() {
        Some(first) => {
            format!("The request is recognisable. What costs most: {first} Scored {score}.")
        }
        None if score >= PASS_SCORE => {
            format!("The request is met and nothing else changed. Scored {score}.")
        }
        None => format!("Acceptable, but not what was asked for in every part. Scored {score}."),
    }
}

struct Truth {
    base: f64,
    effects: &'static [Effect],
    complaints: &'static [Complaint],
}

struct Effect {
    of: Trait,
    points: f64,
}

/// What the validator says while the documents lack something, or say something that harms.
struct Complaint {
    cured_by: Trait,
    /// How often a failed picture shows it while the cure is not in the documents, 0 to 1.
    chance: f64,
    /// How often all the same, once it is.
    chance_cured: f64,
    wordings: [&'static str; 2],
}

const fn truth_of(model: Model) -> Truth {
    match model {
        Model::Wan => Truth { base: 4.6, effects: &WAN_EFFECTS, complaints: &WAN_COMPLAINTS },
        Model::Nano => Truth { base: 5.5, effects: &NANO_EFFECTS, complaints: &NANO_COMPLAINTS },
    }
}

const WAN_EFFECTS: [Effect; 5] = [
    Effect { of: Trait::Preserve, points: 1.7 },
    Effect { of: Trait::Verbatim, points: 1.8 },
    Effect { of: Trait::Cinematic, points: -0.15 },
    Effect { of: Trait::Surfaces, points: -0.15 },
    Effect { of: Trait::Translate, points: -1.0 },
];
const NANO_EFFECTS: [Effect; 5] = [
    Effect { of: Trait::Translate, points: -1.0 },
    Effect { of: Trait::Verbatim, points: 0.8 },
    Effect { of: Trait::OneChange, points: 1.8 },
    Effect { of: Trait::Cinematic, points: -0.15 },
    Effect { of: Trait::Surfaces, points: -0.15 },
];

const LOGO_MOVED: Complaint = Complaint {
    cured_by: Trait::Preserve,
    chance: 0.97,
    chance_cured: 0.04,
    wordings: [
        "The logo of {product} was redrawn although nobody asked for it.",
        "Άλλαξε και το {product}, ενώ έπρεπε να μείνει ίδιο: the logo was redrawn.",
    ],
};
const FLAT_LIGHT: Complaint = Complaint {
    cured_by: Trait::Cinematic,
    chance: 0.84,
    chance_cured: 0.55,
    wordings: [
        "The lighting looks flat around the {product}.",
        "Επίπεδος φωτισμός: the lighting looks flat.",
    ],
};
const LETTERS_WRONG: Complaint = Complaint {
    cured_by: Trait::Verbatim,
    chance: 0.50,
    chance_cured: 0.04,
    wordings: [
        "The Greek wording is not the one that was asked for: accents or letters are missing.",
        "Λείπουν τόνοι: the Greek wording differs from the request.",
    ],
};
const SHOWN_IN_ENGLISH: Complaint = Complaint {
    chance: 0.97,
    wordings: [
        "The Greek wording came out in English, or with letters missing.",
        "Το ελληνικό κείμενο βγήκε στα αγγλικά: the Greek wording is lost.",
    ],
    ..LETTERS_WRONG
};
const PLAIN_SURFACES: Complaint = Complaint {
    cured_by: Trait::Surfaces,
    chance: 0.84,
    chance_cured: 0.55,
    wordings: [
        "The materials look plain, almost like plastic.",
        "Τα υλικά δείχνουν πλαστικά: the materials look plain.",
    ],
};
const TOO_MUCH_CHANGED: Complaint = Complaint {
    cured_by: Trait::OneChange,
    chance: 0.50,
    chance_cured: 0.04,
    wordings: [
        "More was edited than the request names; the {product} scene was rearranged.",
        "Έγιναν κι άλλες αλλαγές: more was edited than the request names.",
    ],
};
const WAN_COMPLAINTS: [Complaint; 4] = [
    LOGO_MOVED,
    FLAT_LIGHT,
    LETTERS_WRONG,
    Complaint { chance: 0.3, chance_cured: 0.3, ..PLAIN_SURFACES },
];
const NANO_COMPLAINTS: [Complaint; 4] = [
    SHOWN_IN_ENGLISH,
    PLAIN_SURFACES,
    TOO_MUCH_CHANGED,
    Complaint { chance: 0.3, chance_cured: 0.3, ..FLAT_LIGHT },
];

/// Requests for words in the picture are a little harder, as for every model.
const fn kind_offset(kind: Kind) -> f64 {
    match kind {
        Kind::Text | Kind::Advertisement => -0.15,
        Kind::Background => 0.1,
        Kind::Removal | Kind::Colour => 0.15,
    }
}

fn issues(truth: &Truth, task: &Task, guidance: &Guidance, rng: &mut StdRng) -> Vec<String> {
    let mut issues = Vec::new();
    for complaint in truth.complaints {
        let cured = guidance.says(complaint.cured_by);
        let chance = if cured { complaint.chance_cured } else { complaint.chance };
        // Both numbers are drawn in any case, so that a cure changes nothing else.
        let (shows, wording) = (rng.random_bool(chance), usize::from(rng.random_bool(0.4)));
        if shows {
            issues.extend(
                complaint.wordings.get(wording).map(|text| text.replace("{product}", task.product)),
            );
        }
    }
    issues
}

/// Mean 0, standard deviation 1, never beyond 6: twelve even draws.
fn bell(rng: &mut StdRng) -> f64 {
    (0..12).map(|_| rng.random_range(0.0..1.0)).sum::<f64>() - 6.0
}

#[cfg(test)]
#[path = "world_tests.rs"]
mod tests;
