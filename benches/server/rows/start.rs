//! From the start of the process on a migrated database until it is ready, and its memory at rest.

use std::time::Duration;

use tokio::runtime::Runtime;

use crate::options::Row;
use crate::process::{Served, shipped_workflows};
use crate::report::{Line, Reach, Rounds};
use crate::{Bench, Outcome};

const ROW: Row = Row::Start;
/// By then every chore has run for the first time.
const AT_REST_AFTER: Duration = Duration::from_secs(3);

pub fn run(bench: &Bench, runtime: &Runtime) -> Outcome<Vec<Line>> {
    let url = runtime.block_on(bench.cluster.database())?;
    // The first start registers the workflow; those that are measured find it.
    drop(Served::mathesis(&url, &shipped_workflows())?);
    let (mut ready, mut memory) = (Rounds::default(), Rounds::default());
    for _ in 0..bench.options.rounds {
        let server = Served::mathesis(&url, &shipped_workflows())?;
        ready.0.push(server.ready_after.as_secs_f64() * 1e3);
        std::thread::sleep(AT_REST_AFTER);
        memory.0.push(server.memory_mib()?);
    }
    Ok(vec![
        Line::new(ROW, "start to ready", "ms", ready).reaching(Reach::Below(300.0)),
        Line::new(ROW, "memory at rest", "MiB", memory).reaching(Reach::Below(50.0)),
    ])
}
