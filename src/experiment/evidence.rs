//! Evidence: what a person may want to know beside a verdict, and the sentence that says it.
//!
//! None of it decides. The numbers show how sure one can be of a verdict that rests on twenty scores, and the
//! shrunk gain shows how much of the raw improvement is likely to last.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::experiment::arm::ByArm;
use crate::experiment::eprocess;
use crate::experiment::gate::{Decision, GateRules, Look, Reason, Status, Sum};
use crate::experiment::missingness::sample_ratio_p;
use crate::experiment::permutation::{self, Tails};
use crate::experiment::shrinkage::{Interval, Posterior};

/// Everything measured on a test's frozen scores. Ratios are plain: 0.129 is +12.9%.
///
/// What is undefined is `None`, never NaN or infinite, so that it survives JSON.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Evidence {
    /// The improvement that had to be exceeded, in hundredths of a percent.
    pub threshold_basis_points: u32,
    /// The control's scores added up.
    pub control: Sum,
    /// The candidate's scores added up.
    pub candidate: Sum,
    /// The control's average score.
    pub control_mean: Option<f64>,
    /// The candidate's average score.
    pub candidate_mean: Option<f64>,
    /// `(candidate_mean - control_mean) / control_mean`, not rounded; `None` where the control's total is 0.
    pub improvement: Option<f64>,
    /// The chance of a candidate's sum at least this large if the prompts do not differ, within the dealt blocks.
    pub p_exact: Option<f64>,
    /// The same, counting ties by half.
    pub p_mid: Option<f64>,
    /// The same as `p_exact`, as if there had been no blocks.
    pub p_exact_unstratified: Option<f64>,
    /// The likely true improvement, shrunk towards none.
    pub posterior_mean: Option<f64>,
    /// Standard deviation around it.
    pub posterior_sd: Option<f64>,
    /// The central 95% interval of the true improvement.
    pub interval_95: Option<Interval>,
    /// The probability that the candidate is truly better, 0 to 1.
    pub p_better: Option<f64>,
    /// How many times over a fair bet on the candidate has multiplied its stake; `None` too where no float holds it.
    pub e_value: Option<f64>,
    /// Natural logarithm of the e-value.
    pub log_e: Option<f64>,
    /// The chance of arms this unequal in number of scores, if dealt by a fair coin.
    pub sample_ratio_p: Option<f64>,
    /// Fisher's exact p for scores missed by one arm rather than the other.
    pub missingness_p: Option<f64>,
}

impl Evidence {
    /// Measures a test. Every input has its evidence, however little.
    #[must_use]
    pub fn of(rules: &GateRules, look: &Look) -> Self {
        let pooled = look.pooled();
        let ByArm { control, candidate } = look.sums();
        let both_scored = control.count > 0 && candidate.count > 0;
        let when_both = |tails: Option<Tails>| tails.filter(|_| both_scored);
        let exact = when_both(permutation::stratified(&look.blocks));
        let unstratified = when_both(permutation::unstratified(&pooled));
        let posterior = Posterior::of(&pooled);
        let log_e = eprocess::log_e_benefit(&look.blocks, rules.score_max);
        let slots = control.count + candidate.count > 0 || look.missed != ByArm::default();
        Self {
            threshold_basis_points: rules.threshold_basis_points,
            control,
            candidate,
            control_mean: control.mean(),
            candidate_mean: candidate.mean(),
            improvement: improvement(control, candidate),
            p_exact: exact.map(|tails| tails.greater),
            p_mid: exact.map(|tails| tails.mid),
            p_exact_unstratified: unstratified.map(|tails| tails.greater),
            posterior_mean: posterior.map(|it| it.mean),
            posterior_sd: posterior.map(|it| it.sd),
            interval_95: posterior.map(|it| it.interval_95()),
            p_better: posterior.map(|it| it.p_above(0.0)),
            e_value: log_e.map(f64::exp).filter(|e| e.is_finite()),
            log_e,
            sample_ratio_p: sample_ratio_p(ByArm {
                control: control.count_u32(),
                candidate: candidate.count_u32(),
            }),
            missingness_p: slots.then(|| look.missingness_p()),
        }
    }

