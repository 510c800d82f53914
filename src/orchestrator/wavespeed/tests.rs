//! WaveSpeed as its documentation shows it, and as it fails, over a real socket.

mod limits;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use serde_json::json as value;

use super::*;
use crate::orchestrator::testing::{self, Canned, SleptClock, html, json, start};
use crate::task_log::Fault;

const KEY: &str = "ws-SECRET";
const SUBMITTED: &str = include_str!("fixtures/submitted.json");
const PROCESSING: &str = include_str!("fixtures/processing.json");
const COMPLETED: &str = include_str!("fixtures/completed.json");
const FAILED: &str = include_str!("fixtures/failed.json");
const SYNC_TIMED_OUT: &str = include_str!("fixtures/sync_timed_out.json");
const NEVER: Next = Next::Never { fault: Fault::Infrastructure };
const PROMPT: Next = Next::Never { fault: Fault::Prompt };

struct Stage {
    service: testing::Service,
    wavespeed: WaveSpeed,
    clock: Arc<SleptClock>,
}

async fn stage(answers: impl IntoIterator<Item = Canned>) -> Stage {
    let service = testing::Service::answering(answers).await;
    let clock = SleptClock::new();
    let wavespeed = client(&service.base_url, &clock, |_| {});
    Stage { service, wavespeed, clock }
}

fn client(
    base_url: &str,
    clock: &Arc<SleptClock>,
    change: impl FnOnce(&mut WaveSpeedSettings),
) -> WaveSpeed {
    let mut settings = WaveSpeedSettings::new(base_url, Secret::new(KEY));
    settings.timeout = Duration::from_millis(500);
    change(&mut settings);
    WaveSpeed::new(settings, Arc::clone(clock) as Arc<dyn Clock>).unwrap()
}

fn body() -> Value {
    serde_json::from_str(include_str!("fixtures/nano_banana_request.json")).unwrap()
}

async fn submit(wavespeed: &WaveSpeed, endpoint: &str) -> Result<Prediction, ServiceError> {
    wavespeed.submit(wavespeed.ready().await?, endpoint, &body()).await
}

impl Stage {
    async fn submit(&self) -> Result<Prediction, ServiceError> {
        submit(&self.wavespeed, "google/nano-banana/edit").await
    }

    async fn wait(&self) -> Result<Finished, ServiceError> {
        self.wavespeed.wait("45b3", start() + TimeDelta::minutes(5)).await
    }
}

fn ended(change: impl FnOnce(&mut Value)) -> Canned {
    let mut answer: Value = serde_json::from_str(COMPLETED).unwrap();
    change(&mut answer["data"]);
    json(200, answer.to_string())
}

#[tokio::test]
async fn a_picture_is_asked_for_as_documented() {
    let stage = stage([json(200, SUBMITTED)]).await;
    let prediction = stage.submit().await.unwrap();
    assert_eq!(prediction.id, "45b392b22c3b449fa935bd4dc0000001");
    assert_eq!(prediction.status, "created");
    let seen = &stage.service.seen()[0];
    assert_eq!(seen.line, "POST /api/v3/google/nano-banana/edit HTTP/1.1");
    assert!(seen.head.contains("authorization: bearer ws-secret\r\n"));
    assert_eq!(serde_json::from_str::<Value>(&seen.body).unwrap(), body());
    let _wan_is_json: Value =
        serde_json::from_str(include_str!("fixtures/wan_request.json")).unwrap();
}

#[tokio::test]
async fn a_prediction_is_looked_for_until_it_has_ended() {
    let unknown = PROCESSING.replace("processing", "warming_up");
    let stage = stage([
        json(200, SUBMITTED),
        json(200, PROCESSING),
        json(200, unknown),
        json(200, COMPLETED),
    ])
    .await;
    let finished = stage.wait().await.unwrap();
    assert_eq!(finished.url, "https://d1q70pf5vjeyhc.cloudfront.net/predictions/45b3/1.png");
    assert_eq!(finished.inference_ms, Some(8123));
    assert_eq!(stage.service.seen()[3].line, "GET /api/v3/predictions/45b3/result HTTP/1.1");
    assert_eq!(stage.clock.slept_s(), [1, 1, 1]);
}

