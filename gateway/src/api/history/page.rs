//! Reading a page of a channel's log.

use broker_core::{
    ChannelName, History, Message, Offset, Position, Timestamp, UserId,
    history::{From, Slice, Top, is_complete},
    ports::{Log, LogError},
};

use super::since::{Cursor, Since};
use crate::clock;

/// Messages that are read of a log at once, where it is read to its end.
const CHUNK: usize = 1_000;
/// By how much the log's clock may be behind the gateways', in milliseconds.
const SKEW: u64 = 5_000;
/// What the messages of a page have together, in bytes; a single one may have more.
pub(in crate::api) const PAGE_BYTES: usize = 4 << 20;

/// In which order messages are wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Order {
    OldestFirst,
    NewestFirst,
}

/// Which messages are wanted.
#[derive(Debug)]
pub(super) struct Wanted<'a> {
    pub(super) channel: ChannelName,
    pub(super) history: &'a History,
    /// Who must be allowed to see them; `None`: nobody is kept from anything.
    pub(super) user: Option<&'a UserId>,
    pub(super) since: Option<Since>,
    pub(super) before: Option<Position>,
    pub(super) order: Order,
    /// At most this many.
    pub(super) limit: usize,
}

/// What was wanted and is there.
#[derive(Debug)]
pub(super) struct Page {
    /// In the order that was wanted.
    pub(super) messages: Vec<Message>,
    /// Whether there is more of what was wanted.
    pub(super) more: bool,
    /// Whether everything since the reader's own position is there; `None` where it gave none.
    pub(super) recovered: Option<bool>,
    /// Where the log ends.
    pub(super) end: Position,
    /// Where to go on.
    pub(super) next: Option<Cursor>,
}

/// Whether the user must not get the message.
pub(super) fn is_excluded(user: Option<&UserId>, message: &Message) -> bool {
    let users = message.options.as_ref().map(|options| &options.exclude.users);
    users.zip(user).is_some_and(|(users, user)| users.contains(user))
}

/// What was read of a log.
#[derive(Debug, Default)]
struct Found {
    /// Those that are wanted: the oldest, or the newest and one more; oldest first.
    messages: Vec<Message>,
    /// The first one that there was, wanted or not.
    first: Option<Position>,
    /// The last one that was looked at.
    last: Option<Position>,
    /// How many there were from the first on, as far as that matters.
    count: usize,
}

