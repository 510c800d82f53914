//! The real client at the Models API, which costs nothing.

use super::{HttpClaude, attempt_error, broken_body, read_answer};
use crate::claude::attempt::{AttemptError, AttemptErrorKind};
use crate::claude::lifecycle::ModelInfo;
use crate::outbound::{self, read_body};
use std::time::Duration;

/// A look-up, which no model has to think about.
const TIMEOUT: Duration = Duration::from_secs(10);

impl HttpClaude {
    /// What the API says of a model; `None` when it has none of that name.
    ///
    /// # Errors
    /// [`AttemptError`] when there is no key, it is refused, or the API cannot be reached. The key is not in it.
    pub async fn model(&self, id: &str) -> Result<Option<ModelInfo>, AttemptError> {
        let mut found = self.look_up(id).await;
        self.hide_key(&mut found);
        match found {
            Ok(info) => Ok(Some(info)),
            Err(AttemptError {
                kind: AttemptErrorKind::Status { error_type: Some(kind), .. },
                ..
            }) if kind == "not_found_error" => Ok(None),
            Err(error) => Err(error),
        }
    }

    async fn look_up(&self, id: &str) -> Result<ModelInfo, AttemptError> {
        let address = outbound::address_below(&self.models, &[id]).ok_or_else(|| {
            let message = "the address of the model cannot be built";
            AttemptError::new(AttemptErrorKind::NotSent, message)
        })?;
        let request = self.headed(self.http.get(address).timeout(TIMEOUT))?;
        let response =
            request.send().await.map_err(|error| attempt_error(outbound::failure_of(&error)))?;
        let status = response.status().as_u16();
        let headers = response.headers().clone();
        let body = read_body(response, self.answer_bytes_max)
            .await
            .map_err(|failure| broken_body(status, &headers, attempt_error(failure)))?;
        read_answer(status, &headers, &body).1
    }
}
