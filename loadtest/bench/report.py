"""docs/benchmarks.md, from the figures alone. What people add by hand is in notes.md."""

import pathlib
import re

from .budgets import COST, judge, nats_bytes
from .machine import BUSY
from .peers import BESIDE, TARGETS
from .results import Results

NOTES = pathlib.Path(__file__).with_name("notes.md")
BESIDE_WITH_GROUPS = ("fanfare", "floor", "floor-4", "floor-16", *BESIDE[2:])


def number(value):
    """Three figures that count, and no more."""
    if value is None:
        return "–"
    if abs(value) >= 1000:
        return f"{float(f'{value:.3g}'):,.0f}"
    return f"{value:.3g}" if value else "0"


def table(head, rows):
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    return [*lines, *("| " + " | ".join(str(cell) for cell in row) + " |" for row in rows), ""]


def write(document):
    results = Results(document)
    sections = (_head, _budgets, _beside, _limits, _detail, _wrong, _setting, _commands)
    return "\n".join(line for section in sections for line in section(results)).rstrip() + "\n"


def _head(results):
    document = results.document
    rounds = max((run["round"] for run in document["runs"]), default=0)
    repeated = "one round" if rounds == 1 else f"{rounds} rounds"
    lines = [
        "<!-- Written by `make bench` (loadtest/bench). “What limits it” is by hand: loadtest/bench/notes.md. -->",
        "",
        "# Benchmarks",
        "",
        "Fanfare, a floor and other brokers, measured by [`loadtest`](../loadtest/README.md) on one machine in one "
        "go: each server in its turn alone on one core, loadtest on another, over loopback, release builds, "
        f"{repeated} over all of them. Figures are medians of the rounds; a ratio is taken within each round. CPU is "
        "what the kernel counts for the server process, user and system. The floor holds the same sockets and calls "
        "`send(2)` with a finished frame, once for each subscriber: nothing that sends frame by frame is cheaper. "
        "Ratios count; absolute figures are this machine's. `make bench` repeats all of it and writes this page; "
        "`make bench BENCH=--help` lists its options.",
        "",
    ]
    if warning := _warning(document):
        lines += [f"**{warning}**", ""]
    return lines


def _warning(document):
    parts = []
    if "quick" in document["options"]:
        parts.append("A quick run: few seconds, one round. Its figures are for orientation only.")
    busy = document.get("busy")
    if busy:
        parts.append(f"THE MACHINE WAS BUSY: others used {busy['share']:.0%} of a core when it began.")
    disturbed = [run for run in document["runs"] if run.get("foreign_cpu", 0) > BUSY]
    if disturbed:
        parts.append(
            f"{len(disturbed)} OF {len(document['runs'])} MEASUREMENTS WERE DISTURBED: "
            f"others used more than {BUSY:.0%} of a core meanwhile."
        )
    return " ".join(parts)


def _budgets(results):
    rows = []
    for budget in judge(results):
        limit = f"{'at least' if budget.at_least else 'at most'} {_limit(budget.limit)} {budget.unit}"
        if budget.met is None:
            rows.append((budget.name, limit, "–", budget.reason))
            continue
        distance = f"{abs(budget.margin):.0%} {'inside' if budget.margin >= 0 else 'beyond'}"
        verdict = f"met, {distance}" if budget.met else f"**NOT MET**, {distance}"
        measured = number(budget.measured) + (f" ({budget.remark})" if budget.remark else "")
        rows.append((budget.name, limit, measured, verdict))
    return ["## Budgets", "", *table(("budget", "limit", "measured", "verdict"), rows)]


def _limit(value):
    return f"{value:,.0f}" if value >= 100 else f"{value:g}"


def _beside(results):
    rows = []
    for name in BESIDE_WITH_GROUPS:
        target = TARGETS[name]
        if reason := results.document["not_run"].get(name):
            rows.append((target.label, f"not run: {reason}", *[""] * 6))
            continue
        one, flood = (_fanout_cell(results, f"fanout-{mode}", name) for mode in ("one", "flood"))
        pairs = _thousands(results.figure("pairs", name, "messages_per_cpu_second"))
        handshake = results.figure("connect", name, "handshake_cpu_ms")
        memory = results.figure("connect", name, "rss_bytes_per_connection")
        p99 = results.figure("fanout-one", name, "p99_us")
        cost = f"{number(handshake.median)} ({target.token})" if handshake else "–"
        rows.append((target.label, one, flood, pairs, cost, _cell(memory), _cell(p99)))
    head = (
        "",
        "one message at a time",
        "as fast as it goes",
        "1:1",
        "CPU-ms per handshake",
        "bytes per idle connection",
        "p99 µs, one at a time",
    )
    return [
        "## Beside others",
        "",
        "Thousands of deliveries per CPU-second of the server, to 1,000 subscribers of one channel with 128 bytes of "
        "payload, and its cost per delivery as a multiple of the floor's; thousands of messages per CPU-second for "
        f"1,000 pairs; {_connections(results)} connections with one subscription each, and what they show for a token.",
        "",
        *table(head, rows),
    ]


