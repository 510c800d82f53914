//! From an adoption on watch to its end.

use super::*;

#[test]
fn an_adoption_on_watch_is_dealt_a_deck_of_thirty() {
    let mut cycle = Cycle::testing(Guard::Probation, Approval::None, &[SEEDREAM, QWEN]);
    cycle.on(adopting_look(SEEDREAM));
    cycle.on(rejecting_look(QWEN));
    cycle.on(Event::VerdictsSettled);
    cycle.on(Event::FilesApplied).is(StateName::Probation, &[deals(SEEDREAM)]);
}

#[test]
fn a_probation_under_two_judges_asks_a_person_at_once() {
    let mut cycle = Cycle::on_probation(&[SEEDREAM]);
    let Event::ProbationLookTaken { model, pooled, probation, .. } = keeping_look(SEEDREAM) else {
        panic!("a look")
    };
    cycle
        .on(Event::ProbationLookTaken { model, pooled, probation, judge_changed: true })
        .is(StateName::Probation, &[asks(ApprovalStage::ProbationUndecided)]);
    cycle.on(settled(SEEDREAM, false)).is(StateName::Reverting, &[reverts(&[SEEDREAM])]);
}

#[test]
fn a_probation_that_holds_is_kept() {
    let mut cycle = Cycle::on_probation(&[SEEDREAM]);
    cycle.on(keeping_look(SEEDREAM)).is(StateName::Applied, &[Effect::OpenNextCycle]);
    assert_eq!(cycle.ended(), ["seedream: adopted (improved)"]);
}

#[test]
fn a_probation_that_regresses_is_put_back_files_included() {
    let mut cycle = Cycle::on_probation(&[SEEDREAM]);
    cycle.on(regressing_look(SEEDREAM)).is(StateName::Reverting, &[reverts(&[SEEDREAM])]);
    cycle.on(Event::FilesReverted).is(StateName::RolledBack, &[Effect::OpenNextCycle]);
    assert_eq!(cycle.ended(), ["seedream: rolled_back (regressed)"]);
}

#[test]
fn exactly_five_percent_is_a_regression() {
    let exactly = Event::ProbationLookTaken {
        model: SEEDREAM.to_owned(),
        pooled: ByArm {
            control: Sum { total: 200, count: 25 },
            candidate: Sum { total: 210, count: 25 },
        },
        probation: ByArm {
            control: Sum { total: 120, count: 15 },
            candidate: Sum { total: 120, count: 15 },
        },
        judge_changed: false,
    };
    let mut cycle = Cycle::on_probation(&[SEEDREAM]);
    cycle.on(exactly).is(StateName::Reverting, &[reverts(&[SEEDREAM])]);
}

#[test]
fn a_probation_with_too_few_scores_is_extended_once_and_then_asks() {
    let mut cycle = Cycle::on_probation(&[SEEDREAM]);
    cycle.on(undecided_look(SEEDREAM)).is(StateName::Probation, &[extends(SEEDREAM)]);
    cycle
        .on(undecided_look(SEEDREAM))
        .is(StateName::Probation, &[asks(ApprovalStage::ProbationUndecided)]);
    cycle.refuses(undecided_look(SEEDREAM));
    cycle.on(settled(SEEDREAM, true)).is(StateName::Applied, &[Effect::OpenNextCycle]);
}

#[test]
fn an_extended_probation_that_gets_its_scores_decides_itself() {
    let mut cycle = Cycle::on_probation(&[SEEDREAM]);
    cycle.on(undecided_look(SEEDREAM));
    cycle.on(keeping_look(SEEDREAM)).is(StateName::Applied, &[Effect::OpenNextCycle]);
}

#[test]
fn a_person_may_take_an_undecided_adoption_back() {
    let mut cycle = Cycle::on_probation(&[SEEDREAM]);
    cycle.on(undecided_look(SEEDREAM));
    cycle.on(undecided_look(SEEDREAM));
    cycle.on(settled(SEEDREAM, false)).is(StateName::Reverting, &[reverts(&[SEEDREAM])]);
}

