"""A message that is published anywhere reaches every subscriber on every gateway, in order."""

import concurrent.futures
import json
import time

import pytest

from client import Client
from harness import node, token, wait_until

NUMBERS = list(range(1000))
TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


def subject(channel):
    return "fanfare.ch." + channel.replace(":", ".")


def test_http_publish_reaches_every_subscriber(site, subscribers, venue):
    clients = subscribers(venue)
    before = now()
    answer = site.api.publish(channel=venue, event="config_update", data={"open": True}, id="m-1")
    assert answer == {"id": "m-1", "channels": [venue]}
    for client in clients:
        message = client.expect("message")
        assert before <= message.pop("time") <= now()
        assert message == {
            "type": "message",
            "channel": venue,
            "event": "config_update",
            "message": "m-1",
            "data": {"open": True},
        }


def test_websocket_publish_reaches_every_subscriber(site, subscribers, connect, chat):
    clients = subscribers(chat)
    answer = connect(site.first).ask("publish", channel=chat, event="said", data="hello", message="m-1")
    answer.pop("id")
    assert answer == {"type": "published", "message": "m-1"}
    for client in clients:
        message = client.expect("message")
        assert abs(message.pop("time") - now()) < 5000
        assert message == {
            "type": "message",
            "channel": chat,
            "event": "said",
            "message": "m-1",
            "data": "hello",
        }


@pytest.mark.parametrize("site", ["cluster"], indirect=True)
def test_plain_nats_publish_reaches_every_subscriber(nats, subscribers, venue):
    clients = subscribers(venue)
    nats.publish(subject(venue), b'{"open":true}')
    for client in clients:
        message = client.expect("message")
        assert message.keys() == {"type", "channel", "message", "time", "data"}
        assert message["channel"] == venue
        assert message["data"] == {"open": True}


@pytest.mark.parametrize("site", ["cluster"], indirect=True)
def test_publish_by_the_node_client_of_nats_reaches_every_subscriber(site, subscribers, venue):
    clients = subscribers(venue)
    headers = {"Fanfare-Event": "opened", "Nats-Msg-Id": "n-1"}
    node("nats_publish.mjs", site.nats.url, subject(venue), '{"open":true}', json.dumps(headers))
    for client in clients:
        client.expect("message", channel=venue, event="opened", message="n-1", data={"open": True})


@pytest.mark.parametrize("site", ["cluster"], indirect=True)
def test_headers_of_a_nats_publish_say_what_the_body_does_not(nats, subscribers, venue):
    clients = subscribers(venue)
    in_a_minute = str(now() + 60_000)
    headers = {"Fanfare_Event": "opened", "Nats_Msg_Id": "m-1", "Fanfare_Expires": in_a_minute}
    nats.publish(subject(venue), b"1", traceparent=TRACE, **headers)
    for client in clients:
        client.expect("message", channel=venue, event="opened", message="m-1", data=1)


@pytest.mark.parametrize("site", ["cluster"], indirect=True)
def test_an_expired_nats_publish_is_not_delivered(nats, subscribers, venue):
    clients = subscribers(venue)
    nats.publish(subject(venue), b'"late"', Fanfare_Expires=str(now() - 1000))
    nats.publish(subject(venue), b'"in time"')
    for client in clients:
        client.expect("message", data="in time")


@pytest.mark.parametrize("site", ["cluster"], indirect=True)
def test_a_nats_request_to_publish_is_answered(nats, subscribers, venue):
    clients = subscribers(venue)
    command = {"channel": venue, "event": "opened", "data": {"open": True}, "id": "m-1"}
    answer = json.loads(nats.request("fanfare.api.publish", json.dumps(command).encode()))
    assert answer == {"id": "m-1", "channels": [venue]}
    for client in clients:
        client.expect("message", channel=venue, event="opened", message="m-1", data={"open": True})


@pytest.mark.parametrize(
    ("command", "code"),
    [
        ('{"channel":"nowhere:1","data":1}', "unknown_namespace"),
        ('{"channel":"venue::1","data":1}', "invalid_name"),
        ('{"data":1}', "bad_request"),
        ('{"channel":', "bad_request"),
    ],
)
def test_a_bad_nats_request_to_publish_is_answered_with_its_error(nats, command, code):
    error = json.loads(nats.request("fanfare.api.publish", command.encode()))["error"]
    assert (error["code"], error["retry"]) == (code, "no")
    assert error["text"]


