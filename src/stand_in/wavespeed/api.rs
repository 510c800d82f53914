//! The calls of WaveSpeed.

use std::io;
use std::sync::Arc;

use axum::body::Bytes;
use axum::http::Method;
use axum::response::Response;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use chrono::{DateTime, Utc};
use futures::FutureExt;
use futures::future::BoxFuture;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::media::FILE_BYTES_MAX;
use super::predictions::{Prediction, end_of};
use super::{Billed, Order, ServedModel, Site, lock, webhook};
use crate::orchestrator::service::Service;
use crate::stand_in::documented::Documented;
use crate::stand_in::fault::{Fault, Prediction as Fate};
use crate::stand_in::listener::{self, Answered, Answers, Refused, Request};
use crate::stand_in::script::mixed;

pub(super) struct Api(pub(super) Arc<Site>);

impl Answers for Api {
    const SERVICE: Service = Service::WaveSpeed;
    const BODY_BYTES_MAX: usize = 201 * 1024 * 1024;

    fn answer<'a>(
        &'a self,
        request: &'a Request,
        fault: &'a Fault,
    ) -> BoxFuture<'a, io::Result<Response>> {
        let fate = match fault {
            Fault::Prediction(fate) => Some(fate),
            _ => None,
        };
        async move { Ok(self.0.route(request, fate).await.unwrap_or_else(Refused::response)) }
            .boxed()
    }

    fn dress(&self, _: &Request, _: &mut Response) {}
}

/// A refusal in the documented envelope.
fn refused(error: Documented) -> Refused {
    listener::json(error.status(), error.body()).into()
}

fn refused_because(words: impl Into<String>) -> Refused {
    listener::json(400, json!({"code": 400, "message": words.into()}).to_string()).into()
}

/// A refusal of the storage behind the addresses of files.
fn storage_error(status: u16, code: &str) -> Refused {
    let body = format!("<Error><Code>{code}</Code></Error>");
    listener::answer(status, "application/xml", body).into()
}

/// What every call but a download answers.
fn success(data: &Value) -> Response {
    listener::json(200, json!({"code": 200, "message": "success", "data": data}).to_string())
}

impl Site {
    async fn route(self: &Arc<Self>, request: &Request, fate: Option<&Fate>) -> Answered {
        let path = request.path();
        let method = &request.head.method;
        // Signed addresses need no key.
        if method == Method::GET && (path.starts_with("/media/") || path.starts_with("/outputs/")) {
            return self.download(path);
        }
        if method == Method::PUT && path.starts_with("/upload/") {
            return self.upload(request);
        }
        let key = request.header("authorization").strip_prefix("Bearer ");
        if key != Some(self.settings.key.as_str()) {
            return Err(refused(Documented::WavespeedInvalidKey));
        }
        let Some(call) = path.strip_prefix("/api/v3/") else {
            return Err(refused(Documented::WavespeedUnknownModel));
        };
        match (method, call) {
            (&Method::POST, "media/uploads") => self.announce(request),
            (&Method::GET, "webhook/secret") => {
                Ok(success(&json!({"secret": self.settings.webhook_secret})))
            }
            (&Method::GET, call) => match call.strip_prefix("predictions/") {
                Some(rest) => self.result(rest.strip_suffix("/result").unwrap_or(rest)),
                None => Err(refused(Documented::WavespeedUnknownModel)),
            },
            (&Method::POST, endpoint) => self.submit(request, endpoint, fate).await,
            _ => Err(refused(Documented::WavespeedUnknownModel)),
        }
    }

    fn download(&self, path: &str) -> Answered {
        match lock(&self.media).get(path) {
            Some((bytes, media_type)) => Ok(listener::answer(200, &media_type, bytes)),
            None => Err(storage_error(404, "NoSuchKey")),
        }
    }

