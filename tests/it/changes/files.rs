//! The model folders: missing, stale or edited files, and changes that died half way.

use std::fs;

use mathesis::cycle::StateName;
use mathesis::runtime::{Worked, reconcile};
use mathesis::store::changes;
use sqlx::Connection;

use super::{RESEARCH, adopt_all, adopted_stage, held_by, last_change, to};
use crate::support::stage::{NANO, WAN, testing_stage};
use crate::support::{Stage, until};

async fn look_at_files(stage: &Stage) {
    reconcile(&stage.engine, &stage.workflow).await.expect("the folder is looked at");
}

#[tokio::test]
async fn missing_files_are_written_again() {
    let stage = adopted_stage().await;
    let second = stage.read(WAN, RESEARCH);
    fs::remove_dir_all(stage.folder.path().join("config")).expect("the folder can be removed");
    look_at_files(&stage).await;
    assert_eq!(stage.read(WAN, RESEARCH), second);
    assert_eq!(stage.backups(WAN), Vec::<String>::new(), "there was nothing to keep");
    let change = last_change(&stage).await;
    assert_eq!((change.kind.as_str(), change.to_version, change.backup_path), ("repair", 2, None));
    assert_eq!(held_by(&stage).await, Vec::<String>::new());
}

#[tokio::test]
async fn a_fresh_container_with_the_first_version_is_put_right_behind_a_backup() {
    let stage = testing_stage().await;
    let first = [stage.read(WAN, "activation.txt"), stage.read(WAN, RESEARCH)];
    adopt_all(&stage, "t").await;
    assert_eq!(stage.step().await, StateName::Applying);
    assert_eq!(stage.step().await, StateName::Applied);
    let second = stage.read(WAN, RESEARCH);

    fs::remove_dir_all(stage.file(WAN, "")).expect("the folder can be removed");
    fs::create_dir_all(stage.file(WAN, "")).expect("the folder can be made");
    fs::write(stage.file(WAN, "activation.txt"), &first[0]).expect("the file can be written");
    fs::write(stage.file(WAN, RESEARCH), &first[1]).expect("the file can be written");
    look_at_files(&stage).await;
    assert_eq!(stage.read(WAN, RESEARCH), second);
    let backups = stage.backups(WAN);
    assert_eq!(backups.len(), 1);
    let kept =
        fs::read_to_string(stage.file(WAN, &backups[0]).join(RESEARCH)).expect("the backup reads");
    assert_eq!(kept, first[1]);
    look_at_files(&stage).await;
    assert_eq!(stage.backups(WAN).len(), 1, "once is enough");
}

#[tokio::test]
async fn another_machines_stale_folder_is_brought_in_step() {
    let stage = testing_stage().await;
    look_at_files(&stage).await;
    let marker =
        fs::read(stage.file(WAN, ".mathesis.json")).expect("the files are marked as version 1");
    let first = stage.read(WAN, RESEARCH);
    adopt_all(&stage, "t").await;
    assert_eq!(stage.step().await, StateName::Applying);
    assert_eq!(stage.step().await, StateName::Applied);
    let second = stage.read(WAN, RESEARCH);

    fs::write(stage.file(WAN, RESEARCH), &first).expect("the file can be written");
    fs::write(stage.file(WAN, ".mathesis.json"), marker).expect("the marker can be written");
    look_at_files(&stage).await;
    assert_eq!(stage.read(WAN, RESEARCH), second);
    assert_eq!(held_by(&stage).await, Vec::<String>::new());
    assert_eq!(stage.backups(WAN).len(), 2);
}

#[tokio::test]
async fn a_file_that_is_no_text_holds_as_an_edit_does_until_it_is_put_right() {
    let stage = testing_stage().await;
    look_at_files(&stage).await;
    let (file, original) = (stage.file(WAN, RESEARCH), stage.read(WAN, RESEARCH));
    let large = vec![b'x'; (8 << 20) + 1];
    for (unusable, code) in [(b"\xff".to_vec(), "not_text"), (large, "too_large")] {
        fs::write(&file, &unusable).expect("the file can be written");
        look_at_files(&stage).await;
        look_at_files(&stage).await;
        let hold = stage.the_hold().await;
        assert_eq!((hold.kind.as_str(), hold.code.as_str()), ("config_conflict", code));
        assert!(hold.reason.contains(RESEARCH) && hold.remedy.contains("by itself"), "{hold:?}");
        assert!(fs::read(&file).expect("it reads") == unusable, "it is left alone");
        assert!(stage.assign(code, WAN).await.arm.is_none(), "nothing new is dealt");
    }
    // Read as text again it is an edit, and the hold says so.
    fs::write(&file, "edited by hand").expect("the file can be written");
    look_at_files(&stage).await;
    assert_eq!(stage.the_hold().await.code, "config_conflict");
    fs::write(&file, original).expect("the file can be put back");
    look_at_files(&stage).await;
    assert_eq!(held_by(&stage).await, Vec::<String>::new());
    assert!(stage.assign("after", WAN).await.arm.is_some(), "the test goes on");
}

