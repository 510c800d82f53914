//! What an operator types: `orchestrate register`, `orchestrate status`, a start without what it needs, the doctor.

use mathesis::stand_in::clickup::{LIST, TEAM};
use mathesis::stand_in::script::Matcher;
use serde_json::{Value, json};

use super::plant::Plant;

const SECRETS: [&str; 4] =
    ["CLICKUP_API_TOKEN", "CLICKUP_WEBHOOK_SECRET", "WAVESPEED_API_KEY", "ANTHROPIC_API_KEY"];

/// Jobs in every standing, of a workflow that is registered: queued, running, waiting, failed, and two that are over.
const JOBS: &str = "
    INSERT INTO pipeline_jobs (workflow_id, task_id, run, source, status, worker_id, lease_until, run_after, wait_code,
        wait_words, waiting_since, waits, outcome, outcome_words, upload_title, created_at, finished_at)
    SELECT w.workflow_id, j.* FROM workflows w, (VALUES
        ('86bwait', 1, 'webhook', 'pending', NULL::uuid, NULL::timestamptz, timestamptz '2026-11-22 10:10Z',
         'wavespeed_key_invalid', 'WaveSpeed does not know the key.', timestamptz '2026-11-22 10:00Z', 2,
         NULL, NULL, NULL, timestamptz '2026-11-22 09:00Z', NULL::timestamptz),
        ('86bqueued', 2, 'sweep', 'pending', NULL, NULL, '2026-11-22 09:30Z', NULL, NULL, NULL, 0,
         NULL, NULL, NULL, '2026-11-22 09:30Z', NULL),
        ('86brunning', 1, 'webhook', 'claimed', gen_random_uuid(), now(), '2026-11-22 09:40Z', NULL, NULL, NULL, 0,
         NULL, NULL, NULL, '2026-11-22 09:40Z', NULL),
        ('86bdone', 1, 'webhook', 'done', NULL, NULL, '2026-11-22 09:00Z', NULL, NULL, NULL, 0,
         'winner', 'nano-banana won', 'edited-1.png', '2026-11-22 09:00Z', now()),
        ('86blongago', 1, 'webhook', 'failed', NULL, NULL, '2026-01-01 09:00Z', NULL, NULL, NULL, 0,
         'error', 'long ago', NULL, '2026-01-01 09:00Z', '2026-01-01 10:00Z')) AS j;
    INSERT INTO pipeline_jobs (workflow_id, task_id, run, source, status, run_after, outcome, outcome_words, created_at, finished_at)
    SELECT workflow_id, '86bfailed', 3, 'webhook', 'failed', now(), 'error', 'no_picture: Δεν βρέθηκε εικόνα.', '2026-11-22 08:00Z', now()
      FROM workflows;
    INSERT INTO pipeline_steps (workflow_id, job_id, step, begun_at, ended_at, outcome)
    SELECT workflow_id, job_id, '1/nano-banana/enhance', created_at, created_at, '{}' FROM pipeline_jobs WHERE task_id = '86brunning';
    INSERT INTO pipeline_calls (workflow_id, call_id, job_id, step, service, purpose, called_model, request_hash, worker_id,
        begun_at, status, cost_usd, cost_estimated, ended_at)
    SELECT workflow_id, gen_random_uuid(), job_id, '1/nano-banana/submit', 'wavespeed', 'generation', 'google/nano-banana/edit',
           '', gen_random_uuid(), created_at, 'answered', 0.038, false, created_at FROM pipeline_jobs WHERE task_id = '86brunning';
";

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

async fn with_jobs() -> Plant {
    let plant = Plant::new().await;
    plant.start().await;
    assert_eq!(plant.terminate().await.0, Some(0));
    sqlx::raw_sql(JOBS).execute(&plant.pool).await.expect("the jobs are there");
    plant
}

