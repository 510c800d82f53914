//! What follows from what happened: the decisions of a run, pure.
//!
//! The best score that passed wins, and of equal ones the model that stands first in the workflow, of a pair the older
//! version. When nothing passed, what was wrong with the best failure goes into the next round. A failed attempt decides
//! nothing.

use std::cmp::Reverse;
use std::time::Duration;

use super::record::{Assigned, AttemptFailure, JudgedPicture};
use super::service::Next;
use crate::task_log::Fault;

/// One model's attempt in one round, ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attempt {
    /// The model, by its place in the workflow.
    pub model: usize,
    /// The version that it was tried under, where its task is done under two.
    pub leg: Option<i32>,
    /// The round, from 1.
    pub iteration: i32,
    /// How it ended.
    pub end: AttemptEnd,
}

/// How an attempt ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AttemptEnd {
    /// Its picture was judged.
    Judged(Box<Picture>),
    /// It failed on the way.
    Failed(AttemptFailure),
}

/// A judged picture with what it was made from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Picture {
    /// The prompt that it was made from.
    pub prompt: String,
    /// Where it is.
    pub url: String,
    /// What the judge said.
    pub judged: JudgedPicture,
}

/// What follows a round.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum After<'a> {
    /// This attempt won; the run gives its picture back.
    Winner(&'a Attempt),
    /// Another round.
    Again,
    /// Nothing passed in any round; a person is asked.
    NoWinner,
    /// Not one picture could be judged in any round: that is a failure, and says nothing of the task.
    NothingJudged,
}

fn judged(attempt: &Attempt) -> Option<&Picture> {
    match &attempt.end {
        AttemptEnd::Judged(picture) => Some(picture),
        AttemptEnd::Failed(_) => None,
    }
}

/// The best of some attempts by score; of equal ones the model that stands first, and of a pair the older version.
fn best<'a>(attempts: impl Iterator<Item = &'a Attempt>) -> Option<&'a Attempt> {
    attempts
        .filter_map(|attempt| Some((judged(attempt)?.judged.score, attempt)))
        .max_by_key(|(score, attempt)| (*score, Reverse((attempt.model, attempt.leg))))
        .map(|(_, attempt)| attempt)
}

/// What follows round `iteration`, given every attempt so far.
#[must_use]
pub fn after_round(attempts: &[Attempt], iteration: i32, iterations_max: u32) -> After<'_> {
    let passed = attempts.iter().filter(|attempt| {
        attempt.iteration == iteration
            && judged(attempt).is_some_and(|picture| picture.judged.passed)
    });
    if let Some(winner) = best(passed) {
        return After::Winner(winner);
    }
    if u32::try_from(iteration).unwrap_or(u32::MAX) < iterations_max {
        return After::Again;
    }
    if attempts.iter().any(|attempt| judged(attempt).is_some()) {
        After::NoWinner
    } else {
        After::NothingJudged
    }
}

/// The failure that the next round learns from: the best of the latest round that had any judged.
#[must_use]
pub fn best_failure(attempts: &[Attempt]) -> Option<&Picture> {
    let latest = attempts.iter().filter(|attempt| judged(attempt).is_some());
    let latest = latest.map(|attempt| attempt.iteration).max()?;
    best(attempts.iter().filter(|attempt| attempt.iteration == latest)).and_then(judged)
}

/// A version that a model is tried under.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Leg {
    /// Its number.
    pub version: i32,
    /// The same where the task is done under two versions, else none.
    pub leg: Option<i32>,
}

/// Under which versions a model is tried in the next round: under both of a pair in the first, whose scores are what
/// the test goes by, and after it only under the one that did better, since each picture costs money.
#[must_use]
pub fn legs_to_try(before: &[Attempt], model: usize, assigned: &Assigned) -> Vec<Leg> {
    let Some(pair) = assigned.pair else {
        return vec![Leg { version: assigned.version, leg: None }];
    };
    let leg = |version| Leg { version, leg: Some(version) };
    if before.is_empty() {
        return vec![leg(assigned.version), leg(pair)];
    }
    let own = before.iter().filter(|attempt| attempt.model == model);
    let better = best(own).and_then(|attempt| attempt.leg);
    vec![leg(better.unwrap_or_else(|| assigned.version.min(pair)))]
}

/// The prompt that a model refines: its own last one under that version, else the one of the best failure.
#[must_use]
pub fn earlier_prompt(attempts: &[Attempt], model: usize, leg: Option<i32>) -> Option<&str> {
    let own = attempts.iter().filter(|attempt| attempt.model == model && attempt.leg == leg);
    let own = own.filter_map(|attempt| Some((attempt.iteration, judged(attempt)?)));
    own.max_by_key(|(iteration, _)| *iteration)
        .map(|(_, picture)| picture)
        .or_else(|| best_failure(attempts))
        .map(|picture| picture.prompt.as_str())
}

