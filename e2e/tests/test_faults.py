"""Something dies under traffic: the others go on, and no loss is silent."""

import concurrent.futures
import contextlib
import itertools
import signal
import threading
import time

import pytest

from api import Api, http
from client import Client
from harness import Gateway, http_status, token, wait_until
from proxy import Proxy

JWT = token("alice")
CHANNEL = "chat:faults"
# The bus has 2 s to confirm; the rest is for a busy machine.
ANSWER_WITHIN = 2.5


class Traffic:
    """A publisher of numbers, which notes what became of each."""

    def __init__(self, gateway):
        self.client = Client(gateway.websocket_url, JWT)
        self.numbers = itertools.count()
        self.accepted = []

    def publish(self):
        """Publishes the next number and returns `ok` or the error's code."""
        number, start = next(self.numbers), time.monotonic()
        answer = self.client.answer_to(self.client.start("publish", channel=CHANNEL, data=number))
        assert time.monotonic() - start < ANSWER_WITHIN, answer
        if answer["type"] == "published":
            self.accepted.append(number)
            return "ok"
        self.client.ask("abandon", channel=CHANNEL)
        return answer["code"]

    def publish_until(self, outcome, deadline=15):
        wait_until(lambda: self.publish() == outcome, f"a publish ends with {outcome}", deadline)

    @contextlib.contextmanager
    def running(self):
        """Publishes one after the other in the background."""
        stop = threading.Event()

        def run():
            while not stop.is_set():
                self.publish()

        with concurrent.futures.ThreadPoolExecutor() as pool:
            running = pool.submit(run)
            try:
                yield
            finally:
                stop.set()
            running.result()


def frames_until(client, number):
    """The numbers that come until this one, and None for each gap between them."""
    frames = []
    while number not in frames:
        frame = client.next(deadline=15)
        frames.append(frame["data"] if frame["type"] == "message" else None)
        assert frame["type"] in ("message", "gap"), frame
    return frames


def check_no_loss_is_silent(frames, accepted):
    """Numbers grow, and where one is missing that was accepted, there is a gap."""
    since, told = -1, False
    for number in frames:
        if number is None:
            told = True
            continue
        assert number > since, frames
        missing = [it for it in accepted if since < it < number]
        assert told or not missing, f"{missing} are missing in silence: {frames}"
        since, told = number, False


def subscriber(gateway):
    return Client(gateway.websocket_url, JWT).subscribe(CHANNEL)


def test_a_gateway_is_killed(start_cluster):
    site = start_cluster(3)
    one, two, victim = site.gateways
    traffic = Traffic(one)
    witnesses, orphan = [subscriber(one), subscriber(two)], subscriber(victim)
    wait_until(lambda: gateways(one) == 3, "all leases are there")
    with traffic.running():
        orphan.expect("message")
        victim.kill()
        killed = time.monotonic()
        assert orphan.close_code() is None
        orphan = subscriber(two)
        orphan.expect("message")
    for client in witnesses:
        last = traffic.accepted[-1]
        assert frames_until(client, last) == traffic.accepted == list(range(last + 1))
    wait_until(lambda: gateways(one) == 2, "the dead gateway's lease is gone", deadline=20)
    assert time.monotonic() - killed < 20
    connections = Api(two).get("/v1/connections?user=alice")["connections"]
    assert len(connections) == 4


def gateways(gateway):
    return len(Api(gateway).get("/v1/stats")["gateways"])


def test_nats_is_killed_and_comes_back(start_cluster):
    site = start_cluster(2)
    traffic = Traffic(site.first)
    clients = [subscriber(gateway) for gateway in site.gateways]
    with traffic.running():
        for client in clients:
            client.expect("message", data=0)
        site.nats.kill()
        wait_until(lambda: published_by_http(site.first) == (503, "unavailable"), "HTTP says unavailable")
    assert traffic.publish() == "unavailable"
    assert {http_status(f"{gateway.admin_url}/healthz") for gateway in site.gateways} == {200}
    for client in clients:
        client.ask("ping")
    site.nats.start()
    traffic.publish_until("ok")
    wait_until(lambda: published_by_http(site.last) == (200, None), "HTTP publishes again")
    for client in clients:
        wait_until(lambda: gap_is_there(client), "the gap is told")
    traffic.publish_until("ok")
    for client in clients:
        frames = frames_until(client, traffic.accepted[-1])
        assert None in frames
        check_no_loss_is_silent([0, *frames], traffic.accepted)


def gap_is_there(client):
    client.ask("ping")
    return any(frame["type"] == "gap" for frame in client.aside)


def published_by_http(gateway):
    """Status and code of a publish that nobody receives."""
    start = time.monotonic()
    answer = Api(gateway).try_publish({"channel": "venue:nobody", "data": 1})
    assert time.monotonic() - start < ANSWER_WITHIN, answer
    return answer.problem if answer.status != 200 else (200, None)


