//! What a route says of itself, for the interface's description.
//!
//! A route can be made from a [`Described`] only, so that there is none without words; the schemas come
//! from the types that its handler takes and gives.

use std::collections::BTreeMap;

use axum::routing::MethodRouter;
use serde_json::{Map, Value, json};
use utoipa::openapi::path::ParameterIn;
use utoipa::{IntoParams, ToSchema};

use super::App;
use super::auth::Need;

/// The media type of every refusal.
pub const PROBLEM: &str = "application/problem+json";
/// The media type of the pages.
const HTML: &str = "text/html";
/// What a workflow's or a model's name is: `workflow::names` in a pattern.
const NAME_PATTERN: &str = r"^[A-Za-z0-9](\.?[A-Za-z0-9_-])*$";

/// Schemas by their names.
pub type Schemas = Vec<(String, Value)>;

/// A route: what it says of itself, and what answers.
pub struct Route {
    /// What it says of itself.
    pub described: Described,
    /// What answers.
    pub handler: MethodRouter<App>,
}

/// What a route says of itself.
#[derive(Debug, Clone)]
pub struct Described {
    /// `get`, `put`, `post` or `delete`.
    pub method: &'static str,
    /// Its path with its captures in braces.
    pub path: String,
    /// What a caller needs; none where everybody may.
    pub need: Option<Need>,
    /// The group that it is shown in.
    pub group: &'static str,
    id: String,
    summary: &'static str,
    answer: Answer,
    query: Vec<Value>,
    header: Vec<Value>,
    body: Option<Value>,
    refusals: Vec<u16>,
    schemas: Schemas,
}

/// What a route answers when all went well.
#[derive(Debug, Clone)]
pub struct Answer {
    status: u16,
    says: &'static str,
    content: Value,
    /// True where refusals are pages for browsers.
    is_page: bool,
    /// Where it sends the caller instead, at times.
    or_leads: Option<&'static str>,
    schemas: Schemas,
}

/// A reference to a type's schema, and the schemas behind it.
fn schema_of<T: ToSchema>() -> (Value, Schemas) {
    let name = T::name().into_owned();
    let mut found = vec![(name.clone(), T::schema())];
    T::schemas(&mut found);
    let schemas = found.into_iter().map(|(name, schema)| (name, json!(schema))).collect();
    (reference(&name), schemas)
}

/// A reference to the schema of that name.
pub fn reference(name: &str) -> Value {
    json!({ "$ref": format!("#/components/schemas/{name}") })
}

/// 200 with a type in JSON.
#[must_use]
pub fn gives<T: ToSchema>(says: &'static str) -> Answer {
    let (schema, schemas) = schema_of::<T>();
    let content = json!({ "application/json": { "schema": schema } });
    Answer { status: 200, says, content, is_page: false, or_leads: None, schemas }
}

/// 200 with a text of that media type.
pub fn text(media_type: &'static str, says: &'static str) -> Answer {
    let content = json!({ media_type: { "schema": { "type": "string" } } });
    Answer { status: 200, says, content, is_page: false, or_leads: None, schemas: Vec::new() }
}

/// 200 with any object of JSON.
pub fn any_object(says: &'static str) -> Answer {
    let content = json!({ "application/json": { "schema": { "type": "object" } } });
    Answer { content, ..text("application/json", says) }
}

/// 303 to a page.
pub fn leads(says: &'static str) -> Answer {
    let (status, content) = (303, json!({}));
    Answer { status, says, content, is_page: true, or_leads: None, schemas: Vec::new() }
}

/// 200 with a page of the dashboard, its data, or one of its tables.
pub fn page<T: ToSchema>(says: &'static str) -> Answer {
    let (data, mut schemas) = schema_of::<T>();
    let (table, more) = schema_of::<crate::dashboard::table::TableData<'_>>();
    schemas.extend(more);
    let content = json!({
        HTML: { "schema": { "type": "string" } },
        "application/json": { "schema": { "anyOf": [data, table] } },
        "text/csv": { "schema": { "type": "string" } },
    });
    let or_leads = Some("To the way in, for a browser that has not signed in");
    Answer { status: 200, says, content, is_page: true, or_leads, schemas }
}