/// Each model's best score so far with its picture, in the workflow's order.
#[must_use]
pub fn best_of_each(attempts: &[Attempt]) -> Vec<(usize, &Picture)> {
    let models = attempts.iter().map(|attempt| attempt.model).max().map_or(0, |most| most + 1);
    (0..models)
        .filter_map(|model| {
            let own = attempts.iter().filter(|attempt| attempt.model == model);
            best(own).and_then(judged).map(|picture| (model, picture))
        })
        .collect()
}

/// What a failed call does to the attempt or the run that made it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Consequence {
    /// The run waits, and the call is made again.
    Waits {
        /// How long the service asked to wait.
        after: Option<Duration>,
        /// True when a person has to mend something first.
        for_operator: bool,
    },
    /// It is over, through this.
    Fails {
        /// Whose fault it was.
        fault: Fault,
    },
}

/// What a failed call does to one model's attempt. What may have been done and billed is not asked for again.
#[must_use]
pub const fn for_attempt(next: Next) -> Consequence {
    match next {
        Next::Later { after } => Consequence::Waits { after, for_operator: false },
        Next::Operator => Consequence::Waits { after: None, for_operator: true },
        Next::Never { fault } => Consequence::Fails { fault },
        Next::Unknown => Consequence::Fails { fault: Fault::Infrastructure },
    }
}

