use chrono::{DateTime, NaiveDate, Utc};
use chrono_tz::Tz;

use super::*;
use crate::dashboard::{CONTENT_SECURITY_POLICY, STYLESHEET, WorkflowAnalytics, first, words};
use crate::experiment::ByArm;
use crate::experiment::evidence::Evidence;
use crate::experiment::gate::{GateRules, Look};
use crate::experiment::noise::NoiseFloor;
use crate::store::analytics::{
    Activation, Analytics, ArmCount, Cost, Experiment, Hold, Insight, ModelDay, ModelTotals,
    ModelVersions, OpenCycle, Phase, RunningExperiment, TaskDay, TaskTotals, Version, compare,
};
use crate::store::gate::VersionNoise;
use crate::store::watches::WatchRow;

const HOSTILE: &str = "<script>alert('x')</script>\" onload=\"x";

fn at(text: &str) -> DateTime<Utc> {
    text.parse().unwrap()
}

fn day(number: u32) -> NaiveDate {
    NaiveDate::from_ymd_opt(2026, 11, number).unwrap()
}

/// A workflow on its first day: one cycle, no task.
fn fresh() -> Analytics {
    Analytics {
        generated_at: at("2026-11-10T20:00:00Z"),
        time_zone: Tz::Europe__Athens,
        from: None,
        to: None,
        model: None,
        category: None,
        categories: vec![],
        model_names: vec![],
        counted_at: None,
        score_max: 10,
        tasks: TaskTotals::default(),
        models: vec![],
        task_days: vec![],
        model_days: vec![],
        activations: vec![],
        learning: None,
        cycle: Some(OpenCycle {
            number: 1,
            state: "collecting".to_owned(),
            opened_at: at("2026-11-09T22:30:00Z"),
            since: at("2026-11-09T22:30:00Z"),
            waiting_tasks: 37,
            waiting_lately: 0,
            passed: vec![],
            trigger_tasks: 50,
        }),
        holds: vec![],
        running: vec![],
        past: vec![],
        watches: vec![],
        noise: vec![],
        insights: vec![],
        versions: vec![],
        config_changes: vec![],
        cost: Cost {
            month: day(1),
            calls: 0,
            spent_usd: "0".parse().unwrap(),
            estimated_usd: "0".parse().unwrap(),
            budget_usd: None,
        },
    }
}

fn tasks(number: u32) -> TaskDay {
    TaskDay {
        day: day(number),
        total: 5,
        completed: 5,
        errored: 0,
        abandoned: 0,
        running: 0,
        with_winner: 5,
        kept: 3,
        deleted: 1,
        removed_unanalyzed: 0,
        iterations_sum: 8,
        iterations_tasks: 5,
        processing_sum_ms: 240_000,
        processing_tasks: 5,
        mean_iterations: Some(1.6),
        mean_processing_seconds: Some(48.0),
    }
}

fn scores(number: u32, model: &str, score_sum: i64) -> ModelDay {
    ModelDay {
        day: day(number),
        model: model.to_owned(),
        attempts: 5,
        scored: 5,
        score_sum,
        mean_score: None,
        passed: 3,
        wins: 5,
    }
}

fn arm(scored: i64, dealt: i64) -> ArmCount {
    let scores = (0..scored).map(|_| 7).collect();
    ArmCount {
        slots: 10,
        dealt,
        scored,
        sum: 7 * scored,
        mean: Some(7.0),
        scores,
        dealt_lately: dealt,
    }
}

fn evidence() -> Evidence {
    let block = ByArm { control: vec![7, 7], candidate: vec![9, 8] };
    let look = Look { blocks: vec![block; 5], missed: ByArm::default() };
    let rules = GateRules { threshold_basis_points: 1000, scores_per_arm_min: 8, score_max: 10 };
    Evidence::of(&rules, &look)
}

fn alarmed(model: &str) -> WatchRow {
    WatchRow {
        cycle: 1,
        model_name: model.to_owned(),
        version: 2,
        reference_sum: 70,
        reference_count: 10,
        tolerance_basis_points: 500,
        taken_at: at("2026-11-09T22:30:00Z"),
        taken_task_id: 7,
        scores: 24,
        score_sum: 96,
        judge_model: None,
        judge_prompt_version: None,
        log_stakes: vec![0.0; 9],
        log_e: 3.5,
        opened_at: at("2026-11-09T22:30:00Z"),
        alarmed_at: Some(at("2026-11-09T22:30:00Z")),
        ended_at: None,
        ended_because: None,
    }
}

