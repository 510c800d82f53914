//! Putting a picture where WaveSpeed can read it. It costs nothing, so all of it may be made again.

use backon::{ExponentialBuilder, Retryable};
use bytes::Bytes;
use reqwest::{Method, Url};
use serde_json::json;

use super::wire::MediaUpload;
use super::{ANSWER_BYTES_MAX, Step, WaveSpeed, errors, worth_repeating};
use crate::orchestrator::service::ServiceError;
use crate::outbound::{exchange, is_loopback};

/// How often a failed upload is repeated at once.
const UPLOADS_AGAIN_MAX: usize = 2;

/// What WaveSpeed takes, in bytes.
const MEDIA_BYTES_MAX: usize = 200 * 1024 * 1024;

impl WaveSpeed {
    /// Uploads a file and returns the address that a request can name.
    ///
    /// # Errors
    /// See [`ServiceError`]; nothing was billed, whatever it says.
    pub async fn upload_media(
        &self,
        file_name: &str,
        media_type: &str,
        bytes: Bytes,
    ) -> Result<String, ServiceError> {
        if bytes.len() > MEDIA_BYTES_MAX {
            return Err(errors::media_too_large(bytes.len()));
        }
        let repeats = ExponentialBuilder::default().with_jitter().with_max_times(UPLOADS_AGAIN_MAX);
        (|| self.upload_once(file_name, media_type, bytes.clone()))
            .retry(repeats)
            .sleep(self.sleeper())
            .when(worth_repeating)
            .await
    }

    async fn upload_once(
        &self,
        file_name: &str,
        media_type: &str,
        bytes: Bytes,
    ) -> Result<String, ServiceError> {
        self.inner.throttle.ready().await.map_err(|left| errors::rate_limited(Some(left)))?;
        let path = ["media", "uploads"].map(str::to_owned);
        let asked = json!({"filename": file_name, "size": bytes.len(), "content_type": media_type});
        let request = self.request(Method::POST, &path, Step::Upload)?.json(&asked);
        let place: MediaUpload = self.call(request, Step::Upload).await?;
        self.put(&place, bytes).await?;
        Ok(place.download_url)
    }

    /// The address is another host's, so the key does not go there.
    async fn put(&self, place: &MediaUpload, bytes: Bytes) -> Result<(), ServiceError> {
        let target = &place.upload;
        let address = Url::parse(&target.url)
            .ok()
            .filter(|address| {
                address.scheme() == "https" || (address.scheme() == "http" && is_loopback(address))
            })
            .ok_or_else(|| errors::bad_upload("its address is none of https"))?;
        if !matches!(target.method.to_ascii_uppercase().as_str(), "PUT" | "") {
            return Err(errors::bad_upload("it wants another method than PUT"));
        }
        let client = self
            .inner
            .reach
            .client_for(&address)
            .map_err(|refused| errors::bad_upload(&refused.to_string()))?;
        let mut request = client.put(address);
        for (name, value) in &target.headers {
            request = request.header(name, value);
        }
        let reply = exchange(request.body(bytes), ANSWER_BYTES_MAX)
            .await
            .map_err(|failure| self.told(errors::of_failure(Step::Upload, &failure)))?;
        if (200..300).contains(&reply.status) {
            return Ok(());
        }
        Err(self.told(errors::put_refused(reply.status)))
    }
}
