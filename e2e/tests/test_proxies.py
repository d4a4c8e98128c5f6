"""The file for HAProxy in docs/proxies.md lets through all that clients do."""

import json
import re
import urllib.request

import pytest

from api import Api, http
from client import Client
from harness import TOP, Process, free_port, http_status, token


class HaProxy(Process):
    """As the documentation has it, before the gateways of a site."""

    def __init__(self, directory, gateways):
        super().__init__("haproxy", directory)
        self.address = f"127.0.0.1:{free_port()}"
        text = (TOP / "docs" / "proxies.md").read_text(encoding="utf-8")
        documented = re.search(r"```haproxy\n(.*?)```", text, re.DOTALL)[1]
        for n, gateway in enumerate(gateways, 1):
            admin = gateway.admin.rpartition(":")[2]
            documented = documented.replace(f"10.0.0.{n}:8080 port 9090", f"{gateway.public} port {admin}")
        documented = documented.replace("bind :8000", f"bind {self.address}").replace("maxconn 200000", "maxconn 1000")
        assert "10.0.0." not in documented
        self.configuration = self.directory / "haproxy.cfg"
        self.configuration.write_text(documented, encoding="utf-8")

    def command(self):
        return ["haproxy", "-f", self.configuration]

    def is_ready(self):
        return http_status(f"http://{self.address}/openapi.json") == 200


@pytest.fixture(scope="module")
def proxy(profile_processes, cluster_site):
    return profile_processes(HaProxy(profile_processes.directory, cluster_site.gateways)).address


def test_websockets(proxy, cluster_site, venue):
    clients = [Client(f"ws://{proxy}/ws", token(f"user-{n}")).subscribe(venue) for n in range(6)]
    Api(cluster_site.first).publish(channel=venue, data="open")
    assert [client.expect_data(1) for client in clients] == [["open"]] * 6


def test_server_sent_events_come_at_once(proxy, cluster_site, venue):
    bearer = {"Authorization": f"Bearer {token('alice')}"}
    request = urllib.request.Request(f"http://{proxy}/v1/sse?channel={venue}", headers=bearer)
    with urllib.request.urlopen(request, timeout=5) as events:
        read_until(events, b"event: subscribed")
        Api(cluster_site.last).publish(channel=venue, data="open")
        read_until(events, b'"data":"open"')


def read_until(events, wanted):
    seen = b""
    while wanted not in seen:
        seen += events.read1()


def test_polls_of_one_session_may_come_to_any_gateway(proxy, venue):
    url = f"http://{proxy}/socket.io/?EIO=4&transport=polling"
    url += f"&sid={json.loads(http('GET', url).body[1:])['sid']}"

    def say(packet):
        assert http("POST", url, packet.encode(), content_type="text/plain").status == 200

    say(f'40{{"token":"{token("alice")}"}}')
    assert http("GET", url).body.startswith(b'40{"sid":')
    for n, verb in enumerate(["subscribe", "unsubscribe", "subscribe"]):
        say(f'42{n}["{verb}","{venue}"]')
        assert http("GET", url).body == b'43%d[{"ok":true}]' % n
