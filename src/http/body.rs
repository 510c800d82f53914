//! Bodies, read within a limit and a time.

use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::{FromRequest, Request};
use axum::http::{HeaderMap, StatusCode, header};
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use serde::de::DeserializeOwned;

use super::error::Problem;

/// The largest body with events, in bytes.
pub const EVENTS_BYTES_MAX: usize = 16 << 20;
/// The largest body of an operator's call, in bytes.
const OPERATION_BYTES_MAX: usize = 64 << 10;
/// How long and how far a refused body is read and thrown away, so that a client that is still
/// sending gets its answer and not a broken connection.
const DISCARD_TIME: Duration = Duration::from_secs(15);
const DISCARD_BYTES_MAX: usize = 256 << 20;

/// Reads a body of at most `bytes_max`, which is all that it ever takes of memory.
///
/// # Errors
/// `body_too_large`, `body_incomplete`, or `unsupported_encoding`.
pub async fn read(headers: &HeaderMap, mut body: Body, bytes_max: usize) -> Result<Bytes, Problem> {
    refuse_encoding(headers)?;
    let announced = headers.get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok());
    let announced = announced.and_then(|value| value.parse::<usize>().ok());
    if announced.is_some_and(|length| length > bytes_max) {
        // A client that asks first is told no before it sends anything.
        if !headers.contains_key(header::EXPECT) {
            discard(&mut body).await;
        }
        return Err(too_large(bytes_max));
    }
    match Limited::new(&mut body, bytes_max).collect().await {
        Ok(collected) => Ok(collected.to_bytes()),
        Err(error) if error.is::<LengthLimitError>() => {
            discard(&mut body).await;
            Err(too_large(bytes_max))
        }
        Err(_) => Err(Problem::new(
            StatusCode::REQUEST_TIMEOUT,
            "body_incomplete",
            "nothing was stored: the body stopped before its end, or came too slowly; send it again",
        )),
    }
}

async fn discard(body: &mut Body) {
    let reading = async {
        let mut bytes = 0;
        while let Some(Ok(frame)) = body.frame().await {
            bytes += frame.data_ref().map_or(0, Bytes::len);
            if bytes > DISCARD_BYTES_MAX {
                break;
            }
        }
    };
    // Whether it came to its end does not matter: it is refused either way.
    let _ = tokio::time::timeout(DISCARD_TIME, reading).await;
}

fn refuse_encoding(headers: &HeaderMap) -> Result<(), Problem> {
    let encoded = headers.get(header::CONTENT_ENCODING).is_some_and(|value| value != "identity");
    if encoded {
        return Err(Problem::new(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "unsupported_encoding",
            "nothing was stored: send the body as it is, without Content-Encoding",
        ));
    }
    Ok(())
}

fn too_large(bytes_max: usize) -> Problem {
    Problem::new(
        StatusCode::PAYLOAD_TOO_LARGE,
        "body_too_large",
        format!(
            "nothing was stored: a body here holds at most {bytes_max} bytes; send it in parts"
        ),
    )
    .with("bytes_max", bytes_max)
}

/// The small JSON body of an operator's call. A missing body is an empty object.
#[derive(Debug)]
pub struct JsonBody<T>(pub T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequest<S> for JsonBody<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, _: &S) -> Result<Self, Problem> {
        let (parts, body) = request.into_parts();
        let bytes = read(&parts.headers, body, OPERATION_BYTES_MAX).await?;
        let bytes = if bytes.trim_ascii().is_empty() { &b"{}"[..] } else { &bytes };
        let mut reader = serde_json::Deserializer::from_slice(bytes);
        let read = serde_path_to_error::deserialize(&mut reader).map_err(|error| {
            let place = error.path().to_string();
            let why = error.into_inner();
            let code = if why.is_data() { "invalid_body" } else { "invalid_json" };
            let why = if place == "." { why.to_string() } else { format!("`{place}`: {why}") };
            let why: String = why.chars().take(300).collect();
            Problem::new(
                StatusCode::UNPROCESSABLE_ENTITY,
                code,
                format!("nothing was changed: {why}"),
            )
        })?;
        reader.end().map_err(|_| {
            Problem::new(
                StatusCode::UNPROCESSABLE_ENTITY,
                "invalid_json",
                "nothing was changed: something follows the JSON object",
            )
        })?;
        Ok(Self(read))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    /// A body of that many mebibytes, and how many of them were asked for.
    fn endless(mebibytes: usize) -> (Body, Arc<AtomicUsize>) {
        let sent = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&sent);
        let chunks = (0..mebibytes).map(move |_| {
            count.fetch_add(1, Ordering::Relaxed);
            Ok::<_, std::convert::Infallible>(Bytes::from(vec![b'x'; 1 << 20]))
        });
        (Body::from_stream(futures::stream::iter(chunks)), sent)
    }

    #[tokio::test]
    async fn a_streamed_body_over_the_limit_is_refused_after_it_was_swallowed() {
        let (body, sent) = endless(100);
        let refused = read(&HeaderMap::new(), body, EVENTS_BYTES_MAX).await.unwrap_err();
        assert_eq!((refused.code(), sent.load(Ordering::Relaxed)), ("body_too_large", 100));
    }

    #[tokio::test]
    async fn a_client_that_asks_first_sends_nothing() {
        let (body, sent) = endless(100);
        let mut headers = HeaderMap::new();
        headers.insert(header::CONTENT_LENGTH, (100 << 20).into());
        headers.insert(header::EXPECT, "100-continue".parse().unwrap());
        let refused = read(&headers, body, EVENTS_BYTES_MAX).await.unwrap_err();
        assert_eq!((refused.code(), sent.load(Ordering::Relaxed)), ("body_too_large", 0));
    }

    #[tokio::test]
    async fn a_body_at_the_limit_is_taken() {
        let (body, _) = endless(16);
        assert_eq!(read(&HeaderMap::new(), body, EVENTS_BYTES_MAX).await.unwrap().len(), 16 << 20);
    }

    #[derive(Debug, serde::Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Wish {
        enabled: Option<bool>,
    }

    async fn wish(text: &'static str) -> Result<Option<bool>, &'static str> {
        let request = Request::new(Body::from(text));
        let read = JsonBody::<Wish>::from_request(request, &()).await;
        read.map(|JsonBody(wish)| wish.enabled).map_err(|problem| problem.code())
    }

    #[tokio::test]
    async fn a_small_body_is_json_and_nothing_else() {
        assert_eq!(wish("").await, Ok(None));
        assert_eq!(wish(r#"{"enabled": true}"#).await, Ok(Some(true)));
        assert_eq!(wish(r#"{"enabled": "yes"}"#).await, Err("invalid_body"));
        assert_eq!(wish(r#"{"enable": true}"#).await, Err("invalid_body"));
        assert_eq!(wish("{} {}").await, Err("invalid_json"));
        assert_eq!(wish("{").await, Err("invalid_json"));
        assert_eq!(wish("nonsense").await, Err("invalid_json"));
    }
}