def test_pipelined_publishes_are_all_answered_when_nats_dies(start_cluster):
    site = start_cluster(2)
    client = subscriber(site.last)
    with Client(site.first.websocket_url, JWT) as publisher:
        ids = [publisher.start("publish", channel=CHANNEL, data=number) for number in range(1000)]
        client.expect("message", data=0)
        site.nats.kill()
        killed = time.monotonic()
        answers = [publisher.answer_to(id) for id in ids]
        assert time.monotonic() - killed < ANSWER_WITHIN
        codes = [answer.get("code", "ok") for answer in answers]
        assert set(codes) <= {"ok", "unknown", "unavailable", "publish_blocked"}
        site.nats.start()
        publisher.ask("abandon", channel=CHANNEL)
        wait_until(lambda: answered_ok(publisher, -1), "publishing works again")
        wait_until(lambda: gap_is_there(client), "the gap is told")
        wait_until(lambda: answered_ok(publisher, "last"), "the last one is published")
        accepted = [number for number, code in enumerate(codes) if code == "ok"]
        frames = [0, *frames_until(client, "last")[:-1], len(ids)]
        check_no_loss_is_silent([number for number in frames if number != -1], accepted)


def answered_ok(publisher, data):
    publisher.ask("abandon", channel=CHANNEL)
    return publisher.answer_to(publisher.start("publish", channel=CHANNEL, data=data))["type"] == "published"


def test_one_gateway_is_cut_off_from_nats(start_cluster, start_gateway):
    site = start_cluster(1)
    wire = Proxy(site.nats.port, "nats")
    cut_off = start_gateway("cut-off", wire, site.redis)
    traffic, client, witness = Traffic(site.first), subscriber(cut_off), subscriber(site.first)
    assert traffic.publish() == "ok"
    client.expect("message", data=0)
    wire.cut()
    wait_until(lambda: published_by_http(cut_off) == (503, "unavailable"), "it knows")
    for _ in range(10):
        assert traffic.publish() == "ok"
    wait_until(lambda: http_status(f"{cut_off.admin_url}/readyz") == 503, "it is not ready", deadline=20)
    assert http_status(f"{site.first.admin_url}/readyz") == 200
    wire.mend()
    client.expect("gap", deadline=15, reason="bus_reconnected")
    assert traffic.publish() == "ok"
    client.expect("message", data=11)
    assert witness.expect_data(12) == list(range(12))
    wait_until(lambda: http_status(f"{cut_off.admin_url}/readyz") == 200, "it is ready again")


def test_nats_hangs(start_cluster):
    site = start_cluster(2)
    traffic = Traffic(site.first)
    clients = [subscriber(gateway) for gateway in site.gateways]
    assert traffic.publish() == "ok"
    site.nats.pause()
    # The first may have reached the server; once one was not confirmed, nothing more is handed over.
    assert traffic.publish() == "unknown"
    assert traffic.publish() in ("unknown", "unavailable")
    assert published_by_http(site.last)[1] in ("unknown", "unavailable")
    with Client(site.last.websocket_url, JWT) as late:
        late.ask("ping")
    site.nats.resume()
    traffic.publish_until("ok")
    for client in clients:
        check_no_loss_is_silent(frames_until(client, traffic.accepted[-1]), traffic.accepted)


def test_a_gateway_may_start_before_nats(nats_server, redis_server, tmp_path):
    nats_server.stop()
    gateway = Gateway(tmp_path, "early", nats_server, redis_server)

    def launch():
        known = len(gateway.launch().log.read_text())
        wait_until(lambda: "trying again" in gateway.log.read_text()[known:], "it has noticed")

    try:
        launch()
        assert gateway.stop() == 0
        launch()
        nats_server.start()
        gateway.until_ready()
    finally:
        if gateway.is_running():
            gateway.kill()


def test_new_clients_are_sent_away_while_nats_is_down(start_cluster):
    site = start_cluster(1)
    site.nats.kill()
    wait_until(lambda: published_by_http(site.first)[0] == 503, "the gateway knows")
    with Client(site.first.websocket_url) as client:
        assert client.refused("connect", token=JWT) == "unavailable"
        assert client.close_code() == 1013


def test_readiness_stays_when_all_gateways_lost_nats(start_cluster):
    site = start_cluster(2)
    site.nats.kill()

    def degraded(gateway):
        answer = http("GET", f"{gateway.admin_url}/readyz")
        return answer.status == 200 and b"degraded" in answer.body

    for gateway in site.gateways:
        wait_until(lambda: degraded(gateway), "ready, and degraded", deadline=25)


@pytest.mark.parametrize("fault", [signal.SIGSTOP, signal.SIGKILL])
def test_without_redis_delivery_goes_on_and_answers_are_partial(start_cluster, fault):
    site = start_cluster(2)
    traffic, client = Traffic(site.first), subscriber(site.last)
    wait_until(lambda: gateways(site.first) == 2, "all leases are there")
    site.redis.child.send_signal(fault)
    for _ in range(20):
        assert traffic.publish() == "ok"
    assert client.expect_data(20) == traffic.accepted
    with subscriber(site.last) as late:
        assert traffic.publish() == "ok"
        late.expect("message", data=20)
    for path in ("/v1/stats", "/v1/connections", "/v1/channels"):
        answer = site.api.get(path)
        assert answer["partial"] is True and answer["reason"], path
    keyed = site.api.try_publish({"channel": "venue:1", "data": 1}, idempotency_key="k")
    assert keyed.problem == (503, "unavailable")
    come_back(site.redis, fault)
    wait_until(lambda: whole(site), "the directory is whole again", deadline=20)


def come_back(redis, fault):
    if fault == signal.SIGSTOP:
        redis.resume()
    else:
        redis.wait()
        redis.start()


def whole(site):
    stats, listed = site.api.get("/v1/stats"), site.api.get("/v1/connections")
    return not stats["partial"] and len(stats["gateways"]) == 2 and len(listed["connections"]) == 2
