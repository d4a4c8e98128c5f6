//! The connection on which a gateway reads: logging in, what the server refuses, and what happens
//! when it goes away.

use std::{fs, path::Path, sync::atomic::Ordering, thread};

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use broker_backends::{ConnectError, NatsAuth, NatsOptions, TlsFiles};
use broker_core::{
    Data,
    ports::{BusError, GapReason},
};
use broker_testkit::{
    NatsServer,
    contract::{
        Gateway, PATIENCE,
        bus::{channel_name, interest, message, service},
    },
    eventually,
};
use nkeys::KeyPair;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer};
use tempfile::TempDir;

use crate::{
    nats::{One, RECONNECT, connect, options},
    nats_order::Proxy,
    support::gateway,
};

/// A server with a configuration file of its own.
async fn configured(text: &str) -> (NatsServer, TempDir) {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("nats.conf");
    fs::write(&file, text).unwrap();
    (NatsServer::start_with(&["-c", &file.display().to_string()]).await, directory)
}

async fn one_gateway(nats: NatsOptions) -> Gateway {
    gateway(0, connect(nats).await.unwrap(), ())
}

/// Subscribes, publishes at once, and waits for the message.
async fn reaches_itself(gateway: &Gateway, channel: &str) {
    gateway.bus.subscribe(interest(channel)).await.unwrap();
    gateway.bus.publish(message(channel, "own", "1"), service()).await.unwrap();
    gateway.wait_for(&channel_name(channel), 1).await;
}

