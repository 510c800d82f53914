//! How often may be called: by each key, and from each address.
//!
//! Three measures, each a bucket that fills again evenly and holds one second's (or minute's) worth:
//! - what a pipeline calls for every task is generous, for it is the hot path and is answered from memory;
//! - everything else reads the database or changes the course of learning, and is for people and their tools;
//! - keys that do not fit, and sign-ins, are few: whoever sends more of them is guessing.
//!
//! A known key is never refused for what others at its address guessed: many pipelines may stand behind one
//! address. A replica counts for itself. Nothing is stored, so a restart forgets it.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::num::NonZeroU32;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use governor::clock::{Clock, MonotonicClock};
use governor::middleware::NoOpMiddleware;
use governor::state::keyed::HashMapStateStore;
use governor::{Quota, RateLimiter};

use super::auth::Need;
use super::error::Problem;

/// After so many calls a measure drops what has filled again.
const SWEEP_EVERY: u32 = 4_096;
/// So few are never worth dropping.
const KEPT_MIN: usize = 1_024;
/// What the proxy in front says of whom it speaks for.
const FORWARDED_FOR: &str = "x-forwarded-for";

/// How often may be called.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CallLimits {
    /// Events, assignments and look-ups of a pipeline: a second, of one key and of one address each.
    pub pipeline_per_second: NonZeroU32,
    /// Every other call that needs a key: a second, of one key and of one address each.
    pub others_per_second: NonZeroU32,
    /// Keys that do not fit, and sign-ins: a minute, of one address each.
    pub failures_per_minute: NonZeroU32,
    /// True when a proxy of our own stands in front. The last address of `X-Forwarded-For`, which that
    /// proxy wrote, is the caller's then; without a proxy a caller could write what it likes there.
    pub behind_proxy: bool,
}

impl CallLimits {
    /// [`CallLimits::pipeline_per_second`] where nothing else is said.
    pub const PIPELINE_PER_SECOND: u32 = 50_000;
    /// [`CallLimits::others_per_second`] where nothing else is said.
    pub const OTHERS_PER_SECOND: u32 = 200;
    /// [`CallLimits::failures_per_minute`] where nothing else is said.
    pub const FAILURES_PER_MINUTE: u32 = 10;
}

impl Default for CallLimits {
    fn default() -> Self {
        let number = |number| NonZeroU32::new(number).unwrap_or(NonZeroU32::MIN);
        Self {
            pipeline_per_second: number(Self::PIPELINE_PER_SECOND),
            others_per_second: number(Self::OTHERS_PER_SECOND),
            failures_per_minute: number(Self::FAILURES_PER_MINUTE),
            behind_proxy: false,
        }
    }
}

/// The other end of a connection, told to every request by the listener.
#[derive(Debug, Clone, Copy)]
pub struct Peer(pub IpAddr);

/// Whose address it is: itself for IPv4, the /64 for IPv6, since whoever has one address of it has them all.
pub(super) fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(at) => IpAddr::V4(at),
        IpAddr::V6(at) => IpAddr::V6(Ipv6Addr::from_bits(at.to_bits() & (u128::MAX << 64))),
    }
}

/// Whose calls are counted together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Whose {
    Key(i64),
    Address(IpAddr),
}

/// One bucket for each of those whose calls are counted.
struct Meter<C: Clock> {
    buckets: RateLimiter<Whose, HashMapStateStore<Whose>, C, NoOpMiddleware<C::Instant>>,
    clock: C,
    taken: AtomicU32,
}

impl<C: Clock + Clone> Meter<C> {
    fn new(quota: Quota, clock: C) -> Self {
        let buckets = RateLimiter::hashmap_with_clock(quota, clock.clone());
        Self { buckets, clock, taken: AtomicU32::new(0) }
    }

    /// Takes one call out, or says how long it is until there is one.
    fn take(&self, whose: Whose) -> Result<(), Duration> {
        // A caller has many addresses in turn (IPv6), and what it once did must not stay in memory.
        let taken = self.taken.fetch_add(1, Ordering::Relaxed);
        if taken % SWEEP_EVERY == SWEEP_EVERY - 1 && self.buckets.len() > KEPT_MIN {
            self.buckets.retain_recent();
            self.buckets.shrink_to_fit();
        }
        self.buckets
            .check_key(&whose)
            .map_err(|not_until| not_until.wait_time_from(self.clock.now()))
    }
}

