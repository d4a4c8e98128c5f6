//! Keys that are fetched, from a real server on this machine.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use axum::{Router, http::StatusCode, routing::get};
use jsonwebtoken::jwk::Jwk;
use parking_lot::Mutex;
use tokio::net::TcpListener;

use super::*;

/// An issuer that publishes what a test says, and counts how often it is asked.
struct Issuer {
    url: url::Url,
    answer: Arc<Mutex<(StatusCode, String)>>,
    asked: Arc<AtomicUsize>,
}

impl Issuer {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/jwks", listener.local_addr().unwrap()).parse().unwrap();
        let answer = Arc::new(Mutex::new((StatusCode::OK, String::new())));
        let asked = Arc::new(AtomicUsize::new(0));
        let (for_route, counter) = (Arc::clone(&answer), Arc::clone(&asked));
        let route = get(move || async move {
            counter.fetch_add(1, Ordering::SeqCst);
            for_route.lock().clone()
        });
        tokio::spawn(
            async move { axum::serve(listener, Router::new().route("/jwks", route)).await },
        );
        Self { url, answer, asked }
    }

    fn publish(&self, keys: &[&SigningKey]) {
        let set = json!({ "keys": keys.iter().map(|key| &key.public).collect::<Vec<_>>() });
        *self.answer.lock() = (StatusCode::OK, set.to_string());
    }

    fn fail(&self) {
        *self.answer.lock() = (StatusCode::SERVICE_UNAVAILABLE, String::new());
    }

    fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }

    /// A verifier that knows this issuer only and fetches this often at most.
    fn verifier(&self, min_refresh: Duration) -> Verifier {
        let mut auth = Config::dev().auth;
        auth.keys.clear();
        auth.jwks_url = Some(self.url.clone());
        auth.jwks_min_refresh = min_refresh;
        Verifier::new(&auth).unwrap()
    }
}

struct SigningKey {
    kid: &'static str,
    private: EncodingKey,
    public: Value,
}

impl SigningKey {
    fn new(kid: &'static str) -> Self {
        let (pem, _) = generate(&rcgen::PKCS_ECDSA_P256_SHA256);
        let private = EncodingKey::from_ec_pem(pem.as_bytes()).unwrap();
        let jwk = Jwk::from_encoding_key(&private, jsonwebtoken::Algorithm::ES256).unwrap();
        let mut public = serde_json::to_value(jwk).unwrap();
        public["kid"] = kid.into();
        Self { kid, private, public }
    }

    fn token(&self) -> Token {
        let mut header = Header::new(jsonwebtoken::Algorithm::ES256);
        header.kid = Some(self.kid.to_owned());
        Token::new(jsonwebtoken::encode(&header, &claims(json!({})), &self.private).unwrap())
    }
}

const LONG: Duration = Duration::from_secs(3600);

#[tokio::test]
async fn keys_are_fetched_when_first_needed_and_then_at_hand() {
    let issuer = Issuer::start().await;
    let key = SigningKey::new("a");
    issuer.publish(&[&key]);
    let verifier = issuer.verifier(LONG);
    assert!(verifier.verify_now(&key.token()).is_none());
    assert!(verifier.verify(&key.token()).await.is_ok());
    assert!(verifier.verify_now(&key.token()).unwrap().is_ok());
    assert_eq!(issuer.asked(), 1);
}

#[tokio::test]
async fn keys_that_were_fetched_stay_after_a_reload() {
    let issuer = Issuer::start().await;
    let key = SigningKey::new("a");
    issuer.publish(&[&key]);
    let before = issuer.verifier(LONG);
    assert!(before.verify(&key.token()).await.is_ok());
    issuer.fail();
    let after = issuer.verifier(2 * LONG).after(&before);
    assert!(after.verify_now(&key.token()).unwrap().is_ok());
    let other = Issuer::start().await.verifier(LONG).after(&before);
    assert!(other.verify_now(&key.token()).is_none(), "of another issuer");
}

