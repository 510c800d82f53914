//! A folder becomes a definition, or a list of everything that is wrong with it.

use std::fs;
use std::path::{Path, PathBuf};

use proptest::prelude::*;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::workflow::definition::{
    Approval, Claude, Definition, Documents, Gate, Guard, OnAlarm, Retention, Retry, Split,
    Timeouts, Trigger, Watch,
};
use crate::workflow::keys::KEYS;
use crate::workflow::load::{load, load_all};
use crate::workflow::scaffold::{SHIPPED_PROMPTS, ScaffoldError, new_from};

pub(super) const SMALLEST: &str = "name = \"wf\"\n[[models]]\nname = \"nano-banana\"\n";

pub(super) fn shipped() -> Definition {
    load(&Path::new(env!("CARGO_MANIFEST_DIR")).join("workflows/image-editing")).unwrap()
}

/// A folder `wf` with this `workflow.toml` and the shipped prompts.
pub(super) fn folder_with(toml: &str) -> (TempDir, PathBuf) {
    let root = tempfile::tempdir().unwrap();
    let folder = root.path().join("wf");
    fs::create_dir_all(folder.join("prompts")).unwrap();
    fs::write(folder.join("workflow.toml"), toml).unwrap();
    for (file, text) in SHIPPED_PROMPTS {
        fs::write(folder.join("prompts").join(file), text).unwrap();
    }
    (root, folder)
}

pub(super) fn with(addition: &str) -> String {
    format!("{SMALLEST}{addition}")
}

#[test]
fn the_shipped_workflow_loads_and_says_what_is_in_force() {
    insta::assert_snapshot!(shipped().describe().split("\nContent").next().unwrap());
}

#[test]
fn the_shipped_workflow_differs_from_the_defaults_in_nothing_but_names() {
    let (_root, folder) = folder_with(SMALLEST);
    let smallest = load(&folder).unwrap();
    let shipped = shipped();
    let named = Definition {
        name: shipped.name.clone(),
        description: shipped.description.clone(),
        timezone: shipped.timezone,
        models: shipped.models.clone(),
        ..smallest
    };
    assert_eq!(named, shipped);
}

#[test]
fn the_smallest_definition_has_the_documented_defaults() {
    let (_root, folder) = folder_with(SMALLEST);
    let Definition {
        trigger,
        split,
        gate,
        guard,
        watch,
        approval,
        timeouts,
        retry,
        retention,
        claude,
        documents,
        ..
    } = load(&folder).unwrap();
    assert_eq!(trigger, Trigger::default());
    assert_eq!(split, Split { per_arm: 10, block: 4 });
    assert_eq!(
        gate,
        Gate { improvement_basis_points: 1000, scores_per_arm_min: 8, skip_at_ceiling: true }
    );
    assert_eq!((guard, approval), (Guard::default(), Approval::default()));
    assert_eq!(watch, Watch { tolerance_basis_points: 500, on_alarm: OnAlarm::Tell });
    assert_eq!(timeouts, Timeouts::default());
    assert_eq!(retry, Retry { attempts_max: 5, first_delay_seconds: 30, delay_max_seconds: 3600 });
    assert_eq!(retention, Retention::default());
    assert_eq!(claude, Claude::default());
    assert_eq!(documents, Documents::default());
}

#[test]
fn a_budget_in_whole_dollars_needs_no_quotes() {
    let (_root, folder) = folder_with(&with("[claude]\nbudget_usd_per_month = 40\n"));
    let definition = load(&folder).unwrap();
    assert_eq!(definition.claude.budget_usd_per_month, 40.into());
    assert_eq!(Definition::from_json(&definition.to_json().unwrap()).unwrap(), definition);
}

#[test]
fn every_key_of_the_definition_has_a_rule_and_stands_in_the_shipped_file() {
    fn paths(prefix: &str, value: &Value, out: &mut Vec<String>) {
        for (key, value) in value.as_object().unwrap() {
            let path = if prefix.is_empty() { key.clone() } else { format!("{prefix}.{key}") };
            match value {
                Value::Object(_) => paths(&path, value, out),
                _ => out.push(path),
            }
        }
    }
    let sorted = |mut list: Vec<String>| {
        list.sort();
        list
    };
    let mut in_type = Vec::new();
    paths("", &shipped().to_json().unwrap(), &mut in_type);
    in_type.retain(|path| !path.starts_with("prompts."));
    let in_rules: Vec<_> =
        KEYS.iter().map(|key| key.path).chain(["name", "models"]).map(str::to_owned).collect();
    let text = include_str!("../../workflows/image-editing/workflow.toml");
    let mut in_file = Vec::new();
    paths("", &json!(text.parse::<toml::Table>().unwrap()), &mut in_file);
    assert_eq!(sorted(in_rules), sorted(in_type.clone()));
    assert_eq!(sorted(in_file), sorted(in_type));
}

