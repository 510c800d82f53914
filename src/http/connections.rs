//! How many connections one address may have open at a time, so that one client cannot take every place.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axum::http::{HeaderValue, StatusCode, header};

use super::error::Problem;
use super::limits::network;

/// Whose connections are counted by address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Counted {
    /// Nobody's: each connection is that of a proxy, which speaks for all.
    Nobody,
    /// Those of other machines. On this one there may be a proxy that nobody told of, and it is its owner's.
    Strangers,
    /// Everybody's.
    Everybody,
}

#[derive(Debug, Default)]
struct Open {
    connections: usize,
    /// True when the log has been told that there are too many.
    told: bool,
}

/// The open connections, by address.
#[derive(Debug)]
pub(super) struct Crowd {
    most: usize,
    counted: Counted,
    open: Mutex<HashMap<IpAddr, Open>>,
}

/// One open connection, until it is dropped.
#[derive(Debug)]
pub(super) struct Seat {
    crowd: Arc<Crowd>,
    /// None where it is not counted.
    network: Option<IpAddr>,
}

impl Crowd {
    /// Nobody yet.
    pub(super) fn new(most: usize, counted: Counted) -> Arc<Self> {
        Arc::new(Self { most, counted, open: Mutex::default() })
    }

    /// Counts a connection of this peer's; none when it has as many as it may.
    pub(super) fn enter(self: &Arc<Self>, peer: IpAddr) -> Option<Seat> {
        let counted = match self.counted {
            Counted::Nobody => false,
            Counted::Strangers => !peer.to_canonical().is_loopback(),
            Counted::Everybody => true,
        };
        let network = counted.then(|| network(peer));
        if let Some(network) = network {
            let mut open = self.open();
            let open = open.entry(network).or_default();
            if open.connections >= self.most {
                if !std::mem::replace(&mut open.told, true) {
                    tracing::warn!(
                        peer.address = %network,
                        connections.open = open.connections,
                        "further connections of this address are refused until one ends; MATHESIS_HTTP_CONNECTIONS_PER_ADDRESS allows more, and MATHESIS_BEHIND_PROXY says that it is a proxy of your own"
                    );
                }
                return None;
            }
            open.connections += 1;
        }
        Some(Seat { crowd: Arc::clone(self), network })
    }

    fn open(&self) -> MutexGuard<'_, HashMap<IpAddr, Open>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let Some(network) = self.network else { return };
        if let Entry::Occupied(mut open) = self.crowd.open().entry(network) {
            open.get_mut().connections -= 1;
            if open.get().connections == 0 {
                open.remove();
            }
        }
    }
}

/// What a connection too many is told.
pub(super) fn too_many_connections() -> Problem {
    Problem::new(
        StatusCode::TOO_MANY_REQUESTS,
        "too_many_connections",
        "nothing was done: this address has as many connections open as it may; docs/security.md names the setting. Every call is safe to repeat; close one, or try again in 1 s",
    )
    .with_header(header::RETRY_AFTER, HeaderValue::from_static("1"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entered(crowd: &Arc<Crowd>, peers: &[&str]) -> Vec<Option<Seat>> {
        peers.iter().map(|peer| crowd.enter(peer.parse().unwrap())).collect()
    }

    fn taken(seats: &[Option<Seat>]) -> Vec<bool> {
        seats.iter().map(Option::is_some).collect()
    }

    #[test]
    fn an_address_gets_a_seat_again_when_it_gives_one_back() {
        let crowd = Crowd::new(2, Counted::Strangers);
        let mut seats = entered(&crowd, &["192.0.2.1", "192.0.2.1", "192.0.2.1", "192.0.2.2"]);
        assert_eq!(taken(&seats), [true, true, false, true]);
        seats.remove(0);
        let again = entered(&crowd, &["::ffff:192.0.2.1", "192.0.2.1"]);
        assert_eq!(taken(&again), [true, false], "a mapped address is what it carries");
        drop((seats, again));
        assert!(crowd.open().is_empty(), "nobody who has gone is kept in mind");
    }

    #[test]
    fn a_network_of_ipv6_is_one_address() {
        let crowd = Crowd::new(1, Counted::Strangers);
        let seats =
            entered(&crowd, &["2606:4700:1:2::1", "2606:4700:1:2:3::4", "2606:4700:1:3::1"]);
        assert_eq!(taken(&seats), [true, false, true]);
    }

    #[test]
    fn a_proxy_is_not_counted_nor_this_machine() {
        for (counted, expected) in [
            (Counted::Nobody, [true, true, true, true]),
            (Counted::Strangers, [true, true, true, false]),
            (Counted::Everybody, [true, false, true, false]),
        ] {
            let crowd = Crowd::new(1, counted);
            let seats = entered(&crowd, &["127.0.0.1", "127.0.0.1", "192.0.2.1", "192.0.2.1"]);
            assert_eq!(taken(&seats), expected, "{counted:?}");
        }
    }
}