    /// The verdict in one sentence, for the page, the command line and the log.
    ///
    /// `probation_tasks` is for how many tasks an adoption is watched, where it is.
    #[must_use]
    pub fn sentence(
        &self,
        model: &str,
        version: i32,
        decision: &Decision,
        probation_tasks: Option<u32>,
    ) -> String {
        let scores = self.scores_in_words();
        let gain = self
            .improvement
            .map(|improvement| format!("{}, ", self.percent(improvement)))
            .unwrap_or_default();
        let verdict = match (decision.status, decision.reason) {
            (Status::Adopted, Reason::Improved) => match self.posterior_mean {
                Some(mean) => format!("adopted; {} is the likely true gain", about(mean)),
                None => "adopted".to_owned(),
            },
            (Status::Rejected, Reason::NotImproved) => {
                let asked = percent_plain(self.threshold_basis_points);
                format!("rejected; adoption asks for more than +{asked}%")
            }
            (status, reason) => {
                let why = reason.in_words();
                let stays = match status {
                    Status::Inconclusive => "; the old version stays",
                    Status::Adopted | Status::Rejected => "",
                };
                let chance = match (reason, self.p_exact) {
                    (
                        Reason::ZeroControlImproved
                        | Reason::ZeroControlNotProven
                        | Reason::NotProven,
                        Some(p),
                    ) => format!(" ({})", p_in_words(p)),
                    _ => String::new(),
                };
                format!("{status}, because {why}{chance}{stays}")
            }
        };
        let watch = probation_tasks
            .filter(|_| decision.status == Status::Adopted)
            .map(|tasks| format!("; on probation for {tasks} tasks"))
            .unwrap_or_default();
        format!("{model} v{version} {scores}: {gain}{verdict}{watch}.")
    }

    fn scores_in_words(&self) -> String {
        let tasks = |sum: Sum| match sum.count {
            1 => "1 task".to_owned(),
            count => format!("{count} tasks"),
        };
        let (new, old) = (self.candidate, self.control);
        match (self.candidate_mean.map(points), self.control_mean.map(points)) {
            (Some(a), Some(b)) if new.count == old.count => {
                format!("scored {a} against {b} on {} each", tasks(new))
            }
            (Some(a), Some(b)) => {
                format!("scored {a} on {} against {b} on {}", tasks(new), tasks(old))
            }
            (Some(a), None) => format!("scored {a} on {}, the old version on none", tasks(new)),
            (None, Some(b)) => format!("has no score, against {b} on {}", tasks(old)),
            (None, None) => "has no score, nor has the old version".to_owned(),
        }
    }

    /// The improvement in percent, to one decimal, or to as many as tell it from the threshold: 10.04% is not 10%.
    fn percent(&self, improvement: f64) -> String {
        let threshold = f64::from(self.threshold_basis_points) / 100.0;
        let percent = improvement * 100.0;
        let is_threshold = (percent - threshold).abs() < 1e-9;
        let clear = |text: &str| {
            let differs = |shown: f64| (shown - threshold).abs() > 1e-10;
            is_threshold || text.parse().is_ok_and(differs)
        };
        let mut text = format!("{percent:+.1}");
        for decimals in 2..=9 {
            if clear(&text) {
                break;
            }
            text = format!("{percent:+.decimals$}");
        }
        match text.as_str() {
            "-0.0" | "+0.0" => "±0%".to_owned(),
            text => format!("{text}%"),
        }
    }
}

/// Unrounded, and computed on the integers, so that equal means give exactly 0.
pub(crate) fn improvement(control: Sum, candidate: Sum) -> Option<f64> {
    if control.total == 0 || candidate.count == 0 {
        return None;
    }
    let old = u128::from(control.total) * u128::from(candidate.count);
    let new = u128::from(candidate.total) * u128::from(control.count);
    let gain = if new >= old { (new - old) as f64 } else { -((old - new) as f64) };
    Some(gain / old as f64)
}

/// A mean score with one decimal, or two where it needs them.
pub(super) fn points(mean: f64) -> String {
    let text = format!("{mean:.2}");
    text.strip_suffix('0').map(str::to_owned).unwrap_or(text)
}

