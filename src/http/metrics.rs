//! `GET /metrics`, in Prometheus' text format. `docs/operations.md` says what each metric means.
//!
//! Labels are workflows, models and words from short lists: never a task, a version, a key or anything that a caller
//! made up. The statements are bounded by what is open now and by this month's calls, so a scrape costs the same at a
//! thousand tasks and at ten million.

mod page;
mod requests;

use std::collections::{BTreeMap, HashMap};

use axum::extract::State;
use axum::http::header;
use axum::response::IntoResponse;
use chrono::{DateTime, Utc};
use rust_decimal::Decimal;

pub use requests::Requests;

use self::page::{Labels, Page};
use super::App;
use super::error::Problem;
use crate::effects::month_start;
use crate::store::holds::HoldKind;
use crate::store::metrics::{self as counts, CallCount};
use crate::store::{Store, StoreError, cycles, holds, window};

/// Tasks beyond ten triggers are not counted further: the gauge only has to show that they pile up.
const WAITING_TRIGGERS_MAX: i64 = 10;

/// Where a workflow's open cycle stands.
#[derive(Debug)]
struct Standing {
    workflow: String,
    state: &'static str,
    cycle: i64,
    state_seconds: i64,
    holds: BTreeMap<String, u64>,
    tasks_waiting: i64,
    budget_usd: Decimal,
    cost_usd: Decimal,
}

impl Standing {
    fn labels(&self) -> Labels {
        Labels::of(&[("workflow", &self.workflow)])
    }
}

/// `GET /metrics`
///
/// # Errors
/// A problem when the database is away.
pub async fn metrics(State(app): State<App>) -> Result<impl IntoResponse, Problem> {
    let scrape = Scrape::of(&app).await?;
    let standings = scrape.standings(&app).await?;
    let mut page = Page::default();
    let build = Labels::of(&[("version", env!("CARGO_PKG_VERSION"))]);
    page.family("gauge", "mathesis_build_info", "1, with this process's version.", [(build, 1)]);
    app.requests.write(&mut page);
    write_pools(&mut page, &app.engine.store);
    write_standings(&mut page, &standings);
    scrape.write_effects(&mut page).await?;
    scrape.write_calls(&mut page);
    scrape.write_decks(&mut page).await?;
    scrape.write_figures(&mut page).await?;
    Ok(([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], page.text()))
}

fn write_pools(page: &mut Page, store: &Store) {
    let pools = [("main", store.pool()), ("reads", store.reads())];
    let samples = pools.iter().flat_map(|(name, pool)| {
        let idle = u32::try_from(pool.num_idle()).unwrap_or(u32::MAX);
        let in_use = pool.size().saturating_sub(idle);
        [("idle", idle), ("in_use", in_use)]
            .map(|(state, count)| (Labels::of(&[("pool", name), ("state", state)]), count))
    });
    page.family(
        "gauge",
        "mathesis_pool_connections",
        "This process's connections to the database; without DATABASE_READ_URL both pools are one.",
        samples,
    );
    let most = pools
        .map(|(name, pool)| (Labels::of(&[("pool", name)]), pool.options().get_max_connections()));
    let help = "The most connections that a pool of this process may have.";
    page.family("gauge", "mathesis_pool_connections_max", help, most);
}

fn write_standings(page: &mut Page, standings: &[Standing]) {
    page.family(
        "gauge",
        "mathesis_cycle_state",
        "1 for the state that the open cycle is in.",
        standings
            .iter()
            .map(|it| (Labels::of(&[("workflow", &it.workflow), ("state", it.state)]), 1)),
    );
    let mut gauge = |name, help, value: fn(&Standing) -> String| {
        page.family("gauge", name, help, standings.iter().map(|it| (it.labels(), value(it))));
    };
    gauge("mathesis_cycle_number", "The number of the open cycle.", |it| it.cycle.to_string());
    gauge(
        "mathesis_cycle_state_seconds",
        "Seconds since the open cycle entered its state.",
        |it| it.state_seconds.to_string(),
    );
    gauge("mathesis_holds_standing", "Holds on the open cycle and its workflow.", |it| {
        it.holds.values().sum::<u64>().to_string()
    });
    gauge(
        "mathesis_tasks_waiting",
        "Completed tasks that wait for an analysis, counted up to ten triggers.",
        |it| it.tasks_waiting.to_string(),
    );
    gauge(
        "mathesis_claude_cost_usd_month",
        "What Claude cost this month in the workflow's time zone, US dollars, running calls by estimate.",
        |it| it.cost_usd.normalize().to_string(),
    );
    gauge(
        "mathesis_claude_budget_usd_month",
        "What Claude may cost the workflow a month, US dollars.",
        |it| it.budget_usd.normalize().to_string(),
    );
    let by_kind = standings.iter().flat_map(|it| {
        HoldKind::ALL.map(|kind| {
            let labels = Labels::of(&[("workflow", &it.workflow), ("kind", kind.as_str())]);
            (labels, it.holds.get(kind.as_str()).copied().unwrap_or(0))
        })
    });
    let help = "Holds on the open cycle and its workflow, by what holds; 0 where nothing of the kind does.";
    page.family("gauge", "mathesis_holds", help, by_kind);
}

