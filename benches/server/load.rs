//! The load: raw HTTP/1.1 on connections that stay open, requests made beforehand, one thread.
//!
//! An open load sends at a fixed rate whatever the server does, and measures each latency from the moment
//! at which the request was to be sent. So a server that stalls pays for every request that it held up,
//! and not only for the ones that happened to be under way.

use std::collections::VecDeque;
use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use rustix::event::epoll;
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create,
    timerfd_settime,
};

use super::Outcome;

/// How long answers that are still missing at the end are waited for.
const LAST_ANSWERS: Duration = Duration::from_secs(20);
const TIMER: u64 = u64::MAX;

/// When requests are sent.
#[derive(Debug, Clone, Copy)]
pub enum Pace {
    /// That many a second, evenly, for so long.
    Open { rate: f64, span: Duration },
    /// As fast as the answers come, for so long.
    Closed { span: Duration },
    /// As fast as the answers come, that many.
    Count { requests: u64 },
}

/// What came of a load.
pub struct Measured {
    /// Latencies in nanoseconds.
    pub latency: Histogram<u64>,
    /// Answers other than 200, and the first of them.
    pub refused: u64,
    pub first_refusal: String,
    /// From the first request to the last answer.
    pub took: Duration,
}

impl Measured {
    /// Good answers a second.
    pub fn rate(&self) -> f64 {
        (self.latency.len() as f64) / self.took.as_secs_f64()
    }

    /// A latency in milliseconds.
    pub fn milliseconds(&self, quantile: f64) -> f64 {
        self.latency.value_at_quantile(quantile) as f64 / 1e6
    }

    /// An error unless every answer was good.
    pub fn checked(self) -> Outcome<Self> {
        if self.refused == 0 {
            return Ok(self);
        }
        Err(format!(
            "{} requests were refused, the first with {}",
            self.refused, self.first_refusal
        )
        .into())
    }
}

struct Connection {
    stream: TcpStream,
    /// When the request under way was to be sent.
    intended: Instant,
    sending: Vec<u8>,
    sent: usize,
    answer: Vec<u8>,
}

/// Sends requests to a server; `write` appends the bytes of the n-th one.
pub fn run(
    address: SocketAddr,
    connections: usize,
    pace: Pace,
    write: &mut dyn FnMut(u64, &mut Vec<u8>),
) -> Outcome<Measured> {
    // The kernel may otherwise wake this thread 50 µs late.
    let _ = rustix::thread::set_current_timer_slack(std::num::NonZeroU64::new(1));
    let mut load = Load::open(address, connections, pace)?;
    load.drive(write)?;
    Ok(Measured {
        latency: load.latency,
        refused: load.refused,
        first_refusal: load.first_refusal,
        took: load.last_answer - load.began,
    })
}

struct Load {
    poll: OwnedFd,
    timer: OwnedFd,
    connections: Vec<Connection>,
    /// Taken in turns: the server closes a connection on which nothing comes for long.
    free: VecDeque<usize>,
    pace: Pace,
    next: u64,
    began: Instant,
    last_answer: Instant,
    latency: Histogram<u64>,
    refused: u64,
    first_refusal: String,
}

impl Load {
    fn open(address: SocketAddr, connections: usize, pace: Pace) -> Outcome<Self> {
        let poll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        let timer = timerfd_create(TimerfdClockId::Monotonic, TimerfdFlags::NONBLOCK)?;
        epoll::add(&poll, &timer, epoll::EventData::new_u64(TIMER), epoll::EventFlags::IN)?;
        let began = Instant::now();
        let mut all = Vec::with_capacity(connections);
        for place in 0..connections {
            let stream = TcpStream::connect(address)?;
            stream.set_nodelay(true)?;
            stream.set_nonblocking(true)?;
            let place = epoll::EventData::new_u64(u64::try_from(place)?);
            epoll::add(&poll, &stream, place, epoll::EventFlags::IN)?;
            let answer = Vec::with_capacity(8 << 10);
            all.push(Connection { stream, intended: began, sending: Vec::new(), sent: 0, answer });
        }
        let began = Instant::now();
        Ok(Self {
            poll,
            timer,
            free: (0..connections).collect(),
            connections: all,
            pace,
            next: 0,
            began,
            last_answer: began,
            latency: Histogram::new_with_bounds(1, 120_000_000_000, 3)?,
            refused: 0,
            first_refusal: String::new(),
        })
    }

    /// When the next request is to be sent; none when there is no further one.
    fn next_at(&self) -> Option<Instant> {
        match self.pace {
            Pace::Open { rate, span } => {
                let after = Duration::from_secs_f64(self.next as f64 / rate);
                (after < span).then(|| self.began + after)
            }
            Pace::Closed { span } => {
                let now = Instant::now();
                (now < self.began + span).then_some(now)
            }
            Pace::Count { requests } => (self.next < requests).then(Instant::now),
        }
    }