impl Answer {
    /// The answer in another media type, too, as text.
    pub fn or_text(mut self, media_type: &str) -> Self {
        self.content[media_type] = json!({ "schema": { "type": "string" } });
        self
    }

    /// The answer, or 303 to another page.
    pub const fn or_leads(mut self, says: &'static str) -> Self {
        self.is_page = true;
        self.or_leads = Some(says);
        self
    }
}

impl Described {
    /// A route that needs nothing and is in no group yet.
    pub fn new(
        method: &'static str,
        path: impl Into<String>,
        id: impl Into<String>,
        summary: &'static str,
        answer: Answer,
    ) -> Self {
        Self {
            method,
            path: path.into(),
            need: None,
            group: "",
            id: id.into(),
            summary,
            answer,
            query: Vec::new(),
            header: Vec::new(),
            body: None,
            refusals: Vec::new(),
            schemas: Vec::new(),
        }
    }

    /// The route in a group of the description.
    #[must_use]
    pub const fn in_group(mut self, group: &'static str) -> Self {
        self.group = group;
        self
    }

    /// The route, taking any object, and refusing it under these statuses.
    #[must_use]
    pub fn taking_any(mut self, says: &str, refusals: &[u16]) -> Self {
        let content = json!({ "application/json": { "schema": { "type": "object" } } });
        self.body = Some(json!({ "description": says, "content": content, "required": true }));
        self.refusals.extend(refusals);
        self
    }

    /// The route with what answers.
    pub const fn by(self, handler: MethodRouter<App>) -> Route {
        Route { described: self, handler }
    }

    /// The operation, as OpenAPI has it.
    pub fn operation(&self) -> Value {
        let mut operation = json!({
            "operationId": self.id,
            "summary": self.summary,
            "tags": [self.group],
            "responses": self.responses(),
            "security": self.security(),
        });
        if let Some(need) = self.need {
            operation["description"] = json!(format!("For keys of the role {}.", need.words()));
        }
        let parameters: Vec<Value> = self
            .captures()
            .map(capture)
            .chain(self.query.iter().cloned())
            .chain(self.header.iter().cloned())
            .collect();
        if !parameters.is_empty() {
            operation["parameters"] = json!(parameters);
        }
        if let Some(body) = &self.body {
            operation["requestBody"] = body.clone();
        }
        operation
    }

    /// Every schema that the operation refers to.
    pub fn schemas(&self) -> impl Iterator<Item = &(String, Value)> {
        self.schemas.iter().chain(&self.answer.schemas)
    }

    fn captures(&self) -> impl Iterator<Item = &str> {
        self.path.split('/').filter_map(|part| part.strip_prefix('{')?.strip_suffix('}'))
    }

    fn security(&self) -> Value {
        match self.need {
            None => json!([]),
            Some(need) if need.is_for_sessions() => json!([{ "key": [] }, { "session": [] }]),
            Some(_) => json!([{ "key": [] }]),
        }
    }

    fn responses(&self) -> BTreeMap<String, Value> {
        let mut answer = json!({ "description": self.answer.says });
        if self.answer.content != json!({}) {
            answer["content"] = self.answer.content.clone();
        }
        let mut responses = BTreeMap::from([(self.answer.status.to_string(), answer)]);
        if let Some(says) = self.answer.or_leads {
            responses.insert("303".to_owned(), json!({ "description": says }));
        }
        let needs_key: &[u16] = if self.need.is_some() { &[401, 403, 429] } else { &[] };
        let has_captures: &[u16] = if self.captures().next().is_some() { &[404, 422] } else { &[] };
        let has_query: &[u16] = if self.query.is_empty() { &[] } else { &[400] };
        let refusals = [&[500, 503], needs_key, has_captures, has_query, &self.refusals];
        for status in refusals.into_iter().flatten() {
            let kind = if self.answer.is_page { "Page" } else { "Problem" };
            let shared = json!({ "$ref": format!("#/components/responses/{kind}{status}") });
            responses.insert(status.to_string(), shared);
        }
        responses
    }
}