/// What one scrape goes by: the workflows of this process, and a moment.
struct Scrape {
    store: Store,
    now: DateTime<Utc>,
    names: HashMap<i64, String>,
    calls: Vec<CallCount>,
}

impl Scrape {
    async fn of(app: &App) -> Result<Self, Problem> {
        let workflows = app.engine.registry.all();
        let now = app.engine.now();
        let months: Vec<(i64, DateTime<Utc>)> = workflows
            .iter()
            .map(|it| (it.workflow_id, month_start(now, it.definition.timezone)))
            .collect();
        let store = app.engine.store.clone();
        let calls = counts::calls(store.reads(), &months).await?;
        let names = workflows.iter().map(|it| (it.workflow_id, it.name().to_owned())).collect();
        Ok(Self { store, now, names, calls })
    }

    /// A workflow that another process has made since is left to that one.
    fn name(&self, workflow_id: i64) -> Option<&str> {
        self.names.get(&workflow_id).map(String::as_str)
    }

    fn seconds_since(&self, moment: DateTime<Utc>) -> i64 {
        (self.now - moment).num_seconds().max(0)
    }

    async fn standings(&self, app: &App) -> Result<Vec<Standing>, Problem> {
        let pool = self.store.reads();
        let mut standings = Vec::new();
        for workflow in app.engine.registry.all() {
            let id = workflow.workflow_id;
            let Some(cycle) = cycles::find_open(pool, id).await? else {
                continue;
            };
            let mut conn = pool.acquire().await.map_err(StoreError::from)?;
            let mut by_kind = BTreeMap::new();
            for hold in holds::standing(&mut conn, id, cycle.number).await? {
                *by_kind.entry(hold.kind).or_default() += 1;
            }
            drop(conn);
            let limit = i64::from(cycle.snapshot.rules.trigger_tasks) * WAITING_TRIGGERS_MAX;
            let of_workflow = self.calls.iter().filter(|call| call.workflow_id == id);
            standings.push(Standing {
                workflow: workflow.name().to_owned(),
                state: cycle.snapshot.state.name().as_str(),
                cycle: cycle.number,
                state_seconds: self.seconds_since(cycle.state_entered_at),
                holds: by_kind,
                tasks_waiting: window::waiting(pool, id, limit).await?,
                budget_usd: workflow.definition.claude.budget_usd_per_month,
                cost_usd: of_workflow.map(|call| call.cost_usd).sum(),
            });
        }
        Ok(standings)
    }

    async fn write_effects(&self, page: &mut Page) -> Result<(), Problem> {
        let found = counts::effects(self.store.reads()).await?;
        let mut numbers = Vec::new();
        let mut ages = Vec::new();
        let mut expired = Vec::new();
        for (id, workflow) in &self.names {
            for (status, word) in
                [("pending", "waiting"), ("claimed", "running"), ("failed", "failed")]
            {
                let row = found.iter().find(|row| row.workflow_id == *id && row.status == status);
                let labels = Labels::of(&[("workflow", workflow), ("status", word)]);
                numbers.push((labels.clone(), row.map_or(0, |row| row.effects)));
                ages.push((labels, row.map_or(0, |row| self.seconds_since(row.oldest_at))));
                if status == "claimed" {
                    let labels = Labels::of(&[("workflow", workflow)]);
                    expired.push((labels, row.map_or(0, |row| row.expired)));
                }
            }
        }
        let help = "Effects that are not done: waiting for a worker, running under a lease, failed for good.";
        page.family("gauge", "mathesis_effects", help, numbers);
        let help = "Seconds since the oldest of them was asked for; 0 where there is none.";
        page.family("gauge", "mathesis_effect_oldest_seconds", help, ages);
        let help = "Running effects whose lease is over: their worker vanished, and a rescuer has not come yet.";
        page.family("gauge", "mathesis_leases_expired", help, expired);
        Ok(())
    }

