//! A service's connection beside a gateway's.

use std::time::Duration;

use broker_backends::{ConnectError, NatsOptions, ServiceLink};
use broker_core::{Data, JsonText, ports::PublishError};
use broker_testkit::{
    NatsServer,
    contract::bus::{channel_name, interest},
    eventually,
};

use crate::{
    nats::{One, RECONNECT, connect_with, options},
    support::user_history,
};

fn of_service(server: &NatsServer) -> NatsOptions {
    options(server, "service-0")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_service_publishes_without_a_gateway() {
    let one = One::start(|_| ()).await;
    let service = ServiceLink::connect(&of_service(&one.server)).await.unwrap();
    let venue = channel_name("venue:4.2");
    one.gateway.bus.subscribe(interest("venue:4.2")).await.unwrap();
    for body in ["1", "2"] {
        assert_eq!(service.publish(&venue, body.into(), false).await, Ok(()));
    }
    let arrived = one.gateway.wait_for(&venue, 2).await;
    let bodies: Vec<_> = arrived.into_iter().map(|(_, message)| message.data).collect();
    assert_eq!(bodies, ["1", "2"].map(|it| Data::Json(JsonText::from_checked(it.into()))));
    let nobody_stores_it = service.publish(&channel_name("venue:7"), "3".into(), true).await;
    assert_eq!(nobody_stores_it, Err(PublishError::Unavailable));
    service.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_to_be_stored_is_confirmed_by_the_store() {
    let server = NatsServer::start_with(&["-js"]).await;
    let gateway = connect_with(options(&server, "gateway-0"), user_history()).await.unwrap();
    let service = ServiceLink::connect(&of_service(&server)).await.unwrap();
    assert_eq!(service.publish(&channel_name("user:ann"), "1".into(), true).await, Ok(()));
    let top = gateway.log.top(channel_name("user:ann")).await.unwrap();
    assert_eq!(top.newest.map(|position| position.offset.0), Some(1));
    service.close().await;
    gateway.closer.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_service_says_that_the_bus_is_away_and_finds_it_again() {
    let mut server = NatsServer::start().await;
    let mut patient = of_service(&server);
    patient.deadline = Duration::from_millis(500);
    let service = ServiceLink::connect(&patient).await.unwrap();
    let venue = channel_name("venue:42");
    server.stop();
    eventually("it is noticed", RECONNECT, async || {
        let refused = service.publish(&venue, "1".into(), false).await;
        (refused == Err(PublishError::Unavailable)).then_some(())
    })
    .await;
    let elsewhere = ServiceLink::connect(&of_service(&server)).await;
    assert!(matches!(elsewhere, Err(ConnectError::Nats(_))), "{elsewhere:?}");
    patient.wait = true;
    let waiting = ServiceLink::connect(&patient).await.unwrap();
    server.restart().await;
    for service in [service, waiting] {
        eventually("it publishes", RECONNECT, async || {
            service.publish(&venue, "2".into(), false).await.ok()
        })
        .await;
        service.close().await;
    }
}
