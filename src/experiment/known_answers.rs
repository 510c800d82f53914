//! The known answers: every algorithm of the gate against values computed elsewhere, with scipy.

use std::path::PathBuf;

use serde::Deserialize;
use serde_json::Value;

use crate::experiment::confidence::lower_bounds;
use crate::experiment::discovery::{Tested, e_lond, lord, saffron};
use crate::experiment::eprocess::EProcess;
use crate::experiment::evidence::Evidence;
use crate::experiment::gate::{GateRules, Look, Reason, Status, Sum, decide};
use crate::experiment::missingness::{fisher_p, sample_ratio_p};
use crate::experiment::shrinkage::Posterior;
use crate::experiment::{ByArm, permutation, probation};

const RULES: GateRules =
    GateRules { threshold_basis_points: 1000, scores_per_arm_min: 8, score_max: 10 };
const TOLERANCE: f64 = 1e-10;

/// The vectors of one kind, computed with scipy; `None`, said aloud, where the file is not at hand.
fn vectors(kind: &str) -> Option<Value> {
    let all = vectors_of_all_kinds()?;
    Some(all.get(kind).expect("the vectors have this kind").clone())
}

fn vectors_of_all_kinds() -> Option<Value> {
    let shared = std::env::var_os("MATHESIS_SHARED").map_or_else(
        || PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../shared")),
        PathBuf::from,
    );
    let path = shared.join("data/gate_vectors.json");
    let Ok(text) = std::fs::read_to_string(&path) else {
        println!("skipped: no known answers at {}", path.display());
        return None;
    };
    Some(serde_json::from_str(&text).expect("the vectors are JSON"))
}

fn cases<T: serde::de::DeserializeOwned>(kind: &str) -> Vec<T> {
    vectors(kind).map_or_else(Vec::new, |value| {
        let cases: Vec<T> = serde_json::from_value(value).expect("the vectors have this shape");
        assert!(!cases.is_empty(), "{kind} has no case");
        cases
    })
}

#[track_caller]
fn assert_near(name: &str, actual: f64, expected: f64) {
    assert!((actual - expected).abs() <= TOLERANCE, "{name}: {actual} is not {expected}");
}

#[derive(Clone, Deserialize)]
struct Scores {
    old: Vec<u16>,
    new: Vec<u16>,
}

impl Scores {
    fn by_arm(self) -> ByArm<Vec<u16>> {
        ByArm { control: self.old, candidate: self.new }
    }
}

fn one_block(block: ByArm<Vec<u16>>) -> Look {
    Look { blocks: vec![block], missed: ByArm::default() }
}

#[test]
fn known_answers_of_the_gate() {
    #[derive(Deserialize)]
    struct Case {
        name: String,
        #[serde(flatten)]
        scores: Scores,
        threshold_bp: u32,
        expect: Value,
    }
    for case in cases::<Case>("gate") {
        let name = &case.name;
        let look = one_block(case.scores.by_arm());
        let rules = GateRules { threshold_basis_points: case.threshold_bp, ..RULES };
        let decision = decide(&rules, &look);
        let improvement = Evidence::of(&rules, &look).improvement;
        if case.expect["verdict"] == "undefined_old_zero" {
            assert_eq!(improvement, None, "{name}");
            let both_zero = look.sums().candidate.total == 0;
            let reason = if both_zero { Reason::AllZero } else { Reason::ZeroControlImproved };
            assert_eq!(decision.reason, reason, "{name}");
            continue;
        }
        let adopted = decision.status == Status::Adopted;
        assert_eq!(adopted, case.expect["adopt"].as_bool().unwrap(), "{name}");
        assert_near(name, improvement.unwrap(), case.expect["improvement"].as_f64().unwrap());
    }
}

#[test]
fn known_answers_of_the_permutation_test() {
    #[derive(Deserialize)]
    struct Case {
        name: String,
        #[serde(flatten)]
        scores: Scores,
        p_greater: f64,
        p_strict: f64,
        mid_p: f64,
        p_harm: f64,
        reference_p: f64,
    }
    for case in cases::<Case>("permutation") {
        let tails = permutation::unstratified(&case.scores.by_arm()).unwrap();
        assert_near(&case.name, tails.greater, case.p_greater);
        assert_near(&case.name, tails.greater, case.reference_p);
        assert_near(&case.name, tails.strict, case.p_strict);
        assert_near(&case.name, tails.mid, case.mid_p);
        assert_near(&case.name, tails.harm, case.p_harm);
    }
}

