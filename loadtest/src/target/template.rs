//! Any server that speaks JSON or text over WebSocket, described by a file; `README.md` has its form.

use std::collections::BTreeMap;

use memchr::memmem;
use serde::Deserialize;

use super::{Awaited, Channel, Client, Meaning, Payload, Publication};
use crate::failure::Failure;

/// A target read from a file.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Template {
    pub(super) name: String,
    pub(super) url: Option<String>,
    #[serde(default)]
    subprotocols: Vec<String>,
    #[serde(default)]
    headers: BTreeMap<String, Pattern>,
    #[serde(default)]
    pub(super) binary: bool,
    #[serde(default)]
    pub(crate) compression: bool,
    #[serde(default)]
    connect: Vec<Pattern>,
    connected: Option<String>,
    subscribe: Option<Pattern>,
    subscribed: Option<String>,
    publish: Pattern,
    error: Option<String>,
    #[serde(default)]
    reply: Vec<Reply>,
}

/// An answer to the application's own heartbeat.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Reply {
    #[serde(rename = "match")]
    contains: Option<String>,
    exact: Option<String>,
    send: Pattern,
}

impl Template {
    pub(crate) fn parse(text: &str) -> Result<Self, Failure> {
        let template: Self =
            toml::from_str(text).map_err(|error| Failure::Usage(error.to_string()))?;
        if template.reply.iter().any(|reply| reply.contains.is_some() == reply.exact.is_some()) {
            return Err(Failure::Usage("a reply has either `match` or `exact`".to_owned()));
        }
        Ok(template)
    }

    pub(super) fn headers(&self, client: &Client) -> String {
        let mut lines = String::new();
        if !self.subprotocols.is_empty() {
            lines += &format!("Sec-WebSocket-Protocol: {}\r\n", self.subprotocols.join(", "));
        }
        for (name, value) in &self.headers {
            let value = value.render(&Values { client, ..Values::default() });
            lines += &format!("{name}: {}\r\n", String::from_utf8_lossy(&value));
        }
        lines
    }

    pub(super) fn greeting(&self, client: &Client, number: &mut u64) -> Vec<Payload> {
        self.connect.iter().map(|frame| frame.numbered(client, number)).collect()
    }

    pub(super) const fn says_connected(&self) -> bool {
        self.connected.is_some()
    }

    pub(super) fn subscription(&self, client: &Client, number: &mut u64) -> Option<Payload> {
        client.channel.as_ref()?;
        self.subscribe.as_ref().map(|frame| frame.numbered(client, number))
    }

    pub(super) const fn says_subscribed(&self) -> bool {
        self.subscribed.is_some()
    }

    pub(super) fn publish(&self, out: &mut Payload, publication: &Publication<'_>) {
        let Publication { client, channel, number, message } = *publication;
        self.publish.write(out, &Values { client, channel: Some(channel), number, message });
    }

    pub(super) fn read(&self, frame: &[u8], client: &Client, awaited: Awaited) -> Meaning {
        let has = |text: &Option<String>| {
            text.as_ref().is_some_and(|text| memmem::find(frame, text.as_bytes()).is_some())
        };
        if let Some(answer) = self.answer(frame, client) {
            Meaning::Answer(answer)
        } else if has(&self.error) {
            Meaning::Refused(String::from_utf8_lossy(frame).into_owned())
        } else if awaited == Awaited::Subscribed && has(&self.subscribed) {
            Meaning::Subscribed
        } else if awaited == Awaited::Connected && has(&self.connected) {
            Meaning::Connected
        } else {
            Meaning::Other
        }
    }

    /// `exact` is a whole frame or a whole line of one.
    pub(super) fn answer(&self, frame: &[u8], client: &Client) -> Option<Payload> {
        let asked = |reply: &&Reply| match (&reply.exact, &reply.contains) {
            (Some(exact), _) => has_line(frame, exact.as_bytes()),
            (None, Some(text)) => memmem::find(frame, text.as_bytes()).is_some(),
            (None, None) => false,
        };
        let reply = self.reply.iter().find(asked)?;
        Some(reply.send.render(&Values { client, ..Values::default() }))
    }
}

fn has_line(frame: &[u8], line: &[u8]) -> bool {
    let starts = |at: usize| at == 0 || frame[at - 1] == b'\n';
    let ends = |at: usize| frame.get(at + line.len()).is_none_or(|next| *next == b'\n');
    memmem::find_iter(frame, line).any(|at| starts(at) && ends(at))
}

/// Text with variables in it.
#[derive(Debug, Deserialize)]
#[serde(from = "String")]
struct Pattern(Vec<Piece>);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Piece {
    Text(String),
    Variable(Variable),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Variable {
    Channel,
    User,
    Token,
    Payload,
    Number,
    Length,
}

const VARIABLES: [(&str, Variable); 6] = [
    ("{channel}", Variable::Channel),
    ("{user}", Variable::User),
    ("{token}", Variable::Token),
    ("{payload}", Variable::Payload),
    ("{n}", Variable::Number),
    ("{len}", Variable::Length),
];

static NOBODY: Client = Client {
    user: String::new(),
    token: None,
    channel: None,
    session: None,
    place: None,
    after: None,
};

struct Values<'a> {
    client: &'a Client,
    channel: Option<&'a Channel>,
    number: u64,
    message: &'a [u8],
}

impl Default for Values<'_> {
    fn default() -> Self {
        Self { client: &NOBODY, channel: None, number: 0, message: &[] }
    }
}

impl From<String> for Pattern {
    fn from(text: String) -> Self {
        let (mut pieces, mut rest) = (Vec::new(), &text[..]);
        let mut plain = String::new();
        while let Some(character) = rest.chars().next() {
            let found = VARIABLES.iter().find(|(name, _)| rest.starts_with(name));
            let Some((name, variable)) = found else {
                plain.push(character);
                rest = &rest[character.len_utf8()..];
                continue;
            };
            if !plain.is_empty() {
                pieces.push(Piece::Text(std::mem::take(&mut plain)));
            }
            pieces.push(Piece::Variable(*variable));
            rest = &rest[name.len()..];
        }
        if !plain.is_empty() {
            pieces.push(Piece::Text(plain));
        }
        Self(pieces)
    }
}

impl Pattern {
    fn numbered(&self, client: &Client, number: &mut u64) -> Payload {
        *number += 1;
        self.render(&Values { client, number: *number, ..Values::default() })
    }

    fn render(&self, values: &Values<'_>) -> Payload {
        let mut out = Vec::new();
        self.write(&mut out, values);
        out
    }

    fn write(&self, out: &mut Payload, values: &Values<'_>) {
        let Values { client, number, message, .. } = values;
        for piece in &self.0 {
            match piece {
                Piece::Text(text) => out.extend_from_slice(text.as_bytes()),
                Piece::Variable(variable) => match variable {
                    Variable::Channel => {
                        let channel = values.channel.or(client.channel.as_ref());
                        out.extend(channel.iter().flat_map(|channel| channel.name.as_bytes()));
                    }
                    Variable::User => out.extend_from_slice(client.user.as_bytes()),
                    Variable::Token => {
                        out.extend_from_slice(client.token.as_deref().unwrap_or("").as_bytes());
                    }
                    Variable::Payload => out.extend_from_slice(message),
                    Variable::Number => out.extend_from_slice(number.to_string().as_bytes()),
                    Variable::Length => out.extend_from_slice(message.len().to_string().as_bytes()),
                },
            }
        }
    }
}

#[cfg(test)]
mod tests;
