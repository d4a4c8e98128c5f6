use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    future::ready,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use broker_core::{
    ChannelName, Epoch, History, Message, MessageId, Namespace, Offset, Position,
    history::{From, Queue, Slice, Top},
    message::{Publisher, Stored},
    ports::{Accepted, BoxFuture, Log, LogError, PublishError, Queued},
    retained::Listing,
};
use parking_lot::Mutex;
use tokio::time::Instant;

use super::MemoryQueue;
use crate::{clock, options::EmbeddedOptions, queue};

/// How long a publisher's message ids are remembered.
const DEDUPE_WINDOW: Duration = Duration::from_secs(120);
/// How many are remembered at most, the latest; with more, the window is shorter.
const DEDUPE_IDS: usize = 250_000;
/// What a message takes beside its body, roughly.
const OVERHEAD: usize = 256;

/// The logs of one process; they end with it.
#[derive(Debug)]
pub(crate) struct MemoryLog {
    epoch: Epoch,
    logs: BTreeMap<Namespace, NamespaceLog>,
    bytes: AtomicUsize,
    capacity: usize,
    queue: Option<(Queue, Arc<MemoryQueue>)>,
}

/// The log of one namespace: its channels share the numbers, as those of a stream do.
#[derive(Debug)]
struct NamespaceLog {
    history: History,
    kept: Mutex<Kept>,
}

#[derive(Debug, Default)]
struct Kept {
    end: u64,
    channels: HashMap<ChannelName, VecDeque<Message>>,
    /// How many messages all channels have.
    count: usize,
    /// All messages in the order of their age, and some that their channels have dropped since.
    ages: VecDeque<(Instant, ChannelName, Offset)>,
    published: HashMap<(ChannelName, Publisher, MessageId), Position>,
    windows: VecDeque<(Instant, (ChannelName, Publisher, MessageId))>,
}

impl MemoryLog {
    pub(crate) fn new(options: &EmbeddedOptions) -> Self {
        let log =
            |history: &History| NamespaceLog { history: history.clone(), kept: Mutex::default() };
        Self {
            epoch: Epoch(clock::now().0.saturating_mul(1_000_000)),
            logs: options.histories.iter().map(|(name, it)| (name.clone(), log(it))).collect(),
            bytes: AtomicUsize::new(0),
            capacity: options.history_bytes,
            queue: options.queue.clone().map(|it| (it.clone(), Arc::new(MemoryQueue::new(&it)))),
        }
    }

    /// The queue that notes what is appended to users' channels.
    pub(crate) fn queue(&self) -> Option<Arc<MemoryQueue>> {
        self.queue.as_ref().map(|(_, queue)| Arc::clone(queue))
    }

    pub(super) fn has(&self, channel: &ChannelName) -> bool {
        self.logs.contains_key(channel.namespace())
    }

    /// Appends the message and hands it over, before any other of its namespace is appended. What
    /// was appended before is not handed over again.
    pub(super) fn append<T: Default>(
        &self,
        mut message: Message,
        publisher: Publisher,
        hand_over: impl FnOnce(&Message) -> Result<T, PublishError>,
    ) -> Result<(Accepted, T), PublishError> {
        let log = self.logs.get(message.channel.namespace()).ok_or(PublishError::Unavailable)?;
        let now = Instant::now();
        let mut kept = log.kept.lock();
        self.free(kept.expire(now, log.history.ttl));
        let key = (message.channel.clone(), publisher, message.id.clone());
        if let Some(position) = kept.published.get(&key) {
            return Ok((Accepted { position: Some(*position), duplicate: true }, T::default()));
        }
        let size = size(&message);
        if self.bytes.load(Ordering::Relaxed) + size > self.capacity {
            return Err(PublishError::Full);
        }
        let previous = kept.channels.get(&message.channel).and_then(VecDeque::back);
        message.stored = Some(Stored {
            epoch: self.epoch,
            offset: Offset(kept.end + 1),
            previous: previous.and_then(|last| last.stored).map(|stored| stored.offset),
        });
        let handed_over = hand_over(&message)?;
        let position = message.position();
        self.enqueue(&message);
        self.bytes.fetch_add(size, Ordering::Relaxed);
        self.free(kept.append(now, message, log.history.size));
        if let Some(position) = position {
            kept.published.insert(key.clone(), position);
            kept.windows.push_back((now, key));
        }
        Ok((Accepted { position, duplicate: false }, handed_over))
    }

    fn enqueue(&self, message: &Message) {
        let Some((options, queue)) = &self.queue else { return };
        if let (Some(user), Some(stored)) = (message.channel.user(), message.stored) {
            let Stored { epoch, offset, .. } = stored;
            let own = message.options.as_ref().and_then(|options| options.expires);
            let expires = queue::expiry(options, own, clock::now());
            queue.note(Queued { user, epoch, offset, expires });
        }
    }

    fn free(&self, bytes: usize) {
        self.bytes.fetch_sub(bytes, Ordering::Relaxed);
    }

