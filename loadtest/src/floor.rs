//! The floor: what a delivery costs at least, a system call with a finished frame.
//!
//! Accepts WebSockets and asks for nothing. `/sub/N` subscribes to channel N. What any connection sends is published
//! to the channel that its first eight hexadecimal digits name; the rest is the message. For each subscriber that is
//! one `send(2)` of one frame, or of up to `--group` frames where several are ready. A subscriber whose socket is full
//! is waited for.

use std::{
    collections::HashMap,
    io::{self, Read as _, Write as _},
    process::ExitCode,
};

use broker_protocol::ws::{Decoder, Incoming, Opcode, Role, WsError, handshake};
use bytes::BytesMut;
use mio::{
    Events, Interest, Poll, Token,
    net::{TcpListener, TcpStream},
};
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    io::Errno,
};

use crate::{cli::FloorArguments, failure::Failure};

const LISTENER: Token = Token(usize::MAX);
const BUFFER: usize = 256 * 1024;
const EVENTS: usize = 1024;
const MAX_HEAD: usize = 16 * 1024;
const MAX_MESSAGE: usize = 1 << 20;

/// Digits before a message that name its channel.
const CHANNEL: usize = 8;

/// How long a full socket may stop everything.
const PATIENCE: Timespec = Timespec { tv_sec: 30, tv_nsec: 0 };

#[derive(Debug)]
struct Peer {
    stream: TcpStream,
    state: State,
}

#[derive(Debug)]
enum State {
    Upgrading(Vec<u8>),
    Open(Decoder),
}

/// Frames of one channel that are ready to go out.
#[derive(Debug, Default)]
struct Channel {
    subscribers: Vec<usize>,
    frames: BytesMut,
    count: u32,
}

#[derive(Debug)]
struct Floor {
    poll: Poll,
    listener: TcpListener,
    peers: Vec<Option<Peer>>,
    free: Vec<usize>,
    channels: HashMap<u32, Channel>,
    /// Channels with frames that wait for their group to fill.
    waiting: Vec<u32>,
    group: u32,
}

/// Serves until it is killed.
pub(crate) fn serve(arguments: &FloorArguments) -> Result<ExitCode, Failure> {
    let listen = arguments.listen;
    let mut listener =
        TcpListener::bind(listen).map_err(Failure::io(format!("cannot listen on {listen}")))?;
    let address = listener.local_addr().map_err(Failure::io("no address"))?;
    let poll = Poll::new().map_err(Failure::io("no epoll"))?;
    poll.registry()
        .register(&mut listener, LISTENER, Interest::READABLE)
        .map_err(Failure::io("epoll"))?;
    let mut out = io::stdout().lock();
    writeln!(out, "listening on {address}")
        .and_then(|()| out.flush())
        .map_err(Failure::io("standard output"))?;
    drop(out);
    let (peers, free, channels, waiting) = Default::default();
    let floor = Floor { poll, listener, peers, free, channels, waiting, group: arguments.group };
    floor.run().map_err(Failure::io("the floor"))
}

impl Floor {
    fn run(mut self) -> io::Result<ExitCode> {
        let mut events = Events::with_capacity(EVENTS);
        let mut buffer = vec![0; BUFFER];
        loop {
            match self.poll.poll(&mut events, None) {
                Err(error) if error.kind() != io::ErrorKind::Interrupted => return Err(error),
                _ => {}
            }
            for event in &events {
                match event.token() {
                    LISTENER => self.accept()?,
                    Token(index) if event.is_readable() || event.is_error() => {
                        self.read(index, &mut buffer);
                    }
                    Token(_) => {}
                }
            }
            for number in std::mem::take(&mut self.waiting) {
                self.send(number);
            }
        }
    }

    fn accept(&mut self) -> io::Result<()> {
        loop {
            let mut stream = match self.listener.accept() {
                Ok((stream, _)) => stream,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => continue,
                Err(error) => return Err(error),
            };
            stream.set_nodelay(true)?;
            let index = self.free.pop().unwrap_or(self.peers.len());
            self.poll.registry().register(&mut stream, Token(index), Interest::READABLE)?;
            let peer = Some(Peer { stream, state: State::Upgrading(Vec::new()) });
            if index == self.peers.len() {
                self.peers.push(peer);
            } else {
                self.peers[index] = peer;
            }
        }
    }

    fn read(&mut self, index: usize, buffer: &mut [u8]) {
        loop {
            let Some(peer) = self.peers.get_mut(index).and_then(Option::as_mut) else { return };
            let length = match peer.stream.read(buffer) {
                Ok(0) => return self.drop_peer(index),
                Ok(length) => length,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(_) => return self.drop_peer(index),
            };
            if !self.receive(index, &mut buffer[..length]) {
                return self.drop_peer(index);
            }
            if length < buffer.len() {
                return;
            }
        }
    }

