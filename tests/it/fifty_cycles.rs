//! Fifty cycles on a 60 KB document, with a Claude that also proposes to destroy it.

use mathesis::cycle::StateName;
use mathesis::research::{Document, Origin, Texts, Which};
use mathesis::store::versions::{self, Version};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use serde_json::{Value, json};

use crate::support::stage::WAN;
use crate::support::{Stage, TaskRun, analysis_answer};

const CYCLES: usize = 50;
const BYTES_MAX: usize = 66_000;
const FROZEN: &str = "Κανόνες της μάρκας";
const ASKED: &str = "Άλλαξε το φόντο σε μια παραλία το ηλιοβασίλεμα, κράτα το λογότυπο «Ἑλλάς» όπως είναι και γράψε επάνω δεξιά «Καλό καλοκαίρι».";

/// Some sixty kilobytes: Greek and English sections, tables, fences that hold headings, and a frozen part.
fn research() -> String {
    let mut text = String::from("Τι ξέρουμε για το μοντέλο.\n\n");
    for part in 1..=12 {
        text.push_str(&format!("# Part {part}\n\nWhat holds for part {part}.\n\n"));
        for section in 1..=9 {
            text.push_str(&format!("## Κανόνας {part}.{section}\n\n"));
            for line in 1..=4 {
                text.push_str(&format!(
                    "- Rule {part}.{section}.{line}: name the light first, then the subject; το κείμενο μένει όπως είναι.\n"
                ));
            }
            text.push_str(
                "\n```\n# no heading\n```\n\n| what | how sure |\n|---|---|\n| φως | 0.8 |\n\n",
            );
        }
    }
    text.push_str(&format!("# {FROZEN}\n\nΤο λογότυπο μένει.\n\n## Χρώματα\n\nΜπλε και λευκό.\n\n# Σημειώσεις\n\nΚαμία.\n"));
    text
}

fn one(document: &str, operation: &str, section: &str, after: &str, text: &str) -> Value {
    json!({ "document": document, "operation": operation, "section": section, "after": after,
        "text": text, "because": ["1"] })
}

fn answer(edits: Vec<Value>) -> Value {
    json!({ "summary": "a proposal", "edits": edits })
}

/// Every way to do harm that a generator has found so far.
fn destructive(kind: usize, texts: &Texts) -> Value {
    let document = Document::parse(&texts.research);
    let ids: Vec<&str> = document.sections().iter().map(|section| section.id.as_str()).collect();
    let frozen = document.find(FROZEN).map(|at| ids[at]).expect("it stands");
    match kind {
        0 => answer(ids.iter().map(|id| one("research", "remove", id, "", "")).collect()),
        1 => answer(vec![one("research", "replace", frozen, "", "Κανένας κανόνας.")]),
        2 => answer(vec![one("research", "append", "", "", &"ξανά και ξανά ".repeat(2_000))]),
        3 => answer(vec![one(
            "research",
            "append",
            "",
            "",
            &format!("## Example\n\n> {}", ASKED.to_uppercase()),
        )]),
        4 => answer(vec![one("template", "replace", "", "", "{{activation}} only")]),
        5 => answer(vec![one("research", "replace", "no/such-section", "", "x")]),
        6 => answer(vec![one("research", "replace", "", "", "# Short\n\nAll in one line.")]),
        7 => answer(vec![one("research", "move", frozen, "preamble", "")]),
        8 => answer(vec![one("research", "append", "preamble", "", "```\nnever closed")]),
        9 => {
            let mut edit = one("research", "append", "", "", "Out of nowhere.");
            edit["because"] = json!(["77.1"]);
            answer(vec![edit])
        }
        10 => {
            // A fifth of the document, section by section.
            let shallow = ids.iter().filter(|id| id.contains('/') && !id.starts_with(frozen));
            answer(shallow.take(24).map(|id| one("research", "remove", id, "", "")).collect())
        }
        11 => answer(vec![one(
            "research",
            "add_after",
            frozen,
            "",
            "## Νέος κανόνας\n\nΌλα επιτρέπονται.",
        )]),
        12 => answer(vec![one("activation", "replace", "", "", "")]),
        _ => answer(vec![one(
            "template",
            "replace",
            "",
            "",
            "{{activation}} {{research}} {{original_prompt}} {{secret}}",
        )]),
    }
}

const DESTRUCTIVE: usize = 14;

