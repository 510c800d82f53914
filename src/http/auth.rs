//! Who calls, and whether they may.
//!
//! Programs send `Authorization: Bearer mth_<role>_<random>`. A browser sends the session cookie that
//! `/login` gave it; a session may look, and act only through the forms of the pages, each of which
//! carries the session's token, so a forged form on another site can change nothing. An open server, bound to loopback and without any key, takes everybody for `loopback`, but
//! only under a loopback name and not on behalf of another site, since every web page that its owner
//! opens can reach loopback, too.

use std::net::IpAddr;

use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, Uri, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Redirect, Response};

use super::error::Problem;
use super::limits::Peer;
use super::{App, login};
use crate::store::keys::{self, Role};

/// What the history calls whoever uses an open server.
const LOOPBACK: &str = "loopback";
/// The code of a key that does not fit.
const KEY_UNKNOWN: &str = "key_unknown";

/// What a route needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Need {
    /// Events and assignments: `ingest` and `operate`.
    Log,
    /// What the clients of a pipeline look up: every role.
    Look,
    /// Everything that can be seen: `read` and `operate`.
    Read,
    /// Everything that changes the course of learning: `operate`.
    Operate,
    /// The same by a form of a page, whose handler checks the session's token: `operate`.
    Act,
}

impl Need {
    /// True when a role is enough.
    const fn is_met_by(self, role: Role) -> bool {
        match self {
            Self::Log => matches!(role, Role::Ingest | Role::Operate),
            Self::Look => true,
            Self::Read => matches!(role, Role::Read | Role::Operate),
            Self::Operate | Self::Act => matches!(role, Role::Operate),
        }
    }

    /// The roles in words.
    pub const fn words(self) -> &'static str {
        match self {
            Self::Log => "ingest or operate",
            Self::Look => "any",
            Self::Read => "read or operate",
            Self::Operate | Self::Act => "operate",
        }
    }

    /// True for what a browser's session may do.
    pub const fn is_for_sessions(self) -> bool {
        matches!(self, Self::Look | Self::Read | Self::Act)
    }
}

/// Who calls.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    /// The key's name, or `loopback`.
    pub name: String,
    /// What the key may do.
    pub role: Role,
    /// The key; none on an open server.
    pub key_id: Option<i64>,
    /// The token that every form of the session carries; none where no session is used.
    pub csrf: Option<String>,
}

/// Lets a request through to its handler, or answers it.
pub async fn gate(
    State((app, need)): State<(App, Need)>,
    mut request: Request,
    next: Next,
) -> Response {
    let address = app.limits.address(request.extensions().get::<Peer>(), request.headers());
    let (method, uri, headers) = (request.method(), request.uri(), request.headers());
    match admit(&app, need, address, method, uri, headers).await {
        Ok(caller) if need.is_met_by(caller.role) => {
            // A refusal that becomes a page says who is signed in, too.
            let looker = need.is_for_sessions().then(|| caller.clone());
            request.extensions_mut().insert(caller);
            with_caller(next.run(request).await, looker)
        }
        Ok(caller) => with_caller(forbidden(need, &caller).into_response(), Some(caller)),
        Err(problem) if wants_page(request.uri(), request.headers()) && may_sign_in(&problem) => {
            Redirect::to("/login").into_response()
        }
        Err(problem) => problem.into_response(),
    }
}

/// Who calls, if neither the address nor the key has called too often.
async fn admit(
    app: &App,
    need: Need,
    address: IpAddr,
    method: &Method,
    uri: &Uri,
    headers: &HeaderMap,
) -> Result<Caller, Problem> {
    app.limits.take_of_address(need, address)?;
    let caller = match identify(app, need, method, uri, headers).await {
        // A session's token is as long as a key, but an old tab that asks again and again is no guessing.
        Err(problem) if problem.code() == KEY_UNKNOWN => {
            return Err(app.limits.take_failure(address).err().unwrap_or(problem));
        }
        identified => identified?,
    };
    if let Some(key_id) = caller.key_id {
        app.limits.take_of_key(need, key_id)?;
    }
    Ok(caller)
}

