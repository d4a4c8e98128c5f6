"""The figures of a run, as docs/operations.md shows them."""

import statistics


def table(load, replaced, drains, killed, kills, duration):
    """In Markdown; what was found when gateways were told to go, and when they were killed."""
    paces = [drain.pace(duration) for drain in drains]
    both = [replaced, killed]
    rows = [
        ("", "replaced (SIGTERM)", "killed (SIGKILL)"),
        ("---", "---", "---"),
        ("connections that ended, by close code", *(codes(it) for it in both)),
        ("messages; deliveries", *(f"{it['messages']:,}; {it['deliveries']:,}" for it in both)),
        ("lost, repeated, out of order", *(f"{it['lost']}, {it['duplicated']}, {it['reordered']}" for it in both)),
        ("clients that came back: recovered, not", *(f"{it['recovered']:,}, {it['unrecovered']}" for it in both)),
        ("away: half of them at most, longest", *(away(it) for it in both)),
        ("attempts in vain: to connect, to publish", *(vain(it) for it in both)),
        ("ends per second: pace, most in any second", f"{max(paces):.0f}, {replaced['ends_peak_per_second']}", "–"),
        ("handshakes in any second, at most", *(f"{it['handshakes_peak_per_second']:,}" for it in both)),
        ("the same by the gateways' metrics, in a second's average", f"{max(it.handshakes for it in drains):.0f}", "–"),
        ("a gateway's end", listed(it.seconds for it in drains), "at once"),
        ("all are connected again, counted by the gateways", "–", listed(it.back for it in kills)),
        ("delivery, p50 and p99", *(latency(it) for it in both)),
    ]
    lines = ["| " + " | ".join(row) + " |" for row in rows]
    title = f"{load.clients:,} clients, {load.channels} channels, {load.rate:g} messages a second:"
    return "\n".join([title, "", *lines])


def codes(found):
    named = (it.split(":") for it in found["close_codes"].split())
    return ", ".join(f"{int(count):,} × {'none' if code == '0' else code}" for code, count in named)


def away(found):
    return f"{found['away_p50_seconds']:.1f} s, {found['away_max_seconds']:.1f} s"


def vain(found):
    return f"{found['failed_attempts']}, {found['publishes_repeated']}"


def latency(found):
    return f"{found['p50_us'] / 1000:.0f} ms, {found['p99_us'] / 1000:,.0f} ms"


def listed(values):
    values = list(values)
    return f"{', '.join(f'{it:.1f}' for it in values)} s (mean {statistics.mean(values):.1f} s)"
