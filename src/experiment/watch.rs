//! The standing watch: does an adopted version still score what its predecessor did?
//!
//! A gate looks at a test and is done. What changes afterwards (other tasks, another image model behind the same
//! name) is seen by nobody, unless somebody keeps betting on harm: an [`EProcess`] that wins whenever a score falls
//! short of what the predecessor scored in the test, less a tolerance. It may be looked at after every score, and
//! false alarms stay below one in twenty for each watched version however long it serves.

use crate::experiment::eprocess::{EProcess, is_alarm};
use crate::experiment::gate::Sum;

/// What a version is held against.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reference {
    /// The predecessor's counted scores in the test that adopted the version.
    pub control: Sum,
    /// How far below their mean the version may stay, in hundredths of a percent: 500 is 5%.
    pub tolerance_basis_points: u32,
    /// The best score that the validator gives.
    pub score_max: u16,
}

impl Reference {
    /// The mean score below which the version does harm; `None` without a score to compare with.
    #[must_use]
    pub fn floor(&self) -> Option<f64> {
        let kept = 1.0 - f64::from(self.tolerance_basis_points) / 10_000.0;
        self.control.mean().map(|mean| mean * kept.max(0.0))
    }
}

/// How a watch stands.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Watch {
    /// The bets on harm.
    pub process: EProcess,
    /// The version's scores so far.
    pub seen: Sum,
}

impl Watch {
    /// One more score of the version. Without a reference it is counted, and no bet is made.
    pub fn observe(&mut self, reference: &Reference, score: u16) {
        self.seen = self.seen.and(Sum { total: u64::from(score), count: 1 });
        if let Some(floor) = reference.floor().filter(|_| reference.score_max > 0) {
            self.process.observe((floor - f64::from(score)) / f64::from(reference.score_max));
        }
    }

    /// True once the evidence of harm is twenty to one.
    #[must_use]
    pub fn alarms(&self) -> bool {
        is_alarm(self.process.log_e())
    }
}

/// The alarm in one sentence, for the log, the hold and the pages.
#[must_use]
pub fn alarm_in_words(model: &str, version: i32, reference: &Reference, seen: Sum) -> String {
    let points =
        |mean: Option<f64>| mean.map_or_else(|| "nothing".to_owned(), |it| format!("{it:.1}"));
    format!(
        "{model} v{version} has averaged {} over {} tasks since its adoption, where its predecessor scored {}: twenty \
         to one that it does harm, more than {}% of it",
        points(seen.mean()),
        seen.count,
        points(reference.control.mean()),
        f64::from(reference.tolerance_basis_points) / 100.0
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::experiment::power::{Arms, BuiltIn};

    const REFERENCE: Reference = Reference {
        control: Sum { total: 65, count: 10 },
        tolerance_basis_points: 500,
        score_max: 10,
    };

    /// After how many of the scores the alarm rings.
    fn rings_after(scores: impl IntoIterator<Item = u16>) -> Option<usize> {
        let mut watch = Watch::default();
        scores.into_iter().position(|score| {
            watch.observe(&REFERENCE, score);
            watch.alarms()
        })
    }

    #[test]
    fn a_version_that_fell_by_half_rings_within_twenty_tasks() {
        assert!(rings_after([3; 30]).is_some_and(|after| after < 20));
        assert_eq!(rings_after([7; 1000]), None);
    }

    #[test]
    fn a_version_at_its_reference_hardly_ever_rings_and_one_a_quarter_worse_does() {
        let rings = |effect: i32| {
            let arms = Arms::new(&BuiltIn::Mid.shape(), effect).unwrap();
            (0..200).filter(|&run| rings_after(arms.candidate_scores(run, 400)).is_some()).count()
        };
        assert!(rings(0) <= 10, "1 in 20 is allowed");
        assert!(rings(-2500) >= 190);
    }

    #[test]
    fn a_watch_goes_on_from_what_was_stored_of_it() {
        let mut whole = Watch::default();
        [4, 9, 2, 5].into_iter().for_each(|score| whole.observe(&REFERENCE, score));
        let mut half = Watch::default();
        [4, 9].into_iter().for_each(|score| half.observe(&REFERENCE, score));
        let stored = half.process.log_stakes().to_vec();
        let process = EProcess::from_log_stakes(&stored).unwrap();
        let mut resumed = Watch { process, seen: half.seen };
        [2, 5].into_iter().for_each(|score| resumed.observe(&REFERENCE, score));
        assert_eq!(resumed, whole);
        assert_eq!(EProcess::from_log_stakes(&[0.0; 8]), None);
        assert_eq!(EProcess::from_log_stakes(&[f64::NAN; 9]), None);
    }

    #[test]
    fn without_a_reference_nothing_is_bet() {
        let nothing = Reference { control: Sum::default(), ..REFERENCE };
        let mut watch = Watch::default();
        for _ in 0..100 {
            watch.observe(&nothing, 0);
        }
        assert_eq!((watch.process.log_e(), watch.seen.count), (0.0, 100));
    }

    #[test]
    fn the_alarm_reads_as_one_sentence() {
        let seen = Sum { total: 96, count: 24 };
        insta::assert_snapshot!(alarm_in_words("nano-banana", 4, &REFERENCE, seen), @"nano-banana v4 has averaged 4.0 over 24 tasks since its adoption, where its predecessor scored 6.5: twenty to one that it does harm, more than 5% of it");
    }
}
