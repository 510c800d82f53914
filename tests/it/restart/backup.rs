//! A backup by `pg_dump` while tasks come in, and what a site does that is put back to it.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use mathesis::postgres::Binaries;
use serde_json::{Value, json};

use super::WALK;
use super::paused::scored;
use crate::support::TaskRun;
use crate::support::empty_database_url;
use crate::support::site::{Site, until};
use crate::support::stage::{NANO, WAN};

/// The folder of `pg_dump` and `pg_restore`, beside the server's programs or on the path.
fn tools() -> Option<PathBuf> {
    let beside =
        Binaries::find(Path::new("/nonexistent")).ok().map(|found| found.folder().to_owned());
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = beside
        .into_iter()
        .chain(std::env::split_paths(&path))
        .find(|folder| folder.join("pg_dump").is_file() && folder.join("pg_restore").is_file());
    if found.is_none() {
        let _ = writeln!(
            std::io::stderr(),
            "skipped: no backup was taken and restored, since pg_dump is not on this machine"
        );
    }
    found
}

async fn run(program: PathBuf, arguments: Vec<String>) {
    let done = tokio::task::spawn_blocking(move || Command::new(program).args(arguments).output());
    let done = done.await.expect("it is awaited").expect("it runs");
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
}

/// The command of docs/operations.md.
async fn back_up(tools: &Path, site: &Site, file: &Path) {
    let file = file.display().to_string();
    let arguments = ["--format=custom", "--file", &file, site.url()].map(str::to_owned);
    run(tools.join("pg_dump"), arguments.into()).await;
}

/// The machine is lost: its server dies, and the backup becomes a new database.
async fn lose_and_restore(tools: &Path, site: &mut Site, file: &Path) {
    site.kill();
    let url = empty_database_url().await;
    let file = file.display().to_string();
    let arguments = ["--exit-on-error", "--no-owner", "--dbname", &url, &file].map(str::to_owned);
    run(tools.join("pg_restore"), arguments.into()).await;
    site.move_to(url).await;
}

fn whole_task(number: usize) -> Vec<Value> {
    TaskRun::new(format!("live-{number}"), &[(NANO, 0, 7)]).events()
}

/// How many of these tasks are there with all that was sent of them.
async fn whole(site: &Site) -> i64 {
    site.count(
        "SELECT count(*) FROM tasks AS task WHERE clickup_task_id LIKE 'live-%' AND ended_by = 'completed'
            AND (SELECT count(*) FROM attempts WHERE task_id = task.id AND validation_score = 7) = 1",
    )
    .await
}

async fn standing(site: &Site) -> Value {
    let mut standing = site.get("/cycle").await;
    standing["sentence"] = Value::Null;
    standing["tasks_waiting"] = Value::Null;
    standing
}

async fn until_applied(site: &Site) {
    until("the cycle is applied", || async { site.get("/cycles/1").await["state"] == "applied" })
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_of_a_live_system_restores_to_a_whole_that_goes_on() {
    let Some(tools) = tools() else { return };
    let mut site = super::in_testing().await;
    let early = site.draw_slots(7).await;
    for drawn in early.iter().step_by(2) {
        site.report(drawn).await;
    }
    until("every score is counted", || async { scored(&standing(&site).await) == 7 }).await;
    let before = standing(&site).await;
    let dump = site.folder().join("mathesis.dump");
    let (sent, ends) = (AtomicUsize::new(0), AtomicBool::new(false));
    let come_in = async {
        while !ends.load(Ordering::Relaxed) {
            site.post("/events", json!(whole_task(sent.load(Ordering::Relaxed)))).await;
            sent.fetch_add(1, Ordering::Relaxed);
        }
    };
    let backed_up = async {
        until("some have come", || async { sent.load(Ordering::Relaxed) >= 20 }).await;
        let acknowledged = sent.load(Ordering::Relaxed);
        back_up(&tools, &site, &dump).await;
        ends.store(true, Ordering::Relaxed);
        acknowledged
    };
    let ((), acknowledged) = tokio::join!(come_in, backed_up);
    let sent = sent.into_inner();
    assert!(sent > acknowledged, "tasks came in while the backup was taken");

    lose_and_restore(&tools, &mut site, &dump).await;
    let restored = whole(&site).await;
    let all = "SELECT count(*) FROM tasks WHERE clickup_task_id LIKE 'live-%'";
    assert_eq!(site.count(all).await, restored, "no task is there by half");
    assert!(
        usize::try_from(restored).expect("a count") >= acknowledged,
        "what was acknowledged before the backup began is in it"
    );
    site.start().await;
    assert_eq!(standing(&site).await, before);
    for drawn in &early {
        assert_eq!(&site.assign(drawn.task(), drawn.model()).await, drawn.told());
    }
    // What was acknowledged after the backup is sent again by whoever kept it.
    for number in 0..sent {
        site.post("/events", json!(whole_task(number))).await;
    }
    assert_eq!((whole(&site).await, site.count(all).await), (sent as i64, sent as i64));
    for drawn in early.iter().skip(1).step_by(2).chain(&site.draw_slots(13).await) {
        site.report(drawn).await;
    }
    until_applied(&site).await;
    let history: Value =
        serde_json::from_str(&site.command(&["cycle", "history", "1", "--json"])).expect("JSON");
    let walk: Vec<&str> =
        history.as_array().expect("steps").iter().filter_map(|step| step["to"].as_str()).collect();
    assert_eq!(walk, WALK);
}

#[tokio::test(flavor = "multi_thread")]
async fn files_that_are_newer_than_the_restored_database_become_its_image_and_are_kept() {
    let Some(tools) = tools() else { return };
    let mut site = super::in_testing().await;
    let dump = site.folder().join("mathesis.dump");
    let first = site.documents();
    back_up(&tools, &site, &dump).await;
    site.play_test(20).await;
    until_applied(&site).await;
    let adopted = site.documents();
    assert_ne!(first, adopted);

    lose_and_restore(&tools, &mut site, &dump).await;
    site.start().await;
    until("the files are an image of the database", || async { site.documents() == first }).await;
    for model in [WAN, NANO] {
        assert_eq!(site.backups(model), 2, "what was adopted meanwhile is in a backup of {model}");
        let newest = site.newest_backup(model);
        assert_eq!(newest["research.md"], adopted[&format!("{model}/research.md")]);
    }
    let status = site.command(&["files", "status"]);
    assert_eq!(status.matches("in step").count(), 2, "{status}");
    assert_eq!(site.get("/cycle").await["holds"], json!([]));
    // The test that the backup had begun is played again, with the same end.
    site.play_test(20).await;
    until_applied(&site).await;
    assert_eq!(site.documents(), adopted);
}
