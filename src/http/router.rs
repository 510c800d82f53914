//! The router: every route behind the gate that it needs, and what surrounds them all.

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::http::{Method, StatusCode, Uri};
use axum::middleware::{from_fn, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use std::any::Any;
use tower_http::catch_panic::CatchPanicLayer;
use tower_http::timeout::RequestBodyTimeoutLayer;

use super::auth::gate;
use super::describe::Route;
use super::error::Problem;
use super::{App, dashboard, deadline, observe, routes};

/// The largest form of a browser, in bytes.
const FORM_BYTES_MAX: usize = 16 << 10;

/// The whole interface.
pub fn router(app: App) -> Router {
    router_with(app, Vec::new())
}

/// The whole interface, and routes of another part of the program that see to it themselves who may call.
pub fn router_with(app: App, others: Vec<Route>) -> Router {
    let mut router = Router::new();
    for Route { described, handler } in routes::all(others) {
        let handler = match described.need {
            Some(need) => handler.route_layer(from_fn_with_state((app.clone(), need), gate)),
            None => handler,
        };
        router = router.route(&described.path, handler);
    }
    router
        .fallback(no_such_route)
        .method_not_allowed_fallback(wrong_method)
        .layer(DefaultBodyLimit::max(FORM_BYTES_MAX))
        .layer(RequestBodyTimeoutLayer::new(app.settings.bodies.pause_max))
        .layer(from_fn_with_state(app.settings.bodies.whole_max, deadline::limit))
        .layer(CatchPanicLayer::custom(panicked))
        .layer(from_fn(dashboard::as_page))
        .layer(from_fn(observe::harden))
        .layer(from_fn_with_state(app.clone(), observe::observe))
        .with_state(app)
}

async fn no_such_route(uri: Uri) -> Problem {
    Problem::no_such_route(uri.path())
}

async fn wrong_method(method: Method, uri: Uri) -> Problem {
    let path: String = uri.path().chars().take(200).collect();
    Problem::new(
        StatusCode::METHOD_NOT_ALLOWED,
        "method_not_allowed",
        format!("{path:?} does not take {method}; docs/api.md lists every call"),
    )
}

fn panicked(_: Box<dyn Any + Send + 'static>) -> Response {
    // The panic's own message went to the log by the panic hook; it is not for the client.
    tracing::error!("a handler panicked; the request was answered with 500 and the server goes on");
    Problem::internal().into_response()
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::body::{Body, to_bytes};
    use axum::http::Request;
    use axum::routing::get;
    use tower::ServiceExt as _;

    #[tokio::test]
    async fn a_panic_is_a_problem_and_keeps_its_words_to_itself() {
        async fn bang() {
            panic!("the secret is 42");
        }
        let app = Router::new().route("/", get(bang)).layer(CatchPanicLayer::custom(panicked));
        let answer = app.oneshot(Request::new(Body::empty())).await.unwrap();
        assert_eq!(answer.status(), StatusCode::INTERNAL_SERVER_ERROR);
        let body = to_bytes(answer.into_body(), 1 << 16).await.unwrap();
        let body = String::from_utf8(body.to_vec()).unwrap();
        assert!(body.contains("\"internal\"") && !body.contains("42"), "{body}");
    }
}
