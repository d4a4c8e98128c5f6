use std::future::{pending, ready};

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
