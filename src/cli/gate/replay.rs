//! `mathesis gate replay`.

use std::collections::BTreeMap;

use clap::Args;
use serde::Serialize;

use super::super::context::{Context, Need, with_context};
use super::super::failure::Failure;
use super::super::{AsJson, OfWorkflow, output};
use super::rules::Rules;
use crate::experiment::discovery::lord;
use crate::experiment::gate::{Look, Sum};
use crate::experiment::replay::{Recorded, replay};
use crate::experiment::{ByArm, Guard, permutation};
use crate::runtime::Workflow;
use crate::settings::Settings;
use crate::store::gate::{RecordedScore, RecordedTest, recorded_tests};

/// Of all discoveries, at most this share may be chance.
const FALSE_DISCOVERIES_MAX: f64 = 0.10;
/// Of that, what the first tests may spend.
const FALSE_DISCOVERIES_START: f64 = 0.05;

/// What each guard mode would have made of the tests on record.
///
/// Each is judged by each guard's own rule on the scores that were counted. Where a guard would have
/// gone on to tasks that were never scored, it says so. The last column asks of all tests together:
/// which are discoveries if at most one in ten of them may be chance (LORD++ on the exact p-values)?
#[derive(Debug, Clone, Args)]
pub struct Replay {
    #[command(flatten)]
    of: OfWorkflow,
    #[command(flatten)]
    as_json: AsJson,
}

/// One test and what becomes of it.
#[derive(Debug, Serialize)]
struct Line {
    cycle: i64,
    model: String,
    version: i32,
    decided: String,
    guards: BTreeMap<&'static str, String>,
    p_exact: Option<f64>,
    /// Whether it is a discovery at a false discovery rate of 10%; none without a p.
    discovery: Option<bool>,
}

/// Runs the command.
pub async fn run(command: Replay, settings: &Settings) -> Result<(), Failure> {
    with_context!(settings, Need::Existing, |context| show(&command, &context))
}

async fn show(command: &Replay, context: &Context) -> Result<(), Failure> {
    let workflow = context.workflow(&command.of)?;
    let pool = context.engine.store.pool();
    let tests = recorded_tests(pool, workflow.workflow_id).await?;
    let lines = lines(&workflow, &tests);
    if command.as_json.json {
        return output::say_json(&lines);
    }
    let mut headings = vec!["cycle", "model", "version", "decided"];
    headings.extend(Guard::ALL.iter().map(|guard| guard.as_str()));
    headings.extend(["p", "discovery"]);
    let mut table = output::table(&headings);
    for line in &lines {
        let mut cells = vec![
            line.cycle.to_string(),
            line.model.clone(),
            line.version.to_string(),
            line.decided.clone(),
        ];
        let of_guard = |guard: &Guard| output::or_dash(line.guards.get(guard.as_str()));
        cells.extend(Guard::ALL.iter().map(of_guard));
        cells.push(output::or_dash(line.p_exact.map(|p| format!("{p:.4}"))));
        cells.push(output::or_dash(line.discovery.map(|it| if it { "yes" } else { "no" })));
        table.add_row(cells);
    }
    output::say_table(&table, "No test was decided on scores yet.")
}

fn lines(workflow: &Workflow, tests: &[RecordedTest]) -> Vec<Line> {
    let rules = Rules::of(&workflow.definition);
    let blocks_per_look = (2 * rules.deck.per_arm).div_ceil(rules.deck.block.max(1));
    let mut lines: Vec<Line> = tests
        .iter()
        .map(|test| {
            let recorded = recorded(test, blocks_per_look as usize);
            let judged = |&guard: &Guard| {
                let replayed = replay(guard, &rules.gate, &rules.probation, &recorded);
                (guard.as_str(), replayed.to_string())
            };
            Line {
                cycle: test.cycle,
                model: test.model.clone(),
                version: test.candidate_version,
                decided: test.status.clone(),
                guards: Guard::ALL.iter().map(judged).collect(),
                p_exact: permutation::stratified(&recorded.look.blocks).map(|it| it.greater),
                discovery: None,
            }
        })
        .collect();
    let p_values: Vec<f64> = lines.iter().filter_map(|line| line.p_exact).collect();
    let tested = lord(&p_values, FALSE_DISCOVERIES_MAX, FALSE_DISCOVERIES_START);
    let with_p = lines.iter_mut().filter(|line| line.p_exact.is_some());
    for (line, tested) in with_p.zip(tested) {
        line.discovery = Some(tested.discovery);
    }
    lines
}

