//! The laws of [`Bus`](broker_core::ports::Bus).
//!
//! The first gateway given listens, the last one publishes; an embedded bus has only one.

use std::{sync::Arc, time::Duration};

use broker_core::{
    ChannelName, ConnectionId, Data, Interest, JsonText, Message, MessageId, NodeId, Timestamp,
    message::{Exclude, Options, Publisher},
    ports::{Caller, RequestError, ServiceRequest},
};
use bytes::Bytes;

use super::{Gateway, PATIENCE};
use crate::eventually;

/// Makes a test of each law; `$make` is a future that gives a `Vec<Gateway>`.
#[macro_export]
macro_rules! bus_contract {
    ($make:expr) => {
        $crate::__laws! { $crate::contract::bus, $make;
            messages_arrive_in_the_order_of_the_calls
            channels_keep_their_order_among_many
            a_message_arrives_once_for_each_interest
            a_subscription_is_live_after_ok
            bodies_arrive_as_they_were_sent
            all_that_a_message_has_arrives
            any_channel_name_arrives
            nothing_arrives_without_interest
            subscribing_twice_is_subscribing_once
            unsubscribing_ends_arrival
            a_request_without_service_is_answered
            every_gateway_is_asked
            one_other_gateway_is_asked
            the_bus_says_that_it_is_connected
        }
    };
}

/// A JSON message.
///
/// # Panics
/// When the channel's name or the id is not of its form.
#[must_use]
pub fn message(channel: &str, id: &str, json: &str) -> Message {
    Message {
        id: id.parse::<MessageId>().expect("a message id"),
        channel: channel_name(channel),
        event: None,
        data: Data::Json(JsonText::from_checked(Bytes::copy_from_slice(json.as_bytes()))),
        time: Timestamp(1_700_000_000_000),
        stored: None,
        options: None,
    }
}

/// A service that publishes.
#[must_use]
pub fn service() -> Publisher {
    Publisher::Service("service".into())
}

/// A channel's name.
///
/// # Panics
/// When it is not of its form.
#[must_use]
pub fn channel_name(text: &str) -> ChannelName {
    text.parse().expect("a channel name")
}

/// One channel or, with an asterisk, a pattern.
///
/// # Panics
/// When it is not of its form.
#[must_use]
pub fn interest(text: &str) -> Interest {
    if text.contains('*') {
        Interest::Pattern(text.parse().expect("a pattern"))
    } else {
        Interest::Channel(channel_name(text))
    }
}

fn ends(gateways: &[Gateway]) -> (&Gateway, &Gateway) {
    let (first, last) = (gateways.first(), gateways.last());
    first.zip(last).expect("a fixture has gateways")
}

async fn subscribe(gateway: &Gateway, text: &str) {
    gateway.bus.subscribe(interest(text)).await.expect("subscribes");
}

async fn publish(gateway: &Gateway, message: Message) {
    gateway.bus.publish(message, service()).await.expect("publishes");
}

fn ids(arrived: &[(Interest, Message)]) -> Vec<&str> {
    arrived.iter().map(|(_, message)| message.id.as_str()).collect()
}

/// Order: calls decide, not who polls which future when.
pub async fn messages_arrive_in_the_order_of_the_calls(gateways: &[Gateway]) {
    let (listener, publisher) = ends(gateways);
    subscribe(listener, "venue:42").await;
    let expected: Vec<String> = (0..500).map(|n| format!("m{n}")).collect();
    let calls: Vec<_> = expected
        .iter()
        .map(|id| publisher.bus.publish(message("venue:42", id, "1"), service()))
        .collect();
    for call in calls.into_iter().rev() {
        call.await.expect("publishes");
    }
    let arrived = listener.wait_for(&channel_name("venue:42"), expected.len()).await;
    assert_eq!(ids(&arrived), expected);
}

/// Order, with several channels, an interest for each and one for all.
pub async fn channels_keep_their_order_among_many(gateways: &[Gateway]) {
    let (listener, publisher) = ends(gateways);
    let channels: Vec<String> = (0..20).map(|n| format!("orders:{n}")).collect();
    subscribe(listener, "orders:*").await;
    for channel in &channels {
        subscribe(listener, channel).await;
    }
    let mut calls = Vec::new();
    for n in 0..25 {
        for channel in &channels {
            calls.push(publisher.bus.publish(message(channel, &format!("m{n}"), "1"), service()));
        }
    }
    for call in calls {
        call.await.expect("publishes");
    }
    let expected: Vec<String> = (0..25).map(|n| format!("m{n}")).collect();
    for channel in &channels {
        let arrived = listener.wait_for(&channel_name(channel), 50).await;
        for way in [interest(channel), interest("orders:*")] {
            let by_way: Vec<_> = arrived.iter().filter(|(via, _)| *via == way).cloned().collect();
            assert_eq!(ids(&by_way), expected, "{channel} by {way}");
        }
    }
}

