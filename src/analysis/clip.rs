//! Shortening a text that is too long to show, so that a reader sees that it was.

use crate::workflow::context::TaskForAnalysis;

/// Requests, prompts and reasonings are shown up to this length; real ones have a tenth of it.
const TEXT_CHARS_MAX: usize = 8_000;
/// One issue or error is shown up to this length.
const REMARK_CHARS_MAX: usize = 1_000;
/// So many issues of an attempt are shown.
const ISSUES_MAX: usize = 30;

/// Shortens what is too long to show in these tasks, and says how many texts that were. Issues beyond the thirtieth
/// count as one text. Ids stay as they are: they are answered with.
pub fn shorten(tasks: &mut [TaskForAnalysis]) -> u32 {
    let mut shortened = 0;
    for task in tasks {
        shortened += cut(&mut task.original_prompt, TEXT_CHARS_MAX);
        for attempt in &mut task.attempts {
            let texts = [&mut attempt.enhanced_prompt, &mut attempt.reasoning];
            shortened +=
                texts.into_iter().flatten().map(|text| cut(text, TEXT_CHARS_MAX)).sum::<u32>();
            let issues = attempt.issues.len();
            if issues > ISSUES_MAX {
                attempt.issues.truncate(ISSUES_MAX);
                shortened += 1;
            }
            let remarks = attempt.issues.iter_mut().chain(&mut attempt.error);
            shortened += remarks.map(|text| cut(text, REMARK_CHARS_MAX)).sum::<u32>();
            if issues > ISSUES_MAX {
                attempt.issues.push(format!("[… {} issues left out …]", issues - ISSUES_MAX));
            }
        }
    }
    shortened
}

fn cut(text: &mut String, chars_max: usize) -> u32 {
    match clip(text, chars_max) {
        Some(clipped) => {
            *text = clipped;
            1
        }
        None => 0,
    }
}

/// The text's beginning and end with a note between them, if it has more than `chars_max` characters.
///
/// Three quarters of what is kept is the beginning: that is where a prompt says what it is about.
#[must_use]
fn clip(text: &str, chars_max: usize) -> Option<String> {
    // A text has at least one byte a character, so most texts need no counting.
    if text.len() <= chars_max {
        return None;
    }
    let chars = text.chars().count();
    if chars <= chars_max {
        return None;
    }
    let head = chars_max / 4 * 3;
    let tail = chars_max - head;
    let start: String = text.chars().take(head).collect();
    let end: String = text.chars().skip(chars - tail).collect();
    Some(format!("{start} [… {} characters left out …] {end}", chars - chars_max))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workflow::context::AttemptForAnalysis;
    use proptest::prelude::*;

    #[test]
    fn a_long_text_keeps_its_beginning_and_its_end() {
        let clipped = clip("αβγδεζηθικλμ", 8);
        assert_eq!(clipped.as_deref(), Some("αβγδεζ [… 4 characters left out …] λμ"));
        assert_eq!(clip("αβγδεζηθ", 8), None);
    }

    #[test]
    fn every_text_of_a_task_is_cut_to_its_length_and_counted() {
        let long = "x".repeat(20_000);
        let attempt = AttemptForAnalysis {
            enhanced_prompt: Some(long.clone()),
            reasoning: Some(long.clone()),
            issues: vec![long.clone(); 40],
            error: Some(long.clone()),
            ..AttemptForAnalysis::default()
        };
        let mut tasks = vec![TaskForAnalysis {
            task_id: long.clone(),
            original_prompt: long.clone(),
            attempts: vec![attempt, AttemptForAnalysis::default()],
            ..TaskForAnalysis::default()
        }];
        assert_eq!(shorten(&mut tasks), 1 + 2 + 1 + 30 + 1);
        let attempt = &tasks[0].attempts[0];
        let lengths =
            [&tasks[0].original_prompt, attempt.reasoning.as_ref().unwrap(), &attempt.issues[29]]
                .map(|text| text.chars().filter(|letter| *letter == 'x').count());
        assert_eq!(lengths, [8_000, 8_000, 1_000]);
        assert_eq!(attempt.issues[30], "[… 10 issues left out …]");
        assert_eq!(tasks[0].task_id, long);
    }

    proptest! {
        #[test]
        fn a_text_is_shortened_exactly_when_it_is_too_long(text in "\\PC{0,60}", most in 0_usize..60) {
            let chars = text.chars().count();
            prop_assert_eq!(clip(&text, most).is_some(), chars > most);
        }
    }
}
