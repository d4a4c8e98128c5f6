//! The newest messages of a channel, for those who come (back).

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use super::{Feed, most_read};
use crate::{
    history::{From, History, Rewind, Since, Slice, Start, Top, is_complete},
    message::{Message, Timestamp},
    ports::Backlog,
    position::{Offset, Position},
};

/// How long a window stays after its last use.
const IDLE: Duration = Duration::from_secs(10);

/// What of a channel's past somebody wants.
#[derive(Debug, Clone, Copy)]
pub enum Wanted<'a> {
    /// Nothing.
    Nothing,
    /// What a client asks for.
    Since(&'a Since),
    /// What is pending in its user's offline queue.
    Pending(&'a Backlog),
}

/// All that the log has of a channel from somewhere on, and what came since.
#[derive(Debug)]
pub(super) struct Window {
    /// From where on.
    begins: Offset,
    /// The message before that, where nothing older was read.
    after: Option<Position>,
    messages: VecDeque<Message>,
    used: Instant,
    /// Most that is kept; the log keeps no more.
    size: usize,
    /// Whether no message can have left the log for being one too many.
    whole: bool,
}

/// A window that is being read, and what comes meanwhile.
#[derive(Debug)]
pub(super) struct Recording {
    window: Window,
    /// Where what was given out before ends.
    until: Offset,
    /// What came since.
    live: Window,
}

/// What must be done before a [`Feed::replay`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Need {
    /// Nothing.
    Nothing,
    /// Catching up: the subscriber has seen more than the feed, or another log.
    CatchUp,
    /// A window.
    Window,
}

/// Where a new subscription starts, and what of the past it gets.
#[derive(Debug, PartialEq, Eq)]
pub struct Replay<'a> {
    /// What the subscriber is told.
    pub start: Start,
    /// What it gets, before anything else.
    pub messages: Vec<&'a Message>,
}

impl Replay<'_> {
    /// The place before its first message; without any, where the channel's log ends.
    #[must_use]
    pub fn before(&self) -> Option<Position> {
        let Some(first) = self.messages.first().and_then(|first| first.stored) else {
            return self.start.position;
        };
        let offset = Offset(first.offset.0.saturating_sub(1));
        Some(Position { epoch: first.epoch, offset, fingerprint: None })
    }
}

impl Window {
    pub(super) fn append(&mut self, message: Message) {
        self.messages.push_back(message);
        if self.messages.len() > self.size {
            let gone = self.messages.pop_front().as_ref().and_then(Message::position);
            self.begins = gone.map_or(self.begins, |gone| Offset(gone.offset.0 + 1));
            self.after = self.after.and(gone);
            self.whole = false;
        }
    }

    /// Whether another one would have no more behind this message: what has left one for being one
    /// too many, the log need not have either.
    fn serves(&self, position: &Position) -> bool {
        self.after.is_none() && (!self.whole || self.reaches(position))
    }

    /// Whether it has all that the log has behind this message.
    fn reaches(&self, position: &Position) -> bool {
        self.begins.0 <= position.offset.0.saturating_add(1)
    }

    /// Whether it has what comes right behind this message.
    fn joins(&self, position: &Position) -> bool {
        let first = self.from(position.offset).next().and_then(Message::position);
        self.after == Some(*position) || first == Some(*position)
    }

    fn from(&self, offset: Offset) -> impl DoubleEndedIterator<Item = &Message> {
        let is_before = |message: &Message| message.stored.is_some_and(|it| it.offset < offset);
        self.messages.range(self.messages.partition_point(is_before)..)
    }
}

impl Recording {
    pub(super) fn append(&mut self, message: Message) {
        self.live.append(message);
    }

    fn slice(&self, from: Offset) -> Slice {
        let messages = self.window.size + 1;
        Slice { from: From::Offset(from), until: self.until, messages }
    }