/// Once per interest: exact and wildcard interest bring one copy each.
pub async fn a_message_arrives_once_for_each_interest(gateways: &[Gateway]) {
    let (listener, publisher) = ends(gateways);
    let ways = ["orders:7", "orders:*", "orders:**"];
    for way in ways {
        subscribe(listener, way).await;
    }
    subscribe(listener, "orders:*:items").await;
    publish(publisher, message("orders:7", "a", "1")).await;
    publish(publisher, message("orders:7", "b", "2")).await;
    let arrived = listener.wait_for(&channel_name("orders:7"), 2 * ways.len()).await;
    assert_eq!(arrived.len(), 2 * ways.len());
    for way in ways {
        let by_way: Vec<_> =
            arrived.iter().filter(|(via, _)| *via == interest(way)).cloned().collect();
        assert_eq!(ids(&by_way), ["a", "b"], "by {way}");
    }
}

/// Live after `Ok`: what is published at once by another gateway arrives.
pub async fn a_subscription_is_live_after_ok(gateways: &[Gateway]) {
    let (listener, publisher) = ends(gateways);
    for n in 0..100 {
        let channel = format!("venue:{n}");
        subscribe(listener, &channel).await;
        publish(publisher, message(&channel, "first", "1")).await;
    }
    for n in 0..100 {
        listener.wait_for(&channel_name(&format!("venue:{n}")), 1).await;
    }
}

