//! Which version for this task, while no test runs: answered from memory.

use std::time::Duration;

use tokio::runtime::Runtime;

use crate::load::{self, Measured, Pace};
use crate::options::Row;
use crate::process::{Served, shipped_workflows};
use crate::report::{Line, Reach, Rounds};
use crate::requests::{self, MODELS};
use crate::{Bench, Outcome};

const CONNECTIONS: usize = 64;
const ROW: Row = Row::Assignment;

/// One server's figures, round by round.
#[derive(Default)]
struct Figures {
    p99: Rounds,
    median: Rounds,
    ceiling: Rounds,
}

pub fn run(bench: &Bench, runtime: &Runtime) -> Outcome<Vec<Line>> {
    let url = runtime.block_on(bench.cluster.database())?;
    let ours = Served::mathesis(&url, &shipped_workflows())?;
    let bare = Served::bare_axum()?;
    let rate = f64::from(bench.options.rate);
    let span = bench.options.span();
    let (mut floor, mut figures) = (Figures::default(), Figures::default());
    let mut tasks = Tasks::default();
    for _ in 0..bench.options.rounds {
        for (server, figures) in [(&bare, &mut floor), (&ours, &mut figures)] {
            let open = tasks.ask(server, Pace::Open { rate, span })?;
            figures.p99.0.push(open.milliseconds(0.99));
            figures.median.0.push(open.milliseconds(0.5));
            let closed = tasks.ask(server, Pace::Closed { span })?;
            figures.ceiling.0.push(closed.rate());
        }
    }
    drop(bare);
    let busy_before = ours.processor_time()?;
    let hold = bench.options.hold();
    let held = tasks.ask(&ours, Pace::Open { rate, span: hold })?;
    let busy = (ours.processor_time()? - busy_before).as_secs_f64() / hold.as_secs_f64();
    let memory = ours.memory_mib()?;
    let against = |line: Line, floor: Rounds| line.against("bare axum", floor);
    Ok(vec![
        Line::once(
            ROW,
            format!("p99 at {rate}/s, held for {} s", hold.as_secs()),
            "ms",
            held.milliseconds(0.99),
        )
        .reaching(Reach::Below(1.0))
        .noting(format!(
            "median {:.2}, p99.9 {:.2}, most {:.1} ms; {busy:.2} of a core",
            held.milliseconds(0.5),
            held.milliseconds(0.999),
            held.milliseconds(1.0)
        )),
        against(Line::new(ROW, format!("p99 at {rate}/s"), "ms", figures.p99), floor.p99),
        against(Line::new(ROW, format!("median at {rate}/s"), "ms", figures.median), floor.median),
        against(
            Line::new(ROW, format!("ceiling, {CONNECTIONS} connections"), "/s", figures.ceiling),
            floor.ceiling,
        ),
        Line::once(ROW, "memory of the server after it", "MiB", memory)
            .reaching(Reach::Below(150.0)),
    ])
}

/// Tasks that nobody has asked about yet.
#[derive(Default)]
struct Tasks {
    asked: u64,
}

impl Tasks {
    fn ask(&mut self, server: &Served, pace: Pace) -> Outcome<Measured> {
        let from = self.asked;
        let mut most = 0;
        let measured = load::run(server.address, CONNECTIONS, pace, &mut |number, out| {
            most = number + 1;
            // Each task asks for both models, as a pipeline does.
            let (task, model) = ((from + number) / 2, usize::from(number % 2 == 1));
            let model = MODELS.get(model).copied().unwrap_or_default();
            requests::assignment("image-editing", &format!("task-{task:09}"), model, out);
        })?;
        self.asked += most + most % 2;
        // What waits to be written is written before the next measurement begins.
        std::thread::sleep(Duration::from_millis(300));
        measured.checked()
    }
}
