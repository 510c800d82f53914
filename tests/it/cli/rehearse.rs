//! `mathesis rehearse`: what it prints, and what it says when it cannot go on.

use mathesis::stand_in::claude::{ClaudeStandIn, Reply, StandInSettings};
use serde_json::Value;

use super::{Place, Said};
use crate::support::{TaskRun, analysis_answer, edit_answer, no_edit_answer};

const KEY: &str = "sk-test";

/// A Claude that finds a pattern and improves one of the two models.
async fn claude(answers: bool) -> ClaudeStandIn {
    let settings = StandInSettings { api_key: KEY.to_owned(), port: 0 };
    let started = ClaudeStandIn::start(settings, move |request: &Value| {
        let is_analysis =
            request["output_config"]["format"]["schema"]["properties"].get("patterns").is_some();
        let text = match (answers, is_analysis) {
            (false, _) => "no JSON at all".to_owned(),
            (true, true) => analysis_answer(&["task-1", "task-2"]).to_string(),
            (true, false) if request.to_string().contains("Model: nano-banana.") => {
                no_edit_answer().to_string()
            }
            (true, false) => edit_answer("Name what must stay unchanged.").to_string(),
        };
        Reply::Text(text)
    });
    started.await.expect("the stand-in starts")
}

/// A place with five finished tasks.
async fn with_tasks() -> Place {
    let place = Place::registered().await;
    let run = |n| {
        TaskRun::new(format!("task-{n}"), &[(super::MODELS[0], 0, 7), (super::MODELS[1], 0, 7)])
    };
    let events: Vec<Value> = (1..=5).flat_map(|n| run(n).events()).collect();
    place.write("past.ndjson", &events);
    assert_eq!(place.run(&["import", "past.ndjson"]).code, 0);
    place
}

fn rehearse(place: &Place, claude: &ClaudeStandIn, key: &str) -> Said {
    let mut command = place.command(&["rehearse", "--yes"]);
    command.env("ANTHROPIC_BASE_URL", claude.base_url()).env("ANTHROPIC_API_KEY", key);
    command.output().expect("the program runs").into()
}

#[tokio::test(flavor = "multi_thread")]
async fn it_prints_what_the_next_cycle_would_find_and_propose() {
    let (claude, place) = (claude(true).await, with_tasks().await);
    let said = rehearse(&place, &claude, KEY);
    assert_eq!(said.code, 0, "{}", said.err);
    insta::assert_snapshot!(said.out);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failure_says_once_what_helps_and_nothing_of_the_live_cycle() {
    let place = with_tasks().await;
    let wrong_key = rehearse(&place, &claude(true).await, "sk-wrong");
    let no_answer = rehearse(&place, &claude(false).await, KEY);
    assert_eq!((wrong_key.code, no_answer.code), (1, 1));
    let both = format!("{}\n{}", wrong_key.err, no_answer.err);
    // The log's lines stand before them.
    let said: Vec<_> = both.lines().filter(|line| line.starts_with("mathesis: ")).collect();
    let said = said.join("\n");
    assert!(!said.contains("mathesis cycle"), "no cycle was touched: {said}");
    insta::assert_snapshot!(said);
}
