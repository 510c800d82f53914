//! `mathesis stand-ins` as a person uses it: the real program, its printed environment, its calls.

use std::collections::HashMap;
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};

use serde_json::{Value, json};

struct StandIns {
    child: Child,
    environment: HashMap<String, String>,
    http: reqwest::Client,
}

impl StandIns {
    fn start(arguments: &[&str]) -> Self {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let mut child = Command::new(env!("CARGO_BIN_EXE_mathesis"))
            .arg("stand-ins")
            .args(arguments)
            .env_clear()
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("the binary starts");
        let lines = BufReader::new(child.stdout.take().expect("its output")).lines();
        let environment = lines
            .map(|line| line.expect("a line"))
            .take_while(|line| !line.starts_with('#'))
            .filter_map(|line| {
                let (name, value) = line.strip_prefix("export ")?.split_once('=')?;
                Some((name.to_owned(), value.to_owned()))
            })
            .collect();
        Self { child, environment, http: reqwest::Client::new() }
    }

    fn get(&self, path: &str) -> reqwest::RequestBuilder {
        self.http
            .get(format!("{}{path}", self.environment["CLICKUP_BASE_URL"]))
            .header("authorization", &self.environment["CLICKUP_API_TOKEN"])
    }
}

impl Drop for StandIns {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[tokio::test]
async fn the_printed_environment_leads_to_a_board_with_tasks() {
    let stand_ins = StandIns::start(&["--tasks", "2", "--seed", "7"]);
    for name in [
        "ANTHROPIC_BASE_URL",
        "ANTHROPIC_API_KEY",
        "WAVESPEED_BASE_URL",
        "WAVESPEED_API_KEY",
        "CLICKUP_WEBHOOK_SECRET",
    ] {
        assert!(stand_ins.environment.contains_key(name), "{name} is not printed");
    }
    let made = stand_ins.get("/api/v2/list/162641062/task?page=0").send().await.expect("an answer");
    let made: Value = made.json().await.expect("JSON");
    assert_eq!(made["tasks"].as_array().map(Vec::len), Some(2));
    let url = format!("{}/stand-in/script", stand_ins.environment["CLICKUP_BASE_URL"]);
    let rule = json!({"service": "clickup", "fault": {"documented": "clickup_server_error"}});
    let taken = stand_ins.http.post(url).json(&rule).send().await.expect("an answer");
    assert_eq!(taken.status(), 200);
    let failed = stand_ins.get("/api/v2/list/162641062/task").send().await.expect("an answer");
    assert_eq!(failed.status(), 500);
}

#[test]
fn a_script_that_cannot_be_used_is_refused_before_anything_starts() {
    let script = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(script.path(), r#"[{"fault": "sulk"}]"#).expect("it is written");
    let done = Command::new(env!("CARGO_BIN_EXE_mathesis"))
        .arg("stand-ins")
        .arg("--script")
        .arg(script.path())
        .env_clear()
        .output()
        .expect("the binary runs");
    assert_eq!(done.status.code(), Some(2));
    let words = String::from_utf8_lossy(&done.stderr);
    assert!(words.contains("[0].fault") && words.contains("No rule was taken"), "{words}");
}
