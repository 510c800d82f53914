//! The wire formats, over HTTP.

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use serde_json::{Value, json};
use tokio::sync::mpsc;

use super::*;
use crate::orchestrator::service::Service;
use crate::stand_in::documented::Documented;
use crate::stand_in::fault::{Delivery, Fault};
use crate::stand_in::script::Matcher;
use crate::stand_in::wavespeed::picture;

struct Stage {
    stand_in: ClickUpStandIn,
    script: Script,
    http: reqwest::Client,
}

impl Stage {
    async fn new() -> Self {
        Self::with(ClickUpStandInSettings::default()).await
    }

    async fn with(settings: ClickUpStandInSettings) -> Self {
        let settings =
            ClickUpStandInSettings { delivery_pause: Duration::from_millis(1), ..settings };
        let script = Script::new(1);
        let stand_in = ClickUpStandIn::start(settings, script.clone()).await.expect("it starts");
        let http = crate::stand_in::listener::client(Duration::from_secs(5)).expect("a client");
        Self { stand_in, script, http }
    }

    fn request(&self, method: &str, path: &str) -> reqwest::RequestBuilder {
        let method = method.parse().expect("a method");
        let url = format!("{}{path}", self.stand_in.base_url());
        self.http.request(method, url).header("authorization", "pk_stand_in")
    }

    async fn call(&self, method: &str, path: &str, body: Value) -> (u16, Value) {
        let answer = self.request(method, path).json(&body).send().await.expect("an answer");
        let status = answer.status().as_u16();
        let text = answer.text().await.expect("a text");
        (status, serde_json::from_str(&text).unwrap_or(Value::String(text)))
    }

    async fn get(&self, path: &str) -> (u16, Value) {
        self.call("GET", path, Value::Null).await
    }

    fn task(&self, text: &str) -> String {
        let drawn = picture(8, 8, |_, _| [1, 2, 3]).expect("a picture");
        let task = NewTask { text: text.to_owned(), picture: Some(drawn), ..NewTask::default() };
        self.stand_in.create_task(task)
    }

    async fn upload(&self, task: &str, field: &'static str, title: &str) -> (u16, Value) {
        let part = reqwest::multipart::Part::bytes(b"bytes".to_vec())
            .file_name(title.to_owned())
            .mime_str("image/png")
            .expect("a media type");
        let form = reqwest::multipart::Form::new().part(field, part);
        let path = format!("/api/v2/task/{task}/attachment");
        let answer = self.request("POST", &path).multipart(form).send().await.expect("an answer");
        (answer.status().as_u16(), answer.json().await.expect("JSON"))
    }
}

/// An endpoint that answers with these statuses in turn, the last one for ever, and keeps what arrived.
async fn endpoint(statuses: Vec<u16>) -> (String, mpsc::UnboundedReceiver<(HeaderMap, String)>) {
    let (sender, received) = mpsc::unbounded_channel();
    let statuses = Arc::new(Mutex::new(statuses));
    let router = axum::Router::new()
        .route(
            "/hook",
            axum::routing::post(
                |State((sender, statuses)): State<(
                    mpsc::UnboundedSender<_>,
                    Arc<Mutex<Vec<u16>>>,
                )>,
                 headers: HeaderMap,
                 body: String| async move {
                    sender.send((headers, body)).expect("the test listens");
                    let mut statuses = lock(&statuses);
                    let status = if statuses.len() > 1 { statuses.remove(0) } else { statuses[0] };
                    StatusCode::from_u16(status).expect("a status")
                },
            ),
        )
        .with_state((sender, statuses));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = format!("http://{}/hook", listener.local_addr().expect("an address"));
    tokio::spawn(async move { axum::serve(listener, router).await });
    (address, received)
}

fn drained(received: &mut mpsc::UnboundedReceiver<(HeaderMap, String)>) -> Vec<Value> {
    std::iter::from_fn(|| received.try_recv().ok())
        .map(|(_, body)| serde_json::from_str(&body).expect("JSON"))
        .collect()
}

