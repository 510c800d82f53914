//! How many statements something costs, as sqlx reports them: COMMIT is among them, BEGIN is not.

use std::cell::Cell;
use std::sync::Once;

thread_local! {
    static COUNT: Cell<usize> = const { Cell::new(0) };
}

/// The listener is one for all threads: tracing remembers for the whole process whether anybody listens
/// to a place in the code, and may have asked a thread that does not.
static LISTENING: Once = Once::new();

/// Counts the statements of this thread, and so of a test that runs on one.
pub struct Statements;

impl Statements {
    /// Counts from now on.
    pub fn counting() -> Self {
        LISTENING.call_once(|| {
            tracing::subscriber::set_global_default(Listener).expect("nobody else listens");
        });
        COUNT.set(0);
        Self
    }

    /// How many there were since the last time.
    pub fn since(&self) -> usize {
        COUNT.replace(0)
    }
}

/// What a statement's event says of it. Nobody waits for a hint, which goes behind the commit.
#[derive(Default)]
struct Statement {
    is_a_hint: bool,
}

impl tracing::field::Visit for Statement {
    fn record_debug(&mut self, _: &tracing::field::Field, value: &dyn std::fmt::Debug) {
        self.is_a_hint |= format!("{value:?}").contains("pg_notify(");
    }
}

struct Listener;

impl tracing::Subscriber for Listener {
    fn enabled(&self, metadata: &tracing::Metadata<'_>) -> bool {
        metadata.target() == "sqlx::query"
    }
    fn new_span(&self, _: &tracing::span::Attributes<'_>) -> tracing::span::Id {
        tracing::span::Id::from_u64(1)
    }
    fn record(&self, _: &tracing::span::Id, _: &tracing::span::Record<'_>) {}
    fn record_follows_from(&self, _: &tracing::span::Id, _: &tracing::span::Id) {}
    fn event(&self, event: &tracing::Event<'_>) {
        let mut statement = Statement::default();
        event.record(&mut statement);
        if !statement.is_a_hint {
            COUNT.set(COUNT.get() + 1);
        }
    }
    fn enter(&self, _: &tracing::span::Id) {}
    fn exit(&self, _: &tracing::span::Id) {}
}