    /// Takes what was read, and says from where on there is more.
    fn take(&mut self, read: Vec<Message>) -> Option<Offset> {
        let Self { window, until, .. } = self;
        let end = read.last().and_then(|it| it.stored).map(|it| it.offset);
        let is_full = read.len() > window.size;
        window.whole &= read.len() < window.size;
        let is_out = |it: &Message| it.stored.is_some_and(|it| it.offset <= *until);
        read.into_iter().filter(is_out).for_each(|message| window.append(message));
        end.filter(|end| is_full && end < until).map(|end| Offset(end.0 + 1))
    }
}

impl Feed {
    /// What must be done for what is asked for to be at hand.
    #[must_use]
    pub fn need(&self, wanted: Wanted<'_>) -> Need {
        let Some(last) = self.last else { return Need::Nothing };
        let elsewhere = |at: &Position| at.epoch != last.epoch || at.offset > last.offset;
        let from = match wanted {
            Wanted::Nothing => return Need::Nothing,
            Wanted::Since(since) => match since.position {
                Some(position) if position == last => return Need::Nothing,
                Some(position) if elsewhere(&position) => return Need::CatchUp,
                _ => None,
            },
            Wanted::Pending(backlog) => match first_pending(backlog, &last) {
                from if from > last.offset => return Need::Nothing,
                from => Some(from),
            },
        };
        let has = |window: &Window| match from {
            Some(from) => window.begins <= from,
            None => match wanted.position() {
                Some(position) => window.serves(&position) || window.joins(&position),
                None => window.after.is_none(),
            },
        };
        if self.window.as_ref().is_some_and(|window| has(window)) {
            Need::Nothing
        } else {
            Need::Window
        }
    }

    /// Until [`Feed::replay`], keeps the window for whoever wants something of the past; and what
    /// comes from now on, if that is all that is wanted: otherwise who stands at the end would have
    /// missed it.
    pub fn stay(&mut self, now: Instant, history: &History, wanted: Wanted<'_>) {
        if matches!(wanted, Wanted::Nothing) {
            return;
        }
        if let Some(window) = &mut self.window {
            window.used = now;
        } else if let Some(last) = self.last.filter(|last| wanted.position() == Some(*last)) {
            let (begins, size) = (Offset(last.offset.0 + 1), most_read(history) - 1);
            let (after, messages) = (Some(last), VecDeque::new());
            let window = Window { begins, after, messages, used: now, size, whole: true };
            self.window = Some(Box::new(window));
        }
    }

    /// What of the log is to be read first for a window.
    pub fn begin_window(
        &mut self,
        now: Instant,
        history: &History,
        wanted: Wanted<'_>,
    ) -> Option<Slice> {
        let last = self.last?;
        let begins = match wanted {
            Wanted::Pending(backlog) => first_pending(backlog, &last),
            Wanted::Nothing | Wanted::Since(_) => Offset(0),
        };
        let size = most_read(history) - 1;
        let empty = |begins| Window {
            begins,
            after: None,
            messages: VecDeque::new(),
            used: now,
            size,
            whole: true,
        };
        let until = last.offset;
        let live = empty(Offset(until.0.saturating_add(1)));
        let recording = Recording { window: empty(begins), until, live };
        Some(self.recording.insert(Box::new(recording)).slice(begins))
    }

    /// What the log answered to [`Feed::begin_window`], or to this. Says what is to be read next;
    /// nothing, once that is all.
    pub fn fill_window(&mut self, now: Instant, read: Vec<Message>) -> Option<Slice> {
        // Without it, messages were lost meanwhile: these are not all.
        let recording = self.recording.as_mut()?;
        let next = recording.take(read);
        if let Some(next) = next {
            return Some(recording.slice(next));
        }
        let Recording { mut window, live, .. } = *self.recording.take()?;
        if live.whole {
            live.messages.into_iter().for_each(|message| window.append(message));
        } else {
            // More came than a window holds: what was read is too old.
            window = live;
        }
        window.used = now;
        self.window = Some(Box::new(window));
        None
    }

    /// The rest of the window will not be read.
    pub fn abandon_window(&mut self) {
        self.recording = None;
    }

