//! SIGKILL while a hand edit is being settled: before the files, and between the files and what they mean. The steps
//! within the files are killed one by one in `research::files_tests::settling`.

use std::fs::{self, File};

use serde_json::{Value, json};

use crate::support::site::{Site, unlock, until};
use crate::support::stage::WAN;

const MINE: &str = "# Mine\n\nedited by hand";

struct Edited {
    site: Site,
    original: String,
    conflict: Value,
}

async fn conflicts(site: &Site) -> Vec<Value> {
    site.get("/conflicts").await["conflicts"].as_array().expect("a list").clone()
}

/// A site whose Wan research was edited by hand, once its server has reported that.
async fn edited() -> Edited {
    let site = Site::new().await;
    site.start().await;
    let marker = site.config_root().join(WAN).join(".mathesis.json");
    until("the files are marked", || async { marker.exists() }).await;
    let research = site.config_root().join(WAN).join("research.md");
    let original = fs::read_to_string(&research).expect("the file reads");
    fs::write(&research, MINE).expect("the file can be written");
    site.until_count("SELECT count(*) FROM config_conflicts", 1).await;
    let conflict = conflicts(&site).await.remove(0);
    Edited { site, original, conflict }
}

impl Edited {
    async fn order(&self, way: &str) {
        let path = format!("/conflicts/{}/{way}", self.conflict["conflict_id"]);
        let body = json!({ "seen": self.conflict["edit_hash"], "reason": "for the test" });
        self.site.post(&path, body).await;
    }

    /// While this is held files can be read, and not written.
    fn keep_from_writing(&self) -> File {
        let lock = File::open(self.site.config_root().join(WAN).join(".mathesis.lock"))
            .expect("the lock is there");
        lock.lock_shared().expect("the lock is taken");
        lock
    }

    fn research(&self) -> String {
        fs::read_to_string(self.site.config_root().join(WAN).join("research.md"))
            .expect("the file reads")
    }

    async fn until_begun(&self) {
        let begun = "SELECT count(*) FROM config_conflicts WHERE status = 'begun'";
        self.site.until_count(begun, 1).await;
    }

    /// The same end, wherever it was killed: files and version agree, one version and one backup of the edit, and
    /// each thing on record once.
    async fn ends(&self, way: &str, text: &str, active: i64) {
        let site = &self.site;
        let settled = "SELECT count(*) FROM config_conflicts WHERE status = 'settled'";
        site.until_count(settled, 1).await;
        let serves = "SELECT sum(version) FROM prompt_versions
                       WHERE is_active AND model_name = 'wan-2.5-edit'";
        site.until_count(serves, active).await;
        let held = "SELECT count(*) FROM holds WHERE lifted_at IS NULL";
        until("the hold is lifted", || async { site.count(held).await == 0 }).await;
        assert_eq!(self.research(), text);
        let versions = "SELECT count(*) FROM prompt_versions WHERE created_by = 'hand-edited'";
        assert_eq!(site.count(versions).await, 1);
        assert_eq!(site.changes_done(way).await, 1);
        assert_eq!(site.changes_done("roll_back").await, i64::from(way == "keep_mine"));
        assert_eq!(
            site.count("SELECT count(*) FROM audit_log WHERE act LIKE 'conflict%'").await,
            2
        );
        let backups: Vec<String> = fs::read_dir(site.config_root().join(WAN))
            .expect("the folder is there")
            .filter_map(|entry| fs::read_to_string(entry.ok()?.path().join("research.md")).ok())
            .collect();
        assert_eq!(backups.iter().filter(|text| *text == MINE).count(), 1, "{backups:?}");
    }

    async fn killed_before_the_files(&self, way: &str) {
        let lock = self.keep_from_writing();
        self.order(way).await;
        self.until_begun().await;
        self.site.kill();
        assert_eq!(self.research(), MINE, "nothing was touched yet");
        drop(lock);
        self.site.start().await;
    }

    async fn killed_after_the_files(&self, way: &str) {
        let lock = self.keep_from_writing();
        self.order(way).await;
        self.until_begun().await;
        let cycle = self.site.lock_cycle().await;
        drop(lock);
        self.site.until_blocked().await;
        self.site.kill();
        assert_eq!(self.site.backups(WAN), 1, "the files are as ordered");
        unlock(cycle).await;
        let settled = "SELECT count(*) FROM config_conflicts WHERE status = 'settled'";
        assert_eq!(self.site.count(settled).await, 0, "and the database does not know");
        self.site.start().await;
    }
}

#[tokio::test]
async fn killed_before_the_kept_files_are_touched() {
    let edited = edited().await;
    edited.killed_before_the_files("keep-mine").await;
    edited.ends("keep_mine", MINE, 2).await;
}

#[tokio::test]
async fn killed_between_the_kept_files_and_their_activation() {
    let edited = edited().await;
    edited.killed_after_the_files("keep-mine").await;
    edited.ends("keep_mine", MINE, 2).await;
}

#[tokio::test]
async fn killed_before_theirs_is_written() {
    let edited = edited().await;
    edited.killed_before_the_files("take-theirs").await;
    edited.ends("take_theirs", &edited.original, 1).await;
}

#[tokio::test]
async fn killed_between_theirs_and_its_record() {
    let edited = edited().await;
    edited.killed_after_the_files("take-theirs").await;
    edited.ends("take_theirs", &edited.original, 1).await;
}
