//! What the program is built of, held to `deny.toml`: licences, sources, and no crate twice without a reason.
//!
//! `cargo deny check` does the same and looks for advisories, too, where it is installed; this needs nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::process::Command;

use spdx::{Expression, ParseMode};
use toml::{Table, Value};

fn read(name: &str) -> Table {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(name);
    fs::read_to_string(path).expect("the file reads").parse().expect("it is TOML")
}

fn texts(list: &Value) -> BTreeSet<String> {
    let texts = list.as_array().expect("a list").iter();
    texts.map(|text| text.as_str().expect("a text").to_owned()).collect()
}

/// Every package of the lock file that comes from elsewhere.
fn locked() -> Vec<Table> {
    let lock = read("Cargo.lock");
    let packages = lock["package"].as_array().expect("packages").iter();
    let packages = packages.map(|package| package.as_table().expect("a package").clone());
    let others: Vec<Table> =
        packages.filter(|it| it["name"].as_str() != Some("mathesis")).collect();
    assert!(others.len() > 200, "{}", others.len());
    others
}

/// Name and licence of every package that is built on this machine.
fn licences() -> Vec<(String, Option<String>)> {
    let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned());
    let run = |program: &str, arguments: &[&str]| {
        let folder = env!("CARGO_MANIFEST_DIR");
        let done = Command::new(program).args(arguments).current_dir(folder).output();
        let done = done.expect("the program runs");
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
        String::from_utf8(done.stdout).expect("UTF-8")
    };
    // Only this machine's packages are sure to be here, and nothing is to be fetched.
    let version = run("rustc", &["-vV"]);
    let host = version.lines().find_map(|line| line.strip_prefix("host: ")).expect("a host");
    let told = run(
        &cargo,
        &["metadata", "--format-version=1", "--locked", "--offline", "--filter-platform", host],
    );
    let told: serde_json::Value = serde_json::from_str(&told).expect("JSON");
    let built: BTreeSet<&str> = told["resolve"]["nodes"]
        .as_array()
        .expect("nodes")
        .iter()
        .filter_map(|node| node["id"].as_str())
        .collect();
    told["packages"]
        .as_array()
        .expect("packages")
        .iter()
        .filter(|package| package["id"].as_str().is_some_and(|id| built.contains(id)))
        .map(|package| {
            let text = |key: &str| package[key].as_str().map(str::to_owned);
            (text("name").expect("a name"), text("license"))
        })
        .collect()
}

/// Why a licence is not allowed.
fn refusal(licence: Option<&str>, allowed: &BTreeSet<String>) -> Option<String> {
    let Some(licence) = licence else { return Some("it has none".to_owned()) };
    match Expression::parse_mode(licence, ParseMode::LAX) {
        Err(error) => Some(error.to_string()),
        Ok(terms) if terms.evaluate(|term| allowed.contains(&term.to_string())) => None,
        Ok(_) => Some(licence.to_owned()),
    }
}

#[test]
fn every_licence_is_one_of_those_allowed() {
    let deny = read("deny.toml");
    let allowed = texts(&deny["licenses"]["allow"]);
    let licences = licences();
    assert!(licences.len() > 200, "{}", licences.len());
    let refused: Vec<_> = licences
        .iter()
        .filter_map(|(name, licence)| Some((name, refusal(licence.as_deref(), &allowed)?)))
        .collect();
    assert!(refused.is_empty(), "{refused:#?}");

    for (licence, fits) in [
        (Some("GPL-3.0-only"), false),
        (Some("MIT AND GPL-3.0-only"), false),
        (Some("GPL-3.0-only OR MIT"), true),
        (Some("MIT/Apache-2.0"), true),
        (Some("as you like"), false),
        (None, false),
    ] {
        assert_eq!(refusal(licence, &allowed).is_none(), fits, "{licence:?}");
    }
}

#[test]
fn everything_comes_from_the_one_registry_with_its_checksum() {
    let packages = locked();
    let source = |package: &Table| package.get("source").and_then(Value::as_str).map(str::to_owned);
    let sources: BTreeSet<_> = packages.iter().map(source).collect();
    let one =
        matches!(sources.iter().next(), Some(Some(source)) if source.starts_with("registry+"));
    assert!(one && sources.len() == 1, "{sources:?}");
    let unchecked: Vec<_> = packages.iter().filter(|it| !it.contains_key("checksum")).collect();
    assert!(unchecked.is_empty(), "{unchecked:?}");
}

#[test]
fn no_crate_is_there_twice_without_a_reason_and_no_reason_without_a_crate() {
    let mut versions: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for package in locked() {
        let text = |key: &str| package[key].as_str().expect("a text").to_owned();
        versions.entry(text("name")).or_default().insert(text("version"));
    }
    let deny = read("deny.toml");
    let skipped = deny["bans"]["skip"].as_array().expect("a list").iter();
    for entry in skipped {
        assert!(entry["reason"].as_str().is_some_and(|reason| !reason.is_empty()), "{entry}");
        let (name, version) =
            entry["crate"].as_str().and_then(|it| it.split_once('@')).expect("name@version");
        let there = versions.get_mut(name).filter(|there| there.len() > 1);
        let there = there.unwrap_or_else(|| panic!("{name} is there once; take its line away"));
        let before = there.len();
        there.retain(|one| one != version && !one.starts_with(&format!("{version}.")));
        assert_eq!(there.len(), before - 1, "{name}@{version} is not there; take its line away");
    }
    versions.retain(|_, there| there.len() > 1);
    assert!(versions.is_empty(), "one version of each would do: {versions:?}");
}
