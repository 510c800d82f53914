//! A refusal as a page, for a person's browser. Programs get the problem as it is.

use axum::extract::Request;
use axum::http::{Method, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use super::answer::{html, viewer};
use crate::dashboard::page::{self, Viewer};
use crate::http::auth::{Caller, wants_page};
use crate::http::error::{Problem, title};

/// Shows what was refused in the dashboard's style, where a browser asked for one of its pages.
pub async fn as_page(request: Request, next: Next) -> Response {
    let is_wanted = wants_page(request.uri(), request.headers());
    let is_look = request.method() == Method::GET;
    let response = next.run(request).await;
    let Some(problem) = response.extensions().get::<Problem>().filter(|_| is_wanted) else {
        return response;
    };
    let words = if is_look { title(problem.status().as_u16()) } else { "That was not done" };
    let page = page::problem(words, problem.detail(), ("/analytics", "To the dashboard"));
    let caller = response.extensions().get::<Caller>();
    let viewer = caller.map_or_else(Viewer::default, viewer);
    let mut shown = match html(&page, &viewer, problem.status()) {
        Ok(shown) => shown,
        // The template is broken; the words are not.
        Err(_) => return problem.clone().into_response(),
    };
    for name in [header::WWW_AUTHENTICATE, header::RETRY_AFTER] {
        if let Some(value) = response.headers().get(&name) {
            shown.headers_mut().insert(name, value.clone());
        }
    }
    shown
}
