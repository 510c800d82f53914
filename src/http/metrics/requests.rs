//! What this process has answered since it started: requests, events, and how long the two hot calls took.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use super::page::{Labels, Page};

/// The routes whose time has a histogram: an orchestrator waits for these in every task.
const ASSIGNMENT: (&str, &str) =
    ("PUT", "/v1/workflows/{workflow}/tasks/{task}/assignments/{model}");
const INGEST: (&str, &str) = ("POST", "/v1/workflows/{workflow}/events");
/// The buckets' upper ends, in microseconds and as Prometheus writes them in seconds.
const BOUNDS: [(u64, &str); 13] = [
    (250, "0.00025"),
    (500, "0.0005"),
    (1_000, "0.001"),
    (2_500, "0.0025"),
    (5_000, "0.005"),
    (10_000, "0.01"),
    (25_000, "0.025"),
    (50_000, "0.05"),
    (100_000, "0.1"),
    (250_000, "0.25"),
    (500_000, "0.5"),
    (1_000_000, "1"),
    (5_000_000, "5"),
];

type Kind = (String, String, u16);

#[derive(Debug, Clone, Copy, Default)]
struct Tally {
    requests: u64,
    seconds: f64,
}

/// How long something took, by buckets.
#[derive(Debug, Default)]
struct Histogram {
    /// One a bound, and one for what took longer than all of them.
    counts: [AtomicU64; BOUNDS.len() + 1],
    micros: AtomicU64,
}

impl Histogram {
    fn observe(&self, took: Duration) {
        let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        let bucket = BOUNDS.partition_point(|(bound, _)| *bound < micros);
        if let Some(count) = self.counts.get(bucket) {
            count.fetch_add(1, Ordering::Relaxed);
        }
        self.micros.fetch_add(micros, Ordering::Relaxed);
    }

    fn write(&self, page: &mut Page, name: &str, help: &str) {
        page.head("histogram", name, help);
        let mut so_far = 0;
        let ends = BOUNDS.iter().map(|(_, text)| *text).chain(["+Inf"]);
        for (count, end) in self.counts.iter().zip(ends) {
            so_far += count.load(Ordering::Relaxed);
            page.sample(&format!("{name}_bucket"), &Labels::of(&[("le", end)]), so_far);
        }
        let micros = Duration::from_micros(self.micros.load(Ordering::Relaxed));
        page.sample(&format!("{name}_sum"), &Labels::default(), micros.as_secs_f64());
        page.sample(&format!("{name}_count"), &Labels::default(), so_far);
    }
}

/// The requests of this process, by method, route and status.
#[derive(Debug, Default)]
pub struct Requests {
    by_kind: Mutex<BTreeMap<Kind, Tally>>,
    assignment: Histogram,
    ingest: Histogram,
    accepted: AtomicU64,
    duplicate: AtomicU64,
    rejected: AtomicU64,
}

impl Requests {
    /// Counts one. A route is its pattern, never its path, so that the kinds stay few.
    pub fn count(&self, method: &str, route: &str, status: u16, took: Duration) {
        if status < 300 && (method, route) == ASSIGNMENT {
            self.assignment.observe(took);
        } else if status < 300 && (method, route) == INGEST {
            self.ingest.observe(took);
        }
        let kind = (method.to_owned(), route.to_owned(), status);
        let mut by_kind = self.by_kind.lock().unwrap_or_else(PoisonError::into_inner);
        let tally = by_kind.entry(kind).or_default();
        tally.requests += 1;
        tally.seconds += took.as_secs_f64();
    }

    /// Counts the events of one call, each after its fate.
    pub fn count_events(&self, accepted: usize, duplicate: usize, rejected: usize) {
        for (counter, events) in
            [(&self.accepted, accepted), (&self.duplicate, duplicate), (&self.rejected, rejected)]
        {
            counter.fetch_add(u64::try_from(events).unwrap_or(u64::MAX), Ordering::Relaxed);
        }
    }

    pub(super) fn write(&self, page: &mut Page) {
        let by_kind = self.by_kind.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let labels = |(method, route, status): &Kind| {
            Labels::of(&[("method", method), ("route", route), ("status", &status.to_string())])
        };
        page.family(
            "counter",
            "mathesis_http_requests_total",
            "Requests answered by this process.",
            by_kind.iter().map(|(kind, tally)| (labels(kind), tally.requests)),
        );
        page.family(
            "counter",
            "mathesis_http_request_seconds_total",
            "Seconds from the request's head to its answer's head, summed.",
            by_kind.iter().map(|(kind, tally)| (labels(kind), tally.seconds)),
        );
        let help = "Seconds that an answered assignment call took in this process.";
        self.assignment.write(page, "mathesis_assignment_seconds", help);
        let help =
            "Seconds that an acknowledged call with events took in this process, commit included.";
        self.ingest.write(page, "mathesis_ingest_seconds", help);
        page.family(
            "counter",
            "mathesis_events_total",
            "Events that came to this process over HTTP, by what became of them.",
            [
                ("accepted", &self.accepted),
                ("duplicate", &self.duplicate),
                ("rejected", &self.rejected),
            ]
            .map(|(outcome, count)| {
                (Labels::of(&[("outcome", outcome)]), count.load(Ordering::Relaxed))
            }),
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_counted_by_route_and_status_and_the_hot_ones_by_their_time() {
        let requests = Requests::default();
        for status in [200, 200, 404] {
            requests.count("GET", "/v1/workflows", status, Duration::from_millis(250));
        }
        for micros in [250, 251, 900, 6_000_000] {
            requests.count(ASSIGNMENT.0, ASSIGNMENT.1, 200, Duration::from_micros(micros));
        }
        requests.count(ASSIGNMENT.0, ASSIGNMENT.1, 503, Duration::from_secs(30));
        requests.count(INGEST.0, INGEST.1, 200, Duration::from_millis(4));
        requests.count_events(98, 1, 1);
        let mut page = Page::default();
        requests.write(&mut page);
        insta::assert_snapshot!(page.text());
    }
}
