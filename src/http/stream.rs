//! `GET …/stream`: transitions as they happen, as server-sent events, and that figures have changed.
//!
//! The history is read again every second, and at once when another part of the system hints that
//! something moved. One database connection listens for all streams of the process, while there is one.
//! A transition's id is `cycle-seq`; a client that comes back with it in `Last-Event-ID` misses nothing.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::Extension;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::sse::{Event, KeepAlive, Sse};
use futures::{Stream, stream};
use serde::Serialize;
use sqlx::postgres::PgListener;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::App;
use super::cycles::Transition;
use super::error::Problem;
use super::path::PathOf;
use super::serve::Stopping;
use crate::store::{Store, StoreError, cycles, figures};

const STREAMS_MAX: usize = 200;
const POLL: Duration = Duration::from_secs(1);
const ROWS_MAX: i64 = 200;

/// The hints of other processes, told to every stream.
#[derive(Debug, Default)]
pub struct Hints {
    open: AtomicUsize,
    ears: Mutex<Option<watch::Receiver<()>>>,
}

impl Hints {
    /// A receiver that changes at each hint; the listener is started by the first one.
    fn hear(&self, store: &Store) -> watch::Receiver<()> {
        let mut ears = self.ears.lock().unwrap_or_else(PoisonError::into_inner);
        match &*ears {
            // A sender that is gone means that the listener broke, or had nobody left to tell.
            Some(receiver) if receiver.has_changed().is_ok() => receiver.clone(),
            _ => {
                let (sender, receiver) = watch::channel(());
                *ears = Some(receiver.clone());
                tokio::spawn(listen(store.clone(), sender));
                receiver
            }
        }
    }
}

/// Tells of hints until nobody but the keeper of the receiver is left, or the connection breaks.
async fn listen(store: Store, sender: watch::Sender<()>) {
    let heard = async {
        let mut listener = PgListener::connect_with(store.pool()).await?;
        listener.listen("mathesis").await?;
        while sender.receiver_count() > 1 {
            if let Ok(hint) = tokio::time::timeout(POLL, listener.recv()).await {
                hint?;
                sender.send_replace(());
            }
        }
        Ok::<(), sqlx::Error>(())
    };
    if let Err(error) = heard.await {
        tracing::debug!(error = %error, "listening for hints failed; streams go on by polling");
    }
}

#[derive(Serialize)]
struct Told<'t> {
    cycle: i64,
    #[serde(flatten)]
    transition: &'t Transition,
}

struct Turn {
    app: App,
    workflow_id: i64,
    after: (i64, i64),
    ready: VecDeque<(i64, Transition)>,
    /// The figures' version that was told last.
    figures: i64,
    hints: watch::Receiver<()>,
    stop: CancellationToken,
    _place: Place,
}

/// One of the streams that may be open at once.
struct Place(Arc<Hints>);

impl Drop for Place {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Ordering::Relaxed);
    }
}

/// `GET …/stream`
///
/// # Errors
/// A problem when the workflow is unknown, the id to begin after is none, or the database is away.
pub async fn transitions(
    State(app): State<App>,
    PathOf(workflow): PathOf<String>,
    stopping: Option<Extension<Stopping>>,
    headers: HeaderMap,
) -> Result<Sse<impl Stream<Item = Result<Event, axum::Error>>>, Problem> {
    let workflow = app.workflow(&workflow)?;
    let after = match headers.get("last-event-id") {
        Some(id) => id.to_str().ok().and_then(parse_id).ok_or_else(|| {
            Problem::new(
                StatusCode::BAD_REQUEST,
                "invalid_event_id",
                "`Last-Event-ID` is a cycle and a position in its history, such as 12-3",
            )
        })?,
        None => now(&app, workflow.workflow_id).await?,
    };
    let place = Place(Arc::clone(&app.hints));
    if place.0.open.fetch_add(1, Ordering::Relaxed) >= STREAMS_MAX {
        return Err(Problem::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "too_many_streams",
            format!("{STREAMS_MAX} streams are open already; close one, or poll …/transitions"),
        ));
    }
    let turn = Turn {
        hints: app.hints.hear(&app.engine.store),
        workflow_id: workflow.workflow_id,
        after,
        ready: VecDeque::new(),
        figures: figures::version(app.engine.store.pool(), workflow.workflow_id).await?,
        stop: stopping.map(|Extension(Stopping(stop))| stop).unwrap_or_default(),
        _place: place,
        app,
    };
    let events = stream::unfold(turn, async |mut turn| {
        let event = turn.next().await?;
        Some((event, turn))
    });
    Ok(Sse::new(events).keep_alive(KeepAlive::new().interval(Duration::from_secs(15))))
}

/// Where the history ends now.
async fn now(app: &App, workflow_id: i64) -> Result<(i64, i64), StoreError> {
    let open = cycles::find_open(app.engine.store.pool(), workflow_id).await?;
    Ok(open.map_or((0, 0), |cycle| (cycle.number, cycle.snapshot.seq)))
}

fn parse_id(id: &str) -> Option<(i64, i64)> {
    let (cycle, seq) = id.trim().split_once('-')?;
    Some((cycle.parse().ok()?, seq.parse().ok()?))
}

impl Turn {
    /// The next event; none when the server stops.
    async fn next(&mut self) -> Option<Result<Event, axum::Error>> {
        loop {
            if let Some((cycle, transition)) = self.ready.pop_front() {
                self.after = (cycle, transition.seq());
                let id = format!("{cycle}-{}", transition.seq());
                let told = Told { cycle, transition: &transition };
                return Some(Event::default().event("transition").id(id).json_data(told));
            }
            self.hints.borrow_and_update();
            if self.read().await > 0 {
                continue;
            }
            if let Some(event) = self.changed_figures().await {
                return Some(event);
            }
            self.wait().await?;
        }
    }

    async fn read(&mut self) -> usize {
        let pool = self.app.engine.store.pool();
        match cycles::history_after(pool, self.workflow_id, self.after, ROWS_MAX).await {
            Ok(rows) => {
                let rows = rows.into_iter().map(|(cycle, row)| (cycle, Transition::from(row)));
                self.ready.extend(rows);
                self.ready.len()
            }
            // The stream stays open: the next look may find the database again.
            Err(error) => {
                tracing::warn!(error = %error, "the history could not be read for a stream; trying again");
                0
            }
        }
    }

    /// Tells that tasks or scores were counted anew, without an id: whoever missed it sees the figures
    /// when it looks.
    async fn changed_figures(&mut self) -> Option<Result<Event, axum::Error>> {
        let pool = self.app.engine.store.pool();
        // A database that is away is told of by the history's own look.
        let version = figures::version(pool, self.workflow_id).await.ok()?;
        let changed = version != self.figures;
        self.figures = version;
        changed.then(|| {
            Event::default().event("figures").json_data(serde_json::json!({ "version": version }))
        })
    }

    async fn wait(&mut self) -> Option<()> {
        let hinted = async {
            if self.hints.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        };
        tokio::select! {
            () = self.stop.cancelled() => None,
            () = hinted => Some(()),
            () = tokio::time::sleep(POLL) => Some(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_a_cycle_and_a_position() {
        assert_eq!(parse_id("12-3"), Some((12, 3)));
        for wrong in ["", "12", "12-", "-3", "a-b", "12-3-4", "99999999999999999999-1"] {
            assert_eq!(parse_id(wrong), None, "{wrong:?}");
        }
    }
}
