"""Alerts and dashboards get into the cluster as they are in their files."""

import json

import pytest
import yaml

from chart import CHART


@pytest.fixture(scope="module")
def groups():
    files = sorted((CHART / "rules").glob("*.yaml"))
    return [group for path in files for group in yaml.safe_load(path.read_text())["groups"]]


def alerts(groups):
    return [rule for group in groups for rule in group["rules"] if "alert" in rule]


def test_rules_are_those_of_the_files(render, groups):
    rendered = render("monitoring").one("PrometheusRule")["spec"]["groups"]
    assert groups and len(rendered) == len(groups)
    for found, written in zip(rendered, groups):
        assert found["name"] == written["name"]
        for rule, original in zip(found["rules"], written["rules"], strict=True):
            added = {"team": "push"} if "alert" in rule else {}
            assert rule == original | ({"labels": original.get("labels", {}) | added} if added else {})


def test_a_drain_is_stuck_when_it_takes_longer_than_it_may(render):
    def after(*sets):
        groups = render("monitoring", *sets).one("PrometheusRule")["spec"]["groups"]
        return next(each["for"] for each in alerts(groups) if each["alert"] == "FanfareDrainStuck")

    assert after() == "100s"
    assert after("drain.delaySeconds=5", "drain.durationSeconds=300", "drain.graceSeconds=60") == "375s"


def test_rules_can_be_left_out_and_runbooks_be_elsewhere(render, groups):
    alert, group = alerts(groups)[0]["alert"], groups[-1]["name"]
    sets = (
        f"monitoring.prometheusRule.disabledAlerts[0]={alert}",
        f"monitoring.prometheusRule.disabledGroups[0]={group}",
        "monitoring.prometheusRule.runbookUrl=https://wiki.example.com/runbooks/",
    )
    left = render("monitoring", *sets).one("PrometheusRule")["spec"]["groups"]
    assert group not in [each["name"] for each in left]
    assert alert not in [each["alert"] for each in alerts(left)]
    for each in alerts(left):
        name = each["annotations"]["runbook_url"].removeprefix("https://wiki.example.com/runbooks/")
        assert name == f"{each['alert']}.md"


def test_dashboards_are_those_of_the_files(render):
    files = {path.name: json.loads(path.read_text()) for path in (CHART / "dashboards").glob("*.json")}
    found = {}
    for each in render("monitoring").all("ConfigMap"):
        if "grafana_dashboard" in each["metadata"]["labels"]:
            assert each["metadata"]["annotations"] == {"grafana_folder": "Fanfare"}
            found |= {name.removeprefix("fanfare-"): json.loads(text) for name, text in each["data"].items()}
    assert files and found == files
