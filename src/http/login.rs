//! `/login` and `/logout`: a browser trades a key for a session.
//!
//! The session's cookie is `HttpOnly` and `SameSite=Strict`, and the database has only its hash. Every form
//! carries a token: the session's own, or before there is one, the token of a cookie that only this
//! server's page can have set.

use axum::extract::rejection::FormRejection;
use axum::extract::{Extension, Form, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{Html, IntoResponse, Redirect, Response};
use minijinja::{AutoEscape, Environment, context};
use serde::Deserialize;
use subtle::ConstantTimeEq as _;
use utoipa::ToSchema;

use super::App;
use super::dashboard::{no_store, policy};
use super::error::Problem;
use super::limits::Peer;
use crate::dashboard::STYLESHEET_PATH;
use crate::store::keys::{self, Role, SESSION_HOURS, Session, random_token};

/// The cookie that holds a session's token.
pub const SESSION_COOKIE: &str = "mathesis_session";
const FORM_COOKIE: &str = "mathesis_form";
const FORM_SECONDS: i64 = 3_600;
const PAGE: &str = include_str!("login.html");

/// The sign-in form as sent. Its `Debug` is not derived: it holds a key.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SignIn {
    csrf: String,
    key: String,
}

/// The sign-out form as sent.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SignOut {
    csrf: String,
}

/// The session's token, if the request has one.
pub fn session_token(headers: &HeaderMap) -> Option<&str> {
    cookie(headers, SESSION_COOKIE)
}

fn cookie<'h>(headers: &'h HeaderMap, name: &str) -> Option<&'h str> {
    headers
        .get_all(header::COOKIE)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(';'))
        .filter_map(|pair| pair.trim().split_once('='))
        .find(|(known, _)| *known == name)
        .map(|(_, value)| value)
        .filter(|value| !value.is_empty())
}

/// `GET /login`: the form, or who is signed in and the way out.
///
/// # Errors
/// A problem when the database is away.
pub async fn form(State(app): State<App>, headers: HeaderMap) -> Result<Response, Problem> {
    if app.settings.open {
        return Ok(Redirect::to("/analytics").into_response());
    }
    match session(&app, &headers).await? {
        Some(session) => page(StatusCode::OK, &session.csrf_token, Some(&session.name), None),
        None => empty_form(&headers, StatusCode::OK, None),
    }
}

/// `POST /login`
///
/// # Errors
/// A problem when the database is away; a key that does not fit shows the form again, and so does one sign-in
/// too many.
pub async fn sign_in(
    State(app): State<App>,
    peer: Option<Extension<Peer>>,
    headers: HeaderMap,
    form: Result<Form<SignIn>, FormRejection>,
) -> Result<Response, Problem> {
    let Ok(Form(form)) = form else {
        return empty_form(&headers, StatusCode::BAD_REQUEST, Some("The form was not complete."));
    };
    if !cookie(&headers, FORM_COOKIE).is_some_and(|token| same(token, &form.csrf)) {
        let refusal = "The form was too old, or not this server's. Try again.";
        return empty_form(&headers, StatusCode::FORBIDDEN, Some(refusal));
    }
    // Before the key is looked at: who has tried too often is told nothing of it, not even when it fits.
    let address = app.limits.address(peer.as_deref(), &headers);
    if let Err(problem) = app.limits.take_failure(address) {
        let mut again = empty_form(&headers, problem.status(), Some(problem.detail()))?;
        problem.add_headers(&mut again);
        return Ok(again);
    }
    let Some(key) = app.keys.find(form.key.trim()).await? else {
        let refusal = "The key is unknown or was revoked.";
        return empty_form(&headers, StatusCode::UNAUTHORIZED, Some(refusal));
    };
    if key.role == Role::Ingest {
        let refusal =
            "This key may log events, but see nothing. Use one with the role read or operate.";
        return empty_form(&headers, StatusCode::FORBIDDEN, Some(refusal));
    }
    let pool = app.engine.store.pool();
    let token = keys::open_session(pool, key.key_id, app.engine.now()).await?;
    tracing::info!(key.name = key.name, "a browser signed in");
    let mut response = (no_store(), Redirect::to("/analytics")).into_response();
    set_cookie(&mut response, &headers, SESSION_COOKIE, &token, SESSION_HOURS * 3_600);
    set_cookie(&mut response, &headers, FORM_COOKIE, "", 0);
    Ok(response)
}

