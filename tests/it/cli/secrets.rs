//! Keys, webhook secrets and prompts are planted, and everything that a program says is searched for them: its logs at
//! the finest level, metrics, problems, the doctor, the settings printed for debugging. The same run shows what the log
//! lines do carry.

use std::collections::HashMap;
use std::fs;
use std::process::{Child, Stdio};
use std::time::Duration;

use mathesis::settings::{Flags, Settings};
use mathesis::stand_in::claude::{ClaudeStandIn, Reply, StandInSettings};
use reqwest::{Client, Method, RequestBuilder};
use serde_json::{Value, json};

use super::{Place, Said};

const DATABASE_PASSWORD: &str = "planted-database-1a";
const BOOTSTRAP: &str = "planted-bootstrap-2b";
const CLAUDE: &str = "planted-claude-3c";
/// Every setting that holds a secret, but for the addresses of databases, and a collector that nobody answers for.
const KEYS: [(&str, &str); 8] = [
    ("ANTHROPIC_API_KEY", CLAUDE),
    ("MATHESIS_BOOTSTRAP_KEY", BOOTSTRAP),
    ("MATHESIS_KEY", "planted-service-4d"),
    ("CLICKUP_API_TOKEN", "planted-clickup-5e"),
    ("CLICKUP_WEBHOOK_SECRET", "planted-webhook-6f"),
    ("WAVESPEED_API_KEY", "planted-wavespeed-7a"),
    ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:1"),
    ("OTEL_EXPORTER_OTLP_HEADERS", "authorization=planted-collector-2d"),
];
const WRONG_KEY: &str = "planted-wrong-key-8b";
/// In what the pipeline logs, in what the analysis is asked, and in what Claude answers.
const PROMPT: &str = "planted-prompt-9c: Βάψε τον τοίχο κίτρινο";
const ANSWER: &str = "planted-answer-0d";

/// No secret begins otherwise.
fn assert_clean(what: &str, text: &str) {
    if let Some(found) = text.find("planted-") {
        let from = text[..found].rfind('\n').map_or(0, |end| end + 1);
        let until = text[found..].find('\n').map_or(text.len(), |end| found + end);
        panic!("{what} tells a secret: {}", &text[from..until]);
    }
}

/// A server that writes its log to a file, and a Claude that answers nothing of use.
struct Watched {
    place: Place,
    claude: ClaudeStandIn,
    child: Child,
    address: String,
    http: Client,
}

impl Watched {
    async fn start() -> Self {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let settings = StandInSettings { api_key: CLAUDE.to_owned(), port: 0 };
        let answer = |_: &Value| Reply::Text(ANSWER.to_owned());
        let claude = ClaudeStandIn::start(settings, answer).await.expect("a stand-in");
        let mut place = Place::new().await;
        let with_password = format!(":{DATABASE_PASSWORD}@");
        place.database_url = place.database_url.replacen('@', &with_password, 1);
        assert!(place.database_url.contains(DATABASE_PASSWORD), "{}", place.database_url);
        let workflow = place.path("workflows/image-editing/workflow.toml");
        let text = fs::read_to_string(&workflow).unwrap();
        fs::write(&workflow, text.replace("\ntasks = 50\n", "\ntasks = 1\n")).unwrap();

        let log = fs::File::create(place.path("server.log")).unwrap();
        let mut command = place.command(&["serve", "--port", "0"]);
        command.env("ANTHROPIC_BASE_URL", claude.base_url()).envs(KEYS);
        command.env("MATHESIS_LOG", "trace").env("MATHESIS_LOG_FORMAT", "json");
        let out = fs::File::create(place.path("server.out")).unwrap();
        let child = command.stdout(Stdio::from(out)).stderr(Stdio::from(log)).spawn().unwrap();
        let mut watched =
            Self { place, claude, child, address: String::new(), http: Client::new() };
        watched.address = watched
            .until("the server says where it is", || {
                let said = fs::read_to_string(watched.place.path("server.out")).unwrap();
                Some(said.split("http://").nth(1)?.split(' ').next()?.to_owned())
            })
            .await;
        watched
    }

