use broker_core::Interest;

use super::Hub;

/// A gateway in figures.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Figures {
    /// Open connections.
    pub(crate) connections: u64,
    /// Users with a connection: each is subscribed to a channel of its own.
    pub(crate) users: u64,
    /// Channels and patterns with a subscriber.
    pub(crate) channels: u64,
    /// Subscriptions of these connections.
    pub(crate) subscriptions: u64,
}

impl Hub {
    /// What is here now.
    pub(crate) fn figures(&self) -> Figures {
        let interests = self.subscriptions();
        let users = interests.iter().filter(|(interest, _)| is_of_user(interest)).count();
        Figures {
            connections: self.connection_count() as u64,
            users: users as u64,
            channels: interests.len() as u64,
            subscriptions: interests.iter().map(|(_, count)| *count as u64).sum(),
        }
    }
}

fn is_of_user(interest: &Interest) -> bool {
    matches!(interest, Interest::Channel(channel) if channel.namespace() == "user")
}