/// `POST /logout`
///
/// # Errors
/// A problem when the form is not this session's or the database is away.
pub async fn sign_out(
    State(app): State<App>,
    headers: HeaderMap,
    form: Result<Form<SignOut>, FormRejection>,
) -> Result<Response, Problem> {
    let (Some(token), Some(session)) = (session_token(&headers), session(&app, &headers).await?)
    else {
        return Ok(Redirect::to("/login").into_response());
    };
    if !form.is_ok_and(|Form(form)| same(&session.csrf_token, &form.csrf)) {
        return Err(Problem::new(
            StatusCode::FORBIDDEN,
            "csrf_token",
            "nothing was done: the form does not belong to this session; open /login and try again",
        ));
    }
    keys::close_session(app.engine.store.pool(), token).await?;
    let mut response = (no_store(), Redirect::to("/login")).into_response();
    set_cookie(&mut response, &headers, SESSION_COOKIE, "", 0);
    Ok(response)
}

async fn session(app: &App, headers: &HeaderMap) -> Result<Option<Session>, Problem> {
    let Some(token) = session_token(headers) else {
        return Ok(None);
    };
    Ok(keys::find_session(app.engine.store.pool(), token, app.engine.now()).await?)
}

fn same(a: &str, b: &str) -> bool {
    a.as_bytes().ct_eq(b.as_bytes()).into()
}

fn empty_form(
    headers: &HeaderMap,
    status: StatusCode,
    refusal: Option<&str>,
) -> Result<Response, Problem> {
    let token = random_token();
    let mut response = page(status, &token, None, refusal)?;
    set_cookie(&mut response, headers, FORM_COOKIE, &token, FORM_SECONDS);
    Ok(response)
}

fn page(
    status: StatusCode,
    csrf: &str,
    name: Option<&str>,
    refusal: Option<&str>,
) -> Result<Response, Problem> {
    let mut environment = Environment::new();
    environment.set_auto_escape_callback(|_| AutoEscape::Html);
    let html = environment
        .render_str(PAGE, context! { stylesheet => STYLESHEET_PATH, csrf, name, refusal });
    let html = html.map_err(|error| {
        tracing::error!(error = %error, "the sign-in page could not be written");
        Problem::internal()
    })?;
    Ok((status, no_store(), policy(), Html(html)).into_response())
}

fn set_cookie(
    response: &mut Response,
    headers: &HeaderMap,
    name: &str,
    value: &str,
    max_age_seconds: i64,
) {
    // Behind a proxy that ends TLS; without one the server is on loopback, where Secure would hide
    // the cookie from some browsers.
    let secure = headers.get("x-forwarded-proto").is_some_and(|proto| proto == "https");
    let secure = if secure { "; Secure" } else { "" };
    let cookie = format!(
        "{name}={value}; Path=/; HttpOnly; SameSite=Strict; Max-Age={max_age_seconds}{secure}"
    );
    if let Ok(cookie) = HeaderValue::from_str(&cookie) {
        response.headers_mut().append(header::SET_COOKIE, cookie);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cookie_is_found_by_its_whole_name() {
        let mut headers = HeaderMap::new();
        headers.append(header::COOKIE, HeaderValue::from_static("a=1; xmathesis_session=2"));
        assert_eq!(session_token(&headers), None);
        headers.append(header::COOKIE, HeaderValue::from_static("b=3;mathesis_session=4"));
        assert_eq!(session_token(&headers), Some("4"));
    }

    #[test]
    fn a_session_is_secure_where_the_proxy_speaks_tls() {
        let told = |proto: Option<&'static str>| {
            let mut headers = HeaderMap::new();
            if let Some(proto) = proto {
                headers.insert("x-forwarded-proto", HeaderValue::from_static(proto));
            }
            let mut response = Response::default();
            set_cookie(&mut response, &headers, SESSION_COOKIE, "t", 60);
            response.headers()[header::SET_COOKIE].to_str().unwrap().to_owned()
        };
        assert_eq!(
            told(Some("https")),
            "mathesis_session=t; Path=/; HttpOnly; SameSite=Strict; Max-Age=60; Secure"
        );
        assert!(!told(None).contains("Secure") && !told(Some("http")).contains("Secure"));
    }

    #[test]
    fn a_name_is_escaped() {
        let shown = page(StatusCode::OK, "c", Some("<script>"), None);
        assert!(shown.is_ok());
        let mut environment = Environment::new();
        environment.set_auto_escape_callback(|_| AutoEscape::Html);
        let html = environment.render_str(PAGE, context! { name => "<script>" }).unwrap();
        assert!(html.contains("&lt;script&gt;") && !html.contains("<script>"));
    }
}
