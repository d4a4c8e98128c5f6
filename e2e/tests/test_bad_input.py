"""Bad input gets a stable code and a sentence; the connection stays where it can; nobody else notices."""

import contextlib
import json
import struct

import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus

from api import http
from client import Client, open_socket
from harness import token

LIMIT = 65536

REFUSED = {
    "no JSON": ("{oops", "bad_request"),
    "not an object": ("7", "bad_request"),
    "empty": ("", "bad_request"),
    "no type": ('{"channel":"venue:1"}', "bad_request"),
    "type is a number": ('{"type":7}', "bad_request"),
    "unknown command": ('{"type":"shout"}', "unknown_command"),
    "unknown member": ('{"type":"subscribe","channel":"venue:1","chanel":"x"}', "bad_request"),
    "member twice": ('{"type":"subscribe","channel":"venue:1","channel":"venue:2"}', "bad_request"),
    "reserved member": ('{"type":"subscribe","channel":"venue:1","recover":true}', "bad_request"),
    "no channel": ('{"type":"subscribe"}', "bad_request"),
    "channel is a number": ('{"type":"subscribe","channel":42}', "bad_request"),
    "channel and pattern": ('{"type":"subscribe","channel":"venue:1","pattern":"venue:*"}', "bad_request"),
    "id is text": ('{"type":"ping","id":"1"}', "bad_request"),
    "id is negative": ('{"type":"ping","id":-1}', "bad_request"),
    "echo is text": ('{"type":"publish","channel":"chat:1","data":1,"echo":"no"}', "bad_request"),
    "no data": ('{"type":"publish","channel":"chat:1"}', "bad_request"),
    "data nests too deep": ('{"type":"publish","channel":"chat:1","data":%s}' % ("[" * 101 + "]" * 101), "bad_request"),
    "bad trace": ('{"type":"publish","channel":"chat:1","data":1,"trace":"1"}', "bad_request"),
    "timeout of zero": ('{"type":"request","service":"billing:1","data":1,"timeout":0}', "bad_request"),
    "too many commands": (json.dumps([{"type": "ping"}] * 129), "bad_request"),
    "empty channel": ('{"type":"subscribe","channel":""}', "invalid_name"),
    "empty segment": ('{"type":"subscribe","channel":"venue::1"}', "invalid_name"),
    "control character": ('{"type":"subscribe","channel":"venue:\\u0007"}', "invalid_name"),
    "too long a channel": ('{"type":"subscribe","channel":"venue:%s"}' % ("x" * 195), "invalid_name"),
    "bad namespace": ('{"type":"subscribe","channel":"ve nue:1"}', "invalid_name"),
    "pattern without wildcard": ('{"type":"subscribe","pattern":"venue:1"}', "invalid_name"),
    "wildcard namespace": ('{"type":"subscribe","pattern":"*:1"}', "invalid_name"),
    "wildcard inside": ('{"type":"subscribe","pattern":"venue:**:1"}', "invalid_name"),
    "NATS wildcard": ('{"type":"subscribe","pattern":"venue:>"}', "invalid_name"),
    "empty event": ('{"type":"publish","channel":"chat:1","data":1,"event":""}', "invalid_name"),
    "message id with a space": ('{"type":"publish","channel":"chat:1","data":1,"message":"a b"}', "invalid_name"),
    "unknown namespace": ('{"type":"subscribe","channel":"nowhere:1"}', "unknown_namespace"),
    "publish to unknown namespace": ('{"type":"publish","channel":"nowhere:1","data":1}', "unknown_namespace"),
    "publish without right": ('{"type":"publish","channel":"venue:1","data":1}', "forbidden"),
    "wildcard without right": ('{"type":"subscribe","pattern":"venue:*"}', "forbidden"),
    "another's organisation": ('{"type":"subscribe","channel":"org:1"}', "forbidden"),
    "not subscribed": ('{"type":"unsubscribe","channel":"venue:1"}', "not_subscribed"),
    "connected already": ('{"type":"connect","token":"x"}', "already_connected"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_a_command_that_cannot_be_carried_out(embedded_site, connect, kind):
    text, code = REFUSED[kind]
    client = connect(embedded_site.first)
    client.send_text(text)
    error = client.expect("error", code=code, retry="no")
    assert error["text"]
    client.ask("ping")


def test_an_error_carries_the_id_where_it_can_be_read(embedded_site, connect):
    client = connect(embedded_site.first)
    client.send({"type": "shout", "id": 7})
    client.expect("error", id=7, code="unknown_command")
    client.send({"type": "subscribe", "id": 8, "channel": 42})
    client.expect("error", id=8, code="bad_request")


def test_a_slip_is_answered_with_what_was_meant(embedded_site, connect):
    client = connect(embedded_site.first)
    for slip, meant in [({"type": "subscirbe"}, "subscribe"), ({"type": "subscribe", "chanel": "venue:1"}, "channel")]:
        client.send(slip)
        assert f"`{meant}`" in client.expect("error")["text"]


def test_what_is_forbidden_says_what_is_needed(embedded_site, connect):
    client = connect(embedded_site.first)
    client.send({"type": "subscribe", "pattern": "chat:*"})
    assert "role:staff or granted" in client.expect("error")["text"]


@pytest.mark.parametrize(
    "frame",
    [b"", b"\0\0\0", struct.pack(">I", 99) + b"{}", struct.pack(">I", 2) + b"{}data", struct.pack(">I", 4) + b"oops"],
)
def test_a_bad_binary_frame(embedded_site, connect, frame):
    client = connect(embedded_site.first)
    client.socket.send(frame)
    client.expect("error", code="bad_request")
    client.ask("ping")


def test_a_binary_frame_may_hold_no_command_without_data(embedded_site, connect):
    client = connect(embedded_site.first)
    client.send_binary(b"", type="subscribe", id=1, channel="venue:1")
    client.expect("error", id=1, code="bad_request")


def test_a_wrong_command_does_not_stop_the_others_of_its_frame(site, connect, chat):
    client = connect(site.first)
    client.send(
        {"type": "subscribe", "id": 11, "channel": chat},
        {"type": "subscribe", "id": 12, "channel": chat},
        {"type": "shout", "id": 13},
        {"type": "ping", "id": 14},
    )
    assert client.answer_to(11)["type"] == "subscribed"
    answers = {frame["id"]: frame for frame in (client.next() for _ in range(3))}
    assert answers[12]["code"] == "already_subscribed"
    assert answers[13]["code"] == "unknown_command"
    assert answers[14]["type"] == "pong"


def test_several_commands_in_one_frame_from_the_first_on(site, chat):
    with Client(site.first.websocket_url) as client:
        client.send(
            {"type": "connect", "id": 1, "token": token("alice")},
            {"type": "subscribe", "id": 2, "channel": chat},
            {"type": "subscribe", "id": 3, "channel": f"{chat}:more"},
        )
        client.expect("connected", id=1)
        assert {client.expect("subscribed")["id"] for _ in range(2)} == {2, 3}
        client.send(
            {"type": "publish", "id": 4, "channel": chat, "data": 1},
            {"type": "publish", "id": 5, "channel": chat, "data": 2},
        )
        assert [client.answer_to(id)["type"] for id in (4, 5)] == ["published"] * 2
        assert client.expect_data(2) == [1, 2]


def test_before_connect_there_is_nothing_but_ping(embedded_site):
    with Client(embedded_site.first.websocket_url) as client:
        assert client.refused("subscribe", channel="venue:1") == "not_connected"
        assert client.refused("publish", channel="chat:1", data=1) == "not_connected"
        client.ask("ping")
        client.ask("connect", token=token("alice"))


def test_a_message_over_the_limit_keeps_the_connection(site, connect, chat):
    client = connect(site.first).subscribe(chat)
    assert client.refused("publish", channel=chat, data="x" * (LIMIT - 1)) == "message_too_large"
    client.ask("publish", channel=chat, data="x" * (LIMIT - 2))
    assert len(client.expect("message")["data"]) == LIMIT - 2


def test_binary_data_over_the_limit_keeps_the_connection(embedded_site, connect, chat):
    client = connect(embedded_site.first).subscribe(chat)
    client.send_binary(bytes(LIMIT + 1), type="publish", id=1, channel=chat)
    client.expect("error", id=1, code="message_too_large")
    client.send_binary(bytes(LIMIT), type="publish", id=2, channel=chat)
    assert client.answer_to(2)["type"] == "published"


def test_a_frame_over_the_limit_ends_the_connection(embedded_site, connect):
    client, other = connect(embedded_site.first), connect(embedded_site.first)
    client.send_text(json.dumps({"type": "publish", "channel": "chat:1", "data": "x" * 3 * LIMIT}))
    assert client.close_code() == 1009
    other.ask("ping")


def test_before_connect_frames_are_small(embedded_site):
    with Client(embedded_site.first.websocket_url) as client:
        client.send_text(json.dumps({"type": "connect", "token": "x" * 20_000}))
        assert client.close_code() == 1009


def test_text_that_is_no_utf_8_ends_the_connection(embedded_site, connect):
    client = connect(embedded_site.first)
    client.socket.send(b'{"type":"\xff"}', text=True)
    assert client.close_code() == 1007


def test_a_subscription_twice(site, connect, venue):
    client = connect(site.last).subscribe(venue)
    assert client.refused("subscribe", channel=venue) == "already_subscribed"
    site.api.publish(channel=venue, data=1)
    site.api.publish(channel=venue, data=2)
    assert client.expect_data(2) == [1, 2]


def test_too_many_subscriptions(start_gateway):
    gateway = start_gateway(settings={"limits.subscriptions": 3})
    with Client(gateway.websocket_url, token("alice")) as client:
        client.subscribe("venue:1", "venue:2")
        assert client.refused("subscribe", channel="venue:3") == "too_many_subscriptions"
        client.ask("unsubscribe", channel="venue:1")
        client.subscribe("venue:3")


def test_too_many_control_frames(embedded_site, connect):
    client = connect(embedded_site.first)
    # The close may come before the last of them is sent.
    with contextlib.suppress(ConnectionClosed):
        for _ in range(60):
            client.socket.pong()
    assert client.close_code() == 1008


def test_the_sub_protocol_is_negotiated(embedded_site):
    url = embedded_site.first.websocket_url
    for offered, selected in [(None, None), (["fanfare.v1"], "fanfare.v1"), (["mqtt", "fanfare.v1"], "fanfare.v1")]:
        with open_socket(url, subprotocols=offered) as socket:
            assert socket.subprotocol == selected


def test_an_unknown_sub_protocol_is_refused(embedded_site):
    with pytest.raises(InvalidStatus) as refused:
        open_socket(embedded_site.first.websocket_url, subprotocols=["mqtt", "stomp"])
    response = refused.value.response
    assert response.status_code == 400
    assert response.headers["content-type"] == "application/problem+json"
    assert "fanfare.v1" in json.loads(response.body)["detail"]


def test_the_native_dialect_is_spoken_at_the_root_too(embedded_site):
    with Client(embedded_site.first.websocket_url.removesuffix("ws"), token("alice")) as client:
        client.ask("ping")


def test_what_is_no_upgrade_is_refused(embedded_site):
    answer = http("GET", f"{embedded_site.first.url}/ws")
    assert answer.status in (400, 426)
    assert answer.problem