/// The measures of this process.
pub struct Limits<C: Clock = MonotonicClock> {
    behind_proxy: bool,
    pipeline: Meter<C>,
    others: Meter<C>,
    failures: Meter<C>,
}

impl<C: Clock> fmt::Debug for Limits<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Limits").field("behind_proxy", &self.behind_proxy).finish_non_exhaustive()
    }
}

impl Limits {
    /// Measures by the machine's own clock, which no one sets back.
    pub fn new(limits: CallLimits) -> Self {
        Self::by(limits, MonotonicClock)
    }
}

impl<C: Clock + Clone> Limits<C> {
    fn by(limits: CallLimits, clock: C) -> Self {
        let meter = |quota| Meter::new(quota, clock.clone());
        Self {
            behind_proxy: limits.behind_proxy,
            pipeline: meter(Quota::per_second(limits.pipeline_per_second)),
            others: meter(Quota::per_second(limits.others_per_second)),
            failures: meter(Quota::per_minute(limits.failures_per_minute)),
        }
    }

    /// Whose address is at the other end. Where no listener said it, everybody is one.
    pub fn address(&self, peer: Option<&Peer>, headers: &HeaderMap) -> IpAddr {
        let forwarded = || {
            let last = headers.get_all(FORWARDED_FOR).iter().next_back()?.to_str().ok()?;
            last.rsplit(',').next()?.trim().parse().ok()
        };
        let named = if self.behind_proxy { forwarded() } else { None };
        let at = named.or_else(|| peer.map(|peer| peer.0));
        at.map_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED), network)
    }

    /// Counts a call from that address.
    ///
    /// # Errors
    /// `too_many_calls`; the call is not to be made.
    pub fn take_of_address(&self, need: Need, address: IpAddr) -> Result<(), Problem> {
        self.meter(need).take(Whose::Address(address)).map_err(too_many_calls)
    }

    /// Counts a call of that key.
    ///
    /// # Errors
    /// `too_many_calls`; the call is not to be made.
    pub fn take_of_key(&self, need: Need, key_id: i64) -> Result<(), Problem> {
        self.meter(need).take(Whose::Key(key_id)).map_err(too_many_calls)
    }

    /// Counts a sign-in, or a key that did not fit.
    ///
    /// # Errors
    /// `too_many_failures`; that there was a key is not to be told, nor whether it would have fitted.
    pub fn take_failure(&self, address: IpAddr) -> Result<(), Problem> {
        self.failures.take(Whose::Address(address)).map_err(|wait| {
            too_many(
                "too_many_failures",
                "nothing was done: too many keys from this address did not fit, or too many sign-ins were tried",
                wait,
            )
        })
    }

    const fn meter(&self, need: Need) -> &Meter<C> {
        match need {
            Need::Log | Need::Look => &self.pipeline,
            Need::Read | Need::Operate | Need::Act => &self.others,
        }
    }
}

fn too_many_calls(wait: Duration) -> Problem {
    too_many(
        "too_many_calls",
        "nothing was done: this key, or this address, calls more often than it may; docs/security.md names the settings",
        wait,
    )
}

