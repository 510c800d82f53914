//! `mathesis gate power`.

use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;

use super::super::context::{Context, Need, with_context};
use super::super::failure::Failure;
use super::super::workflow;
use super::super::{AsJson, OfWorkflow, output};
use super::rules::{Rules, Told};
use super::{plot, scores};
use crate::experiment::Guard;
use crate::experiment::power::{
    Arms, BuiltIn, CHUNK_TRIALS, EFFECTS_BASIS_POINTS, Figures, Shape, Tally, chunk,
};
use crate::settings::Settings;
use crate::store;

/// The true effects of the plot, from 20% worse to 30% better.
const PLOTTED_BASIS_POINTS: [i32; 11] =
    [-2000, -1500, -1000, -500, 0, 500, 1000, 1500, 2000, 2500, 3000];
/// Scores of one version below which a model's other versions are drawn on too.
const SCORES_OF_VERSION_MIN: usize = 50;

/// How often the gate adopts what it should not, and misses what it should adopt.
///
/// Plays thousands of tests on scores drawn from recorded ones: a workflow's own, a file's, or those of a
/// built-in shape. Each test is decided by the rules that decide real ones, under each guard mode, for a
/// candidate that is no better, 10% worse and 20% better. A shape or a file is played by the default rules, or by
/// those of the workflow that --workflow names. The same seed gives the same figures.
#[derive(Debug, Clone, Args)]
pub struct Power {
    #[arg(long, value_name = "SHAPE", value_parser = parse::<BuiltIn>, conflicts_with_all = ["scores", "model"], help = "Take a built-in shape of scores: mid, ceiling, tight, low or bimodal")]
    shape: Option<BuiltIn>,
    /// Take the scores of a file: a number a line, or a JSON object with `score` a line
    #[arg(long, value_name = "FILE", conflicts_with = "model")]
    scores: Option<PathBuf>,
    /// Of the file, only the objects with this value, as in `model=nano-banana`
    #[arg(long, value_name = "FIELD=VALUE", requires = "scores")]
    only: Option<String>,
    /// Of the workflow, only this model [default: each]
    #[arg(long, value_name = "MODEL")]
    model: Option<String>,
    /// Only this guard: off, probation, strict or paired; may be given several times [default: each]
    #[arg(long = "mode", value_name = "MODE", value_parser = parse::<Guard>)]
    modes: Vec<Guard>,
    /// Tests to play for each figure
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(100..=10_000_000))]
    trials: u32,
    /// The seed
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// How alike a task's two scores are under `paired`, 0 to 1
    #[arg(long, default_value_t = 0.6, value_name = "NUMBER", value_parser = correlation)]
    correlation: f64,
    /// Draw the chance of adoption over the true effect into this file
    #[arg(long, value_name = "FILE")]
    svg: Option<PathBuf>,
    #[command(flatten)]
    of: OfWorkflow,
    #[command(flatten)]
    as_json: AsJson,
}

fn parse<T: std::str::FromStr<Err = crate::experiment::UnknownName>>(
    text: &str,
) -> Result<T, String> {
    text.parse().map_err(|error: crate::experiment::UnknownName| error.to_string())
}

fn correlation(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(number) if (0.0..=1.0).contains(&number) => Ok(number),
        _ => Err(format!("{text:?} is no number from 0 to 1")),
    }
}

/// One set of scores, and the rules that its tests run by.
struct Subject {
    title: String,
    shape: Shape,
    rules: Rules,
}

/// How one guard fares.
#[derive(Debug, Serialize)]
struct Row {
    guard: Guard,
    effects: Vec<Cell>,
}

/// Under one true effect.
#[derive(Debug, Serialize)]
struct Cell {
    true_effect_basis_points: i32,
    /// None where the scale leaves no room for the effect.
    figures: Option<Figures>,
}

/// The whole answer on one set of scores.
#[derive(Debug, Serialize)]
struct Answer {
    scores: String,
    rules: Told,
    mean: f64,
    standard_deviation: f64,
    trials: u32,
    seed: u64,
    guards: Vec<Row>,
}

