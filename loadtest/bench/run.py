"""Runs the plan, round by round, and keeps all that loadtest said in one directory."""

import contextlib
import datetime
import json
import os
import secrets
import subprocess
import sys
import threading
import time

from . import machine
from .peers import LOADTEST, TARGETS, Bench, install, template_arguments
from .processes import TOP, Failure, Unavailable, cores, cpu_seconds, machine_cpu_seconds, pinned, resident_bytes, shown

SAMPLE_EVERY = 0.2
RUN_LIMIT = 300.0


def say(*words):
    print(*words, file=sys.stderr, flush=True)


class Recorder:
    """The directory of one run of the plan. `run.json` is written anew after each measurement."""

    def __init__(self, plan_options):
        now = datetime.datetime.now(datetime.UTC)
        self.directory = TOP / "target" / "bench" / now.strftime("%Y%m%d-%H%M%S")
        (self.directory / "logs").mkdir(parents=True)
        secret = self.directory / "secret"
        secret.write_text(secrets.token_hex(32), encoding="ascii")
        self.bench = Bench(self.directory, secret)
        self.document = {
            "started": now.isoformat(timespec="seconds"),
            "options": plan_options,
            "machine": machine.facts(),
            "versions": {},
            "not_run": {},
            "runs": [],
        }

    def save(self):
        text = json.dumps(self.document, indent=1)
        (self.directory / "run.json").write_text(text + "\n", encoding="utf-8")

    def not_run(self, name, reason):
        say(f"{name.upper()} IS NOT RUN: {str(reason).upper()}")
        self.document["not_run"][name] = str(reason)


def prepare(recorder, names):
    """Installs the targets' programs and asks for their versions. What cannot be had is left out."""
    usable = set()
    for name in names:
        try:
            install(TARGETS[name])
        except Unavailable as reason:
            recorder.not_run(name, reason)
            continue
        usable.add(name)
        if version := TARGETS[name].version():
            recorder.document["versions"][name] = version
    return usable


def run(recorder, plan, rounds):
    usable = prepare(recorder, dict.fromkeys(measurement.target for measurement in plan))
    plan = [measurement for measurement in plan if measurement.target in usable]
    total = sum(1 if measurement.once else rounds for measurement in plan)
    for number in range(1, rounds + 1):
        for measurement in plan:
            skipped = measurement.target in recorder.document["not_run"]
            if not skipped and (number == 1 or not measurement.once):
                count = len(recorder.document["runs"]) + 1
                say(f"[{count}/{total}] round {number}: {measurement.key} {measurement.target}")
                _measure(recorder, measurement, number)
                recorder.save()
    recorder.document["ended"] = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    recorder.save()


def _measure(recorder, measurement, number):
    record = {"key": measurement.key, "target": measurement.target, "round": number}
    try:
        with contextlib.ExitStack() as stack:
            target = TARGETS[measurement.target]
            running = target.start(stack, recorder.bench)
            record |= _run_loadtest(recorder, measurement, running, number)
    except Unavailable as reason:
        recorder.not_run(measurement.target, reason)
        return
    except Failure as failure:
        say(f"    FAILED: {failure}")
        record["failure"] = str(failure)
    recorder.document["runs"].append(record)


def _run_loadtest(recorder, measurement, running, number):
    name = f"{measurement.key}.{measurement.target}.{number}"
    file = recorder.directory / f"{name}.json"
    counted = measurement.counted or next(iter(running.servers))
    command = [
        LOADTEST,
        measurement.workload,
        *template_arguments(TARGETS[measurement.target], running.ports),
        *("--token-secret-file", recorder.bench.secret_file, "--server-pid", running.servers[counted].pid),
        *measurement.options,
        *("--quiet", "--json", file),
    ]
    record = {"command": shown(pinned(cores()[1], command)), "servers": _server_commands(running)}
    with Watch(running) as watch:
        code, words = _run(pinned(cores()[1], command), recorder.directory / "logs" / f"{name}.log")
    record |= {"exit": code} | watch.summary()
    if not file.exists():
        raise Failure(f"loadtest ended with {code}: {words}")
    result = json.loads(file.read_text(encoding="utf-8"))
    say(f"    {_digest(result)}" + ("" if code == 0 else f" EXIT {code}: {words}"))
    return record | {"file": file.name, "result": result}


def _server_commands(running):
    return [shown(server.command) for server in running.servers.values()]


def _run(command, log):
    """Runs loadtest to its end: its exit code, and the last thing it said."""
    with log.open("wb") as file:
        child = subprocess.Popen(command, cwd=TOP, stdin=subprocess.DEVNULL, stdout=file, stderr=file)
        try:
            code = child.wait(RUN_LIMIT)
        except subprocess.TimeoutExpired:
            child.kill()
            code = child.wait()
    lines = log.read_text(errors="replace").strip().splitlines()
    return code, lines[-1] if lines else "nothing said"


def _digest(result):
    parts = []
    for field, unit in (
        ("server_cpu_us_per_delivery", "µs/delivery"),
        ("messages_per_cpu_second", "messages/CPU-s"),
        ("p50_us", "µs p50"),
        ("p99_us", "µs p99"),
        ("handshake_cpu_ms", "CPU-ms/handshake"),
        ("rss_bytes_per_connection", "B/connection"),
        ("lost", "lost"),
    ):
        if result.get(field) is not None:
            parts.append(f"{result[field]:.4g} {unit}")
    return ", ".join(parts)


class Watch:
    """Samples the servers' memory, and what others used of the machine meanwhile."""

    def __init__(self, running):
        self._servers = running.servers
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._sample, daemon=True)

    def __enter__(self):
        self._before = {name: resident_bytes(server.pid) for name, server in self._servers.items()}
        self._peak = dict(self._before)
        self._own = self._own_cpu()
        self._machine = machine_cpu_seconds()
        self._started = time.monotonic()
        self._thread.start()
        return self

    def __exit__(self, *_error):
        self._stopping.set()
        self._thread.join()
        elapsed = time.monotonic() - self._started
        foreign = machine_cpu_seconds() - self._machine - (self._own_cpu() - self._own)
        self._foreign_share = max(0.0, foreign / elapsed)

    def _own_cpu(self):
        # Children that ended count in `children`, those that still run by their own.
        times = os.times()
        own = times.user + times.system + times.children_user + times.children_system
        return own + sum(self._cpu(server.pid) for server in self._servers.values())

    @staticmethod
    def _cpu(pid):
        with contextlib.suppress(OSError):
            return cpu_seconds(pid)
        return 0.0

    def _sample(self):
        while not self._stopping.wait(SAMPLE_EVERY):
            for name, server in self._servers.items():
                with contextlib.suppress(OSError):
                    self._peak[name] = max(self._peak[name], resident_bytes(server.pid))

    def summary(self):
        memory = {name: {"before": self._before[name], "peak": self._peak[name]} for name in self._servers}
        return {"foreign_cpu": round(self._foreign_share, 4), "memory": memory}
