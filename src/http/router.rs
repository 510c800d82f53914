//! Every route, with what it needs.

use std::any::Any;
use std::time::Duration;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::http::{Method, StatusCode, Uri};
use axum::middleware::{from_fn, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::{delete, get, post, put};
use tower_http::catch_panic::CatchPanicLayer;
use tower_http::timeout::RequestBodyTimeoutLayer;

use super::auth::{Need, gate};
use super::error::Problem;
use super::operations::{self, CYCLE_OPERATIONS};
use super::{
    App, assignments, audit, blame, conflicts, costs, cycles, dashboard, events, health, history,
    login, metrics, models, notifications, observe, overall, stream, tasks, versions,
};
use crate::runtime::Operation;

/// How long a body may pause between two of its parts.
const BODY_PAUSE_MAX: Duration = Duration::from_secs(20);
/// The largest form of a browser, in bytes.
const FORM_BYTES_MAX: usize = 16 << 10;

/// The whole interface.
pub fn router(app: App) -> Router {
    router_with(app, Router::new())
}

/// The whole interface, and routes of another part of the program that see to it themselves who may call.
pub fn router_with(app: App, others: Router<App>) -> Router {
    let needing = |need: Need, routes: Router<App>| {
        routes.route_layer(from_fn_with_state((app.clone(), need), gate))
    };
    Router::new()
        .merge(needing(Need::Log, logging()))
        .merge(needing(Need::Look, looking()))
        .merge(needing(Need::Read, reading()))
        .merge(needing(Need::Operate, operating()))
        .merge(needing(Need::Act, acting()))
        .merge(open())
        .merge(others)
        .fallback(no_such_route)
        .method_not_allowed_fallback(wrong_method)
        .layer(DefaultBodyLimit::max(FORM_BYTES_MAX))
        .layer(RequestBodyTimeoutLayer::new(BODY_PAUSE_MAX))
        .layer(CatchPanicLayer::custom(panicked))
        .layer(from_fn(observe::harden))
        .layer(from_fn_with_state(app.clone(), observe::observe))
        .with_state(app)
}

/// A pipeline writes.
fn logging() -> Router<App> {
    Router::new()
        .route("/v1/workflows/{workflow}/events", post(events::post))
        .route("/v1/workflows/{workflow}/tasks/{task}/assignments/{model}", put(assignments::put))
}

/// A pipeline looks up.
fn looking() -> Router<App> {
    Router::new()
        .route("/v1/workflows/{workflow}/tasks/{task}/assignments/{model}", get(assignments::get))
        .route("/v1/workflows/{workflow}/cycle", get(cycles::open))
        .route("/v1/workflows/{workflow}/models/{model}", get(models::one))
        .route("/v1/workflows/{workflow}/models/{model}/versions", get(versions::list))
        .route("/v1/workflows/{workflow}/models/{model}/versions/{number}", get(versions::one))
        .route(
            "/v1/workflows/{workflow}/models/{model}/versions/{from}/diff/{to}",
            get(versions::diff),
        )
}

/// People and their tools look.
fn reading() -> Router<App> {
    Router::new()
        .route("/v1/workflows", get(history::workflows))
        .route(
            "/v1/workflows/{workflow}/models/{model}/versions/{number}/blame",
            get(blame::version),
        )
        .route("/v1/workflows/{workflow}/tasks/{task}/why", get(blame::task))
        .route("/v1/workflows/{workflow}/cycles", get(cycles::list))
        .route("/v1/workflows/{workflow}/cycles/{number}", get(cycles::one))
        .route("/v1/workflows/{workflow}/cycles/{number}/transitions", get(cycles::transitions))
        .route("/v1/workflows/{workflow}/cycles/{number}/effects", get(cycles::effects))
        .route("/v1/workflows/{workflow}/cycles/{number}/calls", get(cycles::calls))
        .route("/v1/workflows/{workflow}/conflicts", get(conflicts::list))
        .route("/v1/workflows/{workflow}/conflicts/{number}", get(conflicts::one))
        .route("/v1/workflows/{workflow}/costs", get(costs::costs))
        .route("/v1/workflows/{workflow}/insights", get(history::insights))
        .route("/v1/workflows/{workflow}/changes", get(history::changes))
        .route("/v1/workflows/{workflow}/notifications", get(notifications::list))
        .route("/v1/workflows/{workflow}/audit", get(audit::of_workflow))
        .route("/v1/audit", get(audit::all))
        .route("/v1/automation", get(overall::switch))
        .route("/v1/workflows/{workflow}/stream", get(stream::transitions))
        .route("/analytics", get(dashboard::analytics))
        .route("/analytics/{workflow}", get(dashboard::overview))
        .route("/analytics/{workflow}/cycles", get(dashboard::cycles))
        .route("/analytics/{workflow}/cycles/{number}", get(dashboard::cycle))
        .route("/analytics/{workflow}/cycles/{number}/report", get(dashboard::report))
        .route("/analytics/{workflow}/verdicts", get(dashboard::verdicts))
        .route("/analytics/{workflow}/insights", get(dashboard::insights))
        .route("/analytics/{workflow}/changes", get(dashboard::changes))
        .route("/analytics/{workflow}/conflicts", get(dashboard::conflicts))
        .route("/analytics/{workflow}/conflicts/{number}", get(dashboard::conflict))
        .route("/analytics/{workflow}/tasks", get(dashboard::tasks))
        .route("/analytics/{workflow}/tasks/{task}", get(dashboard::task))
        .route("/analytics/{workflow}/models/{model}", get(dashboard::model))
        .route("/analytics/{workflow}/models/{model}/versions/{version}", get(dashboard::version))
        .route("/metrics", get(metrics::metrics))
}

/// Operators act.
fn operating() -> Router<App> {
    let mut routes = Router::new()
        .route("/v1/workflows/{workflow}/models/{model}/rollback", post(operations::rollback))
        .route("/v1/workflows/{workflow}/automation", post(operations::automation))
        .route("/v1/workflows/{workflow}/tasks/{task}", delete(tasks::forget))
        .route("/v1/workflows/{workflow}/conflicts/{number}/keep-mine", post(conflicts::keep_mine))
        .route(
            "/v1/workflows/{workflow}/conflicts/{number}/take-theirs",
            post(conflicts::take_theirs),
        )
        .route("/v1/workflows/{workflow}/conflicts/{number}/cancel", post(conflicts::cancel))
        .route("/v1/automation", post(overall::move_switch))
        .route("/v1/cycles/pause", overall::on_all(Operation::Pause))
        .route("/v1/cycles/resume", overall::on_all(Operation::Resume));
    for (name, operation) in CYCLE_OPERATIONS {
        let path = format!("/v1/workflows/{{workflow}}/cycles/{{number}}/{name}");
        routes = routes.route(&path, operations::on_cycle(operation));
    }
    routes
}

/// Operators act through the pages.
fn acting() -> Router<App> {
    let mut routes = Router::new()
        .route("/analytics/{workflow}/automation", post(dashboard::automation))
        .route("/analytics/{workflow}/models/{model}/rollback", post(dashboard::rollback))
        .route("/analytics/{workflow}/conflicts/{number}/settle", post(dashboard::settle));
    for (name, operation) in CYCLE_OPERATIONS {
        let path = format!("/analytics/{{workflow}}/cycles/{{number}}/{name}");
        routes = routes.route(&path, dashboard::on_cycle(operation));
    }
    routes
}

/// What needs no key: signs of life, the way in, and what every page loads.
fn open() -> Router<App> {
    Router::new()
        .route("/", get(dashboard::front))
        .route("/healthz", get(health::live))
        .route("/readyz", get(health::ready))
        .route("/login", get(login::form).post(login::sign_in))
        .route("/logout", post(login::sign_out))
        .route(crate::dashboard::STYLESHEET_PATH, get(dashboard::stylesheet))
        .route(crate::dashboard::SCRIPT_PATH, get(dashboard::script))
        .route("/assets/style.css", get(dashboard::stylesheet))
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
