"""What was published before: positions, recovery, rewinding, publishing once."""

import json
import subprocess

import pytest

from client import Client
from harness import TOP, token


@pytest.fixture
def room(unique):
    """A channel with history: the latest 20 messages."""
    return f"room:{unique}"


@pytest.fixture
def publish(site, connect, room):
    """publish(1, 2, 3): each is stored when this returns. Returns the answers."""
    publisher = connect(site.first, token("bob"))
    return lambda *data, **members: [publisher.ask("publish", channel=room, data=one, **members) for one in data]


def offset(position):
    return int(position.split(".")[1])


def test_every_message_has_its_place(site, connect, room, publish):
    clients = [connect(gateway).subscribe(room) for gateway in site.gateways]
    answers = publish("a", "b", "c")
    for client in clients:
        messages = [client.expect("message", channel=room) for _ in range(3)]
        assert [message["data"] for message in messages] == ["a", "b", "c"]
        assert [message["position"] for message in messages] == [answer["position"] for answer in answers]
    offsets = [offset(answer["position"]) for answer in answers]
    assert offsets == sorted(set(offsets))


def test_who_comes_back_gets_what_was_missed(site, connect, room, publish):
    before = connect(site.first)
    start = before.ask("subscribe", channel=room)
    assert start["replayed"] == 0 and "recovered" not in start
    publish("seen")
    last = before.expect("message", data="seen")["position"]
    before.socket.close()
    publish("missed 1", "missed 2")
    for gateway in site.gateways:
        back = connect(gateway)
        answer = back.ask("subscribe", channel=room, position=last)
        assert (answer["recovered"], answer["position"]) == (True, last)
        assert back.expect_data(answer["replayed"])[:2] == ["missed 1", "missed 2"]
        publish("live")
        assert back.expect_data(1) == ["live"]


def test_who_missed_nothing_gets_nothing(site, connect, room, publish):
    [answer] = publish("seen")
    for gateway in site.gateways:
        back = connect(gateway)
        start = back.ask("subscribe", channel=room, position=answer["position"])
        assert (start["recovered"], start["replayed"], start["position"]) == (True, 0, answer["position"])


def test_a_position_from_before_the_first_message(site, connect, room, publish):
    early = connect(site.first)
    start = early.ask("subscribe", channel=room)["position"]
    early.socket.close()
    publish("first", "second")
    back = connect(site.last)
    answer = back.ask("subscribe", channel=room, position=start, age=1000)
    assert (answer["recovered"], answer["replayed"]) == (True, 2)
    assert back.expect_data(2) == ["first", "second"]
    # Without its word that it was there lately, messages may have come and gone.
    again = connect(site.last)
    assert again.ask("subscribe", channel=room, position=start)["recovered"] is False


def test_what_is_not_kept_any_more_is_said(site, connect, room, publish):
    [first, *_] = publish(*range(30))
    back = connect(site.last)
    answer = back.ask("subscribe", channel=room, position=first["position"])
    assert (answer["recovered"], answer["replayed"]) == (False, 0)
    publish("next")
    assert back.expect_data(1) == ["next"]
    # With something to fall back on.
    other = connect(site.last)
    answer = other.ask("subscribe", channel=room, position=first["position"], rewind=2)
    assert (answer["recovered"], answer["replayed"]) == (False, 2)
    assert other.expect_data(2) == [29, "next"]


def test_a_position_of_another_log_is_refused(site, connect, room, publish):
    publish("one")
    client = connect(site.first)
    answer = client.ask("subscribe", channel=room, position="1.1.00000000")
    assert (answer["recovered"], answer["replayed"]) == (False, 0)
    assert client.refused("subscribe", channel=f"{room}:x", position="yesterday") == "bad_request"


def test_the_latest_messages_can_be_asked_for(site, connect, room, publish):
    publish(*range(5))
    by_count = connect(site.last)
    assert by_count.ask("subscribe", channel=room, rewind=2)["replayed"] == 2
    assert by_count.expect_data(2) == [3, 4]
    by_time = connect(site.last)
    assert by_time.ask("subscribe", channel=room, rewind_time=60_000)["replayed"] == 5
    assert by_time.expect_data(5) == list(range(5))


def test_past_and_present_meet_without_seam(site, connect, room, publish):
    """Clients come while messages are published; each gets all of them from its position on."""
    [first] = publish(0)
    clients = []
    for number in range(1, 19):
        publish(number)
        clients.append(connect(site.gateways[number % len(site.gateways)]))
        clients[-1].start("subscribe", channel=room, position=first["position"])
    for client in clients:
        subscribed = client.expect("subscribed")
        assert subscribed["recovered"] is True
        assert client.expect_data(18) == list(range(1, 19))


def test_the_same_message_again_is_stored_once(site, connect, room, publish):
    client = connect(site.last).subscribe(room)
    [first] = publish("x", message="order-7")
    [again] = publish("x", message="order-7")
    assert again["duplicate"] is True and "duplicate" not in first
    assert again["position"] == first["position"]
    publish("next")
    assert client.expect_data(2) == ["x", "next"]
    # Another publisher's id is another message.
    other = connect(site.first, token("carol")).ask("publish", channel=room, data="y", message="order-7")
    assert offset(other["position"]) > offset(first["position"])


def test_services_learn_where_it_is_stored(site, connect, room):
    client = connect(site.last).subscribe(room)
    answer = site.api.publish(channel=room, data=1, id="m1")
    again = site.api.publish(channel=room, data=1, id="m1")
    message = client.expect("message", data=1)
    assert answer["stored"] == [{"channel": room, "position": message["position"]}]
    assert again["stored"] == [{"channel": room, "position": message["position"], "duplicate": True}]


def test_a_channel_without_history_has_no_past(site, connect, chat):
    client = connect(site.first)
    assert client.refused("subscribe", channel=chat, rewind=1) == "no_history"
    assert "position" not in client.ask("subscribe", channel=chat)
    client.ask("publish", channel=chat, data=1)
    assert "position" not in client.expect("message", data=1)


def test_a_restart_of_the_embedded_gateway_is_another_log(gateway, connect, unique):
    room = f"room:{unique}"
    with Client(gateway.websocket_url, token("alice")) as client:
        position = client.ask("publish", channel=room, data=1)["position"]
    gateway.kill()
    gateway.start()
    assert connect(gateway).ask("subscribe", channel=room, position=position)["recovered"] is False


def test_the_client_of_the_documentation_misses_nothing(site, room, publish, unique):
    command = ["node", TOP / "e2e" / "node" / "minimal_client.mjs", site.last.websocket_url, token(unique), room]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as client:
        try:
            frames = map(json.loads, client.stdout)
            assert next(frames)["type"] == "subscribed"
            publish("seen")
            assert next(frames)["data"] == "seen"
            closed = site.api.call("DELETE", f"/v1/users/{unique}/connections?reconnect=true")
            assert closed.json["closed"] == 1, closed
            publish("missed")
            again = next(frames)
            assert (again["type"], again["recovered"]) == ("subscribed", True)
            assert next(frames)["data"] == "missed"
        finally:
            client.kill()