#[test]
fn a_definition_survives_its_json() {
    let definition = shipped();
    let text = definition.to_json().unwrap().to_string();
    let back = Definition::from_json(&serde_json::from_str(&text).unwrap()).unwrap();
    assert_eq!(back, definition);
    assert_eq!(back.content_hash(), definition.content_hash());
}

#[test]
fn a_definition_stored_before_a_key_existed_gets_its_default() {
    let mut json = shipped().to_json().unwrap();
    json["claude"].as_object_mut().unwrap().remove("answers_refused_max");
    json.as_object_mut().unwrap().remove("documents");
    assert_eq!(Definition::from_json(&json).unwrap(), shipped());
}

#[test]
fn a_stored_definition_that_cannot_be_read_names_the_key() {
    let mut json = shipped().to_json().unwrap();
    json["gate"]["improvement_basis_points"] = json!("lots");
    insta::assert_snapshot!(Definition::from_json(&json).unwrap_err(), @r#"the stored definition cannot be read at `gate.improvement_basis_points`: invalid type: string "lots", expected u32"#);
    let mut json = shipped().to_json().unwrap();
    json["gate"]["luck"] = json!(1);
    insta::assert_snapshot!(Definition::from_json(&json).unwrap_err(), @"the stored definition cannot be read at `gate.luck`: unknown field `luck`, expected one of `improvement_basis_points`, `scores_per_arm_min`, `skip_at_ceiling`");
}

#[test]
fn the_content_hash_changes_with_a_key_and_with_a_prompt_and_not_with_line_ends() {
    let (_root, folder) = folder_with(SMALLEST);
    let hash = || load(&folder).unwrap().content_hash();
    let before = hash();
    let file = folder.join("prompts/enhancement.md");
    let text = fs::read_to_string(&file).unwrap();
    fs::write(&file, format!("\u{feff}{}", text.replace('\n', "\r\n"))).unwrap();
    assert_eq!(hash(), before);
    fs::write(&file, format!("{text}More.\n")).unwrap();
    assert_ne!(hash(), before);
    fs::write(&file, text).unwrap();
    fs::write(folder.join("workflow.toml"), with("[split]\nper_arm = 11\n")).unwrap();
    assert_ne!(hash(), before);
}

#[test]
fn a_placeholder_of_the_orchestrators_own_is_fine_once_it_is_named() {
    let (_root, folder) = folder_with(&with(
        "[documents]\nrequired_placeholders = [\"original_prompt\", \"brand\"]\n",
    ));
    fs::write(folder.join("prompts/enhancement.md"), "{{brand}} {{ original_prompt }}").unwrap();
    assert_eq!(load(&folder).unwrap().documents.required_placeholders.len(), 2);
}

#[test]
fn all_workflows_of_a_folder_load_together_or_not_at_all() {
    let (root, folder) = folder_with(SMALLEST);
    fs::create_dir(root.path().join(".git")).unwrap();
    fs::write(root.path().join("README.md"), "not a workflow").unwrap();
    let config = root.path().join(".config");
    fs::create_dir_all(config.join("wan-2.5-edit")).unwrap();
    fs::write(config.join("wan-2.5-edit/research.md"), "# Patterns\n").unwrap();
    new_from(&config, "posters", root.path()).unwrap();
    let names: Vec<_> = load_all(root.path())
        .unwrap()
        .into_iter()
        .map(|definition| definition.name.to_string())
        .collect();
    assert_eq!(names, ["posters", "wf"]);

    fs::write(folder.join("workflow.toml"), with("[split]\nblock = 3\n")).unwrap();
    fs::remove_file(root.path().join("posters/workflow.toml")).unwrap();
    let errors = load_all(root.path()).unwrap_err();
    let files: Vec<_> =
        errors.list().iter().map(|error| error.file.strip_prefix(root.path()).unwrap()).collect();
    assert_eq!(files, [Path::new("posters/workflow.toml"), Path::new("wf/workflow.toml")]);

    assert!(load_all(&root.path().join("nowhere")).is_err());
}

fn config_folder_with(models: &[(&str, &str)]) -> TempDir {
    let config = tempfile::tempdir().unwrap();
    for (model, file) in models {
        fs::create_dir_all(config.path().join(model)).unwrap();
        fs::write(config.path().join(model).join(file), "text").unwrap();
    }
    config
}

#[test]
fn a_new_workflow_has_the_models_found_and_every_comment_and_passes_the_check() {
    let config = config_folder_with(&[
        ("seedream-v4", "research.md"),
        ("nano-banana", "activation.txt"),
        ("backup_20260101_000000", "activation.txt"),
        ("notes", "readme.txt"),
    ]);
    let out = tempfile::tempdir().unwrap();
    let folder = new_from(config.path(), "posters", &out.path().join("workflows")).unwrap();

    let definition = load(&folder).unwrap();
    assert_eq!(definition.name.as_str(), "posters");
    assert_eq!(definition.config_folder, config.path().to_str().unwrap());
    let models: Vec<_> = definition.models.iter().map(|model| model.name.as_str()).collect();
    assert_eq!(models, ["nano-banana", "seedream-v4"]);
    let prompts = definition.prompts.clone();
    assert_eq!(prompts, shipped().prompts);

    let comments = |text: &str| {
        text.lines().filter(|line| line.starts_with('#')).map(str::to_owned).collect::<Vec<_>>()
    };
    let written = fs::read_to_string(folder.join("workflow.toml")).unwrap();
    assert_eq!(
        comments(&written),
        comments(include_str!("../../workflows/image-editing/workflow.toml"))
    );
    assert!(!folder.join("orchestrator.toml").exists(), "nobody says how seedream-v4 is reached");
    let left: Vec<_> = fs::read_dir(out.path().join("workflows"))
        .unwrap()
        .map(|e| e.unwrap().file_name())
        .collect();
    assert_eq!(left, ["posters"]);
}

#[test]
fn a_new_workflow_never_takes_the_place_of_one_that_is_there() {
    let config = config_folder_with(&[("nano-banana", "activation.txt")]);
    let out = tempfile::tempdir().unwrap();
    fs::create_dir(out.path().join("posters")).unwrap();
    let error = new_from(config.path(), "posters", out.path()).unwrap_err();
    assert!(matches!(error, ScaffoldError::Exists(_)), "{error}");
    assert_eq!(fs::read_dir(out.path().join("posters")).unwrap().count(), 0);
}

#[test]
fn a_new_workflow_is_refused_where_it_could_not_load() {
    let out = tempfile::tempdir().unwrap();
    let refused = |models: &[(&str, &str)], name: &str| {
        let config = config_folder_with(models);
        let error = new_from(config.path(), name, out.path()).unwrap_err();
        assert_eq!(fs::read_dir(out.path()).unwrap().count(), 0);
        error.to_string().replace(config.path().to_str().unwrap(), "CONFIG")
    };
    let good = [("nano-banana", "activation.txt")];
    insta::assert_snapshot!(refused(&[], "posters"), @"CONFIG holds no model: no folder in it has an activation.txt or a research.md; name the folder that holds your models' folders");
    insta::assert_snapshot!(refused(&[("nano banana", "research.md")], "posters"), @r#"CONFIG/nano banana cannot be a model's folder; rename it: "nano banana" cannot be a model's name: it holds a character that is not allowed; a name is 1 to 64 of A-Z, a-z, 0-9, dot, dash and underscore, begins with a letter or a digit, does not end with a dot, has no two dots in a row, and is no device of Windows (con, nul, com1)"#);
    insta::assert_snapshot!(refused(&[("all", "research.md")], "posters"), @r#"CONFIG/all cannot be a model's folder; rename it: in an insight, "all" stands for every model"#);
    insta::assert_snapshot!(refused(&good, "a/b"), @r#""a/b" cannot be a workflow's name: it holds a character that is not allowed; a name is 1 to 64 of A-Z, a-z, 0-9, dot, dash and underscore, begins with a letter or a digit, does not end with a dot, has no two dots in a row, and is no device of Windows (con, nul, com1)"#);
    let error = new_from(Path::new("../config"), "posters", out.path()).unwrap_err();
    insta::assert_snapshot!(error, @r#"../config cannot be a config folder; it must be UTF-8, without "..": give a path below this folder, or an absolute one"#);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn no_text_in_place_of_a_definition_panics(text in "\\PC{0,60}|(name|models|split|gate)( = |\\.)[\"\\[{a-z0-9]{0,12}\n|(?s).{0,60}") {
        let (_root, folder) = folder_with(&text);
        let _ = load(&folder).map_err(|errors| errors.to_string());
    }

    #[test]
    fn any_text_as_a_name_or_a_key_is_taken_or_refused(text in "\\PC{0,40}|[a-z.]{0,8}") {
        let quoted = toml::Value::String(text).to_string();
        let (_root, folder) = folder_with(&format!("name = {quoted}\n{quoted} = 1\n[[models]]\nname = {quoted}\n[split]\n{quoted} = {quoted}\n"));
        let _ = load(&folder).map_err(|errors| errors.to_string());
    }
}