def _connections(results):
    for run in results.runs("connect", "fanfare").values():
        if result := run.get("result"):
            return f"{result['connections']:,}"
    return "idle"


def _fanout_cell(results, key, target):
    figure = results.figure(key, target, "deliveries_per_cpu_second")
    if figure is None:
        return "failed" if results.runs(key, target) else "–"
    # The reference is the loop with one frame per call, also for the floor in groups.
    ratio = results.ratio((key, target), (key, "floor"), COST)
    return _thousands(figure) + (f" ({number(ratio.median)} ×)" if ratio else "")


def _thousands(figure):
    return number(figure.median / 1000) if figure else "–"


def _cell(figure):
    return number(figure.median) if figure else "–"


def _limits(_results):
    text = NOTES.read_text(encoding="utf-8").strip() if NOTES.exists() else ""
    return ["## What limits it", "", text, ""] if text else []


DETAIL = (
    ("deliveries_per_second", "deliveries/s"),
    (COST, "CPU-µs per delivery"),
    ("p50_us", "p50 µs"),
    ("p99_us", "p99 µs"),
    ("p999_us", "p99.9 µs"),
    ("handshake_cpu_ms", "CPU-ms per handshake"),
    ("rss_bytes_per_connection", "bytes per connection"),
    ("idle_cpu_us_per_connection_second", "CPU-µs per connection and second"),
    ("client_cpu_share", "loadtest's share of its core"),
)


def _detail(results):
    lines = ["## Every measurement", "", "Median, and lowest to highest of the rounds.", ""]
    for key in results.keys():
        targets = results.targets(key)
        figures = {(t, field): results.figure(key, t, field) for t in targets for field, _ in DETAIL}
        fields = [pair for pair in DETAIL if any(figures[t, pair[0]] for t in targets)]
        rows = [(TARGETS[t].label, *(_range(figures[t, field]) for field, _ in fields)) for t in targets]
        lines += [f"### `{key}`", "", *table(("", *(title for _, title in fields)), rows), *_remarks(results, key)]
    return lines


def _range(figure):
    if figure is None:
        return "–"
    if figure.rounds == 1:
        return number(figure.median)
    return f"{number(figure.median)} ({number(figure.low)}–{number(figure.high)})"


def _remarks(results, key):
    if key == "idle-cluster" and (beside := nats_bytes(results)) is not None:
        return [f"nats-server's memory grew by {number(beside)} bytes for each of these connections.", ""]
    if key == "cluster":
        alone = results.figure(key, "cluster-2", "baseline_p50_us")
        return [f"p50 through one gateway: {_range(alone)} µs.", ""]
    if key == "slow":
        alone = results.figure(key, "fanfare", "baseline_p99_us")
        return [f"p99 before readers stalled: {_range(alone)} µs.", ""]
    return []


def _wrong(results):
    lines = ["## Lost, duplicated, reordered", ""]
    wrong = results.wrong()
    count = len(results.document["runs"])
    if not wrong:
        return [*lines, f"Nothing, in any of {count} measurements.", ""]
    rows = [(run["key"], TARGETS[run["target"]].label, run["round"], what) for run, what in wrong]
    return [*lines, f"In {len(wrong)} of {count} measurements:", "", *table(("", "target", "round", "what"), rows)]


def _setting(results):
    document = results.document
    programs = {}
    for name, version in document["versions"].items():
        programs.setdefault(version, []).append(TARGETS[name].label)
    shares = [run["foreign_cpu"] for run in document["runs"] if "foreign_cpu" in run]
    quiet = f"Others used at most {max(shares):.1%} of a core while something was measured. " if shares else ""
    return [
        "## Machine and versions",
        "",
        f"{quiet}Measured from {document['started']} to {document.get('ended', 'an interruption')}.",
        "",
        *table(("machine", ""), document["machine"].items()),
        *table(("program", "version"), (("; ".join(labels), version) for version, labels in programs.items())),
    ]


def _commands(results):
    """Each server once, and for each measurement the command of its first target."""
    servers, clients = {}, {}
    for run in results.document["runs"]:
        if "command" in run:
            servers.setdefault(run["target"], [_general(command) for command in run["servers"]])
            clients.setdefault(run["key"], (run["target"], _general(run["command"])))
    head = "The servers, then loadtest; where a measurement has several targets, for the first."
    lines = ["## Commands", "", head, "", "```sh"]
    for target, commands in servers.items():
        lines += [f"# {target}", *commands]
    for key, (target, command) in clients.items():
        others = [other for other in results.targets(key) if other != target]
        lines += [f"# {key}" + (f"; also {', '.join(others)}" if others else ""), command]
    return [*lines, "```", ""]


def _general(command):
    command = re.sub(r"(?<=[: ])2[2-9]\d{3}\b", "$PORT", command)
    command = re.sub(r"--server-pid \d+", "--server-pid $PID", command)
    return re.sub(r"target/bench/[\d-]+/data/\d+", "$DATA", re.sub(r"target/bench/[\d-]+/(?!data)", "$OUT/", command))
