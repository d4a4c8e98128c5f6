//! What is accepted and what is not, with tokens that a test signs itself.

mod forgeries;
mod jwks;

use std::time::Duration;

use broker_core::{ErrorCode, Identity, access::Action, session::Failure, session::Token};
use jsonwebtoken::{EncodingKey, Header, get_current_timestamp};
use serde_json::{Map, Value, json};

use super::{keys, mint, verifier::Verifier};
use crate::config::{Algorithm, Auth, Config, Key, Secret};

const SECRET: &str = "0123456789abcdef0123456789abcdef";
/// Made for these tests only; generating one takes seconds in a debug build.
const RSA: &str = include_str!("testdata/rsa.pem");
const RSA_PUBLIC: &str = include_str!("testdata/rsa.pub.pem");

/// A configuration with this key only.
fn auth(algorithm: Algorithm, material: &str) -> Auth {
    let mut auth = Config::dev().auth;
    auth.keys = vec![key(algorithm, material, None)];
    auth
}

fn key(algorithm: Algorithm, material: &str, kid: Option<&str>) -> Key {
    let (kid, material) = (kid.map(str::to_owned), Secret::new(material.to_owned()));
    Key { kid, algorithm, material }
}

/// Claims of user `ann` that expire in a minute, with these added.
#[expect(clippy::needless_pass_by_value, reason = "it is given a literal")]
fn claims(more: Value) -> Map<String, Value> {
    let mut claims = json!({ "sub": "ann", "exp": get_current_timestamp() + 60 });
    let all = claims.as_object_mut().unwrap();
    all.extend(more.as_object().unwrap().clone());
    all.retain(|_, value| !value.is_null());
    all.clone()
}

fn sign(algorithm: Algorithm, key: &EncodingKey, claims: &Map<String, Value>) -> Token {
    let header = Header::new(keys::jwa(algorithm));
    Token::new(jsonwebtoken::encode(&header, claims, key).unwrap())
}

fn hs256(claims: &Map<String, Value>) -> Token {
    sign(Algorithm::HS256, &EncodingKey::from_secret(SECRET.as_bytes()), claims)
}

fn verify(auth: &Auth, token: &Token) -> Result<Identity, Failure> {
    Verifier::new(auth).unwrap().verify_now(token).expect("no key set is to be fetched")
}

fn check(more: Value) -> Result<Identity, Failure> {
    verify(&auth(Algorithm::HS256, SECRET), &hs256(&claims(more)))
}

/// The code and text of the refusal.
fn refusal(outcome: Result<Identity, Failure>) -> (ErrorCode, String) {
    let failure = outcome.expect_err("the token is refused");
    (failure.code, failure.text.into_owned())
}

/// Private and public key, as PEM.
fn generate(algorithm: &'static rcgen::SignatureAlgorithm) -> (String, String) {
    let pair = rcgen::KeyPair::generate_for(algorithm).unwrap();
    (pair.serialize_pem(), pair.public_key_pem())
}

#[test]
fn every_algorithm_verifies_what_its_key_signed_and_nothing_else() {
    use Algorithm::*;
    let secret = EncodingKey::from_secret(SECRET.as_bytes());
    let (p256, p256_public) = generate(&rcgen::PKCS_ECDSA_P256_SHA256);
    let (p384, p384_public) = generate(&rcgen::PKCS_ECDSA_P384_SHA384);
    let (ed, ed_public) = generate(&rcgen::PKCS_ED25519);
    let (_, other_ed) = generate(&rcgen::PKCS_ED25519);
    let ec = |pem: &str| EncodingKey::from_ec_pem(pem.as_bytes()).unwrap();
    let ed = EncodingKey::from_ed_pem(ed.as_bytes()).unwrap();
    let rsa = EncodingKey::from_rsa_pem(RSA.as_bytes()).unwrap();
    let cases = [
        (HS256, &secret, SECRET),
        (HS384, &secret, SECRET),
        (HS512, &secret, SECRET),
        (RS256, &rsa, RSA_PUBLIC),
        (RS384, &rsa, RSA_PUBLIC),
        (RS512, &rsa, RSA_PUBLIC),
        (PS256, &rsa, RSA_PUBLIC),
        (PS384, &rsa, RSA_PUBLIC),
        (PS512, &rsa, RSA_PUBLIC),
        (ES256, &ec(&p256), &p256_public),
        (ES384, &ec(&p384), &p384_public),
        (EdDSA, &ed, &ed_public),
    ];
    for (algorithm, private, _) in cases {
        let token = sign(algorithm, private, &claims(json!({})));
        for (configured, _, public) in cases {
            let outcome = verify(&auth(configured, public), &token);
            assert_eq!(outcome.is_ok(), configured == algorithm, "{algorithm:?} {configured:?}");
        }
    }
    let token = sign(EdDSA, &ed, &claims(json!({})));
    let (code, _) = refusal(verify(&auth(EdDSA, &other_ed), &token));
    assert_eq!(code, ErrorCode::Unauthorized);
}