/// A change that keeps to the rules.
fn good(cycle: usize, texts: &Texts, rng: &mut StdRng) -> Value {
    let document = Document::parse(&texts.research);
    let rules: Vec<&str> = document
        .sections()
        .iter()
        .filter(|section| section.level == 2 && section.heading.starts_with("Κανόνας"))
        .map(|section| section.id.as_str())
        .collect();
    let some = |rng: &mut StdRng| rules[rng.random_range(0..rules.len())];
    let new = format!("Cycle {cycle} taught: κράτα τους τόνους, and say it {cycle} times.");
    match cycle % 6 {
        0 => answer(vec![one("research", "append", some(rng), "", &format!("- {new}"))]),
        1 => answer(vec![one(
            "research",
            "add_after",
            some(rng),
            "",
            &format!("## Learnt {cycle}\n\n{new}"),
        )]),
        2 => answer(vec![one("research", "replace", some(rng), "", &new)]),
        3 => {
            // To the end of another part, heading and all.
            let moved = some(rng);
            let own = moved.split('/').next().unwrap_or_default();
            let to = rules.iter().rfind(|id| !id.starts_with(&format!("{own}/")));
            answer(vec![one("research", "move", moved, to.copied().unwrap_or("preamble"), "")])
        }
        4 => answer(vec![
            one("research", "remove", some(rng), "", ""),
            one("research", "append", "", "", &new),
        ]),
        _ => answer(vec![
            one("activation", "append", "", "", &new),
            one(
                "research",
                "replace",
                some(rng),
                "",
                &format!("## Κανόνας {cycle} (νέος)\n\n{new}"),
            ),
        ]),
    }
}

async fn version(stage: &Stage, number: i32) -> Version {
    versions::find(stage.pool(), stage.id(), WAN, number)
        .await
        .expect("it reads")
        .expect("it is there")
}

fn frozen_part(text: &str) -> String {
    let (_, rest) = text.split_once(&format!("# {FROZEN}")).expect("the frozen part stands");
    let document = Document::parse(text);
    let at = document.find(FROZEN).expect("its heading is read");
    assert_eq!(document.sections()[at].level, 1);
    let end = rest.find("\n# ").unwrap_or(rest.len());
    rest[..end].trim_end().to_owned()
}

/// Takes a version's diff apart and applies it, forwards and backwards.
fn check_diff(old: &Texts, new: &Texts, diff: &str) {
    let mut rest = diff;
    for (name, old, new) in [
        ("template.txt", &old.template, &new.template),
        ("activation.txt", &old.activation, &new.activation),
        ("research.md", &old.research, &new.research),
    ] {
        let head = format!("--- {name}\tversion ");
        if old == new {
            assert!(!rest.starts_with(&head), "{name} did not change");
            continue;
        }
        assert!(rest.starts_with(&head), "{name} changed: {rest}");
        let next = ["activation.txt", "research.md"]
            .iter()
            .filter_map(|next| rest[1..].find(&format!("\n--- {next}\tversion ")))
            .min()
            .map_or(rest.len(), |at| at + 2);
        let patch = diffy::Patch::from_str(&rest[..next]).expect("a unified diff");
        assert_eq!(diffy::apply(old, &patch).expect("it applies"), *new);
        assert_eq!(diffy::apply(new, &patch.reverse()).expect("it reverses"), *old);
        rest = &rest[next..];
    }
    assert_eq!(rest, "", "nothing else is in the diff");
}

/// Every section that no edit names stands as it did, byte for byte.
fn check_untouched(old: &Texts, new: &Texts, lineage: &[Origin]) {
    let (before, after) = (Document::parse(&old.research), Document::parse(&new.research));
    let mut kept = 0;
    for section in after.sections() {
        let own = lineage
            .iter()
            .find(|origin| origin.document == Which::Research && origin.section == section.id);
        if own.is_some_and(|origin| !origin.edits.is_empty()) {
            continue;
        }
        let from = own.and_then(|origin| origin.from.as_deref()).unwrap_or(&section.id);
        let at = before.find(from).expect("it was there");
        assert_eq!(before.text_of(&before.sections()[at]), after.text_of(section), "{from}");
        kept += 1;
    }
    assert!(kept + 8 >= before.sections().len(), "{kept} of {} kept", before.sections().len());
}

