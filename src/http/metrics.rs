//! `GET /metrics`: a handful of numbers in Prometheus' text format.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use axum::extract::State;
use axum::http::header;
use axum::response::IntoResponse;
use rust_decimal::Decimal;

use super::App;
use super::error::Problem;
use crate::effects::month_start;
use crate::store::{claude_calls, cycles, holds, window};

/// Tasks beyond ten triggers are not counted further: the gauge only has to show that they pile up.
const WAITING_TRIGGERS_MAX: i64 = 10;

type Kind = (String, String, u16);

#[derive(Debug, Clone, Copy, Default)]
struct Tally {
    requests: u64,
    seconds: f64,
}

/// The requests of this process, by method, route and status.
#[derive(Debug, Default)]
pub struct Requests {
    by_kind: Mutex<BTreeMap<Kind, Tally>>,
}

impl Requests {
    /// Counts one. A route is its pattern, never its path, so that the kinds stay few.
    pub fn count(&self, method: &str, route: &str, status: u16, took: Duration) {
        let kind = (method.to_owned(), route.to_owned(), status);
        let mut by_kind = self.by_kind.lock().unwrap_or_else(PoisonError::into_inner);
        let tally = by_kind.entry(kind).or_default();
        tally.requests += 1;
        tally.seconds += took.as_secs_f64();
    }

    fn write(&self, page: &mut Page) {
        let by_kind = self.by_kind.lock().unwrap_or_else(PoisonError::into_inner).clone();
        page.head("mathesis_http_requests_total", "counter", "Requests answered by this process.");
        for ((method, route, status), tally) in &by_kind {
            let labels = request_labels(method, route, *status);
            page.line("mathesis_http_requests_total", &labels, tally.requests);
        }
        let help = "Seconds from the request's head to its answer's head, summed.";
        page.head("mathesis_http_request_seconds_total", "counter", help);
        for ((method, route, status), tally) in &by_kind {
            let labels = request_labels(method, route, *status);
            page.line("mathesis_http_request_seconds_total", &labels, tally.seconds);
        }
    }
}

fn request_labels(method: &str, route: &str, status: u16) -> String {
    format!("method=\"{}\",route=\"{}\",status=\"{status}\"", escaped(method), escaped(route))
}

#[derive(Debug, Default)]
struct Page(String);

impl Page {
    fn head(&mut self, name: &str, kind: &str, help: &str) {
        // Writing to a String cannot fail.
        let _ = writeln!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}");
    }

    fn line(&mut self, name: &str, labels: &str, value: impl std::fmt::Display) {
        let _ = writeln!(self.0, "{name}{{{labels}}} {value}");
    }
}

fn escaped(label: &str) -> String {
    label.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

/// A gauge's name, its help, and how it is read off a workflow.
type Gauge = (&'static str, &'static str, fn(&Standing) -> String);

#[derive(Debug)]
struct Standing {
    workflow: String,
    state: &'static str,
    cycle: i64,
    holds: usize,
    tasks_waiting: i64,
    cost_usd: Decimal,
}

/// `GET /metrics`
///
/// # Errors
/// A problem when the database is away.
pub async fn metrics(State(app): State<App>) -> Result<impl IntoResponse, Problem> {
    let standings = standings(&app).await?;
    let mut page = Page::default();
    app.requests.write(&mut page);
    let gauges: [Gauge; 4] = [
        ("mathesis_cycle_number", "The number of the open cycle.", |it| it.cycle.to_string()),
        ("mathesis_holds_standing", "Holds on the open cycle and its workflow.", |it| {
            it.holds.to_string()
        }),
        (
            "mathesis_tasks_waiting",
            "Completed tasks that wait for an analysis, counted up to ten triggers.",
            |it| it.tasks_waiting.to_string(),
        ),
        (
            "mathesis_claude_cost_usd_month",
            "What Claude cost this month in the workflow's time zone, US dollars, running calls by estimate.",
            |it| it.cost_usd.normalize().to_string(),
        ),
    ];
    page.head("mathesis_cycle_state", "gauge", "1 for the state that the open cycle is in.");
    for it in &standings {
        let labels = format!("workflow=\"{}\",state=\"{}\"", escaped(&it.workflow), it.state);
        page.line("mathesis_cycle_state", &labels, 1);
    }
    for (name, help, value) in gauges {
        page.head(name, "gauge", help);
        for it in &standings {
            page.line(name, &format!("workflow=\"{}\"", escaped(&it.workflow)), value(it));
        }
    }
    Ok(([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], page.0))
}

async fn standings(app: &App) -> Result<Vec<Standing>, Problem> {
    let pool = app.engine.store.reads();
    let mut standings = Vec::new();
    for workflow in app.engine.registry.all() {
        let id = workflow.workflow_id;
        let Some(cycle) = cycles::find_open(pool, id).await? else {
            continue;
        };
        let mut conn = pool.acquire().await.map_err(crate::store::StoreError::from)?;
        let holds = holds::standing(&mut conn, id, cycle.number).await?.len();
        drop(conn);
        let limit = i64::from(cycle.snapshot.rules.trigger_tasks) * WAITING_TRIGGERS_MAX;
        let since = month_start(app.engine.now(), workflow.definition.timezone);
        standings.push(Standing {
            workflow: workflow.name().to_owned(),
            state: cycle.snapshot.state.name().as_str(),
            cycle: cycle.number,
            holds,
            tasks_waiting: window::waiting(pool, id, limit).await?,
            cost_usd: claude_calls::cost_since(pool, id, since).await?,
        });
    }
    Ok(standings)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_counted_by_route_and_status() {
        let requests = Requests::default();
        for status in [200, 200, 404] {
            requests.count("GET", "/v1/workflows", status, Duration::from_millis(250));
        }
        let mut page = Page::default();
        requests.write(&mut page);
        insta::assert_snapshot!(page.0, @r#"
        # HELP mathesis_http_requests_total Requests answered by this process.
        # TYPE mathesis_http_requests_total counter
        mathesis_http_requests_total{method="GET",route="/v1/workflows",status="200"} 2
        mathesis_http_requests_total{method="GET",route="/v1/workflows",status="404"} 1
        # HELP mathesis_http_request_seconds_total Seconds from the request's head to its answer's head, summed.
        # TYPE mathesis_http_request_seconds_total counter
        mathesis_http_request_seconds_total{method="GET",route="/v1/workflows",status="200"} 0.5
        mathesis_http_request_seconds_total{method="GET",route="/v1/workflows",status="404"} 0.25
        "#);
    }

    #[test]
    fn a_label_cannot_break_out_of_its_quotes() {
        assert_eq!(escaped("a\"b\\c\nd"), "a\\\"b\\\\c\\nd");
    }
}
