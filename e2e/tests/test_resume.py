"""Sessions that go on after their connection broke, on any gateway, without a token."""

import contextlib
import hashlib
import urllib.request

import pytest

from api import Api
from client import Client
from harness import token, wait_until
from proxy import Proxy

JWT = token("alice")
SUPERSEDED = 4503


@pytest.fixture
def room(unique):
    """A channel with history: the latest 20 messages."""
    return f"room:{unique}"


@pytest.fixture
def dial():
    """dial(gateway): a client that has not said `connect`."""
    with contextlib.ExitStack() as stack:
        yield lambda gateway: stack.enter_context(Client(gateway.websocket_url))


@pytest.fixture
def begin(dial):
    """begin(gateway): a client whose session can be resumed, by the secret in `session`."""

    def begin(gateway):
        client = dial(gateway)
        client.connected = client.ask("connect", token=JWT, session=True)
        client.session = client.connected["session"]
        return client

    return begin


@pytest.fixture
def resume(dial):
    """resume(gateway, secret, subscribe…): all of it in one frame. Returns client and `connected`."""

    def resume(gateway, secret, *subscribes):
        client = dial(gateway)
        client.send({"type": "connect", "session": secret}, *({"type": "subscribe"} | it for it in subscribes))
        return client, client.expect("connected", resumed=True, user="alice")

    return resume


def place(secret):
    """Where Redis has the session."""
    return f"fanfare:session:{{{hashlib.sha256(secret.encode()).hexdigest()}}}"


def test_who_does_not_ask_has_no_session(site, connect):
    assert not {"session", "resumed"} & connect(site.first).connected.keys()


def test_a_session_goes_on_elsewhere_with_what_was_missed(site, connect, begin, resume, room):
    bob = connect(site.first, token("bob"))
    before = begin(site.first).subscribe(room)
    seen = bob.ask("publish", channel=room, data="seen")["position"]
    before.expect("message", data="seen", position=seen)
    before.socket.close()
    bob.ask("publish", channel=room, data="missed")
    client, connected = resume(site.last, before.session, {"channel": room, "position": seen})
    assert connected["session"] != before.session
    assert connected["connection"] != before.connected["connection"]
    assert {name: connected[name] for name in ("expires", "channels")} == {
        name: before.connected[name] for name in ("expires", "channels")
    }
    client.expect("subscribed", recovered=True, replayed=1)
    assert client.expect_data(1) == ["missed"]
    bob.ask("publish", channel=room, data="live")
    assert client.expect_data(1) == ["live"]
    again, _ = resume(site.first, connected["session"])
    again.ask("ping")


def test_a_secret_is_used_once_and_then_a_token_helps(site, begin, dial, resume):
    before = begin(site.first)
    resume(site.last, before.session)
    for gateway in site.gateways:
        client = dial(gateway)
        assert client.refused("connect", session=before.session) == "session_lost"
        assert client.refused("subscribe", channel="venue:1") == "not_connected"
        assert client.refused("connect", session=before.session) == "bad_request"
        assert client.ask("connect", token=JWT, session=True)["session"]


def test_a_made_up_secret_resumes_nothing(site, dial):
    for secret in ("", "x", "\N{SNOWMAN}" * 100):
        assert dial(site.first).refused("connect", session=secret) == "session_lost"


def test_the_old_connection_is_ended(site, begin, resume):
    for gateway in site.gateways:
        old, other = begin(site.first), begin(site.first)
        resume(gateway, old.session)
        assert old.close_code() == SUPERSEDED
        other.ask("ping")


def test_rules_are_asked_anew(site, begin, resume, unique):
    before = begin(site.first)
    client, _ = resume(site.last, before.session, {"id": 1, "pattern": f"room:{unique}:*"})
    client.expect("error", id=1, code="forbidden")


