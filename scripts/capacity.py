#!/usr/bin/env python3
"""What a cluster needs for given numbers, and what is close to its limit then.

    scripts/capacity.py --connections 1M --messages-per-second 20k --fanout 50

Everything is a product of the numbers given and of the costs in capacity.toml, each of which
names where it comes from: docs/capacity.md. It plans; it does not replace a load test of your own.
"""

import argparse
import dataclasses
import json
import math
import pathlib
import re
import sys
import tomllib

PAGE = pathlib.Path(__file__).resolve().parent.parent / "docs" / "capacity.md"


@dataclasses.dataclass(frozen=True)
class Cost:
    value: float
    unit: str
    meaning: str
    source: str


def option(default, meaning):
    return dataclasses.field(default=default, metadata={"meaning": meaning})


PARTS = {"gateway": "a gateway", "wire": "the network", "nats": "each NATS server", "redis": "Redis"}
# Cost by part and name, as in the file: "nats_interest".
COSTS = {
    f"{part}_{name}": Cost(**cost)
    for part, costs in tomllib.loads(pathlib.Path(__file__).with_suffix(".toml").read_text(encoding="utf-8")).items()
    for name, cost in costs.items()
}

# What one of each is planned for.
WAKE_UPS = 10_000  # per second of a process; beyond it, messages come in batches (assumed)
CORES_USED = 0.6  # of a gateway's: the rest is for storms, and for the one that is missing
CONNECTIONS_USED = 0.7  # of a gateway's limit, for the same reasons
MEMORY_SPARE = 1.5  # times what is used when a gateway is full
STORM_SECONDS = 20  # within which all clients of something that died come back (docs/protocol.md)
REDIS_FORK = 2  # times its data: what a rewrite of the append-only file may copy


@dataclasses.dataclass(frozen=True)
class Load:
    """What is asked for. Shares are from 0 to 1."""

    connections: int = option(100_000, "open at once")
    messages_per_second: float = option(5_000, "published, by clients and services together")
    fanout: float = option(20, "connections that get a message, on average")
    payload: int = option(256, "bytes of a message")
    channels_per_connection: float = option(3, "channels that a client is in, beside its user's own")
    history: float = option(0.5, "share of messages that are stored: in namespaces with history or a queue")
    history_size: int = option(100, "messages kept of each channel")
    history_ttl: int = option(3_600, "seconds for which they are kept")
    streams: int = option(4, "namespaces with history or a queue, which share these messages evenly")
    away: int = option(0, "users without a connection for whom messages wait")
    waiting: int = option(3, "messages that wait for each of them")
    presence: float = option(0, "channels with presence that a client is in")
    sessions: float = option(1, "share of clients that ask for a session")
    tls: float = option(0, "share of clients whose TLS a gateway ends")
    stalled: float = option(0.001, "share of clients that do not read at the moment")
    lifetime: int = option(1_800, "seconds that a connection lasts")
    connections_per_gateway: int = option(30_000, "limit of one gateway")
    cores_per_gateway: float = option(2, "processor cores of one gateway")
    nats_servers: int = option(3, "servers of the NATS cluster")
    cores_per_nats: float = option(4, "processor cores of one NATS server")
    proxies: int = option(4, "addresses from which a proxy in front connects to gateways")


@dataclasses.dataclass(frozen=True)
class Limit:
    """Something of which there is only so much: `used` of 1."""

    name: str
    used: float
    remedy: str


# The columns of docs/capacity.md. In the last two, messages are those of all ten millions, and of a fifth.
MORE = Load(
    connections=1_000_000, messages_per_second=20_000, away=1_000_000, nats_servers=5, cores_per_nats=8, proxies=8
)
SCENARIOS = {
    "100k": Load(away=100_000),
    "1M": MORE,
    "10M, one cluster": dataclasses.replace(
        MORE,
        connections=10_000_000,
        messages_per_second=200_000,
        away=10_000_000,
        connections_per_gateway=100_000,
        cores_per_gateway=4,
        nats_servers=9,
    ),
    "10M, each of ten cells": MORE,
}


