//! The world's statistics, and that the bytes carry all of it.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::json;

use super::enhancer::{enhance, followed};
use super::truth::{Circumstances, Guidance, Trait, outcome, worded};
use super::validator::Judged;
use super::*;
use crate::demo::documents;
use crate::experiment::ByArm;
use crate::experiment::gate::{GateRules, Look, Status, decide};
use crate::stand_in::wavespeed::{WaveSpeedStandInSettings, picture};

fn said(traits: &[Trait]) -> Guidance {
    Guidance::of(|wanted| traits.contains(&wanted))
}

/// What comes of a task, without the bytes between.
pub(super) fn judged(
    seed: u64,
    number: u64,
    model: Model,
    iteration: u32,
    guidance: &Guidance,
) -> Judged {
    let asked = task(seed, number);
    let hardship = u8::try_from(number % 5).expect("small");
    let kind = asked.kind;
    let made = outcome(&Circumstances { seed, number, hardship, kind, model, iteration, guidance });
    let score = made.quality.round().clamp(0.0, 10.0) as u8;
    let issues = if score >= truth::PASS_SCORE {
        Vec::new()
    } else {
        worded(model, made.flaws, asked.product)
    };
    Judged { score, issues }
}

fn scores(model: Model, guidance: &Guidance, seed: u64, numbers: std::ops::Range<u64>) -> Vec<u16> {
    numbers.map(|number| u16::from(judged(seed, number, model, 1, guidance).score)).collect()
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
    Guidance::read(&format!("{}\n{}", documents::activation(model), documents::research(model)))
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
                let judged = judged(1, *number, Model::Wan, 1, guidance);
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
    assert!(Guidance::read("Translate Greek words into English.").says(Trait::Translate));
    assert!(!Guidance::read("Never translate Greek words into English.").says(Trait::Translate));
}

#[test]
fn a_prompt_carries_all_that_the_documents_say_whatever_the_task() {
    use Trait::{Cinematic, OneChange, Preserve, Surfaces, Translate, Verbatim};
    for traits in [
        vec![],
        vec![Translate],
        vec![Verbatim, OneChange],
        vec![Preserve, Verbatim, OneChange, Cinematic, Surfaces],
    ] {
        let guidance = said(&traits);
        for number in 0..60 {
            let prompt = enhance(&task(2, number).prompt, &guidance, "", &[]);
            assert_eq!(followed(&prompt), guidance, "{prompt}");
        }
    }
}

/// The whole way of one attempt through the bytes, as the pipeline takes it: the validator's answer.
fn through_the_bytes(
    claude: &WorldClaude,
    number: u64,
    model: Model,
    documents: &str,
    earlier: Option<(&str, &[String])>,
) -> (String, Value) {
    let new = new_task(7, number).expect("a picture");
    let original = new.picture.expect("it has one");
    let quoted = serde_json::to_string(&new.text).expect("JSON");
    let earlier = earlier.map_or(String::new(), |(prompt, issues)| {
        let issues: Vec<String> =
            issues.iter().map(|issue| format!("- {}", json!(issue))).collect();
        let issues = issues.join("\n");
        format!(
            "<earlier_prompt>\n{}\n</earlier_prompt>\n<issues>\n{issues}\n</issues>",
            json!(prompt)
        )
    });
    let shown = |bytes: &Bytes| {
        let data = STANDARD.encode(bytes);
        json!({"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": data}})
    };
    let ask = |field: &str, pictures: Vec<Value>, text: String| {
        let mut content = pictures;
        content.push(json!({"type": "text", "text": text}));
        let request = json!({
            "system": [{"type": "text", "text": documents}],
            "messages": [{"role": "user", "content": content}],
            "output_config": {"format": {"schema": {"properties": {field: {}}}}},
        });
        match claude.reply(&request) {
            Reply::Text(text) | Reply::ThinkingThenText(text) => {
                serde_json::from_str::<Value>(&text).expect("JSON")
            }
            other => panic!("no text: {other:?}"),
        }
    };
    let request =
        format!("Target model: {}\n<request>\n{quoted}\n</request>\n{earlier}", model.name());
    let enhanced = ask("enhanced_prompt", vec![shown(&original)], request.clone());
    let prompt = enhanced["enhanced_prompt"].as_str().expect("a prompt").to_owned();
    let endpoint = WaveSpeedStandInSettings::default().models[1 - model as usize].endpoint.clone();
    let images = vec![original.clone()];
    let order = Order { endpoint, prompt: prompt.clone(), images };
    let edited = WorldPainter::new(7).paint(&order).expect("a picture");
    let judged = ask("score", vec![shown(&original), shown(&edited)], request);
    (prompt, judged)
}

