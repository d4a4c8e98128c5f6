"""Socket.IO over several gateways, behind a load balancer that brings each request to the next one."""

import contextlib
import http.client
import json
import re
import subprocess
import time
import urllib.parse

import pytest
from prometheus_client.parser import text_string_to_metric_families
from websockets.sync.client import connect as websocket

from api import http as ask
from balancer import Balancer
from bus import Nats, dashed
from harness import TOP, wait_until

SETTINGS = {"testing.echo": "true", "auth.anonymous": "true"}
IMPATIENT = SETTINGS | {"socketio.ping_interval": "1s", "socketio.ping_timeout": "1s"}
# Of `testing.echo`: messages of Engine.IO come back.
PATH = "/engine.io/?EIO=4&transport="


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """Three gateways that end what is silent for two seconds."""
    from conftest import cluster_of, processes_in

    with processes_in(tmp_path_factory.mktemp("socketio")) as start:
        yield cluster_of(3, start, IMPATIENT)


@pytest.fixture
def balancer(site):
    with Balancer(ports(site)) as balancer:
        yield balancer


def ports(site):
    return [int(gateway.public.rpartition(":")[2]) for gateway in site.gateways]


def request(url, body=None, **headers):
    """Status and body. The connection is not kept. Header names have `_` for `-`."""
    address = urllib.parse.urlsplit(url)
    with contextlib.closing(http.client.HTTPConnection(address.netloc, timeout=5)) as connection:
        connection.request("POST" if body else "GET", f"{address.path}?{address.query}", body, dashed(headers) or {})
        response = connection.getresponse()
        return response.status, response.read().decode()


class Session:
    """Polls by whatever address it is given."""

    def __init__(self, url):
        status, body = request(url + PATH + "polling")
        assert (status, body[0]) == (200, "0")
        self.sid = json.loads(body[1:])["sid"]

    def url(self, url, transport="polling"):
        return f"{url}{PATH}{transport}&sid={self.sid}"

    def poll(self, url):
        return request(self.url(url))

    def post(self, url, packets):
        return request(self.url(url), packets)

    def poll_for(self, url, packet):
        """Polls until it comes, and answers pings meanwhile."""
        while True:
            status, body = self.poll(url)
            assert status == 200, body
            if packet in body.split("\x1e"):
                return
            assert body == "2"
            assert self.post(url, "3") == (200, "ok")

    def websocket(self, url):
        return websocket(self.url(url, "websocket").replace("http:", "ws:"), close_timeout=1)

    def is_over(self, url):
        """As the reference server, it says so in one way or another until all of it is gone."""
        return self.poll(url)[0] == 400

    def is_unknown(self, url):
        status, body = self.poll(url)
        return status == 400 and json.loads(body) == {"code": 1, "message": "Session ID unknown"}


def metric(gateway, name, **labels):
    families = text_string_to_metric_families(ask("GET", f"{gateway.admin_url}/metrics").body.decode())
    samples = [sample for family in families for sample in family.samples if sample.name == name]
    return sum(sample.value for sample in samples if labels.items() <= sample.labels.items())


def test_each_request_may_go_to_another_gateway(site, balancer):
    session = Session(balancer.url)
    for number in range(12):
        assert session.post(balancer.url, f"4hello {number}") == (200, "ok")
        session.poll_for(balancer.url, f"4hello {number}")
    large = "4" + "x" * 8_000
    assert session.post(balancer.url, large) == (200, "ok")
    session.poll_for(balancer.url, large)
    forwarding = [it for it in site.gateways if metric(it, "fanfare_socketio_forwarded_total", result="ok")]
    assert len(forwarding) >= 2
    assert session.post(balancer.url, "1") == (200, "ok")
    wait_until(lambda: session.is_over(balancer.url), "the session has ended")


