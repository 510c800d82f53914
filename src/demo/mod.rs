//! A stand-in for the demonstration, which is being written elsewhere.

/// How the demonstration runs.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// End after the last step, for scripts.
    pub exit: bool,
    /// The port; none takes a free one.
    pub port: Option<u16>,
}

/// Runs it and gives the exit code.
#[expect(clippy::unused_async, reason = "a stand-in")]
pub async fn run(_: Options) -> u8 {
    1
}
