//! How values are written: times as `25s`, sizes as `64KiB`, everything with a grammar as text.

use std::{fmt, str::FromStr};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error};
use url::{Host, Url};

/// A value with the text it was written as.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Text<T> {
    text: String,
    /// What the text means.
    pub(crate) value: T,
}

impl<'de, T: FromStr<Err: fmt::Display>> Deserialize<'de> for Text<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let value = text.parse().map_err(D::Error::custom)?;
        Ok(Self { text, value })
    }
}

impl<T> Serialize for Text<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.text.serialize(serializer)
    }
}

impl<T> JsonSchema for Text<T> {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Text".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string" })
    }
}

/// What to write in place of what is no path.
pub(crate) const WANTED_PATH: &str =
    "write a path such as \"/ws\", of letters, digits and - . _ ~ /";

/// Whether clients can be served at this path: no router takes any of it for a variable.
pub(crate) fn is_path(path: &str) -> bool {
    let plain = path.bytes().all(|b| b.is_ascii_alphanumeric() || b"/-._~".contains(&b));
    path.starts_with('/') && plain && !path.contains("//")
}

/// Whether a URL names the host that asks, so that nobody in between can listen.
pub(crate) fn is_this_host(url: &Url) -> bool {
    match url.host() {
        Some(Host::Domain(name)) => name == "localhost",
        Some(Host::Ipv4(ip)) => ip.is_loopback(),
        Some(Host::Ipv6(ip)) => ip.is_loopback(),
        None => false,
    }
}

/// For `#[serde(with)]`: a `Duration` as `25s`, `500ms`, `1h 30m`.
pub(crate) mod duration {
    use std::time::Duration;

    use super::*;

    /// Reads text with units.
    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Duration, D::Error> {
        let wanted = "write a time with its unit, such as \"25s\", \"500ms\" or \"2m\"";
        let text = String::deserialize(from).map_err(|_| D::Error::custom(wanted))?;
        humantime::parse_duration(&text).map_err(|_| D::Error::custom(wanted))
    }

    /// Writes text with units.
    pub(crate) fn serialize<S: Serializer>(value: &Duration, into: S) -> Result<S::Ok, S::Error> {
        into.collect_str(&humantime::format_duration(*value))
    }
}

/// For `#[serde(with)]`: a number of bytes, as a number or as `64KiB`.
pub(crate) mod size {
    use super::*;

    const UNITS: [(&str, usize); 3] = [("KiB", 1 << 10), ("MiB", 1 << 20), ("GiB", 1 << 30)];

    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Written {
        Number(usize),
        Text(String),
    }

    /// Reads a number, or text with a unit.
    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<usize, D::Error> {
        let bytes = match Written::deserialize(from) {
            Ok(Written::Number(bytes)) => Some(bytes),
            Ok(Written::Text(text)) => parse(&text),
            Err(_) => None,
        };
        bytes.ok_or_else(|| {
            D::Error::custom("write a size such as 65536, \"64KiB\", \"1MiB\" or \"1GiB\"")
        })
    }

    fn parse(text: &str) -> Option<usize> {
        let unit = UNITS.iter().find_map(|(unit, bytes)| Some((text.strip_suffix(unit)?, *bytes)));
        let (number, bytes) = unit.unwrap_or((text, 1));
        number.trim().parse::<usize>().ok()?.checked_mul(bytes)
    }

    /// Writes the largest unit that leaves no remainder.
    pub(crate) fn serialize<S: Serializer>(value: &usize, into: S) -> Result<S::Ok, S::Error> {
        match UNITS.iter().rev().find(|(_, bytes)| *value > 0 && value.is_multiple_of(*bytes)) {
            Some((unit, bytes)) => into.collect_str(&format_args!("{}{unit}", value / bytes)),
            None => value.serialize(into),
        }
    }
}

/// For `#[serde(with)]`: a socket address.
pub(crate) mod address {
    use std::net::SocketAddr;

    use super::*;

    /// Reads `IP:PORT`.
    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<SocketAddr, D::Error> {
        parse(&String::deserialize(from)?)
    }

    pub(super) fn parse<E: Error>(text: &str) -> Result<SocketAddr, E> {
        text.parse().map_err(|_| {
            E::custom("write an address as IP:PORT, such as \"0.0.0.0:8080\" or \"[::]:8080\"")
        })
    }

    /// Writes `IP:PORT`.
    pub(crate) fn serialize<S: Serializer>(value: &SocketAddr, into: S) -> Result<S::Ok, S::Error> {
        into.collect_str(value)
    }
}

/// For `#[serde(with)]`: a socket address, or none.
pub(crate) mod optional_address {
    use std::net::SocketAddr;

    use super::*;

    /// Reads `IP:PORT`.
    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(
        from: D,
    ) -> Result<Option<SocketAddr>, D::Error> {
        address::deserialize(from).map(Some)
    }

    /// Writes `IP:PORT`, or nothing.
    pub(crate) fn serialize<S: Serializer>(
        value: &Option<SocketAddr>,
        into: S,
    ) -> Result<S::Ok, S::Error> {
        value.as_ref().map(SocketAddr::to_string).serialize(into)
    }
}

/// For `#[serde(with)]`: a list of socket addresses.
pub(crate) mod addresses {
    use std::net::SocketAddr;

    use super::*;

    /// Reads a list of `IP:PORT`.
    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(
        from: D,
    ) -> Result<Vec<SocketAddr>, D::Error> {
        let texts = Vec::<String>::deserialize(from)?;
        texts.iter().map(|text| address::parse(text)).collect()
    }

    /// Writes a list of `IP:PORT`.
    pub(crate) fn serialize<S: Serializer>(
        value: &[SocketAddr],
        into: S,
    ) -> Result<S::Ok, S::Error> {
        into.collect_seq(value.iter().map(SocketAddr::to_string))
    }
}
