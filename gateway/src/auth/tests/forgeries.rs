//! Tokens that must be refused.

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};

use super::*;

/// A token of these parts with an HS256 signature by this secret.
fn assemble(header: &Value, claims: &str, secret: &str) -> Token {
    let part = |text: &str| BASE64_URL_SAFE_NO_PAD.encode(text);
    let message = format!("{}.{}", part(&header.to_string()), part(claims));
    let key = EncodingKey::from_secret(secret.as_bytes());
    let signature =
        jsonwebtoken::crypto::sign(message.as_bytes(), &key, jsonwebtoken::Algorithm::HS256);
    Token::new(format!("{message}.{}", signature.unwrap()))
}

fn with_header(header: &Value) -> Result<Identity, Failure> {
    let claims = Value::Object(claims(json!({}))).to_string();
    verify(&auth(Algorithm::HS256, SECRET), &assemble(header, &claims, SECRET))
}

#[test]
fn the_forged_the_expired_and_the_misdirected_are_refused_with_what_is_wrong() {
    let now = get_current_timestamp();
    let expired = refusal(check(json!({ "exp": now - 31 })));
    assert_eq!(expired, (ErrorCode::TokenExpired, "the token has expired".to_owned()));
    assert!(check(json!({ "exp": now - 5 })).is_ok(), "within the leeway");
    for (more, text) in [
        (json!({ "exp": null }), "the token lacks the claim `exp`"),
        (json!({ "exp": (now + 60).to_string() }), "the token lacks the claim `exp`"),
        (json!({ "nbf": now + 60 }), "the token is not valid yet (nbf)"),
        (json!({ "nbf": "0" }), "the token's claim `nbf` is not of its type"),
        (json!({ "sub": null }), "the token names no user: it needs the claim `sub` or `userId`"),
        (json!({ "sub": true }), "the token's claim `sub` must be text"),
        (json!({ "sub": "" }), "the token's claim `sub` does not fit: the name is empty"),
        (json!({ "role": 7 }), "the token's claim `role` must be text or a list of texts"),
        (json!({ "role": [7] }), "the token's claim `role` must be text or a list of texts"),
    ] {
        assert_eq!(refusal(check(more)), (ErrorCode::Unauthorized, text.to_owned()));
    }
    assert_eq!(refusal(check(json!({ "sub": { "a": 1 } }))).0, ErrorCode::Unauthorized);
    for grants in [json!([]), json!({ "admin": [] }), json!({ "publish": "a" })] {
        let (_, text) = refusal(check(json!({ "fanfare": grants })));
        assert!(text.contains("must be an object of lists"), "{text}");
    }
    let (_, text) = refusal(check(json!({ "fanfare": { "publish": ["a::b"] } })));
    assert!(text.contains("`fanfare` does not fit"), "{text}");
}

#[test]
fn a_token_without_end_is_accepted_only_where_that_is_configured() {
    let mut auth = auth(Algorithm::HS256, SECRET);
    auth.require_exp = false;
    let identity = verify(&auth, &hs256(&claims(json!({ "exp": null })))).unwrap();
    assert_eq!(identity.expires, None);
    assert!(verify(&auth, &hs256(&claims(json!({ "exp": "later" })))).is_err());
    let past = get_current_timestamp() - 60;
    assert!(verify(&auth, &hs256(&claims(json!({ "exp": past })))).is_err());
}

#[test]
fn issuer_and_audience_are_checked_where_they_are_configured() {
    let mut auth = auth(Algorithm::HS256, SECRET);
    assert!(verify(&auth, &hs256(&claims(json!({ "iss": "x", "aud": "x" })))).is_ok());
    auth.issuer = Some("https://id.example".to_owned());
    auth.audience = vec!["fanfare".to_owned()];
    for (iss, aud, accepted) in [
        (json!("https://id.example"), json!("fanfare"), true),
        (json!("https://id.example"), json!(["other", "fanfare"]), true),
        (json!("https://id.example/"), json!("fanfare"), false),
        (json!("https://id.example"), json!("fanfare2"), false),
        (json!("https://id.example"), json!([]), false),
        (json!("https://id.example"), json!(null), false),
        (json!(null), json!("fanfare"), false),
        (json!({ "a": "https://id.example" }), json!("fanfare"), false),
    ] {
        let token = hs256(&claims(json!({ "iss": iss, "aud": aud })));
        assert_eq!(verify(&auth, &token).is_ok(), accepted, "{iss} {aud}");
    }
}