    fn top_of(&self, channel: &ChannelName) -> Result<Top, LogError> {
        self.look_at(channel, |kept| Top {
            epoch: self.epoch,
            newest: kept.messages(channel).last().and_then(Message::position),
            end: Offset(kept.end),
        })
    }

    fn look_at<T>(
        &self,
        channel: &ChannelName,
        look: impl FnOnce(&Kept) -> T,
    ) -> Result<T, LogError> {
        self.look_into(channel.namespace(), look)
    }

    fn look_into<T>(&self, namespace: &str, look: impl FnOnce(&Kept) -> T) -> Result<T, LogError> {
        let log = self.logs.get(namespace).ok_or(LogError::NoHistory)?;
        let mut kept = log.kept.lock();
        self.free(kept.expire(Instant::now(), log.history.ttl));
        Ok(look(&kept))
    }
}

impl Log for MemoryLog {
    fn top(&self, channel: ChannelName) -> BoxFuture<'static, Result<Top, LogError>> {
        Box::pin(ready(self.top_of(&channel)))
    }

    fn tops(&self, channels: Vec<ChannelName>) -> BoxFuture<'static, Result<Vec<Top>, LogError>> {
        let tops = channels.iter().map(|channel| self.top_of(channel)).collect();
        Box::pin(ready(tops))
    }

    fn read(
        &self,
        channel: ChannelName,
        slice: Slice,
    ) -> BoxFuture<'static, Result<Vec<Message>, LogError>> {
        let read = self.look_at(&channel, |kept| {
            let messages = kept.messages(&channel);
            let wanted = messages.filter(|message| is_in(&slice, message));
            wanted.take(slice.messages).cloned().collect()
        });
        Box::pin(ready(read))
    }

    fn channels(&self, namespace: Namespace) -> BoxFuture<'static, Result<Listing, LogError>> {
        let listing = self.look_into(namespace.as_str(), |kept| Listing {
            epoch: self.epoch,
            end: Offset(kept.end),
            channels: kept.channels.keys().cloned().collect(),
        });
        Box::pin(ready(listing))
    }

    /// The log never lags behind what it listed.
    fn newest(
        &self,
        channels: Vec<ChannelName>,
        _: Offset,
    ) -> BoxFuture<'static, Result<Vec<Message>, LogError>> {
        let newest = channels.iter().map(|channel| {
            self.look_at(channel, |kept| kept.messages(channel).next_back().cloned())
        });
        let found = newest.collect::<Result<Vec<_>, _>>();
        Box::pin(ready(found.map(|found| found.into_iter().flatten().collect())))
    }
}

impl Kept {
    fn messages(&self, channel: &ChannelName) -> impl DoubleEndedIterator<Item = &Message> {
        self.channels.get(channel).into_iter().flatten()
    }

    /// Says how many bytes left, one message beyond the size being kept: with it, whoever has the
    /// one before all others knows that there are no more.
    fn append(&mut self, now: Instant, message: Message, size: usize) -> usize {
        self.end += 1;
        self.count += 1;
        self.forget_dropped();
        self.ages.push_back((now, message.channel.clone(), Offset(self.end)));
        let messages = self.channels.entry(message.channel.clone()).or_default();
        messages.push_back(message);
        if messages.len() <= size.saturating_add(1) {
            return 0;
        }
        self.count -= 1;
        messages.pop_front().as_ref().map_or(0, self::size)
    }

    /// Once most of `ages` are of messages that are gone.
    fn forget_dropped(&mut self) {
        if self.ages.len() > 2 * self.count + 1024 {
            let channels = &self.channels;
            self.ages.retain(|(_, channel, offset)| {
                let oldest = channels.get(channel).and_then(VecDeque::front);
                oldest.and_then(|it| it.stored).is_some_and(|oldest| *offset >= oldest.offset)
            });
        }
    }

    /// Says how many bytes left.
    fn expire(&mut self, now: Instant, ttl: Duration) -> usize {
        let is_old = |since: Instant, age: Duration| now.saturating_duration_since(since) >= age;
        let mut bytes = 0;
        while let Some((_, channel, offset)) = self.ages.pop_front_if(|(at, ..)| is_old(*at, ttl)) {
            let Some(messages) = self.channels.get_mut(&channel) else { continue };
            let is_it = |message: &mut Message| {
                message.stored.is_some_and(|stored| stored.offset <= offset)
            };
            if let Some(message) = messages.pop_front_if(is_it) {
                self.count -= 1;
                bytes += size(&message);
            }
            if messages.is_empty() {
                self.channels.remove(&channel);
            }
        }
        while self.windows.len() > DEDUPE_IDS
            || self.windows.front().is_some_and(|(at, _)| is_old(*at, DEDUPE_WINDOW))
        {
            let Some((_, key)) = self.windows.pop_front() else { break };
            self.published.remove(&key);
        }
        bytes
    }
}

fn is_in(slice: &Slice, message: &Message) -> bool {
    let Some(Stored { offset, .. }) = message.stored else { return false };
    match slice.from {
        From::Offset(from) => offset >= from,
        From::Time(from) => message.time >= from,
    }
}

fn size(message: &Message) -> usize {
    message.data.len() + OVERHEAD
}
