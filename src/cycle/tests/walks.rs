//! Whole cycles, one event a line.

use super::*;

#[test]
fn an_adopting_cycle_without_a_guard_takes_every_state_in_order() {
    let mut cycle = Cycle::open(Guard::Off, Approval::None);
    cycle.is(StateName::Collecting, &[]);
    cycle.on(trigger()).is(StateName::Analyzing, &[Effect::Analyze]);
    cycle.on(analysed()).is(StateName::Generating, &[Effect::Generate]);
    cycle.on(candidates(&[SEEDREAM], &[])).is(StateName::Testing, &[]);
    cycle.on(adopting_look(SEEDREAM)).is(StateName::Deciding, &[Effect::Decide]);
    cycle.on(Event::VerdictsSettled).is(StateName::Applying, &[applies(&[SEEDREAM])]);
    cycle.on(Event::FilesApplied).is(StateName::Applied, &[Effect::OpenNextCycle]);
    assert_eq!(cycle.ended(), ["seedream: adopted (improved)"]);
    assert_eq!(cycle.snapshot.seq, 6);
}

#[test]
fn a_rejecting_cycle_ends_after_deciding_and_touches_no_file() {
    let mut cycle = Cycle::testing(Guard::Probation, Approval::BeforeApply, &[SEEDREAM]);
    cycle.on(rejecting_look(SEEDREAM)).is(StateName::Deciding, &[Effect::Decide]);
    cycle.on(Event::VerdictsSettled).is(StateName::Rejected, &[Effect::OpenNextCycle]);
    assert_eq!(cycle.ended(), ["seedream: rejected (not_improved)"]);
}

#[test]
fn a_cycle_without_candidates_is_rejected_at_once_and_says_why() {
    let mut cycle = Cycle::open(Guard::Probation, Approval::BeforeTest);
    cycle.on(trigger());
    cycle.on(analysed());
    cycle.on(candidates(&[], &[SEEDREAM, QWEN])).is(StateName::Rejected, &[Effect::OpenNextCycle]);
    assert_eq!(
        cycle.ended(),
        ["seedream: no_candidate (at_ceiling)", "qwen: no_candidate (at_ceiling)"]
    );
}

#[test]
fn each_of_two_models_has_its_own_verdict_and_the_first_waits_for_the_second() {
    let mut cycle = Cycle::open(Guard::Off, Approval::None);
    cycle.on(trigger());
    cycle.on(analysed());
    cycle.on(candidates(&[SEEDREAM, QWEN], &[FLUX]));
    cycle.on(rejecting_look(QWEN)).is(StateName::Testing, &[]);
    cycle.on(adopting_look(SEEDREAM)).is(StateName::Deciding, &[Effect::Decide]);
    cycle.on(Event::VerdictsSettled).is(StateName::Applying, &[applies(&[SEEDREAM])]);
    cycle.on(Event::FilesApplied);
    assert_eq!(
        cycle.ended(),
        [
            "seedream: adopted (improved)",
            "qwen: rejected (not_improved)",
            "flux: no_candidate (at_ceiling)",
        ]
    );
}

#[test]
fn invariant_3_exactly_ten_percent_is_rejected_and_a_point_more_is_adopted() {
    for (candidate_total, ends) in [(77, StateName::Rejected), (78, StateName::Applying)] {
        let mut cycle = Cycle::testing(Guard::Off, Approval::None, &[SEEDREAM]);
        cycle.on(look(SEEDREAM, candidate_total));
        cycle.on(Event::VerdictsSettled);
        assert_eq!(cycle.stands(), ends, "70 against {candidate_total}");
    }
}

#[test]
fn a_test_whose_time_is_out_keeps_the_verdicts_it_has_and_the_old_versions_for_the_rest() {
    let mut cycle = Cycle::testing(Guard::Off, Approval::None, &[SEEDREAM, QWEN]);
    cycle.on(adopting_look(SEEDREAM));
    cycle.on(Event::TestTimedOut).is(StateName::Deciding, &[Effect::Decide]);
    cycle.on(Event::VerdictsSettled).is(StateName::Applying, &[applies(&[SEEDREAM])]);
    cycle.on(Event::FilesApplied);
    assert_eq!(cycle.ended(), ["seedream: adopted (improved)", "qwen: inconclusive (timed_out)"]);
}

#[test]
fn approval_before_the_test_is_asked_for_on_entering_testing() {
    let mut cycle = Cycle::open(Guard::Off, Approval::BeforeTest);
    cycle.on(trigger());
    cycle.on(analysed());
    cycle
        .on(candidates(&[SEEDREAM], &[]))
        .is(StateName::Testing, &[asks(ApprovalStage::BeforeTest)]);
}

#[test]
fn refusing_every_candidate_before_the_test_rejects_the_cycle() {
    let mut cycle = Cycle::testing(Guard::Off, Approval::BeforeTest, &[SEEDREAM, QWEN]);
    cycle.on(refused(&[])).is(StateName::Rejected, &[Effect::OpenNextCycle]);
    assert_eq!(cycle.ended(), ["seedream: refused (refused)", "qwen: refused (refused)"]);
}

#[test]
fn refusing_one_candidate_before_the_test_leaves_the_other_in_it() {
    let mut cycle = Cycle::testing(Guard::Off, Approval::BeforeTest, &[SEEDREAM, QWEN]);
    cycle.on(refused(&[QWEN])).is(StateName::Testing, &[]);
    cycle.refuses(adopting_look(QWEN));
    cycle.refuses(refused(&[QWEN]));
    cycle.on(adopting_look(SEEDREAM));
    cycle.on(Event::VerdictsSettled).is(StateName::Applying, &[applies(&[SEEDREAM])]);
}

#[test]
fn approval_before_applying_is_asked_for_beside_the_check_of_the_verdicts() {
    let mut cycle = Cycle::testing(Guard::Off, Approval::BeforeApply, &[SEEDREAM]);
    cycle
        .on(adopting_look(SEEDREAM))
        .is(StateName::Deciding, &[asks(ApprovalStage::BeforeApply), Effect::Decide]);
}

#[test]
fn refusing_every_adoption_rejects_the_cycle() {
    let mut cycle = Cycle::testing(Guard::Off, Approval::BeforeApply, &[SEEDREAM, QWEN]);
    cycle.on(adopting_look(SEEDREAM));
    cycle.on(rejecting_look(QWEN));
    cycle.refuses(refused(&[QWEN]));
    cycle.on(refused(&[])).is(StateName::Rejected, &[Effect::OpenNextCycle]);
    assert_eq!(cycle.ended(), ["seedream: refused (refused)", "qwen: rejected (not_improved)"]);
}

#[test]
fn refusing_one_adoption_applies_the_other() {
    let mut cycle = Cycle::testing(Guard::Off, Approval::BeforeApply, &[SEEDREAM, QWEN]);
    cycle.on(adopting_look(SEEDREAM));
    cycle.on(adopting_look(QWEN));
    cycle.on(refused(&[SEEDREAM])).is(StateName::Deciding, &[]);
    cycle.on(Event::VerdictsSettled).is(StateName::Applying, &[applies(&[QWEN])]);
    cycle.on(Event::FilesApplied);
    assert_eq!(cycle.ended(), ["seedream: refused (refused)", "qwen: adopted (improved)"]);
}
