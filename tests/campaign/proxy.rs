//! Between a replica and PostgreSQL: a proxy that reads the wire as it passes, counts the statements that are points,
//! and stops at the armed one.
//!
//! It knows of the protocol what it needs: the frames, which statement a prepared name stands for, and that every
//! `Sync` and every simple query is answered by one `ReadyForQuery`, at which its work is done and, outside a
//! transaction, committed.

use std::collections::HashMap;
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::io::{AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::unix::{OwnedReadHalf as ServerReads, OwnedWriteHalf as ServerWrites};
use tokio::net::{TcpListener, TcpStream, UnixStream};
use tokio::sync::Notify;
use tokio::task::JoinHandle;

use super::points::{Gate, Side, Statement, Stop, Verdict};

/// A running proxy of one replica; dropping it closes its port.
pub struct Proxy {
    port: u16,
    accepting: JoinHandle<()>,
    breaks: Arc<Notify>,
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

impl Proxy {
    /// Listens on a free port, before the server behind that socket.
    pub async fn start(socket: PathBuf, gate: Arc<Gate>, replica: usize) -> io::Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let port = listener.local_addr()?.port();
        let breaks = Arc::new(Notify::new());
        let broken = Arc::clone(&breaks);
        let accepting = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let (gate, socket) = (Arc::clone(&gate), socket.clone());
                let broken = Arc::clone(&broken);
                tokio::spawn(async move {
                    // A connection that breaks is what this is for; there is nobody to tell.
                    tokio::select! {
                        _ended = serve(client, socket, gate, replica) => {}
                        () = broken.notified() => {}
                    }
                });
            }
        });
        Ok(Self { port, accepting, breaks })
    }

    /// Breaks every connection, whatever is under way on it.
    pub fn break_all(&self) {
        self.breaks.notify_waiters();
    }

    /// The address for sqlx.
    pub fn url(&self, database: &str) -> String {
        format!("postgres://mathesis@127.0.0.1:{}/{database}?sslmode=disable", self.port)
    }
}

/// What the two directions of a connection share.
#[derive(Default)]
struct Between {
    /// The answer that stops on its way back: the number of its `ReadyForQuery`.
    stops: Mutex<Option<(u64, Stop)>>,
}

impl Between {
    /// Whether the armed answer is still to come, and the stop itself once it is here.
    fn due(&self, readies: u64) -> (bool, Option<Stop>) {
        let mut stops = self.stops.lock().unwrap_or_else(PoisonError::into_inner);
        match stops.as_ref() {
            Some((ready, _)) if readies < *ready => (true, None),
            _ => (false, stops.take().map(|(_, stop)| stop)),
        }
    }
}

async fn serve(
    client: TcpStream,
    socket: PathBuf,
    gate: Arc<Gate>,
    replica: usize,
) -> io::Result<()> {
    client.set_nodelay(true)?;
    let server = UnixStream::connect(socket).await?;
    let (from_client, to_client) = client.into_split();
    let (from_server, to_server) = server.into_split();
    let between = Arc::new(Between::default());
    let forth = Forth {
        gate,
        replica,
        between: Arc::clone(&between),
        prepared: HashMap::new(),
        portals: HashMap::new(),
        wrote: Vec::new(),
        // The server says that it is ready once by itself, after the start.
        readies: 1,
    };
    // Either end, and the other one's halves are dropped with it, which closes both sockets.
    tokio::select! {
        ended = forth.run(from_client, to_server) => ended,
        ended = back(from_server, to_client, &between, replica) => ended,
    }
}

struct Forth {
    gate: Arc<Gate>,
    replica: usize,
    between: Arc<Between>,
    prepared: HashMap<Vec<u8>, Option<Statement>>,
    portals: HashMap<Vec<u8>, Option<Statement>>,
    wrote: Vec<String>,
    readies: u64,
}

