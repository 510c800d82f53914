//! A config file that a person edited: what is shown of it, and each way out.

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;

use mathesis::claude::StopReason;
use mathesis::claude::scripted::answered;
use mathesis::cycle::StateName;
use mathesis::runtime::{
    ConflictShown, Engine, EngineSettings, Operation, OperationError, Worked, conflict_shown,
    reconcile,
};
use mathesis::store::audit::{self, Filter};
use mathesis::store::changes;
use mathesis::store::conflicts::{self, Conflict, Way};
use mathesis::store::versions;

use super::{RESEARCH, held_by, stopped_in_applying};
use crate::support::stage::{NANO, WAN, testing_stage};
use crate::support::{Stage, analysis_answer, edit_answer, nano_edit_answer};

const MINE: &str = "# Mine\n\nedited by hand, without an end";

async fn look(engine: &Engine, stage: &Stage) {
    reconcile(engine, &stage.workflow).await.expect("the folder is looked at");
}

/// A stage in Testing whose Wan research was edited by hand, and what it was before.
async fn edited() -> (Stage, String) {
    let stage = testing_stage().await;
    look(&stage.engine, &stage).await;
    let original = stage.read(WAN, RESEARCH);
    fs::write(stage.file(WAN, RESEARCH), MINE).expect("the file can be written");
    look(&stage.engine, &stage).await;
    assert_eq!(held_by(&stage).await, ["config_conflict"]);
    (stage, original)
}

async fn only(stage: &Stage) -> Conflict {
    let mut found = conflicts::list(stage.pool(), stage.id(), 10).await.expect("they read");
    assert_eq!(found.len(), 1, "{found:?}");
    found.remove(0)
}

fn order(conflict: &Conflict, way: Way) -> Operation {
    let seen = conflict.edit_hash.clone();
    Operation::SettleConflict { conflict: conflict.conflict_id, way, seen }
}

async fn shown(stage: &Stage) -> ConflictShown {
    let conflict = only(stage).await.conflict_id;
    conflict_shown(&stage.engine, stage.id(), conflict)
        .await
        .expect("it reads")
        .expect("there is one")
}

/// The audit trail's lines about conflicts, oldest first: act and result.
async fn acts(stage: &Stage) -> Vec<(String, String)> {
    let filter = Filter { workflow_id: Some(stage.id()), ..Filter::default() };
    let entries = audit::list(stage.pool(), &filter, 50).await.expect("the trail reads");
    let about = entries.into_iter().rev().filter(|entry| entry.act.starts_with("conflict_"));
    about.map(|entry| (entry.act, entry.result)).collect()
}

fn lines(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    pairs.iter().map(|(act, result)| ((*act).to_owned(), (*result).to_owned())).collect()
}

async fn research_of(stage: &Stage, version: i32) -> String {
    let found = versions::find(stage.pool(), stage.id(), WAN, version).await.expect("it reads");
    found.expect("the version is there").research_text
}

fn backed_up(stage: &Stage, model: &str) -> String {
    let backups = stage.backups(model);
    assert_eq!(backups.len(), 1, "{backups:?}");
    fs::read_to_string(stage.file(model, &backups[0]).join(RESEARCH)).expect("the backup reads")
}

#[tokio::test]
async fn an_edit_is_shown_against_the_version_it_was_made_from() {
    let (stage, original) = edited().await;
    let shown = shown(&stage).await;
    assert_eq!((shown.conflict.base_version, shown.active_version), (Some(1), 1));
    let [activation, research] = shown.documents.as_slice() else { panic!("two documents") };
    let untouched = activation.compared.as_ref().expect("it has a text");
    assert_eq!((untouched.mine.as_str(), untouched.theirs.as_str()), ("", ""));
    let changed = research.compared.as_ref().expect("it has a text");
    assert!(changed.mine.contains("+edited by hand, without an end"), "{}", changed.mine);
    let first = original.lines().next().expect("a line");
    assert!(changed.mine.contains(&format!("-{first}")), "{}", changed.mine);
    assert_eq!((changed.theirs.as_str(), changed.merged.as_str()), ("", MINE));
}

