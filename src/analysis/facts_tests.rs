//! The figures over windows small enough to check by hand.

use super::*;

fn scored(score: i32, prompt: &str) -> Attempt {
    Attempt {
        model: "wan".to_owned(),
        version: 1,
        iteration: 1,
        score: Some(score),
        passed: Some(score >= 8),
        original_prompt: Some("Βγάλε τον άνθρωπο".to_owned()),
        enhanced_prompt: Some(prompt.to_owned()),
        ..Attempt::default()
    }
}

fn facts_of(tags: &Tags, attempts: &[Attempt]) -> Vec<ModelFacts> {
    let mut facts = Facts::new(tags);
    attempts.iter().for_each(|attempt| facts.add(attempt));
    facts.finish()
}

fn only(attempts: &[Attempt]) -> ModelFacts {
    facts_of(&Tags::default(), attempts).pop().expect("one model")
}

fn told(bands: &[Band]) -> Vec<String> {
    bands
        .iter()
        .map(|band| {
            format!("{}: {} of {}, {}", band.label, band.mean, band.attempts, band.pass_rate)
        })
        .collect()
}

#[test]
fn models_and_versions_are_told_apart() {
    let attempts = [
        scored(4, "a"),
        Attempt { version: 2, ..scored(9, "a") },
        Attempt { model: "nano".to_owned(), ..scored(7, "a") },
    ];
    let told: Vec<(String, i32, Option<String>)> = facts_of(&Tags::default(), &attempts)
        .into_iter()
        .map(|fact| (fact.model, fact.version, fact.mean))
        .collect();
    let expected = [("nano", 1, "7.00"), ("wan", 1, "4.00"), ("wan", 2, "9.00")];
    assert_eq!(told, expected.map(|(m, v, mean)| (m.to_owned(), v, Some(mean.to_owned()))));
}

#[test]
fn later_iterations_and_errors_stay_out_of_the_first_ones_figures() {
    let attempts = [
        scored(4, "abc"),
        scored(6, "abcde"),
        Attempt { iteration: 2, selected: true, ..scored(9, "abcdefgh") },
        Attempt {
            score: None,
            passed: None,
            fault: Some("infrastructure".to_owned()),
            ..scored(0, "")
        },
        Attempt { score: None, passed: None, fault: Some("prompt".to_owned()), ..scored(0, "") },
    ];
    let fact = only(&attempts);
    assert_eq!((fact.attempts, fact.scored, fact.wins), (5, 3, 1));
    assert_eq!((fact.mean.as_deref(), fact.pass_rate.as_deref()), (Some("6.33"), Some("33%")));
    let first = fact.first;
    assert_eq!((first.attempts, first.scored), (4, 2));
    assert_eq!((first.mean.as_deref(), first.spread.as_deref()), (Some("5.00"), Some("1.41")));
    assert_eq!((fact.later_attempts, fact.later_mean.as_deref()), (1, Some("9.00")));
    assert_eq!((fact.errors_of_prompt, fact.errors_of_infrastructure), (1, 1));
    assert_eq!(
        (fact.mean_prompt_length_passed, fact.mean_prompt_length_failed),
        (Some(8), Some(4))
    );
}

#[test]
fn length_is_set_against_score_in_three_bands_and_one_number() {
    let attempts: Vec<Attempt> = [(9, 100), (9, 100), (8, 300), (7, 300), (4, 900), (3, 900)]
        .map(|(score, length)| scored(score, &"x".repeat(length)))
        .to_vec();
    let fact = only(&attempts);
    assert_eq!(
        told(&fact.length_bands),
        [
            "up to 100 characters: 9.00 of 2, 100%",
            "101 to 300 characters: 7.50 of 2, 50%",
            "more than 300 characters: 3.50 of 2, 0%",
        ]
    );
    // Ranks of length 1.5 1.5 3.5 3.5 5.5 5.5, of score 5.5 5.5 4 3 2 1: rho = -16 / sqrt(16 * 17).
    assert_eq!(fact.length_correlation.as_deref(), Some("-0.97"));
}

#[test]
fn few_attempts_or_equal_ones_show_no_relation() {
    let fact = only(&[scored(9, "a"), scored(3, "abc")]);
    assert_eq!((fact.length_bands.len(), fact.length_correlation), (0, None));
    let fact = only(&vec![scored(7, "same"); 8]);
    assert_eq!(told(&fact.length_bands), ["up to 4 characters: 7.00 of 8, 0%"]);
    assert_eq!(fact.length_correlation, None);
}

#[test]
fn the_share_of_greek_is_set_against_score_for_requests_and_for_prompts() {
    let english =
        Attempt { original_prompt: Some("Remove the man".to_owned()), ..scored(9, "Remove him") };
    let quoting = scored(8, "Write «Καλό» at the bottom");
    let greek = scored(3, "Γράψε «Καλό»");
    let unasked = Attempt { original_prompt: None, ..scored(5, "12") };
    let fact = only(&[english, quoting, greek, unasked]);
    assert_eq!(fact.greek_share.as_deref(), Some("67%"), "of the three requests that are known");
    assert_eq!(
        told(&fact.greek_request_bands),
        ["no Greek letter: 9.00 of 1, 100%", "mostly Greek: 5.50 of 2, 50%"]
    );
    assert_eq!(
        told(&fact.greek_prompt_bands),
        [
            "no Greek letter: 9.00 of 1, 100%",
            "some Greek, up to half of the letters: 8.00 of 1, 100%",
            "mostly Greek: 3.00 of 1, 0%",
        ]
    );
}

#[test]
fn failures_are_counted_by_tag_and_the_rest_is_told() {
    let tags = Tags::parse(["logo: logo", "text: letter, accent", "light: shadow"]).unwrap();
    let with = |score, issues: &[&str]| Attempt {
        issues: issues.iter().map(|issue| (*issue).to_owned()).collect(),
        ..scored(score, "a")
    };
    let attempts = [
        with(4, &["Accents lost", "Letters mixed"]),
        with(6, &["accent missing", "the logo moved"]),
        with(5, &["too dark"]),
        with(9, &[]),
    ];
    let fact = facts_of(&tags, &attempts).pop().unwrap();
    let told: Vec<String> = fact
        .tags
        .iter()
        .map(|tag| {
            let without = tag.mean_without.as_deref().unwrap_or("-");
            format!(
                "{}: {} ({}), {} against {without}",
                tag.tag, tag.attempts, tag.share, tag.mean_with
            )
        })
        .collect();
    assert_eq!(told, ["text: 2 (50%), 5.00 against 7.00", "logo: 1 (25%), 6.00 against 6.00"]);
    assert_eq!(fact.untagged, 1);
}
