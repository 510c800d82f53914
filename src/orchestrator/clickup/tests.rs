//! ClickUp as its documentation shows it, and as it fails, over a real socket.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use chrono::TimeDelta;
use serde_json::{Value, json as value};

use super::*;
use crate::orchestrator::service::Next;
use crate::orchestrator::testing::{self, Canned, SleptClock, html, json, start};

const TOKEN: &str = "pk_183_SECRET";
const TASK: &str = include_str!("fixtures/task.json");
const ATTACHMENT: &str = include_str!("fixtures/attachment.json");
const COMMENT: &str = include_str!("fixtures/comment.json");
const RATE_LIMIT: &str = include_str!("fixtures/error_rate_limit.json");

struct Stage {
    service: testing::Service,
    clickup: ClickUp,
    clock: Arc<SleptClock>,
}

async fn stage(answers: impl IntoIterator<Item = Canned>) -> Stage {
    let service = testing::Service::answering(answers).await;
    let clock = SleptClock::new();
    let clickup = client(&service.base_url, TOKEN, &clock);
    Stage { service, clickup, clock }
}

fn client(base_url: &str, token: &str, clock: &Arc<SleptClock>) -> ClickUp {
    let settings = ClickUpSettings {
        base_url: base_url.to_owned(),
        token: Secret::new(token),
        timeout: Duration::from_millis(500),
    };
    ClickUp::new(settings, Arc::clone(clock) as Arc<dyn Clock>).unwrap()
}

fn limited(reset_in_s: i64) -> Canned {
    json(429, RATE_LIMIT)
        .with("x-ratelimit-remaining", 0)
        .with("x-ratelimit-reset", start().timestamp() + reset_in_s)
}

async fn upload(clickup: &ClickUp) -> Result<Attachment, ServiceError> {
    clickup.upload("1vj38vv", "edited.png", "image/png", Bytes::from_static(b"PNG bytes")).await
}

#[tokio::test]
async fn a_task_is_read_as_documented() {
    let stage = stage([json(200, TASK)]).await;
    let task = stage.clickup.task("1vj38vv").await.unwrap().unwrap();
    assert_eq!((task.id.as_str(), task.name.as_str()), ("1vj38vv", "Edit hero image"));
    assert_eq!(task.text, "Make the sky a sunset");
    assert_eq!((task.status.as_str(), task.list_id.as_str()), ("ready for edit", "162641062"));
    let file = &task.attachments[0];
    assert_eq!(file.title, "image.png");
    assert_eq!((file.media_type.as_deref(), file.size_bytes), (Some("image/png"), Some(23_716)));
    assert_eq!(file.url, "https://t1.p.clickup-attachments.com/t1/7d5365b3/image.png?sig=1");
    assert_eq!(file.created_at.unwrap().timestamp_millis(), 1_779_369_739_412);
    let values: Vec<_> = task.custom_fields.iter().map(|field| field.value.clone()).collect();
    assert_eq!(values, [Some(value!("true")), None], "an empty field has no value");
    let seen = &stage.service.seen()[0];
    assert_eq!(seen.line, "GET /api/v2/task/1vj38vv HTTP/1.1");
    assert!(seen.head.contains("authorization: pk_183_secret\r\n"), "{}", seen.head);
}

#[test]
fn the_traps_of_the_types_are_known() {
    let read = |change: &dyn Fn(&mut Value)| {
        let mut task: Value = serde_json::from_str(TASK).unwrap();
        change(&mut task);
        serde_json::from_value::<Task>(task).unwrap()
    };
    let numbers = read(&|task| {
        task["id"] = value!(17);
        task["list"]["id"] = value!(162_641_062);
        task["attachments"][0]["date"] = value!(1_779_374_653_431_i64);
        task["attachments"][0]["version"] = value!("0");
        task["attachments"][0]["size"] = value!("23716");
    });
    assert_eq!((numbers.id.as_str(), numbers.list_id.as_str()), ("17", "162641062"));
    assert_eq!(numbers.attachments[0].size_bytes, Some(23_716));
    assert!(numbers.attachments[0].created_at.is_some());
    let bare = read(&|task| {
        for field in ["text_content", "description", "attachments", "custom_fields"] {
            task[field] = Value::Null;
        }
    });
    assert_eq!((bare.text.as_str(), bare.attachments.len()), ("", 0));
    let described = read(&|task| task["text_content"] = value!(" \n"));
    assert_eq!(described.text, "Make the sky a sunset");
    let deleted = read(&|task| task["attachments"][0]["deleted"] = value!(true));
    assert!(deleted.attachments.is_empty());
}

