//! Fanfare's domain, without input or output.
//!
//! Nothing here reads a socket, a clock or a random number: time comes in as a
//! value, effects go out as values. Read in this order:
//!
//! 1. [`name`]: channels, patterns, users, roles; the only way in is `FromStr`.
//! 2. [`message`]: what travels.
//! 3. [`code`]: every code on the wire, with what a client should do about it.
//! 4. [`access`]: who may do what, as a pure function.
//! 5. [`session`]: one client's conversation as a state machine.
//! 6. [`subscribers`]: who gets a message.
//! 7. [`overlap`]: one delivery for a message that matches twice.
//! 8. [`position`] and [`history`]: where a message stands in its channel's log, and whether what
//!    is kept there is all that somebody missed.
//! 9. [`feed`]: a channel's live messages without holes, joined with its past.
//! 10. [`retained`]: the newest message of each channel of a namespace, for snapshots.
//! 11. [`resume`]: what is kept of a session whose connection may break.
//! 12. [`recovery`]: the same for clients that do not know where they stood.
//! 13. [`ports`]: the seams to bus, log, presence and sessions, with their laws.

pub mod access;
pub mod code;
pub mod feed;
pub mod history;
pub mod id;
pub mod message;
pub mod name;
pub mod overlap;
pub mod ports;
pub mod position;
pub mod recovery;
pub mod resume;
pub mod retained;
pub mod session;
pub mod subscribers;

pub use access::{Action, Identity};
pub use code::{CloseCode, ErrorCode};
pub use history::History;
pub use id::{ConnectionId, MessageId, NodeId, NodeMark};
pub use message::{Data, JsonText, Message, Timestamp};
pub use name::{ChannelName, ChannelPattern, EventName, Interest, Namespace, Role, UserId};
pub use position::{Epoch, Offset, Position};
