"""The budgets, each judged by the figures of one run."""

import dataclasses
import re

COST = "server_cpu_us_per_delivery"
QUEUE_LIMIT = 1024 * 1024
IDLE_BYTES = 2048
CLUSTER_EXTRA_BYTES = 1024

ONE = ("fanout-one", "fanfare")
FLOOD = ("fanout-flood", "fanfare")


@dataclasses.dataclass(frozen=True)
class Budget:
    """`limit` is the most that `measured` may be, or the least where `at_least`. Without `measured`,
    `reason` says why there is none; `remark` adds what else belongs to the figure."""

    name: str
    limit: float
    unit: str
    measured: float | None
    remark: str = ""
    at_least: bool = False
    reason: str = "not measured"

    @property
    def met(self):
        if self.measured is None:
            return None
        return self.measured >= self.limit if self.at_least else self.measured <= self.limit

    @property
    def margin(self):
        """How far on the right side of the limit, as a share of it; negative on the wrong side."""
        distance = self.measured - self.limit if self.at_least else self.limit - self.measured
        return distance / self.limit


def median(figure):
    return figure.median if figure else None


def judge(results):
    return [
        _fanout(results, "1. One message at a time, CPU per delivery", "fanout-one", 1.15),
        _fanout(results, "2. As fast as it goes, CPU per delivery", "fanout-flood", 0.15),
        *_growth(results),
        _pairs(results),
        *_idle(results),
        Budget(
            "6. Handshake with HS256 token and one subscription",
            0.04,
            "CPU-ms",
            median(results.figure("connect", "fanfare", "handshake_cpu_ms")),
            reason=results.why_not("connect", "fanfare"),
        ),
        *_slow(results),
        *_cluster(results),
        *_deflate(results),
    ]


def _fanout(results, name, key, limit):
    ratio = results.ratio((key, "fanfare"), (key, "floor"), COST)
    remark = f"rounds: {ratio.low:.3g}–{ratio.high:.3g}" if ratio and ratio.rounds > 1 else ""
    return Budget(name, limit, "× floor", median(ratio), remark, reason=results.why_not(key, "fanfare"))


def _growth(results):
    """Cost per delivery in comparison with 1,000 subscribers and 128 bytes, in the same round."""
    pattern = re.compile(r"fanout-(one|flood)-(\d+)-(\d+)$")
    for key in results.keys():
        if not (match := pattern.match(key)):
            continue
        mode, connections, payload = match[1], int(match[2]), int(match[3])
        base = ONE if mode == "one" else FLOOD
        ratio = results.ratio((key, "fanfare"), base, COST)
        floor = results.ratio((key, "floor"), (base[0], "floor"), COST)
        how = "one at a time" if mode == "one" else "as fast as it goes"
        size = "1 KiB" if payload == 1024 else f"{payload} B"
        remark = f"the floor's own cost grows {floor.median:.2f} ×" if floor else ""
        name = f"3. {connections:,} subscribers, {size}, {how}"
        reason = results.why_not(key, "fanfare")
        yield Budget(name, 1.3, "× its cost at 1,000, 128 B", median(ratio), remark, reason=reason)


def _pairs(results):
    figure = results.figure("pairs", "fanfare", "messages_per_cpu_second")
    remarks = []
    for target, label in (("floor", "floor"), ("nats", "nats-server")):
        if ratio := results.ratio(("pairs", "fanfare"), ("pairs", target), "messages_per_cpu_second"):
            remarks.append(f"{ratio.median:.2f} × {label}'s")
    return Budget(
        "4. 1:1, 1,000 pairs",
        130_000,
        "messages per CPU-second",
        median(figure),
        ", ".join(remarks),
        at_least=True,
        reason=results.why_not("pairs", "fanfare"),
    )


