//! Invariants 4 and 5: one active version at every moment, its files, and what a person wrote.

use std::fs;
use std::sync::atomic::{AtomicBool, Ordering};

use futures::future::join;
use mathesis::cycle::StateName;
use mathesis::research::restore_backup;
use mathesis::runtime::{Operation, Worked};
use sqlx::{Connection, PgConnection};

use crate::support::Stage;
use crate::support::stage::{NANO, WAN};

/// Version and text that serve, how many versions are active, and how many changes are under way.
type Moment = (i32, String, i64, i64);

async fn moment(connection: &mut PgConnection) -> Moment {
    sqlx::query_as(
        "SELECT max(version), max(research_text), count(*),
                (SELECT count(*) FROM config_changes WHERE model_name = 'wan-2.5-edit' AND status = 'intended')
           FROM prompt_versions WHERE model_name = 'wan-2.5-edit' AND is_active",
    )
    .fetch_one(connection)
    .await
    .expect("the query answers")
}

#[tokio::test(flavor = "multi_thread")]
async fn invariant_4_one_version_is_active_at_every_moment_and_the_files_are_that_version() {
    let stage = Stage::new().await;
    stage.reach_applying("steady").await;
    let mut beside = stage.own_connection().await;

    let changed = AtomicBool::new(false);
    let changing = async {
        assert_eq!(stage.step().await, StateName::Applied);
        for round in 0..6 {
            stage.please(Operation::Rollback { model: WAN.to_owned(), to: 1 + round % 2 }).await;
            assert_eq!(stage.work().await, Worked::Done(None));
            let now = moment(&mut stage.own_connection().await).await;
            assert_eq!(now.0, 1 + round % 2);
        }
        changed.store(true, Ordering::Relaxed);
    };
    let polling = async {
        let (mut quiet, mut seen) = (0, std::collections::BTreeSet::new());
        while !changed.load(Ordering::Relaxed) {
            let before = moment(&mut beside).await;
            let file = stage.read(WAN, "research.md");
            let after = moment(&mut beside).await;
            assert_eq!((before.2, after.2), (1, 1), "exactly one version is active");
            seen.insert(before.0);
            if before == after && before.3 == 0 {
                assert_eq!(file, before.1, "without an intent the file is version {}", before.0);
                quiet += 1;
            }
        }
        (quiet, seen)
    };
    let ((), (quiet, seen)) = join(changing, polling).await;
    assert!(
        quiet > 0 && seen.len() == 2,
        "the poll saw quiet moments ({quiet}) and both versions {seen:?}"
    );
    beside.close().await.expect("the connection closes");
}

#[tokio::test]
async fn invariant_4_the_database_refuses_a_second_active_version() {
    let stage = Stage::new().await;
    stage.reach_applied("second").await;
    let refused = sqlx::query("UPDATE prompt_versions SET is_active = true WHERE version = 1")
        .execute(stage.pool())
        .await
        .expect_err("the index refuses it");
    let code =
        refused.as_database_error().and_then(|error| error.code().map(|code| code.into_owned()));
    assert_eq!(code.as_deref(), Some("23505"));
}

#[tokio::test]
async fn invariant_4_a_crash_between_the_files_and_the_checkpoint_leaves_an_intent_and_is_made_good()
 {
    let stage = Stage::new().await;
    stage.reach_applying("torn").await;
    stage.crash_before_commit().await;
    stage.worker.work_once().await.expect_err("the checkpoint fails");
    stage.commit_again().await;
    assert_eq!(stage.active_version(WAN).await, 1, "the database still serves the old version");
    assert!(stage.read(WAN, "research.md").contains("torn"), "the files are the new one already");
    assert_eq!(
        stage.number("SELECT count(*) FROM config_changes WHERE status = 'intended'").await,
        2
    );

    let replica = stage.another().await;
    assert_eq!(replica.rescue().await, 1);
    assert_eq!(replica.step().await, StateName::Applied);
    assert_eq!(stage.active_version(WAN).await, 2);
    assert_eq!(stage.backups(WAN).len(), 1, "the redo made no second backup");
}

#[tokio::test]
async fn invariant_5_a_backup_restores_byte_for_byte() {
    let stage = Stage::new().await;
    let bytes = |name: &str| fs::read(stage.file(WAN, name)).expect("the file is there");
    let before = (bytes("activation.txt"), bytes("research.md"));
    stage.reach_applied("kept").await;
    assert_ne!(bytes("research.md"), before.1, "the new version is another text");

    let backup = stage.file(WAN, &stage.backups(WAN)[0]);
    let folder = stage.folder.path().join("config/deep_research");
    restore_backup(&folder, WAN, &backup).expect("the backup is whole");
    assert_eq!((bytes("activation.txt"), bytes("research.md")), before);
}

#[tokio::test]
async fn invariant_5_a_hand_edited_file_is_never_overwritten() {
    let stage = Stage::new().await;
    stage.reach_applying("edited").await;
    let file = stage.file(NANO, "research.md");
    let original = fs::read(&file).expect("the file is there");
    fs::write(&file, "Η Μαρία έγραψε αυτό με το χέρι.\n").expect("the file can be written");

    let failed = Worked::Failed { code: "config_conflict".to_owned(), held: true };
    assert_eq!(stage.work().await, failed);
    let hold = stage.the_hold().await;
    assert_eq!(hold.kind, "config_conflict");
    assert!(hold.remedy.contains("mathesis cycle retry"), "{}", hold.remedy);
    assert_eq!(stage.read(NANO, "research.md"), "Η Μαρία έγραψε αυτό με το χέρι.\n");
    assert_eq!(stage.active_version(NANO).await, 1);
    assert_eq!(stage.active_version(WAN).await, 1, "nothing of the change is committed");

    fs::write(&file, original).expect("the file can be written");
    stage.please(Operation::Retry).await;
    assert_eq!(stage.step().await, StateName::Applied);
    assert!(stage.read(NANO, "research.md").contains("edited"));
    assert_eq!(stage.backups(WAN).len(), 1, "the half that was done before is not done twice");
}