#[tokio::test(flavor = "multi_thread")]
async fn register_makes_the_webhook_and_prints_its_secret_once() {
    let plant = Plant::new().await;
    let endpoint = "https://mathesis.example.com";
    let register = |endpoint: &str| {
        plant.run(&[
            "orchestrate",
            "register",
            "--team",
            TEAM,
            "--list",
            LIST,
            "--endpoint",
            endpoint,
        ])
    };
    let said = register(endpoint);
    assert!(said.status.success(), "{}", text(&said.stderr));
    let out = text(&said.stdout);
    let hooks = Matcher::clickup().method("POST").path(&format!("/api/v2/team/{TEAM}/webhook"));
    let asked: Vec<Value> = plant.script.seen(&hooks).iter().map(|seen| seen.json()).collect();
    assert_eq!(asked[0]["endpoint"], "https://mathesis.example.com/webhooks/clickup");
    assert_eq!(asked[0]["list_id"].to_string().trim_matches('"'), LIST);
    let line = out.lines().last().unwrap_or_default();
    let secret = line.strip_prefix("CLICKUP_WEBHOOK_SECRET=").expect("the line to put into .env");
    assert!(secret.len() > 20, "{out}");
    assert!(out.contains("https://mathesis.example.com/webhooks/clickup"), "{out}");

    // The whole address may be given as well; what ClickUp could not reach is not registered.
    assert!(register(&format!("{endpoint}/webhooks/clickup/")).status.success());
    let refused = register("http://mathesis.example.com");
    assert_eq!(refused.status.code(), Some(2));
    assert!(
        text(&refused.stderr).contains("must begin with https://"),
        "{}",
        text(&refused.stderr)
    );
    let asked = plant.script.seen(&hooks);
    assert_eq!(asked.len(), 2);
    assert_eq!(asked[1].json()["endpoint"], "https://mathesis.example.com/webhooks/clickup");
}