async fn refusal(nats: NatsOptions) -> String {
    match connect(nats).await {
        Err(error @ ConnectError::Nats(_)) => error.to_string(),
        other => panic!("no refusal: {other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn by_password_or_token() {
    let server = NatsServer::start_with(&["--user", "ann", "--pass", "secret"]).await;
    let mut nats = options(&server, "gateway-0");
    nats.auth = NatsAuth::User { name: "ann".into(), password: "secret".into() };
    reaches_itself(&one_gateway(nats.clone()).await, "venue:42").await;
    nats.auth = NatsAuth::User { name: "ann".into(), password: "guess".into() };
    let error = refusal(nats).await.to_lowercase();
    assert!(error.contains("authorization violation") && !error.contains("guess"), "{error}");

    let server = NatsServer::start_with(&["--auth", "secret"]).await;
    let mut nats = options(&server, "gateway-0");
    nats.auth = NatsAuth::Token("secret".into());
    reaches_itself(&one_gateway(nats).await, "venue:42").await;
}

/// A JWT as NATS wants it.
fn token(issuer: &KeyPair, subject: &KeyPair, claims: &str) -> String {
    let (issuer_key, subject) = (issuer.public_key(), subject.public_key());
    let claims = format!(
        r#"{{"jti":"1","iat":1,"iss":"{issuer_key}","sub":"{subject}","name":"x","nats":{claims}}}"#
    );
    let header = BASE64_URL_SAFE_NO_PAD.encode(r#"{"typ":"JWT","alg":"ed25519-nkey"}"#);
    let signed = format!("{header}.{}", BASE64_URL_SAFE_NO_PAD.encode(claims));
    let signature = issuer.sign(signed.as_bytes()).unwrap();
    format!("{signed}.{}", BASE64_URL_SAFE_NO_PAD.encode(signature))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn by_a_key_that_signs() {
    let (operator, account, user) =
        (KeyPair::new_operator(), KeyPair::new_account(), KeyPair::new_user());
    let boss = token(&operator, &operator, r#"{"type":"operator","version":2}"#);
    let limits = r#"{"subs":-1,"data":-1,"payload":-1,"imports":-1,"exports":-1,"wildcards":true,"conn":-1,"leaf":-1}"#;
    let account_claims = format!(r#"{{"limits":{limits},"type":"account","version":2}}"#);
    let home = token(&operator, &account, &account_claims);
    let user_claims =
        r#"{"pub":{},"sub":{},"subs":-1,"data":-1,"payload":-1,"type":"user","version":2}"#;
    let jwt = token(&account, &user, user_claims);
    let (server, directory) = configured(&format!(
        "operator: {boss}\nresolver: MEMORY\nresolver_preload: {{ {}: {home} }}\n",
        account.public_key()
    ))
    .await;
    let credentials = |seed: &str| {
        let text = format!(
            "-----BEGIN NATS USER JWT-----\n{jwt}\n------END NATS USER JWT------\n\n\
             *** IMPORTANT ***\n\n\
             -----BEGIN USER NKEY SEED-----\n{seed}\n------END USER NKEY SEED------\n"
        );
        let file = directory.path().join("user.creds");
        fs::write(&file, text).unwrap();
        file
    };
    let mut nats = options(&server, "gateway-0");
    nats.auth = NatsAuth::Credentials(credentials(&user.seed().unwrap()));
    reaches_itself(&one_gateway(nats.clone()).await, "venue:42").await;
    nats.auth = NatsAuth::Credentials(credentials(&KeyPair::new_user().seed().unwrap()));
    let error = refusal(nats).await.to_lowercase();
    assert!(error.contains("authorization violation"), "{error}");
}

/// An authority, and certificates of it for server and client, as PEM files.
fn certificates(directory: &Path) -> TlsFiles {
    let write = |name: &str, text: String| {
        fs::write(directory.join(name), text).unwrap();
        directory.join(name)
    };
    let key = rcgen::KeyPair::generate().unwrap();
    let mut authority = CertificateParams::new(Vec::new()).unwrap();
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let ca = write("ca.pem", authority.self_signed(&key).unwrap().pem());
    let issuer = Issuer::new(authority, key);
    for name in ["server", "client"] {
        let key = rcgen::KeyPair::generate().unwrap();
        let leaf = CertificateParams::new(vec!["127.0.0.1".into()]).unwrap();
        write(&format!("{name}.pem"), leaf.signed_by(&key, &issuer).unwrap().pem());
        write(&format!("{name}.key"), key.serialize_pem());
    }
    let file = |name: &str| Some(directory.join(name));
    TlsFiles { ca: Some(ca), certificate: file("client.pem"), key: file("client.key") }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn over_tls() {
    let directory = tempfile::tempdir().unwrap();
    let files = certificates(directory.path());
    let path = |name: &str| directory.path().join(name).display().to_string();
    let (certificate, key, ca) = (path("server.pem"), path("server.key"), path("ca.pem"));
    let arguments =
        ["--tlsverify", "--tlscert", &certificate, "--tlskey", &key, "--tlscacert", &ca];
    let mut server = NatsServer::start_with(&arguments).await;
    let mut nats = options(&server, "gateway-0");
    nats.tls = files;
    let gateway = one_gateway(nats.clone()).await;
    let many: Vec<_> =
        (0..5000).map(|n| gateway.bus.subscribe(interest(&format!("venue:{n}")))).collect();
    for subscribed in many {
        subscribed.await.unwrap();
    }
    let large = Data::Binary(vec![7; 900_000].into());
    let large = broker_core::Message { data: large, ..message("venue:42", "large", "1") };
    gateway.bus.publish(large.clone(), service()).await.unwrap();
    assert_eq!(gateway.wait_for(&channel_name("venue:42"), 1).await[0].1, large);

    server.kill();
    server.restart().await;
    assert_eq!(gateway.wait_for_gap(GapReason::Reconnected, RECONNECT).await, None);
    eventually("publishes again", RECONNECT, async || {
        gateway.bus.publish(message("venue:4999", "back", "1"), service()).await.ok()
    })
    .await;
    gateway.wait_for(&channel_name("venue:4999"), 1).await;

    // Another authority does not vouch for this server.
    let other = tempfile::tempdir().unwrap();
    nats.tls = certificates(other.path());
    refusal(nats).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_server_does_not_permit_is_refused() {
    let (server, _directory) = configured(
        r#"authorization { users = [{ user: ann, password: secret, permissions: {
             subscribe: { allow: ["fanfare.>", "_INBOX.>"], deny: ["fanfare.ch.secret.>"] }
             publish: ">"
           } }] }"#,
    )
    .await;
    let mut nats = options(&server, "gateway-0");
    nats.auth = NatsAuth::User { name: "ann".into(), password: "secret".into() };
    let backends = connect(nats).await.unwrap();
    let stats = backends.stats.clone();
    let gateway = gateway(0, backends, ());
    let asked = ["secret:1", "venue:1", "secret:*"].map(|it| gateway.bus.subscribe(interest(it)));
    let [first, second, third] = asked;
    assert_eq!(first.await, Err(BusError::Unavailable));
    assert_eq!(second.await, Ok(()));
    assert_eq!(third.await, Err(BusError::Unavailable));
    assert_eq!(stats.subscribes_denied.load(Ordering::Relaxed), 2);
    assert_eq!(stats.subscriptions.load(Ordering::Relaxed), 1);
    reaches_itself(&gateway, "venue:1").await;
    assert!(gateway.bus.is_connected());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn more_than_the_server_takes_is_refused() {
    let (server, _directory) = configured("max_subscriptions: 20").await;
    let gateway = one_gateway(options(&server, "gateway-0")).await;
    for n in 0..15 {
        reaches_itself(&gateway, &format!("venue:{n}")).await;
    }
    let more: Vec<_> =
        (15..30).map(|n| gateway.bus.subscribe(interest(&format!("venue:{n}")))).collect();
    let mut refused = 0;
    for subscribed in more {
        match subscribed.await {
            Ok(()) => {}
            Err(error) => {
                assert_eq!(error, BusError::Unavailable);
                refused += 1;
            }
        }
    }
    assert!(refused >= 10, "{refused}");
    gateway.bus.publish(message("venue:3", "again", "1"), service()).await.unwrap();
    gateway.wait_for(&channel_name("venue:3"), 2).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_takes_no_second_connection_says_so() {
    let (server, _directory) = configured("max_connections: 1").await;
    // The server may count one that has just gone, and so refuse the first connection.
    eventually("the second connection is refused", PATIENCE, async || {
        let error = refusal(options(&server, "gateway-0")).await;
        error.contains("the server refuses: maximum connections exceeded").then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_subscribes_at_once() {
    let mut one = One::start(|_| ()).await;
    let channels: Vec<String> = (0..10_000).map(|n| format!("venue:{n}")).collect();
    let calls: Vec<_> =
        channels.iter().map(|channel| one.gateway.bus.subscribe(interest(channel))).collect();
    for subscribed in calls {
        subscribed.await.unwrap();
    }
    assert_eq!(one.stats.subscriptions.load(Ordering::Relaxed), 10_000);
    one.server.kill();
    one.server.restart().await;
    assert_eq!(one.gateway.wait_for_gap(GapReason::Reconnected, RECONNECT).await, None);
    one.publishes_again().await;
    let service = async_nats::connect(one.server.url()).await.unwrap();
    for channel in &channels {
        let subject = format!("fanfare.ch.{}", channel.replace(':', "."));
        service.publish(subject, "1".into()).await.unwrap();
    }
    eventually("all arrive", PATIENCE, async || {
        (one.stats.received.load(Ordering::Relaxed) >= 10_000).then_some(())
    })
    .await;
    for channel in &channels {
        one.gateway.bus.unsubscribe(&interest(channel));
    }
    eventually("none is left", PATIENCE, async || {
        (one.stats.subscriptions.load(Ordering::Relaxed) == 0).then_some(())
    })
    .await;
}

/// The gateway stands still until the server has had enough: then the connection ends, and
/// everybody is told that messages may be missing.
#[tokio::test]
async fn a_reader_that_is_too_slow_is_cut_and_told() {
    let (server, _directory) = configured("max_pending: 2MB\nwrite_deadline: \"1s\"").await;
    let gateway = one_gateway(options(&server, "gateway-0")).await;
    reaches_itself(&gateway, "venue:42").await;
    let url = server.url();
    let flood = thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let service = async_nats::connect(url).await.unwrap();
            for _ in 0..100 {
                let body = vec![b' '; 1_000_000];
                service.publish("fanfare.ch.venue.42", body.into()).await.unwrap();
            }
            service.flush().await.unwrap();
        });
    });
    // This blocks the only thread that there is, and so the reader.
    flood.join().unwrap();
    assert_eq!(gateway.wait_for_gap(GapReason::Reconnected, RECONNECT).await, None);
    eventually("publishes again", RECONNECT, async || {
        gateway.bus.publish(message("venue:42", "back", "1"), service()).await.ok()
    })
    .await;
    eventually("arrives", PATIENCE, async || {
        let arrived = gateway.messages(&channel_name("venue:42"));
        arrived.iter().any(|(_, message)| message.id.as_str() == "back").then_some(())
    })
    .await;
}

/// Only the reading connection breaks: publishing goes on, and those who listen are told.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn publishing_does_not_wait_for_reading() {
    let server = NatsServer::start().await;
    let proxy = Proxy::to(&server).await;
    let mut nats = options(&server, "gateway-0");
    nats.urls = vec![proxy.url.clone()];
    let backends = connect(nats).await.unwrap();
    let stats = backends.stats.clone();
    let gateway = gateway(0, backends, ());
    reaches_itself(&gateway, "venue:42").await;
    proxy.cut_last();
    eventually("a new reading connection", RECONNECT, async || {
        gateway.bus.publish(message("venue:43", "meanwhile", "1"), service()).await.unwrap();
        (stats.reconnects.load(Ordering::Relaxed) == 1).then_some(())
    })
    .await;
    assert_eq!(gateway.wait_for_gap(GapReason::Reconnected, PATIENCE).await, None);
    eventually("the bus is back", PATIENCE, async || gateway.bus.is_connected().then_some(()))
        .await;
    gateway.bus.publish(message("venue:42", "after", "1"), service()).await.unwrap();
    gateway.wait_for(&channel_name("venue:42"), 2).await;
}

fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// Servers of a cluster tell each other of subscriptions only afterwards: so a gateway reads from
/// the server to which it publishes, also after that one is gone.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn in_a_cluster_both_connections_lead_to_one_server() {
    let routes = [free_port(), free_port()].map(|port| format!("nats://127.0.0.1:{port}"));
    let mut servers = Vec::new();
    for (own, other) in [(0, 1), (1, 0)] {
        let arguments =
            ["--cluster_name", "one", "--cluster", &routes[own], "--routes", &routes[other]];
        servers.push(NatsServer::start_with(&arguments).await);
    }
    for round in 0..4 {
        let mut nats = options(&servers[0], "gateway-0");
        nats.urls.push(servers[1].url());
        let gateway = one_gateway(nats).await;
        for n in 0..30 {
            reaches_itself(&gateway, &format!("venue:{round}:{n}")).await;
        }
        if round < 3 {
            continue;
        }
        // One of the two is the one.
        for n in [0, 1] {
            servers[n].kill();
            eventually("a subscribe after one server is gone", RECONNECT, async || {
                gateway.bus.subscribe(interest("again")).await.ok()
            })
            .await;
            reaches_itself(&gateway, &format!("venue:after:{n}")).await;
            servers[n].restart().await;
        }
        assert_eq!(gateway.wait_for_gap(GapReason::Reconnected, PATIENCE).await, None);
    }
}

/// The balancer does not lead to the same server again, and the addresses that the servers name do
/// not lead to any: then another server has to do.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn behind_a_balancer_any_server_will_do() {
    let routes = [free_port(), free_port()].map(|port| format!("nats://127.0.0.1:{port}"));
    let mut servers = Vec::new();
    for (own, other) in [(0, 1), (1, 0)] {
        let mut arguments = vec!["--cluster_name", "one", "--client_advertise", "127.0.0.1:1"];
        arguments.extend(["--cluster", &routes[own], "--routes", &routes[other]]);
        servers.push(NatsServer::start_with(&arguments).await);
    }
    let balancer = Proxy::to_each(&[&servers[0], &servers[1]]).await;
    let mut nats = options(&servers[0], "gateway-0");
    nats.urls = vec![balancer.url.clone(), "nats://127.0.0.1:1".into()];
    let gateway = one_gateway(nats).await;
    assert!(gateway.bus.is_connected());
    gateway.bus.subscribe(interest("venue:42")).await.unwrap();
    // The servers may not know each other yet.
    eventually("from one server to the other", PATIENCE, async || {
        gateway.bus.publish(message("venue:42", "own", "1"), service()).await.unwrap();
        gateway.messages(&channel_name("venue:42")).pop()
    })
    .await;
}