fn recorded(test: &RecordedTest, blocks_per_look: usize) -> Recorded {
    let tested = usize::try_from(test.test_scores).unwrap_or(0).min(test.scores.len());
    let (of_test, of_probation) = test.scores.split_at(tested);
    let mut holders: BTreeMap<&(String, String), ByArm<Vec<u16>>> = BTreeMap::new();
    for score in of_test {
        holders.entry(&score.holder).or_default().get_mut(score.arm).push(score.score);
    }
    let both = |pair: &ByArm<Vec<u16>>| !pair.control.is_empty() && !pair.candidate.is_empty();
    let paired = holders.values().any(both);
    let blocks =
        if paired { holders.into_values().filter(both).collect() } else { by_block(of_test) };
    let missed = ByArm {
        control: test.missed_control.unsigned_abs(),
        candidate: test.missed_candidate.unsigned_abs(),
    };
    let sums = |scores: &[RecordedScore]| {
        Look { blocks: by_block(scores), missed: ByArm::default() }.sums()
    };
    let probation: Option<ByArm<Sum>> = (!of_probation.is_empty()).then(|| sums(of_probation));
    Recorded { look: Look { blocks, missed }, blocks_per_look, paired, probation }
}

fn by_block(scores: &[RecordedScore]) -> Vec<ByArm<Vec<u16>>> {
    let mut blocks: BTreeMap<i32, ByArm<Vec<u16>>> = BTreeMap::new();
    for score in scores {
        blocks.entry(score.block).or_default().get_mut(score.arm).push(score.score);
    }
    blocks.into_values().collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::experiment::Arm;

    fn score(block: i32, arm: Arm, score: u16, task: &str) -> RecordedScore {
        RecordedScore { block, arm, score, holder: (task.to_owned(), String::new()) }
    }

    fn test(test_scores: i32, scores: Vec<RecordedScore>) -> RecordedTest {
        RecordedTest {
            cycle: 1,
            model: "nano-banana".to_owned(),
            candidate_version: 2,
            status: "adopted".to_owned(),
            missed_control: 1,
            missed_candidate: 0,
            test_scores,
            scores,
        }
    }

    #[test]
    fn the_scores_after_the_test_s_own_are_its_probation() {
        let scores = vec![
            score(1, Arm::Control, 5, "a"),
            score(1, Arm::Candidate, 8, "b"),
            score(2, Arm::Candidate, 7, "c"),
        ];
        let recorded = recorded(&test(2, scores), 5);
        assert_eq!(recorded.look.blocks, [ByArm { control: vec![5], candidate: vec![8] }]);
        assert_eq!(recorded.look.missed, ByArm { control: 1, candidate: 0 });
        assert!(!recorded.paired);
        let probation = recorded.probation.map(|sums| sums.candidate.total);
        assert_eq!(probation, Some(7));
    }

    #[test]
    fn a_task_that_has_both_arms_makes_it_a_test_of_pairs() {
        let scores = vec![
            score(1, Arm::Control, 5, "a"),
            score(1, Arm::Candidate, 8, "a"),
            score(1, Arm::Candidate, 9, "half"),
        ];
        let recorded = recorded(&test(3, scores), 5);
        assert!(recorded.paired);
        assert_eq!(recorded.look.blocks, [ByArm { control: vec![5], candidate: vec![8] }]);
    }
}