#[test]
fn the_algorithm_is_that_of_the_key() {
    // The classic: the public key, which everybody knows, used as a secret.
    let rs256 = auth(Algorithm::RS256, RSA_PUBLIC);
    let claims = Value::Object(claims(json!({}))).to_string();
    let confused = assemble(&json!({ "alg": "HS256" }), &claims, RSA_PUBLIC);
    assert_eq!(refusal(verify(&rs256, &confused)).0, ErrorCode::Unauthorized);
    let relabelled = assemble(&json!({ "alg": "RS256" }), &claims, RSA_PUBLIC);
    assert_eq!(refusal(verify(&rs256, &relabelled)).0, ErrorCode::Unauthorized);
    for algorithm in ["none", "None", "nOnE", "", "HS257"] {
        let (code, text) = refusal(with_header(&json!({ "alg": algorithm })));
        assert_eq!(code, ErrorCode::Unauthorized);
        assert_eq!(text, "the token is not a JSON Web Token of a known algorithm");
    }
}

#[test]
fn a_header_can_look_a_key_up_and_do_nothing_else() {
    assert!(with_header(&json!({ "alg": "HS256", "typ": "at+jwt", "x": 1 })).is_ok());
    for header in [
        json!({ "alg": "HS256", "jku": "https://evil.example" }),
        json!({ "alg": "HS256", "x5u": "https://evil.example" }),
        json!({ "alg": "HS256", "jwk": { "kty": "oct", "k": "AAAA" } }),
        json!({ "alg": "HS256", "crit": ["b64"], "b64": false }),
        json!({ "alg": "HS256", "kid": "k".repeat(129) }),
        json!({ "alg": "HS256", "kid": 7 }),
        json!({ "alg": "HS256", "crit": true }),
    ] {
        assert_eq!(refusal(with_header(&header)).0, ErrorCode::Unauthorized);
    }
}

#[test]
fn a_key_id_is_compared_and_never_interpreted() {
    let mut auth = auth(Algorithm::HS256, SECRET);
    auth.keys = vec![
        key(Algorithm::HS256, "another-secret-another-secret-an", Some("old")),
        key(Algorithm::HS256, SECRET, Some("new")),
    ];
    let claims = Value::Object(claims(json!({}))).to_string();
    for (kid, accepted) in [
        ("new", true),
        ("old", false),
        ("../../dev/null", false),
        ("/dev/null", false),
        ("' OR 1=1 --", false),
        ("https://evil.example/key", false),
        ("", false),
    ] {
        let token = assemble(&json!({ "alg": "HS256", "kid": kid }), &claims, SECRET);
        assert_eq!(verify(&auth, &token).is_ok(), accepted, "{kid}");
    }
    assert!(verify(&auth, &assemble(&json!({ "alg": "HS256" }), &claims, SECRET)).is_ok());
    let empty = assemble(&json!({ "alg": "HS256", "kid": "/dev/null" }), &claims, "");
    assert!(verify(&auth, &empty).is_err());
}

#[test]
fn what_is_no_token_is_refused_and_never_repeated() {
    let auth = auth(Algorithm::HS256, SECRET);
    let good = hs256(&claims(json!({})));
    let (message, signature) = good.reveal().rsplit_once('.').unwrap();
    let other = hs256(&claims(json!({ "sub": "bob" })));
    let (other_message, _) = other.reveal().rsplit_once('.').unwrap();
    let header = json!({ "alg": "HS256" });
    let twice = format!("{{\"sub\":\"a\",\"exp\":1,\"exp\":{}}}", get_current_timestamp() + 60);
    let bad = [
        String::new(),
        "hunter2".to_owned(),
        "a.b.c".to_owned(),
        "..".to_owned(),
        message.to_owned(),
        format!("{message}."),
        format!("{other_message}.{signature}"),
        format!("{}.x", good.reveal()),
        format!("{} ", good.reveal()),
        assemble(&header, "[]", SECRET).reveal().to_owned(),
        assemble(&header, "\"hunter2\"", SECRET).reveal().to_owned(),
        assemble(&header, &twice, SECRET).reveal().to_owned(),
        "x".repeat(1 << 20),
    ];
    for text in bad {
        let (code, refusal) = refusal(verify(&auth, &Token::new(text.clone())));
        assert_eq!(code, ErrorCode::Unauthorized);
        assert!(!refusal.contains("hunter2") && refusal.len() < 200, "{refusal}");
    }
}
