//! Random histories: events, faults and operators' words in any order, led through the real engine on the real store
//! and, beside it, through a small model in memory. Where the two differ, the seed is told and the history shrunk.
//!
//! `MATHESIS_HISTORIES` says how many there are, `MATHESIS_SEED` with which seed they begin (docs/reliability.md).

mod act;
mod model;
mod world;

use std::ops::AddAssign;
use std::process::Command;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Instant;

use model::{Lie, Met};
use proptest::test_runner::{Config, RngSeed, TestCaseError, TestError, TestRunner};

/// Histories in a run that says nothing else.
const HISTORIES: u64 = 20;
/// Histories at once.
const AT_ONCE: usize = 2;
/// Within so many histories, from one near those that are known to do it, a model or an engine that is wrong must be found out.
const FOUND_OUT_WITHIN: u64 = 60;

fn from_environment(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

/// What histories had in them.
#[derive(Debug, Clone, Copy, Default)]
struct Seen {
    acts: usize,
    met: Met,
}

impl AddAssign for Seen {
    fn add_assign(&mut self, other: Self) {
        self.acts += other.acts;
        self.met += other.met;
    }
}

/// Leads one seed's history through both; where they differ, the shortest history found in which they do, and how.
fn history_of(seed: u64, lie: Option<Lie>, shrinks: u32) -> Result<Seen, String> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("a runtime");
    let config = Config {
        cases: 1,
        rng_seed: RngSeed::Fixed(seed),
        failure_persistence: None,
        max_shrink_iters: shrinks,
        ..Config::default()
    };
    let seen = Mutex::new(Seen::default());
    let differed = AtomicBool::new(false);
    let ran = TestRunner::new(config).run(&act::history(), |(asking, acts)| {
        let played = runtime.block_on(world::play(asking, &acts, lie));
        if let Err(differs) = &played
            && !differed.swap(true, Ordering::Relaxed)
        {
            println!("seed {seed} differs and is being shrunk: {differs}");
        }
        let met = played.map_err(TestCaseError::fail)?;
        *seen.lock().expect("nobody panics with it") = Seen { acts: acts.len(), met };
        Ok(())
    });
    match ran {
        Ok(()) => Ok(seen.into_inner().expect("nobody panics with it")),
        Err(TestError::Fail(why, (asking, acts))) => Err(format!(
            "seed {seed}: {why}\nthe shortest history found, approval asked {asking:?}:\n{acts:#?}"
        )),
        Err(TestError::Abort(why)) => Err(format!("seed {seed}: {why}")),
    }
}

/// So many seeds, several at once, up to the first that differs.
fn histories(first: u64, number: u64, lie: Option<Lie>, shrinks: u32) -> Result<Seen, String> {
    let (next, stop) = (AtomicU64::new(first), AtomicBool::new(false));
    let one_after_the_other = || {
        let mut seen = Seen::default();
        while !stop.load(Ordering::Relaxed) {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= first + number {
                break;
            }
            seen += history_of(seed, lie, shrinks)
                .inspect_err(|_| stop.store(true, Ordering::Relaxed))?;
        }
        Ok::<_, String>(seen)
    };
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..AT_ONCE).map(|_| scope.spawn(one_after_the_other)).collect();
        threads.into_iter().try_fold(Seen::default(), |mut all, thread| {
            all += thread.join().expect("no history panics")?;
            Ok(all)
        })
    })
}

#[test]
fn whatever_happens_in_whatever_order_the_store_says_what_the_model_says() {
    let first = from_environment("MATHESIS_SEED", 1);
    let number = from_environment("MATHESIS_HISTORIES", HISTORIES);
    let began = Instant::now();
    let shrinks = u32::try_from(from_environment("MATHESIS_SHRINKS", 300)).unwrap_or(300);
    match histories(first, number, None, shrinks) {
        Ok(Seen { acts, met }) => {
            println!(
                "histories {number} from seed {first}, acts {acts}, differences 0, {} s\n{met}",
                began.elapsed().as_secs()
            );
            // One history may well end before its first verdict.
            let decided = met.adopted > 0 && met.short + met.to_a_hair > 0;
            assert!(decided || number < HISTORIES, "the gate was not met on both sides: {met}");
        }
        Err(differs) => panic!("{differs}"),
    }
}

/// From where, and within how many histories each is found out. What is wrong with the gate is found out by the histories of
/// every run; the others begin near the seeds that are known to do it, since each history before costs a second.
const WRONG: [(Lie, u64, u64); 4] = [
    (Lie::AnyGainIsAdopted, 1, HISTORIES),
    (Lie::TheThresholdIsEnough, 1, HISTORIES),
    (Lie::ResumeLiftsAll, 6, FOUND_OUT_WITHIN),
    (Lie::PromptFaultIsMissing, 30, FOUND_OUT_WITHIN),
];

#[test]
fn a_model_that_is_wrong_is_found_out() {
    for (lie, first, within) in WRONG {
        let found = histories(first, within, Some(lie), 0);
        let differs = found.expect_err(&format!("{lie:?} came through"));
        println!("{lie:?}: {}", differs.lines().next().unwrap_or_default());
        assert!(differs.starts_with("seed "), "{differs}");
    }
}

/// The engine reads which of its rules it is to break once a process, so this is another one.
#[test]
fn an_engine_that_breaks_its_checkpoint_is_found_out() {
    let test = "histories::whatever_happens_in_whatever_order_the_store_says_what_the_model_says";
    let output = Command::new(std::env::current_exe().expect("this program"))
        .args(["--exact", test, "--nocapture"])
        .env("MATHESIS_BROKEN_ON_PURPOSE", "one_checkpoint")
        .env("MATHESIS_HISTORIES", FOUND_OUT_WITHIN.to_string())
        .env("MATHESIS_SEED", "1")
        .env("MATHESIS_SHRINKS", "3")
        .output()
        .expect("the histories run");
    let said = String::from_utf8_lossy(&output.stdout).into_owned()
        + &String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success(), "an engine that breaks its checkpoint came through");
    assert!(said.contains("the shortest history found"), "{said}");
}
