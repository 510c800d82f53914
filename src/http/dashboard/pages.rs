//! The pages beside the first one.

use axum::Extension;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use chrono::Days;

use super::answer::{As, answer, viewer};
use super::asked::{
    Compare, Files, InLanguage, Look, Run, Wanted, cursor, day, invalid, midnight, text,
};
use crate::dashboard::page::Page;
use crate::dashboard::pages::{self, Place, model as of_model};
use crate::http::App;
use crate::http::auth::Caller;
use crate::http::blame::{Picture, refuse_nul};
use crate::http::error::Problem;
use crate::http::path::{PathOf, QueryOf, check_model};
use crate::report::{Language, UnknownLanguage};
use crate::research::version_diff;
use crate::runtime::{Workflow, blame, cycle_status};
use crate::store::analytics::pages::{self as stored, TaskQuery, VERSIONS_A_PAGE};
use crate::store::{
    StoreError, claude_calls, cycles as stored_cycles, effects, reports, task_log, versions,
};

/// Rows of a list: cycles, verdicts, insights, changes.
const ROWS_MAX: i64 = 200;

pub(super) fn place(workflow: &Workflow) -> Place<'_> {
    Place { workflow: workflow.name(), zone: workflow.definition.timezone }
}

pub(super) fn show(
    page: &Page,
    caller: &Caller,
    headers: &HeaderMap,
    wanted: As,
) -> Result<Response, Problem> {
    answer(page, &viewer(caller), headers, wanted)
}

/// `GET /analytics/{workflow}/cycles`
///
/// # Errors
/// A problem when the workflow is unknown or the database is away.
pub async fn cycles(look: Look<Files>) -> Result<Response, Problem> {
    let (pool, id) = look.reads();
    let rows = stored_cycles::list(pool, id, ROWS_MAX).await?;
    look.answer(&pages::cycles::page(look.place(), &rows), look.asked.wanted()?)
}

/// `GET /analytics/{workflow}/cycles/{n}`
///
/// # Errors
/// A problem when there is no such cycle or the database is away.
pub async fn cycle(
    State(app): State<App>,
    PathOf((name, number)): PathOf<(String, i64)>,
    QueryOf(files): QueryOf<Files>,
    Extension(caller): Extension<Caller>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let workflow = app.workflow(&name)?;
    let status = cycle_status(&app.engine, &workflow, Some(number)).await?;
    let status = status.ok_or_else(|| Problem::unknown_cycle(number))?;
    // The status is as of now, so the rest is read beside it and not from a replica.
    let (pool, id) = (app.engine.store.pool(), workflow.workflow_id);
    let facts = pages::cycle::Facts {
        status,
        transitions: stored_cycles::history(pool, id, number).await?,
        effects: effects::list(pool, id, number).await?,
        calls: claude_calls::of_cycle(pool, id, number).await?,
        experiments: stored::experiments_of_cycle(pool, id, number, app.engine.now()).await?,
        insights: stored::insights(pool, id, Some(number), ROWS_MAX).await?,
        changes: stored::config_changes(pool, id, (None, Some(number)), ROWS_MAX).await?,
        score_max: workflow.definition.score_max,
    };
    show(&pages::cycle::page(place(&workflow), &facts), &caller, &headers, files.wanted()?)
}

/// `GET /analytics/{workflow}/cycles/{n}/report`
///
/// # Errors
/// A problem when there is no such cycle, the language is unknown, or the database is away.
pub async fn report(
    State(app): State<App>,
    PathOf((name, number)): PathOf<(String, i64)>,
    QueryOf(wanted): QueryOf<InLanguage>,
    Extension(caller): Extension<Caller>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let workflow = app.workflow(&name)?;
    let language = match wanted.lang.as_str() {
        "" => Language::default(),
        named => named.parse().map_err(|unknown: UnknownLanguage| invalid(unknown.to_string()))?,
    };
    let of = reports::Of {
        workflow_id: workflow.workflow_id,
        workflow: workflow.name(),
        time_zone: workflow.definition.timezone,
        score_max: workflow.definition.score_max,
        now: app.engine.now(),
    };
    let facts = reports::load(app.engine.store.reads(), of, number).await?;
    let facts = facts.ok_or_else(|| Problem::unknown_cycle(number))?;
    let page = pages::report::page(place(&workflow), &facts, language);
    show(&page, &caller, &headers, As::Page)
}