def _idle(results):
    embedded = results.figure("connect", "fanfare", "rss_bytes_per_connection")
    cluster = results.figure("idle-cluster", "cluster-1", "rss_bytes_per_connection")
    extra = cluster.median - embedded.median if cluster and embedded else None
    reason = results.why_not("connect", "fanfare")
    yield Budget("5. Idle connection, embedded", IDLE_BYTES, "bytes", median(embedded), reason=reason)
    yield Budget(
        "5. Idle connection, cluster tier, above embedded",
        CLUSTER_EXTRA_BYTES,
        "bytes",
        extra,
        f"nats-server pays {beside:,.0f} bytes" if (beside := nats_bytes(results)) is not None else "",
        reason=results.why_not("idle-cluster", "cluster-1"),
    )
    yield Budget(
        "5. Heartbeats",
        2.0,
        "µs of CPU per connection and second",
        median(results.figure("idle", "fanfare", "idle_cpu_us_per_connection_second")),
        reason=results.why_not("idle", "fanfare"),
    )


def nats_bytes(results):
    """What nats-server's memory grew by, for each idle connection of a gateway."""
    for run in results.runs("idle-cluster", "cluster-1").values():
        if result := run.get("result"):
            memory = run["memory"]["nats-server"]
            return (memory["peak"] - memory["before"]) / result["connections"]
    return None


def _slow(results):
    ratio = results.fields_ratio("slow", "fanfare", "p99_us", "baseline_p99_us")
    reason = results.why_not("slow", "fanfare")
    yield Budget("7. 1 % stalled readers, p99 of the others", 1.1, "× without them", median(ratio), reason=reason)
    growth, closed, codes = None, None, set()
    for run in results.runs("slow", "fanfare").values():
        if not (result := run.get("result")) or not result.get("stalled"):
            continue
        growth = max(growth or 0, (result["stalled_rss_growth_bytes"] or 0) / result["stalled"])
        share = 100 * result["stalled_closed"] / result["stalled"]
        closed = share if closed is None else min(closed, share)
        codes |= {code.partition(":")[0] for code in (result["stalled_close_codes"] or "").split()}
    yield Budget("7. Memory for each stalled reader", QUEUE_LIMIT, "bytes", growth, "the limit is `limits.queue_bytes`")
    remark = f"codes seen: {', '.join(sorted(codes))}; 4000 is the one for it" if codes else ""
    yield Budget("7. Stalled readers closed", 100, "%", closed, remark, at_least=True)


def _cluster(results):
    above = results.figure("cluster", "cluster-2", "p50_above_baseline_us")
    yield Budget(
        "8. Across two gateways, p50 above one gateway",
        1.0,
        "ms",
        above.median / 1000 if above else None,
        reason=results.why_not("cluster", "cluster-2"),
    )
    for gateway in ("gateway-1", "gateway-2"):
        # All deliveries of both gateways are in the denominator, half of them are this one's.
        ratio = results.ratio((f"cluster-fanout-{gateway}", "cluster-2"), ("cluster-fanout-alone", "cluster-1"), COST)
        own = 2 * ratio.median if ratio else None
        what = "publisher's gateway" if gateway == "gateway-1" else "other gateway"
        name = f"8. Fan-out on two gateways, cost per own delivery, {what}"
        reason = results.why_not(f"cluster-fanout-{gateway}", "cluster-2")
        yield Budget(name, 1.3, "× one gateway with as many subscribers", own, reason=reason)


def _deflate(results):
    for mode, how in (("one", "one at a time"), ("flood", "as fast as it goes")):
        ratio = results.ratio((f"deflate-{mode}", "fanfare-deflate"), (f"fanout-{mode}-1000-1024", "fanfare"), COST)
        name = f"9. permessage-deflate, 1 KiB, {how}"
        reason = results.why_not(f"deflate-{mode}", "fanfare-deflate")
        yield Budget(name, 1.3, "× without", median(ratio), "one compression for all", reason=reason)
    reason = results.why_not("deflate-connect", "fanfare-deflate")
    memory = results.figure("deflate-connect", "fanfare-deflate", "rss_bytes_per_connection")
    yield Budget("9. Idle connection, permessage-deflate", IDLE_BYTES, "bytes", median(memory), reason=reason)
