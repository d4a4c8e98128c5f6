//! Order where something fails: what was called after a publish, by somebody who did not know yet
//! that it failed, fails too.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use broker_backends::NatsOptions;
use broker_core::{
    Data, Message,
    ports::{Accepted, BoxFuture, Bus, PublishError},
};
use broker_testkit::{
    NatsServer,
    contract::{
        Gateway,
        bus::{message, service},
    },
    eventually,
};
use futures_util::FutureExt;
use parking_lot::Mutex;
use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream},
    task::{AbortHandle, JoinSet, coop::unconstrained},
};

use crate::{nats::connect, support::gateway};

const RECONNECT: Duration = Duration::from_secs(15);

type Call = BoxFuture<'static, Result<Accepted, PublishError>>;

/// A way to a server that can be cut, and is at once there again.
pub(crate) struct Proxy {
    pub(crate) url: String,
    accepted: Arc<AtomicUsize>,
    connections: Arc<Mutex<JoinSet<()>>>,
    last: Arc<Mutex<Option<AbortHandle>>>,
    _listener: JoinSet<()>,
}

impl Proxy {
    pub(crate) async fn to(server: &NatsServer) -> Self {
        Self::to_each(&[server]).await
    }

    /// Leads each connection to the next of the servers, and all further ones to the last.
    pub(crate) async fn to_each(servers: &[&NatsServer]) -> Self {
        let targets: Vec<_> = servers
            .iter()
            .map(|server| server.url().strip_prefix("nats://").unwrap().to_owned())
            .collect();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("nats://{}", listener.local_addr().unwrap());
        let connections: Arc<Mutex<JoinSet<()>>> = Arc::default();
        let accepted = Arc::new(AtomicUsize::new(0));
        let last = Arc::<Mutex<Option<AbortHandle>>>::default();
        let (forward, count) = (Arc::clone(&connections), Arc::clone(&accepted));
        let newest = Arc::clone(&last);
        let mut listening = JoinSet::new();
        listening.spawn(async move {
            while let Ok((mut client, _)) = listener.accept().await {
                let connection = count.fetch_add(1, Ordering::SeqCst);
                let target = targets[connection.min(targets.len() - 1)].clone();
                let forwarding = forward.lock().spawn(async move {
                    let Ok(mut server) = TcpStream::connect(target).await else { return };
                    drop(copy_bidirectional(&mut client, &mut server).await);
                });
                *newest.lock() = Some(forwarding);
            }
        });
        Self { url, accepted, connections, last, _listener: listening }
    }

    fn accepted(&self) -> usize {
        self.accepted.load(Ordering::SeqCst)
    }

    pub(crate) fn cut(&self) {
        self.connections.lock().abort_all();
    }

    /// Cuts the connection that came last.
    pub(crate) fn cut_last(&self) {
        self.last.lock().take().unwrap().abort();
    }
}

async fn publisher(server: &NatsServer, url: String) -> Gateway {
    let nats = NatsOptions::new(vec![url], "gateway-0".parse().unwrap());
    let backends = connect(nats).await.unwrap();
    assert!(backends.bus.is_connected(), "{}", server.url());
    gateway(0, backends, ())
}

fn publishes(bus: &dyn Bus, count: usize, data: &Data) -> Vec<Call> {
    let one = |n| Message { data: data.clone(), ..message("venue:42", &format!("m{n}"), "1") };
    (0..count).map(|n| bus.publish(one(n), service())).collect()
}

/// Once one has failed, none is confirmed.
fn assert_ordered(outcomes: &[Result<Accepted, PublishError>]) {
    let failed = outcomes.iter().position(Result::is_err).unwrap_or(outcomes.len());
    let late = (failed..outcomes.len()).find(|at| outcomes[*at].is_ok());
    assert_eq!(late, None, "was confirmed of {}, after {failed} failed", outcomes.len());
}

pub(crate) fn look(call: &mut Call) -> Option<Result<Accepted, PublishError>> {
    unconstrained(call).now_or_never()
}

/// Notes the outcomes that are there, in order; whether all that are new are good.
fn none_failed(calls: &mut [Call], known: &mut Vec<Result<Accepted, PublishError>>) -> bool {
    let before = known.len();
    let outcomes = calls.iter_mut().skip(before).map_while(look);
    known.extend(outcomes);
    known[before..].iter().all(Result::is_ok)
}

async fn outcomes(calls: Vec<Call>) -> Vec<Result<Accepted, PublishError>> {
    let mut outcomes = Vec::new();
    for call in calls {
        outcomes.push(call.await);
    }
    outcomes
}

/// The server hangs for a while: what waited too long is refused, and so is what was called after
/// it, though it waited less.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_waited_less_does_not_overtake_what_waited_too_long() {
    let server = NatsServer::start().await;
    let gateway = publisher(&server, server.url()).await;
    let data = message("venue:42", "x", "1").data;
    server.pause();
    let mut calls = publishes(&*gateway.bus, 4000, &data);
    tokio::time::sleep(Duration::from_millis(1000)).await;
    calls.extend(publishes(&*gateway.bus, 10, &data));
    tokio::time::sleep(Duration::from_millis(400)).await;
    server.resume();
    let outcomes = outcomes(calls).await;
    assert!(outcomes.iter().any(Result::is_ok));
    assert!(outcomes.contains(&Err(PublishError::Unavailable)));
    assert_ordered(&outcomes);
}

/// The connection breaks under pipelined publishes and is there again at once: none of what was
/// called before is confirmed after one that failed, and all of it is told before anything called
/// later is confirmed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_connection_starts_with_nothing_untold() {
    let server = NatsServer::start().await;
    let proxy = Proxy::to(&server).await;
    let gateway = publisher(&server, proxy.url.clone()).await;
    let data = Data::Binary(vec![0; 4096].into());
    for round in 0..10 {
        let mut calls = publishes(&*gateway.bus, 2000, &data);
        tokio::time::sleep(Duration::from_millis(round)).await;
        let connections = proxy.accepted();
        proxy.cut();
        // As a connection does: no call once a failure is known.
        let mut known = Vec::new();
        while calls.len() < 4000 && none_failed(&mut calls, &mut known) {
            calls.extend(publishes(&*gateway.bus, 1, &data));
        }
        // The failure may have been told, and mended, between the look and the last call.
        calls.truncate(calls.len() - 1);
        known.truncate(calls.len());
        // Who comes anew knows that the old connection is lost.
        eventually("a new connection", RECONNECT, async || {
            (proxy.accepted() > connections).then_some(())
        })
        .await;
        eventually("publishes again", RECONNECT, async || {
            gateway.bus.publish(message("venue:42", "later", "1"), service()).await.ok()
        })
        .await;
        let told: Option<Vec<_>> = calls[known.len()..].iter_mut().map(look).collect();
        known.extend(told.expect("all of them are told"));
        assert_ordered(&known);
    }
    let calls = publishes(&*gateway.bus, 100, &data);
    assert!(outcomes(calls).await.iter().all(Result::is_ok));
}
