use super::*;

fn at(text: &str) -> DateTime<Utc> {
    text.parse().unwrap()
}

fn adopted() -> Tried {
    Tried {
        model: "nano-banana".to_owned(),
        old_version: 3,
        new_version: 4,
        summary: "Says what must stay.".to_owned(),
        status: "adopted".to_owned(),
        reason: Some("improved".to_owned()),
        probation: Some("kept".to_owned()),
        old: Some((6.3, 10)),
        new: Some((8.3, 10)),
        improvement: Some(0.317),
        likely: Some(0.25),
    }
}

fn facts() -> Facts {
    Facts {
        workflow: "image-editing".to_owned(),
        cycle: 3,
        state: StateName::Applied,
        opened_at: at("2026-11-20T08:00:00Z"),
        ended_at: Some(at("2026-11-26T08:00:00Z")),
        time_zone: Tz::Europe__Athens,
        score_max: 10,
        tasks: Some(53),
        noticed: vec![Noticed {
            model: "all".to_owned(),
            claim: "Logos change when\nnobody names them.".to_owned(),
            confidence: 0.8,
        }],
        tried: vec![
            adopted(),
            Tried {
                model: "wan-2.5-edit".to_owned(),
                summary: String::new(),
                status: "rejected".to_owned(),
                probation: None,
                old: Some((6.7, 10)),
                new: Some((6.0, 10)),
                improvement: Some(-0.104),
                likely: Some(-0.08),
                ..adopted()
            },
        ],
        without: vec![("flux".to_owned(), "at_ceiling".to_owned())],
        cost_usd: "0.3149".parse().unwrap(),
        calls: 3,
        cost_estimated: true,
        holds: vec![],
    }
}

fn told(facts: &Facts, language: Language) -> String {
    let report = report(facts, language, |target| match target {
        Target::Cycle(cycle) => format!("/cycles/{cycle}"),
        Target::PutBack(model, version) => format!("/models/{model}?rollback={version}"),
    });
    markdown(&report, Some("https://mathesis.example/"))
}

#[test]
fn a_report_tells_what_was_noticed_tried_gained_and_what_it_cost() {
    insta::assert_snapshot!("english", told(&facts(), Language::English));
}

#[test]
fn the_same_in_greek() {
    insta::assert_snapshot!("greek", told(&facts(), Language::Greek));
}

#[test]
fn a_cycle_that_waits_for_approval_says_so_and_where() {
    let waiting = Facts {
        state: StateName::Generating,
        ended_at: None,
        tried: vec![],
        without: vec![],
        holds: vec![Held {
            kind: "approval".to_owned(),
            reason: "Asked before the test.".to_owned(),
        }],
        ..facts()
    };
    let told = told(&waiting, Language::English);
    assert!(told.contains("This cycle is under way: better instructions are being written."));
    assert!(told.contains("It stands still at the moment: Asked before the test."));
    assert!(told.contains("[Approve it](https://mathesis.example/cycles/3)"), "{told}");
    assert!(told.contains("[Refuse it]"));
}

#[test]
fn what_was_put_back_is_not_offered_again() {
    let back = Facts {
        state: StateName::RolledBack,
        tried: vec![Tried { probation: Some("regressed".to_owned()), ..adopted() }],
        ..facts()
    };
    let told = told(&back, Language::English);
    assert!(told.contains("the old version is back") && !told.contains("rollback="), "{told}");
}

#[test]
fn a_text_of_others_stays_text() {
    let hostile = Facts {
        noticed: vec![Noticed {
            model: "all".to_owned(),
            claim: "[click](https://evil.example) <script>*\n# now".to_owned(),
            confidence: 1.0,
        }],
        ..facts()
    };
    let told = told(&hostile, Language::English);
    assert!(told.contains("\\[click\\](https://evil.example) \\<script\\>\\* \\# now"), "{told}");
    let long = Facts {
        noticed: vec![Noticed {
            model: "all".to_owned(), claim: "ά".repeat(900), confidence: 1.0
        }],
        ..facts()
    };
    assert!(
        super::report(&long, Language::Greek, |_| String::new()).parts[0].lines[0].chars().count()
            < 400
    );
}

#[test]
fn a_language_is_named_by_its_code() {
    assert_eq!("el".parse(), Ok(Language::Greek));
    assert!("fr".parse::<Language>().unwrap_err().to_string().contains("`el` (Greek)"));
}
