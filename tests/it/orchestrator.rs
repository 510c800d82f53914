//! The reference pipeline against stand-ins that speak the documented formats, on a real PostgreSQL.

mod binary;
mod commands;
mod crashes;
mod deliveries;
mod ends;
mod errors;
mod greek;
mod keeping;
mod paired;
mod plant;

use std::collections::BTreeMap;
use std::io::Cursor;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::http::{Request, StatusCode};
use bytes::Bytes;
use mathesis::claude::{ApiKey, ClaudeSettings, HttpClaude};
use mathesis::http::{App, HttpSettings, router_with};
use mathesis::orchestrator::definition::load;
use mathesis::orchestrator::{Fates, Pipeline, Probe, ServiceSettings, Services, Worked, webhook};
use mathesis::settings::Secret;
use mathesis::stand_in::claude::{ClaudeStandIn, Reply, StandInSettings};
use mathesis::stand_in::clickup::{
    ClickUpStandIn, ClickUpStandInSettings, LIST, NewTask, TaskState, signature,
};
use mathesis::stand_in::script::Script;
use mathesis::stand_in::wavespeed::{PlainPainter, WaveSpeedStandIn, WaveSpeedStandInSettings};
use mathesis::store::pipeline::jobs;
use serde_json::{Value, json};
use tokio::sync::Notify;
use tower::ServiceExt as _;

use crate::support::Stage;
use crate::support::stage::{NANO, WAN};

/// The secret of the webhook.
pub(crate) const SECRET: &str = "O94IM25S7PXBPYTMNXLLET230SRP0S89COR7B1YOJ2ZIE8WQNK5UUKEF26W0Z5GA";

/// The pipeline with all that is around it.
pub(crate) struct Works {
    pub(crate) stage: Stage,
    script: Script,
    clickup: ClickUpStandIn,
    wavespeed: WaveSpeedStandIn,
    claude: ClaudeStandIn,
    pipeline: Arc<Pipeline>,
}

/// What Claude's judge says of each model's picture, in order; the last one goes on.
type Scores = Arc<Mutex<BTreeMap<&'static str, Vec<u16>>>>;

impl Works {
    pub(crate) async fn new(wan: &[u16], nano: &[u16]) -> Self {
        let scores: Scores =
            Arc::new(Mutex::new(BTreeMap::from([(WAN, wan.to_vec()), (NANO, nano.to_vec())])));
        Self::on(Stage::new().await, move |request| reply(request, &scores)).await
    }

    /// The same on a stage that is set already, with a Claude that answers so.
    async fn on(stage: Stage, answer: impl Fn(&Value) -> Reply + Send + Sync + 'static) -> Self {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let script = Script::new(7);
        let clickup = ClickUpStandIn::start(ClickUpStandInSettings::default(), script.clone());
        let clickup = clickup.await.expect("ClickUp's stand-in starts");
        let settings = WaveSpeedStandInSettings::default();
        let wavespeed = WaveSpeedStandIn::start(settings, script.clone(), PlainPainter);
        let wavespeed = wavespeed.await.expect("WaveSpeed's stand-in starts");
        let settings = StandInSettings { api_key: "sk".to_owned(), port: 0 };
        let claude = ClaudeStandIn::start_scripted(settings, script.clone(), answer);
        let claude = claude.await.expect("Claude's stand-in starts");
        let pipeline = pipeline(&stage, &clickup, &wavespeed, &claude, Probe::default());
        Self { stage, script, clickup, wavespeed, claude, pipeline }
    }

    /// Another process of the same pipeline, that dies where the probe says.
    async fn process(&self, probe: Probe) -> Arc<Pipeline> {
        let stage = self.stage.another().await;
        pipeline(&stage, &self.clickup, &self.wavespeed, &self.claude, probe)
    }

    /// A task that is ready, with a picture.
    fn task(&self, text: &str) -> String {
        self.clickup.create_task(NewTask {
            text: text.to_owned(),
            picture: Some(png()),
            ..NewTask::default()
        })
    }