    /// False if the connection is over.
    fn receive(&mut self, index: usize, bytes: &mut [u8]) -> bool {
        let Some(peer) = self.peers[index].as_mut() else { return false };
        match &mut peer.state {
            State::Upgrading(head) => {
                head.extend_from_slice(bytes);
                let Some(end) = memchr::memmem::find(head, b"\r\n\r\n") else {
                    return head.len() < MAX_HEAD;
                };
                let mut head = std::mem::take(head);
                let mut rest = head.split_off(end + 4);
                let Some((answer, channel)) = upgrade(&head) else { return false };
                // A fresh socket has room for an answer.
                let answered =
                    peer.stream.write(answer.as_bytes()).is_ok_and(|it| it == answer.len());
                peer.state = State::Open(Decoder::new(Role::Server, MAX_MESSAGE));
                if let Some(channel) = channel {
                    self.channels.entry(channel).or_default().subscribers.push(index);
                }
                answered && (rest.is_empty() || self.receive(index, &mut rest))
            }
            State::Open(decoder) => {
                // Publishing needs the other peers, so the decoder stays outside meanwhile.
                let mut decoder =
                    std::mem::replace(decoder, Decoder::new(Role::Server, MAX_MESSAGE));
                let goes_on = self.publish_all(&mut decoder, bytes).unwrap_or(false);
                if let Some(peer) = &mut self.peers[index] {
                    peer.state = State::Open(decoder);
                }
                goes_on
            }
        }
    }

    fn publish_all(
        &mut self,
        decoder: &mut Decoder,
        mut bytes: &mut [u8],
    ) -> Result<bool, WsError> {
        while let Some(message) = decoder.next(&mut bytes)? {
            let message = match message {
                Incoming::Text(text) => text.as_bytes(),
                Incoming::Binary(bytes) => bytes,
                Incoming::Ping(_) | Incoming::Pong(_) => continue,
                Incoming::Close(_) => return Ok(false),
            };
            let Some((digits, message)) = message.split_at_checked(CHANNEL) else { continue };
            let number =
                str::from_utf8(digits).ok().and_then(|it| u32::from_str_radix(it, 16).ok());
            let Some(number) = number else { continue };
            let Some(channel) = self.channels.get_mut(&number) else { continue };
            let header = broker_protocol::ws::FrameHeader::server(Opcode::Text, message.len());
            header.encode(&mut channel.frames);
            channel.frames.extend_from_slice(message);
            channel.count += 1;
            if channel.count == self.group {
                self.send(number);
            } else if channel.count == 1 {
                self.waiting.push(number);
            }
        }
        Ok(true)
    }

    fn send(&mut self, number: u32) {
        let Some(channel) = self.channels.get_mut(&number).filter(|it| it.count > 0) else {
            return;
        };
        let mut gone = Vec::new();
        for index in &channel.subscribers {
            let Some(peer) = &mut self.peers[*index] else { continue };
            if write_all(&mut peer.stream, &channel.frames).is_err() {
                gone.push(*index);
            }
        }
        channel.frames.clear();
        channel.count = 0;
        for index in gone {
            self.drop_peer(index);
        }
    }

    fn drop_peer(&mut self, index: usize) {
        if self.peers[index].take().is_some() {
            self.free.push(index);
            for channel in self.channels.values_mut() {
                channel.subscribers.retain(|it| *it != index);
            }
        }
    }
}

fn write_all(stream: &mut TcpStream, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        match stream.write(bytes) {
            Ok(length) => bytes = &bytes[length..],
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => wait_for_room(stream)?,
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

fn wait_for_room(stream: &TcpStream) -> io::Result<()> {
    let mut fds = [PollFd::new(stream, PollFlags::OUT)];
    match poll(&mut fds, Some(&PATIENCE)) {
        Ok(0) => Err(io::ErrorKind::TimedOut.into()),
        Ok(_) | Err(Errno::INTR) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// The answer to an upgrade request, and the channel that its path subscribes to.
fn upgrade(head: &[u8]) -> Option<(String, Option<u32>)> {
    let text = str::from_utf8(head).ok()?;
    let mut lines = text.lines();
    let mut request = lines.next()?.split(' ');
    let (method, path) = (request.next()?, request.next()?);
    let headers = lines.filter_map(|line| {
        line.split_once(':').map(|(name, value)| (name, value.trim().as_bytes()))
    });
    let accept = handshake::accept_upgrade(method, (1, 1), headers).ok()?;
    let answer = format!(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Accept: {accept}\r\n\r\n"
    );
    let channel = match path.strip_prefix("/sub/") {
        Some(number) => Some(number.parse().ok()?),
        None => None,
    };
    Some((answer, channel))
}
