//! The tables of the gate's errors, reproduced.

use super::*;
use crate::experiment::{Guard, strict};

const PLAN: Plan = Plan {
    gate: GateRules { threshold_basis_points: 1000, scores_per_arm_min: 8, score_max: 10 },
    deck: DeckRules { per_arm: 10, block: 4 },
    probation_deck: DeckRules { per_arm: 15, block: 4 },
    probation: ProbationRules { retain_basis_points: 500, scores_per_arm_min: 8 },
    strict_looks_max: strict::LOOKS_MAX,
    correlation: 0.6,
};
const SEED: u64 = 20_261_126;

fn played(shape: &Shape, guard: Guard, effect: i32, trials: u32) -> Figures {
    let arms = Arms::new(shape, effect).expect("the scale has room for the effect");
    let chunks = 0..trials.div_ceil(CHUNK_TRIALS);
    let tallies = chunks.map(|number| chunk(&PLAN, guard, &arms, SEED, number));
    tallies.fold(Tally::default(), Tally::and).figures()
}

/// Within three standard errors of the simulation, and half of the published figure's last digit.
#[track_caller]
fn assert_share(what: &str, got: Figures, published: f64, rounding: f64) {
    let allowed = 3.0 * got.standard_error + rounding;
    println!("{what}: {:.4} ± {:.4} (published {published})", got.adopted, got.standard_error);
    assert!((got.adopted - published).abs() <= allowed, "{what}: {got:?} is not {published}");
}

/// The literal rule's chance of adopting, by exact convolution of both arms' sums.
fn exact(shape: &Shape, effect: i32) -> f64 {
    let sums = |shape: &Shape| {
        (0..10).fold(vec![1.0], |sums: Vec<f64>, _| {
            let mut more = vec![0.0; sums.len() + shape.chances().len() - 1];
            for (sum, p) in sums.iter().enumerate() {
                for (score, chance) in shape.chances().iter().enumerate() {
                    more[sum + score] += p * chance;
                }
            }
            more
        })
    };
    let (old, new) = (sums(shape), sums(&shape.changed_by(effect).unwrap()));
    let both = old.iter().enumerate().skip(1);
    both.flat_map(|(o, p)| new.iter().enumerate().map(move |(n, q)| (o, n, p * q)))
        .filter(|(o, n, _)| n * 10_000 > o * 11_000)
        .map(|(_, _, p)| p)
        .sum()
}

#[test]
fn the_literal_rule_errs_as_often_as_published() {
    let published = [
        (BuiltIn::Ceiling, [0.26, 0.13, 0.77]),
        (BuiltIn::Mid, [0.23, 0.075, 0.78]),
        (BuiltIn::Tight, [0.11, 0.007, 0.90]),
        (BuiltIn::Low, [0.36, 0.23, 0.64]),
        (BuiltIn::Bimodal, [0.37, 0.26, 0.63]),
    ];
    for (built_in, shares) in published {
        let shape = built_in.shape();
        for (effect, share) in EFFECTS_BASIS_POINTS.into_iter().zip(shares) {
            let what = format!("{built_in} {effect:+}");
            let by_convolution = exact(&shape, effect);
            assert!((by_convolution - share).abs() < 0.005, "{what}: {by_convolution}");
            let got = played(&shape, Guard::Off, effect, 2000);
            assert_share(&what, got, by_convolution, 0.0);
            assert!((got.tasks - 20.0).abs() < 1e-9);
        }
    }
}

#[test]
fn each_guard_errs_as_seldom_as_published() {
    let mid = BuiltIn::Mid.shape();
    let published = [
        (Guard::Probation, [0.14, 0.018, 0.77], 4000, 27.0),
        (Guard::Strict, [0.046, 0.001, 0.77], 1000, 34.0),
        (Guard::Paired, [0.058, 0.001, 0.95], 4000, 20.0),
    ];
    for (guard, shares, trials, tasks) in published {
        for (effect, share) in EFFECTS_BASIS_POINTS.into_iter().zip(shares) {
            let got = played(&mid, guard, effect, trials);
            assert_share(&format!("{guard} {effect:+}"), got, share, 0.005);
            if effect == 0 {
                assert!((got.tasks - tasks).abs() < 2.0, "{guard}: {got:?}");
            }
        }
    }
}

/// The scores of a GPT-4o judge on MagicBrush's pictures; `None`, said aloud, where they are not at hand.
fn real_scores() -> Option<Shape> {
    let shared = std::env::var_os("MATHESIS_SHARED").map_or_else(
        || std::path::PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../shared")),
        std::path::PathBuf::from,
    );
    let path = shared.join("data/viescore_gpt4o_text_guided_edit.ndjson");
    let Ok(text) = std::fs::read_to_string(&path) else {
        println!("skipped: no real judge scores at {}", path.display());
        return None;
    };
    let rows = text.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
    let scores: Vec<u16> = rows
        .filter(|row| row["model"] == "MagicBrush")
        .map(|row| u16::try_from(row["score"].as_u64().unwrap()).unwrap())
        .collect();
    Some(Shape::of_scores(&scores, 10).unwrap())
}

#[test]
fn real_scores_against_themselves_are_adopted_as_often_as_published() {
    let Some(shape) = real_scores() else { return };
    // Published from draws without replacement, which spread by 3% more.
    let got = played(&shape, Guard::Off, 0, 4000);
    assert_share("MagicBrush against itself", got, 0.35, 0.01);
    assert!((exact(&shape, 0) - 0.3433).abs() < 1e-4);
}

/// One row of a table of docs/gate.md: percentages as they stand there, and the tasks of a no-better candidate.
type Row = (Guard, [f64; 3], u32);

