//! Every route, in one table: its path, what it says of itself, and its handler.
//!
//! The router and the interface's description are both made of it.

mod pages;

use axum::handler::Handler;
use axum::routing::{self, MethodRouter};
use serde_json::json;

use super::auth::Need;
use super::describe::{Answer, Described, Route, gives, reference, text};
use super::openapi;
use super::operations::{self, CYCLE_OPERATIONS};
use super::{
    App, assignments, audit, blame, conflicts, costs, cycles, dashboard, events, health, history,
    login, metrics, models, notifications, overall, stream, tasks, versions,
};
use crate::runtime::{
    ConflictShown, CycleStatus, ForgottenTask, ModelStanding, Operation, Performed, SwitchedAll,
    blame::{VersionBlame, Why},
};
use crate::store::automation::Switch;
use crate::task_log::{EVENTS_MAX, LogReport, event_schema};

/// The routes of `mathesis serve`, its own description among them, and those of another part of the program.
pub fn all(others: Vec<Route>) -> Vec<Route> {
    let groups = [
        under(Some(Need::Log), "pipeline", logging()),
        under(Some(Need::Look), "pipeline", looking()),
        under(Some(Need::Look), "versions", looking_at_versions()),
        under(Some(Need::Read), "versions", tracing_versions()),
        under(Some(Need::Read), "cycles", reading()),
        under(Some(Need::Read), "brakes", reading_brakes()),
        under(Some(Need::Operate), "brakes", operating()),
        under(Some(Need::Operate), "brakes", settling()),
        under(Some(Need::Operate), "brakes", forgetting()),
        under(Some(Need::Read), "dashboard", pages::reading()),
        under(Some(Need::Act), "dashboard", pages::acting()),
        under(None, "dashboard", pages::open()),
        under(Some(Need::Read), "signs of life", measuring()),
        under(None, "signs of life", open()),
        others,
    ];
    let mut routes: Vec<Route> = groups.into_iter().flatten().collect();
    routes.push(openapi::route(&routes));
    routes
}

fn under(need: Option<Need>, group: &'static str, mut routes: Vec<Route>) -> Vec<Route> {
    for Route { described, .. } in &mut routes {
        (described.need, described.group) = (need, group);
    }
    routes
}

fn get<H: Handler<T, App>, T: 'static>(
    path: &str,
    id: &str,
    summary: &'static str,
    answer: Answer,
    handler: H,
) -> Route {
    Described::new("get", path, id, summary, answer).by(routing::get(handler))
}

fn put<H: Handler<T, App>, T: 'static>(
    path: &str,
    id: &str,
    summary: &'static str,
    answer: Answer,
    handler: H,
) -> Route {
    Described::new("put", path, id, summary, answer).by(routing::put(handler))
}

fn post<H: Handler<T, App>, T: 'static>(
    path: &str,
    id: &str,
    summary: &'static str,
    answer: Answer,
    handler: H,
) -> Route {
    post_by(path, id, summary, answer, routing::post(handler))
}

fn post_by(
    path: &str,
    id: &str,
    summary: &'static str,
    answer: Answer,
    handler: MethodRouter<App>,
) -> Route {
    Described::new("post", path, id, summary, answer).by(handler)
}

/// A pipeline writes.
fn logging() -> Vec<Route> {
    let one = reference("TaskEvent");
    let events = json!({
        "application/json": { "schema": {
            "anyOf": [one, { "type": "array", "items": one, "maxItems": EVENTS_MAX }],
        } },
        "application/x-ndjson": { "schema": { "type": "string", "description": "One event a line" } },
    });
    vec![
        post(
            "/v1/workflows/{workflow}/events",
            "log_events",
            "Logs what the pipeline did: one event, an array of them, or one a line",
            gives::<LogReport>(
                "What was accepted is committed. Events of a list that were refused are named",
            ),
            events::post,
        )
        .takes_content(&events, "TaskEvent", event_schema())
        .refuses(&[409, 410]),
        put(
            "/v1/workflows/{workflow}/tasks/{task}/assignments/{model}",
            "assign",
            "Tells a task its version, and deals it a slot where a test runs",
            gives::<assignments::Answer<'_>>("The same answer however often it is asked for"),
            assignments::put,
        )
        .asks::<assignments::Wish>(),
    ]
}

/// A pipeline looks up.
fn looking() -> Vec<Route> {
    vec![
        get(
            "/v1/workflows/{workflow}/tasks/{task}/assignments/{model}",
            "look_up_assignment",
            "What the task was told, or would be told, without dealing anything",
            gives::<assignments::Answer<'_>>("The assignment"),
            assignments::get,
        )
        .asks::<assignments::Wish>(),
        get(
            "/v1/workflows/{workflow}/cycle",
            "show_open_cycle",
            "Where the open cycle stands",
            gives::<CycleStatus>("In data and in one sentence"),
            cycles::open,
        ),
        get(
            "/v1/workflows/{workflow}/models/{model}",
            "show_model",
            "A model's active version, and whether each run has to ask",
            gives::<ModelStanding>("At most a second old, with an ETag"),
            models::one,
        )
        .reads("if-none-match", "The ETag of the client's copy", &json!({ "type": "string" }))
        .refuses(&[304]),
    ]
}

