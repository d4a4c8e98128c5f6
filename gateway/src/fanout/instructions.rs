//! What one delivery costs in instructions: encode, hub, queue, frame. `scripts/instructions.sh`
//! runs this under callgrind, which counts the same on a noisy machine.

use std::{
    hint::black_box,
    io::{self, IoSlice},
    task::{Context, Poll},
    time::Duration,
};

use broker_backends::EmbeddedOptions;
use broker_core::{
    Data, MessageId,
    message::{JsonText, Timestamp},
};
use broker_protocol::socketio::{Namespace, Parser};

use super::*;
use crate::{
    dialect::{Encoding, Form, Framing, Space},
    profile::Profile,
    socket::Socket,
};

const SUBSCRIBERS: u32 = 1_000;
const PAYLOAD: usize = 128;

/// Takes everything, at no cost.
#[derive(Debug)]
struct Sink;

impl Socket for Sink {
    fn try_write_vectored(&self, parts: &[IoSlice<'_>]) -> io::Result<usize> {
        Ok(parts.iter().map(|part| part.len()).sum())
    }

    fn try_read(&self, _: &mut [u8]) -> io::Result<usize> {
        Err(io::ErrorKind::WouldBlock.into())
    }

    fn poll_write_ready(&self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_read_ready(&self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Pending
    }

    fn finish(&self) {}
}

/// Subscribers, spread evenly over the channels.
async fn fanout(channels: &[Interest], encoding: &Encoding) -> Fanout {
    let backends = broker_backends::embedded(&EmbeddedOptions::default()).await;
    let hub = Arc::new(Hub::new(backends.bus, Duration::ZERO));
    for (id, interest) in (0..u128::from(SUBSCRIBERS)).zip(channels.iter().cycle()) {
        let outbox = Outbox::new(ConnectionId(id << 64), Box::new(Sink), 1 << 20);
        let outbox = Arc::new(outbox.with_encoding(encoding.clone()));
        hub.add(&outbox);
        hub.deliver(interest.clone(), outbox);
    }
    Fanout {
        hub,
        metrics: Arc::new(Metrics::new(["venue".to_owned()]).unwrap()),
        tracing: Arc::new(Tracing::disabled()),
        compression: None,
        tells_all: true,
    }
}

fn channels(count: usize) -> Vec<Interest> {
    (0..count).map(|n| Interest::Channel(format!("venue:{n}").parse().unwrap())).collect()
}

fn message(interest: &Interest) -> Inbound {
    let Interest::Channel(channel) = interest else { unreachable!("channels only") };
    let json = format!("\"{}\"", "x".repeat(PAYLOAD - 2));
    let message = Message {
        id: MessageId::random(1),
        channel: channel.clone(),
        event: None,
        data: Data::Json(JsonText::from_checked(Bytes::from(json))),
        time: Timestamp(clock::wall().0),
        stored: None,
        options: None,
    };
    Inbound { event: BusEvent::Message { via: interest.clone(), message }, handled: None }
}

/// callgrind counts what happens in here, and nothing else.
#[inline(never)]
fn measured(fanout: &Fanout, batch: &[Inbound], touched: &mut Touched) -> u64 {
    fanout.deliver(black_box(batch), touched)
}

/// Warms up without being counted, then delivers once.
async fn deliver_once(channels: &[Interest], batch: &[Inbound]) {
    deliver_once_as(&Encoding::Plain, channels, batch).await;
}

async fn deliver_once_as(encoding: &Encoding, channels: &[Interest], batch: &[Inbound]) {
    let fanout = fanout(channels, encoding).await;
    let mut touched = Touched::default();
    let expected = (batch.len() * SUBSCRIBERS as usize / channels.len()) as u64;
    assert_eq!(fanout.deliver(batch, &mut touched), expected);
    assert_eq!(measured(&fanout, batch, &mut touched), expected);
}

#[tokio::test]
#[ignore = "scripts/instructions.sh runs it under callgrind"]
async fn one_message_to_1000_subscribers() {
    let channels = channels(1);
    deliver_once(&channels, &[message(&channels[0])]).await;
}

#[tokio::test]
#[ignore = "scripts/instructions.sh runs it under callgrind"]
async fn a_batch_of_64_to_1000_subscribers() {
    let channels = channels(1);
    let batch: Vec<_> = (0..64).map(|_| message(&channels[0])).collect();
    deliver_once(&channels, &batch).await;
}

#[tokio::test]
#[ignore = "scripts/instructions.sh runs it under callgrind"]
async fn a_message_to_each_of_1000_channels() {
    let channels = channels(SUBSCRIBERS as usize);
    let batch: Vec<_> = channels.iter().map(message).collect();
    deliver_once(&channels, &batch).await;
}

#[tokio::test]
#[ignore = "scripts/instructions.sh runs it under callgrind"]
async fn one_message_to_1000_socketio_subscribers() {
    let channels = channels(1);
    deliver_once_as(&socketio(), &channels, &[message(&channels[0])]).await;
}

#[tokio::test]
#[ignore = "scripts/instructions.sh runs it under callgrind"]
async fn a_batch_of_64_to_1000_socketio_subscribers() {
    let channels = channels(1);
    let batch: Vec<_> = (0..64).map(|_| message(&channels[0])).collect();
    deliver_once_as(&socketio(), &channels, &batch).await;
}

/// As clients of Socket.IO have it who are shown the face that there is without a profile.
fn socketio() -> Encoding {
    let face = Arc::clone(&Profile::built_in().faces["default"]);
    let space = Space { namespace: Namespace::MAIN, parser: Parser::Json, recovery: None };
    Encoding::Framed(Arc::new(Framing {
        form: Form::SocketIo(space),
        face: face.into(),
        echo: false,
    }))
}