#[tokio::test]
async fn mine_becomes_the_version_that_serves_and_the_models_test_is_superseded() {
    let (stage, _) = edited().await;
    let conflict = only(&stage).await;
    let done = stage.operate(order(&conflict, Way::KeepMine)).await.expect("it is taken");
    assert!(done.said.starts_with("ordered: the edited files become a version"), "{}", done.said);
    assert_eq!(stage.read(WAN, RESEARCH), MINE, "the order alone touches nothing");
    look(&stage.engine, &stage).await;
    assert_eq!(stage.active_version(WAN).await, 1, "its change is on record and under way");
    assert_eq!(stage.work().await, Worked::Done(None));

    // Version 2 is the candidate of the test.
    assert_eq!(stage.active_version(WAN).await, 3);
    let version = versions::find(stage.pool(), stage.id(), WAN, 3).await.unwrap().unwrap();
    assert_eq!(
        (version.research_text.as_str(), version.created_by.as_str()),
        (MINE, "hand-edited")
    );
    assert_eq!(version.parent_version, Some(1));
    assert_eq!(stage.read(WAN, RESEARCH), MINE);
    assert_eq!(backed_up(&stage, WAN), MINE);
    look(&stage.engine, &stage).await;
    assert_eq!(held_by(&stage).await, Vec::<String>::new());
    let status = stage.status().await;
    let testing: Vec<(&str, bool)> =
        status.models.iter().map(|model| (model.model.as_str(), model.testing)).collect();
    assert_eq!(testing, [(WAN, false), (NANO, true)]);
    assert_eq!(stage.state().await, StateName::Testing);
    let kept = changes::list(stage.pool(), stage.id(), 10).await.unwrap();
    let kinds: Vec<(&str, &str)> = kept
        .iter()
        .filter(|change| change.kind != "first_start")
        .map(|change| (change.kind.as_str(), change.status.as_str()))
        .collect();
    assert_eq!(kinds, [("keep_mine", "done"), ("roll_back", "done")]);
    assert!(kept[0].backup_path.is_some());
    assert_eq!(
        acts(&stage).await,
        lines(&[("conflict_keep_mine", "done"), ("conflict_keep_mine", "done")])
    );
    let settled = only(&stage).await;
    assert_eq!((settled.status.as_str(), settled.kept_version), ("settled", Some(3)));
    look(&stage.engine, &stage).await;
    assert_eq!(stage.backups(WAN).len(), 1, "and nothing is left to do");
}

#[tokio::test]
async fn theirs_is_written_over_the_edit_which_stays_as_a_version() {
    let (stage, original) = edited().await;
    let conflict = only(&stage).await;
    stage.operate(order(&conflict, Way::TakeTheirs)).await.expect("it is taken");
    look(&stage.engine, &stage).await;
    assert_eq!(stage.read(WAN, RESEARCH), original);
    assert_eq!(backed_up(&stage, WAN), MINE);
    assert_eq!((stage.active_version(WAN).await, research_of(&stage, 3).await.as_str()), (1, MINE));
    assert_eq!(held_by(&stage).await, Vec::<String>::new());
    assert!(stage.assign("t-1", WAN).await.arm.is_some(), "the test goes on");
    let change = super::last_change(&stage).await;
    assert_eq!((change.kind.as_str(), change.to_version), ("take_theirs", 1));
    assert_eq!(change.reason.as_deref(), Some("for the test"));
    look(&stage.engine, &stage).await;
    assert_eq!(only(&stage).await.status, "settled");
    // The edit can be gone back to as to any version.
    stage.operate(Operation::Rollback { model: WAN.to_owned(), to: 3 }).await.expect("it is taken");
    assert_eq!(stage.work().await, Worked::Done(None));
    assert_eq!(stage.read(WAN, RESEARCH), MINE);
}