    /// Lets a window go that nobody has used for a while.
    pub fn tidy(&mut self, now: Instant) {
        let unused = |window: &mut Box<Window>| now.saturating_duration_since(window.used) > IDLE;
        self.window.take_if(unused);
    }

    /// Where a subscription starts now; `None` before the feed has caught up for the first time.
    /// With [`Feed::need`] not met, nothing is recovered.
    pub fn replay(
        &mut self,
        (now, wall): (Instant, Timestamp),
        history: &History,
        wanted: Wanted<'_>,
    ) -> Option<Replay<'_>> {
        let position = self.last?;
        let asked = wanted.position();
        let start = Start {
            position: Some(position),
            recovered: asked.map(|it| it == position),
            replayed: 0,
        };
        let window = self.window.as_mut().filter(|_| asked != Some(position));
        let (start, messages) = match (wanted, window) {
            (Wanted::Nothing, _) | (_, None) => (start, Vec::new()),
            (Wanted::Pending(backlog), Some(window)) => {
                window.used = now;
                (start, window.from(first_pending(backlog, &position)).collect())
            }
            (Wanted::Since(since), Some(window)) => {
                window.used = now;
                window.since(wall, history, since, (position, start))
            }
        };
        Some(Replay { start: Start { replayed: messages.len(), ..start }, messages })
    }
}

impl Window {
    /// What came after a client's position, if that is all there was; otherwise the latest, if it
    /// wants them.
    fn since(
        &self,
        wall: Timestamp,
        history: &History,
        since: &Since,
        (position, start): (Position, Start),
    ) -> (Start, Vec<&Message>) {
        let missed = since.position.and_then(|asked| {
            let missed = self.missed(history, &asked, since.age, position)?;
            Some((asked, missed))
        });
        match missed {
            // Not the end: the connection may break before the subscriber has got it all.
            Some((asked, missed)) if !missed.is_empty() => {
                (Start { position: Some(asked), recovered: Some(true), ..start }, missed)
            }
            Some((_, none)) => (Start { recovered: Some(true), ..start }, none),
            None => (start, self.latest(since.rewind, wall)),
        }
    }

    fn missed(
        &self,
        history: &History,
        asked: &Position,
        age: Option<Duration>,
        position: Position,
    ) -> Option<Vec<&Message>> {
        let newer = || self.from(Offset(asked.offset.0.saturating_add(1))).collect();
        if self.after.is_some() {
            return self.joins(asked).then(newer);
        }
        if !self.reaches(asked) {
            return None;
        }
        let fresh = age.is_some_and(|age| age + history.uncertainty() < history.ttl);
        let top = Top { epoch: position.epoch, newest: Some(position), end: position.offset };
        let first = self.from(asked.offset).next().and_then(Message::position);
        is_complete(asked, &top, first, fresh && self.whole).then(newer)
    }

    fn newest(&self, count: usize) -> Vec<&Message> {
        let skipped = self.messages.len().saturating_sub(count);
        self.messages.range(skipped..).collect()
    }

    fn latest(&self, rewind: Option<Rewind>, wall: Timestamp) -> Vec<&Message> {
        match rewind {
            None => Vec::new(),
            Some(Rewind::Messages(count)) => self.newest(count),
            Some(Rewind::Snapshot) => self.newest(1),
            Some(Rewind::For(duration)) => {
                let duration = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
                let since = Timestamp(wall.0.saturating_sub(duration));
                self.messages.iter().filter(|message| message.time >= since).collect()
            }
        }
    }
}

impl Wanted<'_> {
    /// Where the subscriber says it stands.
    #[must_use]
    pub fn position(self) -> Option<Position> {
        match self {
            Self::Since(since) => since.position,
            Self::Nothing | Self::Pending(_) => None,
        }
    }
}

/// The first offset that a pending message can have.
fn first_pending(backlog: &Backlog, last: &Position) -> Offset {
    match backlog.after {
        Some((epoch, after)) if epoch == last.epoch => Offset(after.0.saturating_add(1)),
        _ => Offset(0),
    }
}