#[tokio::test]
async fn at_the_deadline_the_prediction_can_be_waited_for_again() {
    let stage = stage([json(200, PROCESSING)]).await;
    let error = stage.wait().await.unwrap_err();
    assert_eq!((error.code, error.next), ("wavespeed_not_finished", Next::Later { after: None }));
    assert_eq!(stage.clock.now(), start() + TimeDelta::minutes(5), "not a look longer");
    stage.service.then([json(200, COMPLETED)]);
    assert!(stage.wait().await.is_ok(), "one more look is taken even then");
}

#[tokio::test]
async fn each_end_means_what_it_says() {
    let words = |words: &'static str| {
        ended(move |data| {
            data["status"] = value!("failed");
            data["error"] = value!(words);
        })
    };
    let of_status = |status: &'static str| ended(move |data| data["status"] = value!(status));
    for (answer, code, next) in [
        (json(200, FAILED), "wavespeed_content_policy", PROMPT),
        (words("NSFW content detected"), "wavespeed_content_policy", PROMPT),
        (words("content policy check timed out"), "wavespeed_prediction_failed", NEVER),
        (words("CUDA out of memory"), "wavespeed_prediction_failed", NEVER),
        (words("safety service error"), "wavespeed_prediction_failed", NEVER),
        (words(""), "wavespeed_prediction_failed", NEVER),
        (of_status("cancelled"), "wavespeed_prediction_failed", NEVER),
        (of_status("timeout"), "wavespeed_prediction_failed", NEVER),
        (of_status("deleted"), "wavespeed_prediction_failed", NEVER),
        (ended(|data| data["outputs"] = value!([])), "wavespeed_no_output", NEVER),
        (ended(|data| data["outputs"] = value!([""])), "wavespeed_no_output", NEVER),
        (ended(|data| data["outputs"] = Value::Null), "wavespeed_no_output", NEVER),
        (ended(|data| data["outputs"] = value!(["not an address"])), "wavespeed_bad_output", NEVER),
        (
            ended(|data| {
                data["outputs"] = value!([]);
                data["has_nsfw_contents"] = value!([true]);
            }),
            "wavespeed_content_policy",
            PROMPT,
        ),
    ] {
        let stage = stage([answer.clone()]).await;
        let error = stage.wait().await.unwrap_err();
        assert_eq!((error.code, error.next), (code, next), "{answer:?}");
    }
}

#[tokio::test]
async fn a_picture_as_text_becomes_an_address_that_holds_it() {
    let stage = stage([ended(|data| data["outputs"] = value!(["iVBORw0KGgo="]))]).await;
    let url = stage.wait().await.unwrap().url;
    assert_eq!(url, "data:application/octet-stream;base64,iVBORw0KGgo=");
}

#[tokio::test]
async fn a_synchronous_wait_that_ran_out_is_no_failure() {
    let stage = stage([json(200, SYNC_TIMED_OUT)]).await;
    assert_eq!(stage.submit().await.unwrap().id, "45b3");
    let outside = SYNC_TIMED_OUT.replacen("200", "5004", 1);
    stage.service.then([json(200, outside)]);
    assert_eq!(stage.submit().await.unwrap().id, "45b3");
    stage.service.then([json(200, SYNC_TIMED_OUT), json(200, COMPLETED)]);
    assert!(stage.wait().await.is_ok());
}

