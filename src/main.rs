//! The `mathesis` program.

use std::process::ExitCode;

fn main() -> ExitCode {
    mathesis::postgres::shim::run_if_asked();
    mathesis::cli::main()
}
