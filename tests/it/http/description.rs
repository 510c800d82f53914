//! The interface's description against the router that answers.

use axum::body::Body;
use serde_json::Value;
use tower::ServiceExt as _;

use super::{Site, request};

/// A path of the description with names that a fresh stage has.
fn filled(path: &str) -> String {
    let part = |part: &str| match part {
        "{workflow}" => "image-editing".to_owned(),
        "{model}" => "nano-banana".to_owned(),
        "{task}" => "86d1".to_owned(),
        part if part.starts_with('{') => "1".to_owned(),
        part => part.to_owned(),
    };
    path.split('/').map(part).collect::<Vec<_>>().join("/")
}

/// Every path with the methods that are described for it.
fn described(document: &Value) -> Vec<(String, Vec<String>)> {
    let paths = document["paths"].as_object().expect("paths");
    let methods = |item: &Value| item.as_object().expect("methods").keys().cloned().collect();
    paths.iter().map(|(path, item)| (path.clone(), methods(item))).collect()
}

#[tokio::test]
async fn every_described_call_is_answered_and_no_other_method_is() {
    let site = Site::open().await;
    let document = site.get("/openapi.json").await.ok();
    let paths = described(&document);
    assert!(paths.len() > 50, "{}", paths.len());
    for (path, methods) in paths {
        for method in ["get", "put", "post", "delete", "patch"] {
            let sent = request(&method.to_uppercase(), &filled(&path)).body(Body::empty());
            // Only heads are looked at: the body of the stream has no end.
            let answer = site.router.clone().oneshot(sent.expect("a request")).await;
            let status = answer.expect("an answer").status();
            let is_described = methods.iter().any(|known| known == method);
            assert_eq!(status != 405, is_described, "{method} {path}: {status}");
        }
    }
}

#[tokio::test]
async fn the_description_is_public_and_what_it_protects_is_not() {
    let site = Site::closed().await;
    let document = site.get("/openapi.json").await.ok();
    assert_eq!(document["openapi"], "3.1.0");
    for (path, methods) in described(&document) {
        for method in methods {
            let is_public = document["paths"][&path][&method]["security"] == serde_json::json!([]);
            let answer = site.call(&method.to_uppercase(), &filled(&path), "").await;
            let asked_for_a_key = answer.status == 401 && answer.problem().1 == "key_missing";
            assert_eq!(!asked_for_a_key, is_public, "{method} {path}: {}", answer.status);
        }
    }
}