/// In the middle of a test, with every text that somebody else wrote set to `text`.
fn testing(text: &str) -> Analytics {
    let task_days = vec![tasks(8), tasks(9)];
    let model_days = vec![scores(8, text, 30), scores(9, text, 40)];
    Analytics {
        learning: compare(&task_days, &model_days, None, day(9)),
        categories: vec![text.to_owned(), String::new()],
        model_names: vec![text.to_owned(), "wan".to_owned()],
        tasks: TaskTotals { total: 10, ..TaskTotals::default() },
        models: vec![ModelTotals {
            model: text.to_owned(),
            observed: true,
            attempts: 10,
            scored: 10,
            score_sum: 70,
            mean_score: Some(7.0),
            passed: 6,
            pass_rate: Some(0.6),
            wins: 10,
            win_rate: Some(1.0),
        }],
        task_days,
        model_days,
        activations: vec![Activation {
            day: day(9),
            at: at("2026-11-09T00:00:00Z"),
            model: text.to_owned(),
            version: 2,
            kind: "apply".to_owned(),
        }],
        cycle: Some(OpenCycle { state: "testing".to_owned(), ..fresh().cycle.unwrap() }),
        holds: vec![Hold {
            kind: "operator".to_owned(),
            subject: String::new(),
            code: "paused".to_owned(),
            reason: text.to_owned(),
            remedy: text.to_owned(),
            placed_at: at("2026-11-09T22:30:00Z"),
            placed_by: text.to_owned(),
            workflow_wide: false,
        }],
        running: vec![RunningExperiment {
            cycle: 1,
            model: text.to_owned(),
            phase: Phase::Test,
            old_version: 1,
            new_version: 2,
            opened_at: at("2026-11-09T22:30:00Z"),
            dealing_since: at("2026-11-09T22:30:00Z"),
            old: arm(6, 8),
            new: arm(7, 7),
        }],
        past: vec![Experiment {
            cycle: 1,
            model: text.to_owned(),
            old_version: 1,
            new_version: 2,
            status: "adopted".to_owned(),
            on_watch: false,
            probation: None,
            probation_opened_at: None,
            probation_sentence: None,
            reason: None,
            opened_at: at("2026-11-09T22:30:00Z"),
            decided_at: None,
            improvement: Some(0.2),
            old_sum: Some(70),
            old_count: Some(10),
            new_sum: Some(84),
            new_count: Some(10),
            sentence: Some(text.to_owned()),
            evidence: serde_json::to_value(evidence()).ok(),
        }],
        insights: vec![Insight {
            id: "1.1".to_owned(),
            cycle: 1,
            insight_type: "failure_mode".to_owned(),
            model: text.to_owned(),
            description: text.to_owned(),
            confidence: 0.8,
            tasks_analyzed: 50,
            example_task_ids: vec![text.to_owned()],
            suggested_change: text.to_owned(),
            applied: false,
            standing: "confirmed".to_owned(),
            confirmed: 2,
            weakened: 0,
            judged_in_cycle: Some(3),
            helpful: 1,
            harmful: 0,
            created_at: at("2026-11-09T22:30:00Z"),
        }],
        watches: vec![alarmed(text)],
        noise: vec![VersionNoise {
            model: text.to_owned(),
            version: 2,
            floor: NoiseFloor {
                windows: 3,
                scores: 150,
                mean: 6.5,
                spread: Some(0.4),
                spread_by_chance: 0.3,
                difference_95: 0.17,
            },
            hides_ten_percent: true,
        }],
        versions: vec![ModelVersions {
            model: text.to_owned(),
            count: 2,
            versions: vec![Version {
                version: 2,
                active: true,
                parent_version: Some(1),
                a_b_test_score: Some(8.4),
                tasks_tested: Some(10),
                cycle: Some(1),
                summary: text.to_owned(),
                created_at: at("2026-11-09T22:30:00Z"),
                created_by: text.to_owned(),
            }],
        }],
        ..fresh()
    }
}

fn page(workflow: &str, analytics: Analytics) -> String {
    shown(&[WorkflowAnalytics { workflow: workflow.to_owned(), analytics, undelivered: None }])
}

fn shown(workflows: &[WorkflowAnalytics]) -> String {
    let viewer = Viewer { may_operate: true, csrf: "token".to_owned(), ..Viewer::default() };
    first::page(workflows, None).html(&viewer).unwrap()
}

