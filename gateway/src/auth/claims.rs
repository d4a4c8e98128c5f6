//! What a verified token says, as the configuration reads it.

use std::{collections::BTreeMap, time::Duration};

use broker_core::{Identity, Interest, Role, Timestamp, UserId, access::Action, name::NameError};
use serde_json::{Map, Value};

use crate::config::Claims;

/// Why a token with a good signature is refused. The texts name claims, never values.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ClaimError {
    #[error("the token names no user: it needs the claim `{0}`")]
    NoUser(String),
    #[error("the token's claim `{0}` must be text")]
    NotText(String),
    #[error("the token's claim `{0}` must be text or a list of texts")]
    NotTexts(String),
    #[error("the token's claim `{0}` does not fit: {1}")]
    Name(String, NameError),
    #[error(
        "the token's claim `{0}` must be an object of lists: subscribe, wildcard, publish, request, members"
    )]
    Grants(String),
}

/// Reads who the token is for. `leeway` is how long it is still valid after its `exp`.
pub(super) fn identity(
    claims: &Map<String, Value>,
    names: &Claims,
    leeway: Duration,
) -> Result<Identity, ClaimError> {
    Ok(Identity {
        user: Some(user(claims, &names.user)?),
        key: None,
        roles: roles(claims, &names.role)?,
        claims: kept(claims, &names.keep),
        grants: grants(claims, &names.grants)?,
        expires: expires(claims, leeway),
    })
}

/// The first of these claims that is there.
fn first<'a>(claims: &'a Map<String, Value>, names: &'a [String]) -> Option<(&'a str, &'a Value)> {
    names
        .iter()
        .filter_map(|name| Some((name.as_str(), claims.get(name)?)))
        .find(|(_, value)| !value.is_null())
}

fn user(claims: &Map<String, Value>, names: &[String]) -> Result<UserId, ClaimError> {
    let (name, value) =
        first(claims, names).ok_or_else(|| ClaimError::NoUser(names.join("` or `")))?;
    // Ids that are numbers are common where users are rows of a database.
    let text = match value {
        Value::String(text) => text.clone(),
        Value::Number(number) if !number.is_f64() => number.to_string(),
        _ => return Err(ClaimError::NotText(name.to_owned())),
    };
    text.parse().map_err(|error| ClaimError::Name(name.to_owned(), error))
}

fn roles(claims: &Map<String, Value>, names: &[String]) -> Result<Vec<Role>, ClaimError> {
    let Some((name, value)) = first(claims, names) else { return Ok(Vec::new()) };
    let wrong = || ClaimError::NotTexts(name.to_owned());
    let texts: Vec<&str> = match value {
        Value::String(text) => text.split([',', ' ']).filter(|part| !part.is_empty()).collect(),
        Value::Array(list) => {
            list.iter().map(|role| role.as_str().ok_or_else(wrong)).collect::<Result<_, _>>()?
        }
        _ => return Err(wrong()),
    };
    let mut roles = Vec::new();
    for text in texts {
        let role = text.parse().map_err(|error| ClaimError::Name(name.to_owned(), error))?;
        if !roles.contains(&role) {
            roles.push(role);
        }
    }
    Ok(roles)
}

fn kept(claims: &Map<String, Value>, names: &[String]) -> BTreeMap<String, Vec<String>> {
    names.iter().filter_map(|name| Some((name.clone(), texts(claims.get(name)?)))).collect()
}

/// The claim's values, as text.
pub(crate) fn texts(value: &Value) -> Vec<String> {
    match value {
        Value::Array(list) => list.iter().filter_map(scalar).collect(),
        single => scalar(single).into_iter().collect(),
    }
}

fn scalar(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        Value::Bool(truth) => Some(truth.to_string()),
        Value::Null | Value::Array(_) | Value::Object(_) => None,
    }
}

fn grants(claims: &Map<String, Value>, name: &str) -> Result<Vec<(Action, Interest)>, ClaimError> {
    match claims.get(name).filter(|value| !value.is_null()) {
        Some(value) => granted(value, name),
        None => Ok(Vec::new()),
    }
}

/// What an object of lists grants; `name` is what errors call it.
pub(crate) fn granted(value: &Value, name: &str) -> Result<Vec<(Action, Interest)>, ClaimError> {
    let wrong = || ClaimError::Grants(name.to_owned());
    let mut grants = Vec::new();
    for (action, names) in value.as_object().ok_or_else(wrong)? {
        let action = match action.as_str() {
            "subscribe" => Action::Subscribe,
            "wildcard" => Action::Wildcard,
            "publish" => Action::Publish,
            "request" => Action::Request,
            "members" => Action::Members,
            _ => return Err(wrong()),
        };
        for text in names.as_array().ok_or_else(wrong)? {
            let text = text.as_str().ok_or_else(wrong)?;
            let interest =
                interest(text).map_err(|error| ClaimError::Name(name.to_owned(), error))?;
            grants.push((action, interest));
        }
    }
    Ok(grants)
}

/// Text with a wildcard segment is a pattern, other text a channel.
pub(crate) fn interest(text: &str) -> Result<Interest, NameError> {
    if text.split(':').any(|segment| matches!(segment, "*" | "**")) {
        text.parse().map(Interest::Pattern)
    } else {
        text.parse().map(Interest::Channel)
    }
}

/// When the token is not valid any more. Its `exp` was checked to be a number, if it is there.
fn expires(claims: &Map<String, Value>, leeway: Duration) -> Option<Timestamp> {
    let seconds = claims.get("exp")?.as_f64()?;
    let end = Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX).saturating_add(leeway);
    Some(Timestamp(u64::try_from(end.as_millis()).unwrap_or(u64::MAX)))
}