#[tokio::test]
async fn a_task_shows_what_it_was_created_with() {
    let stage = Stage::new().await;
    let id = stage.task("Κάνε τον ουρανό ηλιοβασίλεμα 🌅");
    let (status, task) = stage.get(&format!("/api/v2/task/{id}")).await;
    assert_eq!((status, &task["text_content"]), (200, &json!("Κάνε τον ουρανό ηλιοβασίλεμα 🌅")));
    assert_eq!(task["status"]["status"], "ready for edit");
    let attached = &task["attachments"][0];
    assert!(attached["version"].is_number() && attached["date"].is_string());
    let bytes = stage.http.get(attached["url"].as_str().expect("an address")).send().await;
    let bytes = bytes.expect("an answer").bytes().await.expect("bytes");
    assert_eq!(bytes.len() as u64, attached["size"].as_u64().expect("a size"));
    assert!(image::load_from_memory(&bytes).is_ok());
}

#[tokio::test]
async fn a_creation_is_told_twice_and_signed() {
    let (address, mut received) = endpoint(vec![200]).await;
    let settings = ClickUpStandInSettings { webhook_endpoint: Some(address), ..Default::default() };
    let stage = Stage::with(settings).await;
    let id = stage.task("x");
    stage.stand_in.settled().await;
    let mut events = Vec::new();
    while let Ok((headers, body)) = received.try_recv() {
        let secret = ClickUpStandInSettings::default().webhook_secret;
        assert_eq!(headers["x-signature"], signature(&secret, body.as_bytes()).as_str());
        let body: Value = serde_json::from_str(&body).expect("JSON");
        assert_eq!(body["task_id"], id.as_str());
        assert!(body["history_items"][0]["id"].is_string());
        events.push(body["event"].as_str().expect("a name").to_owned());
    }
    events.sort();
    assert_eq!(events, ["taskCreated", "taskStatusUpdated"]);
}

#[tokio::test]
async fn what_the_pipeline_and_people_do_is_told_too() {
    let stage = Stage::new().await;
    let id = stage.task("x");
    let (address, mut received) = endpoint(vec![200]).await;
    stage.stand_in.deliver_to(&address);
    stage.upload(&id, "attachment", "edited.png").await;
    stage
        .call("POST", &format!("/api/v2/task/{id}/comment"), json!({"comment_text": "done"}))
        .await;
    stage.call("PUT", &format!("/api/v2/task/{id}"), json!({"status": "COMPLETE"})).await;
    assert!(stage.stand_in.delete_task(&id));
    stage.stand_in.settled().await;
    let mut told: Vec<String> = drained(&mut received)
        .iter()
        .map(|body| body["event"].as_str().expect("a name").to_owned())
        .collect();
    told.sort();
    assert_eq!(told, ["taskCommentPosted", "taskDeleted", "taskStatusUpdated", "taskUpdated"]);
}

#[tokio::test]
async fn a_delivery_that_fails_is_tried_five_times_and_an_endpoint_that_is_gone_is_suspended() {
    let stage = Stage::new().await;
    let (failing, mut tries) = endpoint(vec![500]).await;
    let (gone, mut once) = endpoint(vec![410]).await;
    for address in [&failing, &gone] {
        let asked = json!({"endpoint": address, "events": ["taskCreated"], "list_id": 162_641_062});
        let (status, answer) = stage.call("POST", "/api/v2/team/108/webhook", asked).await;
        assert_eq!((status, answer["webhook"]["secret"].is_string()), (200, true));
    }
    stage.task("x");
    stage.stand_in.settled().await;
    assert_eq!((drained(&mut tries).len(), drained(&mut once).len()), (5, 1));
    let (_, hooks) = stage.get("/api/v2/team/108/webhook").await;
    let health: Vec<&Value> =
        hooks["webhooks"].as_array().expect("a list").iter().map(|hook| &hook["health"]).collect();
    assert_eq!(health[0], &json!({"status": "active", "fail_count": 1}));
    assert_eq!(health[1]["status"], "suspended");
}

