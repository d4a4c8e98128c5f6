//! One connection: from dialling to its end.

use std::{
    io::{self, Read as _, Write as _},
    mem,
};

use broker_protocol::ws::{Opcode, frame::client_frame};
use bytes::{Buf as _, BytesMut};
use mio::net::TcpStream;
use socket2::SockRef;

use super::{
    dial::{self, Answer, Endpoint},
    inflate::{Deflate, Inflater},
    recorder::{Recorder, Stream, Tallies},
    scanner::{Frame, Scanner},
};
use crate::{
    failure::Failure,
    target::{Awaited, Channel, Client, Meaning, Publication, Target},
};

/// What we mask with. The masking protects proxies from scripts in browsers; here is neither.
const MASK: [u8; 4] = [0; 4];

/// What is received goes through this.
pub(super) struct World<'a> {
    pub(super) target: &'a Target,
    pub(super) endpoint: &'a Endpoint,
    pub(super) offers_deflate: bool,
    pub(super) recorder: &'a mut Recorder,
    pub(super) streams: &'a mut [Stream],
    pub(super) refusals: &'a mut Refusals,
    pub(super) inflater: &'a mut Inflater,
    pub(super) now: u64,
    /// Whether clients keep account of where they stand.
    pub(super) recovers: bool,
    pub(super) learned: Learned,
}

/// What the server told a client of itself.
#[derive(Debug, Default)]
pub(super) struct Learned {
    session: Option<String>,
    place: Option<String>,
    after: Option<u64>,
    /// Whether it goes on where it was, if it came back.
    pub(super) recovered: Option<bool>,
}

impl Learned {
    /// Has the client know it.
    pub(super) fn teach(self, client: &mut Client) {
        let Self { session, place, after, recovered: _ } = self;
        client.session = session.or_else(|| client.session.take());
        client.place = place.or_else(|| client.place.take());
        client.after = after.or(client.after);
    }
}

/// What the server refused after the connections were up.
#[derive(Debug, Default)]
pub(crate) struct Refusals {
    pub(crate) count: u64,
    pub(crate) first: Option<String>,
}

/// Why a connection is over; code 0 if no close frame came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct End {
    pub(crate) code: u16,
    pub(crate) why: String,
}

impl End {
    fn without_code(why: impl Into<String>) -> Self {
        Self { code: 0, why: why.into() }
    }
}

impl From<io::Error> for End {
    fn from(error: io::Error) -> Self {
        Self::without_code(error.to_string())
    }
}

/// How far a connection is.
#[derive(Debug)]
enum Stage {
    Dialling,
    /// With what has come of the answer's head.
    Upgrading(Vec<u8>),
    Greeting,
    Subscribing,
    Live,
}

#[derive(Debug)]
pub(crate) struct Link {
    stream: TcpStream,
    scanner: Scanner,
    session: Session,
    pub(super) dialled_at: u64,
}

/// All of a connection but its socket.
#[derive(Debug)]
struct Session {
    stage: Stage,
    out: BytesMut,
    /// Frames sent, for protocols that number them.
    number: u64,
    deflate: Deflate,
}

impl Link {
    pub(super) fn new(stream: TcpStream, dialled_at: u64) -> Self {
        let (stage, out, deflate) = (Stage::Dialling, BytesMut::new(), Deflate::Off);
        let session = Session { stage, out, number: 0, deflate };
        Self { stream, scanner: Scanner::default(), session, dialled_at }
    }

    pub(super) fn set_receive_buffer(&self, bytes: usize) -> Result<(), Failure> {
        SockRef::from(&self.stream)
            .set_recv_buffer_size(bytes)
            .map_err(Failure::io("a receive buffer cannot be set"))
    }

    pub(super) const fn is_compressed(&self) -> bool {
        !matches!(self.session.deflate, Deflate::Off)
    }

    pub(super) const fn is_live(&self) -> bool {
        matches!(self.session.stage, Stage::Live)
    }

    /// Bytes that the socket has not taken.
    pub(super) fn unsent(&self) -> usize {
        self.session.out.len()
    }

