"""A gateway that is told to stop finishes what it has begun and sends its clients elsewhere."""

import signal

from client import Client
from harness import http_status, token, wait_until

JWT = token("alice")


def test_clients_are_sent_elsewhere(start_gateway):
    gateway = start_gateway(settings={"drain.delay": "1s"})
    with Client(gateway.websocket_url, JWT) as idle, Client(gateway.websocket_url) as nobody:
        gateway.terminate()
        wait_until(lambda: http_status(f"{gateway.admin_url}/readyz") == 503, "it is not ready")
        assert http_status(f"{gateway.admin_url}/healthz") == 200
        with Client(gateway.websocket_url, JWT) as late:
            for client in (idle, late):
                assert 0 <= client.expect("reconnect")["after"] <= 2000
                assert client.close_code() == 1012
            assert nobody.close_code() == 1012
    assert gateway.wait() == 0


def test_what_was_acknowledged_is_delivered(start_cluster):
    site = start_cluster(2)
    with (
        Client(site.first.websocket_url, JWT) as publisher,
        Client(site.last.websocket_url, JWT) as witness,
    ):
        witness.subscribe("chat:1")
        ids = [publisher.start("publish", channel="chat:1", data=number) for number in range(2000)]
        publisher.answer_to(ids[0])
        site.first.terminate()
        assert publisher.close_code(deadline=10) == 1012
        answers = {frame["id"]: frame for frame in publisher.aside if "id" in frame}
        assert any(frame["type"] == "reconnect" for frame in publisher.aside)
        refused = {frame["code"] for frame in answers.values() if frame["type"] == "error"}
        assert refused <= {"unavailable"}
        published = 1 + sum(frame["type"] == "published" for frame in answers.values())
        assert witness.expect_data(published) == list(range(published))
    assert site.first.wait() == 0


def test_a_second_interrupt_ends_it_at_once(start_gateway):
    gateway = start_gateway(settings={"drain.delay": "1m"})
    gateway.child.send_signal(signal.SIGINT)
    wait_until(lambda: http_status(f"{gateway.admin_url}/readyz") == 503, "it is not ready")
    gateway.child.send_signal(signal.SIGINT)
    gateway.wait(deadline=3)


def test_it_ends_also_without_nats_and_redis(start_cluster):
    site = start_cluster(1)
    with Client(site.first.websocket_url, JWT) as client:
        site.nats.kill()
        site.redis.kill()
        site.first.terminate()
        client.expect("reconnect")
        assert client.close_code() == 1012
    assert site.first.wait() == 0