#[test]
fn the_bytes_carry_the_truth_and_nothing_is_lost_on_the_way() {
    let claude = WorldClaude::default();
    for (model, number) in [(Model::Wan, 3), (Model::Wan, 4), (Model::Nano, 5), (Model::Nano, 6)] {
        let documents = documents::research(model);
        let (prompt, first) = through_the_bytes(&claude, number, model, documents, None);
        let expected = judged(7, number, model, 1, &Guidance::read(documents));
        assert!(first["score"].as_u64().expect("a score").abs_diff(u64::from(expected.score)) <= 1);
        assert_eq!(first["issues"], json!(expected.issues), "{prompt}");
        assert_eq!(first["passed"], first["score"].as_u64() >= Some(8));
        // The same again is the same again.
        let again = through_the_bytes(&claude, number, model, documents, None);
        assert_eq!(again, (prompt.clone(), first));
        let issues = &expected.issues;
        let earlier = Some((prompt.as_str(), issues.as_slice()));
        let (second_prompt, second) = through_the_bytes(&claude, number, model, documents, earlier);
        let expected = judged(7, number, model, 2, &Guidance::read(documents));
        assert_eq!(second["issues"], json!(expected.issues), "{second_prompt}");
    }
}

#[test]
fn better_documents_score_better_through_the_bytes() {
    let claude = WorldClaude::default();
    let mean = |documents: &str| {
        let scores = (0..12).map(|number| {
            let (_, judged) = through_the_bytes(&claude, number, Model::Wan, documents, None);
            judged["score"].as_f64().expect("a score")
        });
        scores.sum::<f64>() / 12.0
    };
    let poor = documents::research(Model::Wan);
    let better =
        format!("{poor}\n- Say what must stay unchanged.\n- Greek goes in letter by letter.\n");
    let (before, after) = (mean(poor), mean(&better));
    assert!(after > before + 2.0, "{before} {after}");
}

#[test]
fn a_picture_that_was_made_of_another_one_is_worth_nothing() {
    let band = |number| {
        let bytes = pictures::original(number).expect("a picture");
        pictures::band(&image::load_from_memory(&bytes).expect("a picture").to_rgb8())
    };
    let endpoint = "google/nano-banana/edit".to_owned();
    let images = vec![pictures::original(1).expect("a picture")];
    let order = Order { endpoint, prompt: "Change it.".to_owned(), images };
    let edited = WorldPainter::new(1).paint(&order).expect("a picture");
    let edited = pictures::band(&image::load_from_memory(&edited).expect("a picture").to_rgb8());
    assert!(validator::judge(band(1), edited, "x").score > 0);
    assert_eq!(validator::judge(band(2), edited, "x").score, 0);
    assert_eq!(validator::judge(band(1), None, "x").score, 0);
    let elsewhere = picture(400, 400, |_, _| [9, 9, 9]).expect("a picture");
    let order = Order { images: vec![elsewhere], ..order };
    assert!(
        WorldPainter::new(1).paint(&order).is_ok(),
        "an original from elsewhere is painted, too"
    );
}
