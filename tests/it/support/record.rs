//! What a site leaves behind, to be held against what another one left: every row that a cycle writes, and every
//! file of the config folders. Left out is what no two runs share: moments, row numbers, who worked.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant, SystemTime};

use chrono::DateTime;
use mathesis::store::{due, workflows};
use serde_json::Value;
use sqlx::PgPool;

/// The rows that are compared, in an order that says nothing of when they were written.
const ROWS: [&str; 12] = [
    "SELECT to_jsonb(t) FROM cycles t ORDER BY number",
    "SELECT to_jsonb(t) FROM cycle_transitions t ORDER BY cycle, seq",
    "SELECT to_jsonb(t) FROM effects t ORDER BY cycle, seq, ordinal",
    "SELECT to_jsonb(t) FROM holds t ORDER BY cycle, code, subject",
    "SELECT to_jsonb(t) FROM analyses t ORDER BY cycle",
    "SELECT to_jsonb(t) FROM insights t ORDER BY cycle, ordinal",
    "SELECT to_jsonb(t) FROM prompt_versions t ORDER BY model_name, version",
    "SELECT to_jsonb(t) FROM experiments t ORDER BY cycle, model_name",
    "SELECT to_jsonb(t) FROM probations t ORDER BY cycle, model_name",
    "SELECT to_jsonb(t) FROM watches t ORDER BY cycle, model_name",
    "SELECT to_jsonb(t) FROM config_changes t ORDER BY cycle NULLS FIRST, seq, model_name",
    // Which task drew which slot is another matter in each run; what the deck came to is not.
    "SELECT jsonb_build_object('deck', model_name, 'phase', phase, 'arm', arm, 'state', state, 'score', score,
            'slots', count(*))
       FROM deck_slots GROUP BY cycle, model_name, phase, arm, state, score
      ORDER BY cycle, model_name, phase, arm, state, score",
];
/// How long the standing watches are waited for.
const PATIENCE: Duration = Duration::from_secs(10);
/// Beside all that end in `_at` or `_id`.
const VOLATILE: [&str; 12] = [
    "at",
    "id",
    "fence",
    "attempts",
    "lease_until",
    "run_after",
    "asks_since",
    "deck_seed",
    "backup_name",
    "backup_path",
    "error_code",
    "last_error",
];

/// The rows as lines, and the files by their name within the config folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    rows: Vec<String>,
    files: BTreeMap<String, String>,
}

/// A watch is opened and ended by the next look after its version was adopted or replaced, not with it. Where nobody
/// looks any more, the record says so.
async fn await_watches(pool: &PgPool) {
    let mut conn = pool.acquire().await.expect("a connection");
    let ids = workflows::ids(&mut conn).await.expect("the workflows read");
    let ids: Vec<i64> = ids.into_iter().map(|(id, _)| id).collect();
    drop(conn);
    let asked_until = Instant::now() + PATIENCE;
    while Instant::now() < asked_until {
        // No run arrived before that day, so what is due is a watch that is missing or outlived its version.
        let behind = due::standing_watches(pool, &ids, &[], DateTime::UNIX_EPOCH).await;
        if behind.expect("the watches read").is_empty() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

impl Record {
    /// What stands in the database and on the disk once the standing watches have followed the versions.
    pub async fn of(pool: &PgPool, config_root: &Path) -> Self {
        await_watches(pool).await;
        let mut rows = Vec::new();
        for query in ROWS {
            let found: Vec<Value> =
                sqlx::query_scalar(query).fetch_all(pool).await.expect("the rows read");
            rows.extend(found.into_iter().map(|row| settled(row).to_string()));
        }
        let mut files = BTreeMap::new();
        read_all(config_root, "", &mut files);
        Self { rows, files }
    }

    /// The same without the rows that hold this text.
    pub fn without(mut self, text: &str) -> Self {
        self.rows.retain(|row| !row.contains(text));
        self
    }

    /// Line by line, so that a failure names what differs.
    pub fn assert_is(&self, undisturbed: &Self) {
        let differs = self.differences(undisturbed);
        assert!(differs.is_empty(), "{differs}");
    }

    /// What is missing of the undisturbed record, what is there beside it, and which files differ; empty where the two
    /// are one.
    pub fn differences(&self, undisturbed: &Self) -> String {
        let beside = |all: &[String], from: &[String]| -> Vec<String> {
            all.iter().filter(|row| !from.contains(row)).cloned().collect()
        };
        let lost = beside(&undisturbed.rows, &self.rows);
        let new = beside(&self.rows, &undisturbed.rows);
        let mut said = String::new();
        if !lost.is_empty() || !new.is_empty() {
            said.push_str(&format!("missing: {lost:#?}\nnew: {new:#?}\n"));
        } else if self.rows.len() != undisturbed.rows.len() {
            said.push_str("a row is there twice\n");
        }
        // Backups and markers included.
        for name in self.files.keys().chain(undisturbed.files.keys()) {
            let (own, undisturbed) = (self.files.get(name), undisturbed.files.get(name));
            if own != undisturbed {
                said.push_str(&format!("{name} is {own:?} and not {undisturbed:?}\n"));
            }
        }
        said
    }
}

fn settled(value: Value) -> Value {
    match value {
        Value::Object(fields) => fields
            .into_iter()
            .filter(|(name, _)| {
                !VOLATILE.contains(&name.as_str())
                    && !name.ends_with("_at")
                    && !name.ends_with("_id")
            })
            .map(|(name, value)| (name, settled(value)))
            .collect(),
        Value::Array(all) => all.into_iter().map(settled).collect(),
        other => other,
    }
}

/// When a backup was made, by the disk; none for anything else.
pub fn made_at(path: &Path) -> Option<SystemTime> {
    let is_backup =
        path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("backup_"));
    let made = std::fs::metadata(path.join("manifest.json")).and_then(|it| it.modified());
    made.ok().filter(|_| is_backup)
}

/// Backups are named by their moment, so they go by their order here.
fn read_all(folder: &Path, under: &str, files: &mut BTreeMap<String, String>) {
    let mut paths: Vec<_> = std::fs::read_dir(folder)
        .expect("the folder reads")
        .map(|entry| entry.expect("an entry").path())
        .collect();
    // A backup is named by its moment; where a clock was set back, the disk still knows which was first.
    paths.sort_by_cached_key(|path| (made_at(path), path.clone()));
    let mut backups = 0;
    for path in paths {
        let mut name = path.file_name().expect("a name").to_string_lossy().into_owned();
        if name.starts_with("backup_") {
            backups += 1;
            name = format!("backup {backups}");
        }
        let inside = format!("{under}/{name}");
        if path.is_dir() {
            read_all(&path, &inside, files);
            continue;
        }
        let mut text = std::fs::read_to_string(&path).expect("the file reads");
        if let Ok(fields @ Value::Object(_)) = serde_json::from_str(&text) {
            text = settled(fields).to_string();
        }
        files.insert(inside, text);
    }
}
