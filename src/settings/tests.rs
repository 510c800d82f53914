//! What the settings promise.

use super::*;

fn read(
    flags: Flags,
    environment: &[(&str, &str)],
    dotenv: &[(&str, &str)],
) -> Result<Settings, SettingsError> {
    let map = |pairs: &[(&str, &str)]| -> HashMap<String, String> {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    };
    let environment = map(environment);
    Settings::read(flags, |name| environment.get(name).cloned(), &map(dotenv))
}

fn refusal(name: &str, value: &str) -> String {
    read(Flags::default(), &[(name, value)], &[]).expect_err("a refusal").to_string()
}

#[test]
fn flags_win_over_the_environment_and_that_over_dotenv_and_that_over_the_default() {
    let flags = || Flags { port: Some(1), ..Flags::default() };
    let port =
        |flags, environment: &[_], dotenv: &[_]| read(flags, environment, dotenv).unwrap().port;
    assert_eq!(port(flags(), &[("PORT", "2")], &[("PORT", "3")]), 1);
    assert_eq!(port(Flags::default(), &[("PORT", "2")], &[("PORT", "3")]), 2);
    assert_eq!(port(Flags::default(), &[], &[("PORT", "3")]), 3);
    assert_eq!(port(Flags::default(), &[], &[]), DEFAULT_PORT);
}

#[test]
fn an_empty_value_is_no_value() {
    let settings = read(Flags::default(), &[("DATABASE_URL", ""), ("PORT", " ")], &[]).unwrap();
    assert_eq!((settings.database_url, settings.port), (None, DEFAULT_PORT));
}

#[test]
fn a_port_from_the_platform_opens_every_address_to_a_server_with_a_key_only() {
    let host =
        |flags, environment: &[_], dotenv: &[_]| read(flags, environment, dotenv).unwrap().host;
    let platform = host(Flags::default(), &[("PORT", "80")], &[]);
    assert_eq!(platform, Host::Platform);
    assert!(platform.address(true).is_unspecified());
    assert!(platform.address(false).is_loopback());
    assert_eq!(host(Flags::default(), &[], &[("PORT", "80")]), Host::Loopback);
    let flag = Flags { port: Some(80), ..Flags::default() };
    assert_eq!(host(flag, &[("PORT", "80")], &[]), Host::Loopback);
    let named = host(Flags::default(), &[("PORT", "80"), ("MATHESIS_HOST", "::1")], &[]);
    assert!(named.address(true).is_loopback());
}

#[test]
fn connections_are_counted_by_address_unless_a_proxy_stands_in_front() {
    let listen = |pairs: &[_]| read(Flags::default(), pairs, &[]).unwrap().listen;
    assert_eq!(listen(&[]), ListenLimits::default());
    let own = listen(&[("MATHESIS_HTTP_CONNECTIONS_PER_ADDRESS", "7")]);
    assert_eq!((own.address_connections_max, own.counted), (7, Counted::Strangers));
    assert_eq!(listen(&[("MATHESIS_BEHIND_PROXY", "true")]).counted, Counted::Nobody);
    assert!(refusal("MATHESIS_HTTP_CONNECTIONS_PER_ADDRESS", "0").contains("from 1 to 100000"));
}

#[test]
fn no_secret_can_be_printed() {
    let settings = read(
        Flags::default(),
        &[
            ("DATABASE_URL", "postgres://u:hush@db/x"),
            ("DATABASE_READ_URL", "postgres://u:hush@db/x"),
            ("ANTHROPIC_API_KEY", "hush"),
            ("MATHESIS_BOOTSTRAP_KEY", "hush-hush-hush-hush"),
            ("MATHESIS_KEY", "hush"),
        ],
        &[],
    );
    assert!(!format!("{settings:?}").contains("hush"));
    assert_eq!(shown_url("postgres://u:hu@sh@db:5432/x?password=hush"), "postgres://db:5432/x");
}

#[test]
fn what_is_wrong_is_named_with_what_would_be_right() {
    insta::assert_snapshot!(refusal("PORT", "eighty"), @r#"PORT is "eighty", and must be a port number, 0 to 65535. Nothing was started."#);
    insta::assert_snapshot!(refusal("MATHESIS_HOST", "localhost"), @r#"MATHESIS_HOST is "localhost", and must be an IP address such as 127.0.0.1, 0.0.0.0 or ::. Nothing was started."#);
    insta::assert_snapshot!(refusal("MATHESIS_CONNECTIONS_MAX", "1"), @r#"MATHESIS_CONNECTIONS_MAX is "1", and must be a whole number from 4 to 200. Nothing was started."#);
    insta::assert_snapshot!(refusal("MATHESIS_LOG_FORMAT", "xml"), @r#"MATHESIS_LOG_FORMAT is "xml", and must be text or json. Nothing was started."#);
    insta::assert_snapshot!(refusal("DATABASE_URL", "mysql://u:hush@h/d"), @"DATABASE_URL cannot be used: it must begin with postgres:// or postgresql://, such as postgres://user:password@host:5432/database. Nothing was started.");
    insta::assert_snapshot!(refusal("MATHESIS_BOOTSTRAP_KEY", "short"), @"MATHESIS_BOOTSTRAP_KEY cannot be used: it needs at least 16 letters, digits and signs, without spaces; `openssl rand -hex 32` makes one. Nothing was started.");
}

#[test]
fn every_setting_stands_in_the_manual() {
    let manual = include_str!("../../docs/operations.md");
    for setting in ALL {
        let flag =
            if setting.flag.is_empty() { String::new() } else { format!("`{}`", setting.flag) };
        let row =
            format!("| `{}` | {flag} | {} | {} |", setting.name, setting.default, setting.meaning);
        assert!(manual.contains(&row), "docs/operations.md lacks this row:\n{row}");
    }
}
