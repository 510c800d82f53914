//! `GET …/notifications`: what the webhook was told, and what not yet.

use axum::Json;
use axum::extract::State;
use serde::Serialize;
use utoipa::ToSchema;

use super::App;
use super::cycles::Page;
use super::error::Problem;
use super::path::{PathOf, QueryOf};
use crate::store::notifications::{self, NotificationRow};

/// Notifications, latest first.
#[derive(Debug, Serialize, ToSchema)]
pub struct Notifications {
    notifications: Vec<NotificationRow>,
}

/// `GET …/notifications`
///
/// # Errors
/// A problem when the workflow is unknown or the database is away.
pub async fn list(
    State(app): State<App>,
    PathOf(workflow): PathOf<String>,
    QueryOf(page): QueryOf<Page>,
) -> Result<Json<Notifications>, Problem> {
    let workflow = app.workflow(&workflow)?;
    let pool = app.engine.store.pool();
    let notifications = notifications::list(pool, workflow.workflow_id, page.limit()).await?;
    Ok(Json(Notifications { notifications }))
}