#[tokio::test]
async fn a_flood_of_unknown_key_ids_costs_one_fetch() {
    let issuer = Issuer::start().await;
    let (known, unknown) = (SigningKey::new("a"), SigningKey::new("b"));
    issuer.publish(&[&known]);
    let verifier = Arc::new(issuer.verifier(LONG));
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..200 {
        let (verifier, token) = (Arc::clone(&verifier), unknown.token());
        tasks.spawn(async move { verifier.verify(&token).await });
    }
    while let Some(outcome) = tasks.join_next().await {
        assert_eq!(refusal(outcome.unwrap()).0, ErrorCode::Unauthorized);
    }
    assert_eq!(issuer.asked(), 1);
    assert!(verifier.verify_now(&known.token()).unwrap().is_ok());
    let secret = hs256(&claims(json!({})));
    assert!(verifier.verify_now(&secret).unwrap().is_err(), "secrets are not published");
}

#[tokio::test]
async fn rotated_keys_overlap_and_withdrawn_ones_are_refused() {
    let issuer = Issuer::start().await;
    let (old, new) = (SigningKey::new("old"), SigningKey::new("new"));
    let verifier = issuer.verifier(Duration::from_nanos(1));
    issuer.publish(&[&old]);
    assert!(verifier.verify(&old.token()).await.is_ok());
    issuer.publish(&[&old, &new]);
    assert!(verifier.verify(&new.token()).await.is_ok());
    assert!(verifier.verify(&old.token()).await.is_ok());
    assert_eq!(issuer.asked(), 2);
    issuer.publish(&[&new]);
    assert!(verifier.verify(&SigningKey::new("none").token()).await.is_err());
    assert_eq!(refusal(verifier.verify(&old.token()).await).0, ErrorCode::Unauthorized);
    assert!(verifier.verify(&new.token()).await.is_ok());
}

#[tokio::test]
async fn while_the_issuer_is_away_the_last_keys_hold() {
    let issuer = Issuer::start().await;
    let (known, unknown) = (SigningKey::new("a"), SigningKey::new("b"));
    let verifier = issuer.verifier(Duration::from_nanos(1));
    issuer.fail();
    assert_eq!(refusal(verifier.verify(&known.token()).await).0, ErrorCode::Unavailable);
    issuer.publish(&[&known]);
    assert!(verifier.verify(&known.token()).await.is_ok());
    for answer in ["", "{", "{\"keys\":[]}", "{\"keys\":[{\"kty\":\"oct\",\"k\":\"AAAA\"}]}"] {
        *issuer.answer.lock() = (StatusCode::OK, answer.to_owned());
        assert_eq!(refusal(verifier.verify(&unknown.token()).await).0, ErrorCode::Unavailable);
        assert!(verifier.verify(&known.token()).await.is_ok(), "{answer}");
    }
}

#[tokio::test]
async fn a_set_that_is_too_large_is_not_read() {
    let issuer = Issuer::start().await;
    let key = SigningKey::new("a");
    let huge = json!({ "keys": [key.public], "padding": "x".repeat(300 << 10) });
    *issuer.answer.lock() = (StatusCode::OK, huge.to_string());
    let verifier = issuer.verifier(LONG);
    assert_eq!(refusal(verifier.verify(&key.token()).await).0, ErrorCode::Unavailable);
}

#[tokio::test]
async fn a_key_for_another_use_or_of_a_newer_kind_is_passed_over() {
    let issuer = Issuer::start().await;
    let (good, mut for_encryption) = (SigningKey::new("a"), SigningKey::new("b"));
    for_encryption.public["use"] = "enc".into();
    let newer = json!({ "kty": "AKP", "kid": "c", "alg": "ML-DSA-44", "pub": "AAAA" });
    let set = json!({ "keys": [newer, for_encryption.public, good.public] });
    *issuer.answer.lock() = (StatusCode::OK, set.to_string());
    let verifier = issuer.verifier(LONG);
    assert!(verifier.verify(&good.token()).await.is_ok());
    assert!(verifier.verify(&for_encryption.token()).await.is_err());
}

#[tokio::test]
async fn in_the_background_the_set_is_fetched_before_anybody_asks() {
    let issuer = Issuer::start().await;
    let key = SigningKey::new("a");
    issuer.publish(&[&key]);
    let verifier = issuer.verifier(LONG);
    tokio::select! {
        () = verifier.keep_fresh() => unreachable!("it goes on for ever"),
        () = async {
            while verifier.verify_now(&key.token()).is_none_or(|outcome| outcome.is_err()) {
                tokio::task::yield_now().await;
            }
        } => {}
    }
    assert_eq!(issuer.asked(), 1);
}
