//! Corpora, and what is done to their inputs.

use std::path::PathBuf;

use proptest::prelude::*;
use proptest::sample::Index;
use proptest::test_runner::{Config, FileFailurePersistence, TestRunner};

const CASES: u32 = 1_500;
/// For targets that touch the disk.
const CASES_SELDOM: u32 = 300;
/// What the formats have at their edges.
const WORDS: [&str; 28] = [
    "{",
    "}",
    "[",
    "]",
    "\"",
    "\\",
    ",",
    ":",
    "null",
    "true",
    "-1",
    "0",
    "1e999",
    "18446744073709551616",
    "NaN",
    "\\u0000",
    "\\ud800",
    "\u{feff}",
    "\u{202e}",
    "\0",
    "../",
    "\r\n",
    "\n# ",
    "\n```\n",
    "{{",
    "}}",
    "\n[[models]]\n",
    "\nή",
];

/// One thing that goes wrong with an input.
#[derive(Debug, Clone)]
enum Damage {
    Set(Index, u8),
    Put(Index, &'static str),
    Cut(Index, usize),
    /// A piece of another input, put in.
    Graft(Index, Index, Index, usize),
    /// A piece, again and again.
    Repeat(Index, usize, usize),
}

fn damage() -> impl Strategy<Value = Damage> {
    let index = any::<Index>;
    prop_oneof![
        (index(), any::<u8>()).prop_map(|(at, byte)| Damage::Set(at, byte)),
        (index(), proptest::sample::select(&WORDS[..]))
            .prop_map(|(at, word)| Damage::Put(at, word)),
        (index(), 1..64_usize).prop_map(|(at, length)| Damage::Cut(at, length)),
        (index(), index(), index(), 1..200_usize)
            .prop_map(|(at, from, place, length)| Damage::Graft(at, from, place, length)),
        (index(), 1..24_usize, 2..300_usize)
            .prop_map(|(at, length, times)| Damage::Repeat(at, length, times)),
    ]
}

/// The inputs of one target.
pub struct Corpus {
    target: &'static str,
    inputs: Vec<Vec<u8>>,
    cases: u32,
}

impl Corpus {
    pub fn open(target: &'static str) -> Self {
        let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz").join(target);
        let entries = std::fs::read_dir(&folder).expect("the corpus is there");
        let mut files: Vec<PathBuf> =
            entries.map(|entry| entry.expect("an entry").path()).collect();
        files.sort();
        assert!(!files.is_empty(), "the corpus of {target} is empty");
        let inputs = files.iter().map(|file| std::fs::read(file).expect("it reads")).collect();
        Self { target, inputs, cases: CASES }
    }

    pub fn seldom(mut self) -> Self {
        self.cases = CASES_SELDOM;
        self
    }

    pub fn first(&self) -> Vec<u8> {
        self.inputs.first().expect("a corpus has an input").clone()
    }

    /// Hands every input to the check as it is, and then damaged.
    pub fn damaged(&self, check: impl Fn(&[u8])) {
        for input in &self.inputs {
            check(input);
        }
        let asked = std::env::var("MATHESIS_FUZZ_CASES").ok().and_then(|cases| cases.parse().ok());
        let config = Config {
            cases: asked.unwrap_or(self.cases),
            failure_persistence: Some(Box::new(FileFailurePersistence::Off)),
            ..Config::default()
        };
        let damages = (any::<Index>(), proptest::collection::vec(damage(), 1..8));
        let ran = TestRunner::new(config).run(&damages, |(input, damages)| {
            check(&self.apply(input, &damages));
            Ok(())
        });
        if let Err(proptest::test_runner::TestError::Fail(why, (input, damages))) = ran {
            let found = self.apply(input, &damages);
            let text = String::from_utf8_lossy(&found);
            panic!("put this into tests/fuzz/{}: {why}\n{text}\n{found:?}", self.target);
        }
        ran.expect("the runner ends");
    }

    fn apply(&self, input: Index, damages: &[Damage]) -> Vec<u8> {
        let mut bytes = self.inputs[input.index(self.inputs.len())].clone();
        for damage in damages {
            let at = |index: &Index, bytes: &[u8]| index.index(bytes.len() + 1);
            match damage {
                Damage::Set(index, byte) => {
                    let place = at(index, &bytes);
                    if let Some(found) = bytes.get_mut(place) {
                        *found = *byte;
                    }
                }
                Damage::Put(index, word) => {
                    let place = at(index, &bytes);
                    bytes.splice(place..place, word.bytes());
                }
                Damage::Cut(index, length) => {
                    let place = at(index, &bytes);
                    bytes.drain(place..(place + length).min(bytes.len()));
                }
                Damage::Graft(index, from, start, length) => {
                    let other = &self.inputs[from.index(self.inputs.len())];
                    let start = start.index(other.len() + 1);
                    let piece = other[start..(start + length).min(other.len())].to_vec();
                    let place = at(index, &bytes);
                    bytes.splice(place..place, piece);
                }
                Damage::Repeat(index, length, times) => {
                    let place = at(index, &bytes);
                    let piece = bytes[place..(place + length).min(bytes.len())].repeat(*times);
                    bytes.splice(place..place, piece);
                }
            }
        }
        bytes
    }
}

/// Whether it is a stable code: a word or some, in small letters.
pub fn is_code(code: &str) -> bool {
    !code.is_empty()
        && code.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_')
}
