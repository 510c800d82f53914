//! What is written on a task for people: strict templates of the workflow, in its people's language.
//!
//! Every comment names its run (`reference`), so that a redo recognises the comment that it wrote already.

use serde::Serialize;

use crate::workflow::TemplateError;
use crate::workflow::template::{problems_of, render_one};

pub(super) const WINNER: &str = "prompts/comment.winner.md";
pub(super) const NO_WINNER: &str = "prompts/comment.no_winner.md";
pub(super) const FAILED: &str = "prompts/comment.failed.md";

/// What the comment on a picture that was given back may name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct WinnerWords {
    /// The task and its run, as `1vj38vv/2`.
    pub reference: String,
    /// The model that won.
    pub model: String,
    /// Its score.
    pub score: u16,
    /// The best score that there is.
    pub score_max: u16,
    /// How many rounds it took.
    pub iterations: i32,
    /// The attachment's title.
    pub title: String,
    /// What the judge found all the same.
    pub issues: Vec<String>,
    /// Models that failed in the last round.
    pub failed_models: Vec<String>,
}

/// What the comment on a run that nobody won may name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct NoWinnerWords {
    /// The task and its run.
    pub reference: String,
    /// How many rounds were tried.
    pub iterations: i32,
    /// The best scores, one a model that had one.
    pub scores: Vec<ScoreWords>,
    /// The best score that there is.
    pub score_max: u16,
    /// What was wrong with the best failure.
    pub issues: Vec<String>,
}

/// A model's best score.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ScoreWords {
    /// The model.
    pub model: String,
    /// Its score.
    pub score: u16,
    /// Where the picture is.
    pub image_url: String,
}

/// What the comment on a run that failed may name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct FailedWords {
    /// The task and its run.
    pub reference: String,
    /// What went wrong, by its code.
    pub code: String,
    /// What went wrong, in words.
    pub words: String,
}

/// The three templates, tried.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommentTexts {
    winner: String,
    no_winner: String,
    failed: String,
}

impl CommentTexts {
    /// Takes the texts of `prompts/comment.winner.md`, `comment.no_winner.md` and `comment.failed.md`.
    ///
    /// # Errors
    /// Everything that is wrong with them.
    pub fn new(
        winner: String,
        no_winner: String,
        failed: String,
    ) -> Result<Self, Vec<TemplateError>> {
        let texts = Self { winner, no_winner, failed };
        let (full, bare) = winner_samples();
        let mut problems = problems_of(WINNER, &texts.winner, &[full.clone(), bare]);
        let rendered_winner = texts.winner(&full);
        let (full, bare) = no_winner_samples();
        problems.extend(problems_of(NO_WINNER, &texts.no_winner, &[full.clone(), bare]));
        let rendered_no_winner = texts.no_winner(&full);
        let full = failed_sample();
        problems.extend(problems_of(FAILED, &texts.failed, std::slice::from_ref(&full)));
        let rendered = [
            (WINNER, rendered_winner),
            (NO_WINNER, rendered_no_winner),
            (FAILED, texts.failed(&full)),
        ];
        for (file, text) in rendered {
            if text.is_ok_and(|text| !names_run(&text, REFERENCE)) {
                let problem = "{{ reference }} is missing; a redo would write the comment again";
                problems.push(TemplateError { file, line: None, problem: problem.to_owned() });
            }
        }
        if problems.is_empty() { Ok(texts) } else { Err(problems) }
    }

    /// The comment on a picture that was given back.
    ///
    /// # Errors
    /// [`TemplateError`] on a branch that the samples of the load did not reach.
    pub fn winner(&self, words: &WinnerWords) -> Result<String, TemplateError> {
        render_one(WINNER, &self.winner, words)
    }

    /// The comment on a run that nobody won.
    ///
    /// # Errors
    /// As [`CommentTexts::winner`].
    pub fn no_winner(&self, words: &NoWinnerWords) -> Result<String, TemplateError> {
        render_one(NO_WINNER, &self.no_winner, words)
    }

    /// The comment on a run that failed.
    ///
    /// # Errors
    /// As [`CommentTexts::winner`].
    pub fn failed(&self, words: &FailedWords) -> Result<String, TemplateError> {
        render_one(FAILED, &self.failed, words)
    }
}

/// Whether a comment names this run: `1vj38vv/1` is not named by `1vj38vv/12`.
#[must_use]
pub fn names_run(comment: &str, reference: &str) -> bool {
    comment.match_indices(reference).any(|(place, _)| {
        let before = comment.get(..place).and_then(|text| text.chars().next_back());
        let after = comment.get(place + reference.len()..).and_then(|text| text.chars().next());
        !before.is_some_and(|sign| sign.is_alphanumeric() || sign == '-' || sign == '_')
            && !after.is_some_and(|sign| sign.is_ascii_digit())
    })
}

const REFERENCE: &str = "sample/1";

fn winner_samples() -> (WinnerWords, WinnerWords) {
    let full = WinnerWords {
        reference: REFERENCE.to_owned(),
        model: "model-a".to_owned(),
        score: 9,
        score_max: 10,
        iterations: 2,
        title: "edited.png".to_owned(),
        issues: vec!["a halo".to_owned()],
        failed_models: vec!["model-b".to_owned()],
    };
    let bare = WinnerWords { iterations: 1, issues: vec![], failed_models: vec![], ..full.clone() };
    (full, bare)
}

fn no_winner_samples() -> (NoWinnerWords, NoWinnerWords) {
    let score = ScoreWords {
        model: "model-a".to_owned(),
        score: 6,
        image_url: "https://example.com/1.png".to_owned(),
    };
    let full = NoWinnerWords {
        reference: REFERENCE.to_owned(),
        iterations: 3,
        scores: vec![score],
        score_max: 10,
        issues: vec!["the logo changed".to_owned()],
    };
    let bare = NoWinnerWords { iterations: 1, scores: vec![], issues: vec![], ..full.clone() };
    (full, bare)
}

fn failed_sample() -> FailedWords {
    FailedWords {
        reference: REFERENCE.to_owned(),
        code: "clickup_token_refused".to_owned(),
        words: "ClickUp: the token is not accepted".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_comment_is_recognised_by_its_whole_reference() {
        assert!(names_run("… (Mathesis 1vj38vv/1)", "1vj38vv/1"));
        assert!(!names_run("… (Mathesis 1vj38vv/12)", "1vj38vv/1"));
        assert!(!names_run("… (Mathesis 21vj38vv/1)", "1vj38vv/1"));
        assert!(!names_run("", "1vj38vv/1"));
    }

    #[test]
    fn a_template_that_does_not_name_its_run_is_refused() {
        let texts = |failed: &str| {
            let good = "{{ reference }}".to_owned();
            CommentTexts::new(good.clone(), good, failed.to_owned())
        };
        assert!(texts("{{ reference }} {{ words }}").is_ok());
        let problems = texts("{{ words }}").unwrap_err();
        assert_eq!(problems.len(), 1);
        assert!(problems[0].to_string().contains("comment.failed.md"), "{}", problems[0]);
        assert!(texts("{{ reference }} {{ no_such }}").is_err());
    }
}
