//! A body with an end to its time, so that a client that sends a byte now and then cannot keep a call for ever.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::{Body, Bytes, HttpBody};
use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::Response;
use http_body_util::BodyExt as _;
use hyper::body::{Frame, SizeHint};
use tokio::time::Sleep;

/// How long a body may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BodyTimes {
    /// Between two of its parts.
    pub pause_max: Duration,
    /// From its first part to its last.
    pub whole_max: Duration,
}

impl Default for BodyTimes {
    /// 20 s between two parts; 5 minutes in all, which are 16 MiB at half a megabit a second.
    fn default() -> Self {
        Self { pause_max: Duration::from_secs(20), whole_max: Duration::from_mins(5) }
    }
}

/// The body did not come to its end in time.
#[derive(Debug, thiserror::Error)]
#[error("the body took longer than {} s", .0.as_secs())]
pub struct TooSlow(Duration);

struct Deadline {
    body: Body,
    time: Duration,
    left: Pin<Box<Sleep>>,
}

impl HttpBody for Deadline {
    type Data = Bytes;
    type Error = axum::BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::BoxError>>> {
        if self.left.as_mut().poll(context).is_ready() {
            return Poll::Ready(Some(Err(Box::new(TooSlow(self.time)))));
        }
        Pin::new(&mut self.body).poll_frame(context).map_err(Into::into)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// The body, which fails when it is not whole after that time. An empty one is left as it is: most calls of the hot
/// path have none.
fn within(body: Body, time: Duration) -> Body {
    if body.is_end_stream() {
        return body;
    }
    Body::new(
        Deadline { body, time, left: Box::pin(tokio::time::sleep(time)) }.map_err(axum::Error::new),
    )
}

/// Gives every request's body its time.
pub async fn limit(State(time): State<Duration>, request: Request, next: Next) -> Response {
    next.run(request.map(|body| within(body, time))).await
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::stream;

    #[tokio::test]
    async fn a_body_that_never_ends_is_given_up() {
        let parts = stream::iter([Ok::<_, std::io::Error>(Bytes::from_static(b"{"))]);
        let parts = futures::StreamExt::chain(parts, stream::pending());
        let body = within(Body::from_stream(parts), Duration::from_millis(5));
        let error = axum::body::to_bytes(body, 1 << 10).await.unwrap_err();
        assert!(format!("{error:?}").contains("TooSlow"), "{error:?}");
    }

    #[tokio::test]
    async fn a_body_in_time_is_whole() {
        for text in ["", "{}"] {
            let body = within(Body::from(text), Duration::from_secs(60));
            assert_eq!(axum::body::to_bytes(body, 1 << 10).await.unwrap(), text);
        }
    }
}