#[test]
fn one_model_kept_and_one_regressed_ends_applied() {
    let mut cycle = Cycle::on_probation(&[SEEDREAM, QWEN]);
    cycle.on(keeping_look(QWEN)).is(StateName::Probation, &[]);
    cycle.refuses(keeping_look(QWEN));
    cycle.refuses(settled(QWEN, false));
    cycle.on(regressing_look(SEEDREAM)).is(StateName::Reverting, &[reverts(&[SEEDREAM])]);
    cycle.on(Event::FilesReverted).is(StateName::Applied, &[Effect::OpenNextCycle]);
    assert_eq!(cycle.ended(), ["seedream: rolled_back (regressed)", "qwen: adopted (improved)"]);
}

#[test]
fn an_operators_rollback_ends_that_models_probation_and_the_other_goes_on() {
    let mut cycle = Cycle::on_probation(&[SEEDREAM, QWEN]);
    cycle.on(rollback(SEEDREAM)).is(StateName::Probation, &[rolls_back(SEEDREAM)]);
    cycle.refuses(keeping_look(SEEDREAM));
    cycle.on(keeping_look(QWEN)).is(StateName::Applied, &[Effect::OpenNextCycle]);
    assert_eq!(cycle.ended(), ["seedream: superseded (superseded)", "qwen: adopted (improved)"]);
}

#[test]
fn a_rollback_of_the_only_model_on_probation_ends_the_cycle() {
    let mut cycle = Cycle::on_probation(&[SEEDREAM]);
    cycle
        .on(rollback(SEEDREAM))
        .is(StateName::RolledBack, &[rolls_back(SEEDREAM), Effect::OpenNextCycle]);
    assert_eq!(cycle.ended(), ["seedream: superseded (superseded)"]);
}

#[test]
fn a_rollback_outranks_a_regression_that_waits_for_the_other_model() {
    let mut cycle = Cycle::on_probation(&[SEEDREAM, QWEN]);
    cycle.on(regressing_look(SEEDREAM));
    cycle.on(rollback(SEEDREAM));
    cycle.on(retired(SEEDREAM));
    cycle.on(keeping_look(QWEN)).is(StateName::Applied, &[Effect::OpenNextCycle]);
    assert_eq!(cycle.ended(), ["seedream: superseded (superseded)", "qwen: adopted (improved)"]);
}

#[test]
fn a_late_report_of_applied_files_is_taken_while_reverting_and_changes_nothing() {
    let mut cycle = Cycle::testing(Guard::Off, Approval::None, &[SEEDREAM]);
    cycle.on(adopting_look(SEEDREAM));
    cycle.on(Event::VerdictsSettled);
    cycle.on(cancelled()).is(StateName::Reverting, &[reverts(&[SEEDREAM])]);
    let before = cycle.snapshot.state.clone();
    cycle.on(Event::FilesApplied).is(StateName::Reverting, &[]);
    assert_eq!(cycle.snapshot.state, before);
    cycle.on(Event::FilesReverted).is(StateName::Cancelled, &[Effect::OpenNextCycle]);
    assert_eq!(cycle.ended(), ["seedream: cancelled (cancelled)"]);
}

#[test]
fn a_rollback_while_reverting_takes_the_model_out_of_what_is_kept() {
    let mut cycle = Cycle::on_probation(&[SEEDREAM, QWEN]);
    cycle.on(keeping_look(QWEN));
    cycle.on(regressing_look(SEEDREAM));
    cycle.on(rollback(QWEN)).is(StateName::Reverting, &[rolls_back(QWEN)]);
    cycle.on(Event::FilesReverted).is(StateName::RolledBack, &[Effect::OpenNextCycle]);
    assert_eq!(
        cycle.ended(),
        ["seedream: rolled_back (regressed)", "qwen: superseded (superseded)"]
    );
}

#[test]
fn a_probation_decides_itself_only_when_both_arms_have_their_scores() {
    for (control, candidate, decides) in [(8, 8, true), (7, 8, false), (8, 7, false)] {
        let Event::ProbationLookTaken { model, pooled, .. } = keeping_look(SEEDREAM) else {
            panic!("a look")
        };
        let sum = |count| Sum { total: 7 * count, count };
        let mut cycle = Cycle::on_probation(&[SEEDREAM]);
        cycle.on(Event::ProbationLookTaken {
            model,
            pooled,
            probation: ByArm { control: sum(control), candidate: sum(candidate) },
            judge_changed: false,
        });
        let decided = cycle.stands() == StateName::Applied;
        assert_eq!(decided, decides, "{control} and {candidate} scores");
    }
}
