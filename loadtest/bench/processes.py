"""Servers as pinned child processes, and what the kernel says of a process."""

import os
import pathlib
import shlex
import socket
import subprocess
import time

TOP = pathlib.Path(__file__).resolve().parents[2]
ENVIRONMENT = os.environ | {"PATH": f"{TOP / '.tools' / 'bin'}{os.pathsep}{os.environ['PATH']}"}
READY_WITHIN = 20.0
STOPPED_WITHIN = 10.0

# Below the range that the kernel takes the clients' ports from.
_PORTS = iter(range(22000, 30000))


class Failure(Exception):
    """A measurement that could not be made; its text says why."""


class Unavailable(Failure):
    """A target that cannot be had here at all: no measurement of it is tried again."""


def cores():
    """One core for the servers and one for loadtest."""
    usable = sorted(os.sched_getaffinity(0))
    if len(usable) < 2:
        raise Failure("two cores are needed, one for the server and one for loadtest")
    return usable[0], usable[1]


def free_port():
    for port in _PORTS:
        try:
            socket.create_server(("127.0.0.1", port)).close()
        except OSError:
            continue
        return port
    raise Failure("no free port from 22000 to 29999")


def pinned(core, command):
    return ["taskset", "-c", str(core), *(str(word) for word in command)]


def shown(command):
    """The command as one types it at the top of the tree."""
    return shlex.join(str(word).replace(f"{TOP}/", "") for word in command)


class Server:
    """A server on the servers' core, listening on `port` when the constructor returns."""

    def __init__(self, name, command, port, directory, environment=None):
        self.name = name
        self.command = pinned(cores()[0], command)
        self.log = directory / f"{name}.log"
        with self.log.open("ab") as log:
            self.child = subprocess.Popen(
                self.command,
                cwd=TOP,
                env=ENVIRONMENT | (environment or {}),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        self._wait_until_listening(port)

    @property
    def pid(self):
        return self.child.pid

    def stop(self):
        self.child.terminate()
        try:
            self.child.wait(STOPPED_WITHIN)
        except subprocess.TimeoutExpired:
            self.child.kill()
            self.child.wait()

    def _wait_until_listening(self, port):
        deadline = time.monotonic() + READY_WITHIN
        while True:
            if self.child.poll() is not None:
                raise Failure(f"{self.name} ended before it listened: {self._last_words()}")
            try:
                socket.create_connection(("127.0.0.1", port), timeout=1).close()
                return
            except OSError:
                pass
            if time.monotonic() > deadline:
                self.stop()
                raise Failure(f"{self.name} did not listen within {READY_WITHIN:.0f} s: {self._last_words()}")
            time.sleep(0.05)

    def _last_words(self):
        lines = self.log.read_text(errors="replace").strip().splitlines()
        return lines[-1] if lines else "it wrote nothing"


def resident_bytes(pid):
    with open(f"/proc/{pid}/statm", encoding="ascii") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def cpu_seconds(pid):
    """User and system time of a process so far."""
    with open(f"/proc/{pid}/stat", encoding="ascii", errors="replace") as file:
        fields = file.read().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def machine_cpu_seconds():
    """What all processes used so far, and what the hypervisor took away. Interrupts are left out:
    they come with the traffic that is being measured."""
    with open("/proc/stat", encoding="ascii") as file:
        user, nice, system, _idle, _wait, _irq, _softirq, steal = map(int, file.readline().split()[1:9])
    return (user + nice + system + steal) / os.sysconf("SC_CLK_TCK")