#[tokio::test]
async fn a_token_stands_bare_when_it_is_personal_and_behind_bearer_when_it_is_not() {
    for (token, header) in [
        ("pk_1_a", "authorization: pk_1_a\r\n"),
        ("oauth1", "authorization: bearer oauth1\r\n"),
        ("Bearer oauth1", "authorization: bearer oauth1\r\n"),
    ] {
        let stage = stage([json(200, TASK)]).await;
        let clickup = client(&stage.service.base_url, token, &stage.clock);
        clickup.task("1").await.unwrap();
        assert!(stage.service.seen()[0].head.contains(header), "{token}");
    }
}

#[tokio::test]
async fn a_task_that_is_gone_is_none_and_a_page_of_a_proxy_is_an_error() {
    let stage = stage([json(404, r#"{"err":"Task not found, deleted","ECODE":"ITEM_013"}"#)]).await;
    assert_eq!(stage.clickup.task("1vj38vv").await, Ok(None));
    stage.service.then([html(404)]);
    let error = stage.clickup.task("1vj38vv").await.unwrap_err();
    assert_eq!((error.code, error.next), ("clickup_not_clickup", Next::Operator));
}

#[tokio::test]
async fn a_page_of_a_list_names_its_tasks() {
    let page = r#"{"tasks":[{"id":"a1","status":{"status":"ready"},"date_updated":"1779390012383"},
                            {"id":2,"status":{"status":"ready"}}],"last_page":false}"#;
    let stage = stage([json(200, page)]).await;
    let found = stage.clickup.tasks_in("162641062", "ready for edit", 3).await.unwrap();
    let ids: Vec<_> = found.tasks.iter().map(|task| task.id.as_str()).collect();
    assert_eq!((ids, found.last_page), (vec!["a1", "2"], false));
    assert_eq!(found.tasks[0].updated_at.unwrap().timestamp_millis(), 1_779_390_012_383);
    assert_eq!(
        stage.service.seen()[0].line,
        "GET /api/v2/list/162641062/task?archived=false&page=3&statuses%5B%5D=ready+for+edit HTTP/1.1"
    );
}

#[tokio::test]
async fn a_file_is_attached_as_a_form_and_its_answer_has_its_own_types() {
    let stage = stage([json(200, ATTACHMENT)]).await;
    let file = upload(&stage.clickup).await.unwrap();
    assert_eq!(file.title, "edited.png");
    assert_eq!(file.created_at.unwrap().timestamp_millis(), 1_779_374_653_431);
    let seen = &stage.service.seen()[0];
    assert_eq!(seen.line, "POST /api/v2/task/1vj38vv/attachment HTTP/1.1");
    assert!(seen.body.contains(r#"name="attachment"; filename="edited.png""#), "{}", seen.body);
    assert!(seen.body.contains("Content-Type: image/png\r\n\r\nPNG bytes\r\n"), "{}", seen.body);
}

#[tokio::test]
async fn a_comment_is_written_as_documented_and_its_id_may_be_text_or_number() {
    for id in [COMMENT.to_owned(), COMMENT.replace("\"458315\"", "458315")] {
        let stage = stage([json(200, id)]).await;
        let text = "Edited image attached (score 8/10, nano-banana).";
        assert_eq!(stage.clickup.comment("1", text).await.unwrap(), "458315");
        let sent: Value = serde_json::from_str(&stage.service.seen()[0].body).unwrap();
        let documented: Value =
            serde_json::from_str(include_str!("fixtures/comment_request.json")).unwrap();
        assert_eq!(sent, documented);
    }
}

#[tokio::test]
async fn the_newest_comments_are_read() {
    let page = r#"{"comments":[{"id":"458","comment_text":"Ωραία!","date":"1568036964079"},{"id":9,"comment_text":null}]}"#;
    let stage = stage([json(200, page)]).await;
    let comments = stage.clickup.comments("1").await.unwrap();
    let said: Vec<_> = comments.iter().map(|c| (c.id.as_str(), c.text.as_str())).collect();
    assert_eq!(said, [("458", "Ωραία!"), ("9", "")]);
}

#[tokio::test]
async fn a_webhook_is_registered_for_a_list_and_its_secret_is_not_shown() {
    let stage = stage([json(200, include_str!("fixtures/webhook_registration.json"))]).await;
    let endpoint = "https://app.up.railway.app/webhook/clickup";
    let made = stage.clickup.register_webhook("108", "162641062", endpoint).await.unwrap();
    assert_eq!(made.id, "4b67ac88-e506-4a29-9d42-26e504e3435e");
    assert!(made.secret.starts_with("O94IM25S"));
    assert!(!format!("{made:?}").contains("O94IM25S"));
    let sent: Value = serde_json::from_str(&stage.service.seen()[0].body).unwrap();
    let documented: Value =
        serde_json::from_str(include_str!("fixtures/webhook_registration_request.json")).unwrap();
    assert_eq!(
        (&sent["endpoint"], &sent["list_id"]),
        (&documented["endpoint"], &documented["list_id"])
    );
    assert_eq!(stage.service.seen()[0].line, "POST /api/v2/team/108/webhook HTTP/1.1");
}

#[tokio::test]
async fn a_status_that_the_list_lacks_is_for_a_person() {
    let stage = stage([json(400, r#"{"err":"Status not found","ECODE":"CRTSK_001"}"#)]).await;
    let error = stage.clickup.set_status("1", "erledigt").await.unwrap_err();
    assert_eq!((error.code, error.next), ("clickup_status_refused", Next::Operator));
    assert!(error.words.contains("erledigt") && error.words.contains("Status not found"));
    stage.service.then([json(200, TASK)]);
    stage.clickup.set_status("1", "complete").await.unwrap();
    assert_eq!(stage.service.seen()[1].body, r#"{"status":"complete"}"#);
}

#[tokio::test]
async fn reading_is_repeated_after_a_failure_and_then_waits() {
    for failure in [html(502), json(500, ""), Canned::Cut, Canned::Drop, json(200, "{\"id\":")] {
        let stage = stage([failure.clone(), failure.clone(), json(200, TASK)]).await;
        assert!(stage.clickup.task("1").await.unwrap().is_some(), "{failure:?}");
        assert_eq!(stage.service.calls(), 3, "{failure:?}");
        stage.service.then([failure.clone()]);
        let error = stage.clickup.task("1").await.unwrap_err();
        assert_eq!(error.next, Next::Later { after: None }, "{failure:?}");
        assert_eq!(stage.service.calls(), 6, "{failure:?}");
    }
}

#[tokio::test]
async fn making_is_not_repeated_when_it_may_have_been_done() {
    for failure in [html(502), json(500, ""), Canned::Cut, Canned::Drop, Canned::Hang] {
        let stage = stage([failure.clone(), json(200, COMMENT)]).await;
        let error = stage.clickup.comment("1", "hello").await.unwrap_err();
        assert_eq!((error.next, stage.service.calls()), (Next::Unknown, 1), "{failure:?}");
    }
    let stage = stage([Canned::Drop, json(200, ATTACHMENT)]).await;
    assert_eq!(upload(&stage.clickup).await.unwrap_err().next, Next::Unknown);
    assert_eq!(stage.service.calls(), 1);
}

#[tokio::test]
async fn making_is_repeated_when_it_was_certainly_not_done() {
    let stage = stage([limited(5), json(200, ATTACHMENT)]).await;
    upload(&stage.clickup).await.unwrap();
    assert_eq!(stage.service.calls(), 2);

    let clock = SleptClock::new();
    let nowhere = client(&testing::Service::nowhere().await, TOKEN, &clock);
    let error = upload(&nowhere).await.unwrap_err();
    assert_eq!(error.code, "clickup_unreachable");
    assert_eq!(error.next, Next::Later { after: None });
    assert_eq!(clock.slept_s().len(), 2, "it was tried three times");
}

#[tokio::test]
async fn a_short_limit_is_waited_for_and_no_call_leaves_before_its_reset() {
    let used_up = json(200, TASK)
        .with("x-ratelimit-remaining", 0)
        .with("x-ratelimit-reset", start().timestamp() + 20);
    let stage = stage([used_up, json(200, TASK)]).await;
    stage.clickup.task("1").await.unwrap();
    assert!(stage.clock.slept_s().is_empty());
    stage.clickup.task("1").await.unwrap();
    assert!(stage.clock.now() >= start() + TimeDelta::seconds(20), "{:?}", stage.clock.slept_s());
    stage.clickup.task("1").await.unwrap();
    assert_eq!(stage.clock.slept_s().len(), 1, "the door is open again");
}

#[tokio::test]
async fn a_long_limit_is_handed_back_and_nothing_is_sent_until_it_is_over() {
    let stage = stage([limited(600), json(200, TASK)]).await;
    let error = stage.clickup.task("1").await.unwrap_err();
    assert_eq!(error.code, "clickup_rate_limited");
    assert_eq!(error.next, Next::Later { after: Some(Duration::from_secs(600)) });
    assert!(matches!(
        stage.clickup.comments("1").await.unwrap_err().next,
        Next::Later { after: Some(_) }
    ));
    assert_eq!(stage.service.calls(), 1, "the second call never left");
    stage.clock.advance(TimeDelta::seconds(601));
    assert!(stage.clickup.task("1").await.unwrap().is_some());
}

#[tokio::test]
async fn a_limit_without_a_moment_closes_for_the_minute_in_which_it_is_counted() {
    let stage = stage([json(429, RATE_LIMIT)]).await;
    let error = stage.clickup.task("1").await.unwrap_err();
    assert_eq!(error.next, Next::Later { after: Some(Duration::from_mins(1)) });
}

#[tokio::test]
async fn an_id_that_would_lead_elsewhere_is_never_sent() {
    let stage = stage([json(200, TASK)]).await;
    for id in ["", "../team", "a/b", "a?b", "α", &"x".repeat(65)] {
        assert_eq!(stage.clickup.task(id).await.unwrap_err().code, "clickup_bad_id", "{id}");
    }
    assert_eq!(stage.service.calls(), 0);
}

#[tokio::test]
async fn the_token_is_in_no_error_and_in_no_debug() {
    let body = format!(r#"{{"err":"Token {TOKEN} invalid","ECODE":"OAUTH_025"}}"#);
    let stage = stage([json(401, body)]).await;
    let error = stage.clickup.task("1").await.unwrap_err();
    let shown = format!("{error} {error:?} {:?}", stage.clickup);
    assert!(!shown.contains("SECRET"), "{shown}");
    assert_eq!(error.next, Next::Operator);
}

#[test]
fn settings_that_cannot_be_are_refused_in_words() {
    let of = |base_url: &str, token: &str| {
        let settings = ClickUpSettings {
            base_url: base_url.to_owned(),
            token: Secret::new(token),
            timeout: Duration::from_secs(1),
        };
        ClickUp::new(settings, SleptClock::new()).map(|_| ()).map_err(|error| error.words)
    };
    assert!(of("api.clickup.com", "pk_1").unwrap_err().contains("CLICKUP_BASE_URL"));
    assert!(of("https://api.clickup.com", " ").unwrap_err().contains("CLICKUP_API_TOKEN"));
    assert!(of("https://api.clickup.com", "pk\n1").unwrap_err().contains("CLICKUP_API_TOKEN"));
    assert_eq!(of("https://api.clickup.com/", "pk_1"), Ok(()));
}

/// What came back, and what it means to a call that makes nothing and to one that makes something.
pub(in crate::orchestrator) fn meanings() -> Vec<(String, [ServiceError; 2])> {
    use crate::outbound::{Failure, FailureKind, Reply};
    use crate::stand_in::documented::Documented;

    let both = |of: &dyn Fn(&Method) -> ServiceError| [of(&Method::GET), of(&Method::POST)];
    let reply = |status: u16, body: &str| {
        let headers = reqwest::header::HeaderMap::new();
        let reply = Reply { status, headers, body: Bytes::from(body.to_owned()) };
        let after = (status == 429).then_some(Duration::from_secs(17));
        both(&|method| errors::of_reply(method, &reply, after))
    };
    let failure = |kind| {
        let failure = Failure { kind, words: "why".to_owned() };
        both(&|method| errors::of_failure(method, &failure))
    };
    let mut all: Vec<_> = Documented::all()
        .filter(|error| error.service() == Service::ClickUp)
        .map(|error| {
            let body: Value = serde_json::from_str(error.body()).unwrap();
            let code = body["ECODE"].as_str().unwrap();
            // That a status is refused is known where one is set.
            let meaning = if error == Documented::ClickupStatusNotFound {
                [(); 2].map(|()| errors::status_refused("done", "why."))
            } else {
                reply(error.status(), error.body())
            };
            (format!("{} `{code}`", error.status()), meaning)
        })
        .collect();
    all.extend([
        ("403".to_owned(), reply(403, "{}")),
        ("413".to_owned(), reply(413, "")),
        ("502, a page of a proxy".to_owned(), reply(502, "<html>")),
        ("404, a page of a proxy".to_owned(), reply(404, "<html>")),
        ("302".to_owned(), reply(302, "")),
        ("200, cut or not JSON".to_owned(), both(&|method| errors::unreadable(method, 3, "why"))),
        ("no connection".to_owned(), failure(FailureKind::NoConnection)),
        ("no answer in time".to_owned(), failure(FailureKind::TimedOut)),
        ("the connection broke".to_owned(), failure(FailureKind::Interrupted)),
        ("an answer over 8 MB".to_owned(), failure(FailureKind::TooLarge)),
    ]);
    all
}
