//! The points at which something goes wrong: counted as they pass, and stopped at when one is armed.
//!
//! A point is a statement that begins, locks, writes or commits, or a call of Claude, by its name and by its how
//! manieth passing since the database was made. Statements that only read are none: what a process has read dies with
//! it, so a kill there leaves what a kill at the next point leaves.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot;

/// On which side of a statement or a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Side {
    /// It never leaves.
    Before,
    /// It has left, and nobody waits for its end. For calls alone: a statement's end is the commit's affair.
    During,
    /// It was done and answered, and the answer never arrives.
    After,
}

/// One point.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Point {
    /// What passes, in words.
    pub name: String,
    /// Its how manieth passing, from 1.
    pub nth: u32,
    /// On which side of it.
    pub side: Side,
}

impl fmt::Display for Point {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let side = match self.side {
            Side::Before => "before",
            Side::During => "during",
            Side::After => "after",
        };
        write!(f, "{side} #{} of {}", self.nth, self.name)
    }
}

/// What the names of calls begin with.
pub const CALL: &str = "call of Claude";

/// Whoever stands at the armed point, and what becomes of it.
pub struct Stop {
    /// On which side it stops.
    pub side: Side,
    /// Which replica's statement or call it is.
    reached: oneshot::Sender<Reached>,
}

/// Somebody stands at the point, and goes nowhere until it is told.
pub struct Reached {
    /// Which replica.
    pub replica: usize,
    /// The how manieth of all that have stood at a point in this program: what a fault varies by.
    pub ordinal: usize,
    verdict: oneshot::Sender<Verdict>,
}

/// What becomes of who stands at a point.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It goes on as if nothing had been.
    GoOn,
    /// Its connection breaks.
    Break,
}

impl Reached {
    /// Says what becomes of it.
    pub fn let_it(self, verdict: Verdict) {
        // Its connection may be gone by now.
        let _gone = self.verdict.send(verdict);
    }
}

impl Stop {
    /// Tells the supervisor that the point is reached, and waits for its word.
    pub async fn wait(self, replica: usize) -> Verdict {
        static ORDINAL: AtomicUsize = AtomicUsize::new(0);
        let (verdict, told) = oneshot::channel();
        let ordinal = ORDINAL.fetch_add(1, Ordering::Relaxed);
        if self.reached.send(Reached { replica, ordinal, verdict }).is_err() {
            return Verdict::GoOn;
        }
        told.await.unwrap_or(Verdict::GoOn)
    }
}

/// How often each point was passed.
pub type Counts = BTreeMap<String, u32>;

/// Where everything passes that may be stopped.
#[derive(Default)]
pub struct Gate {
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    counts: Counts,
    armed: Option<(Point, oneshot::Sender<Reached>)>,
}

impl Gate {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Arms one point; what comes out of the channel stands at it.
    pub fn arm(&self, point: Point) -> oneshot::Receiver<Reached> {
        let (reached, at_point) = oneshot::channel();
        self.lock().armed = Some((point, reached));
        at_point
    }

    /// Notes that something passes, and says whether it is to stop.
    pub fn pass(&self, name: &str) -> Option<Stop> {
        let mut inner = self.lock();
        let count = inner.counts.entry(name.to_owned()).or_default();
        *count += 1;
        let nth = *count;
        let hit =
            inner.armed.as_ref().is_some_and(|(point, _)| point.name == name && point.nth == nth);
        if !hit {
            return None;
        }
        inner.armed.take().map(|(point, reached)| Stop { side: point.side, reached })
    }

    /// What has passed so far.
    pub fn counts(&self) -> Counts {
        self.lock().counts.clone()
    }
}

/// A statement that is a point.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Statement {
    /// Begins a transaction.
    Begin,
    /// Ends one.
    Commit,
    /// Undoes one.
    Rollback,
    /// Writes or locks; named by its first words and a hash of the whole.
    Writes(String),
}

impl Statement {
    /// What a statement is; none for one that only reads.
    pub fn of(sql: &str) -> Option<Self> {
        let words: Vec<&str> = sql.split_whitespace().collect();
        let first = words.first()?.to_ascii_uppercase();
        match first.as_str() {
            "BEGIN" | "START" => return Some(Self::Begin),
            "COMMIT" | "END" => return Some(Self::Commit),
            "ROLLBACK" => return Some(Self::Rollback),
            _ => {}
        }
        let whole = words.join(" ");
        let upper = whole.to_ascii_uppercase();
        let writes =
            ["INSERT", "UPDATE", "DELETE", "LOCK", "TRUNCATE", "CREATE", "ALTER", "DROP", "WITH"]
                .contains(&first.as_str());
        let locks = ["FOR UPDATE", "FOR SHARE", "ADVISORY", "PG_NOTIFY"]
            .iter()
            .any(|word| upper.contains(word));
        let reads_only = first == "WITH"
            && !["INSERT ", "UPDATE ", "DELETE "].iter().any(|word| upper.contains(word));
        if (!writes || reads_only) && !locks {
            return None;
        }
        Some(Self::Writes(named(&words, &whole)))
    }
}

/// The first words of a statement, and enough of a hash to tell it from others that begin so.
fn named(words: &[&str], whole: &str) -> String {
    use std::hash::{DefaultHasher, Hash, Hasher};
    let mut hasher = DefaultHasher::new();
    whole.hash(&mut hasher);
    let mut short: String = words.join(" ").chars().take(60).collect();
    if whole.len() > short.len() {
        short.push('…');
    }
    format!("{short} [{:04x}]", hasher.finish() & 0xffff)
}

/// The points of an undisturbed run that are worth a run each: of everything that passed, the first passing, the
/// second, the one in the middle and the last; on both sides. A statement that passes forty times passes forty times in
/// the same way, and what passes by the clock (renewals, figures, polls) passes so all the more.
pub fn worth_a_run(counts: &Counts) -> Vec<Point> {
    let mut points = Vec::new();
    for (name, count) in counts {
        let mut chosen = vec![1, 2, count / 2, *count];
        chosen.retain(|nth| (1..=*count).contains(nth));
        chosen.sort_unstable();
        chosen.dedup();
        let sides: &[Side] = if name.starts_with(CALL) {
            &[Side::Before, Side::During, Side::After]
        } else {
            &[Side::Before, Side::After]
        };
        for nth in chosen {
            points.extend(sides.iter().map(|side| Point { name: name.clone(), nth, side: *side }));
        }
    }
    points
}