fn looking_at_versions() -> Vec<Route> {
    vec![
        get(
            "/v1/workflows/{workflow}/models/{model}/versions",
            "list_versions",
            "A model's versions, newest first, without their texts",
            gives::<versions::Versions>("Every version"),
            versions::list,
        ),
        get(
            "/v1/workflows/{workflow}/models/{model}/versions/{number}",
            "show_version",
            "One version with its texts",
            gives::<versions::OneVersion<'_>>("It never changes, and has an ETag"),
            versions::one,
        )
        .reads("if-none-match", "The ETag of the client's copy", &json!({ "type": "string" }))
        .refuses(&[304]),
        get(
            "/v1/workflows/{workflow}/models/{model}/versions/{from}/diff/{to}",
            "compare_versions",
            "What changed between two versions",
            gives::<versions::Diff>("A unified diff").or_text("text/x-diff"),
            versions::diff,
        ),
    ]
}

fn tracing_versions() -> Vec<Route> {
    vec![
        get(
            "/v1/workflows/{workflow}/models/{model}/versions/{number}/blame",
            "blame_version",
            "Where each section of a version comes from",
            gives::<VersionBlame>("Section by section"),
            blame::version,
        ),
        get(
            "/v1/workflows/{workflow}/tasks/{task}/why",
            "explain_task",
            "Why a task's picture looks as it does",
            gives::<Why>("The picture's version, and what that rests on"),
            blame::task,
        )
        .asks::<blame::Picture>()
        .refuses(&[409]),
    ]
}

/// People and their tools look.
fn reading() -> Vec<Route> {
    vec![
        get(
            "/v1/workflows",
            "list_workflows",
            "The workflows of this server",
            gives::<history::Workflows>("Each with its models"),
            history::workflows,
        ),
        get(
            "/v1/workflows/{workflow}/cycles",
            "list_cycles",
            "The newest cycles",
            gives::<cycles::Cycles>("Newest first"),
            cycles::list,
        )
        .asks::<cycles::Page>(),
        get(
            "/v1/workflows/{workflow}/cycles/{number}",
            "show_cycle",
            "Where a cycle stands, or how it ended",
            gives::<CycleStatus>("In data and in one sentence"),
            cycles::one,
        ),
        get(
            "/v1/workflows/{workflow}/cycles/{number}/transitions",
            "list_transitions",
            "A cycle's history",
            gives::<cycles::Transitions>("Oldest first, without a gap"),
            cycles::transitions,
        ),
        get(
            "/v1/workflows/{workflow}/cycles/{number}/effects",
            "list_effects",
            "A cycle's work",
            gives::<cycles::Effects>("Oldest first"),
            cycles::effects,
        ),
        get(
            "/v1/workflows/{workflow}/cycles/{number}/calls",
            "list_calls",
            "A cycle's calls of Claude and their cost",
            gives::<cycles::Calls>("Oldest first"),
            cycles::calls,
        ),
        get(
            "/v1/workflows/{workflow}/costs",
            "list_costs",
            "What Claude cost, by month and by cycle",
            gives::<costs::Costs>("Newest first"),
            costs::costs,
        )
        .asks::<cycles::Page>(),
        get(
            "/v1/workflows/{workflow}/insights",
            "list_insights",
            "What was learnt",
            gives::<history::Insights>("Latest first"),
            history::insights,
        )
        .asks::<cycles::Page>(),
        get(
            "/v1/workflows/{workflow}/changes",
            "list_changes",
            "What was changed in the config files",
            gives::<history::Changes>("Latest first"),
            history::changes,
        )
        .asks::<cycles::Page>(),
        get(
            "/v1/workflows/{workflow}/notifications",
            "list_notifications",
            "What the webhook was told, and what not yet",
            gives::<notifications::Notifications>("Latest first"),
            notifications::list,
        )
        .asks::<cycles::Page>(),
        get(
            "/v1/workflows/{workflow}/stream",
            "stream",
            "Transitions as they happen, and that tasks were counted anew",
            text("text/event-stream", "Server-sent events, until either side ends it"),
            stream::transitions,
        )
        .reads(
            "last-event-id",
            "A cycle and a position in its history, such as 12-3; what came after it is told first",
            &json!({ "type": "string", "pattern": "^[0-9]{1,18}-[0-9]{1,18}$" }),
        )
        .refuses(&[400]),
    ]
}