#[tokio::test]
async fn a_delivery_can_be_lost_doubled_or_signed_wrongly() {
    let (address, mut received) = endpoint(vec![200]).await;
    let settings = ClickUpStandInSettings { webhook_endpoint: Some(address), ..Default::default() };
    let stage = Stage::with(settings).await;
    let mut times = Vec::new();
    for delivery in [Delivery::Lost, Delivery::Twice, Delivery::BadSignature, Delivery::NoSignature]
    {
        stage.script.when(Matcher::delivery("taskDeleted"), 1, Fault::Delivery(delivery));
        let id = stage.task("x");
        stage.stand_in.settled().await;
        drained(&mut received);
        assert!(stage.stand_in.delete_task(&id));
        stage.stand_in.settled().await;
        let mut arrived = 0;
        while let Ok((headers, body)) = received.try_recv() {
            let secret = ClickUpStandInSettings::default().webhook_secret;
            let right = signature(&secret, body.as_bytes());
            let is_right = headers.get("x-signature").is_some_and(|sent| sent == right.as_str());
            assert_eq!(is_right, delivery == Delivery::Twice);
            arrived += 1;
        }
        times.push(arrived);
    }
    assert_eq!(times, [0, 2, 1, 1]);
}

#[tokio::test]
async fn an_upload_is_answered_with_other_types_than_the_task_has() {
    let stage = Stage::new().await;
    let id = stage.task("x");
    let (status, answer) = stage.upload(&id, "attachment", "edited.png").await;
    assert_eq!(status, 200);
    assert!(answer["version"].is_string() && answer["date"].is_number());
    let state = stage.stand_in.state(&id).expect("it is there");
    assert_eq!(state.attachments[1].title, "edited.png");
    assert_eq!(state.attachments[1].bytes, "bytes");
    assert_eq!(stage.upload(&id, "file", "edited.png").await.0, 400);
    assert_eq!(stage.upload("nobody", "attachment", "edited.png").await.0, 404);
}

#[tokio::test]
async fn comments_come_the_newest_first_with_ids_as_texts() {
    let stage = Stage::new().await;
    let id = stage.task("x");
    let path = format!("/api/v2/task/{id}/comment");
    let (_, first) = stage.call("POST", &path, json!({"comment_text": "one"})).await;
    assert!(first["id"].is_number());
    assert!(stage.stand_in.comment_by_person(&id, "two"));
    let (_, list) = stage.get(&path).await;
    assert_eq!(list["comments"][0]["comment_text"], "two");
    assert_eq!(list["comments"][1]["id"], first["id"].to_string());
}

#[tokio::test]
async fn a_status_needs_no_capitals_and_an_unknown_one_is_refused() {
    let stage = Stage::new().await;
    let id = stage.task("x");
    let path = format!("/api/v2/task/{id}");
    let (status, task) = stage.call("PUT", &path, json!({"status": "Review"})).await;
    assert_eq!((status, &task["status"]["status"]), (200, &json!("review")));
    let (status, refused) = stage.call("PUT", &path, json!({"status": "framed"})).await;
    assert_eq!((status, refused["ECODE"].is_string()), (400, true));
}

#[tokio::test]
async fn a_list_shows_its_tasks_of_a_status_page_by_page() {
    let stage = Stage::new().await;
    for number in 0..101 {
        stage.task(&number.to_string());
    }
    let other = NewTask { status: "complete".to_owned(), ..NewTask::default() };
    stage.stand_in.create_task(other);
    let path = "/api/v2/list/162641062/task?statuses[]=Ready%20for%20edit&archived=false&page=";
    let (_, first) = stage.get(&format!("{path}0")).await;
    let (_, second) = stage.get(&format!("{path}1")).await;
    let count = |page: &Value| page["tasks"].as_array().map_or(0, Vec::len);
    assert_eq!((count(&first), &first["last_page"]), (100, &json!(false)));
    assert_eq!((count(&second), &second["last_page"]), (1, &json!(true)));
    assert!(first["tasks"][0]["attachments"].is_null(), "lists have no attachments");
}

