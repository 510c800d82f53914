//! What must never be, as docs/architecture.md states it, read off the sources.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use sqlx::{Column, Executor, SqlSafeStr, Statement, TypeInfo};

use crate::support::database;

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).expect("the folder reads") {
        let path = entry.expect("an entry").path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if path.is_dir() {
            // Tests may read golden files and start servers.
            if name != "tests" {
                sources(&path, found);
            }
        } else if name.ends_with(".rs") && !name.contains("tests") && name != "known_answers.rs" {
            found.push(path);
        }
    }
}

/// The code of every source file under `src/<folder>`, without comments and unit tests.
fn code_of(folder: &str) -> Vec<(PathBuf, String)> {
    let mut found = Vec::new();
    let path = root().join("src").join(folder);
    if path.is_dir() {
        sources(&path, &mut found);
    }
    let file = root().join("src").join(format!("{folder}.rs"));
    if file.is_file() {
        found.push(file);
    }
    assert!(!found.is_empty(), "src/{folder} has no sources");
    found
        .into_iter()
        .map(|path| {
            let text = fs::read_to_string(&path).expect("the file reads");
            let code = text.split("#[cfg(test)]\nmod tests {").next().unwrap_or("");
            let code: Vec<&str> =
                code.lines().filter(|line| !line.trim_start().starts_with("//")).collect();
            (path, code.join("\n"))
        })
        .collect()
}

#[test]
fn the_pure_core_touches_nothing_of_the_world() {
    let forbidden = [
        "sqlx",
        "tokio",
        "reqwest",
        "axum",
        "std::fs",
        "std::net",
        "std::process",
        "std::env",
        "std::time::Instant",
        "SystemTime",
        "Utc::now",
        "rand::rng()",
        "thread_rng",
        "rand::random",
    ];
    for folder in ["analysis", "cycle", "experiment", "report"] {
        for (path, code) in code_of(folder) {
            for word in forbidden {
                assert!(!code.contains(word), "{} uses {word}", path.display());
            }
        }
    }
}

#[test]
fn sql_is_written_in_the_store_only() {
    for folder in [
        "analysis",
        "claude",
        "cycle",
        "dashboard",
        "demo",
        "effects",
        "experiment",
        "http",
        "notify",
        "orchestrator",
        "postgres",
        "report",
        "research",
        "runtime",
        "stand_in",
        "task_log",
        "workflow",
        "cli",
    ] {
        for (path, code) in code_of(folder) {
            assert!(
                !code.contains("sqlx::query") && !code.contains("query!("),
                "{} holds SQL; it belongs into src/store",
                path.display()
            );
        }
    }
}

#[test]
fn modules_depend_in_one_direction() {
    let layers: [&[&str]; 5] = [
        &["cycle", "experiment"],
        &["analysis", "workflow", "research", "report"],
        &["store", "claude"],
        &["effects", "runtime", "task_log"],
        &["http", "cli", "server", "demo", "dashboard", "notify", "orchestrator"],
    ];
    // The log's types are what the store writes and the windows are what a prompt shows, so these
    // two look up by one layer, for types alone.
    let allowed = [("store", "task_log")];
    for (height, layer) in layers.iter().enumerate() {
        for module in *layer {
            for (path, code) in code_of(module) {
                for above in layers[height + 1..].iter().flat_map(|layer| layer.iter()) {
                    let uses = code.contains(&format!("crate::{above}::"));
                    assert!(
                        !uses || allowed.contains(&(*module, *above)),
                        "{} uses crate::{above}, which stands above it",
                        path.display()
                    );
                }
            }
        }
    }
}

#[test]
fn a_cycle_is_changed_by_advance_alone() {
    for folder in
        ["effects", "http", "cli", "dashboard", "demo", "server", "notify", "orchestrator"]
    {
        for (path, code) in code_of(folder) {
            assert!(
                !code.contains("cycles::checkpoint") && !code.contains("cycle::step"),
                "{} changes a cycle without runtime::advance",
                path.display()
            );
        }
    }
}

/// The offline build believes .sqlx; this asks PostgreSQL whether it is right.
#[tokio::test]
async fn every_recorded_statement_is_what_the_schema_says() {
    let pool = database().await;
    let mut statements = 0;
    for entry in fs::read_dir(root().join(".sqlx")).expect(".sqlx is committed") {
        let path = entry.expect("an entry").path();
        let text = fs::read_to_string(&path).expect("the file reads");
        let recorded: serde_json::Value = serde_json::from_str(&text).expect("the file is JSON");
        let query = recorded["query"].as_str().expect("a query").to_owned();
        let prepared = (&pool)
            .prepare(sqlx::AssertSqlSafe(query.clone()).into_sql_str())
            .await
            .unwrap_or_else(|error| panic!("{query}\ndoes not fit the schema: {error}"));
        let columns: Vec<String> =
            prepared.columns().iter().map(|column| column.name().to_owned()).collect();
        let types: Vec<String> =
            prepared.columns().iter().map(|column| column.type_info().name().to_owned()).collect();
        let described = recorded["describe"]["columns"].as_array().expect("columns");
        let names: Vec<&str> =
            described.iter().map(|column| column["name"].as_str().expect("a name")).collect();
        assert_eq!(columns, names, "{query}");
        for (found, column) in types.iter().zip(described) {
            let known = column["type_info"].to_string().to_lowercase();
            let found = found.trim_end_matches("[]").to_lowercase();
            let same = known.contains(&found) || alias(&found).is_some_and(|a| known.contains(a));
            assert!(same, "{query}\nhas a column of type {found}, recorded as {known}");
        }
        statements += 1;
    }
    assert!(statements > 100, "only {statements} statements are recorded");
}

fn alias(name: &str) -> Option<&'static str> {
    match name {
        "int4" => Some("int4"),
        "bigint" => Some("int8"),
        "integer" => Some("int4"),
        _ => None,
    }
}

#[test]
fn every_key_of_the_schema_contains_its_workflow() {
    let reference = BTreeSet::from(["workflows", "api_keys", "sessions", "automation_switch"]);
    let mut migrations: Vec<PathBuf> = fs::read_dir(root().join("migrations"))
        .expect("the migrations are there")
        .map(|entry| entry.expect("an entry").path())
        .collect();
    migrations.sort();
    let mut keys = 0;
    for path in migrations {
        let text = fs::read_to_string(&path).expect("the file reads");
        let mut table = String::new();
        for line in text.lines().map(str::trim) {
            if let Some(rest) = line.strip_prefix("CREATE TABLE ") {
                table = rest.trim_end_matches(" (").to_owned();
            }
            let is_key = ["PRIMARY KEY (", "UNIQUE (", "FOREIGN KEY ("]
                .iter()
                .any(|start| line.starts_with(start));
            if is_key && !reference.contains(table.as_str()) {
                assert!(line.contains("(workflow_id"), "{table}: {line}");
                keys += 1;
            }
            if let Some(rest) = line.strip_prefix("CREATE UNIQUE INDEX ") {
                let on = rest.split(" ON ").nth(1).unwrap_or("");
                let table = on.split(' ').next().unwrap_or("");
                assert!(reference.contains(table) || on.contains("(workflow_id"), "{line}");
            }
        }
    }
    assert!(keys > 20, "only {keys} keys were found");
}
