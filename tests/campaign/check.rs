//! What must hold at the end of a run, whatever happened in it: the invariants of the product, asked of the database
//! and of the disk.

use std::path::{Path, PathBuf};

use mathesis::cycle::Snapshot;
use mathesis::research::restore_backup;
use mathesis::runtime::replay;
use mathesis::store::cycles;
use sqlx::AssertSqlSafe;

use super::documents::{NANO, WAN};
use super::drive::{Acknowledged, Client};
use super::plant::{Plant, words};
use super::record::made_at;

/// Queries that count what must not be once a cycle has ended, each with what it would mean.
const NEVER: [(&str, &str); 14] = [
    ("the window is not what its event says",
     "SELECT count(*) FROM cycle_transitions t WHERE event_name = 'trigger_reached'
         AND (event -> 'window' ->> 'tasks')::bigint <> (SELECT count(*) FROM tasks WHERE analyzed_in_cycle = t.cycle)"),
    ("a task that ended later was taken by the window of before",
     "SELECT count(*) FROM tasks WHERE clickup_task_id LIKE 'test-%' AND analyzed_in_cycle IS NOT NULL"),
    ("two runs hold one slot",
     "SELECT count(*) FROM (SELECT FROM assignments WHERE slot IS NOT NULL AND lost_because IS NULL
         GROUP BY cycle, model_name, slot HAVING count(*) > 1) AS twice"),
    ("a slot's holder was told something else",
     "SELECT count(*) FROM deck_slots s WHERE clickup_task_id IS NOT NULL AND NOT EXISTS (
         SELECT FROM assignments a WHERE a.clickup_task_id = s.clickup_task_id AND a.run_id = s.run_id
            AND a.model_name = s.model_name AND a.cycle = s.cycle AND a.slot = s.slot AND a.arm = s.arm)"),
    ("a deck was not dealt in blocks of two and two",
     "SELECT count(*) FROM (SELECT FROM deck_slots GROUP BY cycle, model_name, block
         HAVING count(*) FILTER (WHERE arm = 'control') <> count(*) FILTER (WHERE arm = 'candidate')) AS uneven"),
    ("not exactly one version of a model is active",
     "SELECT count(*) FROM (SELECT FROM prompt_versions GROUP BY model_name
         HAVING count(*) FILTER (WHERE is_active) <> 1) AS wrong"),
    ("a change of files is unfinished", "SELECT count(*) FROM config_changes WHERE status = 'intended'"),
    ("an effect of an ended cycle is unfinished",
     "SELECT count(*) FROM effects WHERE cycle = 1 AND status IN ('pending', 'claimed', 'failed')"),
    ("a call of Claude has no outcome, or two beside that it was given up for lost",
     "SELECT count(*) FROM claude_calls c WHERE cycle = 1 AND (
         NOT EXISTS (SELECT FROM claude_call_outcomes o WHERE o.call_id = c.call_id)
         OR (SELECT count(*) FROM claude_call_outcomes o WHERE o.call_id = c.call_id AND status <> 'lost') > 1)"),
    ("a lost call has no estimated cost",
     "SELECT count(*) FROM claude_call_outcomes WHERE status = 'lost' AND NOT (cost_estimated AND cost_usd > 0)"),
    ("a history has a hole, or is not as long as its cycle says",
     "SELECT count(*) FROM cycles c WHERE version <> (SELECT count(*) FROM cycle_transitions t WHERE t.cycle = c.number)
         OR version <> (SELECT coalesce(max(seq), 0) FROM cycle_transitions t WHERE t.cycle = c.number)"),
    ("not exactly one cycle is open", "SELECT abs(1 - count(*)) FROM cycles WHERE ended_at IS NULL"),
    ("an effect is marked as held that nothing holds",
     "SELECT count(*) FROM effects e WHERE e.parked AND e.status = 'pending' AND NOT EXISTS (
         SELECT FROM holds h WHERE h.lifted_at IS NULL AND (h.cycle IS NULL OR h.cycle = e.cycle))"),
    ("a hold stands that nobody placed", "SELECT count(*) FROM holds WHERE lifted_at IS NULL"),
];

/// What a run came to beside its record.
pub struct Ended<'r> {
    pub plant: &'r Plant,
    pub client: &'r Client<'r>,
    pub acknowledged: &'r Acknowledged,
    /// True where the cycle was let go on to the end of its scenario, and not cancelled on the way.
    pub whole: bool,
}

/// What must not be once a cycle has ended, and is, in words; empty where all is well.
pub async fn breaches(plant: &Plant) -> Result<Vec<String>, String> {
    let mut wrong = Vec::new();
    for (what, query) in NEVER {
        let found = plant.count(query).await?;
        if found != 0 {
            wrong.push(format!("{what} ({found})"));
        }
    }
    Ok(wrong)
}

/// Everything that is wrong at the end of a run, in words; empty where all is well. The server must be running.
pub async fn violations(ended: &Ended<'_>) -> Result<Vec<String>, String> {
    let mut wrong = breaches(ended.plant).await?;
    if ended.whole {
        wrong.extend(decks(ended.plant).await?);
    }
    wrong.extend(promises(ended).await?);
    wrong.extend(histories(ended.plant).await?);
    wrong.extend(files(ended.plant).await?);
    Ok(wrong)
}

/// The first tasks are the window; ten scores of the old version and ten of the new one, a model, in every deck.
async fn decks(plant: &Plant) -> Result<Option<String>, String> {
    let outside = "SELECT count(*) FROM tasks
         WHERE clickup_task_id LIKE 'task-%' AND analyzed_in_cycle IS DISTINCT FROM 1";
    if plant.count(outside).await? != 0 {
        return Ok(Some("a task of the window is in no analysis, or in another one".to_owned()));
    }
    let wrong =
        "SELECT count(*) FROM (SELECT FROM deck_slots WHERE cycle = 1 GROUP BY model_name, phase
         HAVING count(*) FILTER (WHERE arm = 'control' AND state = 'scored') <> 10
             OR count(*) FILTER (WHERE arm = 'candidate' AND state = 'scored') <> 10) AS wrong";
    let wrong = plant.count(wrong).await?;
    Ok((wrong != 0).then(|| format!("{wrong} decks did not count ten scores of each arm")))
}

