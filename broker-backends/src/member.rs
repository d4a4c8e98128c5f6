//! Members of a channel as plain text, for keys and cursors.

use broker_core::ports::Member;

/// `u` and the user, or `c` and the connection.
pub(crate) fn write(member: &Member) -> String {
    match member {
        Member::User(user) => format!("u{user}"),
        Member::Anonymous(connection) => format!("c{connection}"),
    }
}

pub(crate) fn read(text: &str) -> Option<Member> {
    match (text.get(..1)?, text.get(1..)?) {
        ("u", user) => user.parse().map(Member::User).ok(),
        ("c", connection) => connection.parse().map(Member::Anonymous).ok(),
        _ => None,
    }
}
