//! The overfit guard: what a candidate copies out of tasks.
//!
//! A document that quotes its tasks scores well on those tasks and on no other. So no passage of a
//! task that is longer than a short quotation may come into a document; what stands in the parent
//! already is not the candidate's doing.

use std::collections::{HashMap, HashSet};

use unicode_normalization::UnicodeNormalization;

use super::edits::{EditRefusal, Which};
use super::hash::Texts;

/// A prime below 2^61 as the modulus: the sum of two remainders fits into 64 bits.
const MODULUS: u64 = (1 << 61) - 1;
/// Above every character's number.
const BASE: u64 = 1_114_217;
/// How much of a copied passage is shown.
const EXCERPT_CHARS: usize = 60;

/// Looks for passages of tasks among what `new` says and `parent` does not.
///
/// Texts are compared by their letters and digits alone: composed (NFC), in small letters, with one
/// space for whatever stands between two words. A passage counts from `characters_max` + 1 characters
/// so counted. Takes time in proportion to the texts, whatever their number.
///
/// # Errors
/// [`EditRefusal::CopiedTaskText`] for the first passage found.
pub fn check_copies<'t>(
    parent: &Texts,
    new: &Texts,
    tasks: impl IntoIterator<Item = &'t str>,
    characters_max: usize,
) -> Result<(), EditRefusal> {
    let documents = [
        (Which::Template, &parent.template, &new.template),
        (Which::Activation, &parent.activation, &new.activation),
        (Which::Research, &parent.research, &new.research),
    ];
    let length = characters_max.saturating_add(1);
    // What moved from one document to the other was there before, too.
    let mut known = HashSet::new();
    for (_, old, _) in &documents {
        let old = normalised(old);
        known.extend(windows(&old, length).map(|(_, hash)| hash));
    }
    let mut fresh = HashMap::new();
    let mut texts = Vec::new();
    for (at, (_, old, text)) in documents.iter().enumerate() {
        let text = if old == text { Vec::new() } else { normalised(text) };
        let own = windows(&text, length).filter(|(_, hash)| !known.contains(hash));
        fresh.extend(own.map(|(start, hash)| (hash, (at, start))));
        texts.push(text);
    }
    if fresh.is_empty() {
        return Ok(());
    }
    for task in tasks {
        let task = normalised(task);
        for (start, hash) in windows(&task, length) {
            let Some(&(at, place)) = fresh.get(&hash) else { continue };
            let said = texts.get(at).and_then(|text| text.get(place..)).unwrap_or_default();
            let copied = task.get(start..).unwrap_or_default();
            let characters = said.iter().zip(copied).take_while(|(a, b)| a == b).count();
            // Two passages of one hash that differ are not the same passage.
            if characters >= length {
                let document = documents.get(at).map_or(Which::Research, |(which, _, _)| *which);
                let excerpt = said.iter().take(EXCERPT_CHARS).collect();
                return Err(EditRefusal::CopiedTaskText {
                    document,
                    excerpt,
                    characters,
                    characters_max,
                });
            }
        }
    }
    Ok(())
}

/// Letters and digits in small letters, composed, one space for all else between them.
fn normalised(text: &str) -> Vec<char> {
    let mut out: Vec<char> = Vec::with_capacity(text.len());
    let mut gap = false;
    // Composed twice: small letters may come apart from their accents.
    for letter in text.nfc().flat_map(char::to_lowercase).nfc() {
        // One letter, two shapes: at the end of a word and inside it.
        let letter = if letter == 'ς' { 'σ' } else { letter };
        let is_mark = unicode_normalization::char::is_combining_mark(letter);
        if letter.is_alphanumeric() || is_mark {
            if gap && !out.is_empty() {
                out.push(' ');
            }
            gap = false;
            out.push(letter);
        } else if !is_invisible(letter) {
            gap = true;
        }
    }
    out
}

/// Characters that nobody sees: one between two letters makes no other word.
fn is_invisible(letter: char) -> bool {
    matches!(letter, '\u{ad}' | '\u{200b}'..='\u{200f}' | '\u{2060}'..='\u{2064}' | '\u{feff}')
}

/// Every run of `length` characters: where it begins, and its hash, each computed from the one before.
fn windows(text: &[char], length: usize) -> impl Iterator<Item = (usize, u64)> {
    let highest = (1..length).fold(1, |power, _| times(power, BASE));
    let mut hash = 0;
    text.iter().enumerate().filter_map(move |(at, letter)| {
        if let Some(gone) = at.checked_sub(length).and_then(|first| text.get(first)) {
            let share = times(u64::from(u32::from(*gone)) + 1, highest);
            hash = (hash + MODULUS - share) % MODULUS;
        }
        hash = (times(hash, BASE) + u64::from(u32::from(*letter)) + 1) % MODULUS;
        (at + 1 >= length).then(|| (at + 1 - length, hash))
    })
}