/// Every refusal that routes share, by name: `Problem404` for programs, `Page404` where a browser gets a page.
pub fn refusals() -> Value {
    let mut shared = Map::new();
    for status in [304, 400, 401, 403, 404, 408, 409, 410, 413, 415, 422, 429, 500, 503] {
        shared.insert(format!("Problem{status}"), refusal(status, false));
        shared.insert(format!("Page{status}"), refusal(status, true));
    }
    Value::Object(shared)
}

fn refusal(status: u16, is_page: bool) -> Value {
    if status == 304 {
        return json!({ "description": "The client's copy is still right" });
    }
    let mut content = json!({ PROBLEM: { "schema": reference("Problem") } });
    if is_page {
        content[HTML] = json!({ "schema": { "type": "string" } });
    }
    json!({ "description": super::error::title(status), "content": content })
}

impl Route {
    /// The route, asking for a query.
    pub fn asks<Q: IntoParams>(mut self) -> Self {
        let parameters = Q::into_params(|| Some(ParameterIn::Query));
        self.described.query.extend(parameters.iter().map(|parameter| {
            let mut parameter = json!(parameter);
            // An absent parameter is left out; there is no null in a query.
            if let Some(types) = parameter["schema"]["type"].as_array() {
                let plain = types.iter().find(|kind| *kind != "null").cloned();
                parameter["schema"]["type"] = json!(plain);
            }
            parameter
        }));
        self
    }

    /// The route, taking a body in JSON. A body that is left out is an empty object.
    pub fn takes<B: ToSchema>(self, required: bool) -> Self {
        self.takes_as::<B>("application/json", required).refuses(&[408, 413, 415, 422])
    }

    /// The route, taking a form.
    pub fn takes_form<B: ToSchema>(self) -> Self {
        self.takes_as::<B>("application/x-www-form-urlencoded", true).refuses(&[422])
    }

    fn takes_as<B: ToSchema>(mut self, media_type: &str, required: bool) -> Self {
        let (schema, schemas) = schema_of::<B>();
        self.described.schemas.extend(schemas);
        let content = json!({ media_type: { "schema": schema } });
        self.described.body = Some(json!({ "content": content, "required": required }));
        self
    }

    /// The route, taking a body of these media types, whose schemas refer to this one.
    pub fn takes_content(mut self, content: &Value, name: &str, schema: Value) -> Self {
        self.described.body = Some(json!({ "content": content, "required": true }));
        self.described.schemas.push((name.to_owned(), schema));
        self.refuses(&[408, 413, 415, 422])
    }

    /// The route, reading a header where it is sent.
    pub fn reads(mut self, name: &str, says: &str, schema: &Value) -> Self {
        self.described.header.push(json!({
            "name": name, "in": "header", "description": says, "required": false, "schema": schema
        }));
        self
    }

    /// The route with other statuses that it may answer.
    pub fn refuses(mut self, statuses: &[u16]) -> Self {
        self.described.refusals.extend(statuses);
        self
    }
}

/// A capture of a path, by its name.
fn capture(name: &str) -> Value {
    let (says, schema) = match name {
        "workflow" => ("The workflow's name", name_schema()),
        "model" => ("The model's name", name_schema()),
        "task" => (
            "The task's name in the pipeline, percent-encoded",
            json!({ "type": "string", "minLength": 1, "maxLength": 200, "pattern": r"^[^\u0000]+$" }),
        ),
        _ => (
            "A number from 1",
            json!({ "type": "integer", "format": "int32", "minimum": 1, "maximum": i32::MAX }),
        ),
    };
    json!({ "name": name, "in": "path", "description": says, "required": true, "schema": schema })
}

fn name_schema() -> Value {
    json!({ "type": "string", "minLength": 1, "maxLength": 64, "pattern": NAME_PATTERN })
}
