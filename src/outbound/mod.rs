//! HTTP calls that leave this process: one way to build a client, to make one exchange, and to keep still when a
//! service asks for it.
//!
//! What must never be: a redirect followed or a request repeated behind the caller's back, a body read without a bound,
//! a key or an address with a password in an error.

mod exchange;
mod public;
mod reach;
mod throttle;

pub use exchange::{Failure, FailureKind, Reply, exchange, failure_of, header, read_body};
pub use public::{NotPublic, is_public, public_client};
pub use reach::Reach;
pub use throttle::{Closed, Throttle, WAIT_MAX};

use std::time::Duration;

use reqwest::Url;
use reqwest::header::HeaderValue;

/// Builds the client of one service; connects to nothing yet.
///
/// It follows no redirect and repeats nothing by itself, since a call may be billed. A service on this machine is
/// reached without a proxy.
///
/// # Errors
/// The cause, in words, when this machine's certificates cannot be read.
pub fn client(
    address: &Url,
    connect_timeout: Duration,
    timeout: Duration,
) -> Result<reqwest::Client, String> {
    install_crypto();
    let mut builder = reqwest::Client::builder()
        .connect_timeout(connect_timeout)
        .timeout(timeout)
        .redirect(reqwest::redirect::Policy::none())
        .retry(reqwest::retry::never())
        .user_agent(concat!("mathesis/", env!("CARGO_PKG_VERSION")));
    if is_loopback(address) {
        builder = builder.no_proxy();
    }
    builder.build().map_err(|error| failure_of(&error).words)
}

/// The address of a service as it was configured, without a slash at its end; `None` if it is no web address.
///
/// `http://` alone would become a host of the name of the first path, so the base is looked at before a path is added.
#[must_use]
pub fn base_address(base_url: &str) -> Option<Url> {
    let base = Url::parse(base_url.trim()).ok()?;
    let usable = matches!(base.scheme(), "http" | "https")
        && base.query().is_none()
        && base.fragment().is_none();
    let trimmed = base.as_str().trim_end_matches('/');
    Url::parse(trimmed).ok().filter(|_| usable)
}

/// The address with these segments behind it, each escaped.
#[must_use]
pub fn address_below(base: &Url, segments: &[&str]) -> Option<Url> {
    let mut address = base.clone();
    address.path_segments_mut().ok()?.pop_if_empty().extend(segments);
    Some(address)
}

/// Whether an address is on this machine.
#[must_use]
pub fn is_loopback(address: &Url) -> bool {
    address.host_str().is_some_and(|host| {
        host == "localhost"
            || host
                .trim_matches(['[', ']'])
                .parse::<std::net::IpAddr>()
                .is_ok_and(|ip| ip.is_loopback())
    })
}

/// A header's value that no log shows; `None` if no header may hold it.
#[must_use]
pub fn secret_header(value: &str) -> Option<HeaderValue> {
    let mut value = HeaderValue::from_str(value).ok()?;
    value.set_sensitive(true);
    Some(value)
}

/// At most this many characters of a text.
#[must_use]
pub fn shorten(text: &str, chars_max: usize) -> String {
    let mut short: String = text.chars().take(chars_max).collect();
    if short.len() < text.len() {
        short.push('…');
    }
    short
}

/// The build has no default provider of cryptography; another part of the process may have set one already.
fn install_crypto() {
    let _already_installed = rustls::crypto::ring::default_provider().install_default();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_looked_at_before_a_path_is_added() {
        for wrong in ["", "api.clickup.com", "ftp://a", "https://a?b=c", "https://a#b", "http://"] {
            assert_eq!(base_address(wrong), None, "{wrong}");
        }
        let base = base_address(" https://gateway.example/clickup/ ").unwrap();
        let task = address_below(&base, &["api", "v2", "task", "a/../b"]).unwrap();
        assert_eq!(task.as_str(), "https://gateway.example/clickup/api/v2/task/a%2F..%2Fb");
        let bare = address_below(&base_address("https://api.clickup.com").unwrap(), &["api"]);
        assert_eq!(bare.unwrap().as_str(), "https://api.clickup.com/api");
    }

    #[test]
    fn a_secret_header_shows_nothing_of_itself() {
        let value = secret_header("pk_secret").unwrap();
        assert!(!format!("{value:?}").contains("secret"));
        assert!(secret_header("two\nlines").is_none());
    }

    #[test]
    fn this_machine_is_known_by_all_its_names() {
        for (address, local) in [
            ("http://127.0.0.1:8080", true),
            ("http://[::1]:8080", true),
            ("http://localhost", true),
            ("https://127.0.0.1.example.com", false),
        ] {
            assert_eq!(is_loopback(&Url::parse(address).unwrap()), local, "{address}");
        }
    }
}