fn times(a: u64, b: u64) -> u64 {
    // The remainder is below the modulus, so it fits.
    u64::try_from(u128::from(a) * u128::from(b) % u128::from(MODULUS)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const TASK: &str = "Βάλε στη φωτογραφία τον τίτλο «ΚΑΛΟ ΠΑΣΧΑ ΣΕ ΟΛΟΥΣ» με χρυσά γράμματα, επάνω δεξιά, και άφησε το λογότυπο όπως είναι.";

    fn texts(research: &str) -> Texts {
        Texts { research: research.to_owned(), ..Texts::default() }
    }

    fn check(parent: &str, new: &str, task: &str) -> Result<(), EditRefusal> {
        check_copies(&texts(parent), &texts(new), [task], 60)
    }

    #[test]
    fn a_passage_of_a_task_is_found_however_it_is_dressed_up() {
        let decomposed: String = unicode_normalization::UnicodeNormalization::nfd(TASK).collect();
        for copy in [
            TASK.to_owned(),
            TASK.to_uppercase(),
            TASK.replace(' ', "\n  > "),
            TASK.replace(' ', "\u{200b} \u{a0}"),
            TASK.replace('«', "**").replace('»', "** —"),
            decomposed,
        ] {
            let new = format!("# Light\n\nSoft.\n\n# Greek\n\n{copy}\n");
            let refusal = check("# Light\n\nSoft.\n", &new, TASK);
            assert!(
                matches!(&refusal, Err(EditRefusal::CopiedTaskText { characters, .. }) if *characters > 100),
                "{copy}: {refusal:?}"
            );
        }
    }

    #[test]
    fn a_short_quotation_passes_and_one_character_more_does_not() {
        let task = "0123456789".repeat(20);
        for (copied, passes) in [(60, true), (61, false)] {
            let new = format!("Rule: {}!", &task[5..5 + copied]);
            assert_eq!(check("", &new, &task).is_ok(), passes, "{copied}");
        }
    }

    #[test]
    fn what_the_parent_says_already_is_not_the_candidates_doing() {
        let parent = format!("# Old\n\n{TASK}\n");
        let new = format!("# New\n\nBe exact.\n\n# Old\n\n{TASK}\n");
        assert_eq!(check(&parent, &new, TASK), Ok(()));
        let moved = Texts { activation: TASK.to_owned(), ..Texts::default() };
        assert_eq!(check_copies(&texts(TASK), &moved, [TASK], 60), Ok(()));
    }

    #[test]
    fn words_for_claude() {
        let refusal = check("", TASK, TASK).unwrap_err();
        insta::assert_snapshot!(refusal, @r#"research would hold a passage of 112 characters that stands word for word in a task: "βάλε στη φωτογραφία τον τίτλο καλο πασχα σε ολουσ με χρυσά γ". Quote at most 60 characters of any task; write a rule that holds for other requests too"#);
    }

    #[test]
    fn many_long_tasks_against_a_long_document() {
        let words = |seed: usize, count: usize| -> String {
            (0..count)
                .map(|n| {
                    format!("λέξη{} ", (seed * 7_919 + n * n * 31 + seed * n * 8_111) % 99_991)
                })
                .collect()
        };
        let parent = words(1, 6_000);
        let new = format!("{parent}\n{}", words(2, 600));
        let mut tasks: Vec<String> = (10..60).map(|seed| words(seed, 600)).collect();
        let every = |tasks: &[String]| {
            let all = tasks.iter().map(String::as_str);
            check_copies(&texts(&parent), &texts(&new), all, 60)
        };
        assert_eq!(every(&tasks), Ok(()));
        tasks.push(words(2, 300));
        assert!(every(&tasks).is_err(), "the last of them is found");
    }

    proptest! {
        #[test]
        fn the_guard_finds_what_a_plain_search_finds(
            parent in "[abγ ]{0,40}", new in "[abγ ]{0,40}", task in "[abγ ]{0,40}", limit in 1_usize..6,
        ) {
            let found = check_copies(&texts(&parent), &texts(&new), [task.as_str()], limit).is_err();
            let [parent, new, task]: [Vec<char>; 3] = [&parent, &new, &task].map(|text| normalised(text));
            let has = |text: &[char], part: &[char]| text.windows(part.len()).any(|window| window == part);
            let plain = new
                .windows(limit + 1)
                .any(|part| has(&task, part) && !has(&parent, part));
            prop_assert_eq!(found, plain);
        }
    }
}
