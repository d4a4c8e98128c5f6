//! A floor of a few lines that makes mistakes.

use std::{
    io::{self, Read as _, Write as _},
    net::{TcpListener, TcpStream},
    sync::{Arc, Mutex, PoisonError},
    thread,
};

use broker_protocol::ws::{Decoder, Incoming, Role, frame::text_frame, handshake::accept_upgrade};
use bytes::Bytes;

/// What it does wrong, once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    None,
    /// One subscriber does not get the message.
    DropOne,
    /// All get it twice.
    Double,
    /// All get it after the next one.
    Swap,
}

/// Which message it happens to.
const VICTIM: usize = 7;

/// Digits that name a message's channel.
const CHANNEL: usize = 8;

type Subscribers = Arc<Mutex<Vec<TcpStream>>>;

/// Serves until the test ends; its URL.
pub(crate) fn faulty_server(fault: Fault) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let url = format!("ws://{}", listener.local_addr().expect("its address"));
    let subscribers = Subscribers::default();
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let subscribers = Arc::clone(&subscribers);
            thread::spawn(move || serve(stream, &subscribers, fault));
        }
    });
    url
}

fn serve(mut stream: TcpStream, subscribers: &Subscribers, fault: Fault) -> io::Result<()> {
    let head = read_head(&mut stream)?;
    let mut lines = head.lines();
    let path = lines.next().and_then(|line| line.split(' ').nth(1)).unwrap_or_default();
    let headers = lines.filter_map(|line| {
        line.split_once(':').map(|(name, value)| (name, value.trim().as_bytes()))
    });
    let accept = accept_upgrade("GET", (1, 1), headers).map_err(io::Error::other)?;
    // Subscribed first: the client takes the answer for its subscription.
    if path.starts_with("/sub/") {
        lock(subscribers).push(stream.try_clone()?);
    }
    write!(
        stream,
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Accept: {accept}\r\n\r\n"
    )?;
    publish_all(&mut stream, subscribers, fault)
}

/// Byte by byte, so that what follows the head stays where it is.
fn read_head(stream: &mut TcpStream) -> io::Result<String> {
    let (mut head, mut byte) = (Vec::new(), [0]);
    while !head.ends_with(b"\r\n\r\n") {
        stream.read_exact(&mut byte)?;
        head.push(byte[0]);
    }
    String::from_utf8(head).map_err(io::Error::other)
}

fn publish_all(stream: &mut TcpStream, subscribers: &Subscribers, fault: Fault) -> io::Result<()> {
    let mut decoder = Decoder::new(Role::Server, 1 << 20);
    let (mut buffer, mut number, mut held) = ([0; 4096], 0, None);
    loop {
        let length = stream.read(&mut buffer)?;
        if length == 0 {
            return Ok(());
        }
        let mut input = &mut buffer[..length];
        while let Some(message) = decoder.next(&mut input).map_err(io::Error::other)? {
            let Incoming::Text(text) = message else { return Ok(()) };
            let frame = text_frame(&text.as_bytes()[CHANNEL..]);
            let is_victim = number == VICTIM;
            number += 1;
            match fault {
                Fault::DropOne if is_victim => send(&mut lock(subscribers)[1..], &frame)?,
                Fault::Double if is_victim => {
                    send(&mut lock(subscribers), &frame)?;
                    send(&mut lock(subscribers), &frame)?;
                }
                Fault::Swap if is_victim => held = Some(frame),
                _ => {
                    send(&mut lock(subscribers), &frame)?;
                    if let Some(late) = held.take() {
                        send(&mut lock(subscribers), &late)?;
                    }
                }
            }
        }
    }
}

fn send(subscribers: &mut [TcpStream], frame: &Bytes) -> io::Result<()> {
    subscribers.iter_mut().try_for_each(|subscriber| subscriber.write_all(frame))
}

fn lock(subscribers: &Subscribers) -> std::sync::MutexGuard<'_, Vec<TcpStream>> {
    subscribers.lock().unwrap_or_else(PoisonError::into_inner)
}