    fn write_calls(&self, page: &mut Page) {
        let named =
            || self.calls.iter().filter_map(|call| Some((self.name(call.workflow_id)?, call)));
        page.family(
            "gauge",
            "mathesis_claude_calls_month",
            "Attempts at Claude this month, by its model and what came of them.",
            named().map(|(workflow, call)| {
                let outcome = call.outcome.as_str();
                let model = call.claude_model.as_str();
                (
                    Labels::of(&[
                        ("workflow", workflow),
                        ("claude_model", model),
                        ("outcome", outcome),
                    ]),
                    call.calls,
                )
            }),
        );
        let mut tokens: BTreeMap<(&str, &str, &str), i64> = BTreeMap::new();
        let mut costs: BTreeMap<(&str, &str), Decimal> = BTreeMap::new();
        for (workflow, call) in named() {
            let model = call.claude_model.as_str();
            *costs.entry((workflow, model)).or_default() += call.cost_usd;
            for (kind, count) in [
                ("input", call.input_tokens),
                ("cache_write", call.cache_write_tokens),
                ("cache_read", call.cache_read_tokens),
                ("output", call.output_tokens),
            ] {
                *tokens.entry((workflow, model, kind)).or_default() += count;
            }
        }
        page.family(
            "gauge",
            "mathesis_claude_tokens_month",
            "Claude's tokens this month, by its model and kind.",
            tokens.into_iter().map(|((workflow, model, kind), count)| {
                (
                    Labels::of(&[("workflow", workflow), ("claude_model", model), ("kind", kind)]),
                    count,
                )
            }),
        );
        page.family(
            "gauge",
            "mathesis_claude_model_cost_usd_month",
            "What Claude cost this month by its model, US dollars, running calls by estimate.",
            costs.into_iter().map(|((workflow, model), usd)| {
                (Labels::of(&[("workflow", workflow), ("claude_model", model)]), usd.normalize())
            }),
        );
    }

    async fn write_decks(&self, page: &mut Page) -> Result<(), Problem> {
        let slots = counts::decks(self.store.reads()).await?;
        for (phase, name, help) in [
            (
                "test",
                "mathesis_deck_slots",
                "Slots of the decks of running tests, by arm and state: open, dealt, scored, missing.",
            ),
            (
                "probation",
                "mathesis_probation_slots",
                "Slots of the decks of open probations, by arm and state.",
            ),
        ] {
            let of_phase = slots.iter().filter(|row| row.phase == phase);
            page.family(
                "gauge",
                name,
                help,
                of_phase.filter_map(|row| {
                    let workflow = self.name(row.workflow_id)?;
                    let labels = [
                        ("workflow", workflow),
                        ("model", row.model.as_str()),
                        ("arm", row.arm.as_str()),
                        ("state", row.state.as_str()),
                    ];
                    Some((Labels::of(&labels), row.slots))
                }),
            );
        }
        Ok(())
    }

    async fn write_figures(&self, page: &mut Page) -> Result<(), Problem> {
        let figures = counts::figures(self.store.reads()).await?;
        let named = || figures.iter().filter_map(|it| Some((self.name(it.workflow_id)?, it)));
        page.family(
            "gauge",
            "mathesis_tasks",
            "Tasks in the database, as of the last refresh of the dashboard's figures.",
            named().map(|(workflow, it)| (Labels::of(&[("workflow", workflow)]), it.tasks)),
        );
        page.family(
            "gauge",
            "mathesis_figures_lag_seconds",
            "Seconds since the dashboard's figures were last added up, while changes wait to be; else 0.",
            named().map(|(workflow, it)| {
                let lag = it.behind_since.map_or(0, |since| self.seconds_since(since));
                (Labels::of(&[("workflow", workflow)]), lag)
            }),
        );
        Ok(())
    }
}
