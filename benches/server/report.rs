//! What came out: a line a figure, with its floor, its ratio and what was to be reached.

use std::fs::File;
use std::io::Write as _;
use std::path::Path;

use serde::Serialize;

use super::Outcome;
use super::machine::Machine;
use super::options::Row;

/// The rounds of one figure.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Rounds(pub Vec<f64>);

impl Rounds {
    fn sorted(&self) -> Vec<f64> {
        let mut sorted = self.0.clone();
        sorted.sort_by(f64::total_cmp);
        sorted
    }

    /// The middle round; of an even number the lower one of the two.
    pub fn median(&self) -> f64 {
        let sorted = self.sorted();
        sorted.get(sorted.len().saturating_sub(1) / 2).copied().unwrap_or(f64::NAN)
    }

    fn range(&self) -> (f64, f64) {
        let sorted = self.sorted();
        let end = |value: Option<&f64>| value.copied().unwrap_or(f64::NAN);
        (end(sorted.first()), end(sorted.last()))
    }

    /// Each round of these by the same round of those.
    pub fn by(&self, those: &Self) -> Self {
        Self(self.0.iter().zip(&those.0).map(|(ours, floor)| ours / floor).collect())
    }

    fn words(&self, unit: &str) -> String {
        let (least, most) = self.range();
        match self.0.len() {
            0 => "-".to_owned(),
            1 => format!("{} {unit}", shown(self.median())),
            _ => format!("{} {unit} ({} to {})", shown(self.median()), shown(least), shown(most)),
        }
    }
}

fn shown(value: f64) -> String {
    match value.abs() {
        size if size >= 1_000.0 => {
            let whole = format!("{value:.0}");
            let mut grouped = String::new();
            for (place, digit) in whole.chars().enumerate() {
                if place > 0 && (whole.len() - place).is_multiple_of(3) {
                    grouped.push(',');
                }
                grouped.push(digit);
            }
            grouped
        }
        size if size >= 100.0 => format!("{value:.0}"),
        size if size >= 10.0 => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}

/// What was to be reached, by the median.
#[derive(Debug, Clone, Copy, Serialize)]
pub enum Reach {
    /// At least this ratio to the floor.
    RatioAtLeast(f64),
    /// Below this ratio to the floor.
    RatioBelow(f64),
    /// Below this figure.
    Below(f64),
    /// Nothing: the figure is for reading.
    Shown,
}

/// One figure.
#[derive(Debug, Clone, Serialize)]
pub struct Line {
    pub row: String,
    pub what: String,
    pub unit: &'static str,
    pub ours: Rounds,
    /// What it is measured against, with its own rounds.
    pub floor: Option<(String, Rounds)>,
    pub reach: Reach,
    pub note: String,
}

impl Line {
    pub fn new(row: Row, what: impl Into<String>, unit: &'static str, ours: Rounds) -> Self {
        Self {
            row: row.to_string(),
            what: what.into(),
            unit,
            ours,
            floor: None,
            reach: Reach::Shown,
            note: String::new(),
        }
    }

    /// A figure that was taken once.
    pub fn once(row: Row, what: impl Into<String>, unit: &'static str, ours: f64) -> Self {
        Self::new(row, what, unit, Rounds(vec![ours]))
    }

    pub fn against(mut self, name: impl Into<String>, floor: Rounds) -> Self {
        self.floor = Some((name.into(), floor));
        self
    }

    pub const fn reaching(mut self, reach: Reach) -> Self {
        self.reach = reach;
        self
    }

    pub fn noting(mut self, note: impl Into<String>) -> Self {
        self.note = note.into();
        self
    }

    fn ratio(&self) -> Option<Rounds> {
        self.floor.as_ref().map(|(_, floor)| self.ours.by(floor))
    }

    fn verdict(&self) -> String {
        let ratio = self.ratio().map(|ratio| ratio.median());
        let (words, met) = match self.reach {
            Reach::Shown => return String::new(),
            Reach::RatioAtLeast(least) => (format!("≥ {least} ×"), ratio.map(|it| it >= least)),
            Reach::RatioBelow(most) => (format!("< {most} ×"), ratio.map(|it| it < most)),
            Reach::Below(most) => {
                (format!("< {} {}", shown(most), self.unit), Some(self.ours.median() < most))
            }
        };
        match met {
            Some(true) => format!("{words}: reached"),
            Some(false) => format!("{words}: **short**"),
            None => format!("{words}: no floor was measured"),
        }
    }

    fn cells(&self) -> [String; 6] {
        let floor = match &self.floor {
            Some((name, rounds)) => format!("{name}: {}", rounds.words(self.unit)),
            None => String::new(),
        };
        let ratio = self.ratio().map_or_else(String::new, |ratio| ratio.words("×"));
        let what = match self.note.as_str() {
            "" => self.what.clone(),
            note => format!("{}; {note}", self.what),
        };
        [self.row.clone(), what, self.ours.words(self.unit), floor, ratio, self.verdict()]
    }
}

/// Every line, and the machine.
#[derive(Debug, Serialize)]
pub struct Report {
    machine: Machine,
    lines: Vec<Line>,
    failures: Vec<String>,
    /// Where each of them is written as it comes, so that a run that is broken off was not for nothing.
    #[serde(skip)]
    out: File,
}

impl Report {
    /// A report on that machine, written to that file as it comes.
    pub fn new(machine: Machine, out: &Path) -> Outcome<Self> {
        if let Some(folder) = out.parent() {
            std::fs::create_dir_all(folder)?;
        }
        let mut out = File::create(out)?;
        writeln!(out, "{}", serde_json::to_string(&machine)?)?;
        Ok(Self { machine, lines: Vec::new(), failures: Vec::new(), out })
    }

    pub fn add(&mut self, lines: Vec<Line>) -> Outcome<()> {
        for line in &lines {
            let [_, what, ours, floor, ratio, verdict] = line.cells();
            eprintln!("  {what}: {ours} | {floor} | {ratio} | {verdict}");
            writeln!(self.out, "{}", serde_json::to_string(line)?)?;
        }
        self.lines.extend(lines);
        Ok(())
    }

    pub fn failed(&mut self, row: Row, error: &dyn std::error::Error) -> Outcome<()> {
        let words = format!("{row} could not be measured: {error}");
        eprintln!("  {words}");
        writeln!(self.out, "{}", serde_json::json!({ "row": row.to_string(), "failure": words }))?;
        self.failures.push(words);
        Ok(())
    }

    /// Prints everything as one JSON object, or as a table in Markdown.
    pub fn print(&self, json: bool) -> Outcome<()> {
        if json {
            println!("{}", serde_json::to_string_pretty(self)?);
            return Ok(());
        }
        println!("{}\n", self.machine);
        println!("| row | figure | ours | measured against | ratio | reach |");
        println!("|---|---|---|---|---|---|");
        for line in &self.lines {
            println!("| {} |", line.cells().join(" | "));
        }
        for failure in &self.failures {
            println!("\n{failure}");
        }
        Ok(())
    }
}
