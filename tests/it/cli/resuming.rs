//! Imports and exports that were killed half way and run again: the same rows and the same counts as undisturbed.

use std::fs;
use std::io::Read as _;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use sqlx::PgPool;

use super::{Place, completed};

const TASKS: usize = 6_000;

/// A file with enough batches to be killed in the middle: new tasks, some twice, lines that are none.
fn write_history(place: &Place) -> Value {
    let mut text = String::from("\u{feff}");
    let (mut lines, mut duplicate, mut rejected) = (0, 0, 0);
    for task in 0..TASKS {
        text.push_str(&format!("{}\n", completed(&format!("old-{task}"))));
        lines += 1;
        if task % 7 == 0 {
            text.push_str(&format!("{}\n\n", completed(&format!("old-{}", task / 2))));
            lines += 1;
            duplicate += 1;
        }
        if task % 500 == 3 {
            text.push_str("nonsense\n");
            lines += 1;
            rejected += 1;
        }
    }
    fs::write(place.path("old.ndjson"), text).unwrap();
    json!({"lines": lines, "accepted": TASKS, "duplicate": duplicate, "rejected": rejected})
}

fn start(place: &Place, arguments: &[&str]) -> Child {
    place.command(arguments).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
}

/// Kills a command with SIGKILL once `reached` says so; false when it had ended before.
async fn kill_when(mut child: Child, reached: impl AsyncFn() -> bool) -> bool {
    let waited_until = Instant::now() + Duration::from_secs(60);
    while !reached().await {
        if child.try_wait().unwrap().is_some() {
            return false;
        }
        assert!(Instant::now() < waited_until, "the command neither came so far nor ended");
    }
    child.kill().unwrap();
    child.wait().unwrap();
    true
}

async fn pool(place: &Place) -> PgPool {
    PgPool::connect(&place.database_url).await.expect("the database answers")
}

async fn bytes_done(pool: &PgPool) -> i64 {
    let done = "SELECT coalesce(max(offset_bytes), 0) FROM imports WHERE ended_at IS NULL";
    sqlx::query_scalar(done).fetch_one(pool).await.expect("an answer")
}

/// Every stored row of the task log, but for when it was written, and how many events there are.
async fn rows(pool: &PgPool) -> (String, i64) {
    sqlx::query_as(
        "SELECT md5(string_agg(concat_ws('|', clickup_task_id, run_id, ended_by, winner_model,
                    processing_time_ms, analyzed_in_cycle), E'\n' ORDER BY clickup_task_id, run_id)),
                (SELECT count(*) FROM task_events)
           FROM tasks",
    )
    .fetch_one(pool)
    .await
    .expect("an answer")
}

#[tokio::test(flavor = "multi_thread")]
async fn an_import_killed_at_any_place_goes_on_and_counts_as_if_undisturbed() {
    let undisturbed = Place::registered().await;
    let counts = write_history(&undisturbed);
    let whole = undisturbed.run(&["import", "old.ndjson", "--json"]);
    assert_eq!(whole.json(), counts);
    let wanted = rows(&pool(&undisturbed).await).await;

    let place = Place::registered().await;
    let pool = pool(&place).await;
    write_history(&place);
    let length = i64::try_from(fs::metadata(place.path("old.ndjson")).unwrap().len()).unwrap();
    let mut kills = 0;
    // Killed as soon as it is past some place, wherever within the next batches that is.
    for part in [1, 200, 400, 600] {
        let beyond = length * part / 1_000;
        let child = start(&place, &["import", "old.ndjson"]);
        let reached = async || bytes_done(&pool).await >= beyond;
        kills += u32::from(kill_when(child, reached).await);
    }
    assert!(kills >= 3, "it was killed {kills} times");
    let before = bytes_done(&pool).await;
    assert!(before > 0 && before < length, "{before} of {length}");
    let last = place.run(&["import", "old.ndjson", "--json"]);
    let mut told = last.json();
    let resumed = told.as_object_mut().unwrap().remove("resumed_after_line");
    assert!(resumed.is_some_and(|line| line.as_u64() > Some(1_000)), "{}", last.out);
    assert!(last.err.contains("Going on behind line"), "{}", last.err);
    assert_eq!(told, counts);
    assert_eq!(rows(&pool).await, wanted);
    assert_eq!(place.waiting(), 0, "history opens no analysis");

    // One that has ended begins anew, and then everything is known.
    let again = place.run(&["import", "old.ndjson", "--json"]).json();
    assert_eq!((&again["accepted"], &again["lines"]), (&json!(0), &counts["lines"]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_changed_is_not_gone_on_with() {
    let place = Place::registered().await;
    let pool = pool(&place).await;
    let counts = write_history(&place);
    let child = start(&place, &["import", "old.ndjson"]);
    assert!(kill_when(child, async || bytes_done(&pool).await > 0).await, "it was killed");
    let text = fs::read_to_string(place.path("old.ndjson")).unwrap();
    fs::write(place.path("old.ndjson"), text.replace("old-", "new-")).unwrap();
    let stored = rows(&pool).await;
    let refused = place.run(&["import", "old.ndjson"]);
    assert_eq!(refused.code, 4, "{}", refused.err);
    assert!(refused.err.contains("has changed since"), "{}", refused.err);
    assert_eq!(rows(&pool).await, stored, "nothing was imported");
    let anew = place.run(&["import", "old.ndjson", "--from-start", "--json"]);
    assert_eq!(anew.json(), counts, "every line of the other file is new");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_export_killed_half_way_goes_on_behind_its_last_whole_line() {
    let place = Place::registered().await;
    write_history(&place);
    place.run(&["import", "old.ndjson"]);
    let whole = place.run(&["export"]).out;
    assert_eq!(whole.lines().count(), TASKS);

    let file = place.path("tasks.ndjson");
    let length = || fs::metadata(&file).map_or(0, |metadata| metadata.len());
    let child = start(&place, &["export", "--output", "tasks.ndjson"]);
    assert!(kill_when(child, async || length() > 0).await, "it was killed");
    let stopped = length();
    assert!(stopped < u64::try_from(whole.len()).unwrap(), "{stopped}");
    let existing = place.run(&["export", "--output", "tasks.ndjson"]);
    assert_eq!((existing.code, length()), (4, stopped), "{}", existing.err);
    assert!(existing.err.contains("--resume"), "{}", existing.err);

    let resumed = place.run(&["export", "--output", "tasks.ndjson", "--resume"]);
    assert_eq!(resumed.code, 0, "{}", resumed.err);
    let mut text = String::new();
    fs::File::open(&file).unwrap().read_to_string(&mut text).unwrap();
    assert!(text == whole, "the same lines, byte for byte");
    // Torn at every kind of place, a whole line's end among them.
    for cut in [0, 1, whole.len() / 3, whole.find('\n').unwrap() + 1, whole.len() - 1] {
        fs::write(&file, &whole.as_bytes()[..cut]).unwrap();
        assert_eq!(place.run(&["export", "-o", "tasks.ndjson", "--resume"]).code, 0);
        assert!(fs::read(&file).unwrap() == whole.as_bytes(), "cut at {cut}");
    }
    fs::write(&file, "something else\n").unwrap();
    let refused = place.run(&["export", "--output", "tasks.ndjson", "--resume"]);
    assert_eq!(refused.code, 4, "{}", refused.err);
    assert_eq!(fs::read_to_string(&file).unwrap(), "something else\n");
}
