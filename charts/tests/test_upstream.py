"""The values for upstream charts say what the chart that bundles says, and fit each other."""

import re

import pytest
import yaml

import parts
from chart import TOP

UPSTREAM = TOP / "charts" / "upstream"


def values(name):
    return yaml.safe_load((UPSTREAM / f"{name}-values.yaml").read_text())


def permissions(text):
    """All lists of subjects in NATS's configuration, sorted."""
    lists = re.findall(r'\[("[^\]\n]+")\]', text)
    return sorted(sorted(re.findall(r'"([^"]+)"', each)) for each in lists)


def test_nats_permits_the_same_everywhere(render):
    bundled = permissions(render("ha").one("ConfigMap", "fanfare-nats")["data"]["nats.conf"])
    users = values("nats")["config"]["merge"]["authorization"]["users"]
    listed = []
    for user in users:
        for rule in user["permissions"].values():
            listed += rule.values() if isinstance(rule, dict) else [rule]
    assert sorted(map(sorted, listed)) == bundled
    documented = permissions(re.search(r"```hocon\n(.*?)```", (TOP / "docs" / "nats.md").read_text(), re.DOTALL)[1])
    assert [rule for rule in bundled if rule != ["fanfare.ch.presence.>"]] == documented


def test_valkey_is_configured_as_the_bundled_one(render):
    text = render("ha").one("ConfigMap", "fanfare-valkey")["data"]["valkey.conf"]
    lines = {line for line in text.splitlines() if line and not line.startswith("#")}
    theirs = set(values("valkey")["valkeyConfig"].splitlines())
    assert theirs <= lines
    assert {line.split()[0] for line in lines - theirs} == {"port", "protected-mode", "dir", "aclfile", "timeout", "tcp-keepalive"}
    acl = render(None).one("Secret", "fanfare-valkey")["data"]["users.acl"]
    acl = yaml.safe_load(f"!!binary {acl}").decode()
    assert values("valkey")["auth"]["aclUsers"]["fanfare"]["permissions"] in acl


def test_gateways_find_both(render):
    manifests = render(str(UPSTREAM / "fanfare-values.yaml"), "auth.existingSecret=fanfare-tokens")
    text = parts.configuration(manifests)
    replicas = values("nats")["config"]["cluster"]["replicas"]
    servers = [f"nats://nats-{number}.nats-headless:4222" for number in range(replicas)]
    assert servers == re.findall(r"nats://[^,\"]+", text)
    created = dict(re.findall(r"create secret generic (\S+) (.*)", (UPSTREAM / "README.md").read_text()))
    files = {}
    _, spec = parts.pod(manifests)
    for volume in spec["volumes"]:
        for source in volume.get("projected", {}).get("sources", []):
            files |= {(source["secret"]["name"], item["key"]): True for item in source["secret"]["items"]}
    files |= {
        (each["valueFrom"]["secretKeyRef"]["name"], each["valueFrom"]["secretKeyRef"]["key"]): True
        for each in parts.gateway(manifests)["env"]
        if "secretKeyRef" in each.get("valueFrom", {})
    }
    assert set(created) == {name for name, _ in files}
    for name, key in files:
        assert f"--from-file={key}=" in created[name], (name, key)


@pytest.mark.parametrize("name", ["nats", "valkey"])
def test_versions_are_named_once(name):
    version = re.search(r"tried with ([\d.]+\d)", (UPSTREAM / f"{name}-values.yaml").read_text())[1]
    readme = (UPSTREAM / "README.md").read_text()
    assert f"--version {version}" in readme and f"`{name}` {version}" in readme
