//! `mathesis cost`.

use clap::Args;
use rust_decimal::Decimal;
use serde::Serialize;

use super::context::{Context, Need, with_context, zone};
use super::failure::Failure;
use super::{AsJson, OfWorkflow, output};
use crate::settings::Settings;
use crate::store::costs::{self, CycleCost, MonthCost};

/// See what Claude cost, by month and by cycle
#[derive(Debug, Clone, Args)]
pub struct Cost {
    /// How many cycles, the newest first
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(i64).range(1..=10_000))]
    cycles: i64,
    /// How many months, the newest first
    #[arg(long, default_value_t = 6, value_parser = clap::value_parser!(i64).range(1..=1_200))]
    months: i64,
    #[command(flatten)]
    of: OfWorkflow,
    #[command(flatten)]
    as_json: AsJson,
}

#[derive(Serialize)]
struct Costs {
    budget_usd_per_month: Decimal,
    months: Vec<MonthCost>,
    cycles: Vec<CycleCost>,
}

/// Runs the command.
pub async fn run(command: Cost, settings: &Settings) -> Result<(), Failure> {
    with_context!(settings, Need::Existing, |context| show(command, &context))
}

async fn show(command: Cost, context: &Context) -> Result<(), Failure> {
    let workflow = context.workflow(&command.of)?;
    let (pool, id) = (context.engine.store.pool(), workflow.workflow_id);
    let found = Costs {
        budget_usd_per_month: workflow.definition.claude.budget_usd_per_month,
        months: costs::by_month(pool, id, zone(&workflow), command.months).await?,
        cycles: costs::by_cycle(pool, id, command.cycles).await?,
    };
    if command.as_json.json {
        return output::say_json(&found);
    }
    output::say(&tables(&found))
}

const COLUMNS: [&str; 9] = [
    "calls",
    "in batches",
    "rehearsed",
    "tokens read",
    "into the cache",
    "from the cache",
    "tokens written",
    "US dollars",
    "of it estimated",
];

fn tables(found: &Costs) -> String {
    let headings = |first| [&[first][..], &COLUMNS].concat();
    let mut months = output::table(&headings("month"));
    for month in &found.months {
        months.add_row([
            month.month.format("%Y-%m").to_string(),
            month.calls.to_string(),
            month.batched.to_string(),
            month.rehearsed.to_string(),
            month.input_tokens.to_string(),
            month.cache_creation_tokens.to_string(),
            month.cache_read_tokens.to_string(),
            month.output_tokens.to_string(),
            dollars(month.cost_usd),
            dollars(month.estimated_usd),
        ]);
    }
    let mut cycles = output::table(&headings("cycle"));
    for cycle in &found.cycles {
        cycles.add_row([
            cycle.cycle.to_string(),
            cycle.calls.to_string(),
            cycle.batched.to_string(),
            "-".to_owned(),
            cycle.input_tokens.to_string(),
            cycle.cache_creation_tokens.to_string(),
            cycle.cache_read_tokens.to_string(),
            cycle.output_tokens.to_string(),
            dollars(cycle.cost_usd),
            dollars(cycle.estimated_usd),
        ]);
    }
    if found.months.is_empty() {
        return format!(
            "No call of Claude was made yet. The budget is {} US dollars a month.",
            found.budget_usd_per_month
        );
    }
    format!(
        "{months}\n\n{cycles}\n\nThe budget is {} US dollars a month.",
        found.budget_usd_per_month
    )
}

fn dollars(amount: Decimal) -> String {
    format!("{:.4}", amount.round_dp(4))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn months_and_cycles_are_told_with_their_tokens_by_kind() {
        let usd = |text: &str| text.parse::<Decimal>().unwrap();
        let month = MonthCost {
            month: "2026-11-01".parse().unwrap(),
            calls: 4,
            batched: 1,
            rehearsed: 1,
            input_tokens: 70_000,
            cache_creation_tokens: 1_500,
            cache_read_tokens: 3_000,
            output_tokens: 9_000,
            cost_usd: usd("0.512345678"),
            estimated_usd: usd("0.1"),
        };
        let cycle = CycleCost {
            cycle: 12,
            calls: 3,
            batched: 1,
            input_tokens: 60_000,
            cache_creation_tokens: 1_500,
            cache_read_tokens: 3_000,
            output_tokens: 8_000,
            cost_usd: usd("0.412345678"),
            estimated_usd: Decimal::ZERO,
        };
        let found =
            Costs { budget_usd_per_month: usd("15.00"), months: vec![month], cycles: vec![cycle] };
        insta::assert_snapshot!(tables(&found));
        let nothing = Costs { months: Vec::new(), cycles: Vec::new(), ..found };
        assert!(tables(&nothing).starts_with("No call of Claude"));
    }
}
