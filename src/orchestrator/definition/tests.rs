//! The shipped definition, and what is wrong with others, told in words.

use std::path::{Path, PathBuf};

use super::{FILE, PipelineDefinition, load};
use crate::workflow::load::load as load_workflow;

fn shipped() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("workflows/image-editing")
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        let target = to.join(path.file_name().unwrap());
        if path.is_dir() {
            copy(&path, &target);
        } else {
            std::fs::copy(&path, &target).unwrap();
        }
    }
}

/// What loading says once the shipped file was edited so.
fn said(edit: impl Fn(String) -> String) -> String {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().join("image-editing");
    copy(&shipped(), &dir);
    let text = std::fs::read_to_string(dir.join(FILE)).unwrap();
    std::fs::write(dir.join(FILE), edit(text)).unwrap();
    match load(&dir, &load_workflow(&dir).unwrap()) {
        Ok(_) => "well".to_owned(),
        Err(errors) => {
            let lines: Vec<String> = errors.list().iter().map(ToString::to_string).collect();
            lines.join("\n").replace(&dir.display().to_string(), "…")
        }
    }
}

fn shipped_definition() -> PipelineDefinition {
    let dir = shipped();
    load(&dir, &load_workflow(&dir).unwrap()).unwrap().unwrap()
}

#[test]
fn the_shipped_file_loads_and_its_keys_are_the_defaults() {
    let keys = shipped_definition().keys;
    assert_eq!(keys.run, super::RunKeys::default());
    assert_eq!(keys.claude, super::ClaudeKeys::default());
    assert_eq!(keys.wavespeed, super::WaveSpeedKeys::default());
    assert_eq!(keys.timeouts, super::TimeoutKeys::default());
    assert_eq!(keys.waiting, super::WaitingKeys::default());
    assert_eq!(keys.rounds, super::RoundKeys::default());
    assert!(keys.is_ready("Ready for EDIT"));
    assert!(!keys.is_ready("review"));
}

#[test]
fn every_key_stands_in_the_shipped_file() {
    let text = std::fs::read_to_string(shipped().join(FILE)).unwrap();
    for key in super::check::KEYS {
        let (_, leaf) = key.path.split_once('.').unwrap();
        assert!(text.contains(&format!("\n{leaf} =")), "{} is missing", key.path);
    }
}

#[test]
fn a_workflow_without_the_file_has_no_pipeline() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().join("image-editing");
    copy(&shipped(), &dir);
    std::fs::remove_file(dir.join(FILE)).unwrap();
    assert_eq!(load(&dir, &load_workflow(&dir).unwrap()), Ok(None));
}

#[test]
fn a_request_holds_the_prompt_the_picture_and_the_body() {
    let keys = shipped_definition().keys;
    let body = keys.model("nano-banana").unwrap().request("a prompt", "https://e.com/1.png");
    insta::assert_json_snapshot!(body, @r#"
    {
      "enable_base64_output": false,
      "enable_sync_mode": false,
      "images": [
        "https://e.com/1.png"
      ],
      "output_format": "png",
      "prompt": "a prompt"
    }
    "#);
    let wan = keys.model("wan-2.5-edit").unwrap();
    assert_eq!(wan.refuses(384, 5000), None);
    assert!(wan.refuses(383, 500).unwrap().contains("383 × 500"));
    assert!(wan.refuses(384, 5001).is_some());
}

#[test]
fn what_is_wrong_is_told_in_words() {
    let mut told = String::new();
    type Edit = fn(String) -> String;
    let cases: [(&str, Edit); 14] = [
        ("a misspelled key", |t| t.replace("iterations_max", "iteration_max")),
        ("a key of no section", |t| t.replace("[rounds]", "[round]")),
        ("a number out of its bounds", |t| t.replace("poll_seconds = 1", "poll_seconds = 0")),
        ("a text for a number", |t| t.replace("give_up_hours = 12", "give_up_hours = \"12\"")),
        ("no status", |t| t.replace("ready_status = \"ready for edit\"", "")),
        ("one status for two", |t| t.replace("\"review\"", "\"Ready for edit\"")),
        ("a model too few", |t| {
            let (before, after) = t.split_once("[[models]]\nname = \"nano-banana\"").unwrap();
            let rest = after.split_once("# How a run goes.").unwrap().1;
            format!("{before}{rest}")
        }),
        ("a model too many", |t| t.replace("\"nano-banana\"", "\"nano-bananas\"")),
        ("a key of no model", |t| t.replace("side_min_px = 384", "side_least_px = 384")),
        ("an address for an endpoint", |t| {
            t.replace("\"google/nano-banana/edit\"", "\"https://api.wavespeed.ai/x\"")
        }),
        ("sync mode", |t| t.replace("enable_sync_mode = false", "enable_sync_mode = true")),
        ("a price of nothing", |t| t.replace("price_usd = \"0.03\"", "price_usd = \"free\"")),
        ("patience beyond the run's end", |t| {
            t.replace("give_up_hours = 12", "give_up_hours = 24")
        }),
        ("no TOML", |t| t.replace("[run]", "[run")),
    ];
    for (what, edit) in cases {
        let errors = said(edit);
        assert_ne!(errors, "well", "{what} passed");
        told.push_str(&format!("## {what}\n{errors}\n\n"));
    }
    insta::assert_snapshot!(told);
}

#[test]
fn a_new_workflow_has_the_shipped_pipeline_of_its_models() {
    let out = tempfile::tempdir().unwrap();
    let shipped = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("workflows/image-editing");
    for models in [vec!["nano-banana", "wan-2.5-edit"], vec!["nano-banana"]] {
        let config = tempfile::tempdir().unwrap();
        for model in &models {
            std::fs::create_dir(config.path().join(model)).unwrap();
            std::fs::write(config.path().join(model).join("research.md"), "# Notes\n").unwrap();
        }
        let name = format!("posters-{}", models.len());
        let folder = crate::workflow::scaffold::new_from(config.path(), &name, out.path()).unwrap();
        let workflow = crate::workflow::load::load(&folder).unwrap();
        let pipeline = load(&folder, &workflow).unwrap().expect("it has a pipeline");
        let names: Vec<&str> =
            pipeline.keys.models.iter().map(|model| model.name.as_str()).collect();
        assert_eq!(names.len(), models.len());
        assert!(names.iter().all(|name| models.contains(name)), "{names:?}");
        let both =
            load(&shipped, &crate::workflow::load::load(&shipped).unwrap()).unwrap().unwrap();
        assert_eq!(pipeline.prompts, both.prompts);
    }
}