/// What a failed call of the run itself (its task, its upload, its comment) does to it. Such calls cost nothing and are
/// looked for before they are repeated, so that one whose end is not known is simply made again.
#[must_use]
pub const fn for_run(next: Next) -> Consequence {
    match next {
        Next::Later { after } => Consequence::Waits { after, for_operator: false },
        Next::Operator => Consequence::Waits { after: None, for_operator: true },
        Next::Never { fault } => Consequence::Fails { fault },
        Next::Unknown => Consequence::Waits { after: None, for_operator: false },
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rust_decimal::Decimal;

    use super::*;
    use crate::orchestrator::record::{ClaudeFacts, Stage};

    fn scored(model: usize, iteration: i32, score: u16, passed: bool) -> Attempt {
        let claude = ClaudeFacts {
            model: "judge".to_owned(),
            request_id: None,
            input_tokens: None,
            cache_creation_tokens: None,
            cache_read_tokens: None,
            output_tokens: None,
            calls: 1,
            cost_usd: Decimal::ZERO,
            cost_estimated: false,
            latency_ms: None,
        };
        let judged = JudgedPicture {
            score,
            passed,
            issues: vec![format!("issue of {model} in {iteration}")],
            reasoning: String::new(),
            prompt_version: "v".to_owned(),
            claude,
        };
        let prompt = format!("prompt of {model} in {iteration}");
        let picture = Picture { prompt, url: String::new(), judged };
        Attempt { model, leg: None, iteration, end: AttemptEnd::Judged(Box::new(picture)) }
    }

    fn under(leg: i32, attempt: Attempt) -> Attempt {
        Attempt { leg: Some(leg), ..attempt }
    }

    fn failed(model: usize, iteration: i32) -> Attempt {
        let failure = AttemptFailure {
            stage: Stage::Generation,
            code: "c".to_owned(),
            words: "w".to_owned(),
            by_prompt: false,
        };
        Attempt { model, leg: None, iteration, end: AttemptEnd::Failed(failure) }
    }

    fn winner(attempts: &[Attempt], iteration: i32) -> Option<usize> {
        match after_round(attempts, iteration, 3) {
            After::Winner(attempt) => Some(attempt.model),
            _ => None,
        }
    }

    #[test]
    fn the_best_score_that_passed_wins_and_the_order_settles_a_tie() {
        assert_eq!(winner(&[scored(0, 1, 8, true), scored(1, 1, 9, true)], 1), Some(1));
        assert_eq!(winner(&[scored(0, 1, 9, true), scored(1, 1, 9, true)], 1), Some(0));
        // What did not pass does not win, however high its score.
        assert_eq!(winner(&[scored(0, 1, 8, true), scored(1, 1, 9, false)], 1), Some(0));
        assert_eq!(winner(&[failed(0, 1), scored(1, 1, 8, true)], 1), Some(1));
    }

    #[test]
    fn a_round_without_a_winner_is_followed_by_another_until_the_last() {
        let attempts = [scored(0, 1, 5, false), failed(1, 1)];
        assert_eq!(after_round(&attempts, 1, 3), After::Again);
        assert_eq!(after_round(&attempts, 1, 1), After::NoWinner);
        assert_eq!(after_round(&[failed(0, 1), failed(1, 1)], 1, 1), After::NothingJudged);
        assert_eq!(after_round(&[failed(0, 1), failed(1, 1)], 1, 2), After::Again);
    }

    #[test]
    fn the_next_round_learns_from_the_best_failure_of_the_latest_judged_round() {
        let attempts = [scored(0, 1, 7, false), scored(1, 1, 3, false), failed(0, 2), failed(1, 2)];
        let issues = best_failure(&attempts).map(|picture| picture.judged.issues.clone());
        assert_eq!(issues, Some(vec!["issue of 0 in 1".to_owned()]));
        let later = [scored(0, 1, 7, false), scored(1, 2, 3, false)];
        assert_eq!(best_failure(&later).unwrap().prompt, "prompt of 1 in 2");
        assert_eq!(best_failure(&[failed(0, 1)]), None);
    }

    #[test]
    fn a_model_refines_its_own_prompt_where_it_has_one() {
        let attempts = [scored(0, 1, 7, false), scored(1, 1, 3, false), failed(1, 2)];
        assert_eq!(earlier_prompt(&attempts, 1, None), Some("prompt of 1 in 1"));
        assert_eq!(earlier_prompt(&attempts, 2, None), Some("prompt of 0 in 1"));
        assert_eq!(earlier_prompt(&[failed(0, 1)], 0, None), None);
    }

    #[test]
    fn a_pair_is_tried_under_both_versions_and_then_under_the_better_one() {
        let assigned = Assigned {
            version: 7,
            content_hash: String::new(),
            arm: Some("candidate".to_owned()),
            pair: Some(6),
        };
        let tried = |before: &[Attempt], model| -> Vec<i32> {
            let legs = legs_to_try(before, model, &assigned);
            assert!(legs.iter().all(|it| it.leg == Some(it.version)));
            legs.iter().map(|it| it.version).collect()
        };
        assert_eq!(tried(&[], 0), [7, 6]);
        let first = [
            under(7, scored(0, 1, 5, false)),
            under(6, scored(0, 1, 4, false)),
            under(7, scored(1, 1, 3, false)),
            under(6, failed(1, 1)),
            under(7, failed(2, 1)),
            under(6, failed(2, 1)),
            under(7, scored(3, 1, 6, false)),
            under(6, scored(3, 1, 6, false)),
        ];
        assert_eq!(tried(&first, 0), [7]);
        assert_eq!(tried(&first, 1), [7], "a failed attempt is no better");
        assert_eq!((tried(&first, 2), tried(&first, 3)), (vec![6], vec![6]), "the older one");
        assert_eq!(earlier_prompt(&first, 0, Some(7)), Some("prompt of 0 in 1"));
        let single = Assigned { pair: None, ..assigned };
        assert_eq!(legs_to_try(&[], 0, &single), [Leg { version: 7, leg: None }]);
    }

    #[test]
    fn of_two_legs_the_better_wins_and_of_equal_ones_the_older_version() {
        let won = |old, new| {
            let legs = [under(2, scored(0, 1, new, true)), under(1, scored(0, 1, old, true))];
            match after_round(&legs, 1, 3) {
                After::Winner(attempt) => attempt.leg,
                _ => None,
            }
        };
        assert_eq!((won(8, 9), won(9, 8), won(9, 9)), (Some(2), Some(1), Some(1)));
    }

    #[test]
    fn what_may_have_been_billed_is_never_asked_for_again() {
        let unknown = Consequence::Fails { fault: Fault::Infrastructure };
        assert_eq!(for_attempt(Next::Unknown), unknown);
        assert!(matches!(for_run(Next::Unknown), Consequence::Waits { for_operator: false, .. }));
        assert!(matches!(
            for_attempt(Next::Operator),
            Consequence::Waits { for_operator: true, .. }
        ));
    }

    fn any_attempt() -> impl Strategy<Value = Attempt> {
        (0_usize..4, 1_i32..4, prop::option::of((0_u16..=10, any::<bool>()))).prop_map(
            |(model, iteration, score)| match score {
                Some((score, passed)) => scored(model, iteration, score, passed),
                None => failed(model, iteration),
            },
        )
    }

    proptest! {
        #[test]
        fn a_winner_passed_in_its_round_and_nobody_there_passed_with_more(
            attempts in prop::collection::vec(any_attempt(), 0..12), iteration in 1_i32..4
        ) {
            let passed = |attempt: &&Attempt| attempt.iteration == iteration
                && judged(attempt).is_some_and(|picture| picture.judged.passed);
            match after_round(&attempts, iteration, 3) {
                After::Winner(won) => {
                    prop_assert!(passed(&won));
                    let best = attempts.iter().filter(passed).filter_map(judged).map(|p| p.judged.score).max();
                    prop_assert_eq!(judged(won).map(|p| p.judged.score), best);
                }
                After::Again => prop_assert!(iteration < 3 && !attempts.iter().any(|a| passed(&a))),
                After::NoWinner | After::NothingJudged => prop_assert!(iteration >= 3),
            }
        }

        #[test]
        fn the_order_in_which_attempts_end_decides_nothing(
            mut attempts in prop::collection::vec((0_u16..=10, any::<bool>()), 1..5)
                .prop_map(|scores| scores.into_iter().enumerate()
                    .map(|(model, (score, passed))| scored(model, 1, score, passed)).collect::<Vec<_>>())
        ) {
            let forwards = winner(&attempts, 1);
            let learnt = best_failure(&attempts).cloned();
            attempts.reverse();
            prop_assert_eq!(winner(&attempts, 1), forwards);
            prop_assert_eq!(best_failure(&attempts).cloned(), learnt);
        }
    }
}
