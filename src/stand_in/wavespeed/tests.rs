//! The wire formats, over HTTP.

use axum::body::Bytes;
use serde_json::{Value, json};

use super::*;
use crate::orchestrator::service::Service;
use crate::stand_in::documented::Documented;
use crate::stand_in::fault::{Fault, Prediction};
use crate::stand_in::script::Matcher;

const NANO: &str = "/api/v3/google/nano-banana/edit";
const WAN: &str = "/api/v3/alibaba/wan-2.5/image-edit";

struct Stage {
    stand_in: WaveSpeedStandIn,
    script: Script,
    http: reqwest::Client,
}

impl Stage {
    async fn new() -> Self {
        Self::with(WaveSpeedStandInSettings::default()).await
    }

    async fn with(settings: WaveSpeedStandInSettings) -> Self {
        let script = Script::new(1);
        let stand_in = WaveSpeedStandIn::start(settings, script.clone(), PlainPainter)
            .await
            .expect("it starts");
        let http = crate::stand_in::listener::client(Duration::from_secs(5)).expect("a client");
        Self { stand_in, script, http }
    }

    fn url(&self, path: &str) -> String {
        format!("{}{path}", self.stand_in.base_url())
    }

    async fn post(&self, path: &str, body: Value) -> (u16, Value) {
        let sent = self.http.post(self.url(path)).bearer_auth("ws-stand-in").json(&body).send();
        let answer = sent.await.expect("an answer");
        (answer.status().as_u16(), answer.json().await.expect("JSON"))
    }

    async fn result(&self, id: &str) -> Value {
        let path = format!("/api/v3/predictions/{id}/result");
        let sent = self.http.get(self.url(&path)).bearer_auth("ws-stand-in").send();
        let answer: Value = sent.await.expect("an answer").json().await.expect("JSON");
        answer["data"].clone()
    }

    /// Uploads a picture of that size; its address.
    async fn uploaded(&self, side: u32) -> String {
        let bytes = picture(side, side, |_, _| [1, 2, 3]).expect("a picture");
        let asked =
            json!({"filename": "original.png", "size": bytes.len(), "content_type": "image/png"});
        let (status, answer) = self.post("/api/v3/media/uploads", asked).await;
        assert_eq!(status, 200);
        let upload = &answer["data"]["upload"];
        let put = self
            .http
            .put(upload["url"].as_str().expect("an address"))
            .header("content-type", upload["headers"]["Content-Type"].as_str().expect("a type"))
            .body(bytes)
            .send();
        assert!(put.await.expect("an answer").status().is_success());
        answer["data"]["download_url"].as_str().expect("an address").to_owned()
    }

    async fn submit(&self, path: &str) -> (u16, Value) {
        let image = self.uploaded(384).await;
        self.post(path, json!({"prompt": "Replace the sky", "images": [image]})).await
    }
}

fn id(answer: &Value) -> String {
    answer["data"]["id"].as_str().expect("an id").to_owned()
}

#[tokio::test]
async fn a_picture_goes_from_upload_to_download() {
    let stage = Stage::new().await;
    let (status, taken) = stage.submit(WAN).await;
    assert_eq!(
        (status, &taken["code"], &taken["data"]["status"]),
        (200, &json!(200), &json!("created"))
    );
    let done = stage.result(&id(&taken)).await;
    assert_eq!(done["status"], "completed");
    let address = done["outputs"][0].as_str().expect("an address");
    let bytes =
        stage.http.get(address).send().await.expect("an answer").bytes().await.expect("bytes");
    let read = image::load_from_memory(&bytes).expect("a real PNG");
    assert_eq!(read.width(), 384);
    assert_eq!(stage.stand_in.billed().len(), 1);
    assert_eq!(stage.stand_in.billed()[0].prompt, "Replace the sky");
}

#[tokio::test]
async fn a_picture_that_takes_its_time_is_processing_until_then() {
    let settings =
        WaveSpeedStandInSettings { inference: Duration::from_secs(600), ..Default::default() };
    let stage = Stage::with(settings).await;
    let (_, taken) = stage.submit(NANO).await;
    assert_eq!(stage.result(&id(&taken)).await["status"], "processing");
}

#[tokio::test]
async fn what_the_service_refuses_is_refused_and_not_billed() {
    let stage = Stage::new().await;
    let image = stage.uploaded(384).await;
    let refused = [
        (NANO, json!({"prompt": "x"})),
        (NANO, json!({"images": [image]})),
        (WAN, json!({"prompt": "x", "images": [image, image, image]})),
        (WAN, json!({"prompt": "x", "images": [image], "size": "10*10"})),
        ("/api/v3/nobody/knows/it", json!({"prompt": "x", "images": [image]})),
    ];
    let mut told = Vec::new();
    for (path, body) in refused {
        let (status, answer) = stage.post(path, body).await;
        assert_eq!(answer["code"], status);
        told.push(format!("{status} {}", answer["message"]));
    }
    insta::assert_snapshot!(told.join("\n"));
    let sent = stage.http.post(stage.url(NANO)).bearer_auth("another").json(&json!({})).send();
    assert_eq!(sent.await.expect("an answer").status(), 401);
    assert!(stage.stand_in.billed().is_empty());
}