fn too_many(code: &'static str, why: &str, wait: Duration) -> Problem {
    let seconds = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
    let seconds = seconds.max(1);
    let detail = format!("{why}. Every call is safe to repeat; try again in {seconds} s");
    Problem::new(StatusCode::TOO_MANY_REQUESTS, code, detail)
        .with_header(header::RETRY_AFTER, HeaderValue::from(seconds))
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::response::IntoResponse as _;
    use governor::clock::FakeRelativeClock;

    const HERE: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));
    const THERE: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 2));

    fn measured(behind_proxy: bool) -> (Limits<FakeRelativeClock>, FakeRelativeClock) {
        let number = |number| NonZeroU32::new(number).unwrap();
        let limits = CallLimits {
            pipeline_per_second: number(4),
            others_per_second: number(2),
            failures_per_minute: number(3),
            behind_proxy,
        };
        let clock = FakeRelativeClock::default();
        (Limits::by(limits, clock.clone()), clock)
    }

    /// How many of ten calls get through, and what the last one is told.
    fn ten(
        mut call: impl FnMut() -> Result<(), Problem>,
    ) -> (usize, Option<(&'static str, String)>) {
        let answers: Vec<_> = (0..10).map(|_| call()).collect();
        let through = answers.iter().filter(|answer| answer.is_ok()).count();
        let last = answers.into_iter().next_back().and_then(Result::err).map(|problem| {
            let code = problem.code();
            let response = problem.into_response();
            assert_eq!(response.status(), 429);
            (code, response.headers()[header::RETRY_AFTER].to_str().unwrap().to_owned())
        });
        (through, last)
    }

    #[test]
    fn each_key_and_each_address_has_its_own_measure_which_fills_again() {
        let (limits, clock) = measured(false);
        let told = |code, wait: &str| Some((code, wait.to_owned()));
        let calls = told("too_many_calls", "1");
        assert_eq!(ten(|| limits.take_of_key(Need::Log, 1)), (4, calls.clone()));
        assert_eq!(
            ten(|| limits.take_of_key(Need::Look, 1)),
            (0, calls.clone()),
            "the same measure"
        );
        assert_eq!(ten(|| limits.take_of_key(Need::Read, 1)), (2, calls.clone()));
        assert_eq!(ten(|| limits.take_of_key(Need::Operate, 1)), (0, calls.clone()));
        assert_eq!(ten(|| limits.take_of_key(Need::Log, 2)), (4, calls.clone()));
        assert_eq!(ten(|| limits.take_of_address(Need::Act, HERE)), (2, calls.clone()));
        assert_eq!(ten(|| limits.take_of_address(Need::Act, THERE)), (2, calls.clone()));
        clock.advance(Duration::from_millis(500));
        assert_eq!(ten(|| limits.take_of_key(Need::Log, 1)).0, 2, "half of it in half the time");
        assert_eq!(ten(|| limits.take_of_address(Need::Read, HERE)).0, 1);

        let failures = told("too_many_failures", "20");
        assert_eq!(ten(|| limits.take_failure(HERE)), (3, failures.clone()));
        assert_eq!(ten(|| limits.take_failure(THERE)), (3, failures));
        clock.advance(Duration::from_secs(20));
        assert_eq!(ten(|| limits.take_failure(HERE)).0, 1);
    }

    #[test]
    fn an_address_is_the_peers_unless_a_proxy_of_ours_says_another() {
        let (plain, _) = measured(false);
        let (proxied, _) = measured(true);
        let peer = Peer("192.0.2.1".parse().unwrap());
        let mut headers = HeaderMap::new();
        headers.append(FORWARDED_FOR, HeaderValue::from_static("10.0.0.1"));
        headers.append(FORWARDED_FOR, HeaderValue::from_static("203.0.113.9, 192.0.2.2"));
        assert_eq!(plain.address(Some(&peer), &headers), HERE, "a caller may write what it likes");
        assert_eq!(proxied.address(Some(&peer), &headers), THERE, "the last is the proxy's own");
        assert_eq!(proxied.address(Some(&peer), &HeaderMap::new()), HERE);
        headers.append(FORWARDED_FOR, HeaderValue::from_static("unknown"));
        assert_eq!(proxied.address(Some(&peer), &headers), HERE);
        assert_eq!(plain.address(None, &headers), IpAddr::V4(Ipv4Addr::UNSPECIFIED));
    }

    #[test]
    fn a_network_of_ipv6_is_one_address_and_a_mapped_one_is_what_it_carries() {
        let (limits, _) = measured(false);
        let at = |text: &str| limits.address(Some(&Peer(text.parse().unwrap())), &HeaderMap::new());
        assert_eq!(at("2606:4700:1:2:3:4:5:6"), at("2606:4700:1:2::"));
        assert_ne!(at("2606:4700:1:2::1"), at("2606:4700:1:3::1"));
        assert_eq!(at("::ffff:192.0.2.1"), HERE);
    }

    #[test]
    fn what_has_filled_again_is_forgotten() {
        let (limits, clock) = measured(false);
        let from = |n: u32| IpAddr::V4(Ipv4Addr::from_bits(n));
        for n in 0..SWEEP_EVERY - 1 {
            assert!(limits.take_of_address(Need::Read, from(n)).is_ok());
        }
        assert_eq!(limits.others.buckets.len(), SWEEP_EVERY as usize - 1);
        clock.advance(Duration::from_secs(2));
        assert!(limits.take_of_address(Need::Read, from(7)).is_ok());
        assert_eq!(limits.others.buckets.len(), 1);
    }
}