    pub(super) fn writable(&mut self, client: &Client, world: &World<'_>) -> Result<(), End> {
        if matches!(self.session.stage, Stage::Dialling) {
            if let Some(error) = self.stream.take_error()? {
                return Err(error.into());
            }
            if self.stream.peer_addr().is_err() {
                return Ok(()); // not yet
            }
            let Endpoint { host, path, .. } = world.endpoint;
            let path = world.target.path(client, path);
            let mut headers = world.target.headers(client);
            if world.offers_deflate {
                headers += dial::DEFLATE_OFFER;
            }
            let request = dial::request(host, &path, &headers);
            self.session.out.extend_from_slice(request.as_bytes());
            self.session.stage = Stage::Upgrading(Vec::new());
        }
        self.flush()
    }

    /// Reads all that is there.
    pub(super) fn readable(
        &mut self,
        buffer: &mut [u8],
        client: &Client,
        tallies: &mut Tallies,
        world: &mut World<'_>,
    ) -> Result<usize, End> {
        let mut total = 0;
        loop {
            let length = match self.stream.read(buffer) {
                Ok(0) => return Err(End::without_code("the server closed without a close frame")),
                Ok(length) => length,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error.into()),
            };
            total += length;
            self.receive(&buffer[..length], client, tallies, world)?;
            // A short read has emptied the socket: what comes later makes a new event.
            if length < buffer.len() {
                break;
            }
        }
        if self.unsent() > 0 {
            self.flush()?;
        }
        Ok(total)
    }

    fn receive(
        &mut self,
        bytes: &[u8],
        client: &Client,
        tallies: &mut Tallies,
        world: &mut World<'_>,
    ) -> Result<(), End> {
        let Stage::Upgrading(head) = &mut self.session.stage else {
            return self.scan(bytes, client, tallies, world);
        };
        head.extend_from_slice(bytes);
        match dial::answer(head) {
            Answer::Incomplete => Ok(()),
            Answer::Refused(why) => Err(End::without_code(why)),
            Answer::Upgraded { head: length, extensions } => {
                self.session.deflate = Deflate::accepted(&extensions);
                let head = mem::take(head);
                self.session.greet(client, world.target);
                self.scan(&head[length..], client, tallies, world)
            }
        }
    }

    fn scan(
        &mut self,
        bytes: &[u8],
        client: &Client,
        tallies: &mut Tallies,
        world: &mut World<'_>,
    ) -> Result<(), End> {
        let Self { scanner, session, .. } = self;
        let mut end = Ok(());
        let scanned = scanner.scan(bytes, &mut |frame| {
            if end.is_ok() {
                end = session.take(&frame, client, tallies, world);
            }
        });
        end.and(scanned.map_err(|error| End::without_code(format!("bad WebSocket: {error}"))))
    }

    /// Adds the frame that publishes a message; [`Self::flush`] sends it.
    pub(super) fn publish(
        &mut self,
        scratch: &mut Vec<u8>,
        target: &Target,
        (client, channel): (&Client, &Channel),
        message: &[u8],
    ) {
        scratch.clear();
        self.session.number += 1;
        let number = self.session.number;
        target.publish(scratch, &Publication { client, channel, number, message });
        self.session.put(target.opcode(), scratch);
    }

    /// Writes what the socket takes.
    pub(super) fn flush(&mut self) -> Result<(), End> {
        while !self.session.out.is_empty() {
            match self.stream.write(&self.session.out) {
                Ok(length) => self.session.out.advance(length),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error.into()),
            }
        }
        // An idle connection holds no buffer: 15,000 of them would.
        self.session.out = BytesMut::new();
        Ok(())
    }

    /// Says goodbye, as far as the socket takes it.
    pub(super) fn close(mut self) {
        self.session.put(Opcode::Close, &1000_u16.to_be_bytes());
        drop(self.flush());
    }
}

impl Session {
    fn put(&mut self, opcode: Opcode, payload: &[u8]) {
        client_frame(&mut self.out, opcode, true, MASK, payload);
    }

    fn greet(&mut self, client: &Client, target: &Target) {
        for frame in target.greeting(client, &mut self.number) {
            self.put(target.opcode(), &frame);
        }
        self.stage = Stage::Greeting;
        if !target.says_connected() {
            self.connected(client, target);
        }
    }