/// Runs the command.
pub async fn run(command: Power, settings: &Settings) -> Result<(), Failure> {
    let subjects = match (&command.shape, &command.scores) {
        (Some(built_in), _) => vec![of_shape(*built_in, named(&command, settings)?)?],
        (None, Some(path)) => {
            let rules = named(&command, settings)?;
            let found = scores::read(path, command.only.as_deref())?;
            vec![subject(path.display().to_string(), &found, rules)?]
        }
        (None, None) => {
            with_context!(settings, Need::Existing, |context| of_workflow(&command, &context))?
        }
    };
    let answered = tokio::task::spawn_blocking(move || answer(&command, &subjects)).await;
    answered.map_err(|error| Failure::failed(format!("the simulation broke off: {error}")))?
}

/// The rules for scores that are no workflow's own. Its file says them, so no database is needed.
fn named(command: &Power, settings: &Settings) -> Result<Rules, Failure> {
    let Some(name) = command.of.workflow.as_deref() else { return Ok(Rules::given()) };
    Ok(Rules::of(&workflow::find(Some(name), &settings.workflows)?))
}

fn of_shape(built_in: BuiltIn, rules: Rules) -> Result<Subject, Failure> {
    let own = Rules::given().gate.score_max;
    if rules.gate.score_max != own {
        return Err(Failure::usage(format!(
            "the built-in shapes are on the scale to {own}, and the workflow's validator scores to {}; give it scores of its own with --scores. Nothing was simulated.",
            rules.gate.score_max
        )));
    }
    Ok(Subject { title: format!("the built-in shape {built_in}"), shape: built_in.shape(), rules })
}

fn subject(title: String, found: &[u16], rules: Rules) -> Result<Subject, Failure> {
    let shape = Shape::of_scores(found, rules.gate.score_max)
        .map_err(|error| Failure::failed(format!("{title}: {error}; nothing was simulated")))?;
    Ok(Subject { title: format!("{} scores of {title}", found.len()), shape, rules })
}

async fn of_workflow(command: &Power, context: &Context) -> Result<Vec<Subject>, Failure> {
    let workflow = context.workflow(&command.of)?;
    let rules = Rules::of(&workflow.definition);
    let pool = context.engine.store.pool();
    let mut subjects = Vec::new();
    for model in
        workflow.models().filter(|name| command.model.as_deref().is_none_or(|m| m == *name))
    {
        let all = store::gate::first_scores(pool, workflow.workflow_id, model).await?;
        let active: Vec<u16> =
            all.iter().filter(|score| score.active).map(|score| score.score).collect();
        if active.len() >= SCORES_OF_VERSION_MIN {
            let title = format!("{model}'s active version");
            subjects.push(subject(title, &active, rules.clone())?);
        } else if !all.is_empty() {
            let every: Vec<u16> = all.iter().map(|score| score.score).collect();
            let title = format!("{model}, of all its versions");
            subjects.push(subject(title, &every, rules.clone())?);
        }
    }
    if subjects.is_empty() {
        return Err(Failure::not_found(match &command.model {
            Some(model) => format!(
                "no score of {model:?} is on record in the workflow {}; `--shape mid` needs none",
                workflow.name()
            ),
            None => format!(
                "no score is on record in the workflow {} yet; `--shape mid` needs none",
                workflow.name()
            ),
        }));
    }
    Ok(subjects)
}

fn answer(command: &Power, subjects: &[Subject]) -> Result<(), Failure> {
    if command.svg.is_some() && subjects.len() > 1 {
        return Err(Failure::usage(
            "a plot shows one model; name it with --model. Nothing was simulated.".to_owned(),
        ));
    }
    let guards = if command.modes.is_empty() { Guard::ALL } else { &command.modes };
    let mut answers = Vec::new();
    for subject in subjects {
        let rows = play(command, subject, guards, &EFFECTS_BASIS_POINTS)?;
        if let Some(path) = &command.svg {
            let rows = play(command, subject, guards, &PLOTTED_BASIS_POINTS)?;
            plot::write(path, &subject.title, &lines(&rows))?;
        }
        answers.push(Answer {
            scores: subject.title.clone(),
            rules: subject.rules.told(),
            mean: subject.shape.mean(),
            standard_deviation: subject.shape.sd(),
            trials: command.trials.div_ceil(CHUNK_TRIALS) * CHUNK_TRIALS,
            seed: command.seed,
            guards: rows,
        });
    }
    if command.as_json.json {
        return output::say_json(&answers);
    }
    answers.iter().try_for_each(tell)
}