fn reading_brakes() -> Vec<Route> {
    vec![
        get(
            "/v1/workflows/{workflow}/conflicts",
            "list_conflicts",
            "Config files that a person edited",
            gives::<conflicts::Conflicts>("Those that stand first"),
            conflicts::list,
        ),
        get(
            "/v1/workflows/{workflow}/conflicts/{number}",
            "show_conflict",
            "One of them, with what was changed by whom",
            gives::<ConflictShown>("What stands against what"),
            conflicts::one,
        ),
        get(
            "/v1/workflows/{workflow}/audit",
            "list_acts_of_workflow",
            "What operators did to a workflow",
            gives::<audit::Trail>("Latest first"),
            audit::of_workflow,
        )
        .asks::<audit::Which>(),
        get(
            "/v1/audit",
            "list_acts",
            "What operators did to every workflow, and to keys",
            gives::<audit::Trail>("Latest first"),
            audit::all,
        )
        .asks::<audit::Which>(),
        get(
            "/v1/automation",
            "show_switch",
            "The switch over all workflows",
            gives::<Switch>("Whether it is on, and who moved it last"),
            overall::switch,
        ),
    ]
}

/// Operators act.
fn operating() -> Vec<Route> {
    let mut routes = vec![
        post(
            "/v1/workflows/{workflow}/models/{model}/rollback",
            "roll_back",
            "Puts a version back, files included",
            gives::<Performed>("What was done"),
            operations::rollback,
        )
        .takes::<operations::RollbackTo>(true),
        post(
            "/v1/workflows/{workflow}/automation",
            "switch_workflow",
            "Switches a workflow's learning on or off",
            gives::<Performed>("What was done"),
            operations::automation,
        )
        .takes::<operations::Automation>(true),
        post(
            "/v1/automation",
            "switch_all",
            "Switches all learning on or off, of workflows that come later, too",
            gives::<SwitchedAll>("What was done"),
            overall::move_switch,
        )
        .takes::<overall::Wish>(true),
    ];
    for (name, operation) in [("pause", Operation::Pause), ("resume", Operation::Resume)] {
        routes.push(
            post_by(
                &format!("/v1/cycles/{name}"),
                &format!("{name}_all"),
                "The same to the open cycle of every workflow",
                gives::<overall::All>("What became of each"),
                overall::on_all(operation),
            )
            .takes::<overall::Why>(false),
        );
    }
    for (name, operation) in CYCLE_OPERATIONS {
        routes.push(
            post_by(
                &format!("/v1/workflows/{{workflow}}/cycles/{{number}}/{name}"),
                name,
                operation_in_words(name),
                gives::<Performed>("What was done"),
                operations::on_cycle(operation),
            )
            .takes::<operations::Said>(false),
        );
    }
    routes.into_iter().map(|route| route.refuses(&[409])).collect()
}

/// Operators decide what becomes of a hand-edited file.
fn settling() -> Vec<Route> {
    let said = || gives::<Performed>("What was ordered");
    let of = |name: &str| format!("/v1/workflows/{{workflow}}/conflicts/{{number}}/{name}");
    let routes = vec![
        post(
            &of("keep-mine"),
            "keep_mine",
            "Makes the edit a version",
            said(),
            conflicts::keep_mine,
        )
        .takes::<conflicts::Decided>(true),
        post(
            &of("take-theirs"),
            "take_theirs",
            "Puts the active version over the edit, which is kept as a version",
            said(),
            conflicts::take_theirs,
        )
        .takes::<conflicts::Decided>(true),
        post(&of("cancel"), "leave_conflict", "Leaves it standing", said(), conflicts::cancel)
            .takes::<conflicts::Left>(false),
    ];
    routes.into_iter().map(|route| route.refuses(&[409])).collect()
}

/// Operators take back.
fn forgetting() -> Vec<Route> {
    let described = Described::new(
        "delete",
        "/v1/workflows/{workflow}/tasks/{task}",
        "forget_task",
        "Forgets a task, its texts and what quotes it",
        gives::<ForgottenTask>("What is gone; twice is as good as once"),
    );
    let route = described.by(routing::delete(tasks::forget)).asks::<tasks::Which>();
    vec![route.takes::<tasks::Said>(true).refuses(&[409])]
}

/// What an operation does to a cycle.
pub(super) fn operation_in_words(name: &str) -> &'static str {
    match name {
        "pause" => "Pauses the cycle: what runs will finish, nothing new starts",
        "resume" => "Lifts the operator's pause, and no other hold",
        "cancel" => "Ends the cycle; what it is just adopting is put back first",
        "approve" => "Approves what waits for a person's word",
        "refuse" => "Refuses candidates; when none is left, the cycle ends",
        "retry" => "Tries what failed once more",
        _ => "Performs one pending step of a held cycle",
    }
}

fn measuring() -> Vec<Route> {
    vec![get(
        "/metrics",
        "measure",
        "Prometheus metrics",
        text("text/plain", "The metrics"),
        metrics::metrics,
    )]
}

/// What needs no key: signs of life.
fn open() -> Vec<Route> {
    vec![
        get("/healthz", "live", "The process runs", text("text/plain", "It does"), health::live),
        get(
            "/readyz",
            "ready",
            "The database answers and has this program's schema",
            text("text/plain", "It does"),
            health::ready,
        ),
    ]
}
