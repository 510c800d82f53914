//! Calls to addresses that somebody configured: never to a machine of our own network unless that is allowed.
//!
//! Looked at twice: a host that is an address, before anything is sent, and every address that a name resolves to, at the
//! moment of connecting, so that a name cannot be public when it is looked at and private when it is used. No proxy is
//! used, since it would resolve the name itself.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use reqwest::Url;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};

use super::{failure_of, install_crypto};

/// An address that is not to be called.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotPublic {
    /// It is no web address.
    #[error("it is no address that begins with http:// or https:// and has a host")]
    NoAddress,
    /// It is in a private, loopback, link-local or otherwise special range.
    #[error("{0} is not a public address, and calls to private ones are not allowed")]
    Private(IpAddr),
    /// The name has no address.
    #[error("the host's name has no address")]
    NoSuchHost,
}

/// Builds the client for one address. It connects to public addresses only, follows no redirect, repeats nothing by
/// itself, and uses no proxy.
///
/// # Errors
/// [`NotPublic`] for an address that names a private one outright.
pub fn public_client(
    address: &Url,
    connect_timeout: Duration,
    timeout: Duration,
) -> Result<reqwest::Client, String> {
    check_public(address).map_err(|refused| refused.to_string())?;
    any_public_client(connect_timeout, timeout)
}

/// The same client for any address that [`check_public`] let through.
pub(super) fn any_public_client(
    connect_timeout: Duration,
    timeout: Duration,
) -> Result<reqwest::Client, String> {
    install_crypto();
    reqwest::Client::builder()
        .connect_timeout(connect_timeout)
        .timeout(timeout)
        .redirect(reqwest::redirect::Policy::none())
        .retry(reqwest::retry::never())
        .user_agent(concat!("mathesis/", env!("CARGO_PKG_VERSION")))
        .no_proxy()
        .dns_resolver(Arc::new(PublicOnly))
        .build()
        .map_err(|error| failure_of(&error).words)
}

/// Refuses a host that is a private address itself, however it is written.
pub(super) fn check_public(address: &Url) -> Result<(), NotPublic> {
    let host = address.host_str().filter(|_| matches!(address.scheme(), "http" | "https"));
    let host = host.ok_or(NotPublic::NoAddress)?;
    match host.trim_matches(['[', ']']).parse::<IpAddr>() {
        Ok(ip) if !is_public(ip) => Err(NotPublic::Private(ip)),
        _ => Ok(()),
    }
}

/// Resolves names to public addresses; a name with a single private one among them resolves to none.
#[derive(Debug, Clone, Copy)]
struct PublicOnly;

impl Resolve for PublicOnly {
    fn resolve(&self, name: Name) -> Resolving {
        Box::pin(async move {
            let found = tokio::net::lookup_host((name.as_str(), 0)).await?;
            let found: Vec<SocketAddr> = found.collect();
            let addresses = all_public(found)?;
            Ok(Box::new(addresses.into_iter()) as Addrs)
        })
    }
}

fn all_public(found: Vec<SocketAddr>) -> Result<Vec<SocketAddr>, NotPublic> {
    if found.is_empty() {
        return Err(NotPublic::NoSuchHost);
    }
    match found.iter().find(|address| !is_public(address.ip())) {
        Some(private) => Err(NotPublic::Private(private.ip())),
        None => Ok(found),
    }
}

/// Whether an address is one of the public Internet: in none of the special ranges of RFC 6890 and its successors. An
/// IPv6 address that carries an IPv4 one is what that one is.
#[must_use]
pub fn is_public(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => is_public_v4(ip),
        IpAddr::V6(ip) => is_public_v6(ip),
    }
}

fn is_public_v4(ip: Ipv4Addr) -> bool {
    let [a, b, c, _] = ip.octets();
    let special = ip.is_private()
        || ip.is_loopback()
        || ip.is_link_local()
        || ip.is_multicast()
        || ip.is_broadcast()
        || ip.is_documentation()
        // "This network", shared by carriers, protocol assignments, benchmarks, 6to4 relays, reserved.
        || a == 0
        || (a == 100 && (64..128).contains(&b))
        || (a == 192 && b == 0 && c == 0)
        || (a == 192 && b == 88 && c == 99)
        || (a == 198 && (18..20).contains(&b))
        || a >= 240;
    !special
}