def test_too_much_is_refused_and_the_session_goes_on(site):
    here, there = site.first.url, site.last.url
    session = Session(here)
    address = urllib.parse.urlsplit(session.url(there))
    with contextlib.closing(http.client.HTTPConnection(address.netloc, timeout=5)) as connection:
        connection.putrequest("POST", f"{address.path}?{address.query}")
        connection.putheader("content-length", "1000001")
        connection.endheaders()
        assert connection.getresponse().status == 413, "before any of it is sent"
    assert session.post(there, "4hello") == (200, "ok")
    session.poll_for(there, "4hello")


def test_who_breaks_off_a_poll_anywhere_has_gone(start_cluster):
    site = start_cluster(2, SETTINGS)
    session = Session(site.first.url)
    address = urllib.parse.urlsplit(session.url(site.last.url))
    connection = http.client.HTTPConnection(address.netloc)

    def is_over():
        """Breaks off a poll that may have arrived by now, and begins another one."""
        connection.close()
        connection.request("GET", f"{address.path}?{address.query}")
        return metric(site.first, "fanfare_connections") == 0

    assert metric(site.first, "fanfare_connections") == 1
    wait_until(is_over, "the session is over")
    assert session.is_over(site.first.url)
    assert session.is_over(site.last.url)


def test_two_polls_at_once_end_the_session_wherever_they_come_in(site):
    session = Session(site.first.url)
    address = urllib.parse.urlsplit(session.url(site.gateways[1].url))
    with contextlib.closing(http.client.HTTPConnection(address.netloc, timeout=5)) as first:
        first.request("GET", f"{address.path}?{address.query}")
        statuses = {session.poll(site.last.url)[0], first.getresponse().status}
    assert statuses == {200, 400}
    assert session.is_over(site.first.url)


def test_silence_ends_a_session_wherever_it_was_polled(site, balancer):
    session = Session(balancer.url)
    for _ in range(3):
        assert session.poll(balancer.url) == (200, "2")
        assert session.post(balancer.url, "3") == (200, "ok")
    assert session.poll(balancer.url) == (200, "2")
    wait_until(lambda: session.is_over(balancer.url), "the session is over", 4)


def test_a_websocket_is_carried_to_the_session(site):
    session = Session(site.first.url)
    with session.websocket(site.last.url) as socket:
        socket.send("2probe")
        assert socket.recv(timeout=5) == "3probe"
        assert session.poll(site.gateways[1].url)[0] == 200
        socket.send("5")
        socket.send("4hello")
        socket.send(b"\x01\x02")
        received = []
        while len(received) < 4:
            packet = socket.recv(timeout=5)
            received.append(packet)
            if packet == "2":
                socket.send("3")
        assert [packet for packet in received if packet != "2"][:2] == ["4hello", b"\x01\x02"]
        assert metric(site.last, "fanfare_socketio_tunnels") == 1
        assert session.poll(site.gateways[1].url)[0] == 400
    wait_until(lambda: metric(site.last, "fanfare_socketio_tunnels") == 0, "the tunnel has ended")
    wait_until(lambda: session.is_over(site.gateways[1].url), "the session has ended")


def test_a_silent_websocket_is_ended_by_the_sessions_gateway(site):
    session = Session(site.first.url)
    with session.websocket(site.last.url) as socket:
        socket.send("2probe")
        assert socket.recv(timeout=5) == "3probe"
        socket.send("5")
        with pytest.raises(Exception, match="no answer to ping"):
            while True:
                assert socket.recv(timeout=5) == "2"
    wait_until(lambda: metric(site.last, "fanfare_socketio_tunnels") == 0, "the tunnel has ended")


def test_names_that_nobody_gave_are_answered_at_once(site):
    """Also those that begin as a gateway's own do, and those of no gateway."""
    sid = Session(site.first.url).sid
    started = time.monotonic()
    for number in range(20):
        for made_up in [sid[:4] + f"{number:016}", f"{number:020}"]:
            for url in (site.first.url, site.last.url):
                status, body = request(f"{url}{PATH}polling&sid={made_up}")
                assert (status, json.loads(body)["code"]) == (400, 1)
    assert time.monotonic() - started < 5


def test_the_door_is_shut_to_clients(site):
    listening = wait_until(lambda: door_of(site.first), "it says where its door is")
    status, _ = request(f"http://{listening}{PATH}polling")
    assert status == 421
    assert request(f"http://{listening}/metrics")[0] == 421