def plan(load):
    """What each part needs: {part: {what: (value, unit)}}."""
    gateways = count_gateways(load)
    return {
        "Gateways": gateway_needs(load, gateways),
        "NATS": nats_needs(load, gateways),
        "Redis": redis_needs(load),
    }


def count_gateways(load):
    """Enough for connections and processor time, and never fewer than three."""
    by_connections = load.connections / (load.connections_per_gateway * CONNECTIONS_USED)
    gateways = max(3, math.ceil(by_connections))
    while gateway_cores(load, gateways) > load.cores_per_gateway * CORES_USED:
        gateways += max(1, gateways // 50)
        if gateways > 100_000:
            raise ValueError("no number of gateways is enough: each gets too many messages")
    return gateways


def gateway_cores(load, gateways):
    connections, deliveries = load.connections / gateways, load.messages_per_second * load.fanout / gateways
    return (
        batched(gateway_messages(load, gateways), "gateway_message")
        + deliveries * cost("gateway_delivery") / 1e6
        + connections * (cost("gateway_idle") + cost("gateway_connect") / load.lifetime) / 1e6
    )


def gateway_messages(load, gateways):
    """Messages per second that one gateway gets: those with a subscriber there."""
    return load.messages_per_second * spread(load.fanout, gateways) / gateways


def gateway_needs(load, gateways):
    connections = load.connections / gateways
    each = (
        cost("gateway_connection")
        + load.channels_per_connection * cost("gateway_channel")
        + load.tls * cost("gateway_tls")
        + load.stalled * cost("gateway_stalled")
        + cost("gateway_kernel")
    )
    network = 8 * load.messages_per_second * load.fanout * (load.payload + cost("wire_frame") + cost("wire_packet"))
    return {
        "gateways": (gateways, ""),
        "connections on each": (connections, ""),
        "deliveries per second, all": (load.messages_per_second * load.fanout, ""),
        "cores used on each": (gateway_cores(load, gateways), "cores"),
        "memory used on each": (cost("gateway_base") + connections * each, "bytes"),
        "memory limit for each": (MEMORY_SPARE * (cost("gateway_base") + load.connections_per_gateway * each), "bytes"),
        "network out of each": (network / gateways, "bit/s"),
        "network out of all": (network, "bit/s"),
    }


def nats_needs(load, gateways):
    servers, replicas = load.nats_servers, min(3, load.nats_servers)
    receivers = spread(load.fanout, gateways)
    # A message comes in from its publisher, and by a route on each other server that has a receiver.
    routed = spread(receivers, servers) - 1
    incoming = load.messages_per_second * (1 + routed) / servers
    outgoing = load.messages_per_second * (receivers + routed) / servers
    stored = load.messages_per_second * load.history
    kept = min(load.history * channels(load) * load.history_size, stored * load.history_ttl) + load.away * load.waiting
    interest = asked_for(load, gateways) / servers * cost("nats_interest") + names(load) * (1 - 1 / servers) * cost(
        "nats_interest_peer"
    )
    cores = batched(incoming, "nats_message") + batched(outgoing, "nats_receiver")
    copies = (outgoing + stored * (replicas - 1) / servers) * (load.payload + cost("nats_header"))
    return {
        "NATS servers": (servers, ""),
        "channels asked for, all gateways": (asked_for(load, gateways), ""),
        "cores used on each": (cores + batched(stored * replicas / servers, "nats_stored"), "cores"),
        "memory used on each": (
            cost("nats_base") + interest + stored_channels(load) * replicas / servers * cost("nats_stored_channel"),
            "bytes",
        ),
        "network out of each": (8 * copies, "bit/s"),
        "messages stored per second": (stored, ""),
        "disk on each": (kept * replicas / servers * (load.payload + cost("nats_stored_disk")), "bytes"),
    }


def redis_needs(load):
    each = 1 + load.sessions + load.presence
    data = (
        cost("redis_base")
        + load.connections
        * (cost("redis_connection") + load.sessions * cost("redis_session") + load.presence * cost("redis_member"))
        + load.away * (cost("redis_user") + max(0, load.waiting - 1) * cost("redis_waiting"))
    )
    writes = 2 * load.connections / load.lifetime * each
    return {
        "writes per second": (writes, ""),
        "cores used": (writes * cost("redis_write") / 1e6, "cores"),
        "writes per second when all come back": (load.connections / STORM_SECONDS * each, ""),
        "data": (data, "bytes"),
        "memory to give": (REDIS_FORK * data, "bytes"),
    }


def channels(load):
    return load.connections * load.channels_per_connection / max(1, load.fanout)


def names(load):
    """Different channels that are asked for, users' own included."""
    return load.connections + channels(load)


def asked_for(load, gateways):
    """A user's own channel by one gateway, another by each gateway that has a subscriber of it."""
    return load.connections + channels(load) * spread(load.fanout, gateways)


def stored_channels(load):
    return load.history * channels(load) + load.away


def limits(load):
    """All that there is only so much of, the scarcest first."""
    gateways, needs = count_gateways(load), plan(load)
    used = {part: {what: value for what, (value, _) in rows.items()} for part, rows in needs.items()}
    each, nats, redis = used["Gateways"]["connections on each"], used["NATS"], used["Redis"]
    found = [
        Limit(
            "60,000 connections on a gateway, which a drain hands over within a minute",
            each / 60_000,
            "more gateways, or a higher `drain.max_rate` and a longer grace period",
        ),
        Limit(
            "28,000 ports from one proxy address to one gateway",
            load.connections / (load.proxies * gateways * 28_000),
            "more proxies, more gateways, a wider `ip_local_port_range`, or a balancer that keeps clients' addresses",
        ),
        Limit(
            "131,072 tracked flows on a node with one gateway",
            each / 131_072,
            "`nf_conntrack_max`, or no tracking for the gateways' port",
        ),
        Limit("5 Gbit/s out of a gateway", used["Gateways"]["network out of each"] / 5e9, "compression, more gateways"),
        Limit("5 Gbit/s out of a NATS server", nats["network out of each"] / 5e9, "more NATS servers"),
        Limit(
            "a NATS server's cores, at 60 %",
            nats["cores used on each"] / (CORES_USED * load.cores_per_nats),
            "more cores, more NATS servers",
        ),
        Limit(
            "1,000,000 channels asked for at one NATS server: half a minute until it knows them anew",
            nats["channels asked for, all gateways"] / load.nats_servers / 1e6,
            "more NATS servers; cells",
        ),
        Limit(
            "20,000 messages a second in one stream",
            nats["messages stored per second"] / load.streams / 20_000,
            "history only where it is needed; more namespaces; cells",
        ),
        Limit(
            "1,000,000 channels in one stream",
            max(load.away, load.history * channels(load) / load.streams) / 1e6,
            "cells; a shorter `ttl`",
        ),
        Limit(
            "the time of one Redis, when all come back",
            redis["writes per second when all come back"] * cost("redis_write") / 1e6,
            "Redis Cluster, whose servers share users and channels",
        ),
        Limit(
            "16 GB of data in one Redis",
            redis["data"] / 16e9,
            "Redis Cluster; a shorter `session.window`, smaller queues",
        ),
    ]
    return sorted(found, key=lambda it: -it.used)


def cost(name):
    return COSTS[name].value


def batched(rate, name):
    """Cores for so many a second of something that is cheaper when it does not have to wake anybody."""
    alone, together = cost(name), cost(f"{name}_batched")
    return (rate * together + min(rate, WAKE_UPS) * (alone - together)) / 1e6


def spread(things, places):
    """How many of the places have one of the things, which are thrown at them by chance."""
    return places * (1 - (1 - 1 / places) ** things)


def shown(value, unit):
    """Three digits are more than such a figure is worth."""
    if unit == "cores":
        return f"{value:.2g}"
    if unit == "":
        return f"{round(value):,}" if value < 10_000 else f"{float(f'{value:.3g}'):,.0f}"
    size = min(4, int(math.log(max(value, 1), 1000)))
    prefix, name = ["", "k", "M", "G", "T"][size], "B" if unit == "bytes" else "bit/s"
    return f"{value / 1000**size:.3g} {prefix}{name}"


def table(header, rows):
    return "\n".join(
        ["| " + " | ".join(header) + " |", "|---" * len(header) + "|", *("| " + " | ".join(row) + " |" for row in rows)]
    )


def plan_table(loads):
    plans = [plan(load) for load in loads.values()]
    rows = [
        [f"**{part}**: {what}" if n == 0 else what, *(shown(*it[part][what]) for it in plans)]
        for part in plans[0]
        for n, what in enumerate(plans[0][part])
    ]
    return table(["", *loads], rows)


def limits_table(load, count):
    return table(["of", "used", "remedy"], [[it.name, f"{it.used:.0%}", it.remedy] for it in limits(load)[:count]])


def loads_table(loads):
    """What differs between them as a table, the rest as a sentence."""
    rows, same = [], []
    for field in dataclasses.fields(Load):
        name, values = field.name.replace("_", " "), [f"{getattr(it, field.name):,}" for it in loads.values()]
        if len(set(values)) > 1:
            rows.append([name, *values])
        else:
            same.append(f"{name} {values[0]}")
    return f"{table(['', *loads], rows)}\n\nThe same for all: {', '.join(same)}."


def costs_table():
    """The part is the first word of a cost's name, shown where it changes."""
    rows, last = [], None
    for name, it in COSTS.items():
        part = name.partition("_")[0]
        rows.append(
            ["" if part == last else f"**{PARTS[part]}**", it.meaning, f"{it.value:,.10g} {it.unit}", it.source]
        )
        last = part
    return table(["of", "", "costs", "from"], rows)


def page(text):
    """docs/capacity.md with its tables made anew: what stands between `<!-- NAME -->` and `<!-- / -->`."""
    made = {
        "costs": costs_table(),
        "loads": loads_table(SCENARIOS),
        "plan": plan_table(SCENARIOS),
        **{f"limits {name}": limits_table(load, 4) for name, load in SCENARIOS.items()},
    }

    def fill(found):
        return f"<!-- {found[1]} -->\n{made[found[1]]}\n<!-- / -->"

    return re.sub(r"<!-- ([^/].*?) -->\n.*?<!-- / -->", fill, text, flags=re.DOTALL)


def number(text):
    scale = {"k": 1e3, "M": 1e6}.get(text[-1:], 1)
    value = float(text[:-1] if scale > 1 else text) * scale
    return int(value) if value.is_integer() else value


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for field in dataclasses.fields(Load):
        meaning = f"{field.metadata['meaning']} ({field.default:,})"
        parser.add_argument(
            f"--{field.name.replace('_', '-')}", type=number, default=field.default, help=meaning, metavar="N"
        )
    parser.add_argument("--json", action="store_true", help="for programs")
    parser.add_argument("--update-docs", action="store_true", help="write the tables of docs/capacity.md")
    given = vars(parser.parse_args())
    as_json, update = given.pop("json"), given.pop("update_docs")
    if update:
        PAGE.write_text(page(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
        return
    try:
        load = Load(**given)
        if as_json:
            bare = {part: {what: value for what, (value, _) in rows.items()} for part, rows in plan(load).items()}
            print(json.dumps(bare | {"Limits": [dataclasses.asdict(it) for it in limits(load)]}, indent=2))
        else:
            print(plan_table({"needed": load}), limits_table(load, 6), sep="\n\n")
    except (ValueError, ZeroDivisionError) as problem:
        sys.exit(f"capacity.py: {problem}")


if __name__ == "__main__":
    main()