#[test]
fn one_sentence_says_where_the_cycle_stands() {
    assert_eq!(
        words::standing(&fresh()),
        "Collecting: 37 of 50 completed tasks for the next analysis."
    );
    assert_eq!(
        words::standing(&testing("nano-banana")),
        "Testing: nano-banana 6 of 10 old, 7 of 10 new."
    );
    let moving = Analytics { holds: vec![], ..testing("nano-banana") };
    assert_eq!(
        words::standing(&moving),
        "Testing: nano-banana 6 of 10 old, 7 of 10 new; about 10 hours left at today's rate."
    );
    let none = Analytics { cycle: None, ..fresh() };
    assert!(words::standing(&none).starts_with("No cycle is open yet"));
}

#[test]
fn one_sentence_says_whether_it_learns() {
    assert_eq!(
        words::learning(&testing("nano")),
        "Scores rise: 8.0 on average on the latest day, 6.0 on the day before. The one tested prompt was adopted."
    );
    assert!(words::learning(&fresh()).starts_with("Too early to tell"));
}

#[test]
fn the_first_screen_has_the_sentence_and_each_hold_with_its_remedy() {
    let html = page("image-editing", testing("Η Μαρία το σταμάτησε."));
    assert!(html.contains("6 of 10 old, 7 of 10 new."));
    assert!(html.contains("On hold: Paused"));
    assert!(html.contains("<strong>What to do:</strong> Η Μαρία το σταμάτησε."));
    let resume = "action=\"&#x2f;analytics&#x2f;image-editing&#x2f;cycles&#x2f;1&#x2f;resume\"";
    assert!(html.contains(resume), "the button that lifts the hold");
    assert!(html.contains("name=\"csrf\" value=\"token\""));
    assert!(
        html.contains("10 Nov 2026, 00:30 (Europe&#x2f;Athens)"),
        "times are in the workflow's zone"
    );
}

#[test]
fn a_verdict_shows_its_figures_and_a_watch_its_alarm() {
    let html = page("image-editing", testing("nano-banana"));
    for told in [
        "Improvement likely to last",
        "Scores missing from both alike",
        "harm alarm",
        "33.12 to 1",
        "Two windows of nano-banana v2 differ by up to 17% by themselves",
    ] {
        assert!(html.contains(told), "{told} is not on the page");
    }
}

#[test]
fn a_workflow_without_tasks_says_what_to_do_next() {
    let html = page("image-editing", fresh());
    assert!(html.contains("mathesis key create orchestrator"));
    let range = page("image-editing", Analytics { from: Some(day(1)), ..fresh() });
    assert!(range.contains("No tasks in this range") && !range.contains("mathesis key create"));
    assert!(shown(&[]).contains("mathesis workflow new"));
}

#[test]
fn no_text_escapes_into_the_markup() {
    let html = page(HOSTILE, testing(HOSTILE));
    assert_eq!(html.matches("<script").count(), 1, "a text became markup");
    assert!(html.contains("<script src=\"&#x2f;analytics&#x2f;live.js\" defer></script>"));
    assert!(!html.contains("\" onload"), "a text ended an attribute");
    assert!(html.matches("&lt;script&gt;").count() > 15);
}

#[test]
fn the_page_works_under_its_policy() {
    let html = page("image-editing", testing("nano"));
    for forbidden in [
        " style=",
        "<style",
        "<script>",
        " onclick",
        "http://",
        "https://",
        "javascript:",
        "@import",
    ] {
        assert!(!html.contains(forbidden), "{forbidden} in the page");
        assert!(!STYLESHEET.contains(forbidden), "{forbidden} in the stylesheet");
    }
    assert!(CONTENT_SECURITY_POLICY.starts_with("default-src 'none'"));
}

#[test]
fn every_table_has_a_caption_and_every_chart_a_description() {
    let html = page("image-editing", testing("nano"));
    assert_eq!(html.matches("<table>").count(), html.matches("<caption>").count());
    assert!(!html.contains("<th>"), "a header without its scope");
    assert_eq!(html.matches("role=\"img\"").count(), html.matches("<desc").count());
    assert!(html.contains("nano: 6.0 on the first day, 8.0 on the last"));
}

#[test]
fn commands_are_set_as_code_and_whatever_else_stands_there_is_text() {
    let html = super::commands("<b>.md was edited: `files <i>` shows it").to_string();
    assert_eq!(html, "&lt;b&gt;.md was edited: <code>files &lt;i&gt;</code> shows it");
}
