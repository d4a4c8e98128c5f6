#!/usr/bin/env python3
"""Draws the chart's dashboards with the figures of a Prometheus: docs/images/dashboard-*.png.

    scripts/dashboard-pictures.py --prometheus http://127.0.0.1:9090 --minutes 10

Runs every query of the JSON that Grafana gets, at the panels' places; needs matplotlib. It is no
Grafana: it shows what the queries answer, and draws lines, bars, tables and heat maps plainly.
"""

import argparse
import json
import math
import pathlib
import re
import time
import urllib.parse
import urllib.request

import matplotlib
from matplotlib import pyplot

TOP = pathlib.Path(__file__).resolve().parent.parent
COLUMN, LINE, DPI = 0.62, 0.36, 80
GAP = 0.12
COLOURS = {"green": "#3c9a46", "orange": "#e08b1b", "red": "#cf3b3b"}
PREFIXES = [(1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")]
BINARY = [(2**40, "Ti"), (2**30, "Gi"), (2**20, "Mi"), (2**10, "Ki")]


def scaled(value, prefixes):
    for size, name in prefixes:
        if abs(value) >= size:
            return f"{value / size:.3g} {name}"
    return f"{value:.3g}"


def seconds(value):
    for size, name in [(86400, "d"), (3600, "h"), (60, "min"), (1, "s")]:
        if abs(value) >= size:
            return f"{value / size:.3g} {name}"
    return f"{value * 1e3:.3g} ms" if abs(value) >= 1e-3 or not value else f"{value * 1e6:.3g} µs"


UNITS = {
    "s": seconds,
    "bytes": lambda value: scaled(value, BINARY) + "B",
    "Bps": lambda value: scaled(value, PREFIXES) + "B/s",
    "ops": lambda value: scaled(value, PREFIXES) + "/s",
    "reqps": lambda value: scaled(value, PREFIXES) + "/s",
    "percentunit": lambda value: f"{100 * value:.3g} %",
    "percent": lambda value: f"{value:.3g} %",
    "short": lambda value: scaled(value, PREFIXES),
    "string": str,
}


class Prometheus:
    """What Grafana would ask, over the last minutes."""

    def __init__(self, url, minutes, end):
        self.url, self.end = url, end or time.time()
        self.start = self.end - 60 * minutes
        self.step = max(5, round(60 * minutes / 240))
        self.jobs = "|".join(
            series["metric"]["job"]
            for series in self.call("query", query="count by (job) (fanfare_build_info)", time=self.end)
        )

    def ask(self, panel, target):
        expression = target["expr"].replace("$__rate_interval", f"{max(30, 4 * self.step)}s")
        expression = expression.replace("$job", self.jobs)
        expression = re.sub(r'"\$\w+"', '".*"', expression)
        if target["instant"]:
            answer = self.call("query", query=expression, time=self.end)
        else:
            answer = self.call("query_range", query=expression, start=self.start, end=self.end, step=self.step)
        for series in answer:
            points = series.get("values") or [series["value"]]
            times, values = zip(*((at, float(value)) for at, value in points), strict=True)
            yield label(target, series["metric"]), series["metric"], times, values

    def call(self, what, **parameters):
        address = f"{self.url}/api/v1/{what}?{urllib.parse.urlencode(parameters)}"
        with urllib.request.urlopen(address, timeout=30) as answer:
            return json.load(answer)["data"]["result"]


def label(target, metric):
    return re.sub(r"\{\{(\w+)\}\}", lambda found: metric.get(found[1], ""), target["legendFormat"])


def colour(panel, value):
    chosen = None
    for step in panel["fieldConfig"]["defaults"].get("thresholds", {}).get("steps", []):
        if step["value"] is None or value >= step["value"]:
            chosen = COLOURS.get(step["color"])
    return chosen


def unit(panel):
    return UNITS[panel["fieldConfig"]["defaults"]["unit"]]


def numbers(series):
    return [value for _, _, _, values in series for value in values if value == value]


def draw_lines(axes, panel, series):
    custom = panel["fieldConfig"]["defaults"]["custom"]
    # The largest first, as in Grafana's list.
    series = sorted(series, key=lambda one: -max(one[3], default=0))
    clock = [[at / 60 for at in times] for _, _, times, _ in series]
    if custom["stacking"]["mode"] == "normal":
        moments = sorted({at for times in clock for at in times})
        layers = [
            [dict(zip(times, values, strict=True)).get(at, 0) for at in moments]
            for times, (_, _, _, values) in zip(clock, series, strict=True)
        ]
        axes.stackplot(moments, *layers, labels=[name for name, *_ in series], alpha=0.75, linewidth=0)
    else:
        for times, (name, _, _, values) in zip(clock, series, strict=True):
            axes.plot(times, values, label=name, linewidth=1.1)
    highest = panel["fieldConfig"]["defaults"].get("max") or axes.get_ylim()[1]
    # A line at the top is to be seen, and nothing at all is no twentieth.
    axes.set_ylim(0, 1.02 * highest if any(numbers(series)) else 1)
    axes.yaxis.set_major_formatter(lambda value, _: unit(panel)(value))
    axes.legend(
        loc="upper center",
        bbox_to_anchor=(0.5, -0.13),
        ncols=3,
        fontsize=6.5,
        frameon=False,
        columnspacing=1,
        handlelength=1,
    )
    marks(axes)
    if panel["fieldConfig"]["defaults"]["unit"] == "bytes":
        quarter = max(1, axes.get_ylim()[1] / 4)
        axes.yaxis.set_major_locator(matplotlib.ticker.MultipleLocator(2 ** math.ceil(math.log2(quarter))))


def marks(axes):
    axes.xaxis.set_major_formatter(lambda minute, _: time.strftime("%H:%M", time.gmtime(60 * minute)))
    axes.xaxis.set_major_locator(matplotlib.ticker.MaxNLocator(5, integer=True))
    axes.yaxis.set_major_locator(matplotlib.ticker.MaxNLocator(4))
    axes.tick_params(labelsize=6.5, length=2)
    axes.grid(alpha=0.25, linewidth=0.5)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)


def draw_heat(axes, panel, series):
    def bound(one):
        return float(one[1]["le"].replace("+Inf", "inf"))

    series = sorted(series, key=bound)
    times = [at / 60 for at in series[0][2]]
    below, cells = [0] * len(times), []
    for _, _, _, values in series:
        cells.append([max(0, here - under) for here, under in zip(values, below, strict=True)])
        below = values
    axes.pcolormesh(
        times, range(len(cells)), cells, cmap="Oranges", shading="nearest", norm=matplotlib.colors.PowerNorm(0.5)
    )
    axes.set_yticks(range(len(cells)), [seconds(bound(one)) if bound(one) < 1e9 else "more" for one in series])
    marks(axes)
    axes.yaxis.set_major_locator(matplotlib.ticker.FixedLocator(range(len(cells))))


def draw_figure(axes, panel, series):
    axes.axis("off")
    value = series[0][3][-1]
    paint = colour(panel, value)
    if paint:
        axes.add_patch(matplotlib.patches.Rectangle((0, 0), 1, 1, transform=axes.transAxes, color=paint))
    axes.text(
        0.5,
        0.45,
        unit(panel)(value),
        ha="center",
        va="center",
        fontsize=19,
        color="white" if paint else "#222222",
        transform=axes.transAxes,
    )


def draw_bars(axes, panel, series):
    names = [name for name, *_ in series]
    values = [values[-1] for *_, values in series]
    axes.barh(names, [max(value, 0) for value in values], color=[colour(panel, value) for value in values])
    for row, value in enumerate(values):
        axes.text(0.02, row, unit(panel)(value), va="center", fontsize=7, color="#222222")
    axes.set_xlim(0, panel["fieldConfig"]["defaults"].get("max", None))
    axes.tick_params(labelsize=7, length=0)
    axes.set_xticks([])
    for side in axes.spines.values():
        side.set_visible(False)


def draw_table(axes, panel, columns):
    """`columns`: of each query, the value of each pod."""
    axes.axis("off")
    names = panel["transformations"][1]["options"]["renameByName"]
    units = {one["matcher"]["options"]: one["properties"][0]["value"] for one in panel["fieldConfig"]["overrides"]}
    heads = [names[key] for key in names]
    pods = sorted({pod for column in columns for pod in column})
    rows = [
        [
            pod,
            *(
                UNITS[units[head]](column[pod]) if pod in column else "–"
                for head, column in zip(heads[1:], columns, strict=True)
            ),
        ]
        for pod in pods
    ]
    table = axes.table(rows, colLabels=heads, loc="upper left", cellLoc="left", edges="horizontal")
    table.auto_set_font_size(False)
    table.set_fontsize(8)
    table.scale(1, 1.3)


def draw(figure, panel, prometheus, height):
    place = panel["gridPos"]
    left, top = place["x"] * COLUMN + GAP, place["y"] * LINE
    wide, high = place["w"] * COLUMN - 2 * GAP, place["h"] * LINE
    whole = figure.get_size_inches()
    if panel["type"] == "row":
        figure.text(
            left / whole[0], 1 - (top + 0.22) / whole[1], panel["title"], fontsize=10, weight="bold", va="center"
        )
        return
    plain = panel["type"] in ("stat", "table")
    inset = (0.1 if plain else 1.0 if panel["type"] == "bargauge" else 0.55, 0.08 if plain else 0.62)
    axes = figure.add_axes(
        [
            (left + inset[0]) / whole[0],
            1 - (top + high - inset[1]) / whole[1],
            (wide - inset[0] - 0.08) / whole[0],
            (high - inset[1] - 0.34) / whole[1],
        ]
    )
    figure.text(
        (left + 0.05) / whole[0], 1 - (top + 0.18) / whole[1], panel["title"], fontsize=8, va="center", color="#333333"
    )
    answers = [list(prometheus.ask(panel, target)) for target in panel["targets"]]
    series = [one for answer in answers for one in answer]
    if not numbers(series):
        axes.axis("off")
        axes.text(0.5, 0.5, "no data", ha="center", va="center", fontsize=9, color="#999999", transform=axes.transAxes)
        return f"{panel['title']}: no data"
    match panel["type"]:
        case "timeseries":
            draw_lines(axes, panel, series)
        case "heatmap":
            draw_heat(axes, panel, series)
        case "stat":
            draw_figure(axes, panel, series)
        case "bargauge":
            draw_bars(axes, panel, series)
        case "table":
            draw_table(
                axes, panel, [{metric["pod"]: values[-1] for _, metric, _, values in answer} for answer in answers]
            )
    return None


def picture(path, prometheus, directory):
    dashboard = json.loads(path.read_text())
    lines = max(panel["gridPos"]["y"] + panel["gridPos"]["h"] for panel in dashboard["panels"])
    figure = pyplot.figure(figsize=(24 * COLUMN, lines * LINE + 0.1), dpi=DPI, facecolor="white")
    empty = [draw(figure, panel, prometheus, lines) for panel in dashboard["panels"]]
    target = directory / f"dashboard-{path.stem}.png"
    figure.savefig(target)
    pyplot.close(figure)
    shrink(target)
    print(f"{target.relative_to(TOP)}: {target.stat().st_size // 1024} KB", *filter(None, empty), sep="\n  ")


def shrink(path):
    """Few colours are enough for lines and text."""
    from PIL import Image

    Image.open(path).convert("RGB").quantize(96, dither=Image.Dither.NONE).save(path, optimize=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--prometheus", default="http://127.0.0.1:9090")
    parser.add_argument("--minutes", type=float, default=15)
    parser.add_argument("--end", type=float, help="Unix time; now unless given")
    parser.add_argument("--only", help="name of one dashboard")
    options = parser.parse_args()
    matplotlib.use("Agg")
    directory = TOP / "docs" / "images"
    directory.mkdir(exist_ok=True)
    prometheus = Prometheus(options.prometheus, options.minutes, options.end)
    for path in sorted((TOP / "charts" / "fanfare" / "dashboards").glob(f"{options.only or '*'}.json")):
        picture(path, prometheus, directory)


if __name__ == "__main__":
    main()
