//! SIGKILL around an alarm of the standing watch that puts the predecessor back: the scores are taken once, the
//! alarm rings once, the rollback is done once, and the files are what they were before the adoption.

use std::collections::BTreeMap;

use serde_json::Value;
use tokio::sync::OnceCell;

use super::kill_and_restart;
use crate::support::site::{Site, unlock, until};
use crate::support::stage::NANO;
use crate::support::{Record, TaskRun};

/// Bad scores, far more than an alarm needs.
const SCORES: usize = 30;
/// So many that the runs of the test and of the watch open no second analysis.
const TRIGGER: usize = 120;
const ALARMED: &str = "SELECT count(*) FROM watches WHERE alarmed_at IS NOT NULL";
const ASKED: &str = "SELECT count(*) FROM config_changes WHERE kind = 'roll_back'";
const ENDED: &str = "SELECT count(*) FROM watches WHERE ended_because = 'replaced'";

/// A site whose adopted nano-banana did badly in thirty runs. The first of them has not ended, so the watch waits for
/// it and will take all of them at once.
struct Alarming {
    site: Site,
    files: BTreeMap<String, Vec<u8>>,
    end_of_the_first_run: Value,
}

impl Alarming {
    async fn new() -> Self {
        let site = Site::new().await;
        site.edit_workflow("on_alarm = \"tell\"", "on_alarm = \"roll_back\"");
        site.open_analyses_after(TRIGGER);
        site.start().await;
        let files = site.documents();
        site.complete_tasks(1, TRIGGER).await;
        site.until_state("testing").await;
        site.play_test_in_turn().await;
        site.until_state("applied").await;
        site.until_count("SELECT count(*) FROM watches", 2).await;

        let run = |n: usize| TaskRun::new(format!("bad-{n}"), &[(NANO, 2, 1)]).events();
        let mut first = run(1);
        let end_of_the_first_run = first.pop().expect("a run ends");
        site.post("/events", Value::Array(first)).await;
        for n in 2..=SCORES {
            site.post("/events", Value::Array(run(n))).await;
        }
        // The watch leaves alone what arrived within the last ten seconds.
        let unsettled =
            "SELECT count(*) FROM tasks WHERE created_at > now() - interval '11 seconds'";
        until("the runs are settled", || async { site.count(unsettled).await == 0 }).await;
        assert_eq!(site.count("SELECT sum(scores)::bigint FROM watches").await, 0);
        Self { site, files, end_of_the_first_run }
    }

    /// From here on there is something to be alarmed at.
    async fn go(&self) {
        self.site.post("/events", Value::Array(vec![self.end_of_the_first_run.clone()])).await;
    }

    async fn ends_with_the_predecessor_back(&self) {
        let record = self.end().await;
        record.assert_is(undisturbed().await);
    }

    async fn end(&self) -> Record {
        let site = &self.site;
        site.until_count(ENDED, 1).await;
        assert_eq!((site.count(ALARMED).await, site.count(ASKED).await), (1, 1), "once each");
        assert_eq!(site.changes_done("roll_back").await, 1);
        let scores = "SELECT sum(scores)::bigint FROM watches";
        assert_eq!(site.count(scores).await, SCORES as i64, "each score once");
        let now = site.documents();
        for (name, bytes) in &self.files {
            let back = name.starts_with(NANO);
            assert_eq!(
                now.get(name) == Some(bytes),
                back || name.ends_with("activation.txt"),
                "{name}"
            );
        }
        site.record().await
    }
}

/// What a run that nobody disturbs leaves behind.
async fn undisturbed() -> &'static Record {
    static RECORD: OnceCell<Record> = OnceCell::const_new();
    RECORD
        .get_or_init(|| async {
            let alarming = Alarming::new().await;
            alarming.go().await;
            alarming.end().await
        })
        .await
}

#[tokio::test]
async fn killed_before_the_scores_and_the_alarm_are_committed() {
    let alarming = Alarming::new().await;
    let site = &alarming.site;
    let mut lock = site.pool.begin().await.expect("a transaction");
    // Lets the watch be locked and its runs be read, and nothing of it be written.
    sqlx::query("LOCK TABLE watches IN SHARE MODE").execute(&mut *lock).await.expect("locked");
    alarming.go().await;
    let waits = "SELECT count(*) FROM pg_stat_activity
                  WHERE datname = current_database() AND wait_event_type = 'Lock'
                    AND query LIKE 'UPDATE watches%'";
    site.until_count(waits, 1).await;
    site.kill();
    unlock(lock).await;
    assert_eq!(site.count(ALARMED).await, 0);
    site.start().await;
    alarming.ends_with_the_predecessor_back().await;
}

#[tokio::test]
async fn killed_after_the_alarm_before_the_rollback_is_asked_for() {
    let alarming = Alarming::new().await;
    let site = &alarming.site;
    let lock = site.lock_cycle().await;
    alarming.go().await;
    site.until_blocked().await;
    assert_eq!((site.count(ALARMED).await, site.count(ASKED).await), (1, 0));
    site.kill();
    unlock(lock).await;
    site.start().await;
    alarming.ends_with_the_predecessor_back().await;
}

#[tokio::test]
async fn killed_after_the_rollback_is_asked_for_before_any_file_is_written() {
    let alarming = Alarming::new().await;
    let site = &alarming.site;
    let folder = site.lock_files(NANO);
    let adopted = site.documents();
    alarming.go().await;
    site.until_count(ASKED, 1).await;
    site.kill();
    assert_eq!(site.documents(), adopted, "no file is written yet");
    drop(folder);
    site.start().await;
    alarming.ends_with_the_predecessor_back().await;
}

#[tokio::test]
async fn killed_with_the_files_written_and_the_database_not_told() {
    let alarming = Alarming::new().await;
    let site = &alarming.site;
    let mut lock = site.pool.begin().await.expect("a transaction");
    // Everything may be read, and no version be made the one that serves.
    let share = "LOCK TABLE prompt_versions IN SHARE MODE";
    sqlx::query(share).execute(&mut *lock).await.expect("locked");
    alarming.go().await;
    let waits = "SELECT count(*) FROM pg_stat_activity
                  WHERE datname = current_database() AND wait_event_type = 'Lock'
                    AND query LIKE 'UPDATE prompt_versions%'";
    site.until_count(waits, 1).await;
    let research = format!("{NANO}/research.md");
    assert_eq!(site.documents()[&research], alarming.files[&research], "the files are back");
    let adopted = "SELECT count(*) FROM prompt_versions WHERE is_active AND version = 2";
    assert_eq!(site.count(adopted).await, 2, "and the database does not know yet");
    site.kill();
    unlock(lock).await;
    site.start().await;
    alarming.ends_with_the_predecessor_back().await;
}

#[tokio::test]
async fn killed_at_any_moment_of_it() {
    let alarming = Alarming::new().await;
    alarming.go().await;
    for _ in 0..3 {
        kill_and_restart(&alarming.site).await;
    }
    alarming.ends_with_the_predecessor_back().await;
}
