"""The servers that a cluster needs beside its gateways."""

import contextlib
import socket
import subprocess

from harness import NatsServer, RedisServer, free_port, http_status

SIZE_OF_DISK = "256m"


class ClusterNats(NatsServer):
    """One of several. Clients are told no other addresses, so that all their ways lead through wires."""

    def __init__(self, directory, name, routes):
        super().__init__(directory, name)
        self.store = self.directory / "jetstream"
        self.route, self.routes = free_port(), routes
        routes.append(f"nats://127.0.0.1:{self.route}")

    def command(self):
        cluster = ["--cluster_name", "chaos", "--cluster", f"nats://127.0.0.1:{self.route}", "--no_advertise"]
        return [*super().command(), "--server_name", self.name, *cluster, "--routes", ",".join(self.routes)]

    def is_whole(self):
        """It serves, and so does each log that it has a copy of."""
        return http_status(f"http://127.0.0.1:{self.monitor}/healthz") == 200


class RedisNode(RedisServer):
    """One that may follow another, by a wire."""

    master = None

    def command(self):
        follows = ["--replicaof", "127.0.0.1", str(self.master.port)] if self.master else []
        return [*super().command(), "--repl-diskless-sync-delay", "0", *follows]

    def follow(self, master):
        self.master = master
        assert self.ask(f"REPLICAOF 127.0.0.1 {master.port}") == "+OK"

    def lead(self):
        self.master = None
        assert self.ask("REPLICAOF NO ONE") == "+OK"

    def is_in_sync(self):
        return "master_link_status:up" in self.info("replication")

    def info(self, section):
        with socket.create_connection(("127.0.0.1", self.port), timeout=2) as connection:
            connection.sendall(f"INFO {section}\r\nQUIT\r\n".encode())
            return connection.makefile().read()


class Disk:
    """A small disk for a server's data, where this machine lets one be mounted."""

    def __init__(self, path):
        self.path, self.ballast = path, path / "ballast"
        path.mkdir()
        command = ["mount", "-t", "tmpfs", "-o", f"size={SIZE_OF_DISK}", "tmpfs", path]
        self.is_mounted = subprocess.run(command, capture_output=True).returncode == 0

    def fill(self):
        with contextlib.suppress(OSError), self.ballast.open("wb", buffering=0) as ballast:
            while True:
                ballast.write(bytes(1 << 16))

    def free(self):
        self.ballast.unlink()

    def unmount(self):
        if self.is_mounted:
            subprocess.run(["umount", "-l", self.path], check=True)
