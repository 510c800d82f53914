//! The few messages of PostgreSQL's protocol needed to make a database, for the wheel may lack
//! psql and this module must not need an async runtime.
//!
//! Source: PostgreSQL documentation, chapter "Frontend/Backend Protocol", version 3.0.

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use super::error::PostgresError;
use super::home::PORT;

const PROTOCOL_VERSION: u32 = 3 << 16;
const REPLY_TIMEOUT: Duration = Duration::from_secs(60);
const MESSAGE_BYTES_MAX: usize = 1 << 20;

const INVALID_CATALOG_NAME: &str = "3D000";
const DUPLICATE_DATABASE: &str = "42P04";

/// Makes `database` unless it is there already, and so proves that the server answers.
///
/// A crash in it leaves either no database or a whole one.
pub(super) fn ensure_database(socket_folder: &Path, database: &str) -> Result<(), PostgresError> {
    let failed = |refusal: Refusal| PostgresError::Query {
        doing: "make the database",
        message: refusal.message,
    };
    match Session::open(socket_folder, database) {
        Ok(_) => return Ok(()),
        Err(refusal) if refusal.code == INVALID_CATALOG_NAME => {}
        Err(refusal) => return Err(failed(refusal)),
    }
    let mut session = Session::open(socket_folder, "postgres").map_err(failed)?;
    let name = database.replace('"', "\"\"");
    match session.run(&format!("CREATE DATABASE \"{name}\"")) {
        Err(refusal) if refusal.code != DUPLICATE_DATABASE => Err(failed(refusal)),
        _ => Ok(()),
    }
}

/// Whether somebody listens on the socket in `socket_folder`.
pub(super) fn answers(socket_folder: &Path) -> io::Result<()> {
    connect(socket_folder).map(drop)
}

/// What the server answered instead of what was wanted.
#[derive(Debug)]
struct Refusal {
    /// The SQLSTATE, empty where the connection itself failed.
    code: String,
    message: String,
}

impl From<io::Error> for Refusal {
    fn from(error: io::Error) -> Self {
        Self { code: String::new(), message: error.to_string() }
    }
}

struct Session<S> {
    stream: S,
}

impl Session<UnixStream> {
    fn open(socket_folder: &Path, database: &str) -> Result<Self, Refusal> {
        let mut session = Self { stream: connect(socket_folder)? };
        session.begin(database)?;
        Ok(session)
    }
}

impl<S: Read + Write> Session<S> {
    fn begin(&mut self, database: &str) -> Result<(), Refusal> {
        let mut body = PROTOCOL_VERSION.to_be_bytes().to_vec();
        for word in ["user", super::ROLE, "database", database] {
            body.extend_from_slice(word.as_bytes());
            body.push(0);
        }
        body.push(0);
        self.send(None, &body)?;
        self.until_ready()
    }

    fn run(&mut self, sql: &str) -> Result<(), Refusal> {
        let mut body = sql.as_bytes().to_vec();
        body.push(0);
        self.send(Some(b'Q'), &body)?;
        self.until_ready()
    }

    fn send(&mut self, kind: Option<u8>, body: &[u8]) -> io::Result<()> {
        let length = u32::try_from(body.len() + 4).map_err(io::Error::other)?;
        let mut message: Vec<u8> = kind.into_iter().collect();
        message.extend_from_slice(&length.to_be_bytes());
        message.extend_from_slice(body);
        self.stream.write_all(&message)
    }

    /// Reads until the server is ready for the next query, keeping the first error on the way.
    fn until_ready(&mut self) -> Result<(), Refusal> {
        let mut refusal = None;
        loop {
            let (kind, body) = match self.receive() {
                Ok(message) => message,
                // After a fatal error the server hangs up; the error is the better story.
                Err(error) => return Err(refusal.unwrap_or_else(|| error.into())),
            };
            match kind {
                b'E' if refusal.is_none() => refusal = Some(parse_error(&body)),
                b'R' if body != [0; 4] => {
                    return Err(io::Error::other("the server asks for a password").into());
                }
                b'Z' => return refusal.map_or(Ok(()), Err),
                _ => {}
            }
        }
    }

    fn receive(&mut self) -> io::Result<(u8, Vec<u8>)> {
        let mut kind = [0_u8; 1];
        let mut length = [0_u8; 4];
        self.stream.read_exact(&mut kind)?;
        self.stream.read_exact(&mut length)?;
        let length = usize::try_from(u32::from_be_bytes(length)).unwrap_or(usize::MAX);
        let body_bytes = length
            .checked_sub(4)
            .filter(|bytes| *bytes <= MESSAGE_BYTES_MAX)
            .ok_or_else(|| io::Error::other("the server sent a message of impossible length"))?;
        let mut body = vec![0_u8; body_bytes];
        self.stream.read_exact(&mut body)?;
        let [kind] = kind;
        Ok((kind, body))
    }
}

fn connect(socket_folder: &Path) -> io::Result<UnixStream> {
    let stream = UnixStream::connect(socket_folder.join(format!(".s.PGSQL.{PORT}")))?;
    stream.set_read_timeout(Some(REPLY_TIMEOUT))?;
    stream.set_write_timeout(Some(REPLY_TIMEOUT))?;
    Ok(stream)
}

/// The fields of an ErrorResponse are a letter and a zero-ended text each.
fn parse_error(body: &[u8]) -> Refusal {
    let field = |letter: u8| {
        body.split(|byte| *byte == 0)
            .find_map(|field| field.strip_prefix(&[letter]))
            .map(|text| String::from_utf8_lossy(text).into_owned())
            .unwrap_or_default()
    };
    Refusal { code: field(b'C'), message: field(b'M') }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Cursor;

    /// A server that has already said everything it is going to say.
    struct Script {
        replies: Cursor<Vec<u8>>,
    }

    impl Read for Script {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            self.replies.read(buffer)
        }
    }

    impl Write for Script {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn ran_against(replies: &[u8]) -> Result<(), Refusal> {
        let stream = Script { replies: Cursor::new(replies.to_vec()) };
        Session { stream }.run("SELECT 1")
    }

    #[test]
    fn a_ready_server_ends_the_query() {
        ran_against(b"C\0\0\0\x0dSELECT 1\0Z\0\0\0\x05I").expect("ready");
    }

    #[test]
    fn an_error_comes_back_with_its_code() {
        let refusal =
            ran_against(b"E\0\0\0\x12C42P04\0Mthere\0\0Z\0\0\0\x05I").expect_err("refused");
        assert_eq!((&*refusal.code, &*refusal.message), ("42P04", "there"));
    }

    #[test]
    fn a_fatal_error_survives_the_hanging_up() {
        let refusal = ran_against(b"E\0\0\0\x12C3D000\0Mthere\0\0").expect_err("refused");
        assert_eq!(refusal.code, "3D000");
    }

    #[test]
    fn nonsense_is_refused_without_reading_on() {
        assert!(ran_against(b"C\xff\xff\xff\xff").is_err());
        assert!(ran_against(b"C\0\0\0\0").is_err());
        assert!(ran_against(b"").is_err());
    }
}
