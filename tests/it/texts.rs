//! Texts of every script, kept byte for byte on their whole way.

use mathesis::cycle::StateName;
use mathesis::store::task_log::load_task;
use mathesis::store::{Store, StoreError};
use serde_json::{Value, json};
use sqlx::{AssertSqlSafe, Connection, PgConnection};

use crate::support::stage::{NANO, WAN};
use crate::support::{Stage, TaskRun, analysis_answer, database_url};

/// What is easily spoilt: by a normalisation, a change of case or width, a trim, or a count of bytes.
const TEXTS: [(&str, &str, usize); 8] = [
    ("polytonic Greek", "ᾯ τῆς Ἑλλάδος", 13),
    ("NFC", "Ά", 1),
    ("NFD", "Α\u{301}", 2),
    ("emoji of several code points", "👩\u{200d}🎨 🇬🇷", 6),
    ("right to left, with marks", "\u{202b}שלום عليكم\u{202c}", 12),
    ("blanks and line ends", "  α\r\n\tβ \n", 9),
    ("beyond the basic plane", "𐀀𝔐", 2),
    ("a final sigma and a byte order mark", "\u{feff}λόγος", 6),
];

#[tokio::test]
async fn an_events_texts_reach_their_rows_byte_for_byte() {
    let stage = Stage::new().await;
    for (what, text, length) in TEXTS {
        let mut run = TaskRun::new(format!("id {what}"), &[(WAN, 1, 7)]);
        run.prompt = text.to_owned();
        let mut events = run.events();
        events[0]["metadata"] = json!({ text: text });
        events[1]["enhanced_prompt"] = json!(text);
        events[3]["issues"] = json!([text]);
        events[3]["reasoning"] = json!(text);
        stage.log(events).await;
        let task = load_task(stage.pool(), stage.id(), &format!("id {what}"), "")
            .await
            .expect("the log reads")
            .expect("the task is there");
        assert_eq!(task.original_prompt.as_deref(), Some(text), "{what}");
        assert_eq!(
            task.original_prompt_length,
            i32::try_from(length).ok(),
            "{what} in code points"
        );
        assert_eq!(task.metadata[text], text, "{what}");
        let attempt = &task.attempts[0];
        assert_eq!(attempt.enhanced_prompt.as_deref(), Some(text), "{what}");
        assert_eq!(attempt.enhanced_prompt_length, i32::try_from(length).ok(), "{what}");
        assert_eq!(attempt.validation_issues, Some(json!([text])), "{what}");
        assert_eq!(attempt.validation_reasoning.as_deref(), Some(text), "{what}");
    }
}

#[tokio::test]
async fn ids_that_only_look_alike_are_two_tasks() {
    let stage = Stage::builder().definition(|d| d.trigger.tasks = 3).build().await;
    stage.open_test().await;
    let composed = stage.assign("Ά", WAN).await;
    let decomposed = stage.assign("Α\u{301}", WAN).await;
    assert!(composed.arm.is_some() && decomposed.arm.is_some());
    let held: i64 = sqlx::query_scalar("SELECT count(*) FROM deck_slots WHERE state = 'dealt'")
        .fetch_one(stage.pool())
        .await
        .expect("the deck reads");
    assert_eq!(held, 2);
}

#[tokio::test]
async fn a_versions_texts_reach_the_file_and_the_backup_byte_for_byte() {
    let stage = Stage::builder().definition(|d| d.trigger.tasks = 3).build().await;
    // An edit takes over the line ends of its document, so they are not what is looked at here.
    let all: String =
        TEXTS.iter().map(|(_, text, _)| format!("{text}\n").replace('\r', "")).collect();
    stage.complete_tasks("seed", 3, 7).await;
    stage.watch().await;
    let mut analysis = analysis_answer(&["seed-1"]);
    analysis["patterns"][0]["description"] = json!(all);
    stage.claude.answer_json(analysis);
    let edit = |document: &str| json!({ "document": document, "operation": "append", "section": "", "text": format!("\n{all}"), "because": ["1"] });
    let answer = |edits: Vec<Value>| json!({ "summary": all, "edits": edits });
    stage.claude.answer_json(answer(vec![edit("research"), edit("activation"), edit("template")]));
    let mut other = edit("research");
    other["because"] = json!(["2"]);
    stage.claude.answer_json(answer(vec![other]));
    assert_eq!(stage.step().await, StateName::Generating);
    assert_eq!(stage.step().await, StateName::Testing);
    let first = stage.read(WAN, "research.md");
    stage.play_test("t", |_, told| if told.version == 2 { 9 } else { 6 }).await;
    stage.watch().await;
    stage.step().await;
    assert_eq!(stage.step().await, StateName::Applied);

    let told: (String, String, String, String) = sqlx::query_as(
        "SELECT v.research_text, v.activation_text, v.summary, i.description
           FROM prompt_versions v JOIN insights i ON i.ordinal = 1
          WHERE v.model_name = $1 AND v.is_active",
    )
    .bind(WAN)
    .fetch_one(stage.pool())
    .await
    .expect("the version reads");
    let research = std::fs::read(stage.file(WAN, "research.md")).expect("the file reads");
    let activation = std::fs::read(stage.file(WAN, "activation.txt")).expect("the file reads");
    assert_eq!(
        (research.as_slice(), activation.as_slice()),
        (told.0.as_bytes(), told.1.as_bytes())
    );
    assert!(told.0.starts_with(&first));
    assert!(told.0.ends_with(&all) && told.1.ends_with(&all), "{}", told.0);
    assert_eq!((told.2, told.3), (all.clone(), all));
    let backup = stage.file(WAN, &stage.backups(WAN)[0]).join("research.md");
    assert_eq!(std::fs::read(backup).expect("the backup reads"), first.as_bytes());
    assert_eq!(stage.active_version(NANO).await, 2);
}

#[tokio::test]
async fn a_database_that_cannot_hold_every_text_is_refused_with_words() {
    let url = database_url().await;
    let (start, rest) = url.rsplit_once('/').expect("a URL with a database");
    let (name, options) = rest.split_once('?').unwrap_or((rest, ""));
    let mut connection = PgConnection::connect(&url).await.expect("the cluster answers");
    for encoding in ["LATIN1", "SQL_ASCII"] {
        let other = format!("{name}_{}", encoding.to_lowercase());
        let create = format!(
            "CREATE DATABASE {other} ENCODING '{encoding}' LC_COLLATE 'C' LC_CTYPE 'C' TEMPLATE template0"
        );
        sqlx::query(AssertSqlSafe(create)).execute(&mut connection).await.expect("it is made");
        let refused = Store::connect(&format!("{start}/{other}?{options}"), None, 1).await;
        let Err(error @ StoreError::NotUtf8(_)) = refused else { panic!("{refused:?}") };
        assert_eq!(
            error.to_string(),
            format!(
                "the database's encoding is {encoding}, and Mathesis needs UTF8: create the database with ENCODING 'UTF8'"
            )
        );
    }
    Store::connect(&url, None, 1).await.expect("a UTF-8 database is taken");
}