def test_services_on_nats_hear_what_is_published(cluster_site, nats, connect, chat):
    heard = nats.listen(subject(chat))
    connect(cluster_site.first).ask("publish", channel=chat, event="said", data={"a": 1}, message="m-1", trace=TRACE)
    cluster_site.api.try_publish({"channel": chat, "data": 2}, traceparent=TRACE)
    wait_until(lambda: len(heard) == 2, "both are heard")
    assert heard[0].data == b'{"a": 1}'
    assert heard[0].headers["Fanfare-Id"] == "m-1"
    assert heard[0].headers["Fanfare-Event"] == "said"
    assert [message.headers["traceparent"].split("-")[1] for message in heard] == [TRACE.split("-")[1]] * 2


@pytest.mark.parametrize("site", ["cluster"], indirect=True)
def test_nats_bodies_that_are_no_json_arrive_as_bytes(nats, subscribers, venue):
    clients = subscribers(venue)
    nats.publish(subject(venue), b"\x00\x01\xff", Fanfare_Event="picture")
    for client in clients:
        client.expect("message", channel=venue, event="picture", data=b"\x00\x01\xff")


def test_binary_data_goes_through(site, subscribers, connect, chat):
    clients = subscribers(chat)
    publisher = connect(site.first)
    for data in (bytes(range(256)), b""):
        publisher.send_binary(data, type="publish", id=100, channel=chat, event="picture")
        assert publisher.answer_to(100)["type"] == "published"
        for client in clients:
            client.expect("message", channel=chat, event="picture", data=data)


def test_json_data_is_passed_on_byte_for_byte(site, subscribers, connect, chat):
    clients = subscribers(chat)
    data = '{"n": 1.50, "big":123456789012345678901234567890,  "a":1,"a":[null, "\\u00e4ä"]}'
    connect(site.first).send_text(f'{{"type":"publish","channel":"{chat}","data":{data}}}')
    assert site.api.try_publish(f'{{"channel":"{chat}","data":{data}}}'.encode()).status == 200
    for client in clients:
        assert [client.socket.recv(timeout=5).split('"data":', 1)[1] for _ in range(2)] == [data + "}"] * 2


def test_pipelined_publishes_arrive_in_order(site, subscribers, connect, chat):
    clients = subscribers(chat)
    publisher = connect(site.first)
    ids = [publisher.start("publish", channel=chat, data=number) for number in NUMBERS]
    assert {publisher.answer_to(id)["type"] for id in ids} == {"published"}
    for client in clients:
        assert client.expect_data(len(NUMBERS)) == NUMBERS


def test_a_batch_arrives_in_order(site, subscribers, venue):
    clients = subscribers(venue)
    site.api.publish(messages=[{"channel": venue, "data": number} for number in NUMBERS])
    for client in clients:
        assert client.expect_data(len(NUMBERS)) == NUMBERS


def test_each_of_several_publishers_is_heard_in_its_order(site, subscribers, chat):
    clients = subscribers(chat)
    names = ["one", "two", "three"]

    def publish(index):
        gateway = site.gateways[index % len(site.gateways)]
        with Client(gateway.websocket_url, token(names[index])) as publisher:
            ids = [publisher.start("publish", channel=chat, data=[names[index], n]) for n in range(200)]
            for id in ids:
                publisher.answer_to(id)

    with concurrent.futures.ThreadPoolExecutor() as pool:
        list(pool.map(publish, range(3)))
    for client in clients:
        heard = client.expect_data(600)
        for name in names:
            assert [number for who, number in heard if who == name] == list(range(200))


def test_a_node_client_receives_and_publishes(site, subscribers, chat):
    clients = subscribers(chat)
    printed = node("ws_publish.mjs", site.last.websocket_url, token("bob"), chat, '{"from":"node"}')
    message = json.loads(printed)
    for client in clients:
        assert client.expect("message", channel=chat, data={"from": "node"}) == message


def now():
    return int(time.time() * 1000)