impl Forth {
    async fn run(mut self, from: OwnedReadHalf, mut to: ServerWrites) -> io::Result<()> {
        let mut from = BufReader::with_capacity(64 * 1024, from);
        let length = from.read_u32().await?;
        let mut start = vec![0; body_length(length)?];
        from.read_exact(&mut start).await?;
        to.write_all(&length.to_be_bytes()).await?;
        to.write_all(&start).await?;
        loop {
            let (kind, body) = frame(&mut from).await?;
            let mut stop = match self.seen(kind, &body) {
                Some(name) => self.gate.pass(&name),
                None => None,
            };
            if let Some(stop) = stop.take_if(|stop| stop.side == Side::Before)
                && stop.wait(self.replica).await == Verdict::Break
            {
                return Ok(());
            }
            if let Some(stop) = stop {
                let mut stops = self.between.stops.lock().unwrap_or_else(PoisonError::into_inner);
                *stops = Some((self.readies + 1, stop));
            }
            if matches!(kind, b'S' | b'Q') {
                self.readies += 1;
            }
            to.write_all(&head(kind, &body)).await?;
            to.write_all(&body).await?;
        }
    }

    /// The name of the point that a message is, if it is one.
    fn seen(&mut self, kind: u8, body: &[u8]) -> Option<String> {
        match kind {
            b'P' => {
                let (name, rest) = word(body);
                let (sql, _) = word(rest);
                self.prepared.insert(name.to_vec(), Statement::of(&String::from_utf8_lossy(sql)));
                None
            }
            b'B' => {
                let (portal, rest) = word(body);
                let (name, _) = word(rest);
                let statement = self.prepared.get(name).cloned().flatten();
                self.portals.insert(portal.to_vec(), statement);
                None
            }
            b'E' => {
                let (portal, _) = word(body);
                let statement = self.portals.get(portal).cloned().flatten()?;
                Some(self.name(statement))
            }
            b'Q' => {
                let (sql, _) = word(body);
                Statement::of(&String::from_utf8_lossy(sql)).map(|statement| self.name(statement))
            }
            _ => None,
        }
    }

    /// A commit is named by what it commits, or all of them would be one.
    fn name(&mut self, statement: Statement) -> String {
        match statement {
            Statement::Begin => {
                self.wrote.clear();
                "BEGIN".to_owned()
            }
            Statement::Commit => {
                let last = self.wrote.last().map_or("reads alone", String::as_str);
                let name = format!("COMMIT of {} writes, the last {last}", self.wrote.len());
                self.wrote.clear();
                name
            }
            Statement::Rollback => {
                self.wrote.clear();
                "ROLLBACK".to_owned()
            }
            Statement::Writes(name) => {
                if !self.wrote.contains(&name) {
                    self.wrote.push(name.clone());
                }
                name
            }
        }
    }
}

async fn back(
    from: ServerReads,
    mut to: OwnedWriteHalf,
    between: &Between,
    replica: usize,
) -> io::Result<()> {
    let mut from = BufReader::with_capacity(64 * 1024, from);
    let mut readies = 0;
    let mut kept: Vec<u8> = Vec::new();
    loop {
        let (kind, body) = frame(&mut from).await?;
        readies += u64::from(kind == b'Z');
        kept.extend_from_slice(&head(kind, &body));
        kept.extend_from_slice(&body);
        let (waits, due) = between.due(readies);
        // What comes before the awaited end belongs to the same answer.
        if waits {
            continue;
        }
        if let Some(stop) = due
            && stop.wait(replica).await == Verdict::Break
        {
            return Ok(());
        }
        to.write_all(&kept).await?;
        kept.clear();
    }
}

async fn frame<R: AsyncReadExt + Unpin>(from: &mut R) -> io::Result<(u8, Vec<u8>)> {
    let kind = from.read_u8().await?;
    let mut body = vec![0; body_length(from.read_u32().await?)?];
    from.read_exact(&mut body).await?;
    Ok((kind, body))
}

fn body_length(length: u32) -> io::Result<usize> {
    let body = length.checked_sub(4).filter(|body| *body < 1 << 28);
    body.map(|body| body as usize).ok_or_else(|| io::Error::other("no frame is of that length"))
}

fn head(kind: u8, body: &[u8]) -> [u8; 5] {
    let length = u32::try_from(body.len() + 4).unwrap_or(u32::MAX).to_be_bytes();
    [kind, length[0], length[1], length[2], length[3]]
}

/// A text that ends in NUL, and what is behind it.
fn word(bytes: &[u8]) -> (&[u8], &[u8]) {
    let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
    (&bytes[..end], bytes.get(end + 1..).unwrap_or_default())
}
