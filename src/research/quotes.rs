//! Quotations of a task in texts that outlive it, taken out when the task is to be forgotten.
//!
//! Words are compared in small letters and without accents, which Greek capitals lose, whatever stands between
//! two of them. A run of six words that the task has, too, is a quotation, and so is a whole
//! text of the task from three words on. Rather too much goes than too little.

use std::collections::HashSet;
use std::ops::Range;

use serde_json::Value;
use unicode_normalization::UnicodeNormalization;

/// A quotation has at least so many words.
const WORDS_MIN: usize = 6;
/// A whole text of the task has at least so many words, or it is found everywhere.
const WHOLE_WORDS_MIN: usize = 3;

/// Stands where a forgotten task's id or words stood.
pub const FORGOTTEN: &str = "forgotten";

/// The words of one task, to be found in other texts.
#[derive(Debug)]
pub struct Quotes {
    task_id: String,
    passages: HashSet<String>,
    whole: Vec<Vec<String>>,
}

impl Quotes {
    /// No text yet of the task with that id.
    #[must_use]
    pub fn of(task_id: &str) -> Self {
        Self { task_id: task_id.to_owned(), passages: HashSet::new(), whole: Vec::new() }
    }

    /// Adds a text in which people speak, such as a prompt: it counts as a whole, too, where it is short.
    pub fn add(&mut self, text: &str) {
        let words: Vec<String> = words(text).into_iter().map(|(word, _)| word).collect();
        self.passages.extend(words.windows(WORDS_MIN).map(|passage| passage.join(" ")));
        if (WHOLE_WORDS_MIN..WORDS_MIN).contains(&words.len()) && !self.whole.contains(&words) {
            self.whole.push(words);
        }
    }

    /// Adds a text of a judge or a service. Short ones are the same for many tasks.
    pub fn add_long(&mut self, text: &str) {
        if words(text).len() >= WORDS_MIN {
            self.add(text);
        }
    }

    /// The text with `[forgotten]` for every quotation; none where there is nothing to take out. A text that is
    /// the task's id becomes `forgotten`.
    #[must_use]
    pub fn without(&self, text: &str) -> Option<String> {
        if text == self.task_id {
            return Some(FORGOTTEN.to_owned());
        }
        let words = words(text);
        let mut quoted = vec![false; words.len()];
        self.mark(&words, &mut quoted);
        if !quoted.contains(&true) {
            return None;
        }
        let mut out = String::with_capacity(text.len());
        let mut copied = 0;
        for run in runs(&words, &quoted) {
            out.push_str(text.get(copied..run.start).unwrap_or_default());
            out.push('[');
            out.push_str(FORGOTTEN);
            out.push(']');
            copied = run.end;
        }
        out.push_str(text.get(copied..).unwrap_or_default());
        Some(out)
    }

    /// The same for every text within a JSON value; names stay.
    #[must_use]
    pub fn json_without(&self, value: &Value) -> Option<Value> {
        match value {
            Value::String(text) => self.without(text).map(Value::String),
            Value::Array(items) => {
                let mended: Vec<_> = items.iter().map(|item| self.json_without(item)).collect();
                mended.iter().any(Option::is_some).then(|| {
                    let pairs = items.iter().zip(mended);
                    pairs.map(|(item, mended)| mended.unwrap_or_else(|| item.clone())).collect()
                })
            }
            Value::Object(members) => {
                let mut mended = members.clone();
                let mut changed = false;
                for member in mended.values_mut() {
                    if let Some(without) = self.json_without(member) {
                        *member = without;
                        changed = true;
                    }
                }
                changed.then_some(Value::Object(mended))
            }
            _ => None,
        }
    }

    /// The same for an answer as it came: JSON mostly, whose texts are escaped.
    #[must_use]
    pub fn answer_without(&self, answer: &str) -> Option<String> {
        match serde_json::from_str::<Value>(answer) {
            Ok(value) => self.json_without(&value).map(|value| value.to_string()),
            Err(_) => self.without(answer),
        }
    }

    fn mark(&self, words: &[(String, Range<usize>)], quoted: &mut [bool]) {
        let plain: Vec<&str> = words.iter().map(|(word, _)| word.as_str()).collect();
        for (at, passage) in plain.windows(WORDS_MIN).enumerate() {
            if self.passages.contains(&passage.join(" ")) {
                quoted.iter_mut().skip(at).take(WORDS_MIN).for_each(|word| *word = true);
            }
        }
        for whole in &self.whole {
            for (at, passage) in plain.windows(whole.len()).enumerate() {
                if passage == whole.as_slice() {
                    quoted.iter_mut().skip(at).take(whole.len()).for_each(|word| *word = true);
                }
            }
        }
    }
}