#[tokio::test]
async fn a_hand_edit_during_a_test_holds_everything_until_the_file_is_put_back() {
    let stage = testing_stage().await;
    look_at_files(&stage).await;
    let original = stage.read(WAN, RESEARCH);
    let holder = stage.assign("t-1", WAN).await;
    fs::write(stage.file(WAN, RESEARCH), "edited by hand").expect("the file can be written");
    look_at_files(&stage).await;
    look_at_files(&stage).await;
    assert_eq!(held_by(&stage).await, ["config_conflict"], "said once");
    assert_eq!(stage.read(WAN, RESEARCH), "edited by hand");
    assert_eq!(stage.assign("late", WAN).await.arm, None, "nothing is dealt");
    assert_eq!(stage.assign("t-1", WAN).await, holder);
    let said = stage.status().await;
    assert!(said.sentence.contains("research.md"), "{}", said.sentence);

    fs::write(stage.file(WAN, RESEARCH), original).expect("the file can be put back");
    look_at_files(&stage).await;
    assert_eq!(held_by(&stage).await, Vec::<String>::new());
    assert!(stage.assign("t-2", WAN).await.arm.is_some());
    adopt_all(&stage, "t").await;
    assert_eq!(stage.step().await, StateName::Applying);
    assert_eq!(stage.step().await, StateName::Applied);
}

#[tokio::test]
async fn a_repair_that_died_half_way_is_done_again() {
    let stage = adopted_stage().await;
    let second = stage.read(WAN, RESEARCH);
    let marker = fs::read(stage.file(WAN, ".mathesis.json")).expect("the marker reads");
    stage.operate(to(1)).await.expect("the rollback is taken");
    assert_eq!(stage.work().await, Worked::Done(None));
    // As if the new files were in place, and the process died before it wrote the marker.
    fs::write(stage.file(WAN, ".mathesis.json"), marker).expect("the marker can be written");
    look_at_files(&stage).await;
    assert_eq!(held_by(&stage).await, Vec::<String>::new(), "that is nobody's edit");
    let marker = fs::read_to_string(stage.file(WAN, ".mathesis.json")).expect("the marker reads");
    assert!(marker.contains("\"version\": 1"), "{marker}");
    assert_ne!(stage.read(WAN, RESEARCH), second);
}

#[tokio::test]
async fn an_apply_that_died_between_its_files_and_its_checkpoint_is_done_again_without_a_second_backup()
 {
    let stage = testing_stage().await;
    adopt_all(&stage, "t").await;
    assert_eq!(stage.step().await, StateName::Applying);

    let mut other = sqlx::PgConnection::connect(&stage.url).await.expect("a connection");
    let mut lock = other.begin().await.expect("a transaction");
    sqlx::query("SELECT FROM cycles WHERE ended_at IS NULL FOR UPDATE")
        .fetch_one(&mut *lock)
        .await
        .expect("the cycle's row is locked");
    let written =
        || stage.backups(NANO).len() == 1 && stage.read(NANO, RESEARCH).contains("Keep the logo.");
    tokio::select! {
        worked = stage.worker.work_once() => panic!("the checkpoint was not blocked: {worked:?}"),
        () = until(async || written()) => {}
    }
    lock.rollback().await.expect("the lock is given up");
    assert_eq!(stage.active_version(NANO).await, 1, "nothing was committed");

    let survivor = stage.another().await;
    until(async || survivor.rescue().await == 1).await;
    assert_eq!(survivor.step().await, StateName::Applied);
    for model in [WAN, NANO] {
        assert_eq!(survivor.active_version(model).await, 2);
        assert_eq!(survivor.backups(model).len(), 1);
    }
    let finished: Vec<(String, String)> = changes::list(stage.pool(), stage.id(), 10)
        .await
        .expect("the changes read")
        .into_iter()
        .filter(|change| change.kind == "apply")
        .map(|change| (change.status, change.backup_path.expect("the backup is on record")))
        .collect();
    assert_eq!(finished.len(), 2);
    for (status, backup) in finished {
        assert_eq!(status, "done");
        assert!(fs::metadata(backup).expect("the backup is there").is_dir());
    }
}