    fn drive(&mut self, write: &mut dyn FnMut(u64, &mut Vec<u8>)) -> Outcome<()> {
        let mut events = vec![
            epoll::Event {
                flags: epoll::EventFlags::empty(),
                data: epoll::EventData::new_u64(0)
            };
            self.connections.len() + 1
        ];
        let mut give_up = None;
        loop {
            let next_at = self.send_what_is_due(write)?;
            let all_answered = self.free.len() == self.connections.len();
            if next_at.is_none() && all_answered {
                return Ok(());
            }
            if next_at.is_none() {
                let give_up = *give_up.get_or_insert_with(|| Instant::now() + LAST_ANSWERS);
                if Instant::now() > give_up {
                    return Err("some requests were never answered".into());
                }
            }
            self.set_timer(next_at)?;
            let seen = match epoll::wait(&self.poll, events.as_mut_slice(), None) {
                Err(rustix::io::Errno::INTR) => 0,
                seen => seen?,
            };
            for event in events.iter().take(seen) {
                match event.data.u64() {
                    TIMER => {
                        let mut expirations = [0; 8];
                        let _ = rustix::io::read(&self.timer, &mut expirations);
                    }
                    place => self.receive(usize::try_from(place)?)?,
                }
            }
        }
    }

    /// Sends until nothing is due or no connection is free. Returns when the next one is due.
    fn send_what_is_due(
        &mut self,
        write: &mut dyn FnMut(u64, &mut Vec<u8>),
    ) -> Outcome<Option<Instant>> {
        loop {
            let Some(at) = self.next_at() else { return Ok(None) };
            if at > Instant::now() {
                return Ok(Some(at));
            }
            let Some(place) = self.free.pop_front() else { return Ok(Some(at)) };
            let number = self.next;
            self.next += 1;
            if let Some(connection) = self.connections.get_mut(place) {
                connection.intended = at;
                connection.sending.clear();
                connection.sent = 0;
                write(number, &mut connection.sending);
                connection.send()?;
            }
        }
    }

    /// Wakes the wait when the next request is due; where none is free, an answer wakes it first.
    fn set_timer(&self, next_at: Option<Instant>) -> Outcome<()> {
        let wait = match next_at {
            Some(at) if !self.free.is_empty() => at.saturating_duration_since(Instant::now()),
            _ => Duration::from_secs(1),
        };
        // Zero would switch the timer off.
        let wait = wait.max(Duration::from_nanos(1));
        let at = Itimerspec {
            it_interval: Timespec { tv_sec: 0, tv_nsec: 0 },
            it_value: Timespec::try_from(wait)?,
        };
        timerfd_settime(&self.timer, TimerfdTimerFlags::empty(), &at)?;
        Ok(())
    }

    fn receive(&mut self, place: usize) -> Outcome<()> {
        let Some(connection) = self.connections.get_mut(place) else { return Ok(()) };
        if connection.sent < connection.sending.len() {
            connection.send()?;
        }
        let Some(good) = connection.receive()? else { return Ok(()) };
        let now = Instant::now();
        self.last_answer = now;
        if good {
            let nanoseconds = (now - connection.intended).as_nanos();
            self.latency.saturating_record(u64::try_from(nanoseconds).unwrap_or(u64::MAX));
        } else {
            self.refused += 1;
            if self.first_refusal.is_empty() {
                self.first_refusal = String::from_utf8_lossy(&connection.answer).into_owned();
            }
        }
        connection.answer.clear();
        self.free.push_back(place);
        Ok(())
    }
}

impl Connection {
    fn send(&mut self) -> Outcome<()> {
        while let Some(rest) = self.sending.get(self.sent..).filter(|rest| !rest.is_empty()) {
            match self.stream.write(rest) {
                Ok(sent) => self.sent += sent,
                // Large bodies: the server reads on meanwhile.
                Err(error) if error.kind() == ErrorKind::WouldBlock => std::thread::yield_now(),
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    /// Reads what is there: whether the answer was good, once it is whole.
    fn receive(&mut self) -> Outcome<Option<bool>> {
        let mut chunk = [0; 16 << 10];
        match self.stream.read(&mut chunk) {
            Ok(0) => return Err("the server closed a connection".into()),
            Ok(read) => self.answer.extend_from_slice(chunk.get(..read).unwrap_or_default()),
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(None),
            Err(error) => return Err(error.into()),
        }
        let Some(head_end) = self.answer.windows(4).position(|bytes| bytes == b"\r\n\r\n") else {
            return Ok(None);
        };
        let head = self.answer.get(..head_end).unwrap_or_default();
        let whole = head_end + 4 + content_length(head).ok_or("an answer without a length")?;
        Ok((self.answer.len() >= whole).then(|| self.answer.starts_with(b"HTTP/1.1 200")))
    }
}

fn content_length(head: &[u8]) -> Option<usize> {
    const NAME: &[u8] = b"content-length:";
    let line = head
        .split(|byte| *byte == b'\n')
        .find(|line| line.get(..NAME.len()).is_some_and(|name| name.eq_ignore_ascii_case(NAME)))?;
    std::str::from_utf8(line.get(NAME.len()..)?).ok()?.trim().parse().ok()
}