#[test]
fn a_key_that_is_none_is_refused_at_start() {
    for (algorithm, pem) in [
        (Algorithm::RS256, "hunter2"),
        (Algorithm::ES256, RSA_PUBLIC),
        (Algorithm::EdDSA, RSA_PUBLIC),
    ] {
        let error = Verifier::new(&auth(algorithm, pem)).expect_err("not such a key").to_string();
        assert!(error.contains("number 1") && !error.contains("hunter2"), "{error}");
    }
}

#[test]
fn claims_become_an_identity() {
    let mut auth = auth(Algorithm::HS256, SECRET);
    auth.claims.keep = ["org", "level", "absent", "nested"].map(str::to_owned).into();
    let exp = get_current_timestamp() + 60;
    let token = hs256(&claims(json!({
        "exp": exp,
        "role": ["staff", "staff", "on call"],
        "org": ["a", "b"],
        "level": 3,
        "nested": { "no": "text" },
        "fanfare": { "subscribe": ["venue:42", "venue:*"], "wildcard": ["orders:**"] },
    })));
    let identity = verify(&auth, &token).unwrap();
    assert_eq!(identity.user, Some("ann".parse().unwrap()));
    assert_eq!(identity.roles, ["staff".parse().unwrap(), "on call".parse().unwrap()]);
    assert_eq!(identity.claims["org"], ["a", "b"]);
    assert_eq!(identity.claims["level"], ["3"]);
    assert!(identity.claims["nested"].is_empty() && !identity.claims.contains_key("absent"));
    assert_eq!(identity.expires.unwrap().0, (exp + 30) * 1000, "the leeway is part of it");
    let grants: Vec<String> =
        identity.grants.iter().map(|(action, what)| format!("{action} {what}")).collect();
    assert_eq!(
        grants,
        ["subscribe to venue:42", "subscribe to venue:*", "subscribe by wildcard to orders:**"]
    );
    assert!(identity.grants.iter().all(|(action, _)| *action != Action::Publish));
}

#[test]
fn the_first_claim_that_is_there_counts() {
    let user = |more| check(more).unwrap().user.unwrap().to_string();
    assert_eq!(user(json!({ "userId": "bob" })), "ann");
    assert_eq!(user(json!({ "sub": null, "userId": "bob" })), "bob");
    assert_eq!(user(json!({ "sub": null, "userId": 42 })), "42");
    assert_eq!(user(json!({ "sub": 42 })), "42");
    let roles = |more| -> Vec<String> {
        check(more).unwrap().roles.iter().map(ToString::to_string).collect()
    };
    assert_eq!(roles(json!({})), [""; 0]);
    assert_eq!(roles(json!({ "role": "a, b c" })), ["a", "b", "c"]);
    assert_eq!(roles(json!({ "roles": ["x"] })), ["x"]);
}

#[test]
fn a_minted_token_is_accepted_and_can_be_inspected() {
    let auth = auth(Algorithm::HS256, SECRET);
    let token = mint::mint(&auth.keys[0], claims(json!({ "exp": null })), Duration::from_secs(9));
    let token = token.unwrap();
    assert!(verify(&auth, &Token::new(token.reveal().to_owned())).is_ok());
    let seen = mint::inspect(token.reveal()).unwrap();
    assert_eq!(seen["header"]["alg"], "HS256");
    assert_eq!(seen["claims"]["exp"].as_u64(), seen["claims"]["iat"].as_u64().map(|at| at + 9));
    assert_eq!(mint::inspect("x.y.z"), None);
    let public = key(Algorithm::RS256, RSA_PUBLIC, None);
    assert!(mint::mint(&public, Map::new(), Duration::ZERO).is_err());
}
