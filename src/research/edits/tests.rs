mod properties;

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
        bytes_max: BytesMax { template: 100, activation: 2_500, research: 4_000 },
        insights: vec![],
    }
}

fn loose_rules() -> EditRules {
    EditRules {
        required_placeholders: vec![],
        size_change_percent_max: u32::MAX,
        frozen_sections: vec!["title".into()],
        bytes_max: BytesMax { template: usize::MAX, activation: usize::MAX, research: usize::MAX },
        insights: vec![],
    }
}

fn edit(operation: Operation, section: &str, text: &str) -> Edit {
    Edit {
        document: Which::Research,
        operation,
        section: section.into(),
        text: text.into(),
        after: String::new(),
        because: vec![],
    }
}

fn moved(section: &str, after: &str) -> Edit {
    Edit { after: after.into(), ..edit(Operation::Move, section, "") }
}

fn on(document: Which, operation: Operation, section: &str, text: &str) -> Edit {
    Edit { document, ..edit(operation, section, text) }
}

fn research(edits: &[Edit]) -> String {
    apply(&parent(), edits, &rules()).unwrap().texts.research
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
        RESEARCH.replace("# What", "### Nails\n\nShort.\n\n## Skin\n\nMatte.\n\n# What")
            + "# Settings\n\nSeed 7.\n"
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
    .unwrap()
    .texts;
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
        (Replace, "What fails", "fine"),
        (Append, "", "## Sneaked in\nx"),
    ] {
        let outcome = apply(&parent(), &[edit(operation, section, text)], &rules());
        if section == "What fails" {
            let Applied { texts, .. } = outcome.clone().unwrap();
            assert!(
                texts
                    .research
                    .ends_with("# Brand\n\nNever change the logo.\n\n## Colours\n\nBlue.\n")
            );

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
        let rules = EditRules { size_change_percent_max: 10, ..loose_rules() };
        check_size(Which::Research, &"x".repeat(old), &"x".repeat(new), &rules).is_ok()
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
        apply(&texts, &edits, &rules()).unwrap().texts.research,
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

#[test]
fn a_moved_section_takes_all_below_it_along_and_nothing_else_changes() {
    let light = "## Light\n\nSoft light.\n\n";
    assert_eq!(
        research(&[moved("Light", "What fails")]),
        RESEARCH.replace(light, "").replace("# Brand", &format!("{light}# Brand"))
    );
    let patterns =
        "# Patterns\n\nGeneral.\n\n## Light\n\nSoft light.\n\n## Hands\n\nFive fingers.\n\n";
    assert_eq!(
        research(&[moved("Patterns", "brand/colours")]),
        RESEARCH.replace(patterns, "") + patterns
    );
    let last = "Intro.\n\n# A\n\na\n\n# B\n\nb";
    let texts = Texts { research: last.into(), ..parent() };
    let applied = apply(&texts, &[moved("B", "preamble")], &rules()).unwrap();
    assert_eq!(applied.texts.research, "Intro.\n\n# B\n\nb\n\n# A\n\na\n\n");
}

#[test]
fn a_section_is_edited_where_it_is_moved_to() {
    let edits = [moved("Light", "Hands"), edit(Operation::Replace, "Light", "Hard light.")];
    assert_eq!(
        research(&edits),
        RESEARCH
            .replace("## Light\n\nSoft light.\n\n", "")
            .replace("fingers.\n\n", "fingers.\n\n## Light\n\nHard light.\n\n")
    );
    let out_of_it = [
        moved("Light", "What fails"),
        edit(Operation::Remove, "Hands", ""),
        edit(Operation::Remove, "Patterns", ""),
    ];
    assert!(
        research(&out_of_it).starts_with("Intro.\n\n# What fails\n\n- text in images\n\n## Light")
    );
}

#[test]
fn a_move_that_cannot_be_done_is_refused() {
    assert_eq!(code(&[moved("preamble", "Brand")]), "impossible_move");
    assert_eq!(code(&[moved("Patterns", "Light")]), "impossible_move");
    assert_eq!(code(&[moved("Hands", "Light")]), "impossible_move");
    assert_eq!(code(&[moved("Hands", "")]), "section_required");
    assert_eq!(code(&[moved("Hands", "Legs")]), "unknown_section");
    assert_eq!(code(&[moved("Brand", "Patterns")]), "frozen_section");
    assert_eq!(code(&[moved("Colours", "Patterns")]), "frozen_section");
    assert_eq!(code(&[moved("Hands", "Brand")]), "frozen_section");
    for others in [
        edit(Operation::Remove, "Hands", ""),
        moved("Patterns", "What fails"),
        moved("Light", "Hands"),
        edit(Operation::AddAfter, "Hands", "### Nails\n\nShort."),
    ] {
        let move_hands = moved("Hands", "What fails");
        assert_eq!(code(&[move_hands.clone(), others.clone()]), "conflicting_edits", "{others:?}");
        assert_eq!(code(&[others.clone(), move_hands]), "conflicting_edits", "{others:?}");
    }
    insta::assert_snapshot!(refusal(&[moved("Patterns", "Light")]), @r#"edit 1: "patterns" of research cannot be moved after "patterns/light": it would stand inside itself; name a section outside it"#);
}

#[test]
fn each_edit_names_insights_that_were_shown() {
    let rules = EditRules { insights: vec!["1".into(), "4.2".into()], ..rules() };
    let resting_on = |names: &[&str]| {
        let because = names.iter().map(|name| (*name).to_owned()).collect();
        apply(&parent(), &[Edit { because, ..edit(Operation::Append, "Light", "x") }], &rules)
    };
    assert!(resting_on(&["1"]).is_ok() && resting_on(&["4.2", "1"]).is_ok());
    insta::assert_snapshot!(resting_on(&["1", "5"]).unwrap_err(), @r#"edit 1: there is no insight "5". Name in `because` what the edit rests on, by these ids: 1, 4.2"#);
    insta::assert_snapshot!(resting_on(&[]).unwrap_err(), @r#"edit 1: `because` is empty. Name the insights that the edit rests on, by these ids: 1, 4.2"#);
}

#[test]
fn a_document_stays_below_its_largest_size_and_may_always_shrink() {
    insta::assert_snapshot!(refusal(&[edit(Operation::Append, "", &"long ".repeat(380)), on(Which::Activation, Operation::Replace, "", "You rewrite."), on(Which::Template, Operation::Replace, "", &"{{original_prompt}} ".repeat(6))]), @r#"template would have 120 bytes, and this workflow allows 100. Shorten or remove what no longer helps"#);
    let large = Texts { activation: "x".repeat(3_000), ..parent() };
    let to = |bytes: usize| {
        let whole = on(Which::Activation, Operation::Replace, "", &"x".repeat(bytes));
        apply(&large, &[whole], &rules()).map_err(|refusal| refusal.code())
    };
    assert!(to(2_999).is_ok(), "it shrinks, though it is still too large");
    assert_eq!(to(3_001).unwrap_err(), "too_large");
}

#[test]
fn a_placeholder_that_nobody_fills_in_is_refused() {
    let whole = |text| on(Which::Template, Operation::Replace, "", text);
    assert_eq!(code(&[whole("{{original_prompt}} {{mood}}")]), "new_placeholder");
    assert_eq!(code(&[whole("{original_prompt}")]), "missing_placeholder");
}

#[test]
fn the_lineage_names_each_section_that_is_not_what_it_was() {
    let edits = [
        edit(Operation::Replace, "Patterns", "# Habits\n\nAs ever."),
        edit(Operation::AddAfter, "Hands", "## Skin\n\nMatte.\n\n### Pores\n\nFine."),
        moved("Light", "What fails"),
        edit(Operation::Append, "Hands", "No rings.\n\n### Nails\n\nShort."),
        on(Which::Activation, Operation::Append, "", "Be exact."),
    ];
    let lineage = apply(&parent(), &edits, &rules()).unwrap().lineage;
    let told: Vec<String> = lineage
        .iter()
        .map(|origin| {
            let from = origin.from.as_deref().unwrap_or("new");
            format!(
                "{} {}: {from}, edits {:?}",
                origin.document.as_str(),
                origin.section,
                origin.edits
            )
        })
        .collect();
    insta::assert_snapshot!(told.join("\n"), @r#"
    activation preamble: preamble, edits [5]
    research habits: patterns, edits [1]
    research habits/hands: patterns/hands, edits [4]
    research habits/hands/nails: new, edits [4]
    research habits/skin: new, edits [2]
    research habits/skin/pores: new, edits [2]
    research what-fails/light: patterns/light, edits [3]
    "#);
}

#[test]
fn a_late_change_keeps_the_most_of_the_prompt_cache() {
    let long: String =
        (1..=40).map(|n| format!("## Section {n}\n\n{}\n\n", "words ".repeat(20))).collect();
    let old = Texts { research: format!("# All\n\n{long}"), ..parent() };
    let add = edit(Operation::AddAfter, "Section 3", "## New\n\nA rule.");
    let new = apply(&old, &[add], &loose_rules()).unwrap().texts;
    assert_eq!(
        kept_prefix_bytes(&old.research, &new.research),
        old.research.len(),
        "wherever it was asked for, it stands behind its siblings, and all of the old text is cached"
    );
}
