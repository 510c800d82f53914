//! Judge hygiene: a score belongs to the judge that gave it, and scores of two judges are never pooled.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::experiment::gate::{Decision, Reason, Status};

/// Who gave a score: the validator's model under one version of its prompt.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Judge {
    /// The validator's model.
    pub model: String,
    /// The version of the validator's prompt.
    pub prompt_version: String,
}

/// The verdict on a test whose judge changed midway; `None` where one judge gave every score.
///
/// `judges` has one entry a counted score that a judge gave. A 0 that stands for a failed attempt was given by none,
/// and is left out. Scores whose events name no judge are taken for one judge's, which is not any of the named.
#[must_use]
pub fn changed<'j>(judges: impl IntoIterator<Item = Option<&'j Judge>>) -> Option<Decision> {
    let distinct: BTreeSet<_> = judges.into_iter().collect();
    (distinct.len() > 1)
        .then_some(Decision { status: Status::Inconclusive, reason: Reason::JudgeChanged })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judge(prompt_version: &str) -> Judge {
        Judge { model: "claude".to_owned(), prompt_version: prompt_version.to_owned() }
    }

    #[test]
    fn one_judge_throughout_is_no_change() {
        let one = judge("1");
        assert_eq!(changed([Some(&one), Some(&one)]), None);
        assert_eq!(changed([None, None]), None, "nobody said who judged");
        assert_eq!(changed([]), None);
    }

    #[test]
    fn another_prompt_version_or_a_judge_no_longer_named_is_a_change() {
        let (one, two) = (judge("1"), judge("2"));
        let decision = changed([Some(&one), Some(&two)]).unwrap();
        assert_eq!(
            (decision.status, decision.reason),
            (Status::Inconclusive, Reason::JudgeChanged)
        );
        assert!(changed([Some(&one), None]).is_some());
    }
}
