use super::super::documents;
use super::super::tasks::task;
use super::*;
use crate::experiment::ByArm;
use crate::experiment::gate::{GateRules, Look, Status, decide};

fn said(traits: &[Trait]) -> Guidance {
    Guidance(traits.to_vec())
}

fn scores(model: Model, guidance: &Guidance, seed: u64, numbers: std::ops::Range<u64>) -> Vec<u16> {
    numbers
        .map(|number| {
            let asked = task(seed, number);
            u16::from(judge(seed, number, &asked, model, 1, guidance).score)
        })
        .collect()
}

/// How often the real gate adopts `new` over `old` on ten scores each.
fn adopted_share(model: Model, old: &Guidance, new: &Guidance) -> f64 {
    const TESTS: u64 = 500;
    let rules = GateRules { threshold_basis_points: 1_000, scores_per_arm_min: 8, score_max: 10 };
    let adopted = (0..TESTS)
        .filter(|seed| {
            let block = ByArm {
                control: scores(model, old, *seed, 100..110),
                candidate: scores(model, new, *seed, 110..120),
            };
            let look = Look { blocks: vec![block], missed: ByArm::default() };
            decide(&rules, &look).status == Status::Adopted
        })
        .count();
    adopted as f64 / TESTS as f64
}

fn start(model: Model) -> Guidance {
    Guidance::read(documents::activation(model), documents::research(model))
}

fn mean(model: Model, guidance: &Guidance) -> f64 {
    let all = scores(model, guidance, 5, 0..1_000);
    f64::from(all.iter().sum::<u16>()) / all.len() as f64
}

#[test]
fn the_documents_of_the_demo_leave_something_to_learn() {
    assert_eq!(start(Model::Wan), said(&[]));
    assert_eq!(start(Model::Nano), said(&[Trait::Translate]));
}

#[test]
fn a_good_change_passes_the_gate_and_a_useless_one_hardly_ever_does() {
    use Trait::{Cinematic, OneChange, Preserve, Surfaces, Translate, Verbatim};
    let good = [
        (Model::Wan, said(&[]), said(&[Preserve])),
        (Model::Wan, said(&[Preserve]), said(&[Preserve, Verbatim])),
        (Model::Nano, said(&[Translate]), said(&[Verbatim])),
        (Model::Nano, said(&[Verbatim]), said(&[Verbatim, OneChange])),
    ];
    for (model, old, new) in &good {
        let share = adopted_share(*model, old, new);
        println!(
            "{model:?} {old:?} -> {new:?}: {share} (means {:.2} {:.2})",
            mean(*model, old),
            mean(*model, new)
        );
        assert!(share > 0.95, "{model:?} {old:?} -> {new:?}: {share}");
    }
    let useless = [
        (Model::Wan, said(&[Preserve]), said(&[Preserve, Cinematic])),
        (Model::Wan, said(&[Preserve, Verbatim]), said(&[Preserve, Verbatim, Surfaces])),
        (Model::Nano, said(&[Verbatim]), said(&[Verbatim, Surfaces])),
        (Model::Nano, said(&[Verbatim, OneChange]), said(&[Verbatim, OneChange, Cinematic])),
    ];
    for (model, old, new) in &useless {
        let share = adopted_share(*model, old, new);
        println!("{model:?} {old:?} -> {new:?}: {share}");
        assert!(share < 0.05, "{model:?} {old:?} -> {new:?}: {share}");
    }
}

#[test]
fn no_model_is_at_the_ceiling_before_all_of_it_is_learnt() {
    use Trait::{OneChange, Preserve, Verbatim};
    let almost = [
        mean(Model::Wan, &said(&[Preserve])),
        mean(Model::Nano, &said(&[Verbatim])),
        mean(Model::Wan, &said(&[Preserve, Verbatim])),
        mean(Model::Nano, &said(&[Verbatim, OneChange])),
    ];
    assert!(almost.iter().all(|mean| *mean < 8.7), "{almost:?}");
}

#[test]
fn what_is_missing_from_the_documents_is_what_the_validator_names() {
    let named = |guidance: &Guidance, wording: &str| {
        (0..300)
            .filter(|number| {
                let judged = judge(1, *number, &task(1, *number), Model::Wan, 1, guidance);
                judged.issues.iter().any(|issue| issue.contains(wording))
            })
            .count()
    };
    let (without, with) = (said(&[]), said(&[Trait::Preserve]));
    assert!(named(&without, "logo") > 200);
    assert!(named(&with, "logo") < 30);
}

#[test]
fn a_line_that_forbids_translating_does_not_say_to_translate() {
    let read = |line: &str| Guidance::read("", line);
    assert!(read("Translate Greek words into English.").says(Trait::Translate));
    assert!(!read("Never translate Greek words into English.").says(Trait::Translate));
}

#[test]
fn the_enhanced_prompt_follows_the_documents() {
    let asked = (0..).map(|number| task(2, number)).find(|task| task.words.is_some());
    let asked = asked.expect("some task has words");
    let words = asked.words.unwrap_or_default();
    assert!(!enhance(&asked, &start(Model::Nano), &[]).contains(words));
    assert!(enhance(&asked, &said(&[Trait::Verbatim]), &[]).contains(words));
}
