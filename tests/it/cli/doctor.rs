//! `mathesis doctor` on a real place: what is sound, and each fault with its remedy.

use std::fs;

use mathesis::stand_in::claude::{ClaudeStandIn, Reply, StandInSettings};
use serde_json::Value;

use super::{Place, Said};

/// A place whose Claude is a stand-in that knows this key, and what the doctor says there.
struct Clinic {
    place: Place,
    claude: ClaudeStandIn,
}

impl Clinic {
    async fn open() -> Self {
        let settings = StandInSettings { api_key: "sk-ant-sound".to_owned(), port: 0 };
        let silent = |_: &Value| Reply::Refusal;
        let claude = ClaudeStandIn::start(settings, silent).await.expect("a stand-in");
        Self { place: Place::registered().await, claude }
    }

    async fn doctor(&self, key: Option<&str>, arguments: &[&str]) -> Said {
        let mut command = self.place.command(arguments);
        command.env("ANTHROPIC_BASE_URL", self.claude.base_url());
        if let Some(key) = key {
            command.env("ANTHROPIC_API_KEY", key);
        }
        tokio::task::spawn_blocking(move || command.output().expect("the program runs").into())
            .await
            .expect("it ran")
    }

    /// What it says in words, without what differs from run to run.
    async fn told(&self, key: Option<&str>) -> (u8, String) {
        let said = self.doctor(key, &["doctor"]).await;
        let database = self.place.database_url.rsplit('/').next().unwrap_or_default();
        let database = database.split('?').next().unwrap_or_default();
        let mut text =
            said.out.replace(self.claude.base_url(), "CLAUDE").replace(database, "DATABASE");
        text = text.replace(&self.place.folder.path().display().to_string(), "PLACE");
        let lines = text.lines().map(|line| match line.split_once("PostgreSQL ") {
            Some((before, rest)) => {
                let (_, encoding) = rest.split_once(", ").unwrap_or_default();
                let place = encoding.rsplit('/').next().unwrap_or_default();
                format!(
                    "{before}PostgreSQL VERSION, {}, {place}",
                    encoding.split(',').next().unwrap_or_default()
                )
            }
            None => line
                .split_once("next at ")
                .map_or_else(|| line.to_owned(), |(before, _)| format!("{before}next at TIME")),
        });
        let text = lines.collect::<Vec<_>>().join("\n");
        assert!(!text.contains("sk-ant"), "{text}");
        (u8::try_from(said.code).unwrap_or(255), text)
    }

    fn name_models(&self, analysis: &str, generation: &str) {
        let file = self.place.path("workflows/image-editing/workflow.toml");
        let text = fs::read_to_string(&file).unwrap();
        let lines = text.lines().filter(|line| {
            !line.starts_with("analysis_model") && !line.starts_with("generation_model")
        });
        let text = lines.collect::<Vec<_>>().join("\n").replace(
            "[claude]",
            &format!(
                "[claude]\nanalysis_model = \"{analysis}\"\ngeneration_model = \"{generation}\""
            ),
        );
        fs::write(&file, text).unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sound_place_is_told_as_sound() {
    let clinic = Clinic::open().await;
    let (code, told) = clinic.told(Some("sk-ant-sound")).await;
    insta::assert_snapshot!(told);
    assert_eq!(code, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_model_that_is_gone_is_told_with_the_setting_that_names_it() {
    let clinic = Clinic::open().await;
    clinic.name_models("claude-opus-4-0", "claude-sonet-5-5");
    let about_claude = |told: String| {
        let lines: Vec<&str> = told.lines().collect();
        let ours = lines.chunk_by(|_, next| next.starts_with("       "));
        ours.filter(|lines| lines[0].contains("Claude"))
            .flatten()
            .copied()
            .collect::<Vec<_>>()
            .join("\n")
    };
    let (code, told) = clinic.told(Some("sk-ant-sound")).await;
    insta::assert_snapshot!("models_by_the_api", about_claude(told));
    assert_eq!(code, 1);
    let (code, told) = clinic.told(None).await;
    insta::assert_snapshot!("models_by_the_published_dates", about_claude(told));
    assert_eq!(code, 1);
    let (code, told) = clinic.told(Some("sk-ant-wrong")).await;
    insta::assert_snapshot!("a_refused_key", about_claude(told));
    assert_eq!(code, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_schema_that_does_not_fit_this_program_is_told_of_and_not_read() {
    let clinic = Clinic::open().await;
    let pool = sqlx::PgPool::connect(&clinic.place.database_url).await.unwrap();
    let change = |sql: &'static str| {
        let pool = pool.clone();
        async move { sqlx::query(sql).execute(&pool).await.unwrap() }
    };
    let schema = || async {
        let said = clinic.doctor(None, &["doctor", "--json"]).await;
        assert_eq!(said.code, 1);
        let finding =
            said.json().as_array().unwrap().iter().find(|it| it["check"] == "schema").cloned();
        finding.expect("a finding about the schema")
    };
    change("INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time) VALUES (9999, 'later', true, '\\x00', 0)").await;
    let ahead = schema().await;
    assert!(ahead["said"].as_str().unwrap().contains("to migration 9999"), "{ahead}");
    change("DELETE FROM _sqlx_migrations WHERE version >= 16").await;
    let behind = schema().await;
    assert!(behind["said"].as_str().unwrap().starts_with("behind this program by"), "{behind}");
    assert!(behind["remedy"].as_str().unwrap().contains("mathesis migrate"), "{behind}");
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_is_wrong_comes_with_what_to_do() {
    let clinic = Clinic::open().await;
    fs::write(clinic.place.path("config/deep_research/nano-banana/activation.txt"), "Mine.\n")
        .unwrap();
    let mut everything = clinic.doctor(None, &["doctor", "--json"]).await.json();
    let mut nowhere = clinic.place.command(&["doctor", "--json"]);
    nowhere.env("DATABASE_URL", "postgres://nobody@127.0.0.1:1/none");
    let nowhere: Said =
        tokio::task::spawn_blocking(move || nowhere.output().unwrap().into()).await.unwrap();
    everything.as_array_mut().unwrap().extend(nowhere.json().as_array().unwrap().clone());
    let mut wrong = 0;
    for finding in everything.as_array().unwrap() {
        let (health, remedy) =
            (finding["health"].as_str().unwrap(), finding["remedy"].as_str().unwrap());
        assert_eq!(health == "good", remedy.is_empty(), "{finding}");
        wrong += u8::from(health == "bad");
    }
    assert_eq!(wrong, 2, "the edited file and the database that is away: {everything}");
}
