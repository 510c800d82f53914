//! What a site has on its disk before its server is started.

use std::path::PathBuf;

use tempfile::TempDir;

pub const WAN: &str = "wan-2.5-edit";
pub const NANO: &str = "nano-banana";

/// Writes the shipped workflow into a folder under that guard, and documents for its models.
pub fn write_site(folder: &TempDir, guard: &str) {
    let shipped = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("workflows/image-editing");
    let own = folder.path().join("workflows/image-editing");
    copy(&shipped, &own);
    let file = own.join("workflow.toml");
    let text = std::fs::read_to_string(&file).expect("the workflow reads");
    let guarded = text.replace("\nmode = \"probation\"\n", &format!("\nmode = \"{guard}\"\n"));
    assert!(guarded.contains(&format!("\nmode = \"{guard}\"\n")), "the guard is set");
    // Its tasks draw a slot of one model each, so thirty slots of two models would take more tasks
    // than open the next analysis, which ends a probation.
    let guarded = guarded.replace("probation_tasks = 30", "probation_tasks = 20");
    std::fs::write(&file, guarded).expect("the workflow is written");
    for model in [WAN, NANO] {
        let config = folder.path().join("config/deep_research").join(model);
        std::fs::create_dir_all(&config).expect("the folder can be made");
        std::fs::write(config.join("activation.txt"), "You enhance prompts.\n").expect("written");
        std::fs::write(config.join("research.md"), "# Research\n\n## Works\nShort.\n")
            .expect("written");
    }
}

fn copy(from: &std::path::Path, to: &std::path::Path) {
    std::fs::create_dir_all(to).expect("the folder can be made");
    for entry in std::fs::read_dir(from).expect("the folder reads") {
        let path = entry.expect("an entry").path();
        let target = to.join(path.file_name().expect("a name"));
        if path.is_dir() {
            copy(&path, &target);
        } else {
            std::fs::copy(&path, &target).expect("the file is copied");
        }
    }
}
