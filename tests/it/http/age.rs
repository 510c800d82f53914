//! The pages of a workflow that is old: lists have pages, and what was left behind costs a page nothing.

use axum::body::Body;
use axum::http::header;
use mathesis::store::figures;
use serde_json::Value;
use sqlx::AssertSqlSafe;

use super::browser::look;
use super::{Site, request};
use crate::plans;
use crate::support::stage::NANO;
use crate::support::{Stage, Statements};

const HOME: &str = "/analytics/image-editing";

/// Cycles that are over, with all that they left behind: insights, a version, its test, its probation, its watch, changes of
/// files. The version of the first start serves throughout.
async fn cycles_passed(stage: &Stage, from: i32, to: i32) {
    let passed = format!(
        r#"
        SET session_replication_role = replica;
        INSERT INTO cycles (workflow_id, number, state, version, snapshot, definition_hash, opened_at, state_entered_at,
                            ended_at)
        SELECT workflow_id, n, 'rolled_back', 8, snapshot, definition_hash, opened_at, opened_at, opened_at
          FROM cycles, generate_series({from}, {to}) AS n WHERE number = 1;
        INSERT INTO insights (workflow_id, cycle, ordinal, insight_type, model_name, description, confidence_score,
                              tasks_analyzed, example_task_ids, suggested_change, standing, judged_in_cycle, created_at)
        SELECT workflow_id, n, o, 'prompt_pattern', '{NANO}', 'Logos change.', .8, 50, '{{task-1}}', 'Keep logos.',
               CASE o WHEN 1 THEN 'confirmed' ELSE 'new' END, CASE o WHEN 1 THEN n + 1 END, now()
          FROM workflows, generate_series({from}, {to}) AS n, generate_series(1, 2) AS o;
        INSERT INTO prompt_versions (workflow_id, model_name, version, prompt_template, activation_text, research_text,
                                     content_hash, parent_version, summary, cycle, based_on, created_at, created_by)
        SELECT workflow_id, model_name, n, prompt_template, activation_text, research_text, n::text, 1, 'Keeps logos.', n,
               jsonb_build_array('1', (n - 1) || '.2'), created_at, created_by
          FROM prompt_versions, generate_series({from}, {to}) AS n WHERE model_name = '{NANO}' AND version = 1;
        INSERT INTO experiments (workflow_id, cycle, model_name, control_version, candidate_version, deck_seed,
                                 opened_at, status, reason, decided_at, control_sum, control_count, candidate_sum,
                                 candidate_count)
        SELECT workflow_id, n, '{NANO}', 1, n, 7, now(), 'adopted', 'improved', now(), 60, 10, 72, 10
          FROM workflows, generate_series({from}, {to}) AS n;
        INSERT INTO probations (workflow_id, cycle, model_name, opened_at, status, decided_at, sentence)
        SELECT workflow_id, n, '{NANO}', now(), 'regressed', now(), 'It goes back.'
          FROM workflows, generate_series({from}, {to}) AS n;
        INSERT INTO watches (workflow_id, cycle, model_name, version, reference_sum, reference_count,
                             tolerance_basis_points, taken_at, taken_task_id, log_stakes, opened_at, ended_at,
                             ended_because)
        SELECT workflow_id, n, '{NANO}', n, 72, 10, 500, now(), 0, array_fill(0.1::float8, ARRAY[9]), now(), now(),
               'replaced' FROM workflows, generate_series({from}, {to}) AS n;
        INSERT INTO config_changes (workflow_id, model_name, kind, from_version, to_version, cycle, seq, status,
                                    backup_name, summary, changed_by, intended_at, finished_at)
        SELECT workflow_id, '{NANO}', kind, 1, n, n, 6 + length(kind), 'done', 'backup', 'Keeps logos.', 'mathesis',
               now(), now()
          FROM workflows, generate_series({from}, {to}) AS n, unnest(ARRAY['apply', 'revert']) AS kind;
        SET session_replication_role = DEFAULT;
        ANALYZE"#
    );
    let mut connection = stage.own_connection().await;
    sqlx::raw_sql(AssertSqlSafe(passed))
        .execute(&mut connection)
        .await
        .expect("cycles have passed");
}