def test_own_messages_stay_excluded(site, connect, begin, resume, room):
    bob = connect(site.first, token("bob"))
    before = begin(site.first).subscribe(room)
    seen = bob.ask("publish", channel=room, data="seen")["position"]
    before.ask("publish", channel=room, data="own", echo=False)
    bob.ask("publish", channel=room, data="of bob")
    assert before.expect_data(2) == ["seen", "of bob"]
    before.socket.close()
    client, connected = resume(site.last, before.session, {"channel": room, "position": seen})
    client.expect("subscribed", recovered=True, replayed=1)
    client.ask("publish", channel=room, data="own again", echo=False)
    bob.ask("publish", channel=room, data="of bob too")
    assert client.expect_data(2) == ["of bob", "of bob too"]
    client.socket.close()
    client, _ = resume(site.first, connected["session"], {"channel": room, "position": seen})
    client.expect("subscribed", recovered=True, replayed=2)
    assert client.expect_data(2) == ["of bob", "of bob too"]


def test_a_killed_gateways_sessions_go_on(start_cluster, begin, resume, connect, room):
    site = start_cluster(2)
    bob = connect(site.last, token("bob"))
    clients = [begin(site.first).subscribe(room) for _ in range(5)]
    seen = bob.ask("publish", channel=room, data="seen")["position"]
    for before in clients:
        before.expect("message", data="seen", position=seen)
    site.first.kill()
    bob.ask("publish", channel=room, data="missed")
    for before in clients:
        client, _ = resume(site.last, before.session, {"channel": room, "position": seen})
        client.expect("subscribed", recovered=True, replayed=1)
        assert client.expect_data(1) == ["missed"]
    metrics = urllib.request.urlopen(f"{site.last.admin_url}/metrics", timeout=5).read().decode()
    assert 'fanfare_session_resumes_total{result="resumed"} 5' in metrics


def test_the_window_ends(start_cluster, begin, dial):
    site = start_cluster(1, {"session.window": "1s"})
    before = begin(site.first)
    before.socket.close()
    assert site.redis.ask(f"EXISTS {place(before.session)}") == ":1"
    wait_until(lambda: site.redis.ask(f"EXISTS {place(before.session)}") == ":0", "the session ends")
    assert dial(site.first).refused("connect", session=before.session) == "session_lost"


def test_who_is_sent_away_for_good_does_not_come_back_by_the_session(start_cluster, begin, dial):
    site = start_cluster(1)
    before = begin(site.first)
    answer = Api(site.first).call("DELETE", f"/v1/connections/{before.connected['connection']}")
    assert answer.status == 200, answer
    assert before.close_code() == 4501
    wait_until(lambda: site.redis.ask(f"STRLEN {place(before.session)}") == ":0", "the session is over")
    assert dial(site.first).refused("connect", session=before.session) == "session_lost"


def test_a_gateway_that_is_cut_off_learns_from_the_store(nats_server, redis_server, start_gateway, begin, resume):
    wire = Proxy(nats_server.port, "nats")
    settings = {"session.window": "2s"}
    near = start_gateway("near", wire, redis_server, settings)
    far = start_gateway("far", nats_server, redis_server, settings)
    old, other = begin(near), begin(near)
    wire.cut()
    resume(far, old.session)
    assert old.close_code() == SUPERSEDED
    other.ask("ping")


def test_without_redis_clients_connect_with_their_tokens(start_cluster, begin, dial, resume):
    site = start_cluster(1)
    before = begin(site.first)
    site.redis.kill()
    client = dial(site.first)
    assert client.refused("connect", session=before.session) == "unavailable"
    assert "session" not in client.ask("connect", token=JWT, session=True)
    before.ask("ping")
    site.redis.start()

    def kept():
        with Client(site.first.websocket_url) as client:
            return client.ask("connect", token=JWT, session=True).get("session")

    wait_until(kept, "sessions are kept again")
    resume(site.first, before.session)
    assert before.close_code() == SUPERSEDED