    /// What ClickUp sends when a task comes into a status.
    async fn deliver_status(&self, task: &str, status: &str, id: &str) -> (StatusCode, Value) {
        let body = json!({
            "event": "taskStatusUpdated", "task_id": task, "webhook_id": "hook",
            "history_items": [{"id": id, "field": "status", "after": {"status": status}}],
        });
        self.deliver(&body.to_string(), None).await
    }

    /// Posts a body as ClickUp does, signed unless another signature is given.
    async fn deliver(&self, body: &str, signed: Option<&str>) -> (StatusCode, Value) {
        let own = signature(SECRET, body.as_bytes());
        let request = Request::post(webhook::PATH)
            .header("host", "mathesis.example.com")
            .header("x-signature", signed.unwrap_or(&own))
            .body(Body::from(body.to_owned()))
            .expect("a request");
        let answer = self.router(true).oneshot(request).await.expect("the router answers");
        let status = answer.status();
        let bytes = to_bytes(answer.into_body(), 1 << 20).await.expect("the answer reads");
        (status, serde_json::from_slice(&bytes).expect("the answer is JSON"))
    }

    pub(crate) fn router(&self, open: bool) -> Router {
        let hook = webhook::route(Arc::clone(&self.pipeline), Secret::new(SECRET));
        router_with(self.app(open), vec![hook])
    }

    /// What a server without a pipeline has.
    pub(crate) fn app(&self, open: bool) -> App {
        App::new(
            self.stage.engine.clone(),
            self.stage.assigner.clone(),
            self.stage.logger.clone(),
            HttpSettings { open, ..HttpSettings::default() },
        )
    }

    async fn work(&self) -> Worked {
        self.pipeline.work_once().await.expect("the database answers")
    }

    fn state(&self, task: &str) -> TaskState {
        self.clickup.state(task).expect("the task is there")
    }

    fn own_pictures(&self, task: &str) -> usize {
        let own = |title: &str| title.starts_with("edited-");
        self.state(task).attachments.iter().filter(|file| own(&file.title)).count()
    }

    async fn value(&self, query: &'static str) -> Value {
        sqlx::query_scalar(query).fetch_one(self.stage.pool()).await.expect("an answer")
    }

    /// Takes the dead process's jobs from it, as the rescuer does.
    async fn rescue(&self, dead: &Pipeline) {
        jobs::rescue(self.stage.pool(), dead.engine.worker_id, false).await.expect("rescued");
    }
}

fn pipeline(
    stage: &Stage,
    clickup: &ClickUpStandIn,
    wavespeed: &WaveSpeedStandIn,
    claude: &ClaudeStandIn,
    probe: Probe,
) -> Arc<Pipeline> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("workflows/image-editing");
    let workflow = stage.workflow.clone();
    let definition = load(&folder, &workflow.definition).expect("it loads").expect("it is there");
    let mut definition = definition;
    definition.keys.clickup.lists = vec![LIST.to_owned()];
    definition.keys.wavespeed.submits_per_minute = 10_000;
    definition.keys.wavespeed.concurrent_max = 100;
    let settings = ServiceSettings {
        clickup_base_url: clickup.base_url().to_owned(),
        clickup_token: Secret::new("pk_stand_in"),
        clickup_webhook_secret: Secret::new(SECRET),
        wavespeed_base_url: wavespeed.base_url().to_owned(),
        wavespeed_key: Secret::new("ws-stand-in"),
        pictures_allow_private: false,
    };
    let key = ApiKey::new("sk").expect("a key");
    let real = HttpClaude::new(ClaudeSettings::new(claude.base_url(), Some(key)));
    let real = Arc::new(real.expect("the client is made"));
    let clock = Arc::clone(&stage.engine.clock);
    let services = Services::new(&settings, &definition.keys, real, clock).expect("the clients");
    Arc::new(Pipeline {
        engine: stage.engine.clone(),
        workflow,
        definition,
        services,
        logger: stage.logger.clone(),
        assigner: stage.assigner.clone(),
        probe,
        wake: Notify::new(),
        fates: Fates::default(),
    })
}