#[tokio::test]
async fn an_order_for_files_that_were_edited_again_is_refused() {
    let (stage, _) = edited().await;
    let first = only(&stage).await;
    fs::write(stage.file(WAN, RESEARCH), "once more").expect("the file can be written");
    look(&stage.engine, &stage).await;
    let refused = stage.operate(order(&first, Way::TakeTheirs)).await.expect_err("it is refused");
    let now = only(&stage).await.edit_hash;
    assert!(
        matches!(&refused, OperationError::ConflictChanged { now: told, .. } if *told == now),
        "{refused}"
    );

    // Between the order and its turn, too; and either way nothing was touched.
    let second = only(&stage).await;
    stage.operate(order(&second, Way::TakeTheirs)).await.expect("it is taken");
    fs::write(stage.file(WAN, RESEARCH), "and again").expect("the file can be written");
    look(&stage.engine, &stage).await;
    assert_eq!(stage.read(WAN, RESEARCH), "and again");
    let open = only(&stage).await;
    assert_eq!((open.status.as_str(), open.way), ("open", None));
    assert!(open.said.expect("why").contains("edited again after the order"));
    assert_eq!(held_by(&stage).await, ["config_conflict"]);
    assert_eq!(stage.backups(WAN), Vec::<String>::new());
    look(&stage.engine, &stage).await;
    assert_ne!(only(&stage).await.edit_hash, second.edit_hash, "the new edit is what is shown now");
    assert_eq!(
        acts(&stage).await,
        lines(&[
            ("conflict_take_theirs", "refused"),
            ("conflict_take_theirs", "done"),
            ("conflict_take_theirs", "refused"),
        ])
    );
}

#[tokio::test]
async fn cancel_leaves_everything_as_it_is_and_withdraws_what_was_ordered() {
    let (stage, original) = edited().await;
    let conflict = only(&stage).await;
    let leave = || Operation::LeaveConflict { conflict: conflict.conflict_id };
    let left = stage.operate(leave()).await.expect("it can be left");
    assert!(left.said.contains("no file is touched"), "{}", left.said);
    stage.operate(order(&conflict, Way::TakeTheirs)).await.expect("it is taken");
    let twice = stage.operate(order(&conflict, Way::KeepMine)).await.expect_err("one at a time");
    assert!(matches!(twice, OperationError::ConflictBegun { .. }), "{twice}");
    let left = stage.operate(leave()).await.expect("it can be withdrawn");
    assert!(left.said.starts_with("the order is withdrawn"), "{}", left.said);
    look(&stage.engine, &stage).await;
    assert_eq!(stage.read(WAN, RESEARCH), MINE);
    assert_eq!((only(&stage).await.status.as_str(), stage.backups(WAN).len()), ("open", 0));
    assert_eq!(held_by(&stage).await, ["config_conflict"]);

    fs::write(stage.file(WAN, RESEARCH), original).expect("the file can be put back");
    look(&stage.engine, &stage).await;
    assert_eq!(only(&stage).await.status, "gone");
    assert_eq!(held_by(&stage).await, Vec::<String>::new());
    let over = stage.operate(order(&conflict, Way::KeepMine)).await.expect_err("it is over");
    assert!(matches!(over, OperationError::NothingToDo(_)), "{over}");
    let none = stage.operate(Operation::LeaveConflict { conflict: 999 }).await.expect_err("none");
    assert!(matches!(none, OperationError::NoSuchConflict(999)), "{none}");
}

#[tokio::test]
async fn while_a_change_is_under_way_mine_is_refused_and_theirs_lets_the_change_go_on() {
    let (stage, _) = stopped_in_applying().await;
    look(&stage.engine, &stage).await;
    let conflict = only(&stage).await;
    assert_eq!(conflict.model_name, NANO);
    let refused = stage.operate(order(&conflict, Way::KeepMine)).await.expect_err("not now");
    assert!(matches!(refused, OperationError::ModelChanging { .. }), "{refused}");
    assert_eq!(stage.read(NANO, RESEARCH), "edited by hand");

    stage.operate(order(&conflict, Way::TakeTheirs)).await.expect("it is taken");
    look(&stage.engine, &stage).await;
    assert_eq!(held_by(&stage).await, Vec::<String>::new());
    assert_eq!(stage.step().await, StateName::Applied);
    assert_eq!((stage.active_version(WAN).await, stage.active_version(NANO).await), (2, 2));
    let kept = versions::find(stage.pool(), stage.id(), NANO, 3).await.unwrap().unwrap();
    assert_eq!((kept.research_text.as_str(), kept.is_active), ("edited by hand", false));
}

