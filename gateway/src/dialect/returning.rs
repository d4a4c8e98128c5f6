//! What a Socket.IO client brings back, so as to be recovered.

use broker_core::{JsonText, recovery::Mark, session::Token};
use serde_json::Value;

/// The client has come back with this.
#[derive(Debug)]
pub(crate) struct Returning {
    /// What it knows as `pid`.
    pub(crate) secret: Token,
    pub(crate) offset: Offset,
    /// Whether it is still to be said what became of it.
    pub(crate) undecided: bool,
}

/// The text at the end of the last event that the client got.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Offset {
    /// There was no event.
    None,
    Mark(Mark),
    /// It is not from here: an event ended in a text, or the application says something by this
    /// name.
    Foreign,
}

impl Returning {
    /// What is among the things that a client says of itself; `None`, if it is new.
    pub(crate) fn of(auth: &JsonText) -> Option<Self> {
        let auth: Value = serde_json::from_slice(auth.as_bytes()).ok()?;
        let secret = Token::new(auth.get("pid")?.as_str()?.to_owned());
        let offset = match auth.get("offset") {
            None => Offset::None,
            Some(offset) => offset
                .as_str()
                .and_then(|text| text.parse().ok())
                .map_or(Offset::Foreign, Offset::Mark),
        };
        Some(Self { secret, offset, undecided: true })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(auth: &'static str) -> Option<Offset> {
        let returning = Returning::of(&JsonText::from_checked(auth.into()))?;
        assert_eq!(returning.secret.reveal(), "p");
        Some(returning.offset)
    }

    #[test]
    fn what_a_client_brings_is_told_from_what_its_application_says() {
        assert_eq!(of("{}"), None);
        assert_eq!(of(r#"{"pid":7,"offset":"ff~1"}"#), None);
        assert_eq!(of(r#"{"pid":"p","token":"t"}"#), Some(Offset::None));
        let mark = "ff~1~0:2@3".parse().unwrap();
        assert_eq!(of(r#"{"pid":"p","offset":"ff~1~0:2@3"}"#), Some(Offset::Mark(mark)));
        for foreign in [r#""hello""#, "7", "null", r#"{"a":1}"#] {
            let auth: &'static str = format!(r#"{{"pid":"p","offset":{foreign}}}"#).leak();
            assert_eq!(of(auth), Some(Offset::Foreign), "{foreign}");
        }
    }
}
