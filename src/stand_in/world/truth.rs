//! What the documents say, what comes of it, and how a validator words it.
//!
//! Nothing here knows which version a task got or which arm it is in. A score follows from the words of the documents
//! that the task was given, the task, and chance; only the words can make the next score better.

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::tasks::Kind;
use crate::stand_in::script::mixed;

/// A model that this world paints as.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Model {
    /// `wan-2.5-edit`.
    Wan,
    /// `nano-banana`.
    Nano,
}

impl Model {
    /// Both models, as the workflow lists them.
    pub const ALL: [Self; 2] = [Self::Wan, Self::Nano];

    /// The name on the wire.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Wan => "wan-2.5-edit",
            Self::Nano => "nano-banana",
        }
    }

    /// The model behind a path of WaveSpeed's; an unknown one paints as nano-banana does.
    pub(super) fn of_endpoint(endpoint: &str) -> Self {
        if endpoint.contains("wan") { Self::Wan } else { Self::Nano }
    }

    /// The model at a place of the list.
    pub(super) const fn at(place: u8) -> Self {
        if place == Self::Wan as u8 { Self::Wan } else { Self::Nano }
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
    /// Reads documents.
    pub(super) fn read(documents: &str) -> Self {
        let lines: Vec<String> = documents.lines().map(str::to_lowercase).collect();
        Self::of(|wanted| lines.iter().any(|line| wanted.is_said_by(line)))
    }

    /// Those traits of which it is true.
    pub(super) fn of(is_said: impl Fn(Trait) -> bool) -> Self {
        Self(Trait::ALL.into_iter().filter(|wanted| is_said(*wanted)).collect())
    }

    /// Whether it is said.
    pub(super) fn says(&self, wanted: Trait) -> bool {
        self.0.contains(&wanted)
    }

    /// All that is said.
    pub(super) fn said(&self) -> impl Iterator<Item = Trait> {
        self.0.iter().copied()
    }
}

/// From this score up a picture has passed; the shipped workflow says the same.
pub(super) const PASS_SCORE: u8 = 8;

/// What a picture is made under.
pub(super) struct Circumstances<'a> {
    /// The luck of the whole world.
    pub(super) seed: u64,
    /// The original's number.
    pub(super) number: u64,
    /// How hard the original is to edit, from 0 to 4; 2 is usual.
    pub(super) hardship: u8,
    /// What sort of edit is asked for.
    pub(super) kind: Kind,
    /// Who paints.
    pub(super) model: Model,
    /// How often, with this one, the task was tried.
    pub(super) iteration: u32,
    /// What the prompt follows.
    pub(super) guidance: &'a Guidance,
}

/// How a picture turned out.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Outcome {
    /// In points; beyond 0 to 10, too.
    pub(super) quality: f64,
    /// Two bits for each of the model's complaints, the first lowest: whether it shows, and which wording it gets.
    pub(super) flaws: u8,
}

/// Paints: equal circumstances always give the same.
pub(super) fn outcome(under: &Circumstances<'_>) -> Outcome {
    let mut rng = StdRng::seed_from_u64(mixed(
        mixed(under.seed ^ (under.model as u64 + 1), under.number),
        u64::from(under.iteration),
    ));
    let truth = truth_of(under.model);
    let hardship = f64::from(under.hardship).mul_add(0.12, -0.24);
    let mut quality = truth.base + kind_offset(under.kind) - hardship;
    for effect in truth.effects {
        if under.guidance.says(effect.of) {
            quality += effect.points;
        }
    }
    // The validator's remarks help the second and third round, whatever the documents say.
    quality += f64::from(under.iteration.saturating_sub(1)) * 0.7;
    quality += bell(&mut rng) * 0.6;
    Outcome { quality, flaws: flaws(&truth, under.guidance, &mut rng) }
}

fn flaws(truth: &Truth, guidance: &Guidance, rng: &mut StdRng) -> u8 {
    let mut flaws = 0;
    for (complaint, place) in truth.complaints.iter().zip((0_u8..).step_by(2)) {
        let cured = guidance.says(complaint.cured_by);
        let chance = if cured { complaint.chance_cured } else { complaint.chance };
        // Both are drawn in any case, so that a cure changes nothing else.
        let (shows, wording) = (rng.random_bool(chance), rng.random_bool(0.4));
        flaws |= (u8::from(shows) | u8::from(wording) << 1) << place;
    }
    flaws
}

/// The flaws in a validator's words.
pub(super) fn worded(model: Model, flaws: u8, product: &str) -> Vec<String> {
    truth_of(model)
        .complaints
        .iter()
        .zip((0_u8..).step_by(2))
        .filter(|(_, place)| flaws >> place & 1 == 1)
        .filter_map(|(complaint, place)| {
            complaint.wordings.get(usize::from(flaws >> (place + 1) & 1))
        })
        .map(|wording| wording.replace("{product}", product))
        .collect()
}

struct Truth {
    base: f64,
    effects: &'static [Effect],
    complaints: &'static [Complaint; 4],
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

/// Mean 0, standard deviation 1, never beyond 6: twelve even draws.
fn bell(rng: &mut StdRng) -> f64 {
    (0..12).map(|_| rng.random_range(0.0..1.0)).sum::<f64>() - 6.0
}