fn with_caller(mut response: Response, caller: Option<Caller>) -> Response {
    if let Some(caller) = caller {
        response.extensions_mut().insert(caller);
    }
    response
}

async fn identify(
    app: &App,
    need: Need,
    method: &Method,
    uri: &Uri,
    headers: &HeaderMap,
) -> Result<Caller, Problem> {
    if let Some(value) = headers.get(header::AUTHORIZATION) {
        return with_key(app, value).await;
    }
    if app.settings.open {
        refuse_strangers(method, uri, headers)?;
        return Ok(Caller {
            name: LOOPBACK.to_owned(),
            role: Role::Operate,
            key_id: None,
            csrf: None,
        });
    }
    if let (true, Some(token)) = (need.is_for_sessions(), login::session_token(headers)) {
        let now = app.engine.now();
        let session = keys::find_session(app.engine.store.pool(), token, now).await?;
        let session = session.ok_or_else(|| {
            unauthenticated("session_ended", "the session has ended; sign in again at /login")
        })?;
        let csrf = Some(session.csrf_token);
        let key_id = Some(session.key_id);
        return Ok(Caller { name: session.name, role: session.role, key_id, csrf });
    }
    Err(unauthenticated(
        "key_missing",
        "nothing was done: send `Authorization: Bearer <key>`; `mathesis key create` makes a key",
    ))
}

async fn with_key(app: &App, value: &HeaderValue) -> Result<Caller, Problem> {
    let Some(secret) = bearer(value) else {
        return Err(unauthenticated(
            "key_malformed",
            "nothing was done: the header must be `Authorization: Bearer <key>`",
        ));
    };
    let key = app.keys.find(secret).await?.ok_or_else(|| {
        unauthenticated(
            KEY_UNKNOWN,
            "nothing was done: the key is unknown or was revoked; `mathesis key list` shows those that work",
        )
    })?;
    Ok(Caller { name: key.name.clone(), role: key.role, key_id: Some(key.key_id), csrf: None })
}

/// The secret of a Bearer header. The scheme's case does not matter, its one space does.
fn bearer(value: &HeaderValue) -> Option<&str> {
    let (scheme, secret) = value.to_str().ok()?.split_once(' ')?;
    let secret = secret.trim();
    let usable = scheme.eq_ignore_ascii_case("bearer") && !secret.is_empty();
    (usable && !secret.contains(' ')).then_some(secret)
}

fn unauthenticated(code: &'static str, detail: &'static str) -> Problem {
    Problem::new(StatusCode::UNAUTHORIZED, code, detail).with_header(
        header::WWW_AUTHENTICATE,
        HeaderValue::from_static("Bearer realm=\"mathesis\""),
    )
}

fn forbidden(need: Need, caller: &Caller) -> Problem {
    Problem::new(
        StatusCode::FORBIDDEN,
        "role_insufficient",
        format!(
            "nothing was done: key {:?} has the role {}, and this call needs {}",
            caller.name,
            caller.role,
            need.words()
        ),
    )
}

fn may_sign_in(problem: &Problem) -> bool {
    problem.status() == StatusCode::UNAUTHORIZED
}

/// True when a person's browser asks for the dashboard, which is better shown where to sign in.
pub fn wants_page(uri: &Uri, headers: &HeaderMap) -> bool {
    let path = uri.path();
    (path == "/analytics" || path.starts_with("/analytics/")) && accepts(headers, "text/html")
}

/// True when the `Accept` header names a media type.
pub fn accepts(headers: &HeaderMap, media_type: &str) -> bool {
    headers.get_all(header::ACCEPT).iter().filter_map(|value| value.to_str().ok()).any(|value| {
        value.split(',').any(|item| {
            let essence = item.split(';').next().unwrap_or_default();
            essence.trim().eq_ignore_ascii_case(media_type)
        })
    })
}

