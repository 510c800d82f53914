//! The figures of a verdict as a person reads them, under the sentence that says what they come to.

use crate::experiment::evidence::{Evidence, points};
use crate::experiment::gate::Sum;

/// A sample-ratio p below this says that the arms were not dealt half and half.
const SAMPLE_RATIO_ALARM: f64 = 0.001;
/// A missingness p below this made the test inconclusive.
const MISSINGNESS_ALARM: f64 = 0.05;

/// Each figure with what it is, in the order in which somebody would ask for them. What is undefined is left out.
#[must_use]
pub fn of(evidence: &Evidence) -> Vec<(&'static str, String)> {
    let figures = [
        ("Old version", Some(scores(evidence.control))),
        ("New version", Some(scores(evidence.candidate))),
        ("Raw improvement", evidence.improvement.map(percent)),
        ("Improvement likely to last", likely(evidence)),
        ("Chance that the new version is better", evidence.p_better.map(share)),
        ("Chance of this result if both were alike (exact p)", evidence.p_exact.map(p_value)),
        ("The same, ties by half (mid p)", evidence.p_mid.map(p_value)),
        ("Stake of a fair bet on the new version (e-value)", evidence.e_value.map(e_value)),
        ("Dealt half and half (sample-ratio p)", evidence.sample_ratio_p.map(sample_ratio)),
        ("Scores missing from both alike (Fisher's p)", evidence.missingness_p.map(missingness)),
    ];
    figures.into_iter().filter_map(|(label, value)| Some((label, value?))).collect()
}

fn scores(sum: Sum) -> String {
    match sum.mean() {
        Some(mean) => format!("{} ({} over {})", points(mean), sum.total, sum.count),
        None => "no score".to_owned(),
    }
}

fn likely(evidence: &Evidence) -> Option<String> {
    let mean = percent(evidence.posterior_mean?);
    let interval = evidence
        .interval_95
        .map(|it| format!(", 95% between {} and {}", percent(it.low), percent(it.high)));
    Some(mean + &interval.unwrap_or_default())
}

fn percent(ratio: f64) -> String {
    match format!("{:+.1}%", ratio * 100.0).as_str() {
        "+0.0%" | "-0.0%" => "±0%".to_owned(),
        text => text.to_owned(),
    }
}

fn share(probability: f64) -> String {
    format!("{:.1}%", probability * 100.0)
}

fn p_value(p: f64) -> String {
    if p < 0.0001 { "below 0.0001".to_owned() } else { format!("{p:.4}") }
}

fn e_value(e: f64) -> String {
    if e < 1000.0 { format!("{e:.2}") } else { format!("{e:.1e}") }
}

fn sample_ratio(p: f64) -> String {
    let verdict = if p < SAMPLE_RATIO_ALARM { ": no, look into the dealing" } else { ": yes" };
    p_value(p) + verdict
}

fn missingness(p: f64) -> String {
    let verdict = if p < MISSINGNESS_ALARM { ": no" } else { ": yes" };
    p_value(p) + verdict
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::experiment::ByArm;
    use crate::experiment::gate::{GateRules, Look};

    fn told(look: &Look) -> String {
        let rules =
            GateRules { threshold_basis_points: 1000, scores_per_arm_min: 8, score_max: 10 };
        let figures = of(&Evidence::of(&rules, look));
        figures.iter().map(|(label, value)| format!("{label}: {value}\n")).collect()
    }

    #[test]
    fn every_figure_of_a_verdict_is_told() {
        let block = |control: [u16; 2], candidate: [u16; 2]| ByArm {
            control: control.to_vec(),
            candidate: candidate.to_vec(),
        };
        let blocks = vec![
            block([7, 5], [8, 8]),
            block([6, 8], [7, 9]),
            block([6, 7], [8, 8]),
            block([9, 9], [7, 7]),
            block([6, 7], [9, 8]),
        ];
        let look = Look { blocks, missed: ByArm { control: 1, candidate: 0 } };
        insta::assert_snapshot!(told(&look), @r"
        Old version: 7.0 (70 over 10)
        New version: 7.9 (79 over 10)
        Raw improvement: +12.9%
        Improvement likely to last: +6.8%, 95% between -4.0% and +17.6%
        Chance that the new version is better: 89.1%
        Chance of this result if both were alike (exact p): 0.0738
        The same, ties by half (mid p): 0.0536
        Stake of a fair bet on the new version (e-value): 1.52
        Dealt half and half (sample-ratio p): 1.0000: yes
        Scores missing from both alike (Fisher's p): 1.0000: yes
        ");
    }

    #[test]
    fn an_uneven_test_says_so_and_an_empty_one_has_no_more_than_that() {
        let lopsided = ByArm { control: vec![7; 2], candidate: vec![7; 20] };
        let look = Look { blocks: vec![lopsided], missed: ByArm { control: 20, candidate: 0 } };
        let told_of_it = told(&look);
        assert!(told_of_it.contains("no, look into the dealing"), "{told_of_it}");
        assert!(told_of_it.ends_with("(Fisher's p): below 0.0001: no\n"), "{told_of_it}");
        assert_eq!(told(&Look::default()), "Old version: no score\nNew version: no score\n");
    }
}
