"""HAProxy in front of gateways, as one has it in production: by readiness, to the least busy, without stickiness."""

import csv
import urllib.request

from harness import Process, free_port

CONFIG = """\
defaults
  mode http
  balance leastconn
  timeout connect 1s
  timeout check 1s
  timeout client 60s
  timeout server 60s
  timeout tunnel 1h
  option redispatch 1
  retries 3

listen clients
  bind 127.0.0.1:{port}
  option httpchk GET /readyz
  default-server check inter 300ms fall 2 rise 1
{servers}

listen statistics
  bind 127.0.0.1:{statistics}
  stats enable
  stats uri /
"""


class HAProxy(Process):
    """`gateways` may come later: who does not answer gets nothing."""

    def __init__(self, directory, gateways, name="haproxy"):
        super().__init__(name, directory)
        self.port, self.statistics = free_port(), free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.websocket_url = f"ws://127.0.0.1:{self.port}/ws"
        servers = [f"  server {it.name} {it.public} port {it.admin.split(':')[1]}" for it in gateways]
        config = CONFIG.format(port=self.port, statistics=self.statistics, servers="\n".join(servers))
        (self.directory / "haproxy.cfg").write_text(config)

    def command(self):
        return ["haproxy", "-db", "-f", self.directory / "haproxy.cfg"]

    def is_ready(self):
        return self.up() is not None

    def up(self):
        """The names of those who get what is new."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.statistics}/;csv", timeout=2) as answer:
            rows = csv.DictReader(answer.read().decode().removeprefix("# ").splitlines())
        return {row["svname"] for row in rows if row["check_status"] and row["status"].startswith("UP")}