#[tokio::test(flavor = "multi_thread")]
async fn register_says_what_is_wrong_with_the_token() {
    let plant = Plant::new().await;
    let arguments = [
        "orchestrate",
        "register",
        "--team",
        TEAM,
        "--list",
        LIST,
        "--endpoint",
        "https://a.example",
    ];
    let run = |token: Option<&str>| {
        let mut command = plant.command(&arguments);
        match token {
            Some(token) => command.env("CLICKUP_API_TOKEN", token),
            None => command.env_remove("CLICKUP_API_TOKEN"),
        };
        let output = command.output().expect("the program runs");
        assert_eq!((output.status.code(), text(&output.stdout).as_str()), (Some(1), ""));
        text(&output.stderr)
    };
    let without = run(None);
    assert!(without.contains("CLICKUP_API_TOKEN") && !without.contains("WAVESPEED"), "{without}");
    let wrong = run(Some("pk_wrong"));
    assert!(wrong.contains("ClickUp") && wrong.contains("token"), "{wrong}");
    assert!(!wrong.contains("pk_wrong"), "{wrong}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_without_secrets_names_all_that_are_missing() {
    let plant = Plant::new().await;
    let start = |removed: &[&str]| {
        let mut command = plant.command(&["orchestrate", "--port", "0"]);
        for name in removed {
            command.env_remove(name);
        }
        let output = command.output().expect("the program runs");
        assert_eq!(output.status.code(), Some(1));
        text(&output.stderr)
    };
    let all = start(&SECRETS);
    assert!(all.contains(&SECRETS.join(", ")), "{all}");
    for missing in SECRETS {
        let said = start(&[missing]);
        let others = SECRETS.iter().filter(|name| **name != missing);
        assert!(
            said.contains(&format!("the pipeline needs {missing}, which is not set")),
            "{said}"
        );
        assert!(others.into_iter().all(|name| !said.contains(name)), "{said}");
    }
    assert_eq!(
        plant.value("SELECT to_jsonb(count(*)) FROM workflows").await,
        0,
        "nothing was begun"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn status_shows_what_is_open_and_what_failed_lately() {
    let plant = with_jobs().await;
    let table = plant.run(&["orchestrate", "status"]);
    assert!(table.status.success(), "{}", text(&table.stderr));
    // What failed just now has another time in each run of this test, and may be wider by the letter of summer time.
    let columns = |line: &str| {
        let columns = line.split("  ").map(str::trim).filter(|column| !column.is_empty());
        columns.collect::<Vec<_>>().join(" | ")
    };
    let shown = text(&table.stdout);
    let shown: Vec<String> =
        shown.lines().filter(|line| !line.contains("86bfailed")).map(columns).collect();
    insta::assert_snapshot!(shown.join("\n"), @r"
    TASK | RUN | STANDS | SINCE | UNTIL | STEP | USD | WHY
    86bwait | 1 | waiting | 2026-11-22 12:00:00 EET | 2026-11-22 12:10:00 EET | - | 0 | WaveSpeed does not know the key.
    86bqueued | 2 | queued | 2026-11-22 11:30:00 EET | - | - | 0
    86brunning | 1 | running | 2026-11-22 11:40:00 EET | - | 1/nano-banana/enhance | 0.0380
    ");
    assert!(text(&table.stdout).contains("no_picture: Δεν βρέθηκε εικόνα."));

    let json = plant.run(&["orchestrate", "status", "--json"]);
    let mut rows: Value = serde_json::from_slice(&json.stdout).expect("JSON");
    let row = |task: &str| rows.as_array()?.iter().find(|row| row["task_id"] == task).cloned();
    assert_eq!(
        row("86bwait"),
        Some(json!({
            "task_id": "86bwait", "run": 1, "status": "pending", "wait_code": "wavespeed_key_invalid",
            "wait_words": "WaveSpeed does not know the key.", "waiting_since": "2026-11-22T10:00:00Z",
            "run_after": "2026-11-22T10:10:00Z", "deaths": 0, "outcome": null, "outcome_words": null,
            "last_step": null, "cost_usd": "0", "created_at": "2026-11-22T09:00:00Z", "finished_at": null,
        }))
    );
    assert_eq!(row("86brunning").map(|row| row["cost_usd"].clone()), Some(json!("0.038000000000")));
    assert_eq!(
        rows.as_array_mut().map(|rows| rows.len()),
        Some(4),
        "neither what is done nor what is old"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn the_doctor_says_what_the_pipeline_needs_and_what_its_runs_wait_for() {
    let plant = with_jobs().await;
    let findings = |removed: &[&str]| {
        let mut command = plant.command(&["doctor", "--json"]);
        for name in removed {
            command.env_remove(name);
        }
        let output = command.output().expect("the program runs");
        let findings: Vec<Value> = serde_json::from_slice(&output.stdout).expect("JSON");
        let ours = |finding: &&Value| {
            let check = finding["check"].as_str().unwrap_or_default();
            check.starts_with("pipeline") || check.starts_with("runs")
        };
        let lines = findings.iter().filter(ours).map(|finding| {
            let part = |name: &str| finding[name].as_str().unwrap_or_default().to_owned();
            format!("{} {}: {}", part("health"), part("check"), part("said"))
        });
        lines.collect::<Vec<_>>().join("\n")
    };
    insta::assert_snapshot!(findings(&[]), @r"
    good pipeline of image-editing: orchestrator.toml is valid
    good pipeline's services: a token, a secret and keys are set for all three
    note runs of image-editing: 1 run waits since 2026-11-22 12:00:00 EET: wavespeed_key_invalid: WaveSpeed does not know the key.
    note runs of image-editing: 1 run failed in the last 7 days
    ");
    let without = findings(&SECRETS[..2]);
    assert!(
        without.contains("will not start without CLICKUP_API_TOKEN, CLICKUP_WEBHOOK_SECRET"),
        "{without}"
    );

    let file = plant.path("workflows/image-editing/orchestrator.toml");
    let good = std::fs::read_to_string(&file).expect("it reads");
    let unlisted = good.replace(&format!("lists = [\"{LIST}\"]"), "lists = []");
    std::fs::write(&file, unlisted).expect("written");
    assert!(
        findings(&[]).contains(
            "note pipeline of image-editing: orchestrator.toml is valid and names no list"
        )
    );
    std::fs::write(&file, good.replace("done_status", "don_status")).expect("written");
    let broken = findings(&[]);
    assert!(
        broken.contains("bad pipeline of image-editing") && broken.contains("don_status"),
        "{broken}"
    );
    std::fs::remove_file(&file).expect("removed");
    assert!(
        !findings(&SECRETS).contains("pipeline"),
        "a team without a pipeline hears nothing of it"
    );
}
