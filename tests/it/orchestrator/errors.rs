//! Every documented error of the three services, put in the way of a task that is driven from its signed webhook to its
//! end, and what became of the task: one table a service, held to the page that people read (docs/services.md).

mod claude;
mod clickup;
mod wavespeed;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Arc;

use axum::http::StatusCode;
use chrono::{DateTime, Utc};
use futures::StreamExt as _;
use mathesis::claude::{ApiKey, ClaudeSettings, HttpClaude};
use mathesis::clock::Clock as _;
use mathesis::orchestrator::definition::PipelineKeys;
use mathesis::orchestrator::{Fates, Pipeline, Probe, ServiceSettings, Services, Worked};
use mathesis::settings::Secret;
use mathesis::stand_in::fault::Fault;
use mathesis::stand_in::script::Matcher;
use mathesis::store::pipeline::jobs::Ended;
use serde_json::{Value, json};
use tokio::sync::Notify;

use super::{SECRET, Works};
use crate::support::until;

/// A port of this machine on which nobody listens.
const NOWHERE: &str = "http://127.0.0.1:1";

/// One error in the way of one task.
struct Case {
    /// What comes back, in the words of docs/services.md; `more: …` for what has no line of its own there.
    row: &'static str,
    /// The call that meets it.
    call: Call,
    /// How many of these calls meet it.
    times: u32,
    obstacle: Obstacle,
}

/// A call of the pipeline.
#[derive(Clone)]
struct Call {
    name: &'static str,
    /// As the page calls its kind.
    kind: &'static str,
    matcher: Matcher,
}

/// What stands in the way.
enum Obstacle {
    /// The service does this.
    Fault(Fault),
    /// These, one after the other.
    InTurn(Vec<Fault>),
    /// This, and the clock runs on until no picture is waited for any longer.
    UntilTheDeadline(Fault),
    /// It never answers.
    Silence,
    /// Nobody listens at its address.
    Nowhere,
    /// No key is set.
    NoKey,
}

impl Case {
    /// Whether a call runs into its limit of time.
    fn is_timed(&self) -> bool {
        match &self.obstacle {
            Obstacle::Silence => true,
            Obstacle::InTurn(faults) => faults.contains(&Fault::Hang),
            _ => false,
        }
    }
}

fn case(row: &'static str, call: Call, times: u32, fault: impl Into<Obstacle>) -> Case {
    Case { row, call, times, obstacle: fault.into() }
}

impl From<Fault> for Obstacle {
    fn from(fault: Fault) -> Self {
        Self::Fault(fault)
    }
}

/// What became of a task.
struct Played {
    case: Case,
    waits: Vec<Wait>,
    ended: Ended,
    /// The end in the words of `mathesis orchestrate status`.
    ended_words: String,
    /// Attempts without a score: model, round, stage, fault and words.
    failed: Vec<Value>,
    /// The paid calls, by service and end.
    calls: BTreeMap<String, u32>,
    /// What the pictures cost.
    pictures_usd: f64,
    /// How often the call of the case was made.
    made: usize,
    status: String,
    comment: Option<String>,
}

struct Wait {
    code: String,
    words: String,
    seconds: i64,
}

/// The evidence in the database, in one row.
const FACTS: &str = "SELECT jsonb_build_object(
    'failed', (SELECT jsonb_agg(jsonb_build_array(model_name, iteration, error_stage, error_fault, error)
        ORDER BY model_name, iteration) FROM attempts WHERE error IS NOT NULL),
    'words', (SELECT outcome_words FROM pipeline_jobs),
    'rounds', (SELECT coalesce(max(iteration), 0) FROM attempts),
    'pictures_usd', (SELECT sum(cost_usd)::float FROM pipeline_calls WHERE service = 'wavespeed'),
    'calls', (SELECT jsonb_agg(jsonb_build_array(service, step, status, error_code) ORDER BY begun_at, call_id)
        FROM pipeline_calls))";

/// Drives one task past the error, from the signed webhook to the end of its run.
async fn play(case: Case) -> Played {
    let mut works = Works::new(&[9], &[8]).await;
    let healthy = Arc::clone(&works.pipeline);
    works.pipeline = hindered(&works, &case);
    let task = works.task("Σκούρος ουρανός, «νύχτα»");
    let (status, answer) = works.deliver_status(&task, "ready for edit", "1").await;
    assert_eq!((status, answer), (StatusCode::OK, json!({"result": "job"})));
    let mut waits = Vec::new();
    let ended = loop {
        match work(&works, &case).await {
            Worked::Waiting(code) => {
                let wait = waiting(&works, code).await;
                assert_eq!(works.work().await, Worked::Idle, "{} is not tried too soon", case.row);
                works.stage.clock.advance(chrono::Duration::seconds(wait.seconds));
                waits.push(wait);
                assert!(waits.len() < 5, "{} is waited for without an end", case.row);
                // Whoever had to mend an address or a key has done so.
                works.pipeline = Arc::clone(&healthy);
            }
            Worked::Finished(ended) => break ended,
            other => panic!("{} to {}: {other:?}", case.row, case.call.name),
        }
    };
    assert_eq!(works.script.left(), 0, "{} to {} was met", case.row, case.call.name);
    assert_eq!(works.work().await, Worked::Idle);
    tell(&works, &task, case, waits, ended).await
}