def door_of(gateway):
    return said(gateway, "advertised")


def said(gateway, what):
    """In the first line of its log that has it."""
    found = re.search(f'"{what}":"([^"]+)"', gateway.log.read_text())
    return found and found[1]


def mark(node):
    """By which a gateway is asked: FNV-1a of its id."""
    mark = 0xCBF29CE484222325
    for byte in node.encode():
        mark = (mark ^ byte) * 0x100000001B3 % 2**64
    return f"{mark:016x}"


def test_what_was_forwarded_is_not_forwarded_again(site):
    """As two gateways would have it that take each other for the session's."""
    session, other = Session(site.first.url), site.last
    with Nats(site.nats.url) as nats:
        answer = nats.request(f"fanfare.gw.of.{mark(said(other, 'node'))}", b'{"v":1,"ask":"door"}')
    door = json.loads(answer)["answer"]["door"]
    assert door["address"] == door_of(other)
    url, key = f"http://{door['address']}", {"x_fanfare_door_key": door["key"]}
    before = metric(other, "fanfare_socketio_forwarded_total")
    status, body = request(session.url(url), **key)
    assert (status, json.loads(body)["code"]) == (400, 1)
    assert metric(other, "fanfare_socketio_forwarded_total") == before
    # New sessions are opened at the front.
    assert request(f"{url}{PATH}polling", **key)[0] == 400
    assert door["key"] not in "".join(gateway.log.read_text() for gateway in site.gateways)


@contextlib.contextmanager
def clients(url, count):
    """Unmodified ones. `round()` has each of them answered, and returns what has become of them."""
    command = ["node", TOP / "e2e" / "node" / "socketio_rounds.mjs", url, str(count)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True, "bufsize": 1}
    with subprocess.Popen(command, **pipes) as process:

        def round(transport=""):
            process.stdin.write(f"{transport}\n")
            return json.loads(process.stdout.readline())

        try:
            yield round
        finally:
            process.kill()


def test_unmodified_clients_poll_and_upgrade_through_the_balancer(start_cluster):
    site = start_cluster(3, SETTINGS)
    with Balancer(ports(site)) as balancer, clients(balancer.url, 30) as round:
        for _ in range(5):
            assert round("websocket") == {"answered": 30, "disconnects": []}
        assert sum(metric(gateway, "fanfare_socketio_tunnels") for gateway in site.gateways) > 0


def test_clients_of_a_killed_gateway_come_back_by_themselves(start_cluster):
    site = start_cluster(3, SETTINGS)
    with Balancer(ports(site)) as balancer, clients(balancer.url, 12) as round:
        assert round("websocket")["answered"] == 12
        polling = Session(site.first.url)
        site.first.kill()
        after = round("websocket")
        assert after["answered"] == 12
        assert 0 < len(after["disconnects"])
        assert polling.poll(site.last.url)[0] in (400, 502)
        wait_until(lambda: polling.is_unknown(site.last.url), "nobody looks for the gateway any more")


def test_a_gateway_that_drains_answers_what_others_forward(start_cluster):
    site = start_cluster(2, SETTINGS | {"drain.delay": "3s"})
    session = Session(site.first.url)
    site.first.terminate()
    wait_until(lambda: ask("GET", f"{site.first.admin_url}/readyz").status == 503, "it drains")
    assert session.post(site.last.url, "4hello") == (200, "ok")
    session.poll_for(site.last.url, "4hello")
    assert session.post(site.last.url, "1") == (200, "ok")
    assert site.first.wait(30) == 0


def test_a_gateway_that_drains_sends_those_away_whom_it_carries(start_cluster):
    site = start_cluster(3, SETTINGS | {"drain.delay": "0s"})
    with Balancer(ports(site)) as balancer, clients(balancer.url, 12) as round:
        assert round("websocket") == {"answered": 12, "disconnects": []}
        assert site.first.stop(30) == 0
        assert round()["answered"] == 12