impl Wanted<'_> {
    pub(super) async fn read(&self, log: &dyn Log) -> Result<Page, LogError> {
        let now = clock::wall();
        let top = log.top(self.channel.clone()).await?;
        let found = match self.start(&top).zip(top.newest) {
            None => Found::default(),
            Some((from, newest)) => {
                let scan = Scan::new(log, &self.channel, (from, newest.offset));
                match self.order {
                    Order::OldestFirst => self.find_oldest(scan, now).await?,
                    Order::NewestFirst => self.find_newest(scan, now).await?,
                }
            }
        };
        let recovered = self.cursor().map(|since| {
            let undisturbed = since.is_fresh(now, self.history) && found.count <= self.history.size;
            Some(since.position) == top.newest
                || is_complete(&since.position, &top, found.first, undisturbed)
        });
        // The log may have gone on after its top was looked at.
        let newer = found.last.filter(|last| last.offset > top.end);
        let end = newer.unwrap_or_else(|| top.position());
        // Where there is more: behind what did not fit, or behind what was not looked at.
        let unread =
            found.last.zip(top.newest).filter(|(last, newest)| last.offset < newest.offset);
        let (messages, left_out) = self.select(found.messages);
        let stopped = if left_out {
            messages.last().and_then(Message::position)
        } else {
            unread.map(|(last, _)| last)
        };
        let next = stopped.map(|position| Cursor { position, was_end: None });
        let next = match self.order {
            Order::OldestFirst => next.or(Some(Cursor { position: end, was_end: Some(now) })),
            Order::NewestFirst => next,
        };
        Ok(Page { messages, more: stopped.is_some(), recovered, end, next })
    }

    fn cursor(&self) -> Option<Cursor> {
        match self.since {
            Some(Since::Cursor(cursor)) => Some(cursor),
            Some(Since::Time(_)) | None => None,
        }
    }

    /// Where to start reading; `None` where there is nothing to be read.
    fn start(&self, top: &Top) -> Option<From> {
        let newest = top.newest?;
        if self.before.is_some_and(|before| before.epoch != top.epoch) {
            return None;
        }
        match self.since {
            None => Some(From::Offset(Offset(0))),
            Some(Since::Time(time)) => Some(From::Time(Timestamp(time.0.saturating_sub(SKEW)))),
            Some(Since::Cursor(Cursor { position, .. })) if position == newest => None,
            Some(Since::Cursor(Cursor { position, .. })) => {
                // All, where the log was made anew or set back.
                let behind = position.epoch == newest.epoch && position.offset <= newest.offset;
                Some(From::Offset(if behind { position.offset } else { Offset(0) }))
            }
        }
    }

    async fn find_oldest(&self, mut scan: Scan<'_>, now: Timestamp) -> Result<Found, LogError> {
        // The reader's own message, and one that says that there is more.
        let read = scan.next(self.limit + 2).await?;
        let (first, last) = (read.first(), read.last());
        let (first, last) = (first.and_then(Message::position), last.and_then(Message::position));
        let mut count = read.len();
        // Without its own message, whether all is there is a matter of how many there are.
        let counts = self.history.size < usize::MAX
            && self.cursor().is_some_and(|since| {
                let gone = first.map(|first| first.offset) != Some(since.position.offset);
                gone && since.is_fresh(now, self.history)
            });
        while counts && count <= self.history.size {
            match scan.next(CHUNK).await?.len() {
                _ if scan.torn => count = usize::MAX,
                0 => break,
                more => count += more,
            }
        }
        let messages = read.into_iter().filter(|message| self.wants(message, now)).collect();
        Ok(Found { messages, first, last, count })
    }

    /// Looks at all: a log is read forwards only.
    async fn find_newest(&self, mut scan: Scan<'_>, now: Timestamp) -> Result<Found, LogError> {
        let mut found = Found::default();
        loop {
            let read = scan.next(CHUNK).await?;
            if scan.torn {
                found = Found { count: usize::MAX, ..Found::default() };
            }
            let (Some(first), Some(last)) = (read.first(), read.last()) else { return Ok(found) };
            found.first = found.first.or(first.position());
            found.last = last.position();
            found.count = found.count.saturating_add(read.len());
            found.messages.extend(read.into_iter().filter(|message| self.wants(message, now)));
            let older = found.messages.len().saturating_sub(self.limit + 1);
            found.messages.drain(..older);
        }
    }

    /// What of them makes the page, and whether something is left out for want of room.
    fn select(&self, mut found: Vec<Message>) -> (Vec<Message>, bool) {
        if self.order == Order::NewestFirst {
            found.reverse();
        }
        let mut bytes = 0;
        let fits = |message: &&Message| {
            bytes += message.data.len();
            bytes <= PAGE_BYTES
        };
        let count = found.iter().take(self.limit).take_while(fits).count().max(1);
        let left_out = count < found.len();
        found.truncate(count);
        (found, left_out)
    }

    fn wants(&self, message: &Message, now: Timestamp) -> bool {
        let is_own = self.cursor().is_some_and(|since| message.position() == Some(since.position));
        let is_before =
            |before: Position| message.stored.is_some_and(|stored| stored.offset < before.offset);
        let is_excluded = || is_excluded(self.user, message);
        let is_older = matches!(self.since, Some(Since::Time(time)) if message.time < time);
        !(is_own || is_older || message.has_expired(now) || is_excluded())
            && self.before.is_none_or(is_before)
    }
}

/// A channel's messages, some at a time, oldest first.
struct Scan<'a> {
    log: &'a dyn Log,
    channel: &'a ChannelName,
    from: From,
    until: Offset,
    last: Option<Position>,
    /// Whether messages may have left the log between the last two reads, and with them all that
    /// was read before.
    torn: bool,
}

impl<'a> Scan<'a> {
    fn new(log: &'a dyn Log, channel: &'a ChannelName, (from, until): (From, Offset)) -> Self {
        Self { log, channel, from, until, last: None, torn: false }
    }

