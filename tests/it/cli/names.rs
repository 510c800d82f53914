//! Names that would lead out of their folder, on the command line, in workflow files and in what is imported.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::json;

use super::Place;

const HOSTILE: [&str; 10] =
    ["..", "../out", "/tmp/out", "a/b", "a\\b", "nan\u{43e}", "a\u{202e}b", "a.", "con", ".hidden"];

fn paths(folder: &Path, found: &mut BTreeSet<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() && !path.is_symlink() {
            paths(&path, found);
        }
        found.insert(path);
    }
}

fn everything(place: &Place) -> BTreeSet<PathBuf> {
    let mut found = BTreeSet::new();
    paths(place.folder.path(), &mut found);
    found
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hostile_name_is_refused_on_the_command_line_in_a_file_and_in_an_import() {
    let place = Place::registered().await;
    let long = "a".repeat(300);
    let names: Vec<&str> = HOSTILE.into_iter().chain([long.as_str()]).collect();
    let lines: Vec<_> = names
        .iter()
        .map(|name| json!({"type": "validation", "task_id": "86c1", "model": name, "score": 8, "passed": true}))
        .collect();
    place.write("old.ndjson", &lines);
    let workflow = place.path("workflows/image-editing/workflow.toml");
    let sound = fs::read_to_string(&workflow).unwrap();
    let before = everything(&place);

    let imported = place.run(&["import", "old.ndjson", "--json"]);
    let counts = imported.json();
    assert_eq!((&counts["accepted"], &counts["rejected"]), (&json!(0), &json!(names.len())));

    for name in names {
        let made = place.run(&[
            "workflow",
            "new",
            "--from",
            "config/deep_research",
            &format!("--name={name}"),
        ]);
        assert!(
            made.code != 0 && made.err.contains("cannot be a workflow's name"),
            "{name}: {}",
            made.err
        );

        let text = sound.replacen("name = \"nano-banana\"", &format!("name = {}", json!(name)), 1);
        assert_ne!(text, sound);
        fs::write(&workflow, text).unwrap();
        let checked = place.run(&["workflow", "check"]);
        assert!(
            checked.code != 0 && checked.err.contains("cannot be used"),
            "{name}: {}",
            checked.err
        );
        fs::write(&workflow, &sound).unwrap();

        let shown = place.run(&["cycle", "show", &format!("--workflow={name}")]);
        assert!(shown.code != 0, "{name}: {}", shown.out);
    }
    assert_eq!(before, everything(&place), "nothing was made, here or above");
}
