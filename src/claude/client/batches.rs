//! The real client at the Message Batches API.

use super::{HttpClaude, attempt_error, broken_body, read_answer};
use crate::claude::attempt::{AttemptError, AttemptErrorKind};
use crate::claude::batch::{Batch, BatchApi, BatchError, BatchLine, BatchPage};
use crate::claude::wire::MessageRequest;
use crate::outbound::{self, read_body, shorten};
use futures::future::BoxFuture;
use reqwest::header::HeaderMap;
use reqwest::{RequestBuilder, Url};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use std::time::Duration;

/// Batches a page; the most that the API gives.
const PAGE: &str = "100";
/// None of these requests waits for a model.
const TIMEOUT: Duration = Duration::from_mins(1);

impl HttpClaude {
    fn batch_address(&self, segments: &[&str]) -> Result<Url, BatchError> {
        outbound::address_below(&self.batches, segments).ok_or_else(|| {
            let message = "the address of the batches cannot be built";
            BatchError {
                status: None,
                error: AttemptError::new(AttemptErrorKind::NotSent, message),
            }
        })
    }

    /// Where the results are: as the API says, as long as that is where the key may be shown.
    fn results_address(&self, batch: &Batch) -> Result<Url, BatchError> {
        let told = batch.results_url.as_deref().and_then(|url| Url::parse(url).ok());
        match told.filter(|url| url.origin() == self.batches.origin()) {
            Some(url) => Ok(url),
            None => self.batch_address(&[&batch.id, "results"]),
        }
    }

    /// Status, headers and body of one request.
    async fn fetch(
        &self,
        request: RequestBuilder,
    ) -> Result<(u16, HeaderMap, Vec<u8>), BatchError> {
        let failed = |status, error| BatchError { status, error };
        let request = self.headed(request.timeout(TIMEOUT)).map_err(|error| failed(None, error))?;
        let response = request
            .send()
            .await
            .map_err(|error| failed(None, attempt_error(outbound::failure_of(&error))))?;
        let status = response.status().as_u16();
        let headers = response.headers().clone();
        match read_body(response, self.answer_bytes_max).await {
            Ok(body) => Ok((status, headers, body.to_vec())),
            Err(failure) => {
                Err(failed(Some(status), broken_body(status, &headers, attempt_error(failure))))
            }
        }
    }

    async fn read<T: DeserializeOwned>(&self, request: RequestBuilder) -> Result<T, BatchError> {
        let read = match self.fetch(request).await {
            Ok((status, headers, body)) => read_answer(status, &headers, &body)
                .1
                .map_err(|error| BatchError { status: Some(status), error }),
            Err(error) => Err(error),
        };
        read.map_err(|error| self.without_key(error))
    }

    async fn lines(&self, batch: &Batch) -> Result<Vec<BatchLine>, BatchError> {
        let request = self.http.get(self.results_address(batch)?);
        let (status, headers, body) = self.fetch(request).await?;
        let read = if status == 200 {
            read_lines(&body)
        } else {
            read_answer::<Value>(status, &headers, &body).1.map(|_| Vec::new())
        };
        read.map_err(|error| self.without_key(BatchError { status: Some(status), error }))
    }

    fn without_key(&self, error: BatchError) -> BatchError {
        let mut hidden: Result<(), AttemptError> = Err(error.error);
        self.hide_key(&mut hidden);
        match hidden {
            Err(hidden) => BatchError { status: error.status, error: hidden },
            Ok(()) => BatchError {
                status: error.status,
                error: AttemptError::new(AttemptErrorKind::Unreadable, ""),
            },
        }
    }
}

fn read_lines(body: &[u8]) -> Result<Vec<BatchLine>, AttemptError> {
    body.split(|byte| *byte == b'\n')
        .filter(|line| !line.trim_ascii().is_empty())
        .map(|line| {
            serde_json::from_slice(line).map_err(|error| {
                let why = shorten(&error.to_string(), 200);
                let message =
                    format!("a result of {} bytes that cannot be read: {why}", line.len());
                AttemptError::new(AttemptErrorKind::Unreadable, message)
            })
        })
        .collect()
}

impl BatchApi for HttpClaude {
    fn create<'a>(
        &'a self,
        custom_id: &'a str,
        request: &'a MessageRequest,
    ) -> BoxFuture<'a, Result<Batch, BatchError>> {
        Box::pin(async move {
            let body = json!({"requests": [{"custom_id": custom_id, "params": request}]});
            self.read(self.http.post(self.batches.clone()).body(body.to_string())).await
        })
    }

    fn find<'a>(&'a self, batch_id: &'a str) -> BoxFuture<'a, Result<Batch, BatchError>> {
        Box::pin(async move { self.read(self.http.get(self.batch_address(&[batch_id])?)).await })
    }

    fn results<'a>(
        &'a self,
        batch: &'a Batch,
    ) -> BoxFuture<'a, Result<Vec<BatchLine>, BatchError>> {
        Box::pin(self.lines(batch))
    }

    fn cancel<'a>(&'a self, batch_id: &'a str) -> BoxFuture<'a, Result<Batch, BatchError>> {
        Box::pin(async move {
            let address = self.batch_address(&[batch_id, "cancel"])?;
            self.read(self.http.post(address).body(Vec::new())).await
        })
    }

    fn page<'a>(
        &'a self,
        after_id: Option<&'a str>,
    ) -> BoxFuture<'a, Result<BatchPage, BatchError>> {
        Box::pin(async move {
            let mut address = self.batches.clone();
            address.query_pairs_mut().append_pair("limit", PAGE);
            if let Some(id) = after_id {
                address.query_pairs_mut().append_pair("after_id", id);
            }
            self.read(self.http.get(address)).await
        })
    }
}