async fn html(site: &Site, path: &str) -> String {
    let page = look(site, path, "").await;
    assert_eq!(page.status, 200, "{path}: {}", page.text);
    page.text.replace("&#x2f;", "/").replace("&amp;", "&")
}

/// The numbers of the versions that a model's page lists, as its data has them.
async fn listed(site: &Site, path: &str) -> (Vec<i64>, Value) {
    let asked = request("GET", path).header(header::ACCEPT, "application/json");
    let data = site.send(asked.body(Body::empty()).unwrap()).await.ok();
    let versions = data["versions"].as_array().expect("versions");
    (versions.iter().filter_map(|version| version["version"].as_i64()).collect(), data)
}

/// Where the link of these words leads.
fn link<'h>(html: &'h str, words: &str) -> Option<&'h str> {
    let before = html.split_once(&format!(">{words}</a>"))?.0;
    before.rsplit_once("href=\"")?.1.split('"').next()
}

#[tokio::test]
async fn a_models_versions_come_in_pages_that_lead_from_one_to_the_next() {
    let stage = Stage::new().await;
    cycles_passed(&stage, 2, 121).await;
    let site = Site::on(stage, true);
    let model = format!("{HOME}/models/{NANO}");
    let (mut address, mut seen, mut pages) = (model.clone(), Vec::new(), 0);
    loop {
        let (shown, page) = (listed(&site, &address).await, html(&site, &address).await);
        let (numbers, data) = shown;
        pages += 1;
        assert!(numbers.len() <= 50, "{} versions on one page", numbers.len());
        assert!(page.contains("Version 1 serves.") && data["active_version"] == 1, "{page}");
        assert_eq!(
            page.matches("Roll back to it").count(),
            numbers.iter().filter(|n| **n != 1).count()
        );
        let newest = link(&page, "Newest versions");
        assert_eq!(newest, (pages > 1).then_some(model.as_str()), "page {pages}");
        let csv = site.get(link(&page, "CSV").expect("the table is a file")).await;
        assert_eq!(csv.text.lines().count(), numbers.len() + 1, "the file is what the page lists");
        seen.extend(numbers);
        let Some(older) = link(&page, "Older versions") else { break };
        older.clone_into(&mut address);
    }
    assert_eq!((pages, seen), (3, (1..=121).rev().collect()), "each version once, newest first");
}