    /// The next ones; none at the end.
    async fn next(&mut self, most: usize) -> Result<Vec<Message>, LogError> {
        self.torn = false;
        if self.last.is_some_and(|last| last.offset >= self.until) {
            return Ok(Vec::new());
        }
        // From the last one on, to see that it is still there: the oldest leave first.
        let from = self.last.map_or(self.from, |last| From::Offset(last.offset));
        let messages = most + usize::from(self.last.is_some());
        let slice = Slice { from, until: self.until, messages };
        let mut read = self.log.read(self.channel.clone(), slice).await?;
        if let Some(last) = self.last {
            self.torn = read.first().and_then(Message::position) != Some(last);
            if !self.torn {
                read.remove(0);
            }
        }
        self.last = read.last().and_then(Message::position).or(self.last);
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    use std::{future::ready, time::Duration};

    use broker_core::{
        Data, Epoch, JsonText, MessageId, Namespace, message::Stored, ports::BoxFuture,
        retained::Listing,
    };
    use parking_lot::Mutex;

    use super::*;

    /// A log that loses its oldest messages behind each read.
    #[derive(Debug)]
    struct Fleeting {
        messages: Mutex<Vec<Message>>,
        loses: usize,
    }

    impl Fleeting {
        fn new(count: u64, loses: usize) -> Self {
            Self { messages: Mutex::new((1..=count).map(message).collect()), loses }
        }
    }

    impl Log for Fleeting {
        fn top(&self, _: ChannelName) -> BoxFuture<'static, Result<Top, LogError>> {
            let newest = self.messages.lock().last().and_then(Message::position);
            let end = newest.unwrap().offset;
            Box::pin(ready(Ok(Top { epoch: Epoch(1), newest, end })))
        }

        fn tops(&self, _: Vec<ChannelName>) -> BoxFuture<'static, Result<Vec<Top>, LogError>> {
            Box::pin(ready(Err(LogError::Unavailable)))
        }

        fn read(
            &self,
            _: ChannelName,
            slice: Slice,
        ) -> BoxFuture<'static, Result<Vec<Message>, LogError>> {
            let mut messages = self.messages.lock();
            let From::Offset(from) = slice.from else { return Box::pin(ready(Ok(Vec::new()))) };
            let wanted = messages.iter().filter(|it| it.stored.unwrap().offset >= from);
            let read = wanted.take(slice.messages).cloned().collect();
            let left = messages.len();
            messages.drain(..self.loses.min(left));
            Box::pin(ready(Ok(read)))
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
    }

    fn message(number: u64) -> Message {
        let offset = Offset(number);
        Message {
            id: MessageId::random(number.into()),
            channel: "room:1".parse().unwrap(),
            event: None,
            data: Data::Json(JsonText::from_checked("1".into())),
            time: Timestamp(number),
            stored: Some(Stored { epoch: Epoch(1), offset, previous: None }),
            options: None,
        }
    }

    async fn read(log: &Fleeting, order: Order, since: Cursor) -> Page {
        let history = History { size: 5_000, ttl: Duration::from_secs(60) };
        let wanted = Wanted {
            channel: "room:1".parse().unwrap(),
            history: &history,
            user: None,
            since: Some(Since::Cursor(since)),
            before: None,
            order,
            limit: 900,
        };
        wanted.read(log).await.unwrap()
    }

    fn offsets(page: &Page) -> (u64, u64) {
        let offset = |message: Option<&Message>| message.unwrap().stored.unwrap().offset.0;
        (offset(page.messages.first()), offset(page.messages.last()))
    }

    #[tokio::test]
    async fn what_leaves_between_two_reads_is_not_papered_over() {
        let first = Cursor { position: message(1).position().unwrap(), was_end: None };
        let whole = read(&Fleeting::new(1_500, 0), Order::NewestFirst, first).await;
        assert_eq!((offsets(&whole), whole.recovered), ((1_500, 601), Some(true)));
        let torn = read(&Fleeting::new(1_500, 1_200), Order::NewestFirst, first).await;
        assert_eq!(
            (offsets(&torn), torn.recovered, torn.more),
            ((1_500, 1_201), Some(false), false)
        );
    }

    #[tokio::test]
    async fn messages_are_counted_where_their_number_matters() {
        let aged_out = Position { offset: Offset(0), ..message(1).position().unwrap() };
        let fresh = Cursor { position: aged_out, was_end: Some(clock::wall()) };
        for (count, loses, recovered) in
            [(1_500, 0, true), (5_001, 0, false), (1_500, 1_200, false)]
        {
            let page = read(&Fleeting::new(count, loses), Order::OldestFirst, fresh).await;
            assert_eq!((offsets(&page), page.recovered), ((1, 900), Some(recovered)), "{count}");
        }
    }
}
