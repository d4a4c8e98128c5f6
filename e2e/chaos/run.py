"""One run: servers, clients and faults, then healing, quiet, and the verdict."""

import asyncio
import dataclasses
import hashlib
import json
import pathlib
import random
import subprocess
import tempfile
import time
import tomllib

from api import Api
from harness import CONFIG, ENVIRONMENT, FANFARE

from . import nemesis
from .checker import check
from .cluster import Cluster, Embedded
from .faults import KINDS
from .record import Recorder, read
from .session import World
from .workload import Workload, namespaces

# The same message id has one effect for so long.
DEDUPE_WINDOW = 120
# After the faults, everybody must publish and hear again within so many seconds.
LIVENESS = 20
WARM_WITHIN = 20
# A dead gateway's lease, and its sweep.
LISTED_WITHIN = 25

REPLICAS = "[history]\nreplicas = 3"
SETTINGS = {
    "limits.queue_bytes": "256KiB",
    "drain.duration": "1s",
    "heartbeat.interval": "5s",
    "heartbeat.timeout": "5s",
}


@dataclasses.dataclass(kw_only=True)
class Options:
    directory: pathlib.Path
    seed: int = 1
    seconds: float = 60
    kinds: tuple = tuple(KINDS)
    # Instead of a schedule.
    steps: tuple = ()
    rate: float = 1.0
    # Seconds of traffic after the faults; then, how long readers may take for what they have not heard yet.
    calm: float = 7
    patience: float = 15
    # One gateway with everything in its memory, instead of a site.
    embedded: bool = False
    # Whether users have offline queues; embedded, these would be gone with the process.
    queue: bool = True
    # Of the gateways: a deliberate bug, to see that the checker finds it.
    sabotage: str | None = None

    @property
    def log(self):
        return self.directory / "history.jsonl"


def run(options):
    """The history of the run, and what is wrong with it."""
    queue = options.queue and not options.embedded
    spaces = namespaces(history=accepts("[namespaces.kept]\nhistory = { size = 1 }"), queue=queue)
    config = configuration(options.directory, spaces)
    recorder = Recorder(options.log)
    flags = ["--sabotage", options.sabotage] if options.sabotage else []
    kind = Embedded if options.embedded else Cluster
    site = kind(options.directory, SETTINGS, config, flags)
    try:
        site.start()
        asyncio.run(play(options, site, recorder, spaces))
    finally:
        site.close()
        recorder.close()
    return check(read(options.log))


async def play(options, site, recorder, spaces):
    steps = options.steps
    if not steps:
        steps = nemesis.schedule(options.seed, options.seconds, nemesis.possible(options.kinds, site))
    tiers = {name: space.tier for name, space in spaces.items()}
    world = World(recorder, site.gateways, tiers, random.Random(options.seed))
    workload = Workload(world, options.rate)
    described = {name: dataclasses.asdict(space) for name, space in spaces.items()}
    recorder.write(
        "run",
        "info",
        seed=options.seed,
        version=version(options.directory),
        namespaces=described,
        dedupe_window=DEDUPE_WINDOW,
        liveness=LIVENESS,
        durable=not options.embedded,
        **workload.roles(),
    )
    workload.start()
    try:
        await workload.until(workload.is_warm, WARM_WITHIN)
        await beside(workload, asyncio.to_thread(nemesis.run, steps, site, workload, recorder))
        recorder.write("heal", "info")
        world.calm.set()
        await beside(workload, asyncio.sleep(options.calm))
        await workload.finish(options.patience)
        await list_presence(site, workload, recorder)
        recorder.write("end", "info")
    finally:
        await workload.stop()


async def beside(workload, doing):
    """Waits for it, and meanwhile for a client that fails."""
    doing = asyncio.ensure_future(doing)
    while not doing.done():
        workload.check()
        await asyncio.wait([doing], timeout=0.2)
    doing.result()


async def list_presence(site, workload, recorder):
    """Logs the connections that the site lists, once they are those that are there, or time is up."""
    api, end = Api(site.gateways[0]), time.monotonic() + LISTED_WITHIN
    while True:
        before = workload.connected()
        listed = await asyncio.to_thread(listed_connections, api)
        settled = listed == before == workload.connected()
        if settled or time.monotonic() > end:
            recorder.write("presence", "ok", listed=sorted(listed))
            return
        await asyncio.sleep(0.2)


def listed_connections(api):
    page = api.get("/v1/connections?limit=1000")
    return {it["id"] for it in page["connections"]}


def configuration(directory, spaces):
    """The gateways' file: who may connect is as in the other tests."""
    auth = tomllib.loads(CONFIG.read_text())["auth"]
    lines = ["[auth]", f"hmac_secret = {json.dumps(auth['hmac_secret'])}", 'leeway = "0s"']
    for key in auth["api_keys"]:
        lines += ["[[auth.api_keys]]", *(f"{name} = {json.dumps(value)}" for name, value in key.items())]
    if accepts(REPLICAS):
        lines.append(REPLICAS)
    lines += [space.config(name) for name, space in spaces.items()]
    file = directory / "fanfare.toml"
    file.write_text("\n".join(lines))
    return file


def accepts(text):
    """Whether gateways can be configured so."""
    with tempfile.NamedTemporaryFile("w", suffix=".toml") as file:
        file.write(text)
        file.flush()
        command = [FANFARE, "config", "check", file.name]
        return subprocess.run(command, capture_output=True, timeout=20).returncode == 0


def version(directory):
    """What the sentence is about: the programs and the configuration."""
    config = hashlib.sha256((directory / "fanfare.toml").read_bytes()).hexdigest()[:8]
    programs = [output(FANFARE, "version"), output("nats-server", "--version"), output("redis-server", "--version")]
    nats, redis = programs[1].split()[-1], programs[2].split("v=")[1].split()[0]
    return f"{programs[0].strip()} (configuration {config}, NATS {nats}, Redis {redis})"


def output(*command):
    done = subprocess.run(command, env=ENVIRONMENT, capture_output=True, text=True, check=True, timeout=20)
    return done.stdout