#[tokio::test]
async fn a_comparison_and_a_way_back_stay_on_the_page_that_they_were_asked_for_on() {
    let stage = Stage::new().await;
    cycles_passed(&stage, 2, 121).await;
    let site = Site::on(stage, true);
    let model = format!("{HOME}/models/{NANO}");
    let page = html(&site, &format!("{model}?after=72")).await;
    let diff = link(&page, "Diff").expect("a version has a parent");
    assert_eq!(diff, format!("{model}?after=72&from=1&to=71#diff"));
    let back = link(&page, "Roll back to it").expect("a version that does not serve");
    assert_eq!(back, format!("{model}?after=72&rollback=71#rollback"));
    insta::assert_snapshot!(form(&page), @r##"
    <form method="get" action="/analytics/image-editing/models/nano-banana#diff" class="range">
    <input type="hidden" name="after" value="72">
    <label>Old <input type="number" name="from" min="1" max="121" value="1" required></label>
    <label>New <input type="number" name="to" min="1" max="121" value="121" required></label>
    <button type="submit">Compare</button>
    "##);
    for (path, says) in [
        (format!("{model}?after=72&from=1&to=71"), "From version 1 to version 71"),
        (format!("{model}?after=72&rollback=71"), "Put version 71 back?"),
        (format!("{model}?after=1"), "No version is that old."),
    ] {
        let page = html(&site, &path).await;
        assert!(page.contains(says), "{path} does not say {says:?}: {page}");
    }
    let wrong = site.get(&format!("{model}?after=soon")).await.problem();
    assert_eq!(wrong, (400, "invalid_query".to_owned()));
}

/// The form that asks which versions to compare, a line an element.
fn form(page: &str) -> String {
    let begins = page.find("<form method=\"get\"").expect("a form");
    let ends = begins + page[begins..].find("</form>").expect("its end");
    page[begins..ends].split_whitespace().collect::<Vec<_>>().join(" ").replace("> <", ">\n<")
}

#[tokio::test]
async fn pages_cost_as_many_statements_and_are_as_long_after_ten_times_as_many_cycles() {
    let stage = Stage::new().await;
    let site = Site::on(stage, true);
    cycles_passed(&site.stage, 2, 400).await;
    let young = costs(&site).await;
    cycles_passed(&site.stage, 401, 4_000).await;
    let old = costs(&site).await;
    for ((path, statements, long), (_, before, was_long)) in old.iter().zip(&young) {
        assert_eq!(statements, before, "statements of {path}");
        // Numbers have a digit more.
        assert!(*long < was_long + was_long / 20, "{path} was {was_long} bytes and is {long}");
    }
    let statements: Vec<String> =
        old.iter().map(|(path, statements, _)| format!("{statements} {path}")).collect();
    insta::assert_snapshot!(statements.join("\n"), @"
    18 /analytics
    18 /analytics/image-editing
    1 /analytics/image-editing/insights
    4 /analytics/image-editing/models/nano-banana
    1 /analytics/image-editing/verdicts
    1 /analytics/image-editing/changes
    1 /analytics/image-editing/cycles
    16 /analytics/image-editing/cycles/300
    ");
}

/// What each page costs in statements, and how many bytes it has.
async fn costs(site: &Site) -> Vec<(String, usize, usize)> {
    let (stage, zone) = (&site.stage, site.stage.workflow.definition.timezone);
    figures::refresh(stage.pool(), stage.id(), zone, stage.engine.now()).await.unwrap();
    let paths =
        ["", "/insights", "/models/nano-banana", "/verdicts", "/changes", "/cycles", "/cycles/300"];
    let paths = paths.map(|path| format!("{HOME}{path}"));
    let mut costs = Vec::new();
    for path in ["/analytics".to_owned()].into_iter().chain(paths) {
        let counting = Statements::counting();
        let page = html(site, &path).await;
        costs.push((path, counting.since(), page.len()));
    }
    costs
}

#[tokio::test]
async fn the_insights_of_a_page_are_found_by_indexes_and_so_is_what_became_of_them() {
    let stage = Stage::new().await;
    cycles_passed(&stage, 2, 4_000).await;
    let statement = plans::statement("WITH chosen AS MATERIALIZED");
    let explain = format!(
        "SET plan_cache_mode = force_custom_plan; PREPARE page AS {statement};
         EXPLAIN (FORMAT TEXT) EXECUTE page (1, NULL, NULL, false, 200)"
    );
    let mut connection = stage.own_connection().await;
    let (prepare, explain) = explain.rsplit_once(';').expect("two statements");
    sqlx::raw_sql(AssertSqlSafe(prepare.to_owned()))
        .execute(&mut connection)
        .await
        .expect("it prepares");
    let plan: Vec<String> = sqlx::query_scalar(AssertSqlSafe(explain.to_owned()))
        .persistent(false)
        .fetch_all(&mut connection)
        .await
        .expect("it is planned");
    let plan = plan.join("\n");
    for index in [
        "insights_by_news",
        "prompt_versions_by_insight",
        "prompt_versions_by_cycle",
        "experiments_pkey",
        "config_changes_rollbacks",
    ] {
        assert!(plan.contains(index), "it does not use {index}:\n{plan}");
    }
    assert!(!plan.contains("Seq Scan") && !plan.contains("JIT"), "{plan}");
}