fn lines(rows: &[Row]) -> Vec<plot::Curve> {
    rows.iter()
        .map(|row| plot::Curve {
            label: row.guard.as_str(),
            points: row
                .effects
                .iter()
                .filter_map(|cell| {
                    let percent = f64::from(cell.true_effect_basis_points) / 100.0;
                    Some((percent, cell.figures?.adopted * 100.0))
                })
                .collect(),
        })
        .collect()
}

/// Plays all tests, on all processors; the figures do not depend on how many there are.
fn play(
    command: &Power,
    subject: &Subject,
    guards: &[Guard],
    effects: &[i32],
) -> Result<Vec<Row>, Failure> {
    let arms: Vec<Option<Arms>> =
        effects.iter().map(|&effect| Arms::new(&subject.shape, effect)).collect();
    let chunks = command.trials.div_ceil(CHUNK_TRIALS);
    let jobs: Vec<(usize, usize, u32)> = (0..guards.len())
        .flat_map(|guard| (0..effects.len()).map(move |effect| (guard, effect)))
        .filter(|(_, effect)| arms.get(*effect).is_some_and(Option::is_some))
        .flat_map(|(guard, effect)| (0..chunks).map(move |number| (guard, effect, number)))
        .collect();
    let plan = subject.rules.plan(command.correlation);
    let bar = progress(jobs.len() as u64, command.as_json.json);
    let tallies = Mutex::new(vec![Tally::default(); guards.len() * effects.len()]);
    let next = AtomicUsize::new(0);
    let work = || {
        while let Some(&(guard, effect, number)) = jobs.get(next.fetch_add(1, Ordering::Relaxed)) {
            if let (Some(&mode), Some(Some(arms))) = (guards.get(guard), arms.get(effect)) {
                let played = chunk(&plan, mode, arms, command.seed, number);
                let mut all = tallies.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
                if let Some(tally) = all.get_mut(guard * effects.len() + effect) {
                    *tally = tally.and(played);
                }
            }
            bar.inc(1);
        }
    };
    let threads = std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(work);
        }
    });
    bar.finish_and_clear();
    let tallies = tallies.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
    let rows = guards.iter().zip(tallies.chunks(effects.len().max(1)));
    Ok(rows
        .map(|(&guard, tallies)| Row {
            guard,
            effects: effects
                .iter()
                .zip(tallies)
                .map(|(&true_effect_basis_points, tally)| Cell {
                    true_effect_basis_points,
                    figures: (tally.trials > 0).then(|| tally.figures()),
                })
                .collect(),
        })
        .collect())
}

fn progress(length: u64, quiet: bool) -> ProgressBar {
    if quiet {
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::new(length);
    if let Ok(style) = ProgressStyle::with_template("{wide_bar} {percent}%  {eta} left") {
        bar.set_style(style);
    }
    bar
}

fn tell(answer: &Answer) -> Result<(), Failure> {
    output::say(&format!(
        "On {}: mean {:.1}, standard deviation {:.1}. {} tests a figure, seed {}.\n{}\n",
        answer.scores,
        answer.mean,
        answer.standard_deviation,
        answer.trials,
        answer.seed,
        answer.rules
    ))?;
    let mut table = output::table(&[
        "guard",
        "adopts a no-better one",
        "one 10% worse",
        "one 20% better",
        "tasks",
        "pictures",
    ]);
    for row in &answer.guards {
        let mut cells = vec![row.guard.as_str().to_owned()];
        cells.extend(row.effects.iter().map(|cell| share(cell.figures)));
        let first = row.effects.first().and_then(|cell| cell.figures);
        let mean = |of: fn(&Figures) -> f64| {
            output::or_dash(first.as_ref().map(of).map(|number| format!("{number:.0}")))
        };
        cells.extend([mean(|f| f.tasks), mean(|f| f.generations)]);
        table.add_row(cells);
    }
    output::say_table(&table, "No guard was asked for.")?;
    output::say(
        "\nFor good, that is, after a probation where there is one. ± is the 95% error of the simulation; tasks and\n\
         pictures are those of a test of a no-better candidate. - stands where the scale leaves no room for the effect.\n",
    )
}

fn share(figures: Option<Figures>) -> String {
    output::or_dash(figures.map(|it| {
        let error = 1.96 * it.standard_error * 100.0;
        format!("{:.1}% ± {error:.1}", it.adopted * 100.0)
    }))
}
