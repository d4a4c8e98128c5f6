//! Streams with replicas: servers that lag behind, and leaders that go.

use std::{net::TcpListener, sync::Arc};

use broker_backends::NatsOptions;
use broker_testkit::{
    NatsServer,
    contract::log::{self as laws, Logged},
    eventually,
};
use serde_json::Value;

use crate::{
    nats::{RECONNECT, options},
    nats_history::with_endless_history,
    pipelines::Pipelines,
    support::gateway,
};

fn free_port() -> u16 {
    TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap().port()
}

async fn three_servers() -> Vec<NatsServer> {
    let ports = [(); 3].map(|()| free_port());
    let routes: Vec<String> = ports.iter().map(|port| format!("nats://127.0.0.1:{port}")).collect();
    let all = routes.join(",");
    let mut servers = Vec::new();
    for (route, name) in routes.iter().zip(["a", "b", "c"]) {
        let cluster = ["-js", "--cluster_name", "one", "--server_name", name];
        let arguments = [&cluster[..], &["--cluster", route, "--routes", &all]].concat();
        servers.push(NatsServer::start_with(&arguments).await);
    }
    servers
}

async fn gateways(servers: &[NatsServer]) -> Logged {
    let replicated = |node: &str, first: usize| {
        let mut replicated: NatsOptions = options(&servers[first], node);
        replicated.urls.extend(servers.iter().map(NatsServer::url));
        replicated.streams.replicas = 3;
        replicated
    };
    let one = with_endless_history(replicated("gateway-0", 0));
    let other = with_endless_history(replicated("gateway-1", 1));
    let (one, other) = tokio::join!(one, other);
    let log = Arc::clone(&one.log);
    Logged { gateways: vec![gateway(0, one, ()), gateway(1, other, ())], log }
}

/// Which of the servers leads the stream.
async fn leader(url: String) -> Option<usize> {
    let client = async_nats::connect(url).await.ok()?;
    let answer = client.request("$JS.API.STREAM.INFO.fanfare=long", "".into()).await.ok()?;
    let info: Value = serde_json::from_slice(&answer.payload).ok()?;
    ["a", "b", "c"].iter().position(|name| info["cluster"]["leader"] == *name)
}

/// Though any server answers, nothing that was acknowledged is missing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn servers_that_lag_behind_are_asked_again() {
    let servers = three_servers().await;
    let logged = gateways(&servers).await;
    laws::what_was_acknowledged_can_be_read(&logged).await;
    laws::many_tops_come_in_their_order(&logged).await;
    laws::a_long_log_is_read_whole(&logged).await;
}

/// Leader after leader dies while publishers pipeline.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_acknowledged_is_lost_with_a_killed_leader() {
    let mut servers = three_servers().await;
    let logged = gateways(&servers).await;
    let publishing = Pipelines::start(&logged);
    publishing.store_more(&logged).await;
    for _ in 0..2 {
        let leads =
            eventually("a leader", RECONNECT, async || leader(servers[0].url()).await).await;
        servers[leads].kill();
        publishing.store_more(&logged).await;
        servers[leads].restart().await;
        publishing.store_more(&logged).await;
    }
    publishing.check(&logged).await;
}
