use std::{
    sync::atomic::Ordering,
    task::{Context, Poll, Waker},
};

use broker_core::{
    Interest,
    ports::{BusEvent, GapReason},
};
use tokio::sync::oneshot;

use super::*;
use crate::{
    nats::{mailbox::Mailbox, orders::Order, returns::Returns},
    options::NatsOptions,
};

const WORKERS: usize = 2;
const GAP: &str = "gap";

/// A reader on a connection on which the channel `a` is subscribed.
fn reader() -> Reader {
    let mailboxes = (0..WORKERS).map(|_| Arc::new(Mailbox::new(100))).collect();
    let returns = Returns::new("_INBOX.gateway-0".to_owned());
    let link = Link::new(Duration::from_secs(2), returns, mailboxes, Arc::default());
    let urls = vec!["nats://127.0.0.1:1".to_owned()];
    let dialer = Dialer::new(&NatsOptions::new(urls, "gateway-0".parse().unwrap())).unwrap();
    let mut reader = Reader::new(&link, Arc::new(Subjects::new("fanfare").unwrap()), dialer);
    reader.begin(ServerInfo::default());
    let (done, mut outcome) = oneshot::channel();
    let order = Order::Subscribe(Interest::Channel("a".parse().unwrap()), done, Instant::now());
    reader.subscriptions.carry_out(vec![order], Instant::now(), true);
    reads(&mut reader, "PONG\r\nPONG\r\n").unwrap();
    assert_eq!(outcome.try_recv(), Ok(Ok(())));
    reader
}

fn reads(reader: &mut Reader, text: &str) -> Result<(), Lost> {
    reader.read(&mut text.as_bytes().to_vec())
}

fn message(text: &str) -> String {
    format!("MSG fanfare.ch.a 1 {}\r\n{text}\r\n", text.len())
}

/// What waits for the worker that has the channel; the others get the same gaps.
fn taken(reader: &Reader) -> Vec<String> {
    let cx = Context::from_waker(Waker::noop());
    let mut all = Vec::new();
    for mailbox in &reader.link.shared.mailboxes {
        let mut seen = Vec::new();
        while let Poll::Ready(Some(parcel)) = mailbox.poll_next(&cx) {
            let everywhere = BusEvent::Gap { interest: None, reason: GapReason::Reconnected };
            assert!(parcel.gaps.iter().all(|gap| *gap == everywhere), "{:?}", parcel.gaps);
            seen.extend(parcel.gaps.iter().map(|_| GAP.to_owned()));
            let payloads = parcel.arrivals.iter().map(|it| &parcel.block[it.payload.clone()]);
            seen.extend(payloads.map(|payload| String::from_utf8(payload.to_vec()).unwrap()));
        }
        all.push(seen);
    }
    let channel = all.remove(reader.subscriptions.get(1).unwrap().worker);
    assert!(all[0].iter().eq(channel.iter().filter(|it| *it == GAP)), "{channel:?} {all:?}");
    channel
}

#[tokio::test]
async fn a_gap_is_told_before_what_comes_after_it() {
    let mut reader = reader();
    reads(&mut reader, &message("before")).unwrap();
    reader.end();
    assert_eq!(taken(&reader), ["before"]);
    reader.begin(ServerInfo::default());
    reads(&mut reader, &message("first")).unwrap();
    assert_eq!(taken(&reader), [GAP, "first"]);
    reads(&mut reader, &message("second")).unwrap();
    assert_eq!(taken(&reader), ["second"]);
    reads(&mut reader, "PONG\r\n").unwrap();
    assert_eq!(taken(&reader), [GAP], "something may have been missed until now");
    reads(&mut reader, &message("third")).unwrap();
    assert_eq!(taken(&reader), ["third"]);
}

#[tokio::test]
async fn a_gap_is_told_once_where_nothing_came_before_all_was_there() {
    let mut reader = reader();
    reader.end();
    reader.begin(ServerInfo::default());
    reads(&mut reader, &format!("PONG\r\n{}", message("x"))).unwrap();
    assert_eq!(taken(&reader), [GAP, "x"]);
}

#[tokio::test]
async fn a_gap_is_told_though_not_all_can_be_had_again() {
    let mut reader = reader();
    reader.end();
    assert_eq!(taken(&reader), Vec::<String>::new());
    for _ in 0..2 {
        reader.begin(ServerInfo::default());
        let refusal = reads(&mut reader, "-ERR 'maximum subscriptions exceeded'\r\n");
        assert!(matches!(refusal, Err(Lost::Refused(_))));
        reader.end();
        assert_eq!(taken(&reader), [GAP]);
    }
}

#[tokio::test]
async fn what_came_before_an_error_is_delivered() {
    let mut reader = reader();
    let lost = reads(&mut reader, &format!("{}HTTP/1.1\r\n", message("last")));
    assert!(matches!(lost, Err(Lost::Broken(_))));
    assert_eq!(taken(&reader), ["last"]);
}

#[tokio::test]
async fn a_reader_that_is_gone_does_not_read() {
    let reader = reader();
    let link = reader.link.clone();
    assert!(link.shared.reading.load(Ordering::Relaxed));
    drop(reader);
    assert!(!link.shared.reading.load(Ordering::Relaxed));
}