/// The pipeline with the obstacle in its way.
fn hindered(works: &Works, case: &Case) -> Arc<Pipeline> {
    let meet =
        |fault: &Fault| works.script.when(case.call.matcher.clone(), case.times, fault.clone());
    match &case.obstacle {
        Obstacle::Fault(fault) | Obstacle::UntilTheDeadline(fault) => {
            meet(fault);
            Arc::clone(&works.pipeline)
        }
        Obstacle::InTurn(faults) => {
            for fault in faults {
                works.script.when(case.call.matcher.clone(), 1, fault.clone());
            }
            if case.is_timed() { impatient(works, case) } else { Arc::clone(&works.pipeline) }
        }
        Obstacle::Silence => {
            meet(&Fault::Hang);
            impatient(works, case)
        }
        Obstacle::Nowhere => remade(works, |_, settings, claude| match service(case) {
            "claude" => claude.base_url = NOWHERE.to_owned(),
            "wavespeed" => settings.wavespeed_base_url = NOWHERE.to_owned(),
            _ => settings.clickup_base_url = NOWHERE.to_owned(),
        }),
        Obstacle::NoKey => remade(works, |_, _, claude| claude.api_key = None),
    }
}

/// The same process, for which three seconds are long enough for an answer of the case's service.
fn impatient(works: &Works, case: &Case) -> Arc<Pipeline> {
    remade(works, |keys, _, _| {
        let timeouts = &mut keys.timeouts;
        match service(case) {
            "claude" => timeouts.claude_seconds = 3,
            "wavespeed" => timeouts.wavespeed_seconds = 3,
            _ => timeouts.clickup_seconds = 3,
        }
    })
}

fn service(case: &Case) -> &'static str {
    match case.call.matcher.service.map(mathesis::orchestrator::service::Service::name) {
        Some("Claude") => "claude",
        Some("WaveSpeed") => "wavespeed",
        _ => "clickup",
    }
}

/// The same process with other settings, as after a restart.
fn remade(
    works: &Works,
    edit: impl FnOnce(&mut PipelineKeys, &mut ServiceSettings, &mut ClaudeSettings),
) -> Arc<Pipeline> {
    let mut definition = works.pipeline.definition.clone();
    let mut settings = ServiceSettings {
        clickup_base_url: works.clickup.base_url().to_owned(),
        clickup_token: Secret::new("pk_stand_in"),
        clickup_webhook_secret: Secret::new(SECRET),
        wavespeed_base_url: works.wavespeed.base_url().to_owned(),
        wavespeed_key: Secret::new("ws-stand-in"),
        pictures_allow_private: false,
    };
    let key = ApiKey::new("sk").expect("a key");
    let mut claude = ClaudeSettings::new(works.claude.base_url(), Some(key));
    edit(&mut definition.keys, &mut settings, &mut claude);
    let claude = Arc::new(HttpClaude::new(claude).expect("the client is made"));
    let (keys, clock) = (&definition.keys, works.stage.engine.clock.clone());
    let services = Services::new(&settings, keys, claude, clock).expect("the clients");
    Arc::new(Pipeline {
        engine: works.stage.engine.clone(),
        workflow: works.stage.workflow.clone(),
        definition,
        services,
        logger: works.stage.logger.clone(),
        assigner: works.stage.assigner.clone(),
        probe: Probe::default(),
        wake: Notify::new(),
        fates: Fates::default(),
    })
}

/// Walks the run as far as it goes; a picture that never comes is waited for until its time is over.
async fn work(works: &Works, case: &Case) -> Worked {
    if !matches!(case.obstacle, Obstacle::UntilTheDeadline(_)) {
        return works.work().await;
    }
    let looks = Matcher::wavespeed().method("GET").path("/api/v3/predictions/*");
    let time_passes = async {
        until(async || works.script.seen(&looks).len() >= 10).await;
        works.stage.clock.advance(chrono::Duration::seconds(601));
    };
    tokio::join!(works.work(), time_passes).0
}

