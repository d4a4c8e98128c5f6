"""The list of measurements. One run of `loadtest` each, repeated round by round."""

import dataclasses

from .peers import BESIDE

FLOOR_GROUPS = ("floor-4", "floor-16")
OWN = ("fanfare", "floor")
# One connection publishes to all channels, pipelined; no channel has a second message on its way.
ONE_EACH = ("--connections", "1000", "--publishers", "1", "--window", "1")
# All at once, in a namespace with history.
KEPT = ("--ramp", "1000", "--channel", "kept:load")
# 640 KB a second for each reader: what the kernel and the gateway hold for a stalled one, up to 5 MiB,
# is full before the first half of 24 s is over, when they begin to read again.
SLOW = ("--connections", "500", "--payload", "8000", "--rate", "80", "--duration", "24", "--warmup", "1")


@dataclasses.dataclass(frozen=True)
class Measurement:
    """`--only` takes the beginning of a key. `counted` is the server whose CPU counts where there are several."""

    key: str
    target: str
    workload: str
    options: tuple[str, ...]
    once: bool = False
    counted: str | None = None


@dataclasses.dataclass(frozen=True)
class Scale:
    """How long and how large: the full run takes about 25 minutes, the quick one 5."""

    rounds: int
    seconds: int
    idle_connections: int
    idle_seconds: int
    large: tuple[int, ...]


FULL = Scale(rounds=3, seconds=4, idle_connections=10_000, idle_seconds=60, large=(5_000, 15_000))
QUICK = Scale(rounds=1, seconds=2, idle_connections=2_000, idle_seconds=30, large=(5_000,))


def measurements(scale):
    timed = ("--duration", str(scale.seconds), "--warmup", "1")
    idle = ("--connections", str(scale.idle_connections), "--sources", "8")
    return [
        *_fanouts(scale, timed),
        *(Measurement("pairs", target, "pairs", ("--connections", "1000", *timed)) for target in BESIDE),
        *(Measurement("pairs-one-each", target, "pairs", (*ONE_EACH, *timed)) for target in (*OWN, "nats")),
        *(Measurement("connect", target, "connect", (*idle, "--idle", "3")) for target in BESIDE),
        Measurement("idle", "fanfare", "connect", (*idle, "--idle", str(scale.idle_seconds)), once=True),
        Measurement(
            "idle-cluster", "cluster-1", "connect", (*idle, "--idle", "5"), once=True, counted="gateway-1"
        ),
        Measurement("recover", "fanfare", "recover", (*idle, *KEPT), once=True),
        Measurement("recover-cluster", "cluster-1", "recover", (*idle, *KEPT), once=True, counted="gateway-1"),
        Measurement("slow", "fanfare", "slow", SLOW),
        Measurement("churn", "fanfare", "churn", ("--connections", "1000", "--rate", "100", *timed)),
        *_clusters(timed),
        *_deflates(scale, timed),
    ]


def fanout_options(connections, payload, mode):
    size = ("--connections", str(connections), "--payload", str(payload), "--sources", "8")
    return (*size, "--mode", {"one": "one-at-a-time", "flood": "flood"}[mode])


def _fanouts(scale, timed):
    for mode in ("one", "flood"):
        targets = (*BESIDE, *FLOOR_GROUPS) if mode == "flood" else BESIDE
        for target in targets:
            yield Measurement(f"fanout-{mode}", target, "fanout", (*fanout_options(1000, 128, mode), *timed))
    for mode in ("one", "flood"):
        for connections, payload in (*((n, 128) for n in scale.large), (1000, 1024)):
            for target in OWN:
                key = f"fanout-{mode}-{connections}-{payload}"
                yield Measurement(key, target, "fanout", (*fanout_options(connections, payload, mode), *timed))


def _clusters(timed):
    # Few subscribers: the way between gateways is measured, not the time that a fan-out takes.
    few = ("--connections", "100", "--rate", "100", *timed)
    yield Measurement("cluster", "cluster-2", "cluster", few, counted="gateway-1")
    # The same number of subscribers on each gateway, so that the cost of each can be compared.
    one = (*fanout_options(500, 128, "one"), *timed)
    two = (*fanout_options(1000, 128, "one"), *timed)
    yield Measurement("cluster-fanout-alone", "cluster-1", "fanout", one, counted="gateway-1")
    for gateway in ("gateway-1", "gateway-2"):
        yield Measurement(f"cluster-fanout-{gateway}", "cluster-2", "fanout", two, counted=gateway)


def _deflates(scale, timed):
    for mode in ("one", "flood"):
        options = (*fanout_options(1000, 1024, mode), *timed)
        yield Measurement(f"deflate-{mode}", "fanfare-deflate", "fanout", options)
    options = ("--connections", str(scale.idle_connections), "--sources", "8", "--idle", "3")
    yield Measurement("deflate-connect", "fanfare-deflate", "connect", options)