#[tokio::test]
async fn a_submit_whose_end_is_not_known_is_made_once_and_says_so() {
    let no_id = SUBMITTED.replace("45b392b22c3b449fa935bd4dc0000001", "");
    for failure in [
        Canned::Hang,
        Canned::Drop,
        Canned::Cut,
        html(502),
        html(504),
        json(500, r#"{"code":500,"message":"Internal Server Error"}"#),
        json(503, ""),
        json(200, ""),
        json(200, "{\"code\":200,"),
        json(200, r#"{"code":200,"message":"success"}"#),
        json(200, r#"{"code":500,"message":"oops"}"#),
        json(200, no_id),
    ] {
        let stage = stage([failure.clone(), json(200, SUBMITTED)]).await;
        let error = stage.submit().await.unwrap_err();
        assert_eq!((error.next, stage.service.calls()), (Next::Unknown, 1), "{failure:?} {error}");
    }
}

#[tokio::test]
async fn a_submit_that_was_turned_down_costs_nothing() {
    for (answer, code, next) in [
        (
            json(401, include_str!("fixtures/error_401.json")),
            "wavespeed_key_invalid",
            Next::Operator,
        ),
        (json(400, include_str!("fixtures/error_400.json")), "wavespeed_bad_request", NEVER),
        (json(200, include_str!("fixtures/error_400.json")), "wavespeed_bad_request", NEVER),
        (
            json(402, r#"{"code":402,"message":"insufficient balance"}"#),
            "wavespeed_balance",
            Next::Operator,
        ),
        (
            json(403, r#"{"code":403,"message":"tier too low"}"#),
            "wavespeed_forbidden",
            Next::Operator,
        ),
        (
            json(403, r#"{"code":403,"message":"Content policy violation"}"#),
            "wavespeed_content_policy",
            PROMPT,
        ),
        (
            json(404, r#"{"code":404,"message":"not found"}"#),
            "wavespeed_no_such_model",
            Next::Operator,
        ),
        (html(413), "wavespeed_too_large", NEVER),
        (html(302), "wavespeed_redirected", Next::Operator),
    ] {
        let stage = stage([answer.clone()]).await;
        let error = stage.submit().await.unwrap_err();
        assert_eq!((error.code, error.next), (code, next), "{answer:?}");
        assert_eq!(stage.service.calls(), 1);
    }
}

#[tokio::test]
async fn a_refused_connection_is_tried_again_since_nothing_was_sent() {
    let clock = SleptClock::new();
    let wavespeed = client(&testing::Service::nowhere().await, &clock, |_| {});
    let error = submit(&wavespeed, "google/nano-banana/edit").await.unwrap_err();
    assert_eq!(error.code, "wavespeed_unreachable");
    assert_eq!(error.next, Next::Later { after: None });
    assert_eq!(clock.slept_s().len(), CONNECTS_AGAIN_MAX);
}

#[tokio::test]
async fn a_look_that_failed_is_repeated_and_then_waits() {
    for failure in [html(502), json(429, ""), Canned::Drop, Canned::Cut, json(200, "")] {
        let stage = stage([failure.clone(), failure.clone(), json(200, COMPLETED)]).await;
        assert!(stage.wait().await.is_ok(), "{failure:?}");
        stage.service.then([failure.clone()]);
        let error = stage.wait().await.unwrap_err();
        assert!(matches!(error.next, Next::Later { .. }), "{failure:?} {error:?}");
        assert_eq!(stage.service.calls(), 3 + 1 + LOOKS_AGAIN_MAX, "{failure:?}");
    }
    let stage = stage([json(404, r#"{"code":404,"message":"not found"}"#)]).await;
    assert_eq!(stage.wait().await.unwrap_err().code, "wavespeed_prediction_gone");
}

#[tokio::test]
async fn a_file_is_put_where_wavespeed_says_without_the_key() {
    let service = testing::Service::answering([json(200, "")]).await;
    let place = include_str!("fixtures/media_upload.json")
        .replace("https://upload.example", &service.base_url);
    service.then([json(200, place), json(204, "")]);
    let wavespeed = client(&service.base_url, &SleptClock::new(), |_| {});
    let png = Bytes::from_static(b"PNG bytes");
    let url = wavespeed.upload_media("original.png", "image/png", png).await.unwrap();
    assert_eq!(url, "https://cdn.example/media/original.png");
    let seen = service.seen();
    assert_eq!(seen[0].line, "POST /api/v3/media/uploads HTTP/1.1");
    let asked: Value = serde_json::from_str(&seen[0].body).unwrap();
    assert_eq!(asked, value!({"filename": "original.png", "size": 9, "content_type": "image/png"}));
    assert_eq!(seen[1].line, "PUT /put?sig=1 HTTP/1.1");
    assert_eq!(seen[1].body, "PNG bytes");
    assert!(seen[1].head.contains("content-type: image/png"));
    assert!(!seen[1].head.contains("authorization"));
}

#[tokio::test]
async fn an_upload_is_made_again_with_a_new_place() {
    let service = testing::Service::answering([json(200, "")]).await;
    let place = include_str!("fixtures/media_upload.json")
        .replace("https://upload.example", &service.base_url);
    let wavespeed = client(&service.base_url, &SleptClock::new(), |_| {});
    let upload = || wavespeed.upload_media("a.png", "image/png", Bytes::from_static(b"1"));
    service.then([
        json(200, place.clone()),
        html(403),
        html(502),
        json(200, place.clone()),
        json(200, ""),
    ]);
    upload().await.unwrap();
    assert_eq!(service.calls(), 5);
    for elsewhere in
        ["file:///etc", "https://10.0.0.1", "http://127.0.0.1:9", "https://169.254.169.254"]
    {
        service.then([json(200, place.replace(&service.base_url, elsewhere))]);
        let error = upload().await.unwrap_err();
        assert_eq!(error.code, "wavespeed_bad_upload", "{elsewhere}: {error}");
    }
}

#[tokio::test]
async fn what_would_lead_elsewhere_is_never_sent() {
    let stage = stage([json(200, SUBMITTED)]).await;
    for endpoint in ["", "a//b", "../x", "a/b?c", "https://evil.example"] {
        let error = submit(&stage.wavespeed, endpoint).await.unwrap_err();
        assert_eq!(error.code, "wavespeed_bad_endpoint", "{endpoint}");
    }
    for id in ["", "../a", "a/b"] {
        assert_eq!(stage.wavespeed.wait(id, start()).await.unwrap_err().code, "wavespeed_bad_id");
    }
    assert_eq!(stage.service.calls(), 0);
}

#[tokio::test]
async fn the_key_is_in_no_error_and_in_no_debug() {
    let stage = stage([json(401, format!(r#"{{"code":401,"message":"no {KEY}"}}"#))]).await;
    let error = stage.submit().await.unwrap_err();
    let shown = format!("{error} {error:?} {:?}", stage.wavespeed);
    assert!(!shown.contains("SECRET"), "{shown}");
}

mod webhooks {
    use super::super::webhook::{SignatureHeaders, parse, signature_is_valid};
    use chrono::DateTime;

    const SECRET: &str = "whsec_0123456789abcdef0123456789abcdef";
    const BODY: &[u8] = include_bytes!("fixtures/signed_body.json");
    const HEADERS: SignatureHeaders<'static> = SignatureHeaders {
        id: "45b392b22c3b449fa935bd4dc",
        timestamp: "1758798328",
        signature: "v3,6bc9fd2d889f36070660f4edfe76e8e9378f186a2abb698eb3661b35a238e7ba",
    };

    fn valid(secret: &str, headers: SignatureHeaders<'_>, body: &[u8], age_s: i64) -> bool {
        let now = DateTime::from_timestamp(1_758_798_328 + age_s, 0).unwrap();
        signature_is_valid(secret, headers, body, now)
    }

    #[test]
    fn the_known_signature_fits_its_body_for_five_minutes() {
        assert!(valid(SECRET, HEADERS, BODY, 0));
        assert!(valid(SECRET, HEADERS, BODY, 300));
        assert!(valid(SECRET, HEADERS, BODY, -300));
        assert!(!valid(SECRET, HEADERS, BODY, 301));
        assert!(!valid(SECRET, HEADERS, BODY, -301));
    }

    #[test]
    fn nothing_else_fits() {
        assert!(!valid("whsec_other", HEADERS, BODY, 0));
        assert!(!valid("", HEADERS, BODY, 0));
        assert!(!valid(SECRET, HEADERS, b"{}", 0));
        assert!(!valid(SECRET, SignatureHeaders { id: "other", ..HEADERS }, BODY, 0));
        for timestamp in ["1758798329", "", "soon", "99999999999999999999"] {
            assert!(!valid(SECRET, SignatureHeaders { timestamp, ..HEADERS }, BODY, 0));
        }
        for signature in ["", "v3,", "v3,zz", "v2,6bc9", &HEADERS.signature[3..]] {
            assert!(!valid(SECRET, SignatureHeaders { signature, ..HEADERS }, BODY, 0));
        }
    }

    #[test]
    fn its_body_is_a_bare_prediction() {
        let prediction = parse(BODY).unwrap();
        assert_eq!(prediction.id, "45b392b22c3b449fa935bd4dc0000001");
        assert_eq!((prediction.status.as_str(), prediction.outputs.len()), ("completed", 1));
        assert!(parse(b"{}").is_err() && parse(b"").is_err());
    }
}

proptest::proptest! {
    #[test]
    fn no_answer_makes_it_panic(body: Vec<u8>, text in ".*", number: f64) {
        let _ = Envelope::read(&body);
        let odd = value!({"code": number, "message": [text], "data": {
            "id": number, "status": text, "outputs": [number, text], "timings": {"inference": number},
            "executionTime": text, "has_nsfw_contents": text, "error": null,
        }});
        let envelope = Envelope::read(odd.to_string().as_bytes()).unwrap();
        let prediction: Prediction = envelope.data().unwrap();
        let _ = errors::of_end(prediction);
    }
}

/// What came back, and what it means to a submit and to a look.
pub(in crate::orchestrator) fn meanings() -> Vec<(String, [ServiceError; 2])> {
    use crate::orchestrator::service::Service;
    use crate::stand_in::documented::Documented;

    let both = |of: &dyn Fn(Step) -> ServiceError| [of(Step::Submit), of(Step::Look)];
    let reply = |status: u16, body: &str| {
        let headers = reqwest::header::HeaderMap::new();
        let reply = Reply { status, headers, body: Bytes::from(body.to_owned()) };
        both(&|step| {
            let envelope = Envelope::read(&reply.body);
            errors::read::<Prediction>(step, &reply, envelope, LIMITED_WAIT).unwrap_err()
        })
    };
    let failure = |kind| {
        let failure = Failure { kind, words: "why".to_owned() };
        both(&|step| errors::of_failure(step, &failure))
    };
    let mut all: Vec<_> = Documented::all()
        .filter(|error| error.service() == Service::WaveSpeed)
        .map(|error| {
            let body: Value = serde_json::from_str(error.body()).unwrap();
            let words = body["message"].as_str().unwrap();
            (format!("{} “{words}”", error.status()), reply(error.status(), error.body()))
        })
        .collect();
    let end = |change: &dyn Fn(&mut Value)| {
        let mut answer: Value = serde_json::from_str(COMPLETED).unwrap();
        change(&mut answer["data"]);
        let prediction: Prediction = serde_json::from_value(answer["data"].clone()).unwrap();
        let error = errors::of_end(prediction).unwrap_err();
        [error.clone(), error]
    };
    let failed = |words: &'static str| {
        end(&|data| {
            data["status"] = value!("failed");
            data["error"] = value!(words);
        })
    };
    all.extend([
        ("403 “tier too low”".to_owned(), reply(403, r#"{"code":403,"message":"tier too low"}"#)),
        ("200 with code 400 inside".to_owned(), reply(200, r#"{"code":400,"message":"why"}"#)),
        ("200 with code 500 inside".to_owned(), reply(200, r#"{"code":500,"message":"why"}"#)),
        ("502, a page of a proxy".to_owned(), reply(502, "<html>")),
        ("302".to_owned(), reply(302, "")),
        ("200, cut or not JSON".to_owned(), reply(200, "{\"code\":200,")),
        ("no connection".to_owned(), failure(FailureKind::NoConnection)),
        ("no answer in time".to_owned(), failure(FailureKind::TimedOut)),
        ("the connection broke".to_owned(), failure(FailureKind::Interrupted)),
        ("failed: “content policy violation”".to_owned(), failed("content policy violation")),
        ("failed: anything else".to_owned(), failed("CUDA out of memory")),
        ("completed without a picture".to_owned(), end(&|data| data["outputs"] = value!([]))),
        ("still going at the deadline".to_owned(), [(); 2].map(|()| errors::not_finished())),
    ]);
    all
}
