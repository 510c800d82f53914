//! The `mathesis` program.

use std::process::ExitCode;

/// Answering an assignment is for a good part allocating; docs/performance.md has what this one gains.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    mathesis::postgres::shim::run_if_asked();
    mathesis::cli::main()
}