#[test]
fn known_answers_of_the_stratified_test() {
    #[derive(Deserialize)]
    struct Case {
        name: String,
        blocks: Vec<Scores>,
        p_greater: f64,
        exact_fraction: Option<String>,
    }
    for case in cases::<Case>("stratified_permutation") {
        let blocks: Vec<_> = case.blocks.into_iter().map(Scores::by_arm).collect();
        let tails = permutation::stratified(&blocks).unwrap();
        assert_near(&case.name, tails.greater, case.p_greater);
        if let Some((part, whole)) =
            case.exact_fraction.as_deref().and_then(|it| it.split_once('/'))
        {
            let (part, whole): (f64, f64) = (part.parse().unwrap(), whole.parse().unwrap());
            assert_near(&case.name, tails.greater, part / whole);
        }
        let look = Look { blocks, missed: ByArm::default() };
        assert_eq!(Evidence::of(&RULES, &look).p_exact, Some(tails.greater));
    }
}

#[test]
fn known_answers_of_the_paired_test() {
    #[derive(Deserialize)]
    struct Case {
        name: String,
        d: Vec<i32>,
        p_greater: f64,
    }
    for case in cases::<Case>("sign_flip_paired") {
        let tails = permutation::sign_flip(&case.d).unwrap();
        assert_near(&case.name, tails.greater, case.p_greater);
    }
}

#[test]
fn known_answers_of_the_e_process() {
    #[derive(Deserialize)]
    struct Case {
        name: String,
        diff: Vec<f64>,
        log_e: Vec<f64>,
        e: Vec<f64>,
    }
    let Some(vectors) = vectors("eprocess_grid_mixture") else {
        return;
    };
    let cases: Vec<Case> = serde_json::from_value(vectors["cases"].clone()).unwrap();
    assert!(!cases.is_empty());
    for case in cases {
        let mut process = EProcess::default();
        assert_eq!(case.diff.len(), case.log_e.len());
        for ((difference, log_e), e) in case.diff.iter().zip(case.log_e).zip(case.e) {
            process.observe(difference / 10.0);
            assert_near(&case.name, process.log_e(), log_e);
            assert_near(&case.name, process.log_e().exp(), e);
        }
    }
}

#[test]
fn known_answers_of_shrinkage() {
    #[derive(Deserialize)]
    struct Case {
        name: String,
        #[serde(flatten)]
        scores: Scores,
        mu0: f64,
        tau: f64,
        var_floor: f64,
        expect: Expected,
    }
    #[derive(Deserialize)]
    struct Expected {
        improvement: f64,
        se: f64,
        w: f64,
        post_mean: f64,
        post_sd: f64,
        p_better: f64,
        p_ge_10pct: f64,
    }
    for Case { name, scores, mu0, tau, var_floor, expect } in cases::<Case>("shrinkage") {
        // The prior and the floor that this program's are: with others the rest would not agree.
        assert_eq!((mu0, tau, var_floor), (0.0, 0.08, 0.25), "{name}");
        let look = one_block(scores.by_arm());
        let posterior = Posterior::of(&look.pooled()).unwrap();
        assert_near(&name, posterior.standard_error, expect.se);
        assert_near(&name, posterior.weight, expect.w);
        assert_near(&name, posterior.p_above(0.1), expect.p_ge_10pct);
        let evidence = Evidence::of(&RULES, &look);
        assert_near(&name, evidence.improvement.unwrap(), expect.improvement);
        assert_near(&name, evidence.posterior_mean.unwrap(), expect.post_mean);
        assert_near(&name, evidence.posterior_sd.unwrap(), expect.post_sd);
        assert_near(&name, evidence.p_better.unwrap(), expect.p_better);
    }
}

#[test]
fn known_answers_of_probation() {
    #[derive(Deserialize)]
    struct Sums {
        old_sum: u64,
        old_n: u64,
        new_sum: u64,
        new_n: u64,
    }
    #[derive(Deserialize)]
    struct Case {
        name: String,
        test: Sums,
        window: Sums,
        retain_bp: u32,
        expect: Value,
    }
    let by_arm = |sums: Sums| ByArm {
        control: Sum { total: sums.old_sum, count: sums.old_n },
        candidate: Sum { total: sums.new_sum, count: sums.new_n },
    };
    for case in cases::<Case>("probation") {
        let (test, window) = (by_arm(case.test), by_arm(case.window));
        let kept = probation::keeps(test, window, case.retain_bp);
        assert_eq!(kept, case.expect["keep"].as_bool().unwrap(), "{}", case.name);
        let pooled = probation::pooled(test, window);
        let gain = pooled.candidate.mean().unwrap() / pooled.control.mean().unwrap() - 1.0;
        assert_near(&case.name, gain, case.expect["pooled"].as_f64().unwrap());
    }
}

