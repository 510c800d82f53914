//! The config folder's disk fails while a change is applied: it is full, or nobody may write to it.

use std::fs;

use chrono::TimeDelta;
use mathesis::cycle::StateName;
use mathesis::runtime::{Operation, Worked};

use super::{RESEARCH, adopt_all};
use crate::support::disk::Disk;
use crate::support::stage::{NANO, WAN};
use crate::support::{Record, Stage};

/// What is done to a disk.
type Deed = fn(&Disk);

/// What happens to a disk, and what mends it.
const FAILURES: [(&str, Deed, Deed); 2] =
    [("full", Disk::fill, Disk::empty), ("read-only", Disk::lock, Disk::unlock)];
/// Tries of an effect before its cycle is held.
const TRIES: u32 = 3;

/// False, aloud, where this machine lets no disk be mounted.
fn is_possible() -> bool {
    let permitted = Disk::is_permitted();
    if let Err(why) = &permitted {
        println!("SKIPPED: a disk of its own cannot be mounted here, so none was full: {why}");
    }
    permitted.is_ok()
}

/// A stage in Applying whose config folder is a disk of its own.
async fn applying() -> (Stage, Disk) {
    let stage = Stage::builder()
        .definition(|definition| {
            definition.trigger.tasks = 3;
            definition.retry.attempts_max = TRIES;
        })
        .build()
        .await;
    stage.open_test().await;
    adopt_all(&stage, "test").await;
    assert_eq!(stage.step().await, StateName::Applying);
    let texts = [WAN, NANO].map(|model| {
        ["activation.txt", RESEARCH].map(|name| (stage.file(model, name), stage.read(model, name)))
    });
    let disk = Disk::mounted(&stage.folder.path().join("config/deep_research"))
        .expect("it was possible a moment ago");
    for (file, text) in texts.iter().flatten() {
        fs::create_dir_all(file.parent().expect("a folder")).expect("the folder is made");
        fs::write(file, text).expect("the file is written");
    }
    (stage, disk)
}

/// What an undisturbed change leaves.
async fn undisturbed() -> Record {
    let (stage, _disk) = applying().await;
    assert_eq!(stage.step().await, StateName::Applied);
    record(&stage).await
}

async fn record(stage: &Stage) -> Record {
    let record = Record::of(stage.pool(), &stage.folder.path().join("config/deep_research")).await;
    record.without("\"kind\":\"effect_failed\"")
}

/// Every file is what it was, to the byte: the old version serves.
fn as_before(stage: &Stage) {
    for model in [WAN, NANO] {
        assert_eq!(
            stage.read(model, "activation.txt"),
            format!("You enhance prompts for {model}.\n")
        );
        let research = stage.read(model, RESEARCH);
        assert!(research.ends_with("Άρνηση.\n"), "{model} is whole and old: {research}");
    }
}

async fn fails(stage: &Stage, held: bool) {
    let worked = stage.work().await;
    assert!(
        matches!(&worked, Worked::Failed { held: is_held, .. } if *is_held == held),
        "{worked:?}"
    );
    as_before(stage);
    assert_eq!(stage.state().await, StateName::Applying);
}

/// The change goes on to its end and leaves what an undisturbed one leaves.
async fn goes_on(stage: &Stage, failure: &str, undisturbed: &Record) {
    assert_eq!(stage.step().await, StateName::Applied, "{failure}");
    record(stage).await.assert_is(undisturbed);
}

#[tokio::test]
async fn a_disk_that_is_mended_in_time_lets_the_change_go_on_by_itself() {
    if !is_possible() {
        return;
    }
    let undisturbed = undisturbed().await;
    for (failure, fail, mend) in FAILURES {
        let (stage, disk) = applying().await;
        fail(&disk);
        fails(&stage, false).await;
        assert_eq!(stage.work().await, Worked::Idle, "{failure}: the next try waits");
        mend(&disk);
        stage.clock.advance(TimeDelta::minutes(5));
        goes_on(&stage, failure, &undisturbed).await;
    }
}

#[tokio::test]
async fn a_disk_that_stays_so_holds_the_cycle_with_words_until_it_is_retried() {
    if !is_possible() {
        return;
    }
    let undisturbed = undisturbed().await;
    for (failure, fail, mend) in FAILURES {
        let (stage, disk) = applying().await;
        fail(&disk);
        for again in 1..=TRIES {
            fails(&stage, again == TRIES).await;
            stage.clock.advance(TimeDelta::hours(2));
        }
        let hold = stage.the_hold().await;
        assert_eq!(hold.kind, "effect_failed", "{failure}");
        let says = |what: &str| hold.reason.contains(what) || hold.remedy.contains(what);
        assert!(says("Nothing was changed.") && says("`mathesis cycle retry`"), "{hold:?}");
        let what_to_do = if failure == "full" { "space" } else { "read-only" };
        assert!(hold.reason.to_lowercase().contains(what_to_do), "{failure}: {}", hold.reason);
        assert_eq!(stage.active_version(WAN).await, 1, "and the old version serves");

        mend(&disk);
        assert_eq!(stage.work().await, Worked::Idle, "{failure}: held until a word");
        stage.operate(Operation::Retry).await.expect("there is something to retry");
        goes_on(&stage, failure, &undisturbed).await;
    }
}
