//! The interface's description: OpenAPI 3.1, made of the table of routes.

use std::collections::BTreeMap;

use axum::http::header;
use axum::response::IntoResponse;
use axum::routing::get;
use serde_json::{Map, Value, json};

use super::describe::{Described, Route, any_object, refusals};
use super::{login, routes};

const ABOUT: &str = "Logs what an image pipeline did, tells it which prompt version to use, and shows and steers \
how the versions are improved. A write is answered after its commit, and every call is safe to repeat. A refusal is a \
problem of RFC 9457 with a stable `code`; a person's browser gets a page instead.";

/// The groups, in the order in which they are read.
const GROUPS: [(&str, &str); 7] = [
    ("pipeline", "What a pipeline calls for every task"),
    ("versions", "Prompt versions and where they come from"),
    ("cycles", "The learning cycle and its history"),
    ("brakes", "What operators do; who and why are kept"),
    ("dashboard", "Pages for people, with their data and tables"),
    ("signs of life", "For whoever keeps the server running"),
    ("webhooks", "What other services call; `mathesis orchestrate` only"),
];

/// The description of every route of the program: those of `mathesis serve`, and these.
#[must_use]
pub fn of_routes(others: &[Described]) -> Value {
    let serving = routes::all(Vec::new());
    document(serving.iter().map(|route| &route.described).chain(others))
}

/// The description of these routes.
fn document<'d>(routes: impl IntoIterator<Item = &'d Described>) -> Value {
    let mut paths: BTreeMap<&str, Map<String, Value>> = BTreeMap::new();
    let mut schemas = BTreeMap::from([("Problem".to_owned(), problem())]);
    for route in routes {
        paths.entry(&route.path).or_default().insert(route.method.to_owned(), route.operation());
        schemas.extend(route.schemas().cloned());
    }
    let groups = GROUPS.map(|(name, says)| json!({ "name": name, "description": says }));
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Mathesis",
            "version": env!("CARGO_PKG_VERSION"),
            "description": ABOUT,
            "license": { "name": "MIT", "identifier": "MIT" },
        },
        "servers": [{ "url": "/" }],
        "tags": groups,
        "paths": paths,
        "components": { "schemas": schemas, "responses": refusals(), "securitySchemes": {
            "key": {
                "type": "http", "scheme": "bearer",
                "description": "A key that `mathesis key create` made. A server without any key is bound to loopback and asks for none.",
            },
            "session": {
                "type": "apiKey", "in": "cookie", "name": login::SESSION_COOKIE,
                "description": "A browser's session, from /login",
            },
        } },
    })
}

/// `GET /openapi.json`, of these routes and of itself.
pub fn route(others: &[Route]) -> Route {
    let answer = any_object("OpenAPI 3.1");
    let described = Described::new("get", "/openapi.json", "describe", "This description", answer)
        .in_group("signs of life");
    // Made once, when the server starts: it is the same for as long as it runs.
    let page = document(others.iter().map(|route| &route.described).chain([&described]));
    let page = page.to_string();
    let handler = get(async move || {
        let headers =
            [(header::CONTENT_TYPE, "application/json"), (header::CACHE_CONTROL, "max-age=300")];
        (headers, page.clone()).into_response()
    });
    described.by(handler)
}

/// Every refusal: a problem of RFC 9457.
fn problem() -> Value {
    json!({
        "type": "object",
        "description": "A refusal. It may have more members, which say more of what was refused.",
        "required": ["title", "status", "detail", "code"],
        "properties": {
            "type": { "type": "string" },
            "title": { "type": "string", "description": "What the status means" },
            "status": { "type": "integer", "minimum": 400, "maximum": 599 },
            "detail": {
                "type": "string",
                "description": "What happened to the data and what to do, for people",
            },
            "code": {
                "type": "string", "pattern": "^[a-z][a-z0-9_]*$",
                "description": "What happened, for programs; it never changes its meaning",
            },
        },
    })
}

#[cfg(test)]
#[path = "openapi_tests.rs"]
mod tests;