/// Claude in both roles: the enhancer, who names the model in the prompt, and the judge, who scores by the script.
fn reply(request: &Value, scores: &Scores) -> Reply {
    let text = request["messages"][0]["content"].to_string();
    let model = if text.contains(&format!("Target model: {WAN}")) { WAN } else { NANO };
    let schema = &request["output_config"]["format"]["schema"]["properties"];
    if schema.get("score").is_none() {
        let answer =
            json!({"enhanced_prompt": format!("Do it for {model}."), "rationale": "short"});
        return Reply::Text(answer.to_string());
    }
    let mut scores = scores.lock().expect("no test panicked with it");
    let row = scores.entry(model).or_default();
    let score = if row.len() > 1 { row.remove(0) } else { row.first().copied().unwrap_or(0) };
    let answer = json!({
        "score": score, "passed": score >= 8,
        "issues": if score >= 8 { vec![] } else { vec![format!("too dark for {model}")] },
        "reasoning": format!("{score} for {model}"),
    });
    Reply::Text(answer.to_string())
}

/// A picture that both models take.
fn png() -> Bytes {
    let picture = image::RgbImage::from_pixel(400, 400, image::Rgb([200, 120, 40]));
    let mut bytes = Cursor::new(Vec::new());
    picture.write_to(&mut bytes, image::ImageFormat::Png).expect("a PNG");
    bytes.into_inner().into()
}

#[tokio::test]
async fn a_signed_webhook_becomes_a_picture_on_its_task() {
    let works = Works::new(&[7], &[9]).await;
    let task = works.task("Κάνε τον ουρανό ηλιοβασίλεμα 🌅");
    let (status, answer) = works.deliver_status(&task, "ready for edit", "1").await;
    assert_eq!((status, answer), (StatusCode::OK, json!({"result": "job"})));
    assert!(matches!(works.work().await, Worked::Finished(_)));

    let state = works.state(&task);
    assert_eq!(state.status, "review");
    assert_eq!(works.own_pictures(&task), 1);
    assert_eq!(state.comments.len(), 1);
    assert!(state.comments[0].contains("nano-banana") && state.comments[0].contains("9 στα 10"));
    assert_eq!(works.wavespeed.billed().len(), 2);

    let logged = works
        .value(
            "SELECT jsonb_build_object('prompt', t.original_prompt, 'run', t.run_id, 'ended', t.ended_by,
                    'winner', t.winner_model, 'score', t.winner_score, 'iterations', t.total_iterations,
                    'attempts', (SELECT jsonb_agg(jsonb_build_object('model', a.model_name, 'score', a.validation_score,
                        'version', a.prompt_version, 'selected', a.was_selected, 'cost', a.cost_usd,
                        'prompt', a.enhanced_prompt, 'judge', a.judge_model) ORDER BY a.model_name)
                      FROM attempts a WHERE a.task_id = t.id)) FROM tasks t",
        )
        .await;
    assert_eq!(
        logged,
        json!({
            "prompt": "Κάνε τον ουρανό ηλιοβασίλεμα 🌅", "run": "1", "ended": "completed",
            "winner": NANO, "score": 9, "iterations": 1,
            "attempts": [
                {"model": NANO, "score": 9, "version": 1, "selected": true, "cost": 0.038,
                 "prompt": "Do it for nano-banana.", "judge": "claude-opus-5-5"},
                {"model": WAN, "score": 7, "version": 1, "selected": false, "cost": 0.03,
                 "prompt": "Do it for wan-2.5-edit.", "judge": "claude-opus-5-5"},
            ],
        })
    );
    let calls = works
        .value("SELECT to_jsonb(array_agg(status ORDER BY purpose)) FROM pipeline_calls")
        .await;
    assert_eq!(calls, json!(vec!["answered"; 6]));
    assert_eq!(works.work().await, Worked::Idle);
}