    /// Answers with where to put the bytes.
    fn announce(&self, request: &Request) -> Answered {
        let asked: Value = parsed(request)?;
        let field = |name: &str| {
            let text = asked[name].as_str().filter(|text| !text.is_empty());
            text.ok_or_else(|| refused_because(format!("property \"{name}\" is missing")))
        };
        let (name, media_type) = (field("filename")?, field("content_type")?);
        let size_bytes = asked["size"].as_u64().filter(|size| *size > 0);
        let size_bytes =
            size_bytes.ok_or_else(|| refused_because("property \"size\" is missing"))?;
        if size_bytes > FILE_BYTES_MAX {
            return Err(refused(Documented::WavespeedTooLarge));
        }
        let path = lock(&self.media).announce(name, media_type, size_bytes);
        let base = &self.base_url;
        Ok(success(&json!({
            "upload": {
                "method": "PUT",
                "url": format!("{base}/upload{path}?sig=1"),
                "headers": {"Content-Type": media_type},
            },
            "download_url": format!("{base}{path}"),
        })))
    }

    /// Takes the bytes, if they are those that were announced.
    fn upload(&self, request: &Request) -> Answered {
        let mut media = lock(&self.media);
        let path = request.path().strip_prefix("/upload").unwrap_or_default();
        let denied = |code: &str| storage_error(403, code);
        let Some(file) = media.announced(path).filter(|_| request.query("sig") == ["1"]) else {
            return Err(denied("AccessDenied"));
        };
        let Some(bytes) = request.body.clone() else { return Err(denied("EntityTooLarge")) };
        if request.header("content-type") != file.media_type {
            return Err(denied("SignatureDoesNotMatch"));
        }
        if u64::try_from(bytes.len()) != Ok(file.size_bytes) {
            return Err(denied("IncompleteBody"));
        }
        file.bytes = Some(bytes);
        Ok(listener::answer(200, "text/plain", ""))
    }

    fn result(&self, id: &str) -> Answered {
        match lock(&self.predictions).get(id) {
            Some(prediction) => Ok(success(&prediction.shown(&self.base_url, false))),
            None => Err(refused(Documented::WavespeedUnknownModel)),
        }
    }

    async fn submit(
        self: &Arc<Self>,
        request: &Request,
        endpoint: &str,
        fate: Option<&Fate>,
    ) -> Answered {
        let Some(model) = self.settings.models.iter().find(|model| model.endpoint == endpoint)
        else {
            return Err(refused(Documented::WavespeedUnknownModel));
        };
        let input: Value = parsed(request)?;
        let (prompt, images) = checked(model, &input)?;
        if fate == Some(&Fate::CodeNot200) {
            let body = json!({"code": 500, "message": "the model is warming up", "data": null});
            return Ok(listener::json(200, body.to_string()));
        }
        let now = self.settings.clock.now();
        let number = self.admit(now)?;
        let id = format!("{:016x}{number:016x}", mixed(self.seed, number));
        let painted = self.paint(model, prompt, &images, &id, fate, &input);
        let billed = Billed {
            id: id.clone(),
            endpoint: endpoint.to_owned(),
            prompt: prompt.to_owned(),
            images,
            at: now,
        };
        let prediction = Prediction {
            billed,
            end: end_of(fate, painted),
            inference: self.settings.inference,
            begun: Instant::now(),
            input: input.clone(),
        };
        let taken = prediction.shown(&self.base_url, true);
        lock(&self.predictions).take(prediction);
        for address in request.query("webhook") {
            self.promise_webhook(id.clone(), address);
        }
        if fate == Some(&Fate::SyncTimedOut) {
            return Ok(success(&json!({
                "id": id, "status": "processing", "code": 5004, "outputs": [],
                "error": "Sync mode timed out, query the result later",
            })));
        }
        if input["enable_sync_mode"] == true {
            request.wait(self.settings.inference).await;
            return self.result(&id);
        }
        Ok(success(&taken))
    }

    /// The number of the next prediction, if the limits allow one.
    fn admit(&self, now: DateTime<Utc>) -> Result<u64, Refused> {
        let mut predictions = lock(&self.predictions);
        let over = |most: Option<u32>, now: usize| {
            most.is_some_and(|most| u32::try_from(now).map_or(true, |now| now >= most))
        };
        if over(self.settings.submits_per_minute, predictions.taken_since_a_minute(now))
            || over(self.settings.concurrent_max, predictions.running())
        {
            return Err(refused(Documented::WavespeedTooManyRequests));
        }
        Ok(predictions.next())
    }