    async fn until<T>(&self, what: &str, mut found: impl FnMut() -> Option<T>) -> T {
        for _ in 0..600 {
            if let Some(found) = found() {
                return found;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("waited in vain until {what}: {}", self.log());
    }

    fn log(&self) -> String {
        fs::read_to_string(self.place.path("server.log")).unwrap()
    }

    /// The lines that say this, as JSON.
    fn lines(&self, message: &str) -> Vec<Value> {
        let log = self.log();
        let lines = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        lines.filter(|line| line["message"] == message).collect()
    }

    fn call(&self, method: Method, path: &str) -> RequestBuilder {
        self.http.request(method, format!("http://{}{path}", self.address)).bearer_auth(BOOTSTRAP)
    }

    async fn text(&self, request: RequestBuilder) -> (u16, String) {
        let answer = request.send().await.expect("an answer");
        (answer.status().as_u16(), answer.text().await.expect("a text"))
    }

    fn run(&self, arguments: &[&str]) -> Said {
        let mut command = self.place.command(arguments);
        command.env("ANTHROPIC_BASE_URL", self.claude.base_url()).envs(KEYS);
        command.env("MATHESIS_LOG", "trace").env("MATHESIS_LOG_FORMAT", "json");
        command.output().expect("the program runs").into()
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

const EVENTS: &str = "/v1/workflows/image-editing/events";

/// One whole task with the prompt in each of its texts.
fn task() -> Value {
    json!([
        {"type": "task_started", "task_id": "86c1", "original_prompt": PROMPT},
        {"type": "enhancement", "task_id": "86c1", "model": "nano-banana", "version": 1,
         "original_prompt": PROMPT, "enhanced_prompt": PROMPT, "latency_ms": 10},
        {"type": "validation", "task_id": "86c1", "model": "nano-banana", "score": 3, "passed": false,
         "issues": [PROMPT], "reasoning": PROMPT},
        {"type": "completed", "task_id": "86c1", "processing_time_ms": 1000}
    ])
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_that_is_said_tells_a_planted_secret_and_the_log_names_what_it_is_about() {
    let server = Watched::start().await;
    let assignment = "/v1/workflows/image-editing/tasks/86c1/assignments/nano-banana";
    assert_eq!(server.text(server.call(Method::PUT, assignment)).await.0, 200);
    let logged = server.text(server.call(Method::POST, EVENTS).json(&task())).await;
    assert_eq!(logged.0, 200, "{}", logged.1);
    let failed = server.until("the analysis has failed", || server.lines("an effect failed").pop());
    let failed = failed.await;
    assert!(server.claude.calls() > 0, "the prompt went out");

    let unknown_field = json!({"type": "enhancement", "task_id": "86c2", "enhanced_prompt": PROMPT, "prompt": PROMPT});
    let half_a_score = json!({"type": "validation", "task_id": "86c2", "model": "nano-banana", "score": 7.5, "reasoning": PROMPT});
    let cut = format!(
        "{{\"type\": \"task_started\", \"task_id\": \"86c2\", \"original_prompt\": \"{PROMPT}"
    );
    let events = || server.call(Method::POST, EVENTS);
    let problems = [
        events().json(&unknown_field),
        events().json(&half_a_score),
        events().header("content-type", "application/json").body(cut),
        server.http.get(format!("http://{}/v1/workflows", server.address)).bearer_auth(WRONG_KEY),
        server.http.get(format!("http://{}/v1/workflows", server.address)),
    ];
    for problem in problems {
        let (status, body) = server.text(problem).await;
        assert!((400..500).contains(&status), "{status} {body}");
        assert_clean("a problem", &body);
    }
    let login = server.http.post(format!("http://{}/login", server.address));
    let login = login
        .header("content-type", "application/x-www-form-urlencoded")
        .body(format!("key={WRONG_KEY}"));
    assert_clean("the sign-in", &server.text(login).await.1);
    for path in [
        "/metrics",
        "/readyz",
        "/v1/workflows/image-editing/cycle",
        "/v1/workflows/image-editing/cycles/1/effects",
    ] {
        let (status, body) = server.text(server.call(Method::GET, path)).await;
        assert_eq!(status, 200);
        assert_clean(path, &body);
    }
    for command in [&["doctor"][..], &["doctor", "--json"], &["cycle", "show"], &["key", "list"]] {
        let said = server.run(command);
        assert_clean(command[0], &said.out);
        assert_clean(command[0], &said.err);
    }
    let log = server.log();
    assert!(log.lines().count() > 200, "the log is at its finest: {log}");
    assert_clean("the log", &log);

    let effect = &failed["span"];
    assert_eq!(
        (
            &effect["workflow.name"],
            &effect["cycle.number"],
            &effect["cycle.seq"],
            &effect["effect.kind"]
        ),
        (&json!("image-editing"), &json!(1), &json!(1), &json!("analyze")),
        "{failed}"
    );
    assert!(effect["effect.id"].is_i64(), "{failed}");
    let about_task = |line: &Value| {
        line["span"]["http.route"].as_str().is_some_and(|route| route.contains("assignments"))
    };
    let answered = server.lines("a request was answered");
    let answered = answered.iter().find(|line| about_task(line)).expect("the assignment's line");
    assert_eq!(
        (&answered["span"]["workflow.name"], &answered["span"]["task.id"]),
        (&json!("image-editing"), &json!("86c1"))
    );
}

#[tokio::test]
async fn a_start_that_fails_tells_no_secret() {
    let mut place = Place::new().await;
    let login = format!("postgres://learn:{DATABASE_PASSWORD}@");
    let commands = [["serve", "--port", "0"].as_slice(), &["doctor"], &["cycle", "list"]];
    for rest in ["127.0.0.1:1/mathesis", "127.0.0.1:x/mathesis", "[::1/mathesis", "db:5432,db:x/m"]
    {
        place.database_url = format!("{login}{rest}");
        for arguments in commands {
            if arguments[0] == "serve" && rest.contains(":1/") {
                // It would wait half a minute for the database to come.
                continue;
            }
            let mut command = place.command(arguments);
            command.envs(KEYS).env("MATHESIS_LOG", "trace");
            let said: Said = command.output().expect("the program runs").into();
            assert_ne!(said.code, 0, "{rest}: {}", said.out);
            assert!(!(said.out.is_empty() && said.err.is_empty()), "{rest}: it says why");
            assert_clean(&format!("{arguments:?} at {rest}"), &(said.out + &said.err));
        }
    }
}

#[test]
fn the_settings_print_no_secret() {
    let mut environment: HashMap<&str, String> =
        KEYS.iter().map(|(name, value)| (*name, (*value).to_owned())).collect();
    for name in ["DATABASE_URL", "DATABASE_READ_URL"] {
        environment.insert(name, format!("postgres://learn:{DATABASE_PASSWORD}@db/mathesis"));
    }
    let read = |name: &str| environment.get(name).cloned();
    let settings = Settings::read(Flags::default(), read, &HashMap::new()).expect("they are sound");
    let printed = format!("{settings:?} {settings:#?}");
    assert!(printed.contains("api.anthropic.com"), "{printed}");
    assert_clean("Debug of the settings", &printed);
}
