"""Dashboards, recordings, alerts and runbooks: they parse, fit what is exported, and fit each other."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

TOP = Path(__file__).resolve().parents[2]
CHART = TOP / "charts" / "fanfare"
RUNBOOKS = TOP / "docs" / "runbooks"
sys.path.insert(0, str(TOP / "scripts"))

import dashboards  # noqa: E402

PROMTOOL = shutil.which("promtool", path=f"{TOP / '.tools' / 'bin'}{os.pathsep}{os.environ['PATH']}")
# Put onto every series by whoever scrapes; a label of ours of such a name would be renamed.
TARGET = {"namespace", "job", "pod", "instance", "container", "service", "endpoint", "prometheus", "cluster", "node"}
# Made by rules and by Prometheus itself.
MADE = {"slo", "alertname", "alertstate", "severity", "window"}
HEADINGS = ["## Impact", "## First queries", "## Mitigation", "## Escalation"]

ROW = re.compile(r"^\| `(fanfare_\w+)` \| (\w+) \| ([^|]*) \|", re.MULTILINE)
METRIC = re.compile(r"(?<![\w:$\"])((?:fanfare|process|nats|redis)_\w+)(?:\{([^}]*)\})?")
RECORDING = re.compile(r"fanfare:[\w:]+")
MATCHER = re.compile(r'(\w+)\s*(?:=~|!~|!=|=)\s*"')
GROUPING = re.compile(r"\b(?:by|on|group_left|group_right) ?\(([^)]*)\)")
PART = re.compile(r"_(bucket|sum|count)$")
TEXTS = re.compile(r'"[^"]*"')


def promtool(*arguments):
    done = subprocess.run([PROMTOOL, *arguments], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr


def documented():
    """Names and labels of what is exported, as the documentation has them; the code is tested against it."""
    pages = [(TOP / "docs" / page).read_text() for page in ("metrics.md", "monitoring.md")]
    return {name: (kind, set(re.findall(r"\w+", labels))) for page in pages for name, kind, labels in ROW.findall(page)}


def recorded():
    """Names and labels of what real processes exported; the parts of a histogram count as itself."""
    found = {}
    for line in (TOP / "charts" / "tests" / "scrape.txt").read_text().splitlines():
        if line and not line.startswith("#"):
            name = re.match(r"\w+", line)[0]
            labels = set(MATCHER.findall(line.partition(" ")[0])) - {"le"}
            found.setdefault(PART.sub("", name) if "le=" in line or PART.search(name) else name, set()).update(labels)
    return found


def rules():
    for path in sorted(CHART.glob("rules/*.yaml")):
        for group in yaml.load(path.read_text(), Loader=yaml.CSafeLoader)["groups"]:
            yield from group["rules"]


def alerts():
    return [rule for rule in rules() if "alert" in rule]


def panels():
    for path in sorted(CHART.glob("dashboards/*.json")):
        for panel in json.loads(path.read_text())["panels"]:
            if panel["type"] != "row":
                yield f"{path.stem}: {panel['title']}", panel


def runbook_queries(text):
    return re.findall(r"```promql\n(.*?)\n```", text, re.DOTALL)


def expressions():
    """Every query there is, with where it stands."""
    for where, panel in panels():
        for target in panel["targets"]:
            yield where, target["expr"].replace("$__rate_interval", "5m")
    for rule in rules():
        yield rule.get("alert", rule.get("record")), rule["expr"]
    for path in sorted(RUNBOOKS.glob("*.md")):
        for query in runbook_queries(path.read_text()):
            yield path.name, query


def test_dashboards_are_what_the_script_writes():
    assert not [path.name for path, _ in dashboards.stale()], "scripts/dashboards.py writes them"


def test_dashboards_can_be_provisioned():
    found = [json.loads(path.read_text()) for path in sorted(CHART.glob("dashboards/*.json"))]
    assert len({dashboard["uid"] for dashboard in found}) == len(found) == 6
    for dashboard in found:
        assert dashboard["id"] is None and dashboard["editable"] is False and "__inputs" not in dashboard
        assert 39 <= dashboard["schemaVersion"] <= 41 and "fanfare" in dashboard["tags"]
        chosen = [variable["name"] for variable in dashboard["templating"]["list"]]
        assert chosen[:4] == ["datasource", "namespace", "job", "pod"]
        numbers = [panel["id"] for panel in dashboard["panels"]]
        assert len(set(numbers)) == len(numbers)
    for where, panel in panels():
        assert panel["description"] and panel["fieldConfig"]["defaults"]["unit"], where
        assert panel["targets"] and panel["datasource"]["uid"] == "${datasource}", where
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= 24, where
        for target in panel["targets"]:
            # Of a counter, nothing but its growth says anything.
            counters = re.findall(r"(\w+_total)\b(?:\{[^}]*\})?(\[)?", target["expr"])
            assert all(ranged for _, ranged in counters), where


def test_every_expression_parses(tmp_path):
    group = [{"record": f"expression:{n}", "expr": query} for n, (_, query) in enumerate(expressions())]
    file = tmp_path / "expressions.yaml"
    file.write_text(json.dumps({"groups": [{"name": "all", "rules": group}]}))
    promtool("check", "rules", "--lint=none", str(file))


def test_rules_are_valid():
    promtool("check", "rules", *map(str, sorted(CHART.glob("rules/*.yaml"))))


def test_every_metric_and_label_is_exported():
    known = {name: labels for name, (_, labels) in documented().items()} | recorded()
    made = {rule["record"] for rule in rules() if "record" in rule}
    any_label = set().union(*known.values(), TARGET, MADE, {"le"})
    for where, expression in expressions():
        for name, selector in METRIC.findall(expression):
            labels = known.get(name, known.get(PART.sub("", name)))
            assert labels is not None, f"{where}: nothing exports {name}"
            assert set(MATCHER.findall(selector)) <= labels | TARGET | {"le"}, f"{where}: {name}{{{selector}}}"
        for name in RECORDING.findall(expression):
            assert name in made, f"{where}: nothing records {name}"
        for labels in GROUPING.findall(TEXTS.sub("", expression)):
            assert set(re.findall(r"\w+", labels)) <= any_label, f"{where}: by {labels}"


def test_the_recorded_scrape_is_what_the_documentation_says():
    known, found = documented(), recorded()
    stale = "record it anew: scripts/record-scrape.py"
    for name, labels in found.items():
        if name.startswith("fanfare_"):
            assert name in known, f"{name} is no longer exported; {stale}"
            assert labels == known[name][1], f"{name}; {stale}"
    # With labels, a metric may wait for its first event.
    silent = {name for name, (_, labels) in known.items() if not labels} - found.keys()
    assert not silent, stale


def test_no_label_is_one_that_scraping_puts_on():
    for name, (_, labels) in documented().items():
        assert not labels & TARGET, name


def test_every_alert_is_complete():
    for alert in alerts():
        assert alert["labels"]["severity"] in ("page", "ticket"), alert["alert"]
        annotations = alert["annotations"]
        assert annotations["summary"] and annotations["description"], alert["alert"]
        assert annotations["runbook_url"].endswith(f"/docs/runbooks/{alert['alert']}.md"), alert["alert"]


def test_every_alert_has_a_runbook_a_line_and_tests():
    names = {alert["alert"] for alert in alerts()}
    assert {path.stem for path in RUNBOOKS.glob("*.md")} == names
    table = (TOP / "docs" / "monitoring.md").read_text()
    tests = "\n".join(path.read_text() for path in (TOP / "charts" / "tests" / "rules").glob("*.yaml"))
    for name in names:
        assert f"| [{name}](runbooks/{name}.md) |" in table, name
        assert re.search(rf'alertname="{name}"|alertname: {name}\b', tests), f"{name} has no test in charts/tests/rules"


@pytest.mark.parametrize("path", sorted(RUNBOOKS.glob("*.md")), ids=lambda path: path.stem)
def test_a_runbook_says_what_to_do(path):
    text = path.read_text()
    assert text.startswith(f"# {path.stem}\n")
    assert re.findall(r"^## .*", text, re.MULTILINE) == HEADINGS
    assert len(runbook_queries(text)) == 3
    for target in re.findall(r"\]\(([^)#]+\.md)", text):
        assert (path.parent / target).exists(), target


def test_alerts_fire_and_are_silent():
    promtool("test", "rules", *map(str, sorted((TOP / "charts" / "tests" / "rules").glob("*.yaml"))))