/// JSON text stays as it is, and bytes that look like JSON stay bytes.
pub async fn bodies_arrive_as_they_were_sent(gateways: &[Gateway]) {
    let (listener, publisher) = ends(gateways);
    subscribe(listener, "bodies:*").await;
    let json = |text: &'static str| {
        Data::Json(JsonText::from_checked(Bytes::from_static(text.as_bytes())))
    };
    let binary = |bytes: &'static [u8]| Data::Binary(Bytes::from_static(bytes));
    let bodies = [
        json(r#"{"open":true,"name":"Zürich 🎉"}"#),
        json("null"),
        json("[1,\n 2]"),
        json(r#""text""#),
        binary(&[0, 159, 146, 150]),
        binary(br#"{"looks":"like json"}"#),
        binary(b"plain text"),
        binary(b""),
    ];
    for data in &bodies {
        publish(publisher, Message { data: data.clone(), ..message("bodies:1", "x", "1") }).await;
    }
    let arrived = listener.wait_for(&channel_name("bodies:1"), bodies.len()).await;
    let arrived: Vec<Data> = arrived.into_iter().map(|(_, message)| message.data).collect();
    assert_eq!(arrived, bodies);
}

/// Event, time and every option.
pub async fn all_that_a_message_has_arrives(gateways: &[Gateway]) {
    let (listener, publisher) = ends(gateways);
    subscribe(listener, "venue:42").await;
    let options = Options {
        expires: Some(Timestamp(1_800_000_000_000)),
        exclude: Exclude {
            connections: vec![ConnectionId(1), ConnectionId(u128::MAX)],
            users: ["ann", "a,b %20", "Zoë:1"].map(|user| user.parse().expect("a user")).into(),
        },
        targets: Some(
            ["venue:42", "venue:a,b %2C", "user:Zoë"].map(channel_name).into_iter().collect(),
        ),
        trace: Some(Arc::from("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01")),
    };
    let sent = Message {
        event: Some(" 100 % déjà vu, or not ".parse().expect("an event")),
        options: Some(Box::new(options)),
        ..message("venue:42", "order-7/retry,1", r#"{"a":1}"#)
    };
    publish(publisher, sent.clone()).await;
    let arrived = listener.wait_for(&channel_name("venue:42"), 1).await;
    assert_eq!(arrived, [(interest("venue:42"), sent)]);
}

/// Names with every kind of character reach their channel and no other.
pub async fn any_channel_name_arrives(gateways: &[Gateway]) {
    let (listener, publisher) = ends(gateways);
    let names = ["a:.", "a:..", "a:*x", "a:>", "a:b c", "a:%", "a:%2E", "a:é", "a:$SYS", "a"];
    let channels = names.map(channel_name);
    for channel in &channels {
        let wanted = Interest::Channel(channel.clone());
        listener.bus.subscribe(wanted).await.expect("subscribes");
    }
    for name in names {
        publish(publisher, message(name, "only", "1")).await;
    }
    for channel in &channels {
        let arrived = listener.wait_for(channel, 1).await;
        assert_eq!(arrived.len(), 1, "{channel}");
        assert_eq!(arrived[0].0, Interest::Channel(channel.clone()));
    }
}

/// A publish that nobody wants is fine, and stays away.
pub async fn nothing_arrives_without_interest(gateways: &[Gateway]) {
    let (listener, publisher) = ends(gateways);
    subscribe(listener, "venue:42").await;
    publish(publisher, message("venue:43", "unwanted", "1")).await;
    publish(publisher, message("venue:42", "wanted", "1")).await;
    listener.wait_for(&channel_name("venue:42"), 1).await;
    assert_eq!(listener.messages(&channel_name("venue:43")), []);
}

/// Subscribing is idempotent.
pub async fn subscribing_twice_is_subscribing_once(gateways: &[Gateway]) {
    let (listener, publisher) = ends(gateways);
    let both = [
        listener.bus.subscribe(interest("venue:42")),
        listener.bus.subscribe(interest("venue:42")),
    ];
    for subscribed in both {
        subscribed.await.expect("subscribes");
    }
    subscribe(listener, "venue:42").await;
    publish(publisher, message("venue:42", "a", "1")).await;
    publish(publisher, message("venue:42", "b", "1")).await;
    let arrived = listener.wait_for(&channel_name("venue:42"), 2).await;
    assert_eq!(ids(&arrived), ["a", "b"]);
}

/// After unsubscribing, and a moment, nothing comes; after subscribing again, it does.
pub async fn unsubscribing_ends_arrival(gateways: &[Gateway]) {
    let (listener, publisher) = ends(gateways);
    subscribe(listener, "venue:42").await;
    subscribe(listener, "venue:43").await;
    listener.bus.unsubscribe(&interest("venue:42"));
    listener.bus.unsubscribe(&interest("venue:42"));
    eventually("a message that does not arrive", PATIENCE, async || {
        let before = listener.messages(&channel_name("venue:42")).len();
        let markers = listener.messages(&channel_name("venue:43")).len();
        publish(publisher, message("venue:42", "m", "1")).await;
        publish(publisher, message("venue:43", "m", "1")).await;
        listener.wait_for(&channel_name("venue:43"), markers + 1).await;
        let after = listener.messages(&channel_name("venue:42")).len();
        (after == before).then_some(())
    })
    .await;
    subscribe(listener, "venue:42").await;
    publish(publisher, message("venue:42", "again", "1")).await;
    eventually("a message after subscribing again", PATIENCE, async || {
        let arrived = listener.messages(&channel_name("venue:42"));
        ids(&arrived).contains(&"again").then_some(())
    })
    .await;
}

/// Nobody listens: the answer says so, without waiting for the time-out.
pub async fn a_request_without_service_is_answered(gateways: &[Gateway]) {
    let (gateway, _) = ends(gateways);
    let request = request("shop:cart", Duration::from_secs(60));
    let answer = tokio::time::timeout(PATIENCE, gateway.bus.request(request)).await;
    assert_eq!(answer.expect("an answer at once"), Err(RequestError::NoService));
}

/// A request of a client, with all that goes with it.
///
/// # Panics
/// When the address is not of its form.
#[must_use]
pub fn request(address: &str, timeout: Duration) -> ServiceRequest {
    ServiceRequest {
        address: channel_name(address),
        event: Some("add item".parse().expect("an event")),
        data: Data::Json(JsonText::from_checked(Bytes::from_static(br#"{"sku":1}"#))),
        caller: Caller {
            connection: ConnectionId(7),
            user: Some("Zoë,1".parse().expect("a user")),
            roles: ["admin", "a,b"].map(|role| role.parse().expect("a role")).into(),
        },
        timeout,
        trace: None,
    }
}

/// A question reaches each gateway, and their answers come back; with fewer answers than
/// expected, those that came.
pub async fn every_gateway_is_asked(gateways: &[Gateway]) {
    let (gateway, _) = ends(gateways);
    let ask =
        |expected, wait| gateway.bus.ask_gateways(Bytes::from_static(b"who?"), expected, wait);
    let mut answers = ask(gateways.len(), PATIENCE).await.expect("answers");
    answers.sort();
    let expected: Vec<Bytes> =
        (0..gateways.len()).map(|n| format!("gateway-{n} heard who?").into()).collect();
    assert_eq!(answers, expected);

    let too_many = ask(gateways.len() + 1, Duration::from_millis(300)).await;
    assert_eq!(too_many.expect("answers").len(), gateways.len());
}

/// A question to one other gateway reaches that one, and none where there is none.
pub async fn one_other_gateway_is_asked(gateways: &[Gateway]) {
    let (gateway, _) = ends(gateways);
    let ask = |name: String| {
        let node: NodeId = name.parse().expect("a node");
        gateway.bus.ask_gateway(node.mark(), Bytes::from_static(b"you?"), PATIENCE)
    };
    for name in (1..gateways.len()).map(|n| format!("gateway-{n}")) {
        let expected = Bytes::from(format!("{name} heard you?"));
        assert_eq!(ask(name).await, Ok(Some(expected)));
    }
    assert_eq!(ask("nobody".to_owned()).await, Ok(None));
}

/// A working bus says so.
pub async fn the_bus_says_that_it_is_connected(gateways: &[Gateway]) {
    for gateway in gateways {
        assert!(gateway.bus.is_connected());
    }
}
