//! Tasks with their attempts, by COPY, as many as are asked for: for `load` and for the bench.

use std::error::Error;
use std::fmt::Write as _;
use std::time::Instant;

use chrono::{DateTime, TimeDelta, Utc};
use clap::{Args, ValueEnum};
use mathesis::clock::{Clock, SystemClock};
use mathesis::store::figures;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use sqlx::{Connection, PgConnection, PgPool};

type Outcome<T> = Result<T, Box<dyn Error + Send + Sync>>;

/// Tasks a COPY.
const CHUNK: u64 = 5_000;

#[derive(Args)]
pub struct Generate {
    /// The database, migrated, with the workflow in it
    #[arg(long, env = "DATABASE_URL")]
    pub database_url: String,
    /// How many tasks
    #[arg(long)]
    pub tasks: u64,
    /// The workflow
    #[arg(long, default_value = "image-editing")]
    pub workflow: String,
    /// The models, each of which attempts every task
    #[arg(long, default_value = "nano-banana,wan-2.5-edit", value_delimiter = ',')]
    pub models: Vec<String>,
    /// Over how many days up to now the tasks came
    #[arg(long, default_value_t = 90)]
    pub days: i64,
    /// How many of the last tasks no analysis has seen; the others count as imported history
    #[arg(long, default_value_t = 0)]
    pub waiting: u64,
    /// How long the texts are
    #[arg(long, value_enum, default_value_t = Texts::Short)]
    pub texts: Texts,
    /// Which tasks
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Texts {
    /// A request and a prompt of a sentence: for millions of tasks
    Short,
    /// As long as real ones: a prompt of about a thousand characters, a reasoning of four hundred
    Real,
}

const REQUESTS: [&str; 8] = [
    "Άλλαξε το φόντο σε λευκό και κράτα το λογότυπο όπως είναι",
    "Κάνε τον ουρανό ηλιοβασίλεμα, χωρίς να αλλάξουν τα κτίρια",
    "Αφαίρεσε τον άνθρωπο αριστερά από την πρόσοψη του καταστήματος",
    "Γράψε «Καλοκαιρινές εκπτώσεις» πάνω στην πινακίδα, με μπλε γράμματα",
    "Φώτισε το προϊόν από δεξιά και σβήσε τη σκιά του τραπεζιού",
    "Βάλε το μπουκάλι σε μια παραλία της Νάξου, με τα χρώματά του ίδια",
    "Make the jacket dark green and keep its buttons",
    "Remove the glare from the shop window",
];
const PROMPTS: [&str; 4] = [
    "Replace only the background with pure white; keep the logo, its edges and its colours pixel for pixel.",
    "Warm sunset sky behind the buildings; facades, signs and people stay exactly as they are.",
    "Remove the person on the left and rebuild the facade behind, matching brick, mortar and light.",
    "Light the product from the right with a soft box; no shadow on the table, label sharp and legible.",
];
const REASONS: [&str; 3] = [
    "The subject is intact and the request is met.",
    "A slight halo remains along the edge of the roof.",
    "The letters are wrong: two of them are not Greek.",
];
const CATEGORIES: [&str; 5] = ["background", "lighting", "text", "removal", "colour"];

/// Adds the tasks, and has the dashboard's figures added up.
pub async fn generate(command: Generate) -> Outcome<()> {
    let mut connection = PgConnection::connect(&command.database_url).await?;
    let found: Option<i64> =
        sqlx::query_scalar("SELECT workflow_id FROM workflows WHERE name = $1")
            .bind(&command.workflow)
            .fetch_optional(&mut connection)
            .await?;
    let Some(workflow_id) = found else {
        let words = format!("no workflow {}: start `mathesis serve` on it once", command.workflow);
        return Err(words.into());
    };
    let first: i64 = sqlx::query_scalar("SELECT coalesce(max(id), 0) + 1 FROM tasks")
        .fetch_one(&mut connection)
        .await?;
    let now = SystemClock.now();
    let mut writer = Writer {
        rng: StdRng::seed_from_u64(command.seed),
        tasks: String::new(),
        attempts: String::new(),
        workflow_id,
        first,
        now,
    };
    let (began, mut rows) = (Instant::now(), 0);
    let mut next = 0;
    while next < command.tasks {
        let until = (next + CHUNK).min(command.tasks);
        for number in next..until {
            rows += writer.task(&command, number)?;
        }
        writer.flush(&mut connection).await?;
        next = until;
        if next % (CHUNK * 20) == 0 || next == command.tasks {
            let seconds = began.elapsed().as_secs_f64();
            eprintln!("{next} tasks, {rows} rows, {:.0} rows/s", as_float(rows) / seconds);
        }
    }
    finish(&mut connection, &command, workflow_id).await
}

/// What COPY leaves to be done: the next id, the planner's statistics, the dashboard's figures.
async fn finish(
    connection: &mut PgConnection,
    command: &Generate,
    workflow_id: i64,
) -> Outcome<()> {
    let began = Instant::now();
    for statement in [
        "SELECT setval(pg_get_serial_sequence('tasks', 'id'), (SELECT max(id) FROM tasks))",
        "ANALYZE tasks",
        "ANALYZE attempts",
    ] {
        sqlx::query(statement).execute(&mut *connection).await?;
    }
    figures::mark_all(connection, workflow_id).await?;
    eprintln!("analysed and marked in {:.1} s", began.elapsed().as_secs_f64());
    let began = Instant::now();
    let pool = PgPool::connect(&command.database_url).await?;
    let zone: String = sqlx::query_scalar(
        "SELECT coalesce((SELECT time_zone FROM figure_states WHERE workflow_id = $1), 'UTC')",
    )
    .bind(workflow_id)
    .fetch_one(&pool)
    .await?;
    let days = figures::refresh(&pool, workflow_id, zone.parse()?, SystemClock.now()).await?;
    eprintln!("the dashboard's figures: {days} days in {:.1} s", began.elapsed().as_secs_f64());
    Ok(())
}

/// The next chunk, in COPY's text format. No text of it holds a tab, a line's end or a backslash.
struct Writer {
    rng: StdRng,
    tasks: String,
    attempts: String,
    workflow_id: i64,
    first: i64,
    now: DateTime<Utc>,
}

impl Writer {
    /// Writes one task with its attempts; returns how many rows that were.
    fn task(&mut self, command: &Generate, number: u64) -> Outcome<u64> {
        let id = self.first + i64::try_from(number)?;
        let left = i64::try_from(command.tasks - number)?;
        let step = command.days * 86_400_000 / i64::try_from(command.tasks)?.max(1);
        let at = self.now - TimeDelta::milliseconds(step * left);
        let took_ms = self.rng.random_range(20_000..180_000);
        let ended = at + TimeDelta::milliseconds(took_ms);
        let request = self.text(&REQUESTS, command.texts, 300);
        let iterations = if self.rng.random_ratio(1, 4) { 2 } else { 1 };
        let mut best: Option<(usize, i32)> = None;
        let mut rows = 1;
        for iteration in 1..=iterations {
            for model in 0..command.models.len() {
                let score = self.score(model);
                if iteration == iterations && best.is_none_or(|(_, so_far)| score > so_far) {
                    best = Some((model, score));
                }
                self.attempt(command, id, at, (model, iteration, score))?;
                rows += 1;
            }
        }
        let category = CATEGORIES[self.rng.random_range(0..CATEGORIES.len())];
        let (winner, score) = match best.filter(|(_, score)| *score >= 6) {
            Some((model, score)) => (command.models[model].as_str(), score.to_string()),
            None => ("\\N", "\\N".to_owned()),
        };
        let kept = match self.rng.random_range(0..10) {
            0 => "f",
            1..=6 => "t",
            _ => "\\N",
        };
        let kept_at = if kept == "\\N" { "\\N".to_owned() } else { ended.to_rfc3339() };
        let analysed = if number + command.waiting >= command.tasks { "\\N" } else { "0" };
        writeln!(
            self.tasks,
            "{}\t{id}\tgen{id:010}\t{request}\tSIMPLE_EDIT\t{category}\t{at}\t{ended}\t{at}\t{ended}\tcompleted\t{winner}\t{score}\t{iterations}\t{took_ms}\t{kept}\t{kept_at}\t{analysed}",
            self.workflow_id,
            at = at.to_rfc3339(),
            ended = ended.to_rfc3339(),
        )?;
        Ok(rows)
    }