    /// Draws the picture and says what the prediction's outputs are.
    fn paint(
        &self,
        model: &ServedModel,
        prompt: &str,
        images: &[String],
        id: &str,
        fate: Option<&Fate>,
        input: &Value,
    ) -> Result<Vec<String>, String> {
        let images: Vec<Bytes> =
            images.iter().map(|address| self.fetched(model, address)).collect::<Result<_, _>>()?;
        let order = Order { endpoint: model.endpoint.clone(), prompt: prompt.to_owned(), images };
        let picture = match fate {
            Some(Fate::BrokenPicture) => Bytes::from_static(b"\x89PNG\r\n\x1a\nand no more"),
            _ => self.painter.paint(&order)?,
        };
        if input["enable_base64_output"] == true {
            return Ok(vec![STANDARD.encode(picture)]);
        }
        let path = format!("/outputs/{id}/1.png");
        lock(&self.media).put(&path, picture);
        Ok(vec![format!("{}{path}", self.base_url)])
    }

    /// A picture that a submit names, if it is here and the model can take it.
    fn fetched(&self, model: &ServedModel, address: &str) -> Result<Bytes, String> {
        let path = address.strip_prefix(&self.base_url).unwrap_or_default();
        let found = lock(&self.media).get(path);
        let (bytes, _) = found.ok_or("failed to download an input image")?;
        let size = image::ImageReader::new(io::Cursor::new(&bytes))
            .with_guessed_format()
            .ok()
            .and_then(|reader| reader.into_dimensions().ok());
        let (width, height) = size.ok_or("an input image could not be read")?;
        let (shortest, longest) = model.side_pixels;
        if width.min(height) < shortest || width.max(height) > longest {
            return Err(format!(
                "the sides of an input image must be between {shortest} and {longest} pixels"
            ));
        }
        Ok(bytes)
    }

    /// Delivers the webhook when the prediction has ended.
    fn promise_webhook(self: &Arc<Self>, id: String, address: String) {
        let site = Arc::clone(self);
        tokio::spawn(async move {
            tokio::time::sleep(site.settings.inference).await;
            let found = lock(&site.predictions).get(&id).cloned();
            let Some(prediction) = found.filter(|prediction| !prediction.is_running()) else {
                return;
            };
            let body = prediction.delivered(&site.base_url);
            let (http, secret) = (site.http.clone(), site.settings.webhook_secret.clone());
            webhook::deliver(http, secret, address, site.settings.clock.now(), body).await;
        });
    }
}

fn parsed(request: &Request) -> Result<Value, Refused> {
    let body = request.body.as_ref().ok_or_else(|| refused(Documented::WavespeedTooLarge))?;
    serde_json::from_slice(body).map_err(|_| refused_because("the body is not valid JSON"))
}

/// The prompt and the pictures of a submit that the model takes.
fn checked<'v>(model: &ServedModel, input: &'v Value) -> Result<(&'v str, Vec<String>), Refused> {
    let prompt = input["prompt"].as_str().filter(|prompt| !prompt.trim().is_empty());
    let prompt = prompt.ok_or_else(|| refused_because("property \"prompt\" is missing"))?;
    let images = input["images"].as_array().filter(|images| !images.is_empty());
    let images = images.ok_or_else(|| refused(Documented::WavespeedBadField))?;
    if images.len() > model.pictures_max {
        let most = model.pictures_max;
        return Err(refused_because(format!("property \"images\" must have at most {most} items")));
    }
    let images: Option<Vec<String>> =
        images.iter().map(|image| image.as_str().map(str::to_owned)).collect();
    let images =
        images.ok_or_else(|| refused_because("property \"images\" must hold addresses"))?;
    if let Some(size) = input["size"].as_str()
        && !size_is_sound(size)
    {
        return Err(refused_because("property \"size\" is out of range"));
    }
    match input["output_format"].as_str() {
        None | Some("png" | "jpeg") => Ok((prompt, images)),
        Some(_) => Err(refused_because("property \"output_format\" must be png or jpeg")),
    }
}

/// `W*H` with 768² to 1280² pixels and a ratio between 1:4 and 4:1.
fn size_is_sound(size: &str) -> bool {
    let sides = size.split_once('*').and_then(|(width, height)| {
        Some((width.parse::<u64>().ok()?, height.parse::<u64>().ok()?))
    });
    sides.is_some_and(|(width, height)| {
        let pixels = width.saturating_mul(height);
        (768 * 768..=1280 * 1280).contains(&pixels)
            && width <= height.saturating_mul(4)
            && height <= width.saturating_mul(4)
    })
}
