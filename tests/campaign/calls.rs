//! Claude as the campaign plays it, and the relay before it at which a call can be stopped.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use mathesis::stand_in::claude::{ClaudeStandIn, Reply, StandInSettings};
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

use super::events::{analysis_answer, edit_because};
use super::points::{CALL, Gate, Side, Stop, Verdict};

/// A Claude that finds one pattern a model and improves each document by one line, and counts what it is asked.
pub struct Claude {
    stand_in: ClaudeStandIn,
    asked: Arc<AtomicU64>,
}

impl Claude {
    pub async fn start() -> io::Result<Self> {
        let asked = Arc::new(AtomicU64::new(0));
        let counted = Arc::clone(&asked);
        let settings = StandInSettings { api_key: "sk-test".to_owned(), port: 0 };
        let stand_in = ClaudeStandIn::start(settings, move |request: &Value| {
            counted.fetch_add(1, Ordering::SeqCst);
            answer(request)
        })
        .await?;
        Ok(Self { stand_in, asked })
    }

    /// How many paid calls arrived here.
    pub fn asked(&self) -> u64 {
        self.asked.load(Ordering::SeqCst)
    }

    fn address(&self) -> String {
        self.stand_in.base_url().trim_start_matches("http://").to_owned()
    }
}

fn answer(request: &Value) -> Reply {
    let schema = &request["output_config"]["format"]["schema"]["properties"];
    Reply::Text(if schema.get("patterns").is_some() {
        analysis_answer(&["task-1"]).to_string()
    } else {
        // The second insight is about the second model.
        let insight = if request.to_string().contains("Model: nano-banana.") { "2" } else { "1" };
        edit_because("Name what must stay unchanged.", insight).to_string()
    })
}

/// Between a replica and Claude: passes bytes on, and knows where a request begins and where its answer does.
pub struct Relay {
    port: u16,
    accepting: JoinHandle<()>,
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

impl Relay {
    pub async fn start(claude: &Claude, gate: Arc<Gate>, replica: usize) -> io::Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let port = listener.local_addr()?.port();
        let address = claude.address();
        let accepting = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let (gate, address) = (Arc::clone(&gate), address.clone());
                tokio::spawn(async move {
                    let _broken = relay(client, &address, &gate, replica).await;
                });
            }
        });
        Ok(Self { port, accepting })
    }

    pub fn base_url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }
}

async fn relay(
    mut client: TcpStream,
    address: &str,
    gate: &Gate,
    replica: usize,
) -> io::Result<()> {
    let mut server = TcpStream::connect(address).await?;
    let (mut asked, mut answered) = (vec![0; 64 * 1024], vec![0; 64 * 1024]);
    let mut stops: Option<Stop> = None;
    let mut asking = false;
    loop {
        tokio::select! {
            read = client.read(&mut asked) => {
                let bytes = &asked[..read?];
                if bytes.is_empty() {
                    return Ok(());
                }
                if !asking {
                    asking = true;
                    stops = gate.pass(&named(bytes));
                }
                if let Some(stop) = stops.take_if(|stop| stop.side == Side::Before)
                    && stop.wait(replica).await == Verdict::Break
                {
                    return Ok(());
                }
                server.write_all(bytes).await?;
                if let Some(stop) = stops.take_if(|stop| stop.side == Side::During)
                    && stop.wait(replica).await == Verdict::Break
                {
                    return Ok(());
                }
            }
            read = server.read(&mut answered) => {
                let bytes = &answered[..read?];
                if bytes.is_empty() {
                    return Ok(());
                }
                asking = false;
                if let Some(stop) = stops.take()
                    && stop.wait(replica).await == Verdict::Break
                {
                    return Ok(());
                }
                client.write_all(bytes).await?;
            }
        }
    }
}

/// A call by its path.
fn named(request: &[u8]) -> String {
    let head = String::from_utf8_lossy(&request[..request.len().min(200)]);
    format!("{CALL} {}", head.split_whitespace().nth(1).unwrap_or("without a path"))
}