/// `GET /analytics/{workflow}/verdicts`
///
/// # Errors
/// A problem when the workflow is unknown or the database is away.
pub async fn verdicts(look: Look<Files>) -> Result<Response, Problem> {
    let (pool, id) = look.reads();
    let rows = stored::verdicts(pool, id, ROWS_MAX).await?;
    look.answer(&pages::verdicts::page(look.place(), &rows), look.asked.wanted()?)
}

/// `GET /analytics/{workflow}/insights`
///
/// # Errors
/// A problem when the workflow is unknown or the database is away.
pub async fn insights(look: Look<Files>) -> Result<Response, Problem> {
    let (pool, id) = look.reads();
    let rows = stored::insights(pool, id, None, ROWS_MAX).await?;
    look.answer(&pages::insights::page(look.place(), &rows), look.asked.wanted()?)
}

/// `GET /analytics/{workflow}/changes`
///
/// # Errors
/// A problem when the workflow is unknown or the database is away.
pub async fn changes(look: Look<Files>) -> Result<Response, Problem> {
    let (pool, id) = look.reads();
    let rows = stored::config_changes(pool, id, (None, None), ROWS_MAX).await?;
    look.answer(&pages::changes::page(look.place(), &rows), look.asked.wanted()?)
}

/// `GET /analytics/{workflow}/tasks`
///
/// # Errors
/// A problem when the query cannot be read, the workflow is unknown, or the database is away.
pub async fn tasks(look: Look<Wanted>) -> Result<Response, Problem> {
    let ((pool, id), zone, wanted) = (look.reads(), look.place().zone, &look.asked);
    let until = day("to", &wanted.to)?.and_then(|to| to.checked_add_days(Days::new(1)));
    let query = TaskQuery {
        from: day("from", &wanted.from)?.map(|from| midnight(from, zone)),
        until: until.map(|until| midnight(until, zone)),
        winner_model: text("model", &wanted.model)?,
        category: text("category", &wanted.category)?,
        task_id: text("task", &wanted.task)?,
        after: cursor(&wanted.after)?,
    };
    let rows = stored::tasks(pool, id, &query).await?;
    let kept = [
        ("task", &wanted.task),
        ("from", &wanted.from),
        ("to", &wanted.to),
        ("model", &wanted.model),
        ("category", &wanted.category),
    ];
    let kept = crate::dashboard::links::query(&kept.map(|(name, value)| (name, value.as_str())));
    let page = pages::tasks::page(look.place(), &rows, &wanted.task, &kept);
    look.answer(&page, As::of(&wanted.table, &wanted.r#as)?)
}

/// `GET /analytics/{workflow}/tasks/{task}`: the run that is named, else the latest.
///
/// # Errors
/// A problem when there is no such run or the database is away.
pub async fn task(
    State(app): State<App>,
    PathOf((name, task)): PathOf<(String, String)>,
    QueryOf(run): QueryOf<Run>,
    Extension(caller): Extension<Caller>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let workflow = app.workflow(&name)?;
    let (pool, id) = (app.engine.store.reads(), workflow.workflow_id);
    let unknown = || {
        Problem::new(
            StatusCode::NOT_FOUND,
            "unknown_task",
            format!(
                "no run of such a task is on record for {}; retention may have removed it",
                workflow.name()
            ),
        )
    };
    let wanted = text("task", &task)?.ok_or_else(unknown)?;
    let query = TaskQuery { task_id: Some(wanted), ..TaskQuery::default() };
    let runs = stored::tasks(pool, id, &query).await?;
    let named = run.run.as_deref().or_else(|| Some(runs.first()?.run_id.as_str()));
    let found = match named {
        Some(named) if !named.contains('\0') => task_log::load_task(pool, id, &task, named).await?,
        _ => None,
    };
    let page = pages::task::page(place(&workflow), &found.ok_or_else(unknown)?, &runs);
    show(&page, &caller, &headers, As::of(&run.table, &run.r#as)?)
}

/// `GET /analytics/{workflow}/tasks/{task}/why`: how the prompt behind a picture came to be.
///
/// # Errors
/// A problem when there is no such task or picture, or the database is away.
pub async fn why(
    State(app): State<App>,
    PathOf((name, task)): PathOf<(String, String)>,
    QueryOf(picture): QueryOf<Picture>,
    Extension(caller): Extension<Caller>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let workflow = app.workflow(&name)?;
    let (run, model) = (picture.run.as_deref(), picture.model.as_deref());
    refuse_nul(&task, run)?;
    let store = &app.engine.store;
    let found = blame::why(store, workflow.workflow_id, &task, run, model).await?;
    show(&pages::why::page(place(&workflow), &found), &caller, &headers, As::Page)
}

/// `GET /analytics/{workflow}/models/{model}`
///
/// # Errors
/// A problem when there is no such model or version, or the database is away.
pub async fn model(
    State(app): State<App>,
    PathOf((name, model)): PathOf<(String, String)>,
    QueryOf(compare): QueryOf<Compare>,
    Extension(caller): Extension<Caller>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let workflow = app.workflow(&name)?;
    check_model(&workflow, &model)?;
    let (pool, id) = (app.engine.store.pool(), workflow.workflow_id);
    let mut connection = pool.acquire().await.map_err(StoreError::from)?;
    let active = versions::active_head(&mut connection, id, &model).await?;
    let active = active.map(|(version, _)| version);
    let newest = versions::greatest(&mut connection, id, &model).await?;
    drop(connection);
    let versions = versions::newest(pool, id, &model, compare.after, VERSIONS_A_PAGE).await?;
    let diff = match (compare.from, compare.to) {
        (Some(from), Some(to)) => Some(diff(&app, &workflow, &model, from, to).await?),
        _ => None,
    };
    let rollback = match (active, compare.rollback) {
        (Some(active), Some(to)) if active != to => {
            Some(self::diff(&app, &workflow, &model, active, to).await?)
        }
        _ => None,
    };
    let changes = stored::config_changes(pool, id, (Some(&model), None), ROWS_MAX).await?;
    let after = compare.after;
    let facts = of_model::Facts { model, active, newest, after, versions, diff, rollback, changes };
    let wanted = As::of(&compare.table, &compare.r#as)?;
    show(&of_model::page(place(&workflow), &facts), &caller, &headers, wanted)
}

async fn diff(
    app: &App,
    workflow: &Workflow,
    model: &str,
    from: i32,
    to: i32,
) -> Result<of_model::Diff, Problem> {
    let find = async |number| {
        let found = app.assigner.version(workflow.workflow_id, model, number).await?;
        found.ok_or_else(|| Problem::unknown_version(model, number))
    };
    let (old, new) = (find(from).await?, find(to).await?);
    Ok(of_model::Diff { from, to, diff: version_diff(&old.texts(), &new.texts(), from, to) })
}

/// `GET /analytics/{workflow}/models/{model}/versions/{n}`
///
/// # Errors
/// A problem when there is no such version or the database is away.
pub async fn version(
    State(app): State<App>,
    PathOf((name, model, number)): PathOf<(String, String, i32)>,
    QueryOf(files): QueryOf<Files>,
    Extension(caller): Extension<Caller>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let workflow = app.workflow(&name)?;
    check_model(&workflow, &model)?;
    let (pool, id) = (app.engine.store.pool(), workflow.workflow_id);
    let found = versions::find(pool, id, &model, number).await?;
    let found = found.ok_or_else(|| Problem::unknown_version(&model, number))?;
    let active = found.is_active;
    show(
        &pages::version::page(place(&workflow), &found, active),
        &caller,
        &headers,
        files.wanted()?,
    )
}