async fn waiting(works: &Works, code: String) -> Wait {
    let row = works
        .value("SELECT jsonb_build_array(wait_code, wait_words, run_after) FROM pipeline_jobs")
        .await;
    assert_eq!(row[0], json!(code));
    let run_after: DateTime<Utc> = row[2].as_str().expect("a time").parse().expect("a time");
    let seconds = (run_after - works.stage.clock.now()).num_seconds();
    Wait { code, words: row[1].as_str().expect("words").to_owned(), seconds }
}

/// Reads what became of the task, and holds every end to what must never be.
async fn tell(works: &Works, task: &str, case: Case, waits: Vec<Wait>, ended: Ended) -> Played {
    let facts = works.value(FACTS).await;
    let state = works.state(task);
    let (row, to) = (case.row, case.call.name);
    let calls: Vec<[Value; 4]> = serde_json::from_value(facts["calls"].clone()).unwrap_or_default();
    nothing_is_paid_twice(works, &calls, &facts["rounds"], &case);
    let pictures = usize::from(matches!(ended, Ended::Winner { .. }));
    assert_eq!(works.own_pictures(task), pictures, "{row} to {to}: one picture");
    // A comment that ClickUp refuses for good is left out; the snapshot says where.
    assert!(state.comments.len() <= 1, "{row} to {to}: {:?}", state.comments);
    let mut tally = BTreeMap::new();
    for [service, _, status, _] in &calls {
        if status == "refused" {
            continue;
        }
        let name = format!("{} {}", service.as_str().unwrap(), status.as_str().unwrap());
        *tally.entry(name).or_insert(0) += 1;
    }
    let text = |value: &Value| value.as_str().map(str::to_owned);
    let failed: Vec<Value> = serde_json::from_value(facts["failed"].clone()).unwrap_or_default();
    let made = works.script.seen(&case.call.matcher).len();
    Played {
        ended_words: text(&facts["words"]).unwrap_or_default(),
        pictures_usd: facts["pictures_usd"].as_f64().unwrap_or_default(),
        failed,
        calls: tally,
        made,
        status: state.status,
        comment: state.comments.first().cloned(),
        case,
        waits,
        ended,
    }
}

/// At most one picture a model and round was taken, every one of them is on record, and so is every call of Claude;
/// of the calls of a step at most one was answered as it should be.
fn nothing_is_paid_twice(works: &Works, calls: &[[Value; 4]], rounds: &Value, case: &Case) {
    let what = format!("{} to {}", case.row, case.call.name);
    let mut billed: BTreeMap<String, u64> = BTreeMap::new();
    for bill in works.wavespeed.billed() {
        *billed.entry(bill.endpoint).or_default() += 1;
    }
    let rounds = rounds.as_u64().expect("a number");
    assert!(billed.values().all(|pictures| *pictures <= rounds), "{what}: {billed:?} in {rounds}");
    let mut used: BTreeMap<&str, u32> = BTreeMap::new();
    for [_, step, end, _] in calls {
        assert_ne!(end, "begun", "{what}: {step} has its end on record");
        if matches!(end.as_str(), Some("answered" | "failed")) {
            *used.entry(step.as_str().expect("a step")).or_default() += 1;
        }
    }
    // Of Claude, an answer of no use is asked for once more; of WaveSpeed, nothing ever is.
    let most = |step: &str| if step.ends_with("/submit") { 1 } else { 2 };
    assert!(used.iter().all(|(step, answers)| *answers <= most(step)), "{what}: {used:?}");
    let submits = Matcher::wavespeed().method("POST").path("/api/v3/*edit");
    for (service, sent) in [("claude", Matcher::claude()), ("wavespeed", submits)] {
        let sent = works.script.seen(&sent).len();
        let of = |end: &[&str]| {
            let is =
                |call: &&[Value; 4]| call[0] == service && end.iter().any(|end| call[2] == *end);
            calls.iter().filter(is).count()
        };
        // What was refused may not have been sent at all: no connection, or the door was closed.
        let on_record =
            of(&["answered", "failed", "lost"])..=of(&["answered", "failed", "lost", "refused"]);
        assert!(
            on_record.contains(&sent),
            "{what}: {sent} sent to {service}, {on_record:?} on record"
        );
    }
}

