//! What a request subscribes its connection to.

use std::{str::FromStr, time::Duration};

use broker_core::{
    ErrorCode, Interest, Position,
    name::NameError,
    session::{Rewind, Since},
};
use serde::Deserialize;
use url::form_urlencoded;

use crate::problem::Problem;

/// A channel or pattern, and what of the past is wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Wanted {
    pub(super) interest: Interest,
    pub(super) since: Since,
}

/// The same in a poll: the members of `subscribe`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, expecting = "an object")]
pub(super) struct WantedBody {
    channel: Option<String>,
    pattern: Option<String>,
    position: Option<String>,
    age: Option<u64>,
    rewind: Option<u64>,
    rewind_time: Option<u64>,
    #[serde(default)]
    snapshot: bool,
}

/// The parameters of an event stream.
#[derive(Debug, Default)]
pub(super) struct Query {
    pub(super) wanted: Vec<Wanted>,
    /// In place of `Last-Event-ID`.
    pub(super) cursor: String,
}

impl TryFrom<WantedBody> for Wanted {
    type Error = Problem;

    fn try_from(body: WantedBody) -> Result<Self, Problem> {
        let interest = match (&body.channel, &body.pattern) {
            (Some(name), None) => Interest::Channel(parse("channel", name)?),
            (None, Some(name)) => Interest::Pattern(parse("pattern", name)?),
            _ => return Err(bad("each of `subscribe` has either `channel` or `pattern`")),
        };
        let position = body.position.map(|text| text.parse::<Position>()).transpose();
        let position = position.map_err(|error| bad(format!("`position`: {error}")))?;
        let rewind = rewind(body.rewind, body.rewind_time, body.snapshot)?;
        let age = body.age.map(Duration::from_millis);
        Ok(Self { interest, since: Since { position, age, rewind } })
    }
}

impl Query {
    pub(super) fn read(text: &str) -> Result<Self, Problem> {
        let mut query = Self::default();
        let (mut count, mut time, mut snapshot) = (None, None, false);
        let mut interests = Vec::new();
        for (name, value) in form_urlencoded::parse(text.as_bytes()) {
            match &*name {
                "channel" => interests.push(Interest::Channel(parse("channel", &value)?)),
                "pattern" => interests.push(Interest::Pattern(parse("pattern", &value)?)),
                "rewind" => count = Some(number("rewind", &value)?),
                "rewind_time" => time = Some(number("rewind_time", &value)?),
                "snapshot" => snapshot = flag("snapshot", &value)?,
                "cursor" => query.cursor = value.into_owned(),
                // The first two are looked for elsewhere; the other is what pages add against
                // caches.
                "token" | "ticket" | "_" => {}
                other => {
                    return Err(bad(format!(
                        "there is no parameter `{other}`: channel, pattern, rewind, rewind_time, \
                         snapshot and cursor are"
                    )));
                }
            }
        }
        let rewind = rewind(count, time, snapshot)?;
        let wanted = |interest| {
            // Patterns have no past but a snapshot.
            let has = |rewind: &Rewind| {
                matches!(interest, Interest::Channel(_)) || *rewind == Rewind::Snapshot
            };
            let rewind = rewind.filter(has);
            Wanted { interest, since: Since { rewind, ..Since::default() } }
        };
        query.wanted = interests.into_iter().map(wanted).collect();
        Ok(query)
    }
}

fn rewind(
    count: Option<u64>,
    time: Option<u64>,
    snapshot: bool,
) -> Result<Option<Rewind>, Problem> {
    match (count, time, snapshot) {
        (Some(0), ..) | (_, Some(0), _) => Err(bad("a rewind is 1 or more")),
        (None, None, true) => Ok(Some(Rewind::Snapshot)),
        (Some(count), None, false) => {
            Ok(Some(Rewind::Messages(usize::try_from(count).unwrap_or(usize::MAX))))
        }
        (None, time, false) => Ok(time.map(|time| Rewind::For(Duration::from_millis(time)))),
        _ => Err(bad("one of `rewind`, `rewind_time` and `snapshot`, not several")),
    }
}

fn flag(name: &str, text: &str) -> Result<bool, Problem> {
    text.parse().map_err(|_| bad(format!("`{name}` is true or false")))
}

fn number(name: &str, text: &str) -> Result<u64, Problem> {
    text.parse().map_err(|_| bad(format!("`{name}` is a whole number")))
}

fn parse<T: FromStr<Err = NameError>>(member: &str, name: &str) -> Result<T, Problem> {
    name.parse().map_err(|error: NameError| {
        let shown: String = name.chars().take(60).collect();
        Problem::new(ErrorCode::InvalidName, format!("`{member}`, `{shown}`: {error}"))
    })
}

fn bad(text: impl Into<std::borrow::Cow<'static, str>>) -> Problem {
    Problem::bad_request(text)
}
