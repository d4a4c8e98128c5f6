//! What is stored: JSON with a version. New fields may be added to a version, none change.
//! Members of channels, of whom there are many, are shorter text.

mod session;

use std::time::Duration;

use broker_core::{
    ConnectionId, NodeId, Timestamp, UserId,
    ports::{ConnectionInfo, Lease, Member, MemberCount},
};
use serde::{Deserialize, Serialize};

use crate::member;
pub(super) use session::{read_session, write_session};

const VERSION: u32 = 1;

#[derive(Serialize, Deserialize)]
struct LeaseRecord {
    v: u32,
    ttl_ms: u64,
    started_ms: u64,
    version: String,
    connections: u64,
    #[serde(default)]
    users: u64,
    channels: u64,
    subscriptions: u64,
    bus_ok: bool,
}

#[derive(Serialize, Deserialize)]
struct ConnectionRecord {
    v: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    user: Option<String>,
    transport: String,
    connected_ms: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    user_agent: Option<Box<str>>,
}

pub(super) fn write_lease(lease: &Lease) -> String {
    write(&LeaseRecord {
        v: VERSION,
        ttl_ms: millis(lease.ttl),
        started_ms: lease.started.0,
        version: lease.version.clone(),
        connections: lease.connections,
        users: lease.users,
        channels: lease.channels,
        subscriptions: lease.subscriptions,
        bus_ok: lease.bus_ok,
    })
}

pub(super) fn read_lease(node: NodeId, json: &str) -> Option<Lease> {
    let record: LeaseRecord = read(json)?;
    Some(Lease {
        node,
        ttl: Duration::from_millis(record.ttl_ms),
        started: Timestamp(record.started_ms),
        version: record.version,
        connections: record.connections,
        users: record.users,
        channels: record.channels,
        subscriptions: record.subscriptions,
        bus_ok: record.bus_ok,
    })
}

pub(super) fn write_connection(info: &ConnectionInfo) -> String {
    write(&ConnectionRecord {
        v: VERSION,
        user: info.user.as_ref().map(|user| user.as_str().to_owned()),
        transport: info.transport.clone().into_owned(),
        connected_ms: info.connected_at.0,
        user_agent: info.user_agent.clone(),
    })
}

pub(super) fn read_connection(node: &NodeId, id: &str, json: &str) -> Option<ConnectionInfo> {
    let connection: ConnectionId = id.parse().ok()?;
    let record: ConnectionRecord = read(json)?;
    let user: Option<UserId> = match record.user {
        Some(user) => Some(user.parse().ok()?),
        None => None,
    };
    Some(ConnectionInfo {
        connection,
        user,
        node: node.clone(),
        transport: record.transport.into(),
        connected_at: Timestamp(record.connected_ms),
        user_agent: record.user_agent,
    })
}

/// A member of a channel, as `lua/roster.lua` writes it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct MemberRecord {
    pub(super) member: Member,
    pub(super) since: Timestamp,
    /// Gateways with connections, and how many.
    pub(super) places: Vec<(NodeId, u32)>,
}

pub(super) fn read_member(field: &str, text: &str) -> Option<MemberRecord> {
    let member = member::read(field)?;
    let mut parts = text.split(' ');
    let since = Timestamp(parts.next()?.parse().ok()?);
    let place = |part: &str| {
        let (node, held) = part.split_once('=')?;
        Some((node.parse().ok()?, held.parse().ok()?))
    };
    Some(MemberRecord { member, since, places: parts.skip(1).filter_map(place).collect() })
}

pub(super) fn read_count(text: &str) -> Option<MemberCount> {
    let (users, connections) = text.split_once(' ')?;
    Some(MemberCount { users: users.parse().ok()?, connections: connections.parse().ok()? })
}

/// A duration for Redis, which takes no zero.
pub(super) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX).max(1)
}

fn write(record: &impl Serialize) -> String {
    serde_json::to_string(record).expect("records have string keys only")
}

fn read<'a, T: Deserialize<'a>>(json: &'a str) -> Option<T> {
    let read = serde_json::from_str(json);
    read.inspect_err(|error| tracing::warn!(%error, "a record in the store cannot be read")).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_other_versions_may_have_written_is_read_or_skipped() {
        let node: NodeId = "a".parse().unwrap();
        let id = ConnectionId(7).to_string();
        let newer = r#"{"v":2,"transport":"sse","connected_ms":5,"colour":"red"}"#;
        assert_eq!(read_connection(&node, &id, newer).unwrap().transport, "sse");
        for bad in ["", "{}", "[]", r#"{"v":1,"user":"","transport":"x","connected_ms":5}"#] {
            assert_eq!(read_connection(&node, &id, bad), None, "{bad}");
        }
        assert_eq!(read_connection(&node, "7", newer), None);
    }

    #[test]
    fn the_form_of_version_1_stays() {
        let info = ConnectionInfo {
            connection: ConnectionId(7),
            user: Some("ann".parse().unwrap()),
            node: "a".parse().unwrap(),
            transport: "websocket".into(),
            connected_at: Timestamp(5),
            user_agent: None,
        };
        let json = r#"{"v":1,"user":"ann","transport":"websocket","connected_ms":5}"#;
        assert_eq!(write_connection(&info), json);
        assert_eq!(read_connection(&info.node, &info.connection.to_string(), json), Some(info));
    }
}
