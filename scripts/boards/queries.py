"""Queries and panels that dashboards have in common."""

from .grafana import Panel

R = "$__rate_interval"
GOOD_AT_ZERO = [(0, "green"), (1, "red")]
BURN = [(0, "green"), (1, "orange"), (6, "red")]
FULL = [(0, "green"), (0.85, "orange"), (0.95, "red")]


def rate(name, by=""):
    """A counter a second, by the value of a label."""
    return f"sum by ({by}) (rate({name}[{R}]))" if by else f"sum(rate({name}[{R}]))"


def share(part, whole, by=""):
    return f"{rate(part, by)} / {rate(whole, by)}"


def quantiles(name):
    return [
        (f"histogram_quantile({q}, sum by (le) (rate({name}_bucket[{R}])))", legend)
        for q, legend in [(0.5, "p50"), (0.95, "p95"), (0.99, "p99"), (0.999, "p99.9")]
    ]


def stat(title, description, unit, query, **options):
    return Panel(title, description, unit, [(query, "")], **{"kind": "stat", "width": 4, "height": 4} | options)
