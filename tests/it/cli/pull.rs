//! `mathesis files pull`: the folder of a pipeline on another machine.

use std::fs;
use std::path::PathBuf;

use serde_json::{Value, json};
use tempfile::TempDir;

use super::{Place, Said, Serving};

/// A pipeline's own folder, and the server that it pulls from.
struct Elsewhere {
    place: Place,
    server: Serving,
    folder: TempDir,
}

impl Elsewhere {
    async fn new() -> Self {
        let place = Place::new().await;
        let server = Serving::start(&place);
        Self { place, server, folder: tempfile::tempdir().unwrap() }
    }

    fn pull(&self) -> Said {
        let url = format!("http://{}", self.server.address);
        let mut command = self.place.command(&["files", "pull", "--url", &url, "--folder"]);
        // It asks over HTTP alone.
        command.env_remove("DATABASE_URL").arg(self.folder.path());
        command.output().expect("the program runs").into()
    }

    fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join("nano-banana").join(name)
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.file(name)).unwrap()
    }

    fn marker(&self) -> Value {
        serde_json::from_str(&self.read(".mathesis.json")).unwrap()
    }

    fn backups(&self) -> usize {
        let entries = fs::read_dir(self.file("")).unwrap();
        entries
            .filter(|entry| {
                entry.as_ref().unwrap().file_name().to_string_lossy().starts_with("backup_")
            })
            .count()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_folder_elsewhere_is_filled_kept_in_step_and_mended() {
    let elsewhere = Elsewhere::new().await;
    let first = elsewhere.pull();
    assert_eq!(first.code, 0, "{}", first.err);
    assert_eq!(first.out, "nano-banana: version 1 written\nwan-2.5-edit: version 1 written\n");
    assert_eq!(elsewhere.read("activation.txt"), "Be exact.\n");
    assert_eq!(elsewhere.marker()["version"], json!(1));
    assert_eq!(elsewhere.backups(), 0, "there was nothing to back up");

    fs::remove_file(elsewhere.file("research.md")).unwrap();
    assert!(elsewhere.pull().out.contains("nano-banana: version 1 written"));
    assert_eq!(elsewhere.read("research.md"), "# Light\n\nsoft\n");
    assert_eq!(
        elsewhere.pull().out,
        "nano-banana: version 1, in step\nwan-2.5-edit: version 1, in step\n"
    );
    assert_eq!(elsewhere.server.stop("TERM"), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_older_version_is_replaced_behind_a_backup() {
    let elsewhere = Elsewhere::new().await;
    elsewhere.pull();
    // As if version 0 had been written there before.
    let mut marker = elsewhere.marker();
    fs::write(elsewhere.file("activation.txt"), "Old.\n").unwrap();
    marker["version"] = json!(0);
    marker["files"]["activation"] = json!(mathesis::research::file_hash(b"Old.\n"));
    fs::write(elsewhere.file(".mathesis.json"), marker.to_string()).unwrap();
    let said = elsewhere.pull();
    assert!(said.out.contains("version 1 written; before it:"), "{} {}", said.out, said.err);
    assert_eq!(
        (elsewhere.read("activation.txt").as_str(), elsewhere.backups()),
        ("Be exact.\n", 1)
    );
    assert_eq!(elsewhere.server.stop("TERM"), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_edited_by_hand_is_left_alone_and_told() {
    let elsewhere = Elsewhere::new().await;
    elsewhere.pull();
    fs::write(elsewhere.file("activation.txt"), "Mine.\n").unwrap();
    let said = elsewhere.pull();
    assert_eq!(said.code, 1);
    assert!(said.err.contains("activation.txt was edited by hand"), "{}", said.err);
    assert_eq!((elsewhere.read("activation.txt").as_str(), elsewhere.backups()), ("Mine.\n", 0));
    assert!(
        said.out.contains("wan-2.5-edit: version 1, in step"),
        "the others are still looked at"
    );
    assert_eq!(elsewhere.server.stop("TERM"), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_that_is_away_or_unknown_touches_no_file() {
    let mut elsewhere = Elsewhere::new().await;
    elsewhere.pull();
    let away = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let address = std::mem::replace(&mut elsewhere.server.address, away.to_string());
    let said = elsewhere.pull();
    assert_eq!(said.code, 1);
    assert!(
        said.err.contains("does not answer") && said.err.contains("No file was touched"),
        "{}",
        said.err
    );
    elsewhere.server.address = format!("{address}/elsewhere");
    let said = elsewhere.pull();
    assert!(said.err.contains("404") && said.err.contains("No file was touched"), "{}", said.err);
    assert_eq!(elsewhere.read("activation.txt"), "Be exact.\n");
    assert_eq!(elsewhere.server.stop("TERM"), 0);
}