    fn attempt(
        &mut self,
        command: &Generate,
        task: i64,
        at: DateTime<Utc>,
        (model, iteration, score): (usize, i32, i32),
    ) -> Outcome<()> {
        let prompt = self.text(&PROMPTS, command.texts, 1_000);
        let reason = self.text(&REASONS, command.texts, 400);
        writeln!(
            self.attempts,
            "{}\t{task}\t{}\t{iteration}\t1\t{prompt}\t{}\thttps://pictures.example/{task}/{model}/{iteration}.png\t{}\t{score}\t{}\t{reason}\t{}",
            self.workflow_id,
            command.models[model],
            self.rng.random_range(900..4_000),
            self.rng.random_range(4_000..40_000),
            if score >= 8 { "t" } else { "f" },
            at.to_rfc3339(),
        )?;
        Ok(())
    }

    /// Scores that crowd at seven and eight, with a tail of failures, as real ones do.
    fn score(&mut self, model: usize) -> i32 {
        let drawn = self.rng.random_range(0..100);
        let score = match drawn {
            0..6 => 2,
            6..12 => 4,
            12..24 => 6,
            24..52 => 7,
            52..84 => 8,
            _ => 9,
        };
        if model == 0 && drawn % 5 == 0 { (score + 1).min(10) } else { score }
    }

    fn text(&mut self, texts: &[&str], length: Texts, chars: usize) -> String {
        let mut text = texts[self.rng.random_range(0..texts.len())].to_owned();
        while length == Texts::Real && text.chars().count() < chars {
            text.push(' ');
            text.push_str(texts[self.rng.random_range(0..texts.len())]);
        }
        text
    }

    /// Tasks first, since attempts refer to them.
    async fn flush(&mut self, connection: &mut PgConnection) -> Outcome<()> {
        for (statement, rows) in [
            (
                "COPY tasks (workflow_id, id, clickup_task_id, original_prompt, task_type, category, created_at,
                             last_event_at, started_at, ended_at, ended_by, winner_model, winner_score,
                             total_iterations, processing_time_reported_ms, feedback_kept, feedback_at,
                             analyzed_in_cycle) FROM STDIN",
                &mut self.tasks,
            ),
            (
                "COPY attempts (workflow_id, task_id, model_name, iteration, prompt_version, enhanced_prompt,
                                enhancement_latency_ms, image_url, generation_time_ms, validation_score,
                                validation_passed, validation_reasoning, created_at) FROM STDIN",
                &mut self.attempts,
            ),
        ] {
            let mut copy = connection.copy_in_raw(statement).await?;
            copy.send(rows.as_bytes()).await?;
            copy.finish().await?;
            rows.clear();
        }
        Ok(())
    }
}

#[expect(clippy::cast_precision_loss, reason = "a rate for people")]
fn as_float(number: u64) -> f64 {
    number as f64
}
