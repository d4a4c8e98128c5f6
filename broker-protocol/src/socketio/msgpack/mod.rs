//! The parser of `socket.io-msgpack-parser`: each packet is one binary message, the map
//! `{type, data, nsp, id?}`. Between it and the default parser, data is transcoded.

mod date;
mod decode;
mod encode;

pub(super) use decode::decode;
pub(super) use encode::encode;

/// JavaScript's `undefined`, `Date` and `ArrayBuffer`, told apart by their lengths.
const JAVASCRIPT: i8 = 0;

#[cfg(test)]
mod tests;
