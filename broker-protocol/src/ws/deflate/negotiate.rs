//! What is offered and what is answered (RFC 7692 §5, §7.1; the grammar is RFC 6455 §9.1).

use crate::ws::handshake::is_token_byte;

const NAME: &str = "permessage-deflate";
const ANSWER: &str = "permessage-deflate; server_no_context_takeover; client_no_context_takeover";
/// To an offer that bounds the server's window: the answer must say which it takes.
const ANSWER_WITH_WINDOW: &str = "permessage-deflate; server_no_context_takeover; client_no_context_takeover; server_max_window_bits=15";
/// The compressor's window is 2^15 bytes and no less.
const WINDOW_BITS: u8 = 15;

/// Judges the offers in all `Sec-WebSocket-Extensions` values of a request, in order, and gives the value to answer
/// with; `None` if none can be accepted, or what is offered breaks the grammar: then nothing is compressed.
///
/// The first acceptable offer is taken. One with a parameter that is unknown, repeated or has a wrong value is
/// declined (§7.1), and so is one that wants the server's window smaller than 2^15 bytes: all who negotiated
/// compression get the same compressed message.
///
/// ```
/// use broker_protocol::ws::deflate::negotiate;
///
/// let answer = "permessage-deflate; server_no_context_takeover; client_no_context_takeover";
/// assert_eq!(negotiate(["permessage-deflate; client_max_window_bits"]), Some(answer));
/// assert_eq!(negotiate(["x-webkit-deflate-frame"]), None);
/// ```
#[must_use]
pub fn negotiate<'a>(values: impl IntoIterator<Item = &'a str>) -> Option<&'static str> {
    let mut accepted = None;
    for value in values {
        let mut rest = Rest(value);
        loop {
            rest.skip_space();
            // An empty element of the list is allowed (RFC 9110 §5.6.1).
            if !(rest.0.is_empty() || rest.0.starts_with(',')) {
                let offer = rest.offer()?;
                accepted = accepted.or_else(|| offer.answer());
            }
            if rest.0.is_empty() {
                break;
            }
            rest.expect(',')?;
        }
    }
    accepted
}

/// What an offer says, as far as it concerns the answer.
#[derive(Default)]
struct Offer {
    declined: bool,
    server_no_context_takeover: bool,
    client_no_context_takeover: bool,
    client_max_window_bits: bool,
    server_max_window_bits: Option<u8>,
}

impl Offer {
    fn note(&mut self, name: &str, value: Option<&str>) {
        let fits = match (name, value) {
            ("server_no_context_takeover", None) => is_new(&mut self.server_no_context_takeover),
            ("client_no_context_takeover", None) => is_new(&mut self.client_no_context_takeover),
            ("client_max_window_bits", value) => {
                is_new(&mut self.client_max_window_bits)
                    && value.is_none_or(|value| window_bits(value).is_some())
            }
            ("server_max_window_bits", Some(value)) => {
                let bits = window_bits(value);
                bits.is_some() && self.server_max_window_bits.replace(bits.unwrap_or(0)).is_none()
            }
            _ => false,
        };
        self.declined |= !fits;
    }

    fn answer(&self) -> Option<&'static str> {
        match self.server_max_window_bits {
            _ if self.declined => None,
            None => Some(ANSWER),
            Some(WINDOW_BITS) => Some(ANSWER_WITH_WINDOW),
            Some(_) => None,
        }
    }
}

fn is_new(seen: &mut bool) -> bool {
    !std::mem::replace(seen, true)
}

/// §7.1.2.1: 8 to 15, without leading zeros.
fn window_bits(value: &str) -> Option<u8> {
    let bits = value.parse().ok().filter(|bits| (8..=15).contains(bits))?;
    (value.bytes().all(|byte| byte.is_ascii_digit()) && !value.starts_with('0')).then_some(bits)
}

/// What of a header's value is yet to be read.
struct Rest<'a>(&'a str);

impl<'a> Rest<'a> {
    fn skip_space(&mut self) {
        self.0 = self.0.trim_start_matches([' ', '\t']);
    }

    fn take(&mut self, expected: char) -> bool {
        let rest = self.0.strip_prefix(expected);
        self.0 = rest.unwrap_or(self.0);
        rest.is_some()
    }

    fn expect(&mut self, expected: char) -> Option<()> {
        self.take(expected).then_some(())
    }

    fn token(&mut self) -> Option<&'a str> {
        let end = self.0.bytes().position(|byte| !is_token_byte(byte)).unwrap_or(self.0.len());
        let (token, rest) = self.0.split_at(end);
        self.0 = rest;
        (!token.is_empty()).then_some(token)
    }

    /// A quoted value must be a token too once it is unquoted. One with a backslash is none that is known here, and
    /// is read as one that fits nothing.
    fn value(&mut self) -> Option<&'a str> {
        if !self.take('"') {
            return self.token();
        }
        let mut escaped = false;
        let end = self.0.bytes().position(|byte| {
            let ends = byte == b'"' && !escaped;
            escaped = byte == b'\\' && !escaped;
            ends
        })?;
        let (value, rest) = self.0.split_at(end);
        self.0 = &rest[1..];
        Some(value)
    }

    /// An extension with its parameters. One of another name is none that can be accepted.
    fn offer(&mut self) -> Option<Offer> {
        let mut offer = Offer { declined: self.token()? != NAME, ..Offer::default() };
        loop {
            self.skip_space();
            if !self.take(';') {
                return Some(offer);
            }
            self.skip_space();
            let name = self.token()?;
            self.skip_space();
            let value = if self.take('=') {
                self.skip_space();
                Some(self.value()?)
            } else {
                None
            };
            offer.note(name, value);
        }
    }
}

#[cfg(test)]
mod tests;