/// Where the marked words stand, neighbours together.
fn runs(words: &[(String, Range<usize>)], quoted: &[bool]) -> Vec<Range<usize>> {
    let mut runs: Vec<Range<usize>> = Vec::new();
    let mut before = false;
    for ((_, place), quoted) in words.iter().zip(quoted) {
        match (quoted, before, runs.last_mut()) {
            (true, true, Some(run)) => run.end = place.end,
            (true, _, _) => runs.push(place.clone()),
            (false, _, _) => {}
        }
        before = *quoted;
    }
    runs
}

/// The words of a text as they are compared, and where each stands.
fn words(text: &str) -> Vec<(String, Range<usize>)> {
    let mut words = Vec::new();
    let mut begun: Option<usize> = None;
    let is_part = |letter: char| {
        letter.is_alphanumeric() || unicode_normalization::char::is_combining_mark(letter)
    };
    for (at, letter) in text.char_indices() {
        match (is_part(letter), begun) {
            (true, None) => begun = Some(at),
            (false, Some(start)) => {
                words.push(start..at);
                begun = None;
            }
            _ => {}
        }
    }
    words.extend(begun.map(|start| start..text.len()));
    let compared = |place: Range<usize>| {
        let word = text.get(place.clone()).unwrap_or_default();
        // Taken apart twice: small letters may come with marks of their own. One letter has two shapes.
        let small = word.nfd().flat_map(char::to_lowercase).nfd();
        let plain = small.filter(|letter| !unicode_normalization::char::is_combining_mark(*letter));
        (plain.map(|letter| if letter == 'ς' { 'σ' } else { letter }).collect(), place)
    };
    words.into_iter().map(compared).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const PROMPT: &str =
        "Βάλε στη φωτογραφία τον τίτλο «ΚΑΛΟ ΠΑΣΧΑ ΣΕ ΟΛΟΥΣ» με χρυσά γράμματα, επάνω δεξιά.";

    fn quotes() -> Quotes {
        let mut quotes = Quotes::of("86c1");
        for text in [PROMPT, "Φώναξε τη Μαρία", "ok"] {
            quotes.add(text);
        }
        quotes.add_long("the text is misspelt");
        quotes
    }

    #[test]
    fn a_quotation_goes_however_it_is_dressed_up_and_the_rest_stays() {
        let told = |text: &str| quotes().without(text);
        let decomposed: String = PROMPT.nfd().collect();
        for copy in
            [PROMPT.to_owned(), PROMPT.to_uppercase(), PROMPT.replace(' ', "\n > "), decomposed]
        {
            let text = format!("Asked for: {copy} And it failed.");
            assert_eq!(
                told(&text).as_deref(),
                Some("Asked for: [forgotten]. And it failed."),
                "{text}"
            );
        }
        assert_eq!(
            told("The title «Καλό Πάσχα σε όλους» με χρυσά γράμματα is drawn well.").as_deref(),
            Some("The title «[forgotten] is drawn well.")
        );
        assert_eq!(told("She said: φώναξε τη Μαρία!").as_deref(), Some("She said: [forgotten]!"));
    }

    #[test]
    fn what_is_common_to_all_texts_stays() {
        for text in [
            "με χρυσά γράμματα, επάνω δεξιά",
            "ok",
            "φώναξε τη",
            "",
            "86c1 is named here",
            "Now the text is misspelt.",
        ] {
            assert_eq!(quotes().without(text), None, "{text}");
        }
    }

    #[test]
    fn every_text_of_an_answer_is_looked_through_and_the_id_goes() {
        let answer = json!({
            "patterns": [{ "description": PROMPT, "evidence_task_ids": ["86c1", "86c2"], "confidence": 0.5 }],
            "86c1": "stays",
        });
        let told = quotes().answer_without(&answer.to_string()).expect("it quotes the task");
        let told: Value = serde_json::from_str(&told).expect("it is JSON as before");
        assert_eq!(
            told,
            json!({
                "patterns": [{ "description": "[forgotten].", "evidence_task_ids": ["forgotten", "86c2"],
                               "confidence": 0.5 }],
                "86c1": "stays",
            })
        );
        assert_eq!(quotes().answer_without(r#"{"patterns":[]}"#), None);
        assert_eq!(
            quotes().answer_without(&format!("no JSON: {PROMPT}")).as_deref(),
            Some("no JSON: [forgotten].")
        );
    }
}