#[test]
fn known_answers_of_the_guards() {
    #[derive(Deserialize)]
    struct Fisher {
        old: [u32; 2],
        new: [u32; 2],
        p_two_sided: f64,
    }
    #[derive(Deserialize)]
    struct Ratio {
        n_new: u32,
        n: u32,
        p_two_sided: f64,
    }
    let Some(vectors) = vectors("guards") else {
        return;
    };
    let fisher: Vec<Fisher> = serde_json::from_value(vectors["fisher_missing"].clone()).unwrap();
    let ratio: Vec<Ratio> = serde_json::from_value(vectors["srm_binom"].clone()).unwrap();
    assert!(!fisher.is_empty() && !ratio.is_empty());
    for case in fisher {
        let arms = |column: usize| ByArm { control: case.old[column], candidate: case.new[column] };
        let name = format!("{:?} {:?}", case.old, case.new);
        assert_near(&name, fisher_p(arms(0), arms(1)), case.p_two_sided);
    }
    for case in ratio {
        let counts = ByArm { control: case.n - case.n_new, candidate: case.n_new };
        let name = format!("{} of {}", case.n_new, case.n);
        assert_near(&name, sample_ratio_p(counts).unwrap(), case.p_two_sided);
    }
}

#[test]
fn known_answers_of_the_lower_confidence_sequence() {
    #[derive(Deserialize)]
    struct Case {
        x01: Vec<f64>,
        alpha: f64,
        lower: Vec<f64>,
    }
    let Some(vector) = vectors("wsr_empbern_lower_cs") else {
        return;
    };
    let case: Case = serde_json::from_value(vector).unwrap();
    let bounds = lower_bounds(&case.x01, case.alpha);
    assert_eq!(bounds.len(), case.lower.len());
    for (bound, expected) in bounds.into_iter().zip(case.lower) {
        assert_near("wsr", bound, expected);
    }
}

#[test]
fn known_answers_of_the_false_discovery_rate() {
    #[derive(Deserialize)]
    struct Step {
        x: f64,
        alpha_t: f64,
        reject: bool,
    }
    let Some(vectors) = vectors("online_fdr") else {
        return;
    };
    type Procedure<'p> = (&'p str, &'p dyn Fn(&[f64]) -> Vec<Tested>);
    let procedures: [Procedure<'_>; 3] = [
        ("LORD++ alpha=.10 w0=.05", &|p| lord(p, 0.10, 0.05)),
        ("SAFFRON alpha=.10 w0=.05 lambda=.5", &|p| saffron(p, 0.10, 0.05, 0.5)),
        ("e-LOND alpha=.20", &|e| e_lond(e, 0.20)),
    ];
    for (name, procedure) in procedures {
        let steps: Vec<Step> = serde_json::from_value(vectors[name].clone()).unwrap();
        let values: Vec<f64> = steps.iter().map(|step| step.x).collect();
        let tested = procedure(&values);
        assert_eq!(tested.len(), steps.len(), "{name}");
        for (got, step) in tested.iter().zip(&steps) {
            assert_near(name, got.level, step.alpha_t);
            assert_eq!(got.discovery, step.reject, "{name}");
        }
    }
}

#[test]
fn every_vector_of_the_file_has_its_test() {
    let Some(all) = vectors_of_all_kinds() else {
        return;
    };
    let kinds: Vec<&str> = all.as_object().unwrap().keys().map(String::as_str).collect();
    let tested = [
        "eprocess_grid_mixture",
        "gate",
        "guards",
        "meta",
        "online_fdr",
        "permutation",
        "probation",
        "shrinkage",
        "sign_flip_paired",
        "stratified_permutation",
        "wsr_empbern_lower_cs",
    ];
    let untested: Vec<&&str> = kinds.iter().filter(|kind| !tested.contains(kind)).collect();
    assert!(untested.is_empty(), "{untested:?}");
    assert_eq!(all["online_fdr"].as_object().unwrap().len(), 3);
    assert_eq!(all["guards"].as_object().unwrap().len(), 2);
}
