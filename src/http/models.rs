//! `…/models/{model}`: how a model stands, for a client that keeps a copy of its texts.

use axum::Json;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};

use super::App;
use super::error::Problem;
use super::path::{PathOf, check_model};
use super::versions::is_kept;
use crate::runtime::ModelStanding;

/// `GET …/models/{model}`: the active version, and whether runs have to ask one by one. Answered from
/// memory, so that asking every few seconds costs nothing, and goes on while the database is away.
///
/// # Errors
/// A problem when the model is unknown, or not in memory yet while the database is away.
pub async fn one(
    State(app): State<App>,
    PathOf((workflow, model)): PathOf<(String, String)>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let workflow = app.workflow(&workflow)?;
    check_model(&workflow, &model)?;
    let standing = app.assigner.standing(&workflow, &model).await?;
    let tag = tag(&standing);
    let mut response = if is_kept(&headers, &tag) {
        StatusCode::NOT_MODIFIED.into_response()
    } else {
        Json(standing).into_response()
    };
    let answer = response.headers_mut();
    answer.insert(header::CACHE_CONTROL, HeaderValue::from_static("private, no-cache"));
    if let Ok(tag) = HeaderValue::from_str(&tag) {
        answer.insert(header::ETAG, tag);
    }
    Ok(response)
}

/// Names all that the answer says: a version, its texts, and the test if there is one.
fn tag(standing: &ModelStanding) -> String {
    let hash = standing.content_hash.get(..16).unwrap_or(&standing.content_hash);
    let cycle = standing.cycle.map_or_else(|| "none".to_owned(), |cycle| cycle.to_string());
    format!("\"{}-{hash}-{cycle}\"", standing.active_version)
}
