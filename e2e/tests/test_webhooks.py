"""A client's request goes to a service over HTTP, and the service's answer comes back; no NATS is needed."""

import base64
import json
import threading

import pytest

from api import http
from application import ProfileGateway, jwt_of
from client import DEADLINE
from harness import token
from socketio_client import Node
from webhook import SECRET, Webhook

TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


@pytest.fixture
def service():
    with Webhook() as service:
        yield service


@pytest.fixture
def asking(start_gateway, service):
    """asking(key=value…): a gateway that asks the service at billing:…"""
    return lambda **more: start_gateway(settings=service.settings("billing:**", **more))


def test_a_service_is_asked_as_it_can_verify(asking, connect, service):
    client = connect(asking(), token("alice", role="staff"))
    request = {"service": "billing:quote:7", "event": "quote", "data": {"items": 3}, "trace": TRACE}
    assert client.ask("request", **request)["data"] == {"items": 3}
    asked, headers = service.asked.pop()
    caller = {"connection": client.connected["connection"], "user": "alice", "roles": ["staff"]}
    assert asked == {
        "id": headers["webhook-id"],
        "address": "billing:quote:7",
        "event": "quote",
        "data": {"items": 3},
        "caller": caller,
    }
    assert headers["traceparent"] == TRACE


def test_numbers_and_bytes_stay_what_they_are(asking, connect, service):
    gateway = asking()
    client = connect(gateway)
    service.answer = lambda _: (200, {}, b'{"total":12.50,"id":12345678901234567890}')
    assert client.ask("request", service="billing:a", data=1)["data"] == {"total": 12.5, "id": 12345678901234567890}
    binary = {"content-type": "application/octet-stream"}
    service.answer = lambda request: (200, binary, base64.b64decode(request["data_base64"])[::-1])
    client.send_binary(b"\x00\x01\xff", type="request", id=7, service="billing:a")
    assert client.answer_to(7) == {"type": "reply", "id": 7, "data": b"\xff\x01\x00"}


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ((409, {}, {"code": 7, "error": "sold out"}), ("service_refused", "no", "sold out")),
        ((404, {}, b"<h1>Not Found</h1>"), ("no_service", "later", None)),
        ((429, {}, b""), ("overloaded", "later", None)),
        ((502, {}, b""), ("unknown", "unknown", None)),
        ((200, {}, b"<h1>Hello</h1>"), ("service_refused", "no", None)),
        ((303, {"location": "/elsewhere"}, b""), ("service_refused", "no", None)),
        ((200, {}, b'"%s"' % (b"x" * 65536)), ("service_refused", "no", None)),
    ],
)
def test_answers_that_are_none(answer, expected, asking, connect, service):
    service.answer = lambda _: answer
    client = connect(asking())
    error = client.answer_to(client.start("request", service="billing:a", data=1))
    code, retry, text = expected
    assert (error["code"], error["retry"]) == (code, retry)
    assert text in (None, error["text"])
    assert len(service.asked) == 1


def test_a_service_that_knows_another_secret(asking, connect):
    other = "whsec_" + base64.b64encode(b"o" * 32).decode()
    client = connect(asking(secret=other))
    assert client.refused("request", service="billing:a", data=1) == "service_refused"


def test_a_secret_is_changed_without_a_gap(asking, connect):
    new = "whsec_" + base64.b64encode(b"n" * 32).decode()
    client = connect(asking(secret=f"{new} {SECRET}"))
    assert client.ask("request", service="billing:a", data=1)["data"] == 1


def test_too_many_at_once_and_one_that_takes_too_long(asking, connect, service):
    came, go = threading.Semaphore(0), threading.Semaphore(0)

    def answer(request):
        came.release()
        go.acquire(timeout=DEADLINE)
        return 200, {}, request["data"]

    service.answer = answer
    gateway = asking(in_flight=1, timeout="30s")
    client = connect(gateway)
    first = client.start("request", service="billing:a", data=1)
    came.acquire(timeout=DEADLINE)
    assert client.refused("request", service="billing:b", data=2) == "overloaded"
    go.release()
    assert client.answer_to(first)["data"] == 1
    error = client.answer_to(client.start("request", service="billing:a", data=3, timeout=100))
    assert (error["code"], error["retry"]) == ("service_timeout", "unknown")
    go.release()
    counted = http("GET", f"{gateway.admin_url}/metrics").body.decode()
    for result in ("ok", "overloaded", "timed_out"):
        assert f'fanfare_webhook_requests_total{{result="{result}",webhook="test"}} 1' in counted
    assert SECRET not in gateway.log.read_text()


def test_rules_are_those_of_all_requests(start_gateway, connect, service):
    client = connect(start_gateway(settings=service.settings("billing:*,chat:*")))
    assert client.refused("request", service="chat:a", data=1) == "forbidden"
    assert client.refused("request", service="billing:a:b", data=1) == "no_service"
    assert not service.asked


def test_a_reply_is_a_socketio_acknowledgement(start_gateway, service):
    settings = service.settings("rpc:*") | {"namespaces.rpc.request": "authenticated"}
    gateway = start_gateway(settings=settings)
    with Node() as node:
        client = node.open(gateway, auth={"token": token("alice")}).connected()
        assert client.ask("quote", {"items": 3}) == {"items": 3}
        service.answer = lambda _: (422, {}, {"error": "sold out"})
        assert client.ask("quote", {"items": 3}) == {"error": "sold out", "code": "service_refused"}


def test_a_profile_is_served_without_nats(processes, tmp_path, application, service):
    gateway = processes(ProfileGateway("platform-admin", tmp_path, settings=service.settings("admin:*")))
    admin = json.dumps({"token": jwt_of(userId="root", role="admin")})
    client = application("platform_admin_client.mjs", gateway.url, "/admin", admin)
    service.answer = lambda request: (200, {}, {"packages": 2, "for": request["caller"]["user"]})
    client.emit("request_dashboard_update")
    assert client.event("dashboard_update") == {"packages": 2, "for": "root"}
    service.answer = lambda _: (500, {}, {"error": "out of order"})
    client.emit("request_dashboard_update")
    assert client.event("dashboard_error") == {"message": "out of order"}