/// What the pipeline was told still stands, and what was acknowledged is there once.
async fn promises(ended: &Ended<'_>) -> Result<Vec<String>, String> {
    let mut wrong = Vec::new();
    for told in &ended.acknowledged.told {
        let stands = "SELECT version::bigint, arm FROM assignments WHERE clickup_task_id = $1 AND model_name = $2";
        let found: Option<(i64, Option<String>)> = sqlx::query_as(stands)
            .bind(&told.task)
            .bind(told.model)
            .fetch_optional(&ended.plant.pool)
            .await
            .map_err(words)?;
        if found != Some((told.version, Some(told.arm.clone()))) {
            wrong.push(format!("{told:?} was told, and {found:?} stands"));
        }
    }
    let sent = &ended.acknowledged.events;
    let stored = ended.plant.count("SELECT count(*) FROM task_events").await?;
    if stored != i64::try_from(sent.len()).map_err(words)? {
        wrong.push(format!("{} events were acknowledged, and {stored} are there", sent.len()));
    }
    let lost = ended.client.lost_of(sent).await?;
    if lost != 0 {
        wrong.push(format!("{lost} acknowledged events were new when they were sent again"));
    }
    Ok(wrong)
}

/// Replaying the events through the machine gives the stored state.
async fn histories(plant: &Plant) -> Result<Vec<String>, String> {
    let mut wrong = Vec::new();
    let (workflow, newest): (i64, i64) =
        sqlx::query_as("SELECT workflow_id, max(number) FROM cycles GROUP BY workflow_id")
            .fetch_one(&plant.pool)
            .await
            .map_err(words)?;
    for number in 1..=newest {
        let stored = cycles::find(&plant.pool, workflow, number).await.map_err(words)?;
        let stored = stored.ok_or("a cycle is missing")?.snapshot;
        let history = cycles::history(&plant.pool, workflow, number).await.map_err(words)?;
        let opened = Snapshot::open(number, stored.rules.clone());
        match replay(opened, history.iter().map(|row| &row.event)) {
            Ok(replayed) if replayed == stored => {}
            Ok(_) => {
                wrong.push(format!("cycle {number} replays to another state than the stored one"))
            }
            Err(refused) => wrong.push(format!("cycle {number} does not replay: {refused}")),
        }
    }
    Ok(wrong)
}

/// The files are the active version.
async fn files(plant: &Plant) -> Result<Vec<String>, String> {
    let mut wrong = Vec::new();
    for model in [WAN, NANO] {
        let (activation, research) = texts(plant, model, "is_active").await?;
        if documents(&plant.config_root(), model) != (Some(activation), Some(research)) {
            wrong.push(format!("the files of {model} are not its active version"));
        }
    }
    Ok(wrong)
}

/// Every file is, byte for byte, some version of its model.
pub async fn files_are_whole(plant: &Plant) -> Result<(), String> {
    for model in [WAN, NANO] {
        let versions: Vec<(String, String)> = sqlx::query_as(
            "SELECT activation_text, research_text FROM prompt_versions WHERE model_name = $1",
        )
        .bind(model)
        .fetch_all(&plant.pool)
        .await
        .map_err(words)?;
        let (activation, research) = documents(&plant.config_root(), model);
        let known = versions.iter().any(|version| Some(&version.0) == activation.as_ref())
            && versions.iter().any(|version| Some(&version.1) == research.as_ref());
        if !known {
            return Err(format!(
                "a file of {model} is no version of it: {activation:?}, {research:?}"
            ));
        }
    }
    Ok(())
}

/// Restores every backup, the newest first, on the disk of a server that has ended: the last one gives the files of
/// before any cycle, byte for byte.
pub async fn backups_restore(plant: &Plant) -> Result<Vec<String>, String> {
    let root = plant.config_root();
    let mut wrong = Vec::new();
    for model in [WAN, NANO] {
        let mut backups: Vec<PathBuf> = std::fs::read_dir(root.join(model))
            .map_err(words)?
            .filter_map(|entry| Some(entry.ok()?.path()))
            .filter(|path| {
                path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("backup_"))
            })
            .collect();
        backups.sort_by_cached_key(|backup| (made_at(backup), backup.clone()));
        for backup in backups.iter().rev() {
            if let Err(error) = restore_backup(&root, model, backup) {
                wrong.push(format!("a backup of {model} cannot be restored: {error}"));
            }
        }
        let (activation, research) = texts(plant, model, "version = 1").await?;
        if documents(&root, model) != (Some(activation), Some(research)) {
            wrong.push(format!("the backups of {model} do not lead back to its first version"));
        }
    }
    Ok(wrong)
}

async fn texts(plant: &Plant, model: &str, which: &str) -> Result<(String, String), String> {
    let query = format!(
        "SELECT activation_text, research_text FROM prompt_versions WHERE model_name = $1 AND {which}"
    );
    sqlx::query_as(AssertSqlSafe(query)).bind(model).fetch_one(&plant.pool).await.map_err(words)
}

fn documents(root: &Path, model: &str) -> (Option<String>, Option<String>) {
    let read = |name: &str| std::fs::read_to_string(root.join(model).join(name)).ok();
    (read("activation.txt"), read("research.md"))
}
