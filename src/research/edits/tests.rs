use proptest::prelude::*;

use super::super::document::{Document, tests::markdown};
use super::*;

const RESEARCH: &str = "Intro.\n\n# Patterns\n\nGeneral.\n\n## Light\n\nSoft light.\n\n## Hands\n\nFive fingers.\n\n# What fails\n\n- text in images\n\n# Brand\n\nNever change the logo.\n\n## Colours\n\nBlue.\n";

fn parent() -> Texts {
    Texts {
        template: "Rewrite: {{ original_prompt }}".into(),
        activation: "You rewrite prompts.\n".into(),
        research: RESEARCH.into(),
    }
}

fn rules() -> EditRules {
    EditRules {
        required_placeholders: vec!["original_prompt".into()],
        size_change_percent_max: 30,
        frozen_sections: vec!["Brand".into()],
    }
}

fn edit(operation: Operation, section: &str, text: &str) -> Edit {
    Edit {
        document: Which::Research,
        operation,
        section: section.into(),
        text: text.into(),
        because: vec![],
    }
}

fn on(document: Which, operation: Operation, section: &str, text: &str) -> Edit {
    Edit { document, ..edit(operation, section, text) }
}

fn research(edits: &[Edit]) -> String {
    apply(&parent(), edits, &rules()).unwrap().research
}

fn refusal(edits: &[Edit]) -> EditRefusal {
    apply(&parent(), edits, &rules()).unwrap_err()
}

fn code(edits: &[Edit]) -> &'static str {
    refusal(edits).code()
}

#[test]
fn replacing_a_section_keeps_its_heading_and_all_others() {
    assert_eq!(
        research(&[edit(Operation::Replace, "patterns/light", "Hard light works.\n")]),
        RESEARCH.replace("Soft light.", "Hard light works.")
    );
    assert_eq!(
        research(&[edit(Operation::Replace, "Light", "\n## Light and shade\n\nBoth.")]),
        RESEARCH.replace("## Light\n\nSoft light.", "## Light and shade\n\nBoth.")
    );
    assert_eq!(
        research(&[edit(Operation::Replace, "preamble", "Begin.")]),
        RESEARCH.replace("Intro.", "Begin.")
    );
}

#[test]
fn a_new_section_goes_behind_deeper_ones_so_that_none_changes_its_parent() {
    assert_eq!(
        research(&[
            edit(Operation::AddAfter, "patterns", "# Settings\n\nSeed 7."),
            edit(Operation::AddAfter, "patterns", "## Skin\n\nMatte."),
            edit(Operation::AddAfter, "patterns/hands", "### Nails\n\nShort."),
        ]),
        RESEARCH
            .replace("## Light", "## Skin\n\nMatte.\n\n## Light")
            .replace("# What", "### Nails\n\nShort.\n\n# Settings\n\nSeed 7.\n\n# What")
    );
}

#[test]
fn appended_text_joins_the_section_before_its_blank_line() {
    assert_eq!(
        research(&[
            edit(Operation::Append, "What fails", "- mirrors\n"),
            edit(Operation::Append, "Light", "Also dusk."),
        ]),
        RESEARCH
            .replace("images\n", "images\n- mirrors\n")
            .replace("Soft light.\n", "Soft light.\n\nAlso dusk.\n")
    );
    assert_eq!(
        research(&[edit(Operation::Append, "", "# Seeds\n\nSeven.")]),
        format!("{RESEARCH}# Seeds\n\nSeven.\n")
    );
}

