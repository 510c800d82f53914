//! The rules that simulated and replayed tests run by, and whose they are.

use std::fmt;

use serde::Serialize;

use crate::experiment::deck::DeckRules;
use crate::experiment::gate::GateRules;
use crate::experiment::power::Plan;
use crate::experiment::probation::{self, ProbationRules};
use crate::experiment::strict;
use crate::runtime;
use crate::workflow::Definition;

/// What tests and probations run by.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Rules {
    /// The workflow that says so; none for the defaults.
    pub(super) workflow: Option<String>,
    pub(super) gate: GateRules,
    pub(super) deck: DeckRules,
    pub(super) probation_tasks: u32,
    pub(super) probation: ProbationRules,
    pub(super) strict_looks_max: u32,
}

/// The rules as an answer tells them, by the names that they have in `workflow.toml`.
#[derive(Debug, Serialize)]
pub(super) struct Told {
    /// The workflow whose rules they are; null for the defaults.
    workflow: Option<String>,
    score_max: u16,
    per_arm: u32,
    block: u32,
    improvement_basis_points: u32,
    scores_per_arm_min: u32,
    probation_tasks: u32,
    retain_basis_points: u32,
    probation_scores_per_arm_min: u32,
    strict_looks_max: u32,
}

impl Rules {
    /// The defaults, where no workflow says otherwise.
    pub(super) const fn given() -> Self {
        Self {
            workflow: None,
            gate: GateRules { threshold_basis_points: 1000, scores_per_arm_min: 8, score_max: 10 },
            deck: DeckRules { per_arm: 10, block: 4 },
            probation_tasks: 30,
            probation: ProbationRules { retain_basis_points: 500, scores_per_arm_min: 8 },
            strict_looks_max: strict::LOOKS_MAX,
        }
    }

    /// A workflow's own.
    pub(super) fn of(definition: &Definition) -> Self {
        let rules = runtime::rules_of(definition);
        Self {
            workflow: Some(definition.name.as_str().to_owned()),
            gate: rules.gate,
            deck: rules.split,
            probation_tasks: 2 * rules.probation.per_arm,
            probation: ProbationRules {
                retain_basis_points: rules.retain_basis_points,
                scores_per_arm_min: rules.probation_scores_per_arm_min,
            },
            strict_looks_max: rules.strict_looks_max,
        }
    }

    /// A simulation by these rules.
    pub(super) fn plan(&self, correlation: f64) -> Plan {
        Plan {
            gate: self.gate,
            deck: self.deck,
            probation_deck: probation::deck_rules(self.probation_tasks, self.deck.block),
            probation: self.probation,
            strict_looks_max: self.strict_looks_max,
            correlation,
        }
    }

    pub(super) fn told(&self) -> Told {
        Told {
            workflow: self.workflow.clone(),
            score_max: self.gate.score_max,
            per_arm: self.deck.per_arm,
            block: self.deck.block,
            improvement_basis_points: self.gate.threshold_basis_points,
            scores_per_arm_min: self.gate.scores_per_arm_min,
            probation_tasks: self.probation_tasks,
            retain_basis_points: self.probation.retain_basis_points,
            probation_scores_per_arm_min: self.probation.scores_per_arm_min,
            strict_looks_max: self.strict_looks_max,
        }
    }
}

impl fmt::Display for Told {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.workflow {
            Some(name) => write!(f, "By the rules of the workflow {name}")?,
            None => f.write_str("By the default rules (--workflow takes a workflow's own)")?,
        }
        let percent = |basis_points: u32| f64::from(basis_points) / 100.0;
        write!(
            f,
            ": {} tasks an arm in blocks of {}, adopted above {}%; probation: {} tasks, kept above {}%; strict: {} looks at most.",
            self.per_arm,
            self.block,
            percent(self.improvement_basis_points),
            self.probation_tasks,
            percent(self.retain_basis_points),
            self.strict_looks_max
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shipped() -> Definition {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/workflows/image-editing");
        crate::workflow::load::load(std::path::Path::new(folder)).unwrap()
    }

    #[test]
    fn the_defaults_are_those_of_a_workflow_that_says_nothing_else() {
        let of_workflow = Rules::of(&shipped());
        assert_eq!(
            of_workflow,
            Rules { workflow: Some("image-editing".to_owned()), ..Rules::given() }
        );
    }

    #[test]
    fn the_rules_are_told_with_whose_they_are() {
        let mut definition = shipped();
        definition.split.per_arm = 25;
        definition.gate.improvement_basis_points = 750;
        definition.guard.probation_tasks = 60;
        definition.guard.retain_basis_points = 250;
        definition.guard.strict_looks_max = 3;
        insta::assert_snapshot!(Rules::of(&definition).told(), @"By the rules of the workflow image-editing: 25 tasks an arm in blocks of 4, adopted above 7.5%; probation: 60 tasks, kept above 2.5%; strict: 3 looks at most.");
        insta::assert_snapshot!(Rules::given().told(), @"By the default rules (--workflow takes a workflow's own): 10 tasks an arm in blocks of 4, adopted above 10%; probation: 30 tasks, kept above 5%; strict: 5 looks at most.");
    }
}