/// Refuses what a web page of somebody else's could send to an open server through its owner's
/// browser: another name that resolves to loopback, or another site's origin.
fn refuse_strangers(method: &Method, uri: &Uri, headers: &HeaderMap) -> Result<(), Problem> {
    let text = |name| headers.get(name).map(|value| value.to_str().unwrap_or("?"));
    let host =
        uri.authority().map(axum::http::uri::Authority::as_str).or_else(|| text(header::HOST));
    let own_name = host.is_none_or(is_loopback);
    let own_origin = text(header::ORIGIN).is_none_or(|origin| {
        origin.split_once("://").is_some_and(|(_, authority)| is_loopback(authority))
    });
    let own_site = headers.get("sec-fetch-site").is_none_or(|site| site != "cross-site")
        || method == Method::GET;
    if own_name && own_origin && own_site {
        return Ok(());
    }
    Err(Problem::new(
        StatusCode::FORBIDDEN,
        "foreign_origin",
        "nothing was done: this server has no keys yet and answers only to this machine's own programs and pages, under localhost, 127.0.0.1 or [::1]; `mathesis key create` opens it to others",
    ))
}

fn is_loopback(authority: &str) -> bool {
    let name = match authority.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or_default(),
        None => authority.split(':').next().unwrap_or_default(),
    };
    name.eq_ignore_ascii_case("localhost")
        || name.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secret(value: &str) -> Option<String> {
        bearer(&HeaderValue::from_str(value).unwrap()).map(str::to_owned)
    }

    #[test]
    fn a_bearer_header_is_read_as_the_standard_has_it() {
        assert_eq!(secret("Bearer mth_read_1").as_deref(), Some("mth_read_1"));
        assert_eq!(secret("bearer  mth_read_1").as_deref(), Some("mth_read_1"));
        for wrong in ["mth_read_1", "Bearer", "Bearer ", "Basic mth_read_1", "Bearer a b", ""] {
            assert_eq!(secret(wrong), None, "{wrong:?}");
        }
        assert_eq!(bearer(&HeaderValue::from_bytes(b"Bearer \xff").unwrap()), None);
    }

    #[test]
    fn each_role_may_what_it_is_for_and_no_more() {
        let table = |need: Need| Role::ALL.map(|role| need.is_met_by(role));
        assert_eq!(table(Need::Log), [true, false, true]);
        assert_eq!(table(Need::Look), [true, true, true]);
        assert_eq!(table(Need::Read), [false, true, true]);
        assert_eq!(table(Need::Operate), [false, false, true]);
        assert_eq!(table(Need::Act), [false, false, true]);
    }

    fn stranger(headers: &[(&'static str, &str)]) -> bool {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.insert(*name, HeaderValue::from_str(value).unwrap());
        }
        refuse_strangers(&Method::POST, &Uri::from_static("/x"), &map).is_err()
    }

    #[test]
    fn an_open_server_answers_its_own_machine_only() {
        assert!(!stranger(&[("host", "127.0.0.1:8080")]));
        assert!(!stranger(&[("host", "[::1]:8080"), ("origin", "http://localhost:8080")]));
        assert!(
            stranger(&[("host", "evil.example")]),
            "a name that was made to resolve to loopback"
        );
        assert!(stranger(&[("host", "localhost"), ("origin", "https://evil.example")]));
        assert!(stranger(&[("host", "localhost"), ("origin", "null")]), "a sandboxed frame");
        assert!(stranger(&[("host", "localhost"), ("sec-fetch-site", "cross-site")]));
        assert!(stranger(&[("host", "127.0.0.1.evil.example")]));
    }

    #[test]
    fn accepting_is_naming_the_type() {
        let mut headers = HeaderMap::new();
        headers.insert("accept", HeaderValue::from_static("text/html;q=0.9, application/json"));
        assert!(accepts(&headers, "text/html") && accepts(&headers, "application/json"));
        assert!(!accepts(&headers, "text/x-diff"));
    }
}