fn about(gain: f64) -> String {
    let percent = (gain * 100.0).round();
    if percent == 0.0 { "less than 1%".to_owned() } else { format!("about {percent:+}%") }
}

/// Basis points as a percentage without idle zeros: 1000 is "10", 1250 is "12.5".
fn percent_plain(basis_points: u32) -> String {
    format!("{}", f64::from(basis_points) / 100.0)
}

fn p_in_words(p: f64) -> String {
    if p < 0.0001 { "p < 0.0001".to_owned() } else { format!("p = {p:.4}") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::experiment::gate::decide;

    const RULES: GateRules =
        GateRules { threshold_basis_points: 1000, scores_per_arm_min: 8, score_max: 10 };

    /// The scores in blocks of four, and what is left in a last one.
    fn look(control: &[u16], candidate: &[u16]) -> Look {
        let blocks = control.len().max(candidate.len()).div_ceil(2);
        let pair = |scores: &[u16], block: usize| -> Vec<u16> {
            scores.iter().skip(2 * block).take(2).copied().collect()
        };
        Look {
            blocks: (0..blocks)
                .map(|block| ByArm {
                    control: pair(control, block),
                    candidate: pair(candidate, block),
                })
                .collect(),
            missed: ByArm::default(),
        }
    }

    fn said(control: &[u16], candidate: &[u16]) -> String {
        said_of(&look(control, candidate))
    }

    fn said_of(look: &Look) -> String {
        Evidence::of(&RULES, look).sentence("nano-banana", 4, &decide(&RULES, look), None)
    }

    #[test]
    fn an_adoption_on_probation_says_for_how_long() {
        let said = |candidate: u16| {
            let look = look(&[7, 5, 6, 8, 6, 7, 9, 9, 6, 7], &[candidate; 10]);
            let decision = decide(&RULES, &look);
            Evidence::of(&RULES, &look).sentence("nano-banana", 4, &decision, Some(30))
        };
        insta::assert_snapshot!(said(8), @"nano-banana v4 scored 8.0 against 7.0 on 10 tasks each: +14.3%, adopted; about +8% is the likely true gain; on probation for 30 tasks.");
        insta::assert_snapshot!(said(7), @"nano-banana v4 scored 7.0 against 7.0 on 10 tasks each: ±0%, rejected; adoption asks for more than +10%.");
    }

    #[test]
    fn a_verdict_reads_as_one_sentence() {
        let sevens = [7; 10];
        insta::assert_snapshot!(said(&[7, 5, 6, 8, 6, 7, 9, 9, 6, 7], &[8, 8, 7, 9, 8, 8, 7, 7, 9, 8]), @"nano-banana v4 scored 7.9 against 7.0 on 10 tasks each: +12.9%, adopted; about +7% is the likely true gain.");
        insta::assert_snapshot!(said(&sevens, &[8, 8, 8, 8, 8, 8, 8, 7, 7, 7]), @"nano-banana v4 scored 7.7 against 7.0 on 10 tasks each: +10.0%, rejected; adoption asks for more than +10%.");
        insta::assert_snapshot!(said(&sevens, &[7, 7, 7, 7, 7, 7, 7, 7, 7, 6]), @"nano-banana v4 scored 6.9 against 7.0 on 10 tasks each: -1.4%, rejected; adoption asks for more than +10%.");
        insta::assert_snapshot!(said(&[6, 8, 6, 8], &[7, 7, 7, 7]), @"nano-banana v4 scored 7.0 against 7.0 on 4 tasks each: ±0%, inconclusive, because too few scores came in; the old version stays.");
        insta::assert_snapshot!(said(&[6, 8, 6, 8, 6, 8, 6, 8], &[7, 7, 7, 7, 7, 7, 7, 7]), @"nano-banana v4 scored 7.0 against 7.0 on 8 tasks each: ±0%, rejected; adoption asks for more than +10%.");
        insta::assert_snapshot!(said(&[6, 7, 5, 6, 8, 7, 6, 5], &[7, 8, 6, 7, 9, 8, 7, 6, 8, 7]), @"nano-banana v4 scored 7.3 on 10 tasks against 6.25 on 8 tasks: +16.8%, adopted; about +8% is the likely true gain.");
        insta::assert_snapshot!(said(&sevens, &sevens), @"nano-banana v4 scored 7.0 against 7.0 on 10 tasks each: ±0%, rejected, because every score of both versions is the same.");
    }

    #[test]
    fn a_control_of_zeros_has_no_percentage() {
        let zeros = [0; 10];
        insta::assert_snapshot!(said(&zeros, &[5; 10]), @"nano-banana v4 scored 5.0 against 0.0 on 10 tasks each: adopted, because the old version scored only zeros and chance alone hardly explains the new one's scores (p = 0.0001).");
        insta::assert_snapshot!(said(&zeros, &[5, 0, 0, 0, 0, 0, 0, 0, 0, 0]), @"nano-banana v4 scored 0.5 against 0.0 on 10 tasks each: rejected, because the old version scored only zeros but chance alone could explain the new one's scores (p = 0.5000).");
        insta::assert_snapshot!(said(&zeros, &zeros), @"nano-banana v4 scored 0.0 against 0.0 on 10 tasks each: rejected, because every score of both versions is zero.");
    }

    #[test]
    fn a_test_that_decides_nothing_says_why() {
        insta::assert_snapshot!(said(&[], &[]), @"nano-banana v4 has no score, nor has the old version: inconclusive, because too few scores came in; the old version stays.");
        insta::assert_snapshot!(said(&[], &[7]), @"nano-banana v4 scored 7.0 on 1 task, the old version on none: inconclusive, because too few scores came in; the old version stays.");
        insta::assert_snapshot!(said(&[7, 8], &[]), @"nano-banana v4 has no score, against 7.5 on 2 tasks: inconclusive, because too few scores came in; the old version stays.");
        let mut uneven = look(&[7; 10], &[9; 10]);
        uneven.missed.candidate = 20;
        insta::assert_snapshot!(said_of(&uneven), @"nano-banana v4 scored 9.0 against 7.0 on 10 tasks each: +28.6%, inconclusive, because one version went without its scores far more often than the other; the old version stays.");
        let timed_out = Decision { status: Status::Inconclusive, reason: Reason::TimedOut };
        let evidence = Evidence::of(&RULES, &look(&[7; 10], &[9; 9]));
        insta::assert_snapshot!(evidence.sentence("flux", 12, &timed_out, Some(30)), @"flux v12 scored 9.0 on 9 tasks against 7.0 on 10 tasks: +28.6%, inconclusive, because the test ran out of time; the old version stays.");
    }

    #[test]
    fn an_improvement_just_past_the_threshold_does_not_read_as_the_threshold() {
        let over = look(&[1000; 10], &[1100, 1100, 1100, 1100, 1100, 1100, 1100, 1100, 1100, 1101]);
        insta::assert_snapshot!(said_of(&over), @"nano-banana v4 scored 1100.1 against 1000.0 on 10 tasks each: +10.01%, adopted; about +10% is the likely true gain.");
    }

    #[test]
    fn without_scores_nothing_is_defined_and_nothing_is_nan() {
        let empty = Evidence::of(&RULES, &Look::default());
        let json = serde_json::to_value(&empty).unwrap();
        let defined: Vec<&String> = json
            .as_object()
            .unwrap()
            .iter()
            .filter(|(_, value)| !value.is_null())
            .map(|(name, _)| name)
            .collect();
        assert_eq!(defined, ["candidate", "control", "threshold_basis_points"]);
    }

    #[test]
    fn evidence_survives_storage() {
        let evidence = Evidence::of(&RULES, &look(&[7, 5, 6, 8], &[7, 8, 6, 9]));
        let stored = serde_json::to_string(&evidence).unwrap();
        let read: Evidence = serde_json::from_str(&stored).unwrap();
        // serde_json may read a float back one place off in its last digit.
        let numbers = |it: &Evidence| format!("{:.12?}", it);
        assert_eq!(numbers(&read), numbers(&evidence));
    }
}
