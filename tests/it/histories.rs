//! Random histories: events, faults and operators' words in any order, led through the real engine on the real store
//! and, beside it, through a small model in memory. Where the two differ, the seed is told and the history shrunk.
//!
//! `MATHESIS_HISTORIES` says how many there are, `MATHESIS_SEED` with which seed they begin (docs/reliability.md).

mod act;
mod model;
mod world;

use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Instant;

use model::Lie;
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

/// Leads one seed's history through both; where they differ, the shortest history found in which they do, and how.
fn history_of(seed: u64, lie: Option<Lie>, shrinks: u32) -> Result<usize, String> {
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
    let acts_played = AtomicU64::new(0);
    let differed = AtomicBool::new(false);
    let ran = TestRunner::new(config).run(&act::history(), |(asking, acts)| {
        acts_played.store(acts.len() as u64, Ordering::Relaxed);
        let played = runtime.block_on(world::play(asking, &acts, lie));
        if let Err(differs) = &played
            && !differed.swap(true, Ordering::Relaxed)
        {
            println!("seed {seed} differs and is being shrunk: {differs}");
        }
        played.map_err(TestCaseError::fail)
    });
    match ran {
        Ok(()) => Ok(usize::try_from(acts_played.into_inner()).unwrap_or(0)),
        Err(TestError::Fail(why, (asking, acts))) => Err(format!(
            "seed {seed}: {why}\nthe shortest history found, approval asked {asking:?}:\n{acts:#?}"
        )),
        Err(TestError::Abort(why)) => Err(format!("seed {seed}: {why}")),
    }
}

/// So many seeds, several at once, up to the first that differs.
fn histories(first: u64, number: u64, lie: Option<Lie>, shrinks: u32) -> Result<usize, String> {
    let (next, stop) = (AtomicU64::new(first), AtomicBool::new(false));
    let one_after_the_other = || {
        let mut acts = 0;
        while !stop.load(Ordering::Relaxed) {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= first + number {
                break;
            }
            acts += history_of(seed, lie, shrinks)
                .inspect_err(|_| stop.store(true, Ordering::Relaxed))?;
        }
        Ok(acts)
    };
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..AT_ONCE).map(|_| scope.spawn(one_after_the_other)).collect();
        threads
            .into_iter()
            .map(|thread| thread.join().expect("no history panics"))
            .sum::<Result<usize, String>>()
    })
}

#[test]
fn whatever_happens_in_whatever_order_the_store_says_what_the_model_says() {
    let first = from_environment("MATHESIS_SEED", 1);
    let number = from_environment("MATHESIS_HISTORIES", HISTORIES);
    let began = Instant::now();
    let shrinks = u32::try_from(from_environment("MATHESIS_SHRINKS", 300)).unwrap_or(300);
    match histories(first, number, None, shrinks) {
        Ok(acts) => println!(
            "histories {number} from seed {first}, acts {acts}, differences 0, {} s",
            began.elapsed().as_secs()
        ),
        Err(differs) => panic!("{differs}"),
    }
}

#[test]
fn a_model_that_is_wrong_is_found_out() {
    // From seeds near those that are known to find them out, since each history before costs a second.
    for (lie, first) in [(Lie::ResumeLiftsAll, 2), (Lie::PromptFaultIsMissing, 24)] {
        let found = histories(first, FOUND_OUT_WITHIN, Some(lie), 0);
        let differs = found.expect_err(&format!("{lie:?} came through"));
        println!("{lie:?}: {}", differs.lines().next().unwrap_or_default());
        assert!(differs.contains("seed ") && differs.contains("the model says"), "{differs}");
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
        .env("MATHESIS_SEED", "12")
        .env("MATHESIS_SHRINKS", "3")
        .output()
        .expect("the histories run");
    let said = String::from_utf8_lossy(&output.stdout).into_owned()
        + &String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success(), "an engine that breaks its checkpoint came through");
    assert!(said.contains("the shortest history found"), "{said}");
}
