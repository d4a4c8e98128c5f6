//! A NATS server whose data is replaced by a backup: what was stored meanwhile is gone, and its
//! numbers are given out again.

use std::sync::Arc;

use broker_backends::Backends;
use broker_core::{
    Message, Offset, Position,
    history::{From, Slice},
    ports::{OfflineQueue, PublishError},
};
use broker_testkit::{
    NatsServer,
    contract::bus::{channel_name, message, service},
    eventually,
};

use crate::{
    nats::{RECONNECT, connect_with, options},
    redis_queue::{FED, Servers, all_counted, pending, publish, user},
};

/// A gateway on a server that was backed up after two messages, and has had a third since.
async fn backed_up() -> (NatsServer, Backends, Vec<Position>) {
    let mut server = NatsServer::start_with(&["-js"]).await;
    let gateway = connect_with(options(&server, "gateway-0"), room()).await.unwrap();
    let mut stored = vec![store(&gateway, "a").await, store(&gateway, "b").await];
    server.kill();
    server.back_up();
    server.restart().await;
    stored.push(store(&gateway, "c").await);
    assert_eq!(stored[2].epoch, stored[0].epoch);
    (server, gateway, stored)
}

fn room() -> broker_backends::Histories {
    let ttl = std::time::Duration::from_secs(600);
    [("room".parse().unwrap(), broker_core::History { size: 10, ttl })].into()
}

/// Until it is; with the same id, so that it is stored once.
async fn store(gateway: &Backends, id: &str) -> Position {
    let publish = || gateway.bus.publish(message("room:1", id, "1"), service());
    eventually("it is stored", RECONNECT, async || publish().await.ok()?.position).await
}

async fn restore(server: &mut NatsServer) {
    server.kill();
    server.restore();
    server.restart().await;
}

async fn read(gateway: &Backends) -> Vec<Message> {
    let slice = Slice { from: From::Offset(Offset(0)), until: Offset(0), messages: 100 };
    gateway.log.read(channel_name("room:1"), slice).await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restored_stream_has_another_epoch() {
    let (mut server, gateway, stored) = backed_up().await;
    restore(&mut server).await;
    let after = store(&gateway, "d").await;
    assert_eq!(after.offset, stored[2].offset, "the number is given out again");
    assert_ne!(after.epoch, stored[2].epoch);
    assert_eq!(gateway.log.top(channel_name("room:1")).await.unwrap().newest, Some(after));
    let read = read(&gateway).await;
    assert_eq!(read.iter().map(|it| it.id.as_str()).collect::<Vec<_>>(), ["a", "b", "d"]);
    assert!(read.iter().all(|it| it.stored.unwrap().epoch == after.epoch));

    let newcomer = connect_with(options(&server, "gateway-1"), room()).await.unwrap();
    let next = store(&newcomer, "e").await;
    assert_eq!((next.epoch, next.offset), (after.epoch, Offset(after.offset.0 + 1)));
}

/// The backup knows nothing of the epoch that its first restoring began.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn restored_twice_from_the_same_backup_it_has_a_third() {
    let (mut server, gateway, stored) = backed_up().await;
    let mut epochs = vec![stored[2].epoch];
    for id in ["d", "e"] {
        restore(&mut server).await;
        epochs.push(store(&gateway, id).await.epoch);
    }
    assert!(epochs[0] != epochs[1] && epochs[1] != epochs[2] && epochs[0] != epochs[2]);
}

/// A server that hung may answer with what was: that is no reason to begin anew.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restart_without_loss_changes_nothing() {
    let (mut server, gateway, stored) = backed_up().await;
    server.kill();
    server.restart().await;
    let after = store(&gateway, "d").await;
    assert_eq!((after.epoch, after.offset), (stored[2].epoch, Offset(stored[2].offset.0 + 1)));
}

/// What was acknowledged in the numbers' first life says nothing about the second.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_published_after_a_restore_is_queued() {
    let mut servers = Servers::start().await;
    let gateway = servers.gateway("gateway-0").await;
    let known: Arc<dyn OfflineQueue> = gateway.queue.clone().unwrap();
    publish(&gateway, [7, 8]).await;
    all_counted(&gateway, 2).await;
    servers.nats.kill();
    servers.nats.back_up();
    servers.nats.restart().await;
    let store = async || {
        let publish = gateway.bus.publish(message("user:7", "m", "1"), service());
        Ok::<_, PublishError>(publish.await?.position.unwrap())
    };
    let lost = eventually("it is stored", RECONNECT, async || store().await.ok()).await;
    let is_pending = async |offset| pending(&gateway, "7").await.contains(&offset).then_some(());
    eventually("it is pending", FED, async || is_pending(lost.offset).await).await;
    known.acknowledge(vec![(user("7"), lost.epoch, lost.offset)]).await.unwrap();
    restore(&mut servers.nats).await;
    let fresh = eventually("another one is stored", RECONNECT, async || store().await.ok()).await;
    assert!(fresh.offset == lost.offset && fresh.epoch != lost.epoch);
    eventually("it is pending", FED, async || is_pending(fresh.offset).await).await;
    let epochs = known.pending(user("7"), 10).await.unwrap();
    assert!(epochs.iter().all(|(epoch, _)| *epoch == fresh.epoch), "{epochs:?}");
}
