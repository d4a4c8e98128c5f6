use std::{
    collections::{BTreeMap, BTreeSet},
    mem,
};

use broker_core::{
    ChannelName, ConnectionId, Timestamp,
    ports::{Attendance, ChannelNews, Member, MemberEvent, MemberEventKind},
};

/// Who of this gateway's connections is in which channel, and what the store was told of it.
///
/// Each connection is in it, not only their number: whoever is noted twice is there once.
#[derive(Debug, Default)]
pub(super) struct Book {
    held: BTreeMap<Key, Held>,
    /// Of whom there is something to tell.
    changed: BTreeSet<Key>,
}

type Key = (ChannelName, Member);

#[derive(Debug)]
struct Held {
    /// In order.
    connections: Vec<ConnectionId>,
    since: Timestamp,
    /// How many the store knows of; `None` where that is not certain.
    told: Option<usize>,
    join: Join,
}

/// Whether a join may have been told to nobody.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Join {
    /// It was told, or is none.
    Certain,
    /// The store is asked whether it is one.
    Asked,
    /// The store was asked in vain: it may have taken what it did not answer.
    Doubtful,
}

impl Held {
    /// How the join stands once the store is asked.
    fn asked(&self) -> Join {
        match (self.told, self.join) {
            _ if self.connections.is_empty() => Join::Certain,
            (Some(0), _) => Join::Asked,
            (Some(_), _) | (None, Join::Certain) => Join::Certain,
            (None, Join::Asked | Join::Doubtful) => Join::Doubtful,
        }
    }
}

impl Book {
    pub(super) fn came(&mut self, key: Key, connection: ConnectionId, since: Timestamp) {
        let held = self.held.entry(key.clone()).or_insert_with(|| Held {
            connections: Vec::with_capacity(1),
            since,
            told: Some(0),
            join: Join::Certain,
        });
        if held.connections.is_empty() {
            held.since = since;
        }
        if let Err(place) = held.connections.binary_search(&connection) {
            held.connections.insert(place, connection);
            self.changed.insert(key);
        }
    }

    pub(super) fn left(&mut self, key: Key, connection: ConnectionId) {
        let Some(held) = self.held.get_mut(&key) else { return };
        if let Ok(place) = held.connections.binary_search(&connection) {
            held.connections.remove(place);
            self.changed.insert(key);
        }
    }

    /// Members of channels.
    pub(super) fn len(&self) -> usize {
        self.held.len()
    }

    /// Forgets who is there, but not what was told.
    pub(super) fn clear(&mut self) {
        self.held.values_mut().for_each(|held| held.connections.clear());
    }

    /// The store may know anything of everybody.
    pub(super) fn doubt_all(&mut self) {
        self.held.values_mut().for_each(|held| held.told = None);
        self.changed.extend(self.held.keys().cloned());
    }

    /// What is to be told next, of at most so many members. Until [`Book::note_told`], it is not
    /// certain what the store knows of them.
    pub(super) fn next_news(&mut self, limit: usize) -> Vec<ChannelNews> {
        let mut news = Vec::new();
        let mut count = 0;
        while count < limit
            && let Some(key) = self.changed.pop_first()
        {
            let Some(held) = self.held.get_mut(&key) else { continue };
            if held.told == Some(held.connections.len()) {
                self.forget_if_gone(&key);
                continue;
            }
            held.join = held.asked();
            held.told = None;
            let attendance = attendance(&key.1, held.connections.len(), held.since);
            push(&mut news, &key.0, attendance);
            count += 1;
        }
        for ChannelNews { channel, deserted, .. } in &mut news {
            *deserted = !self.holds_any(channel);
        }
        news
    }

    /// The store has taken the news. Says who joined but may have been told to nobody.
    pub(super) fn note_told(&mut self, news: &[ChannelNews]) -> Vec<MemberEvent> {
        let mut joined = Vec::new();
        for ChannelNews { channel, members, .. } in news {
            for Attendance { member, connections, .. } in members {
                let key = (channel.clone(), member.clone());
                if let Some(held) = self.held.get_mut(&key) {
                    held.told = usize::try_from(*connections).ok();
                    let join = mem::replace(&mut held.join, Join::Certain);
                    if let (Join::Doubtful, Member::User(user)) = (join, member) {
                        let (channel, user) = (channel.clone(), user.clone());
                        let kind = MemberEventKind::Joined;
                        joined.push(MemberEvent { channel, user, kind });
                    }
                    self.forget_if_gone(&key);
                }
            }
        }
        joined
    }

    /// What the store was told for certain, in parts of at most so many members.
    pub(super) fn all_told(&self, limit: usize) -> Vec<Vec<ChannelNews>> {
        let mut parts: Vec<Vec<ChannelNews>> = Vec::new();
        let told = self.held.iter().filter_map(|(key, held)| {
            let told = held.told.filter(|count| *count > 0)?;
            Some((&key.0, attendance(&key.1, told, held.since)))
        });
        for (index, (channel, attendance)) in told.enumerate() {
            if index % limit == 0 {
                parts.push(Vec::new());
            }
            if let Some(part) = parts.last_mut() {
                push(part, channel, attendance);
            }
        }
        parts
    }

    fn forget_if_gone(&mut self, key: &Key) {
        let gone = |held: &Held| held.connections.is_empty() && held.told == Some(0);
        if self.held.get(key).is_some_and(gone) {
            self.held.remove(key);
        }
    }

    fn holds_any(&self, channel: &ChannelName) -> bool {
        let mut members = self
            .held
            .range((channel.clone(), Member::FIRST)..)
            .take_while(|((of, _), _)| of == channel);
        members.any(|(_, held)| !held.connections.is_empty())
    }
}

