//! Where connections note that they come to a channel with presence, or leave it.
//!
//! What becomes of the notes is a matter of [`roster`](crate::roster). Nothing waits: where notes
//! come faster than they are taken, they are lost, and all is told anew.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use broker_core::{
    ChannelName, ConnectionId, Interest,
    ports::{ConnectionInfo, Member},
    session::Rules,
};
use tokio::sync::mpsc;

/// Notes that wait to be taken.
const CAPACITY: usize = 16 * 1024;

/// Where connections note it.
#[derive(Debug)]
pub(crate) struct Register {
    rules: Arc<Rules>,
    notes: mpsc::Sender<Note>,
    doubt: Doubt,
}

/// A connection came to a channel, or left it.
#[derive(Debug)]
pub(crate) struct Note {
    pub(crate) channel: ChannelName,
    pub(crate) member: Member,
    pub(crate) connection: ConnectionId,
    pub(crate) came: bool,
}

/// Whether the store may know something else than what was noted.
#[derive(Debug, Clone, Default)]
pub(crate) struct Doubt(Arc<AtomicBool>);

impl Doubt {
    pub(crate) fn raise(&self) {
        self.0.store(true, Ordering::Release);
    }

    pub(crate) fn is_raised(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }

    /// Ends it, and says whether there was any.
    pub(crate) fn take(&self) -> bool {
        self.0.swap(false, Ordering::AcqRel)
    }
}

pub(crate) fn open(rules: Arc<Rules>) -> (Register, mpsc::Receiver<Note>) {
    let (notes, taken) = mpsc::channel(CAPACITY);
    (Register { rules, notes, doubt: Doubt::default() }, taken)
}

impl Register {
    pub(crate) fn doubt(&self) -> &Doubt {
        &self.doubt
    }

    /// To be called when the connection gets what is published to the channel.
    pub(crate) fn came(&self, interest: &Interest, info: Option<&Arc<ConnectionInfo>>) {
        self.note(interest, info, true);
    }

    /// To be called when it does not any more; or never did.
    pub(crate) fn left(&self, interest: &Interest, info: Option<&Arc<ConnectionInfo>>) {
        self.note(interest, info, false);
    }

    /// The channel, if account is kept of who is in it.
    pub(crate) fn channel<'a>(&self, interest: &'a Interest) -> Option<&'a ChannelName> {
        let Interest::Channel(channel) = interest else { return None };
        self.rules.namespaces.has_presence(channel.namespace()).then_some(channel)
    }

    fn note(&self, interest: &Interest, info: Option<&Arc<ConnectionInfo>>, came: bool) {
        let (Some(channel), Some(info)) = (self.channel(interest), info) else { return };
        let note = Note {
            channel: channel.clone(),
            member: member(info),
            connection: info.connection,
            came,
        };
        if self.notes.try_send(note).is_err() {
            self.doubt.raise();
        }
    }
}

/// Whom a connection stands for.
pub(crate) fn member(info: &ConnectionInfo) -> Member {
    info.user.clone().map_or(Member::Anonymous(info.connection), Member::User)
}