/// 400,000 tests a figure, 100,000 under `strict`: `mathesis gate power --trials 400000`, seed 1.
const TABLES: [(&str, [Row; 4]); 3] = [
    (
        "mid",
        [
            (Guard::Off, [23.2, 7.5, 77.6], 20),
            (Guard::Probation, [14.1, 1.8, 77.0], 27),
            (Guard::Strict, [4.7, 0.2, 76.5], 34),
            (Guard::Paired, [5.5, 0.1, 94.9], 20),
        ],
    ),
    (
        "ceiling",
        [
            (Guard::Off, [25.8, 12.8, 77.2], 20),
            (Guard::Probation, [16.2, 4.4, 77.3], 28),
            (Guard::Strict, [5.3, 0.4, 77.0], 35),
            (Guard::Paired, [11.0, 1.4, 92.0], 20),
        ],
    ),
    (
        "real",
        [
            (Guard::Off, [34.4, 21.5, 65.8], 20),
            (Guard::Probation, [22.7, 9.6, 61.9], 30),
            (Guard::Strict, [6.6, 1.1, 52.9], 40),
            (Guard::Paired, [19.3, 4.4, 81.0], 20),
        ],
    ),
];

#[test]
fn the_tables_of_the_page_are_what_each_guard_does_to_each_kind_of_scores() {
    for (name, rows) in TABLES {
        let shape = match name {
            "real" => real_scores(),
            built_in => Some(built_in.parse::<BuiltIn>().unwrap().shape()),
        };
        let Some(shape) = shape else { continue };
        for (guard, shares, tasks) in rows {
            let trials = if guard == Guard::Strict { 1000 } else { 4000 };
            for (effect, percent) in EFFECTS_BASIS_POINTS.into_iter().zip(shares) {
                let got = played(&shape, guard, effect, trials);
                let share = percent / 100.0;
                let error = (share * (1.0 - share) / f64::from(trials)).sqrt();
                let what =
                    format!("{name}, {guard} {effect:+}: {got:?}, and the page has {percent}%");
                println!("{what}");
                assert!((got.adopted - share).abs() <= 3.0 * error + 0.0005, "{what}");
                // The tasks of a test spread by 12 under a probation and by 25 in looks.
                let allowed = if guard == Guard::Strict { 2.5 } else { 1.0 };
                assert!(effect != 0 || (got.tasks - f64::from(tasks)).abs() < allowed, "{what}");
            }
        }
    }
}

#[test]
fn the_page_has_these_tables() {
    let page = include_str!("../../../docs/gate.md");
    for (name, rows) in TABLES {
        let (_, from) = page.split_once(&format!("`{name}` |")).expect("a table of its name");
        let table: Vec<&str> =
            from.lines().skip(2).take_while(|line| line.starts_with('|')).collect();
        let wanted = rows.map(|(guard, [same, worse, better], tasks)| {
            format!("| `{guard}` | {same:.1}% | {worse:.1}% | {better:.1}% | {tasks} |")
        });
        assert_eq!(table, wanted, "{name}");
    }
}

#[test]
fn the_built_in_shapes_have_their_means_and_spreads() {
    let measured = |it: BuiltIn| {
        let shape = it.shape();
        let sum: f64 = shape.chances().iter().sum();
        assert!((sum - 1.0).abs() < 1e-9, "{it}");
        assert_eq!(it.as_str().parse(), Ok(it));
        format!("{it} {:.1} {:.1}", shape.mean(), shape.sd())
    };
    assert_eq!(
        BuiltIn::ALL.map(measured),
        ["mid 6.5 1.9", "ceiling 7.7 2.6", "tight 7.0 1.2", "low 3.6 2.1", "bimodal 5.4 3.5"]
    );
}

#[test]
fn a_changed_shape_has_the_mean_that_was_asked_for_or_is_none() {
    for built_in in BuiltIn::ALL {
        let shape = built_in.shape();
        for effect in [-5000, -1000, 1, 500, 2000] {
            let changed = shape.changed_by(effect).unwrap();
            let wanted = shape.mean() * (1.0 + f64::from(effect) / 10_000.0);
            assert!((changed.mean() - wanted).abs() < 1e-9, "{built_in} {effect}");
        }
        assert_eq!(shape.changed_by(-10_001), None);
        assert_eq!(shape.changed_by(50_000), None, "beyond the scale");
    }
    let one_score = Shape::of_scores(&[7, 7], 10).unwrap();
    assert_eq!(one_score.changed_by(1000), None, "a validator that gives one score only");
}

#[test]
fn scores_that_make_no_shape_are_refused_in_words() {
    let said = |scores: &[u16]| Shape::of_scores(scores, 10).unwrap_err().to_string();
    assert_eq!(said(&[]), "there are no scores to draw from");
    assert_eq!(said(&[3, 11]), "a score is 11, and the scale ends at 10");
    assert_eq!(said(&[0, 0]), "every score is 0, so no effect in percent can be simulated");
}

#[test]
fn one_seed_gives_one_tally_and_another_seed_another() {
    let arms = Arms::new(&BuiltIn::Mid.shape(), 0).unwrap();
    let play = |guard, seed, number| chunk(&PLAN, guard, &arms, seed, number);
    for &guard in Guard::ALL {
        assert_eq!(play(guard, 1, 0), play(guard, 1, 0));
    }
    let different: std::collections::BTreeSet<u64> =
        (0..8).map(|number| play(Guard::Off, 1, number).adopted).collect();
    assert!(different.len() > 1, "chunks are not each other's copies");
}
