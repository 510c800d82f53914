use std::collections::{BTreeMap, BTreeSet};

use super::*;
use crate::orchestrator::webhook;

fn whole() -> Value {
    of_routes(&[webhook::described()])
}

/// Every operation: its path, its method, and itself.
fn operations(document: &Value) -> Vec<(&str, &str, &Value)> {
    let paths = document["paths"].as_object().unwrap();
    paths
        .iter()
        .flat_map(|(path, methods)| {
            let methods = methods.as_object().unwrap();
            methods.iter().map(|(method, it)| (path.as_str(), method.as_str(), it))
        })
        .collect()
}

/// Every `$ref` below a value.
fn references(value: &Value, found: &mut BTreeSet<String>) {
    match value {
        Value::Object(map) => {
            let name = map.get("$ref").and_then(Value::as_str).unwrap_or_default();
            if let Some(name) = name.strip_prefix("#/components/schemas/") {
                found.insert(name.to_owned());
            }
            map.values().for_each(|value| references(value, found));
        }
        Value::Array(items) => items.iter().for_each(|value| references(value, found)),
        _ => {}
    }
}

#[test]
fn the_description_is_what_is_on_record() {
    insta::assert_snapshot!(serde_json::to_string_pretty(&whole()).unwrap());
}

#[test]
fn every_reference_leads_to_a_schema_and_every_schema_is_referred_to() {
    let document = whole();
    let mut referred = BTreeSet::new();
    references(&document, &mut referred);
    let known: BTreeSet<String> =
        document["components"]["schemas"].as_object().unwrap().keys().cloned().collect();
    assert_eq!(referred, known);
}

#[test]
fn no_two_types_share_a_name() {
    let routes = routes::all(Vec::new());
    let mut known: BTreeMap<&String, &Value> = BTreeMap::new();
    for (name, schema) in routes.iter().flat_map(|route| route.described.schemas()) {
        let first = *known.entry(name).or_insert(schema);
        assert_eq!(first, schema, "two types are called {name}");
    }
    assert!(known.len() > 50);
}

#[test]
fn operations_have_names_of_their_own_and_refuse_with_problems() {
    let document = whole();
    let all = operations(&document);
    let ids: BTreeSet<&str> =
        all.iter().map(|(_, _, it)| it["operationId"].as_str().unwrap()).collect();
    assert_eq!(ids.len(), all.len());
    for (path, method, operation) in all {
        let responses = operation["responses"].as_object().unwrap();
        assert!(responses.contains_key("500"), "{method} {path}");
        for (status, response) in responses {
            let refused = status.starts_with(['4', '5']);
            let shared = response["$ref"].as_str().unwrap_or_default();
            let name = shared.trim_start_matches("#/components/responses/");
            let response = &document["components"]["responses"][name];
            let has_problem = response["content"]["application/problem+json"].is_object();
            assert_eq!(refused, has_problem, "{method} {path} {status}");
        }
    }
}

#[test]
fn a_body_that_is_read_field_by_field_lets_no_other_field_in() {
    let document = whole();
    for (path, method, operation) in operations(&document) {
        let Some(content) = operation["requestBody"]["content"].as_object() else { continue };
        for schema in content.values().map(|content| &content["schema"]) {
            let Some(name) = schema["$ref"].as_str() else { continue };
            let name = name.rsplit('/').next().unwrap();
            let schema = &document["components"]["schemas"][name];
            assert_eq!(schema["additionalProperties"], false, "{method} {path}: {name}");
        }
    }
}
