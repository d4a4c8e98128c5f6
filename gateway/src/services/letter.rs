//! What is posted to a webhook, and how it is signed: <https://www.standardwebhooks.com>.

use base64::prelude::{BASE64_STANDARD, Engine as _};
use broker_core::{Data, MessageId, Timestamp, ports::ServiceRequest};
use hmac::{Hmac, Mac as _};
use serde::Serialize;
use serde_json::value::RawValue;
use sha2::Sha256;

use crate::config::SigningKey;

/// A request as it is posted.
#[derive(Debug)]
pub(super) struct Letter {
    pub(super) id: MessageId,
    pub(super) body: Vec<u8>,
    /// Seconds since 1970.
    pub(super) timestamp: u64,
}

#[derive(Serialize)]
struct Body<'a> {
    id: &'a str,
    address: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    event: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<&'a RawValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    data_base64: Option<String>,
    caller: Caller<'a>,
}

#[derive(Serialize)]
struct Caller<'a> {
    connection: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    user: Option<&'a str>,
    roles: Vec<&'a str>,
}

impl Letter {
    pub(super) fn new(id: MessageId, request: &ServiceRequest, now: Timestamp) -> Self {
        let (data, data_base64) = match &request.data {
            Data::Json(text) => {
                let raw = serde_json::from_slice(text.as_bytes());
                (Some(raw.expect("it was checked to be JSON")), None)
            }
            Data::Binary(bytes) => (None, Some(BASE64_STANDARD.encode(bytes))),
        };
        let body = Body {
            id: id.as_str(),
            address: request.address.as_str(),
            event: request.event.as_ref().map(|event| event.as_str()),
            data,
            data_base64,
            caller: Caller {
                connection: request.caller.connection.to_string(),
                user: request.caller.user.as_ref().map(|user| user.as_str()),
                roles: request.caller.roles.iter().map(|role| role.as_str()).collect(),
            },
        };
        let body = serde_json::to_vec(&body).expect("texts and JSON have a JSON form");
        Self { id, body, timestamp: now.0 / 1000 }
    }

    /// One signature for each key, with spaces between them.
    pub(super) fn signatures(&self, keys: &[SigningKey]) -> String {
        let signatures: Vec<String> = keys.iter().map(|key| self.signature(key)).collect();
        signatures.join(" ")
    }

    fn signature(&self, key: &SigningKey) -> String {
        let mut mac = Hmac::<Sha256>::new_from_slice(key.bytes()).expect("any length will do");
        mac.update(format!("{}.{}.", self.id, self.timestamp).as_bytes());
        mac.update(&self.body);
        format!("v1,{}", BASE64_STANDARD.encode(mac.finalize().into_bytes()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of the specification.
    #[test]
    fn a_signature_is_that_of_the_standard() {
        let letter = Letter {
            id: "msg_p5jXN8AQM9LWM0D4loKWxJek".parse().unwrap(),
            body: br#"{"test": 2432232314}"#.to_vec(),
            timestamp: 1_614_265_330,
        };
        let key: SigningKey = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw".parse().unwrap();
        let signature = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=";
        assert_eq!(letter.signatures(std::slice::from_ref(&key)), signature);
        let both = letter.signatures(&[key.clone(), key]);
        assert_eq!(both, format!("{signature} {signature}"));
    }
}
