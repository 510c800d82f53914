//! A bounded crash campaign: the real binary is killed once at every statement that writes and at every call of a
//! whole cycle, and a few other things go wrong at a few points. The long one, with several passings and both sides of
//! each point, is the program `campaign` by itself (docs/reliability.md).

use std::process::Command;

/// The campaign with these arguments: whether every run ended well, and what it said.
fn campaign(arguments: &[&str]) -> (bool, String) {
    let seed = std::env::var("MATHESIS_SEED").unwrap_or_else(|_| "1".to_owned());
    let output = Command::new(env!("CARGO_BIN_EXE_campaign"))
        .args(["--mathesis", env!("CARGO_BIN_EXE_mathesis"), "--seed", &seed])
        .args(arguments)
        .output()
        .expect("the campaign runs");
    let said = String::from_utf8_lossy(&output.stdout).into_owned()
        + &String::from_utf8_lossy(&output.stderr);
    println!("{said}");
    (output.status.success(), said)
}

#[test]
fn killed_once_at_every_statement_and_call_a_cycle_comes_to_the_same_end() {
    let (well, said) = campaign(&["--bounded"]);
    assert!(well, "a run ended otherwise; the seed is in the first line");
    let figures = said.lines().find(|line| line.starts_with("Kill: points ")).expect("the figures");
    let points: u32 = figures
        .split_whitespace()
        .nth(2)
        .and_then(|number| number.parse().ok())
        .expect("how many points were reached");
    assert!(points >= 60, "{figures}");
}

#[test]
fn whatever_else_goes_wrong_at_a_few_points_the_end_is_the_same() {
    let faults = "break,freeze,postgres,pause,resume,cancel,terminate";
    let (well, _) = campaign(&["--bounded", "--points", "2", "--faults", faults]);
    assert!(well, "a run ended otherwise; the seed is in the first line");
}

#[test]
fn with_two_replicas_and_one_of_them_killed_the_end_is_the_same() {
    let (well, _) = campaign(&["--bounded", "--points", "3", "--replicas", "2"]);
    assert!(well, "a run ended otherwise; the seed is in the first line");
}

#[test]
fn where_the_disk_of_the_files_is_full_or_read_only_the_change_waits_and_the_end_is_the_same() {
    // From the first call of Claude on, so that the disk is spoilt when the files are to be changed.
    let faults = ["--faults", "disk-full,read-only", "--only", "call of Claude /v1/messages"];
    let (well, said) = campaign(&[&["--bounded"], faults.as_slice()].concat());
    assert!(well, "a run ended otherwise; the seed is in the first line");
    assert!(said.contains("DiskFull: points 2") || said.contains("SKIPPED"), "it was reached");
}

#[test]
fn with_clocks_that_jump_the_end_is_the_same() {
    let (well, _) = campaign(&["--bounded", "--points", "3", "--faults", "clock"]);
    assert!(well, "a run ended otherwise; the seed is in the first line");
}

#[test]
fn every_acknowledged_event_is_there_once_whatever_is_killed_while_they_are_sent() {
    let (well, said) = campaign(&["--events", "20000"]);
    assert!(well, "an event is lost or there twice");
    assert!(said.contains("lost 0, double 0"), "the figures say so");
}

/// The campaign over an engine that breaks one of its rules, up to the first run that ends otherwise.
fn finds_out(broken: &str, arguments: &[&str]) -> String {
    let bounds = ["--broken", broken, "--stop-at-first", "--patience-seconds", "15"];
    let (well, said) = campaign(&[&bounds, arguments].concat());
    assert!(!well, "an engine that breaks the rule {broken} came through");
    said
}

#[test]
fn an_engine_that_writes_its_checkpoint_apart_from_the_effect_is_found_out() {
    let said = finds_out("one_checkpoint", &["--bounded"]);
    assert!(said.contains("FAILED Adopted, Kill"), "a kill found it out");
    assert!(said.contains("waited in vain"), "what was done had no checkpoint, and nobody goes on");
}

#[test]
fn an_engine_that_does_not_check_the_fence_is_found_out() {
    let calls = ["--faults", "freeze", "--only", "call of Claude /v1/messages"];
    let said = finds_out("fence", &calls);
    assert!(said.contains("FAILED Adopted, Freeze"), "a late worker found it out");
    assert!(
        said.contains("effect.code=\"claim_lost\""),
        "it wrote, and who had taken over could not"
    );
}

#[test]
fn an_engine_that_does_not_lock_a_slot_is_found_out() {
    let said = finds_out("slot_lock", &["--bounded"]);
    assert!(said.contains("two runs hold one slot"), "the invariant is named");
}
