//! Publishes as a service does: over HTTP, through whatever is in front of the gateways, again until it is stored.

use std::{
    io::{self, Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
        mpsc::{Receiver, SyncSender, sync_channel},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use serde_json::json;

use crate::{engine::Endpoint, failure::Failure};

/// How many publish at once.
const WORKERS: usize = 8;

/// Messages that wait to be published; beyond it, the schedule waits.
const WAITING: usize = 256;

/// How long an answer may take.
const TIMEOUT: Duration = Duration::from_secs(5);

/// Between an attempt that failed and the next.
const PAUSE: Duration = Duration::from_millis(100);

/// How often a message is tried: for half a minute or longer.
const ATTEMPTS: u32 = 300;

/// A longer answer is none that a publish gets.
const MAX_ANSWER: usize = 64 * 1024;

/// Threads that publish, each one message after the other, and each its share of the channels: so their order is kept.
#[derive(Debug)]
pub(super) struct Publisher {
    workers: Vec<Worker>,
    counts: Arc<Counts>,
    given: u64,
}

#[derive(Debug)]
struct Worker {
    jobs: SyncSender<String>,
    thread: JoinHandle<Result<(), Failure>>,
}

#[derive(Debug, Default)]
struct Counts {
    stored: AtomicU64,
    repeated: AtomicU64,
}

impl Publisher {
    pub(super) fn start(endpoint: &Endpoint, key: &str) -> Self {
        let counts = Arc::new(Counts::default());
        let worker = |_| {
            let (jobs, todo) = sync_channel(WAITING);
            let mut api = Api::new(endpoint, key);
            let count = Arc::clone(&counts);
            Worker { jobs, thread: thread::spawn(move || api.publish_all(&todo, &count)) }
        };
        Self { workers: (0..WORKERS).map(worker).collect(), counts: Arc::clone(&counts), given: 0 }
    }

    /// Whether another message would be taken now.
    pub(super) fn has_room(&self) -> bool {
        self.waiting() < WAITING as u64
    }

    /// Messages that are not stored yet.
    pub(super) fn waiting(&self) -> u64 {
        self.given - self.counts.stored.load(Relaxed)
    }

    /// Attempts that had to be made again.
    pub(super) fn repeated(&self) -> u64 {
        self.counts.repeated.load(Relaxed)
    }

    /// Has this published to a channel, of which the number is also given. Fails if publishing came to an end before.
    pub(super) fn publish(
        &mut self,
        (number, channel): (usize, &str),
        message: &[u8],
    ) -> Result<(), Failure> {
        let data = String::from_utf8_lossy(message);
        let stamp = &data[..crate::stamp::LENGTH];
        let body = json!({ "channel": channel, "id": stamp, "data": data }).to_string();
        // There is room: fewer wait in all than one thread takes.
        if self.workers[number % WORKERS].jobs.try_send(body).is_err() {
            self.end()?;
            return Err(Failure::Server("publishing has ended".to_owned()));
        }
        self.given += 1;
        Ok(())
    }

    /// Waits for the last ones, and says what went wrong.
    pub(super) fn end(&mut self) -> Result<(), Failure> {
        for Worker { jobs, thread } in self.workers.drain(..) {
            drop(jobs);
            let panicked = |_| Err(Failure::Server("a publishing thread has panicked".to_owned()));
            thread.join().unwrap_or_else(panicked)?;
        }
        Ok(())
    }
}

/// The HTTP API, over one connection at a time.
struct Api {
    address: SocketAddr,
    head: String,
    connection: Option<TcpStream>,
}

impl Api {
    fn new(endpoint: &Endpoint, key: &str) -> Self {
        let head = format!(
            "POST /v1/publish HTTP/1.1\r\nHost: {}\r\nX-API-Key: {key}\r\n\
             Content-Type: application/json\r\nContent-Length: ",
            endpoint.host
        );
        Self { address: endpoint.address, head, connection: None }
    }

    fn publish_all(&mut self, todo: &Receiver<String>, counts: &Counts) -> Result<(), Failure> {
        for body in todo {
            let mut attempts = 0;
            while !self.is_stored(&body)? {
                attempts += 1;
                counts.repeated.fetch_add(1, Relaxed);
                if attempts == ATTEMPTS {
                    return Err(Failure::Server("a message could not be published".to_owned()));
                }
                thread::sleep(PAUSE);
            }
            counts.stored.fetch_add(1, Relaxed);
        }
        Ok(())
    }

    /// Whether this attempt was the last that is needed; fails where another one cannot help.
    fn is_stored(&mut self, body: &str) -> Result<bool, Failure> {
        match self.post(body) {
            Ok(200) => Ok(true),
            Ok(408 | 429 | 500..) | Err(_) => Ok(false),
            Ok(status) => Err(Failure::Server(format!("a publish was answered with {status}"))),
        }
    }

    /// The status of the answer.
    fn post(&mut self, body: &str) -> io::Result<u16> {
        let mut connection = match self.connection.take() {
            Some(connection) => connection,
            None => self.connect()?,
        };
        let request = format!("{}{}\r\n\r\n{body}", self.head, body.len());
        connection.write_all(request.as_bytes())?;
        let answer = Answer::read(&mut connection)?;
        self.connection = answer.stays_open.then_some(connection);
        Ok(answer.status)
    }

    fn connect(&self) -> io::Result<TcpStream> {
        let connection = TcpStream::connect_timeout(&self.address, TIMEOUT)?;
        connection.set_nodelay(true)?;
        connection.set_read_timeout(Some(TIMEOUT))?;
        connection.set_write_timeout(Some(TIMEOUT))?;
        Ok(connection)
    }
}

/// An answer, of which the body has been read.
struct Answer {
    status: u16,
    stays_open: bool,
}

impl Answer {
    fn read(connection: &mut TcpStream) -> io::Result<Self> {
        let mut bytes = Vec::new();
        loop {
            if let Some(answer) = Self::parse(&bytes)? {
                return Ok(answer);
            }
            let mut more = [0; 4096];
            match connection.read(&mut more)? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                length => bytes.extend_from_slice(&more[..length]),
            }
        }
    }

    /// `None` while it is not all there. Without a length, it ends with its connection.
    fn parse(bytes: &[u8]) -> io::Result<Option<Self>> {
        let Some(end) = memchr::memmem::find(bytes, b"\r\n\r\n") else {
            let is_long = bytes.len() > MAX_ANSWER;
            return if is_long { Err(io::ErrorKind::InvalidData.into()) } else { Ok(None) };
        };
        let head = String::from_utf8_lossy(&bytes[..end]).to_ascii_lowercase();
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
        let status = status.ok_or(io::ErrorKind::InvalidData)?;
        let header = |name: &str| {
            let mut headers = head.lines().filter_map(|line| line.split_once(": "));
            headers.find(|(header, _)| *header == name).map(|(_, value)| value.trim())
        };
        let length = header("content-length").and_then(|it| it.parse::<usize>().ok());
        let stays_open = length.is_some() && header("connection") != Some("close");
        let is_whole = bytes.len() >= end + 4 + length.unwrap_or(0);
        Ok(is_whole.then_some(Self { status, stays_open }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_read_to_their_end() {
        let read = |text: &str| {
            Answer::parse(text.as_bytes()).unwrap().map(|it| (it.status, it.stays_open))
        };
        assert_eq!(read("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{"), None);
        assert_eq!(read("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"), Some((200, true)));
        let closed = "HTTP/1.1 503 Busy\r\nConnection: close\r\nContent-Length: 0\r\n\r\n";
        assert_eq!(read(closed), Some((503, false)));
        assert_eq!(read("HTTP/1.1 502 Bad\r\n\r\n"), Some((502, false)));
        assert!(Answer::parse(b"HTTP/1.1\r\n\r\n").is_err());
    }
}
