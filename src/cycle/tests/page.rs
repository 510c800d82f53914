//! The generated page, and the golden table.

use std::path::PathBuf;

use super::*;

fn page_path() -> PathBuf {
    let root = std::env::var_os("MATHESIS_ROOT")
        .map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")), PathBuf::from);
    root.join("docs/state-machine.md")
}

#[test]
fn the_page_of_the_state_machine_is_up_to_date() {
    let path = page_path();
    let page = state_machine_page();
    if std::env::var_os("MATHESIS_BLESS").is_some_and(|bless| bless == "1") {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, &page).unwrap();
    }
    let written = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        written == page,
        "{} does not say what the machine does any more. \
         Run `MATHESIS_BLESS=1 cargo test` to rewrite it, and read the difference.",
        path.display()
    );
}

#[test]
fn the_whole_table_is_as_agreed() {
    insta::assert_snapshot!("transition_table", transition_table());
}

#[test]
fn the_diagram_is_as_agreed() {
    insta::assert_snapshot!("diagram", mermaid());
}
