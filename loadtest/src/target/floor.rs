//! The client's side of `loadtest floor`.
//!
//! `/sub/N` subscribes to channel N, any other path to nothing. What is sent begins with the channel in eight
//! hexadecimal digits; the rest is what subscribers get.

use super::{Channel, Client, Payload};

pub(super) fn path(client: &Client) -> String {
    client
        .channel
        .as_ref()
        .map_or_else(|| "/pub".to_owned(), |channel| format!("/sub/{}", channel.number))
}

pub(super) fn publish(out: &mut Payload, channel: &Channel, message: &[u8]) {
    out.extend_from_slice(format!("{:08x}", channel.number).as_bytes());
    out.extend_from_slice(message);
}
