"""The HTTP API: what a service asks, of whichever gateway."""

import json

import pytest

from api import PUBLISH_KEY, Api, http
from harness import token, wait_until


def test_a_batch_has_a_result_for_each_message(site, connect, venue):
    client = connect(site.last).subscribe(venue)
    batch = [
        {"channel": venue, "data": 1, "id": "m-1"},
        {"channel": "nowhere:1", "data": 2},
        {"channel": venue, "data": 3},
    ]
    good, bad, last = site.api.publish(messages=batch)["results"]
    assert good == {"id": "m-1", "channels": [venue]}
    assert (bad["error"]["code"], bad["error"]["retry"]) == ("unknown_namespace", "no")
    assert last["channels"] == [venue]
    assert client.expect_data(2) == [1, 3]


def test_bytes_are_published_in_base64(site, connect, venue):
    client = connect(site.last).subscribe(venue)
    site.api.publish(channel=venue, data_base64="AAH/")
    client.expect("message", data=b"\x00\x01\xff")


def test_a_message_that_has_expired_is_refused(site, venue):
    answer = site.api.try_publish({"channel": venue, "data": 1, "expires_at": 1})
    assert answer.problem == (400, "bad_request")


def test_a_repeated_request_is_carried_out_once(site, connect, venue, unique):
    client = connect(site.last).subscribe(venue)
    message = {"channel": venue, "data": 1}
    first = Api(site.first).try_publish(message, idempotency_key=unique)
    again = Api(site.last).try_publish(message, idempotency_key=unique)
    assert (first.status, again.status, again.body) == (200, 200, first.body)
    assert "idempotent-replayed" not in first.headers
    assert again.headers["idempotent-replayed"] == "true"
    other = site.api.try_publish(message | {"data": 2}, idempotency_key=unique)
    assert other.problem == (422, "conflict")
    site.api.publish(channel=venue, data="last")
    assert client.expect_data(2) == [1, "last"]


def test_channels_are_counted_over_all_gateways(site, connect, unique):
    one, two, pattern = f"chat:{unique}:1", f"chat:{unique}:2", f"chat:{unique}:*"
    for gateway in site.gateways:
        client = connect(gateway, token("alice", role="staff")).subscribe(one)
    client.subscribe(two)
    client.ask("subscribe", pattern=pattern)
    count = len(site.gateways)
    wanted = [(pattern, True, 1), (one, False, count), (two, False, 1)]
    answer = site.api.get(f"/v1/channels?prefix=chat:{unique}")
    assert [(it["name"], it["pattern"], it["subscribers"]) for it in answer["channels"]] == wanted
    assert answer["partial"] is False
    page = site.api.get(f"/v1/channels?prefix=chat:{unique}&limit=2")
    assert len(page["channels"]) == 2
    rest = site.api.get(f"/v1/channels?prefix=chat:{unique}&after={page['next']}")
    assert [it["name"] for it in rest["channels"]] == [two]


def test_connections_are_listed_wherever_they_are(site, connect, unique):
    clients = [connect(gateway, token(unique)) for gateway in site.gateways]
    ids = {client.connected["connection"] for client in clients}

    def listed():
        answer = site.api.get(f"/v1/connections?user={unique}")
        return answer if {it["id"] for it in answer["connections"]} == ids else None

    answer = wait_until(listed, "all connections are listed")
    assert answer["partial"] is False
    connection = answer["connections"][0]
    assert connection["user"] == unique and connection["transport"] == "websocket"
    assert len({it["node"] for it in answer["connections"]}) == len(site.gateways)
    assert "websockets" in connection["user_agent"]
    assert site.api.get(f"/v1/connections/{connection['id']}") == connection
    clients[0].socket.close()
    gone = clients[0].connected["connection"]
    wait_until(lambda: site.api.call("GET", f"/v1/connections/{gone}").status == 404, "it is gone")


def test_a_list_of_connections_has_pages(site, connect, unique):
    ids = {connect(site.last, token(unique)).connected["connection"] for _ in range(5)}

    def all_pages():
        page, seen = site.api.get("/v1/connections?limit=2"), []
        while True:
            seen += [it["id"] for it in page["connections"]]
            if "next" not in page:
                return seen
            page = site.api.get(f"/v1/connections?limit=2&cursor={page['next']}")

    assert wait_until(lambda: ids <= set(all_pages()), "they are on the pages")


@pytest.mark.parametrize(("query", "code"), [("", 4501), ("?reconnect=true", 4004)])
def test_a_connection_is_ended_from_any_gateway(site, connect, query, code):
    client, other = connect(site.last), connect(site.last)
    path = f"/v1/connections/{client.connected['connection']}{query}"
    answer = site.api.call("DELETE", path)
    assert (answer.status, answer.json) == (200, {"closed": 1, "partial": False})
    assert client.close_code() == code
    assert site.api.call("DELETE", path).problem == (404, "not_found")
    other.ask("ping")


def test_a_users_connections_are_ended_on_all_gateways(site, connect, unique):
    clients = [connect(gateway, token(unique)) for gateway in site.gateways]
    stranger = connect(site.last)
    answer = site.api.call("DELETE", f"/v1/users/{unique}/connections?reason=out%20of%20office")
    assert answer.json == {"closed": len(clients), "partial": False}
    assert {client.close_code() for client in clients} == {4501}
    assert {client.socket.close_reason for client in clients} == {"out of office"}
    stranger.ask("ping")
    assert site.api.call("DELETE", f"/v1/users/{unique}/connections").json["closed"] == 0


