//! Addresses that a service's answer names: where they may lead.
//!
//! Whoever can write an answer, or put a picture on a task, would otherwise have this process call the machines
//! beside it. An address may lead to the service's own host, which an operator configured, and to public ones; to
//! private ones only where an operator allowed it. Redirects are not followed here: whoever follows one asks again.

use std::time::Duration;

use reqwest::Url;

use super::public::{NotPublic, any_public_client, check_public};
use super::{client, is_loopback};

/// The clients for addresses that one service names.
#[derive(Debug, Clone)]
pub struct Reach {
    own: Url,
    allow_private: bool,
    outside: reqwest::Client,
    local: reqwest::Client,
    public: reqwest::Client,
}

impl Reach {
    /// Prepares the clients; connects to nothing yet. `own` is the service's configured address.
    ///
    /// # Errors
    /// The cause, in words, when this machine's certificates cannot be read.
    pub fn new(
        own: Url,
        allow_private: bool,
        connect_timeout: Duration,
        timeout: Duration,
    ) -> Result<Self, String> {
        let of = |address: &str| {
            let address = Url::parse(address).map_err(|error| error.to_string())?;
            client(&address, connect_timeout, timeout)
        };
        Ok(Self {
            own,
            allow_private,
            outside: of("https://elsewhere.invalid")?,
            local: of("http://127.0.0.1")?,
            public: any_public_client(connect_timeout, timeout)?,
        })
    }

    /// The client for an address; none but it may be used. A name is looked at once more when it is connected to.
    ///
    /// # Errors
    /// [`NotPublic`]; nothing may be sent there.
    pub fn client_for(&self, address: &Url) -> Result<&reqwest::Client, NotPublic> {
        if !matches!(address.scheme(), "http" | "https") {
            return Err(NotPublic::NoAddress);
        }
        if !self.allow_private && address.origin() != self.own.origin() {
            check_public(address)?;
            return Ok(&self.public);
        }
        // A service on this machine is reached without a proxy.
        Ok(if is_loopback(address) { &self.local } else { &self.outside })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allowed(allow_private: bool, address: &str) -> Result<(), NotPublic> {
        let own = Url::parse("http://10.1.1.1:8080/api").unwrap();
        let second = Duration::from_secs(1);
        let reach = Reach::new(own, allow_private, second, second).unwrap();
        reach.client_for(&Url::parse(address).unwrap()).map(|_| ())
    }

    #[test]
    fn the_own_host_and_public_ones_are_reached_and_no_private_one() {
        for address in
            ["http://10.1.1.1:8080/a.png", "https://cdn.example.com/a.png", "http://8.8.8.8/"]
        {
            assert_eq!(allowed(false, address), Ok(()), "{address}");
        }
        for address in [
            "http://10.1.1.1/a.png",
            "https://10.1.1.1:8080/a.png",
            "http://127.0.0.1:5432/",
            "http://169.254.169.254/latest/meta-data",
            "http://[::1]/",
            "http://2130706433/",
        ] {
            assert!(matches!(allowed(false, address), Err(NotPublic::Private(_))), "{address}");
            assert_eq!(allowed(true, address), Ok(()), "{address}");
        }
        for address in ["file:///etc/passwd", "ftp://8.8.8.8/a.png", "data:,a"] {
            assert_eq!(allowed(true, address), Err(NotPublic::NoAddress), "{address}");
        }
    }
}