fn attendance(member: &Member, connections: usize, since: Timestamp) -> Attendance {
    let connections = u32::try_from(connections).unwrap_or(u32::MAX);
    Attendance { member: member.clone(), connections, since }
}

/// Keys come in order, so that each channel is there once.
fn push(news: &mut Vec<ChannelNews>, channel: &ChannelName, attendance: Attendance) {
    match news.last_mut().filter(|last| last.channel == *channel) {
        Some(last) => last.members.push(attendance),
        None => news.push(ChannelNews {
            channel: channel.clone(),
            members: vec![attendance],
            deserted: false,
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp(7);

    fn key(channel: &str, user: &str) -> Key {
        (channel.parse().unwrap(), Member::User(user.parse().unwrap()))
    }

    /// As `channel user=connections`, with `!` where the channel is deserted.
    fn render(news: &[ChannelNews]) -> Vec<String> {
        let line = |news: &ChannelNews, it: &Attendance| {
            let Member::User(user) = &it.member else { panic!("{it:?}") };
            let end = if news.deserted { "!" } else { "" };
            format!("{} {user}={}{end}", news.channel, it.connections)
        };
        news.iter().flat_map(|news| news.members.iter().map(move |it| line(news, it))).collect()
    }

    fn tell(book: &mut Book) -> Vec<String> {
        let news = book.next_news(100);
        assert_eq!(book.note_told(&news), []);
        render(&news)
    }

    #[test]
    fn only_what_changed_is_told() {
        let mut book = Book::default();
        book.came(key("a:1", "ann"), ConnectionId(2), NOW);
        book.came(key("a:1", "ann"), ConnectionId(1), NOW);
        book.came(key("a:1", "ann"), ConnectionId(2), NOW);
        book.came(key("a:1", "bob"), ConnectionId(3), NOW);
        book.came(key("b:1", "bob"), ConnectionId(3), NOW);
        assert_eq!(tell(&mut book), ["a:1 ann=2", "a:1 bob=1", "b:1 bob=1"]);
        assert_eq!(tell(&mut book), Vec::<String>::new());
        book.left(key("a:1", "bob"), ConnectionId(3));
        book.left(key("b:1", "bob"), ConnectionId(3));
        book.left(key("b:1", "bob"), ConnectionId(3));
        book.left(key("b:1", "cat"), ConnectionId(4));
        assert_eq!(tell(&mut book), ["a:1 bob=0", "b:1 bob=0!"]);
        assert_eq!(book.len(), 1);
    }

    #[test]
    fn who_came_and_went_between_two_tellings_is_not_told() {
        let mut book = Book::default();
        book.came(key("a:1", "ann"), ConnectionId(1), NOW);
        book.left(key("a:1", "ann"), ConnectionId(1));
        assert_eq!(tell(&mut book), Vec::<String>::new());
        assert_eq!(book.len(), 0);
    }

    #[test]
    fn what_is_not_certain_is_told_again() {
        let mut book = Book::default();
        book.came(key("a:1", "ann"), ConnectionId(1), NOW);
        assert_eq!(render(&book.next_news(100)), ["a:1 ann=1"]);
        book.left(key("a:1", "ann"), ConnectionId(1));
        assert_eq!(tell(&mut book), ["a:1 ann=0!"], "the store may have heard that she came");
        assert_eq!(book.len(), 0);
    }

    #[test]
    fn all_is_told_anew_with_those_who_went_meanwhile() {
        let mut book = Book::default();
        for name in ["ann", "bob"] {
            book.came(key("a:1", name), ConnectionId(1), NOW);
        }
        tell(&mut book);
        book.came(key("a:1", "cat"), ConnectionId(2), NOW);
        let told: Vec<_> = book.all_told(1).iter().map(|part| render(part)).collect();
        assert_eq!(told, [["a:1 ann=1"], ["a:1 bob=1"]], "of cat, the store does not know");
        book.clear();
        book.came(key("a:1", "bob"), ConnectionId(1), NOW);
        book.doubt_all();
        assert_eq!(tell(&mut book), ["a:1 ann=0", "a:1 bob=1", "a:1 cat=0"]);
        assert_eq!(book.len(), 1);
    }

    #[test]
    fn a_join_whose_answer_was_lost_is_told_again() {
        let mut book = Book::default();
        for name in ["ann", "bob"] {
            book.came(key("a:1", name), ConnectionId(1), NOW);
        }
        book.next_news(100);
        book.clear();
        book.came(key("a:1", "ann"), ConnectionId(1), NOW);
        book.came(key("a:1", "cat"), ConnectionId(2), NOW);
        book.doubt_all();
        let news = book.next_news(100);
        assert_eq!(render(&news), ["a:1 ann=1", "a:1 bob=0", "a:1 cat=1"]);
        let joined = book.note_told(&news);
        assert_eq!(joined.iter().map(|it| it.user.as_str()).collect::<Vec<_>>(), ["ann"]);
        book.doubt_all();
        assert_eq!(tell(&mut book), ["a:1 ann=1", "a:1 cat=1"], "and not again");
    }

    #[test]
    fn news_come_in_parts() {
        let mut book = Book::default();
        for n in 0..250 {
            book.came(key("a:1", &format!("{n:03}")), ConnectionId(n), NOW);
        }
        let parts: Vec<usize> =
            (0..4).map(|_| book.next_news(100).iter().map(|it| it.members.len()).sum()).collect();
        assert_eq!(parts, [100, 100, 50, 0]);
    }
}
