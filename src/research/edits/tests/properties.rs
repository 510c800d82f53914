//! What holds for any edit of any document.

use proptest::prelude::*;

use super::*;

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
        proptest::sample::select(vec![Replace, AddAfter, Append, Remove, Move]),
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
        proptest::sample::select(vec!["a", "a-2", "title", "text", "preamble"]),
        text,
    )
        .prop_map(|(which, operation, section, after, text)| Edit {
            after: after.into(),
            ..on(which, operation, section, &text)
        })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn sections_that_no_edit_names_keep_their_bytes(
        old in markdown(), edits in proptest::collection::vec(any_edit(), 1..4)
    ) {
        let texts = Texts { template: "t".into(), activation: old.clone(), research: old.clone() };
        let Ok(Applied { texts: new, .. }) = apply(&texts, &edits, &loose_rules()) else { return Ok(()) };
        for (which, new) in [(Which::Research, &new.research), (Which::Activation, &new.activation)] {
            let own: Vec<&Edit> = edits.iter().filter(|edit| edit.document == which).collect();
            if own.iter().any(|edit| edit.section.is_empty() && edit.operation == Operation::Replace) {
                continue;
            }
            let before = Document::parse(&old);
            let after = Document::parse(new);
            let mut rest = after.sections().iter();
            let keeps_order = own.iter().all(|edit| edit.operation != Operation::Move);
            let last = before.sections().len() - 1;
            for (at, section) in before.sections().iter().enumerate() {
                let named = own.iter().any(|edit| before.find(&edit.section) == Ok(at) || (edit.section.is_empty() && at == last));
                if named { continue; }
                let bytes = before.text_of(section).trim_end_matches(['\n', '\r']);
                if !keeps_order {
                    rest = after.sections().iter();
                }
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
        let Ok(Applied { texts: new, .. }) = apply(&texts, &edits, &rules) else { return Ok(()) };
        let after = frozen(&new.research);
        let mut rest = after.iter();
        for before in frozen(&old) {
            if edits.iter().any(|edit| edit.operation == Operation::Move) {
                rest = after.iter();
            }
            prop_assert!(rest.any(|text| *text == before), "{:?} lost in {:?}", before, new.research);
        }
    }

    #[test]
    fn the_lineage_accounts_for_every_section(
        old in markdown(), edits in proptest::collection::vec(any_edit(), 1..4)
    ) {
        let texts = Texts { template: "t".into(), activation: String::new(), research: old.clone() };
        let Ok(Applied { texts: new, lineage }) = apply(&texts, &edits, &loose_rules()) else { return Ok(()) };
        let (before, after) = (Document::parse(&old), Document::parse(&new.research));
        let mut taken = std::collections::HashSet::new();
        for section in after.sections() {
            let own = lineage.iter().find(|origin| origin.document == Which::Research && origin.section == section.id);
            let (from, is_edited) = match own {
                Some(origin) => (origin.from.clone(), !origin.edits.is_empty()),
                None => (Some(section.id.clone()), false),
            };
            prop_assert!(from.is_some() || is_edited, "{:?} comes from nowhere", section);
            let Some(from) = from else { continue };
            prop_assert!(taken.insert(from.clone()), "two sections come from {}", from);
            let at = before.find(&from).unwrap();
            if !is_edited {
                prop_assert_eq!(
                    before.text_of(&before.sections()[at]).trim_end_matches(['\n', '\r']),
                    after.text_of(section).trim_end_matches(['\n', '\r'])
                );
            }
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