#[test]
fn removing_a_section_takes_its_subsections_only_if_they_are_named() {
    assert_eq!(
        research(&[edit(Operation::Remove, "Hands", "")]),
        RESEARCH.replace("## Hands\n\nFive fingers.\n\n", "")
    );
    insta::assert_snapshot!(refusal(&[edit(Operation::Remove, "patterns", "")]), @r#"edit 1: "patterns" has the subsection "patterns/light". Remove that as well, or keep both"#);
}

#[test]
fn activation_and_template_may_be_replaced_whole_but_research_may_not() {
    let whole = |which, text| on(which, Operation::Replace, "", text);
    let texts = apply(
        &parent(),
        &[whole(Which::Activation, "Νέο κείμενο"), whole(Which::Template, "{{original_prompt}}!")],
        &rules(),
    )
    .unwrap();
    assert_eq!(texts.activation, "Νέο κείμενο");
    assert_eq!(texts.template, "{{original_prompt}}!");
    assert_eq!(texts.research, RESEARCH);
    assert_eq!(code(&[whole(Which::Research, "x")]), "section_required");
    assert_eq!(code(&[whole(Which::Activation, " ")]), "empty_document");
    assert_eq!(
        code(&[whole(Which::Activation, "x"), on(Which::Activation, Operation::Append, "", "y")]),
        "conflicting_edits"
    );
}

#[test]
fn each_refusal_has_its_code() {
    use Operation::*;
    let one = |operation, section: &str, text: &str| code(&[edit(operation, section, text)]);
    assert_eq!(one(Replace, "nowhere", "x"), "unknown_section");
    assert_eq!(one(AddAfter, "", "x"), "section_required");
    assert_eq!(one(Remove, "", ""), "section_required");
    assert_eq!(one(Replace, "Light", " \n"), "empty_text");
    assert_eq!(one(Replace, "Light", "a\0b"), "nul_byte");
    assert_eq!(one(Replace, "Light", "# Light\nx"), "heading_level");
    assert_eq!(one(Replace, "Light", "x\n\n## Dark\ny"), "heading_level");
    assert_eq!(one(Replace, "preamble", "# Top\nx"), "heading_level");
    assert_eq!(one(Append, "patterns", "x\n\n# Top\ny"), "heading_level");
    assert_eq!(one(AddAfter, "patterns", "## N\nx\n# Top\ny"), "heading_level");
    assert_eq!(one(Append, "Light", "```\nopen"), "structure_broken");
    assert_eq!(one(AddAfter, "patterns", "## Hands\nx"), "duplicate_heading");
    assert_eq!(one(Replace, "patterns", "General.\n\n## Light\n\nAgain."), "duplicate_heading");
    assert_eq!(one(Append, "Light", &"x".repeat(2_100)), "size_change");
    assert_eq!(one(Replace, "Light", "Soft light."), "nothing_changed");
    assert_eq!(code(&[]), "nothing_changed");
    let template = on(Which::Template, Replace, "", "{original_prompt}");
    assert_eq!(code(&[template]), "missing_placeholder");
    let twice = [edit(Replace, "Light", "x"), edit(Remove, "Light", "")];
    assert_eq!(code(&twice), "conflicting_edits");
    let gone = [edit(Remove, "Light", ""), edit(Append, "Light", "x")];
    assert_eq!(code(&gone), "conflicting_edits");
    let reversed = [edit(Append, "Light", "x"), edit(Remove, "Light", "")];
    assert_eq!(code(&reversed), "conflicting_edits");
}

#[test]
fn a_frozen_section_is_frozen_with_all_below_it() {
    use Operation::*;
    for (operation, section, text) in [
        (Replace, "Brand", "x"),
        (Remove, "brand/colours", ""),
        (Append, "Colours", "x"),
        (AddAfter, "Brand", "## Logo\nx"),
        (AddAfter, "What fails", "## Fine\nx"),
        (Append, "", "## Sneaked in\nx"),
    ] {
        let outcome = apply(&parent(), &[edit(operation, section, text)], &rules());
        if section == "What fails" {
            assert!(outcome.is_ok());
        } else {
            assert_eq!(outcome.unwrap_err().code(), "frozen_section", "{section:?}");
        }
    }
    assert!(research(&[edit(AddAfter, "Brand", "# Seeds\nx")]).ends_with("Blue.\n# Seeds\nx\n"));
    let mut activation = rules();
    activation.frozen_sections = vec!["preamble".into()];
    let whole = on(Which::Activation, Replace, "", "x");
    assert_eq!(apply(&parent(), &[whole], &activation).unwrap_err().code(), "frozen_section");
}

#[test]
fn the_size_rule_counts_both_ways_and_spares_small_documents() {
    let check = |old: usize, new: usize| {
        check_size(Which::Research, &"x".repeat(old), &"x".repeat(new), 10).is_ok()
    };
    assert!(check(1_999, 3_999));
    assert!(!check(1_999, 4_000));
    assert!(check(2_000, 2_200) && check(2_000, 1_800));
    assert!(!check(2_000, 2_201) && !check(2_000, 1_799));
}

#[test]
fn words_for_claude() {
    insta::assert_snapshot!(refusal(&[edit(Operation::Replace, "Lights", "x")]), @r#"edit 1: research has no section "Lights". Use one of its ids: preamble, patterns, patterns/light, patterns/hands, what-fails, brand, brand/colours"#);
    insta::assert_snapshot!(refusal(&[on(Which::Template, Operation::Replace, "", "x")]), @"the template must contain {{original_prompt}}, which the pipeline fills in. Put it back");
    insta::assert_snapshot!(refusal(&[edit(Operation::Replace, "Light", "# Dark")]), @r#"edit 1: the text for "patterns/light" may start with a heading of level 2, and all others must be deeper. It has a heading of level 1. Use `add_after` for a new section"#);
}

#[test]
fn line_ends_and_byte_order_mark_of_the_document_are_kept() {
    let texts =
        Texts { research: "\u{feff}Ἀρχή\r\n\r\n# A\r\nold\r\n# B\r\nb".into(), ..parent() };
    let edits = [
        edit(Operation::Replace, "preamble", "Νέα"),
        edit(Operation::Replace, "A", "one\ntwo"),
        edit(Operation::AddAfter, "B", "# C\nc"),
    ];
    assert_eq!(
        apply(&texts, &edits, &rules()).unwrap().research,
        "\u{feff}Νέα\r\n\r\n# A\r\none\r\ntwo\r\n# B\r\nb\r\n\r\n# C\r\nc\r\n"
    );
}

#[test]
fn edits_are_read_from_snake_case_json_with_optional_parts() {
    let edit: Edit = serde_json::from_str(
        r##"{"document":"research","operation":"add_after","section":"a","text":"# B"}"##,
    )
    .unwrap();
    assert_eq!(edit, super::tests::edit(Operation::AddAfter, "a", "# B"));
}

fn any_edit() -> impl Strategy<Value = Edit> {
    use Operation::*;
    let text = prop_oneof![markdown(), any::<String>(), Just("plain".to_owned())];
    (
        proptest::sample::select(vec![
            Which::Activation,
            Which::Research,
            Which::Research,
            Which::Template,
        ]),
        proptest::sample::select(vec![Replace, AddAfter, Append, Remove]),
        proptest::sample::select(vec![
            "",
            "a",
            "preamble",
            "title",
            "φῶς-καὶ-σκιά",
            "a/φῶς-καὶ-σκιά",
            "a-2",
            "text",
        ]),
        text,
    )
        .prop_map(|(which, operation, section, text)| on(which, operation, section, &text))
}

fn loose_rules() -> EditRules {
    EditRules {
        required_placeholders: vec![],
        size_change_percent_max: u32::MAX,
        frozen_sections: vec!["title".into()],
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn sections_that_no_edit_names_keep_their_bytes(
        old in markdown(), edits in proptest::collection::vec(any_edit(), 1..4)
    ) {
        let texts = Texts { template: "t".into(), activation: old.clone(), research: old.clone() };
        let Ok(new) = apply(&texts, &edits, &loose_rules()) else { return Ok(()) };
        for (which, new) in [(Which::Research, &new.research), (Which::Activation, &new.activation)] {
            let own: Vec<&Edit> = edits.iter().filter(|edit| edit.document == which).collect();
            if own.iter().any(|edit| edit.section.is_empty() && edit.operation == Operation::Replace) {
                continue;
            }
            let before = Document::parse(&old);
            let after = Document::parse(new);
            let mut rest = after.sections().iter();
            let last = before.sections().len() - 1;
            for (at, section) in before.sections().iter().enumerate() {
                let named = own.iter().any(|edit| before.find(&edit.section) == Ok(at) || (edit.section.is_empty() && at == last));
                if named { continue; }
                let bytes = before.text_of(section).trim_end_matches(['\n', '\r']);
                prop_assert!(
                    rest.any(|found| found.level == section.level && after.text_of(found).trim_end_matches(['\n', '\r']) == bytes),
                    "{:?} lost in {:?}", section, new
                );
            }
        }
    }

    #[test]
    fn a_frozen_subtree_never_changes(
        old in markdown(), edits in proptest::collection::vec(any_edit(), 1..4)
    ) {
        let texts = Texts { template: "t".into(), activation: String::new(), research: old.clone() };
        let rules = EditRules { frozen_sections: vec!["a".into()], ..loose_rules() };
        let Ok(new) = apply(&texts, &edits, &rules) else { return Ok(()) };
        let after = frozen(&new.research);
        let mut rest = after.iter();
        for before in frozen(&old) {
            prop_assert!(rest.any(|text| *text == before), "{:?} lost in {:?}", before, new.research);
        }
    }

    #[test]
    fn apply_never_panics(
        old in any::<String>(), text in any::<String>(), section in any::<String>(), edit in any_edit(),
    ) {
        let texts = Texts { template: old.clone(), activation: old.clone(), research: old };
        let _ = apply(&texts, &[Edit { text, section, ..edit.clone() }, edit], &rules());
    }
}

fn frozen(text: &str) -> Vec<String> {
    let document = Document::parse(text);
    let sections = document.sections().iter().enumerate();
    sections
        .filter(|(_, section)| section.is_called("a"))
        .map(|(at, _)| {
            let end = document.subtree_end(at);
            let all = document.sections()[at..end].iter();
            let joined: String = all.map(|section| document.text_of(section)).collect();
            joined.trim_end_matches(['\n', '\r']).to_owned()
        })
        .collect()
}
