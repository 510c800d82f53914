//! The `mathesis` binary.

fn main() {
    mathesis::postgres::shim::run_if_asked();
}
