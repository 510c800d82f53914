use proptest::prelude::*;

use super::*;

fn outline(text: &str) -> String {
    Document::parse(text)
        .sections()
        .iter()
        .map(|section| format!("{} {} {:?}\n", section.level, section.id, section.heading))
        .collect()
}

#[test]
fn headings_of_both_kinds_open_sections_and_fenced_ones_do_not() {
    let text = "intro\n\n# Patterns\ntext\n\n## Lighting `soft`\n```sh\n# no heading\n```\n\nSetext title\n===\n> # quoted\n\n- # listed\n\n   ### Indented ###\n";
    insta::assert_snapshot!(outline(text), @r#"
    0 preamble ""
    1 patterns "Patterns"
    2 patterns/lighting-soft "Lighting soft"
    1 setext-title "Setext title"
    "#);
}

#[test]
fn greek_letters_stay_in_ids() {
    insta::assert_snapshot!(outline("# Ἀρχὴ τῆς ΜΑΘΉΣΕΩΣ\n## α\u{301}λφα\n#\n# 🙂\n"), @r#"
    0 preamble ""
    1 ἀρχὴ-τῆς-μαθήσεως "Ἀρχὴ τῆς ΜΑΘΉΣΕΩΣ"
    2 ἀρχὴ-τῆς-μαθήσεως/άλφα "α\u{301}λφα"
    1 section ""
    1 section-2 "🙂"
    "#);
}

#[test]
fn equal_headings_get_numbers_and_never_the_id_of_another() {
    insta::assert_snapshot!(outline("# A\n## B\n# A-2\n# A\n## B\n# A\n# preamble\n"), @r#"
    0 preamble ""
    1 a "A"
    2 a/b "B"
    1 a-2 "A-2"
    1 a-3 "A"
    2 a-3/b "B"
    1 a-4 "A"
    1 preamble-2 "preamble"
    "#);
}

#[test]
fn a_byte_order_mark_does_not_hide_the_first_heading() {
    let document = Document::parse("\u{feff}# A\r\nx\r\n");
    let [preamble, first] = document.sections() else { panic!("{:?}", document.sections()) };
    assert_eq!(document.text_of(preamble), "\u{feff}");
    assert_eq!(document.text_of(first), "# A\r\nx\r\n");
    assert_eq!(document.slice(first.body_start..first.range.end), "x\r\n");
}

#[test]
fn a_section_is_found_by_id_or_by_a_heading_that_only_it_has() {
    let document = Document::parse("# A\n## Light\n# B\n## Dark\n## Light\n");
    assert_eq!(document.find("b/dark"), Ok(4));
    assert_eq!(document.find("## dark"), Ok(4));
    assert_eq!(document.find("Light"), Err(Lookup::Ambiguous));
    assert_eq!(document.find("light"), Err(Lookup::Ambiguous));
    assert_eq!(document.find("Shade"), Err(Lookup::Unknown));
    assert_eq!(document.find(""), Err(Lookup::Unknown));
    assert_eq!(document.find("preamble"), Ok(0));
}

/// Lines that make a Markdown parser work, in any order and with any line ends.
pub(in crate::research) fn markdown() -> impl Strategy<Value = String> {
    let line = prop_oneof![
        Just("# A"),
        Just("## Φῶς καὶ σκιά"),
        Just("### a"),
        Just("Title"),
        Just("==="),
        Just("---"),
        Just("```"),
        Just("~~~ # x"),
        Just("> # q"),
        Just("- # l"),
        Just("    # code"),
        Just("<!--"),
        Just("-->"),
        Just("text ἄνθρωπος"),
        Just("[a]: b"),
        Just(""),
        Just("   # i"),
        Just("\t# t"),
        Just("\u{feff}"),
        Just("######"),
    ];
    let end = prop_oneof![4 => Just("\n"), 2 => Just("\r\n"), 1 => Just("\r"), 1 => Just("")];
    proptest::collection::vec((line, end), 0..24)
        .prop_map(|lines| lines.into_iter().map(|(line, end)| format!("{line}{end}")).collect())
}

proptest! {
    #[test]
    fn sections_joined_are_the_text(text in prop_oneof![any::<String>(), markdown(), "[#=\\-`~>\r\n \t*αἄ\u{feff}\0]{0,80}"]) {
        let document = Document::parse(&text);
        let joined: String = document.sections().iter().map(|section| document.text_of(section)).collect();
        prop_assert_eq!(&joined, &text);
        let mut end = 0;
        let mut ids = HashSet::new();
        for section in document.sections() {
            prop_assert_eq!(section.range.start, end);
            prop_assert!(section.range.contains(&section.body_start) || section.body_start == section.range.end);
            prop_assert!(ids.insert(section.id.clone()), "{} twice", section.id);
            prop_assert_eq!(document.find(&section.id), Ok(document.sections().iter().position(|s| s == section).unwrap()));
            end = section.range.end;
        }
    }
}
