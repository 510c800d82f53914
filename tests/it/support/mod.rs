//! What the integration tests share: one throw-away PostgreSQL a run, one database a test, and a stage.

#[allow(dead_code, reason = "shared with the crash campaign")]
mod cluster;
mod databases;
#[allow(dead_code, reason = "shared with the crash campaign")]
pub mod disk;
mod documents;
mod events;
mod probe;
pub mod receiver;
#[allow(dead_code, reason = "shared with the crash campaign")]
mod record;
pub mod site;
pub mod stage;
mod statements;

pub use databases::{database, database_url, discard, empty_database_url};
pub use events::{
    TaskRun, analysis_answer, edit_answer, edit_because, nano_edit_answer, no_edit_answer,
};
pub use probe::{asking, candidates_win, no_difference};
pub use record::Record;
pub use stage::Stage;
pub use statements::Statements;

/// Waits without sleeping until something is seen to be so.
pub async fn until(mut seen: impl AsyncFnMut() -> bool) {
    let deadline = tokio::time::Instant::now() + std::time::Duration::from_secs(20);
    while !seen().await {
        assert!(tokio::time::Instant::now() < deadline, "it never came about");
        tokio::task::yield_now().await;
    }
}
