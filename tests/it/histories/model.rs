//! The model: what the rulings of the design say must come of a history, in memory and without any of the code that it
//! is held against. It knows no database, no clock and no crate but the standard library.

mod gate;
mod words;

use std::collections::{BTreeMap, BTreeSet};

use super::act::Asking;
pub use gate::Met;
use gate::gate;

pub const MODELS: usize = 2;
/// Completed tasks that open an analysis.
pub const TRIGGER: usize = 3;
const PER_ARM: usize = 10;
const BLOCK: usize = 4;
const SLOT_MINUTES: i64 = 6 * 60;
const TEST_MINUTES: i64 = 14 * 24 * 60;
const DEALS_AGAIN_MAX: u32 = 6;

/// What the model gets wrong on purpose, for the test of the test.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lie {
    /// An error through the prompt's fault is no score.
    PromptFaultIsMissing,
    /// `resume` lifts every hold.
    ResumeLiftsAll,
    /// The gate adopts any gain.
    AnyGainIsAdopted,
    /// The gate adopts a gain of exactly the threshold.
    TheThresholdIsEnough,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum State {
    Collecting,
    Analyzing,
    Generating,
    Testing,
    Deciding,
    Applying,
    Reverting,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Hold {
    Operator,
    Approval,
    AutomationOff,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    Adopted,
    Rejected,
    Inconclusive,
}

/// What a task told about its attempt at one model.
#[derive(Debug, Clone, Copy, Default)]
pub struct Facts {
    pub named: Option<i32>,
    pub score: Option<i64>,
    pub prompt_failed: bool,
    pub infrastructure_failed: bool,
    pub run_failed: bool,
}

#[derive(Debug, Clone)]
struct Slot {
    is_candidate: bool,
    holder: Option<String>,
    dealt_at: i64,
    counted: Option<i64>,
    given_up: bool,
}

impl Slot {
    fn is_open(&self) -> bool {
        self.holder.is_none() && !self.given_up
    }
}

#[derive(Debug, Clone)]
pub struct Test {
    pub control: i32,
    pub candidate: i32,
    slots: Vec<Slot>,
    dealt_again: u32,
    /// By arm: the old version's, the new one's.
    missed: [u64; 2],
    verdict: Option<Verdict>,
    refused: bool,
    dropped: bool,
}

impl Test {
    fn stands_adopted(&self) -> bool {
        self.verdict == Some(Verdict::Adopted) && !self.dropped
    }

    fn take_out(&mut self) {
        match self.verdict {
            None => self.verdict = Some(Verdict::Inconclusive),
            Some(_) => self.dropped = true,
        }
    }
}

/// Where everything must stand.
#[derive(Debug, Clone)]
pub struct Model {
    lie: Option<Lie>,
    asking: Asking,
    pub cycle: i64,
    pub state: State,
    /// Events that the open cycle has taken.
    pub seq: i64,
    pub holds: BTreeSet<Hold>,
    pub active: [i32; MODELS],
    pub newest: [i32; MODELS],
    pub tests: [Option<Test>; MODELS],
    /// Verdicts of the cycles that have ended, by cycle and model.
    ended: BTreeMap<(i64, usize), Verdict>,
    /// Completed tasks that no window has yet.
    pub waiting: BTreeSet<String>,
    /// The tasks of each cycle's window.
    pub windows: BTreeMap<i64, BTreeSet<String>>,
    /// Rollbacks that are asked for and not done: model and version, the oldest first.
    pub rollbacks: Vec<(usize, i32)>,
    facts: BTreeMap<(String, usize), Facts>,
    /// Minutes in which nothing held the cycle.
    free_minutes: i64,
    test_opened: i64,
    /// What the gate was asked so far.
    pub met: Met,
}

impl Model {
    pub fn new(asking: Asking, lie: Option<Lie>) -> Self {
        Self {
            lie,
            asking,
            cycle: 1,
            state: State::Collecting,
            seq: 0,
            holds: BTreeSet::new(),
            active: [1; MODELS],
            newest: [1; MODELS],
            tests: [None, None],
            ended: BTreeMap::new(),
            waiting: BTreeSet::new(),
            windows: BTreeMap::new(),
            rollbacks: Vec::new(),
            facts: BTreeMap::new(),
            free_minutes: 0,
            test_opened: 0,
            met: Met::default(),
        }
    }

    /// A run has ended, by whatever counts.
    pub fn completed(&mut self, task: &str) {
        self.waiting.insert(task.to_owned());
    }

    pub fn reported(&mut self, task: &str, model: usize, facts: Facts) {
        self.facts.insert((task.to_owned(), model), facts);
    }

    pub fn waits(&mut self, minutes: i64) {
        if self.holds.is_empty() {
            self.free_minutes += minutes;
        }
    }

    /// Whether a new task that asks for that model gets a slot now.
    pub fn deals(&self, model: usize) -> bool {
        self.state == State::Testing
            && self.holds.is_empty()
            && self.tests[model]
                .as_ref()
                .is_some_and(|test| test.verdict.is_none() && test.slots.iter().any(Slot::is_open))
    }

    /// The deck as it was dealt, by whether each slot is the candidate's; wrong where it is not ten and ten in blocks of
    /// two and two.
    pub fn deck(&mut self, model: usize, arms: &[bool]) -> Result<(), String> {
        let uneven = arms.chunks(BLOCK).any(|block| {
            block.len() != BLOCK
                || block.iter().filter(|candidate| **candidate).count() * 2 != BLOCK
        });
        if arms.len() != 2 * PER_ARM || uneven {
            return Err(format!("a deck of blocks of two and two, not {arms:?}"));
        }
        let test = self.tests[model].as_mut().ok_or("a deck without a test")?;
        test.slots = arms
            .iter()
            .map(|is_candidate| Slot {
                is_candidate: *is_candidate,
                holder: None,
                dealt_at: 0,
                counted: None,
                given_up: false,
            })
            .collect();
        Ok(())
    }

    /// A new task was told a version, and got that slot or none.
    pub fn told(
        &mut self,
        task: &str,
        model: usize,
        slot: Option<usize>,
        version: i32,
    ) -> Result<(), String> {
        let deals = self.deals(model);
        let Some(slot) = slot else {
            return match (deals, version == self.active[model]) {
                (false, true) => Ok(()),
                (true, _) => Err(format!("{task} was to get a slot of model {model}")),
                (false, false) => {
                    Err(format!("{task} was told version {version} of model {model}"))
                }
            };
        };
        let now = self.free_minutes;
        let test = self.tests[model].as_mut().filter(|_| deals);
        let test = test.ok_or_else(|| format!("{task} got a slot of model {model}"))?;
        let (control, candidate) = (test.control, test.candidate);
        let found = test.slots.get_mut(slot).filter(|slot| slot.is_open());
        let found = found.ok_or_else(|| format!("{task} got slot {slot}, which is not open"))?;
        if version != (if found.is_candidate { candidate } else { control }) {
            return Err(format!("{task} was told version {version} in slot {slot}"));
        }
        (found.holder, found.dealt_at) = (Some(task.to_owned()), now);
        Ok(())
    }

    /// The watcher looks until nothing is due any more.
    pub fn look(&mut self) {
        while self.look_once() {}
    }

    fn look_once(&mut self) -> bool {
        match self.state {
            State::Collecting if self.waiting.len() >= TRIGGER => {
                self.windows.insert(self.cycle, std::mem::take(&mut self.waiting));
                self.go(State::Analyzing);
                true
            }
            State::Testing => self.look_at_tests(),
            _ => false,
        }
    }

    fn look_at_tests(&mut self) -> bool {
        let mut moved = false;
        for model in 0..MODELS {
            let undecided = self.tests[model].as_ref().is_some_and(|test| test.verdict.is_none());
            if undecided && self.is_complete(model) {
                if let Some(test) = self.tests[model].as_mut() {
                    test.verdict = Some(gate(test, self.lie, &mut self.met));
                }
                self.seq += 1;
                moved = true;
            }
        }
        if !moved && self.free_minutes - self.test_opened >= TEST_MINUTES {
            for test in self.tests.iter_mut().flatten().filter(|test| test.verdict.is_none()) {
                test.verdict = Some(Verdict::Inconclusive);
            }
            self.seq += 1;
            moved = true;
        }
        self.leave_testing();
        moved
    }

    /// Brings a deck up to date; true when no slot waits any more.
    fn is_complete(&mut self, model: usize) -> bool {
        let (now, lie) = (self.free_minutes, self.lie);
        let Some(test) = self.tests[model].as_mut() else { return false };
        let mut complete = true;
        for slot in &mut test.slots {
            let Some(holder) = slot.holder.clone() else {
                complete &= slot.given_up;
                continue;
            };
            if slot.counted.is_some() {
                continue;
            }
            let version = if slot.is_candidate { test.candidate } else { test.control };
            let facts = self.facts.get(&(holder, model)).copied().unwrap_or_default();
            let named_it = facts.named == Some(version);
            let named_none = facts.named.is_none();
            let failed = facts.prompt_failed && lie != Some(Lie::PromptFaultIsMissing);
            if let Some(score) = facts.score.filter(|_| named_it) {
                slot.counted = Some(score);
            } else if failed && facts.score.is_none() && (named_it || named_none) {
                slot.counted = Some(0);
            } else if (facts.infrastructure_failed && facts.score.is_none())
                || facts.run_failed
                || now - slot.dealt_at >= SLOT_MINUTES
                || (facts.prompt_failed && lie == Some(Lie::PromptFaultIsMissing))
            {
                test.missed[usize::from(slot.is_candidate)] += 1;
                slot.holder = None;
                slot.given_up = test.dealt_again >= DEALS_AGAIN_MAX;
                test.dealt_again += u32::from(!slot.given_up);
                complete &= slot.given_up;
            } else {
                complete = false;
            }
        }
        complete
    }

    fn leave_testing(&mut self) {
        let decided = self.tests.iter().flatten().all(|test| test.verdict.is_some());
        if self.state != State::Testing || !decided {
            return;
        }
        self.holds.remove(&Hold::Approval);
        if self.asking == Asking::BeforeApply && self.adoption_stands() {
            self.holds.insert(Hold::Approval);
        }
        self.state = State::Deciding;
    }

    fn adoption_stands(&self) -> bool {
        self.tests.iter().flatten().any(Test::stands_adopted)
    }

    /// Whether the cycle itself waits for a worker, and one may begin.
    pub fn cycle_wants_work(&self) -> bool {
        match self.state {
            State::Collecting | State::Testing => false,
            State::Reverting => true,
            _ => self.holds.is_empty(),
        }
    }

    /// Whether an effect of the cycle is on record, held or not.
    pub fn cycle_has_work(&self) -> bool {
        !matches!(self.state, State::Collecting | State::Testing)
    }

    /// The cycle's effect was performed.
    pub fn worked(&mut self) {
        match self.state {
            State::Collecting | State::Testing => {}
            State::Analyzing => self.go(State::Generating),
            State::Generating => self.generated(),
            State::Deciding if self.adoption_stands() => self.go(State::Applying),
            State::Deciding | State::Reverting => self.end(),
            State::Applying => {
                for (model, test) in self.tests.iter().enumerate() {
                    if let Some(test) = test.as_ref().filter(|test| test.stands_adopted()) {
                        self.active[model] = test.candidate;
                    }
                }
                self.end();
            }
        }
    }

    /// A candidate a model, but where a person wants another version than the one that it grew from.
    fn generated(&mut self) {
        for model in 0..MODELS {
            if self.rollbacks.iter().any(|(of, _)| *of == model) {
                continue;
            }
            self.newest[model] += 1;
            self.tests[model] = Some(Test {
                control: self.active[model],
                candidate: self.newest[model],
                slots: Vec::new(),
                dealt_again: 0,
                missed: [0, 0],
                verdict: None,
                refused: false,
                dropped: false,
            });
        }
        if self.tests.iter().all(Option::is_none) {
            return self.end();
        }
        self.go(State::Testing);
        self.test_opened = self.free_minutes;
        if self.asking == Asking::BeforeTest {
            self.holds.insert(Hold::Approval);
        }
    }

    fn go(&mut self, state: State) {
        self.holds.remove(&Hold::Approval);
        self.seq += 1;
        self.state = state;
    }

    fn end(&mut self) {
        for (model, test) in self.tests.iter_mut().enumerate() {
            if let Some(verdict) = test.take().and_then(|test| test.verdict) {
                self.ended.insert((self.cycle, model), verdict);
            }
        }
        self.cycle += 1;
        (self.seq, self.state) = (0, State::Collecting);
        self.holds.retain(|hold| *hold == Hold::AutomationOff);
    }

    /// The oldest rollback was performed.
    pub fn rolled_back(&mut self) -> Result<(), String> {
        if self.rollbacks.is_empty() {
            return Err("something was rolled back that nobody asked for".to_owned());
        }
        let (model, to) = self.rollbacks.remove(0);
        self.active[model] = to;
        Ok(())
    }

    /// Whether a task is needed by the open cycle, so that it cannot be forgotten.
    pub fn needs(&self, task: &str) -> bool {
        let in_window = self.windows.get(&self.cycle).is_some_and(|window| window.contains(task));
        let mut slots = self.tests.iter().flatten().flat_map(|test| &test.slots);
        in_window || slots.any(|slot| slot.holder.as_deref() == Some(task))
    }

    pub fn forgotten(&mut self, task: &str) {
        self.waiting.remove(task);
        for window in self.windows.values_mut() {
            window.remove(task);
        }
    }

    /// Scores that count by now, by arm.
    pub fn counted(&self, model: usize) -> [usize; 2] {
        let slots = self.tests[model].iter().flat_map(|test| &test.slots);
        let mut counted = [0, 0];
        for slot in slots.filter(|slot| slot.counted.is_some()) {
            counted[usize::from(slot.is_candidate)] += 1;
        }
        counted
    }

    /// Slots of a model's test that new tasks would get now.
    pub fn open_slots(&self, model: usize) -> usize {
        let slots = self.tests[model].iter().flat_map(|test| &test.slots);
        if self.deals(model) { slots.filter(|slot| slot.is_open()).count() } else { 0 }
    }

    /// The slots of a model's test that count a score or wait for one, by whether they are the candidate's: the score, or
    /// who is to bring it.
    pub fn scores(&self, model: usize) -> Vec<(bool, Result<i64, &str>)> {
        let slots = self.tests[model].iter().flat_map(|test| &test.slots);
        slots
            .filter_map(|slot| {
                let waits = || slot.holder.as_deref().map(Err);
                Some((slot.is_candidate, slot.counted.map(Ok).or_else(waits)?))
            })
            .collect()
    }

    /// Every verdict so far, of cycles that have ended too.
    pub fn verdicts(&self) -> BTreeMap<(i64, usize), Verdict> {
        let mut all = self.ended.clone();
        for (model, test) in self.tests.iter().enumerate() {
            if let Some(verdict) = test.as_ref().and_then(|test| test.verdict) {
                all.insert((self.cycle, model), verdict);
            }
        }
        all
    }
}