#[tokio::test]
async fn the_order_is_carried_out_by_the_machine_that_has_the_files() {
    let stage = testing_stage().await;
    look(&stage.engine, &stage).await;
    let disk = tempfile::TempDir::new().expect("another disk");
    let settings = EngineSettings {
        root: PathBuf::from(disk.path()),
        host: "other".to_owned(),
        ..(*stage.engine.settings).clone()
    };
    let other = Engine { settings: Arc::new(settings), ..stage.engine.clone() };
    look(&other, &stage).await;
    let there = other.config_folder(&stage.workflow.definition.config_folder).join(WAN);
    fs::write(there.join(RESEARCH), MINE).expect("the file can be written");
    look(&other, &stage).await;
    let conflict = only(&stage).await;
    assert_eq!(conflict.host, "other");

    stage.operate(order(&conflict, Way::KeepMine)).await.expect("it is taken");
    look(&stage.engine, &stage).await;
    assert_eq!(only(&stage).await.status, "ordered", "not by a machine that has other files");
    look(&other, &stage).await;
    assert_eq!(only(&stage).await.status, "settled");
    // The change itself may be carried out anywhere: here it replaces this machine's files.
    assert_eq!(stage.work().await, Worked::Done(None));
    assert_eq!(stage.read(WAN, RESEARCH), MINE);
    look(&other, &stage).await;
    assert_eq!(fs::read_to_string(there.join(RESEARCH)).expect("it reads"), MINE);
    assert_eq!(stage.active_version(WAN).await, 3);
    assert_eq!(held_by(&stage).await, Vec::<String>::new());
}

/// Claude answers for the first model and is then kept from the second, and meanwhile an edit is stored.
#[tokio::test]
async fn a_candidate_takes_the_next_number_when_an_edit_was_stored_while_it_waited() {
    let stage = Stage::builder().definition(|d| d.trigger.tasks = 3).build().await;
    look(&stage.engine, &stage).await;
    stage.complete_tasks("seed", 3, 7).await;
    assert_eq!(stage.watch().await, 1);
    stage.claude.answer_json(analysis_answer(&["seed-1", "seed-2"]));
    assert_eq!(stage.step().await, StateName::Generating);
    let claude = Arc::clone(&stage.claude);
    stage.claude.then(move |request| {
        claude.hold();
        let text = edit_answer("Name what must stay unchanged.").to_string();
        answered(request, Some(&text), StopReason::EndTurn, None)
    });
    stage.claude.answer_json(nano_edit_answer("Keep the logo."));
    let stored_meanwhile = async {
        stage.claude.asked(3).await;
        fs::write(stage.file(WAN, RESEARCH), MINE).expect("the file can be written");
        look(&stage.engine, &stage).await;
        let conflict = only(&stage).await;
        stage.operate(order(&conflict, Way::TakeTheirs)).await.expect("it is taken");
        look(&stage.engine, &stage).await;
        assert_eq!(research_of(&stage, 2).await, MINE, "the edit has the number of the candidate");
        stage.claude.release();
    };
    let (state, ()) = tokio::join!(stage.step(), stored_meanwhile);
    assert_eq!(state, StateName::Testing);
    let candidate = versions::find(stage.pool(), stage.id(), WAN, 3).await.unwrap().unwrap();
    assert!(candidate.research_text.contains("Name what must stay unchanged."));
    assert_eq!((candidate.parent_version, stage.active_version(WAN).await), (Some(1), 1));
    let diff = &candidate.diff;
    assert!(diff.contains("version 3") && !diff.contains("version 2"), "{diff}");
    let status = stage.status().await;
    let tested: Vec<Option<i32>> = status.models.iter().map(|model| model.new_version).collect();
    assert_eq!(tested, [Some(3), Some(2)], "the other model's number is its own");
}
