"""Tickets: a service asks for one, and a client of its user connects with it, once, at any gateway."""

import concurrent.futures
import hashlib

import pytest
import socketio

from api import ADMIN_KEY, PUBLISH_KEY, Api, http
from client import Client
from harness import wait_until


@pytest.fixture
def ticket(site):
    """ticket(user, …): one that the first gateway made."""
    return lambda user="alice", **more: make(site.first, user=user, **more)


def make(gateway, **request):
    answer = Api(gateway).call("POST", "/v1/tickets", request)
    assert answer.status == 200, answer
    assert answer.headers["cache-control"] == "no-store"
    return answer.json["ticket"]


def in_url(gateway, ticket):
    return f"{gateway.websocket_url}?ticket={ticket}"


def refused(client):
    client.expect("error", code="token_expired")
    return client.close_code()


def test_a_ticket_of_one_gateway_is_good_at_another_once(site, ticket):
    used = ticket(roles=["staff"], claims={"org": "acme"}, grants={"wildcard": ["chat:*"]})
    with Client(in_url(site.last, used)) as client:
        connected = client.expect("connected", user="alice")
        assert connected["channels"] == ["user:alice", "role:staff", "org:acme"]
        assert connected["expires"] > 0
        client.ask("subscribe", pattern="chat:*")
        for gateway in site.gateways:
            with Client(in_url(gateway, used)) as second:
                assert refused(second) == 4003
        client.ask("ping")


def test_a_ticket_resumes_no_session(site, ticket):
    for session in (secret := ticket(), f"ticket:{secret}"):
        with Client(site.last.websocket_url) as client:
            assert client.refused("connect", session=session) == "session_lost"
    with Client(in_url(site.first, secret)) as client:
        client.expect("connected", user="alice")


def test_of_many_who_come_with_a_ticket_one_gets_in(site, ticket):
    used = ticket()

    def come(n):
        with Client(in_url(site.gateways[n % len(site.gateways)], used)) as client:
            return client.next()["type"]

    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        told = list(pool.map(come, range(8)))
    assert sorted(told) == ["connected"] + ["error"] * 7


def header(ticket):
    return {"additional_headers": {"Authorization": f"Bearer {ticket}"}}


def offer(ticket):
    return {"subprotocols": ["fanfare.v1", f"fanfare.token.{ticket}"]}


@pytest.mark.parametrize("way", [header, offer])
def test_a_ticket_stands_in_the_place_of_a_token(site, ticket, way):
    with Client(site.last.websocket_url, **way(ticket())) as client:
        client.expect("connected", user="alice")
        assert client.ask("refresh", token=ticket())["expires"] > 0
        assert client.refused("refresh", token=ticket("bob")) == "unauthorized"


def test_connect_takes_a_ticket(site, ticket):
    used = ticket()
    with Client(site.last.websocket_url, used) as client:
        assert client.connected["user"] == "alice"
    with Client(site.first.websocket_url) as client:
        assert client.refused("connect", token=used) == "token_expired"


def test_a_token_in_the_place_of_a_ticket_is_none(embedded_site):
    """Else `?ticket=` would be a way around `http.query_token`."""
    for text in "", "x", "fft_x", "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJhIn0.c2ln":
        with Client(in_url(embedded_site.first, text)) as client:
            client.expect("error", code="unauthorized")


def test_without_websocket(site, ticket):
    used = ticket()
    first = http("POST", f"{site.last.url}/v1/poll?ticket={used}", {"wait": 0})
    assert first.json["objects"][0]["user"] == "alice", first
    again = http("POST", f"{site.first.url}/v1/poll", {"token": used, "wait": 0})
    assert again.problem == (401, "token_expired")
    assert http("GET", f"{site.first.url}/v1/sse?ticket={used}").problem == (401, "token_expired")


@pytest.mark.parametrize("transport", ["websocket", "polling"])
@pytest.mark.parametrize("place", ["auth", "query"])
def test_socketio(site, ticket, unique, transport, place):
    used = ticket(unique)
    query = f"?ticket={used}" if place == "query" else ""
    auth = {"ticket": used} if place == "auth" else None

    def come(gateway):
        client = socketio.SimpleClient()
        client.connect(gateway.url + query, auth=auth, transports=[transport])
        return client

    client = come(site.last)
    Api(site.first).publish(channel=f"user:{unique}", event="hello", data=1)
    assert client.receive(timeout=5) == ["hello", 1]
    with pytest.raises(socketio.exceptions.ConnectionError):
        come(site.first)
    client.disconnect()


def test_who_gets_a_ticket(site):
    request = {"user": "alice"}
    for key, problem in (PUBLISH_KEY, (403, "forbidden")), ("wrong", (401, "unauthorized")):
        assert Api(site.first, key).call("POST", "/v1/tickets", request).problem == problem
    late = Api(site.first, ADMIN_KEY).call("POST", "/v1/tickets", request | {"expires_in": 3_600_000})
    assert late.problem == (400, "bad_request")


def place(ticket):
    """Where Redis has it."""
    return f"fanfare:session:{{{hashlib.sha256(f'ticket:{ticket}'.encode()).hexdigest()}}}"


def test_a_ticket_is_good_for_its_time(cluster_site):
    gateway, redis = cluster_site.last, cluster_site.redis
    short, long = (make(gateway, user="alice", expires_in=time) for time in (100, 60_000))
    wait_until(lambda: redis.ask(f"EXISTS {place(short)}") == ":0", "it has expired")
    with Client(in_url(gateway, short)) as client:
        assert refused(client) == 4003
    assert redis.ask(f"EXISTS {place(long)}") == ":1"
    with Client(in_url(gateway, long)) as client:
        client.expect("connected")


def test_while_redis_is_away_it_is_said(start_cluster):
    site = start_cluster(1)
    used = make(site.first, user="alice")
    site.redis.stop()
    answer = Api(site.first).call("POST", "/v1/tickets", {"user": "alice"})
    assert answer.problem == (503, "unavailable")
    with Client(in_url(site.first, used)) as client:
        client.expect("error", code="unavailable")
        assert client.close_code() == 1013
    assert used not in site.first.log.read_text()


def test_tickets_are_counted(gateway):
    used = make(gateway, user="alice")
    for _ in range(2):
        with Client(in_url(gateway, used)) as client:
            client.next()
    metrics = http("GET", f"{gateway.admin_url}/metrics").body.decode()
    for outcome in "issued", "used", "refused":
        assert f'fanfare_tickets_total{{outcome="{outcome}"}} 1' in metrics