    fn connected(&mut self, client: &Client, target: &Target) {
        if let Some(frame) = target.subscription(client, &mut self.number) {
            self.put(target.opcode(), &frame);
        }
        let waits = client.channel.is_some() && target.says_subscribed();
        self.stage = if waits { Stage::Subscribing } else { Stage::Live };
    }

    const fn awaited(&self) -> Awaited {
        match self.stage {
            Stage::Greeting => Awaited::Connected,
            Stage::Subscribing => Awaited::Subscribed,
            Stage::Dialling | Stage::Upgrading(_) | Stage::Live => Awaited::Nothing,
        }
    }

    fn take(
        &mut self,
        frame: &Frame<'_>,
        client: &Client,
        tallies: &mut Tallies,
        world: &mut World<'_>,
    ) -> Result<(), End> {
        match frame.opcode {
            Opcode::Text | Opcode::Binary | Opcode::Continuation if frame.compressed => {
                let message = world
                    .inflater
                    .inflate(&mut self.deflate, frame.payload)
                    .ok_or_else(|| End::without_code("a frame that cannot be decompressed"))?;
                let taken = self.take_message(&message, client, tallies, world);
                world.inflater.give_back(message);
                taken
            }
            Opcode::Text | Opcode::Binary | Opcode::Continuation => {
                self.take_message(frame.payload, client, tallies, world)
            }
            Opcode::Ping => {
                self.put(Opcode::Pong, frame.payload);
                Ok(())
            }
            Opcode::Pong => Ok(()),
            Opcode::Close => Err(end_of(frame.payload)),
        }
    }

    fn take_message(
        &mut self,
        message: &[u8],
        client: &Client,
        tallies: &mut Tallies,
        world: &mut World<'_>,
    ) -> Result<(), End> {
        let World { recorder, streams, now, target, .. } = world;
        if recorder.take(message, tallies, streams, *now) == 0 {
            return self.understand(message, client, world);
        }
        if world.recovers
            && let Some(place) = target.place(message)
        {
            world.learned.place = Some(place.to_owned());
        }
        if let Some(answer) = target.answer_beside_messages(message, client) {
            self.put(target.opcode(), &answer);
        }
        Ok(())
    }

    /// A frame without messages.
    fn understand(
        &mut self,
        frame: &[u8],
        client: &Client,
        world: &mut World<'_>,
    ) -> Result<(), End> {
        match (world.target.read(frame, client, self.awaited()), &self.stage) {
            (Meaning::Answer(answer), _) => self.put(world.target.opcode(), &answer),
            (Meaning::Refused(why), Stage::Live) => {
                world.refusals.count += 1;
                world.refusals.first.get_or_insert(why);
            }
            (Meaning::Refused(why), _) => return Err(End::without_code(format!("refused: {why}"))),
            (Meaning::Connected, Stage::Greeting) => {
                self.connected(client, world.target);
                // The same frame may also say that the subscription is live.
                if matches!(self.stage, Stage::Subscribing)
                    && world.target.read(frame, client, Awaited::Subscribed) == Meaning::Subscribed
                {
                    self.stage = Stage::Live;
                }
            }
            (Meaning::Subscribed, Stage::Subscribing) => self.stage = Stage::Live,
            (Meaning::SubscribedAt(place, recovered), Stage::Subscribing) => {
                self.stage = Stage::Live;
                world.learned.place = Some(place);
                world.learned.recovered = recovered;
            }
            (Meaning::ConnectedAs(session, recovered), Stage::Greeting) => {
                world.learned.session = Some(session);
                world.learned.recovered = recovered;
                if recovered == Some(true) {
                    self.stage = Stage::Live;
                } else {
                    self.connected(client, world.target);
                }
            }
            (Meaning::ComeBack(after), _) => world.learned.after = Some(after),
            (
                Meaning::Connected
                | Meaning::ConnectedAs(..)
                | Meaning::Subscribed
                | Meaning::SubscribedAt(..)
                | Meaning::Other,
                _,
            ) => {}
        }
        Ok(())
    }
}

fn end_of(close: &[u8]) -> End {
    match close.split_first_chunk::<2>() {
        Some((code, reason)) => {
            let (code, reason) = (u16::from_be_bytes(*code), String::from_utf8_lossy(reason));
            End { code, why: format!("closed with {code} {reason}") }
        }
        None => End { code: 1005, why: "closed without a code".to_owned() },
    }
}
