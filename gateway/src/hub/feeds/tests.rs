use std::{
    future::{pending, ready},
    pin::pin,
};

use broker_core::{
    Epoch, Offset,
    history::{Rewind, Since, Slice},
    ports::BoxFuture,
    retained::Listing,
};
use futures_util::FutureExt as _;

use super::*;

const EMPTY: Top = Top { epoch: Epoch(1), newest: None, end: Offset(0) };

/// A log that is away, or does not answer at all.
#[derive(Debug)]
struct AwayLog {
    answers: bool,
}

impl Log for AwayLog {
    fn top(&self, _: ChannelName) -> BoxFuture<'static, Result<Top, LogError>> {
        Box::pin(ready(Ok(EMPTY)))
    }

    fn tops(&self, channels: Vec<ChannelName>) -> BoxFuture<'static, Result<Vec<Top>, LogError>> {
        Box::pin(ready(Ok(vec![EMPTY; channels.len()])))
    }

    fn channels(&self, _: Namespace) -> BoxFuture<'static, Result<Listing, LogError>> {
        Box::pin(ready(Err(LogError::Unavailable)))
    }

    fn newest(
        &self,
        _: Vec<ChannelName>,
        _: Offset,
    ) -> BoxFuture<'static, Result<Vec<Message>, LogError>> {
        Box::pin(ready(Err(LogError::Unavailable)))
    }

    fn read(&self, _: ChannelName, _: Slice) -> BoxFuture<'static, Result<Vec<Message>, LogError>> {
        if self.answers { Box::pin(ready(Err(LogError::Unavailable))) } else { Box::pin(pending()) }
    }
}

#[tokio::test]
async fn a_feed_keeps_nothing_for_a_window_that_could_not_be_read() {
    for answers in [true, false] {
        let history = History { size: 10, ttl: Duration::from_secs(60) };
        let histories = [("venue".parse().unwrap(), history.clone())].into();
        let feeds = Feeds::new(Arc::new(AwayLog { answers }), histories);
        let feed = feeds.open(&"venue:1".parse().unwrap(), &Arc::new(history));
        feed.lock().caught_up(clock::now().instant, &feed.history, &EMPTY, Vec::new());
        let since = Since { rewind: Some(Rewind::Messages(1)), ..Since::default() };
        let read = feeds.prepare_window(&feed, Wanted::Since(&since)).now_or_never();
        assert_eq!(read.is_some(), answers, "without an answer, whoever waits has gone away");
        let kept = format!("{:?}", feed.lock());
        assert!(kept.contains("recording: None"), "{kept}");
    }
}

#[tokio::test]
async fn who_has_seen_more_is_not_content_with_a_look_from_before() {
    let history = History { size: 10, ttl: Duration::from_secs(60) };
    let histories = [("venue".parse().unwrap(), history.clone())].into();
    let feeds = Feeds::new(Arc::new(AwayLog { answers: true }), histories);
    let channel: ChannelName = "venue:1".parse().unwrap();
    let feed = feeds.open(&channel, &Arc::new(history));
    let see = |top: &Top| {
        feed.lock().caught_up(clock::now().instant, &feed.history, top, Vec::new());
        feed.note_caught_up();
    };
    see(&EMPTY);
    // A look at the log is under way, and has its answer, when a message is stored.
    assert!(feed.lock().check());
    let position = Position { offset: Offset(1), ..EMPTY.position() };
    let since = Since { position: Some(position), ..Since::default() };
    let mut prepared = pin!(feeds.prepare(&channel, Wanted::Since(&since)));
    assert!(prepared.as_mut().now_or_never().is_none());
    see(&EMPTY);
    assert!(prepared.as_mut().now_or_never().is_none(), "its answer is too old");
    see(&Top { newest: Some(position), end: position.offset, ..EMPTY });
    assert!(matches!(prepared.as_mut().now_or_never(), Some(Ok(()))));
    assert_eq!(feed.lock().need(Wanted::Since(&since)), Need::Nothing);
}