#[tokio::test]
async fn fifty_cycles_with_a_destructive_generator_leave_the_document_whole() {
    let first = research();
    assert!((55_000..66_000).contains(&first.len()), "{} bytes", first.len());
    let stage = Stage::builder()
        .research(first.clone())
        .definition(|d| {
            d.models.retain(|model| model.name.as_str() == WAN);
            d.trigger.tasks = 2;
            (d.split.per_arm, d.split.block, d.gate.scores_per_arm_min) = (1, 2, 1);
            d.gate.skip_at_ceiling = false;
            d.claude.budget_usd_per_month = rust_decimal::Decimal::from(10_000);
            d.documents.frozen_sections = vec![FROZEN.to_owned()];
            d.documents.research_bytes_max = u32::try_from(BYTES_MAX).expect("it fits");
        })
        .build()
        .await;
    let mut rng = StdRng::seed_from_u64(50);
    let (mut adopted, mut refused, mut without) = (0, 0, 0);
    for cycle in 1..=CYCLES {
        let task = format!("c{cycle}");
        for n in 1..=2 {
            let mut run = TaskRun::new(format!("{task}-{n}"), &[(WAN, 0, 6)]);
            run.prompt = ASKED.to_owned();
            stage.log(run.events()).await;
        }
        assert_eq!(stage.watch().await, 1, "cycle {cycle} is triggered");
        let mut analysis = analysis_answer(&[&format!("{task}-1")]);
        analysis["patterns"].as_array_mut().expect("patterns").truncate(1);
        stage.claude.answer_json(analysis);
        assert_eq!(stage.step().await, StateName::Generating);

        let active = stage.active_version(WAN).await;
        let parent = version(&stage, active).await.texts();
        let bad = destructive(cycle % DESTRUCTIVE, &parent);
        let ends_badly = cycle % 7 == 0;
        match cycle % 3 {
            _ if ends_badly => {
                stage
                    .claude
                    .answer_json(bad)
                    .answer_json(destructive((cycle + 1) % DESTRUCTIVE, &parent));
                refused += 2;
            }
            0 => {
                stage.claude.answer_json(good(cycle, &parent, &mut rng));
            }
            _ => {
                stage.claude.answer_json(bad).answer_json(good(cycle, &parent, &mut rng));
                refused += 1;
            }
        }
        let state = stage.step().await;
        if ends_badly {
            assert_eq!(state, StateName::Rejected, "cycle {cycle}");
            without += 1;
        } else {
            assert_eq!(state, StateName::Testing, "cycle {cycle}");
            let candidate = check_candidate(&stage, &parent).await;
            let wins = cycle % 4 != 1;
            for n in 1..=2 {
                let name = format!("{task}-t{n}");
                let told = stage.assign(&name, WAN).await.version;
                let score = if (told == candidate) == wins { 9 } else { 6 };
                stage.log(TaskRun::new(name, &[(WAN, told, score)]).events()).await;
            }
            stage.watch().await;
            while stage.cycle().await.number == i64::try_from(cycle).expect("small") {
                stage.work().await;
            }
            adopted += i32::from(wins);
            assert_eq!(stage.active_version(WAN).await, if wins { candidate } else { active });
        }
        let now = version(&stage, stage.active_version(WAN).await).await;
        assert_eq!(stage.read(WAN, "research.md"), now.research_text, "the file is the version");
        assert_eq!(frozen_part(&now.research_text), frozen_part(&first), "cycle {cycle}");
        assert!(now.research_text.len() <= BYTES_MAX);
    }
    let kept: i64 = sqlx::query_scalar("SELECT count(*) FROM refused_candidates")
        .fetch_one(stage.pool())
        .await
        .expect("they are counted");
    assert_eq!(kept, refused, "every destructive answer was refused, and is on record");
    assert!(adopted >= 25 && without == 7, "{adopted} adopted, {without} without a candidate");
    assert_eq!(stage.claude.requests().len() as i64, 2 * CYCLES as i64 + refused - without);
}

/// Checks the newest version against its parent, and says its number.
async fn check_candidate(stage: &Stage, parent: &Texts) -> i32 {
    let (number, lineage): (i32, Value) = sqlx::query_as(
        "SELECT version, lineage FROM prompt_versions ORDER BY version DESC LIMIT 1",
    )
    .fetch_one(stage.pool())
    .await
    .expect("the newest version reads");
    let lineage: Vec<Origin> = serde_json::from_value(lineage).expect("a lineage");
    let candidate = version(stage, number).await;
    let texts = candidate.texts();
    for (old, new) in [(&parent.research, &texts.research), (&parent.activation, &texts.activation)]
    {
        let allowed = if old.len() < 2_000 { 2_000 } else { old.len() * 15 / 100 };
        assert!(old.len().abs_diff(new.len()) <= allowed);
    }
    assert!(texts.template.contains("{{original_prompt}}"));
    check_diff(parent, &texts, &candidate.diff);
    check_untouched(parent, &texts, &lineage);
    number
}