impl Played {
    /// Whether it shows what the page says of this code.
    fn bears_out(&self, code: &str, does: &str) -> bool {
        let waits = |long: bool| {
            let of_code = |wait: &Wait| wait.code == code && (wait.seconds == 600) == long;
            self.waits.iter().any(of_code)
        };
        let fails = |fault: &str| {
            let says = |attempt: &Value| attempt[4].as_str().unwrap_or_default().to_owned();
            self.failed.iter().any(|attempt| {
                attempt[3] == fault && says(attempt).starts_with(&format!("{code}: "))
            })
        };
        let won = matches!(self.ended, Ended::Winner { .. });
        match does {
            "waits, and is tried again by itself" => waits(false) || self.was_in_time(code),
            "waits as long as the service asks, then is tried again" => waits(false),
            "waits for a person" => waits(true),
            "this attempt ends, without a verdict on the prompt" => won && fails("infrastructure"),
            "this attempt ends as the prompt's fault: it counts as 0" => fails("prompt"),
            "this attempt ends, without a verdict; it is not asked for again, for it may be billed" => {
                fails("infrastructure") && self.calls.contains_key("wavespeed lost")
            }
            "this step ends, without a verdict on any prompt" => {
                self.failed.is_empty() && self.ended_words.starts_with(&format!("{code}: "))
            }
            "looks first whether it was done, and does it only if it was not" => {
                won && waits(false)
            }
            other => panic!("the page says what no test knows: {other}"),
        }
    }

    /// A picture that is still going when its time is over is waited for no longer.
    fn was_in_time(&self, code: &str) -> bool {
        code == "wavespeed_not_finished" && !self.failed.is_empty()
    }

    /// The row of the matrix, for a reader.
    fn shown(&self) -> String {
        let mut text =
            format!("{}, {} × to {}\n", self.case.row, self.case.times, self.case.call.name);
        for wait in &self.waits {
            let _ = writeln!(text, "    waits {} s: {}: {}", wait.seconds, wait.code, wait.words);
        }
        for attempt in &self.failed {
            let [model, round, stage, fault, words] = [0, 1, 2, 3, 4].map(|at| &attempt[at]);
            let plain = |value: &Value| value.as_str().unwrap_or("none").to_owned();
            let _ = writeln!(
                text,
                "    {} fails in round {round}, in its {}, by {}: {}",
                plain(model),
                plain(stage),
                plain(fault),
                plain(words)
            );
        }
        let _ = writeln!(text, "    {}; the task is in {:?}", self.ended_words, self.status);
        match (&self.ended, &self.comment) {
            (_, None) => text.push_str("    no comment\n"),
            (Ended::Winner { .. }, Some(_)) => {}
            (_, Some(comment)) => {
                let _ =
                    writeln!(text, "    comment: {}", comment.lines().nth(1).unwrap_or_default());
            }
        }
        let calls: Vec<String> =
            self.calls.iter().map(|(end, number)| format!("{number} {end}")).collect();
        let paid = if calls.is_empty() { "nothing".to_owned() } else { calls.join(", ") };
        let usd = self.pictures_usd;
        let _ = writeln!(text, "    made {} ×; paid: {paid}; pictures ${usd:.3}", self.made);
        text
    }
}

/// Plays all, some at a time, and those that measure time alone; the matrix in its order.
async fn play_all(cases: Vec<Case>) -> Vec<Played> {
    let numbered = cases.into_iter().enumerate();
    let (timed, others): (Vec<_>, Vec<_>) = numbered.partition(|(_, case)| case.is_timed());
    let one = async |(at, case)| (at, play(case).await);
    let mut played: Vec<_> = futures::stream::iter(others).map(one).buffered(3).collect().await;
    for (at, case) in timed {
        played.push((at, play(case).await));
    }
    played.sort_by_key(|(at, _)| *at);
    played.into_iter().map(|(_, played)| played).collect()
}

fn shown(played: &[Played]) -> String {
    played.iter().map(Played::shown).collect::<Vec<_>>().join("\n")
}

/// Holds a matrix to the page that people read: every row was met by such a call and bore out what the page says, and
/// no row is made up.
fn hold_to_the_page(service: &str, played: &[Played]) {
    let page = include_str!("../../../docs/services.md");
    let table = page.split(&format!("## {service}\n")).nth(1).expect("the service has its table");
    let table = table.split("\n## ").next().unwrap_or_default();
    let rows: Vec<Vec<&str>> = table
        .lines()
        .filter(|line| line.starts_with("| ") && line.contains('`') && !line.contains("---"))
        .map(|line| line.trim_matches('|').split(" | ").map(str::trim).collect())
        .collect();
    assert!(rows.len() > 20, "the table of {service} was read: {rows:?}");
    for row in &rows {
        let [what, to, code, does] = row.as_slice() else { panic!("{row:?}") };
        let of_row = |played: &&Played| {
            let case = &played.case;
            case.row == *what && (*to == "any call" || case.call.kind == *to)
        };
        let bore_out = |played: &Played| played.bears_out(code.trim_matches('`'), does);
        assert!(
            played.iter().filter(of_row).any(bore_out),
            "of {service}'s “{what}” to {to} no case shows {code}: {does}"
        );
    }
    for Played { case, .. } in played.iter().filter(|played| !played.case.row.starts_with("more: "))
    {
        assert!(rows.iter().any(|row| row[0] == case.row), "{:?} is not on the page", case.row);
    }
}