#[tokio::test]
async fn what_is_refused_has_the_documented_form() {
    let stage = Stage::new().await;
    let id = stage.task("x");
    let path = format!("/api/v2/task/{id}");
    let url = format!("{}{path}", stage.stand_in.base_url());
    let refused = stage.http.get(url).header("authorization", "pk_other").send().await;
    assert_eq!(refused.expect("an answer").status(), 401);
    let (status, page) = stage.call("PATCH", &path, Value::Null).await;
    assert_eq!((status, page.as_str().is_some_and(|page| page.starts_with("<html>"))), (404, true));
    assert!(stage.stand_in.delete_task(&id));
    assert_eq!(stage.get(&path).await.0, 404);
    assert!(stage.stand_in.state(&id).expect("it was there").deleted);
}

#[tokio::test]
async fn every_documented_error_arrives_with_its_status() {
    let stage = Stage::new().await;
    for error in Documented::all().filter(|error| error.service() == Service::ClickUp) {
        stage.script.when(Matcher::clickup(), 1, Fault::Documented(error));
        let (status, answer) = stage.get("/api/v2/task/any").await;
        assert_eq!((status, answer["ECODE"].is_string()), (error.status(), true));
    }
}

#[tokio::test]
async fn the_limit_is_told_with_every_answer_and_held() {
    let settings = ClickUpStandInSettings { requests_per_minute: 2, ..Default::default() };
    let stage = Stage::with(settings).await;
    let id = stage.task("x");
    let mut told = Vec::new();
    for _ in 0..3 {
        let answer = stage.request("GET", &format!("/api/v2/task/{id}")).send().await;
        let answer = answer.expect("an answer");
        let header = |name: &str| answer.headers()[name].to_str().expect("text").to_owned();
        let reset: i64 = header("X-RateLimit-Reset").parse().expect("seconds");
        assert!(reset > stage.stand_in.site.settings.clock.now().timestamp());
        told.push((answer.status().as_u16(), header("X-RateLimit-Remaining")));
    }
    assert_eq!(told, [(200, "1".to_owned()), (200, "0".to_owned()), (429, "0".to_owned())]);
}

#[tokio::test]
async fn the_address_of_an_attachment_can_end() {
    let stage = Stage::new().await;
    let id = stage.task("x");
    let address = |task: Value| task["attachments"][0]["url"].as_str().expect("one").to_owned();
    let old = address(stage.get(&format!("/api/v2/task/{id}")).await.1);
    stage.stand_in.end_addresses();
    assert_eq!(stage.http.get(old).send().await.expect("an answer").status(), 403);
    let new = address(stage.get(&format!("/api/v2/task/{id}")).await.1);
    assert_eq!(stage.http.get(new).send().await.expect("an answer").status(), 200);
}

#[tokio::test]
async fn a_person_can_steer_it_by_calls_of_its_own() {
    let stage = Stage::new().await;
    let (_, created) = stage.call("POST", "/stand-in/tasks", json!({"text": "Γεια"})).await;
    let id = created["id"].as_str().expect("an id");
    let (status, _) =
        stage.call("POST", &format!("/stand-in/tasks/{id}/comments"), json!({"text": "hm"})).await;
    assert_eq!(status, 200);
    let rule = json!({"service": "clickup", "fault": {"documented": "clickup_rate_limited"}});
    assert_eq!(stage.call("POST", "/stand-in/script", rule).await, (200, json!({"uses_left": 1})));
    assert_eq!(stage.get(&format!("/api/v2/task/{id}")).await.0, 429);
    assert_eq!(stage.call("DELETE", &format!("/stand-in/tasks/{id}"), Value::Null).await.0, 200);
    let (_, overview) = stage.get("/stand-in/tasks").await;
    assert_eq!(overview["tasks"][0]["deleted"], true);
    assert_eq!(stage.call("POST", "/stand-in/tasks", json!({"txt": "x"})).await.0, 400);
}