fn is_public_v6(ip: Ipv6Addr) -> bool {
    let [a, b, c, d, e, f, g, h] = ip.segments();
    let carried = |high: u16, low: u16| {
        let [[w, x], [y, z]] = [high.to_be_bytes(), low.to_be_bytes()];
        is_public_v4(Ipv4Addr::new(w, x, y, z))
    };
    match (a, b) {
        // Mapped (::ffff:a.b.c.d). What is compatible (::a.b.c.d) is out of use, and so is the rest down there.
        (0, 0) => [c, d, e] == [0, 0, 0] && f == 0xffff && carried(g, h),
        // NAT64 by its well-known prefix, and 6to4.
        (0x64, 0xff9b) => [c, d, e, f] == [0, 0, 0, 0] && carried(g, h),
        (0x2002, _) => carried(b, c),
        // Teredo and other assignments of the IETF, documentation.
        (0x2001, 0..=0x1ff) | (0x2001, 0xdb8) | (0x3fff, 0..=0xfff) => false,
        // Only this eighth of all addresses is handed out.
        _ => a & 0xe000 == 0x2000,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::outbound::FailureKind;

    #[test]
    fn private_addresses_are_known_in_every_dress() {
        for private in [
            "127.0.0.1",
            "127.9.9.9",
            "0.0.0.0",
            "10.1.2.3",
            "172.16.0.1",
            "172.31.255.255",
            "192.168.1.1",
            "169.254.169.254",
            "100.64.0.1",
            "100.127.255.255",
            "192.0.0.8",
            "198.18.0.1",
            "198.19.255.255",
            "192.0.2.1",
            "198.51.100.1",
            "203.0.113.1",
            "192.88.99.1",
            "224.0.0.1",
            "240.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "::ffff:127.0.0.1",
            "::ffff:10.0.0.1",
            "::ffff:169.254.169.254",
            "::127.0.0.1",
            "::8.8.8.8",
            "64:ff9b::10.0.0.1",
            "64:ff9b:1::8.8.8.8",
            "2002:7f00:1::",
            "2002:a9fe:a9fe::1",
            "fe80::1",
            "febf::1",
            "fec0::1",
            "fc00::1",
            "fd12:3456::1",
            "ff02::1",
            "2001::1",
            "2001:db8::1",
            "3fff::1",
            "4000::1",
            "100::1",
        ] {
            assert!(!is_public(private.parse().unwrap()), "{private}");
        }
        for public in [
            "8.8.8.8",
            "1.1.1.1",
            "100.63.255.255",
            "100.128.0.1",
            "172.15.0.1",
            "172.32.0.1",
            "192.0.1.1",
            "198.17.0.1",
            "198.20.0.1",
            "169.253.1.1",
            "223.255.255.1",
            "::ffff:8.8.8.8",
            "64:ff9b::8.8.8.8",
            "2002:808:808::1",
            "2606:4700::1111",
            "2a00:1450:4001::1",
            "2001:4860:4860::8888",
        ] {
            assert!(is_public(public.parse().unwrap()), "{public}");
        }
    }

    #[test]
    fn a_host_is_looked_at_however_it_is_written() {
        for address in [
            "http://127.0.0.1/hook",
            "http://2130706433/",
            "http://0x7f.1/",
            "http://0177.0.0.1/",
            "http://127.1/",
            "https://[::1]:8443/",
            "http://[::ffff:10.0.0.1]/",
            "https://169.254.169.254/latest/meta-data",
        ] {
            let refused = check_public(&Url::parse(address).unwrap());
            assert!(matches!(refused, Err(NotPublic::Private(_))), "{address}: {refused:?}");
        }
        assert_eq!(check_public(&Url::parse("ftp://8.8.8.8/").unwrap()), Err(NotPublic::NoAddress));
        for address in ["https://hooks.example.com/a", "http://8.8.8.8/"] {
            assert_eq!(check_public(&Url::parse(address).unwrap()), Ok(()), "{address}");
        }
    }

    #[test]
    fn a_name_with_one_private_address_resolves_to_none() {
        let at = |address: &str| SocketAddr::new(address.parse().unwrap(), 0);
        let mixed = vec![at("8.8.8.8"), at("10.0.0.1")];
        assert_eq!(all_public(mixed), Err(NotPublic::Private("10.0.0.1".parse().unwrap())));
        assert_eq!(all_public(Vec::new()), Err(NotPublic::NoSuchHost));
        assert_eq!(all_public(vec![at("8.8.8.8")]), Ok(vec![at("8.8.8.8")]));
    }

    #[tokio::test]
    async fn a_name_is_looked_at_when_it_is_connected_to() {
        let address = Url::parse("http://localhost:9/hook").unwrap();
        let second = Duration::from_secs(1);
        let client = public_client(&address, second, second).unwrap();
        let error = client.get(address).send().await.unwrap_err();
        let failure = failure_of(&error);
        assert_eq!(failure.kind, FailureKind::NotSent, "it is no use to try again");
        let words = failure.words;
        assert!(words.contains("is not a public address"), "{words}");
    }
}