def test_statistics_are_of_the_whole_cluster(site, connect, unique):
    for gateway in site.gateways:
        connect(gateway).subscribe(f"chat:{unique}")

    def counted():
        stats = site.api.get("/v1/stats")
        open_here = [it["connections"] >= 1 and it["subscriptions"] >= 2 for it in stats["gateways"]]
        return stats if all(open_here) else None

    stats = wait_until(counted, "each gateway has told its figures", deadline=12)
    assert stats["partial"] is False
    assert len(stats["gateways"]) == len(site.gateways)
    assert stats["connections"] == sum(it["connections"] for it in stats["gateways"])
    assert all(it["bus_ok"] for it in stats["gateways"])


@pytest.mark.parametrize("site", ["cluster"], indirect=True)
def test_services_on_nats_ask_the_same(site, nats, connect, unique):
    client = connect(site.last, token(unique)).subscribe(f"chat:{unique}")

    def ask(operation, **query):
        return json.loads(nats.request(f"fanfare.api.{operation}", json.dumps(query).encode()))

    [channel] = ask("channels", prefix=f"chat:{unique}")["channels"]
    assert channel["subscribers"] == 1
    assert len(ask("stats")["gateways"]) == len(site.gateways)
    assert ask("disconnect", connection=client.connected["connection"], reason="x" * 300)["closed"] == 1
    assert client.close_code() == 4501 and client.socket.close_reason == "x" * 123
    assert ask("nonsense")["error"]["code"] == "unknown_command"


BAD_PUBLISHES = {
    "no JSON": (b"{oops", 400, "bad_request"),
    "not an object": (b"7", 400, "bad_request"),
    "unknown member": ({"channel": "venue:1", "data": 1, "chanel": "x"}, 400, "bad_request"),
    "wrong type": ({"channel": 42, "data": 1}, 400, "bad_request"),
    "no target": ({"data": 1}, 400, "bad_request"),
    "no data": ({"channel": "venue:1"}, 400, "bad_request"),
    "bad base64": ({"channel": "venue:1", "data_base64": "?"}, 400, "bad_request"),
    "bad channel": ({"channel": "venue::1", "data": 1}, 400, "invalid_name"),
    "wildcard namespace": ({"channel": "*", "data": 1}, 400, "invalid_name"),
    "bad id": ({"channel": "venue:1", "data": 1, "id": "a b"}, 400, "invalid_name"),
    "unknown namespace": ({"channel": "nowhere:1", "data": 1}, 422, "unknown_namespace"),
    "too large": ({"channel": "venue:1", "data": "x" * 65536}, 413, "message_too_large"),
}


@pytest.mark.parametrize("kind", BAD_PUBLISHES)
def test_a_bad_publish_is_a_problem(embedded_site, kind):
    body, *problem = BAD_PUBLISHES[kind]
    assert embedded_site.api.try_publish(body).problem == tuple(problem)


BAD_REQUESTS = {
    "without key": ("GET", "/v1/stats", {"x_api_key": None}, 401, "unauthorized"),
    "with a wrong key": ("GET", "/v1/stats", {"x_api_key": "wrong"}, 401, "unauthorized"),
    "beyond the key's scope": ("GET", "/v1/stats", {"x_api_key": PUBLISH_KEY}, 403, "forbidden"),
    "with a client's token": (
        "POST",
        "/v1/publish",
        {"x_api_key": None, "authorization": f"Bearer {token('alice')}"},
        401,
        "unauthorized",
    ),
    "no such path": ("GET", "/v1/nonsense", {}, 404, "not_found"),
    "wrong method": ("DELETE", "/v1/publish", {}, 405, "method_not_allowed"),
    "not as JSON": ("POST", "/v1/publish", {"content_type": "text/plain"}, 415, "unsupported_media_type"),
    "no such connection": ("GET", f"/v1/connections/{'0' * 32}", {}, 404, "not_found"),
    "bad connection id": ("GET", "/v1/connections/7", {}, 400, "invalid_name"),
    "bad limit": ("GET", "/v1/channels?limit=0", {}, 400, "bad_request"),
    "unknown parameter": ("GET", "/v1/channels?limt=1", {}, 400, "bad_request"),
    "bad cursor": ("GET", "/v1/connections?cursor=nonsense", {}, 400, "bad_request"),
}


@pytest.mark.parametrize("kind", BAD_REQUESTS)
def test_a_bad_request_is_a_problem(site, kind):
    method, path, headers, *problem = BAD_REQUESTS[kind]
    body = b"{}" if method == "POST" else None
    assert site.api.call(method, path, body, **headers).problem == tuple(problem)


def test_a_key_for_publishing_publishes(embedded_site, venue):
    Api(embedded_site.first, PUBLISH_KEY).publish(channel=venue, data=1)
    as_bearer = {"x_api_key": None, "authorization": f"Bearer {PUBLISH_KEY}"}
    answer = embedded_site.api.try_publish({"channel": venue, "data": 1}, **as_bearer)
    assert answer.status == 200


def test_the_api_is_also_on_the_admin_listener_alone(start_gateway):
    gateway = start_gateway(settings={"http.public_api": "false"})
    assert Api(gateway).call("GET", "/v1/stats").status == 404
    answer = http("GET", f"{gateway.admin_url}/v1/stats", x_api_key="test-admin-key")
    assert len(answer.json["gateways"]) == 1


def test_the_specification_is_served(embedded_site):
    document = http("GET", f"{embedded_site.first.url}/openapi.json").json
    assert document["openapi"].startswith("3.1")
    paths = {
        "/v1/publish",
        "/v1/channels",
        "/v1/connections",
        "/v1/connections/{id}",
        "/v1/users/{user}/connections",
        "/v1/stats",
    }
    assert paths <= document["paths"].keys()
    page = http("GET", f"{embedded_site.first.url}/docs")
    assert (page.status, page.headers["content-type"]) == (200, "text/html; charset=utf-8")