#[tokio::test]
async fn a_picture_too_small_for_the_model_fails_its_prediction() {
    let stage = Stage::new().await;
    let image = stage.uploaded(200).await;
    let (_, taken) = stage.post(WAN, json!({"prompt": "x", "images": [image]})).await;
    let done = stage.result(&id(&taken)).await;
    assert_eq!(done["status"], "failed");
    assert!(done["error"].as_str().expect("words").contains("384"));
}

#[tokio::test]
async fn each_fate_of_a_prediction_shows_as_documented() {
    let stage = Stage::new().await;
    let submits = || Matcher::wavespeed().method("POST").path("/api/v3/*edit");
    let fates = [
        Prediction::Failed { words: "content policy violation".to_owned() },
        Prediction::NeverFinishes,
        Prediction::SyncTimedOut,
        Prediction::EmptyOutputs,
        Prediction::UnknownStatus,
        Prediction::CodeNot200,
    ];
    let mut told = Vec::new();
    for fate in fates {
        stage.script.when(submits(), 1, Fault::Prediction(fate.clone()));
        let (status, taken) = stage.submit(NANO).await;
        let data = &taken["data"];
        let shown = match data["id"].as_str() {
            Some(id) => stage.result(id).await,
            None => Value::Null,
        };
        told.push(format!(
            "{fate:?}: {status}, code {} inside {}; then {} {} with {} outputs",
            taken["code"],
            data["code"],
            shown["status"],
            shown["error"],
            shown["outputs"].as_array().map_or(0, Vec::len)
        ));
    }
    insta::assert_snapshot!(told.join("\n"));
    assert_eq!(stage.stand_in.billed().len(), 5, "all but the last are on the bill");
}

#[tokio::test]
async fn a_connection_that_breaks_after_the_work_leaves_a_bill_and_one_before_it_none() {
    let stage = Stage::new().await;
    let image = stage.uploaded(384).await;
    for (fault, billed) in [(Fault::DropBeforeWork, 0), (Fault::DropBeforeAnswer, 1)] {
        stage.script.when(Matcher::wavespeed().path(NANO), 1, fault);
        let body = json!({"prompt": "x", "images": [image]});
        let sent = stage.http.post(stage.url(NANO)).bearer_auth("ws-stand-in").json(&body).send();
        assert!(sent.await.is_err(), "nothing is answered");
        assert_eq!(stage.stand_in.billed().len(), billed);
    }
}

#[tokio::test]
async fn every_documented_error_arrives_with_its_status() {
    let stage = Stage::new().await;
    for error in Documented::all().filter(|error| error.service() == Service::WaveSpeed) {
        stage.script.when(Matcher::wavespeed(), 1, Fault::Documented(error));
        let (status, answer) = stage.post(NANO, json!({})).await;
        assert_eq!((status, &answer["code"]), (error.status(), &json!(error.status())));
    }
}

#[tokio::test]
async fn more_than_the_limit_is_refused_and_not_billed() {
    let settings = WaveSpeedStandInSettings { submits_per_minute: Some(2), ..Default::default() };
    let stage = Stage::with(settings).await;
    let mut statuses = Vec::new();
    for _ in 0..3 {
        statuses.push(stage.submit(NANO).await.0);
    }
    assert_eq!(statuses, [200, 200, 429]);
    assert_eq!(stage.stand_in.billed().len(), 2);
}

#[tokio::test]
async fn a_file_that_is_not_the_announced_one_is_refused() {
    let stage = Stage::new().await;
    let asked = json!({"filename": "a.png", "size": 3, "content_type": "image/png"});
    let (_, answer) = stage.post("/api/v3/media/uploads", asked).await;
    let url = answer["data"]["upload"]["url"].as_str().expect("an address").to_owned();
    let put = |media_type: &'static str, bytes: &'static [u8]| {
        let request = stage.http.put(&url).header("content-type", media_type);
        async move { request.body(Bytes::from_static(bytes)).send().await.expect("an answer").status() }
    };
    assert_eq!(put("image/jpeg", b"abc").await, 403);
    assert_eq!(put("image/png", b"abcd").await, 403);
    assert_eq!(put("image/png", b"abc").await, 200);
}

#[tokio::test]
async fn a_webhook_that_was_asked_for_arrives_signed() {
    use axum::extract::State;
    use axum::http::HeaderMap;
    let (sender, mut received) = tokio::sync::mpsc::channel(1);
    let router = axum::Router::new()
        .route(
            "/hook",
            axum::routing::post(
                |State(sender): State<tokio::sync::mpsc::Sender<_>>,
                 headers: HeaderMap,
                 body: String| async move {
                    sender.send((headers, body)).await.expect("the test listens");
                },
            ),
        )
        .with_state(sender);
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = format!("http://{}/hook", listener.local_addr().expect("an address"));
    let server = tokio::spawn(async move { axum::serve(listener, router).await });
    let stage = Stage::new().await;
    stage.submit(&format!("{NANO}?webhook={address}")).await;
    let (headers, body) = received.recv().await.expect("a delivery");
    let header = |name: &str| headers[name].to_str().expect("text").to_owned();
    let timestamp = header("webhook-timestamp").parse().expect("seconds");
    let secret = WaveSpeedStandInSettings::default().webhook_secret;
    assert_eq!(
        header("webhook-signature"),
        signature(&secret, &header("webhook-id"), timestamp, &body)
    );
    let body: Value = serde_json::from_str(&body).expect("JSON");
    assert_eq!(
        (&body["status"], &body["input"]["prompt"]),
        (&json!("completed"), &json!("Replace the sky"))
    );
    server.abort();
}
