//! What Claude cost, by month and by cycle.

use axum::Json;
use axum::extract::State;
use rust_decimal::Decimal;
use serde::Serialize;
use utoipa::ToSchema;

use super::App;
use super::cycles::Page;
use super::error::Problem;
use super::path::{PathOf, QueryOf};
use crate::store::costs::{self, CycleCost, MonthCost};

/// What Claude cost, newest first.
#[derive(Debug, Serialize, ToSchema)]
pub struct Costs {
    budget_usd_per_month: Decimal,
    months: Vec<MonthCost>,
    cycles: Vec<CycleCost>,
}

/// `GET …/costs`
///
/// # Errors
/// A problem when the workflow is unknown or the database is away.
pub async fn costs(
    State(app): State<App>,
    PathOf(workflow): PathOf<String>,
    QueryOf(page): QueryOf<Page>,
) -> Result<Json<Costs>, Problem> {
    let workflow = app.workflow(&workflow)?;
    let (pool, id) = (app.engine.store.pool(), workflow.workflow_id);
    let timezone = workflow.definition.timezone;
    let mut months = costs::by_month(pool, id, timezone, page.limit()).await?;
    let mut cycles = costs::by_cycle(pool, id, page.limit()).await?;
    for month in &mut months {
        month.cost_usd = month.cost_usd.normalize();
        month.estimated_usd = month.estimated_usd.normalize();
    }
    for cycle in &mut cycles {
        cycle.cost_usd = cycle.cost_usd.normalize();
        cycle.estimated_usd = cycle.estimated_usd.normalize();
    }
    let budget_usd_per_month = workflow.definition.claude.budget_usd_per_month;
    Ok(Json(Costs { budget_usd_per_month, months, cycles }))
}
