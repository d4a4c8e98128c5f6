"""Values: what is refused and with which words, and that schema and README say what values.yaml does."""

import hashlib
import json
import re
import subprocess
import sys

import pytest
import yaml

from chart import CHART, TOP, Refused

SCHEMA = json.loads((CHART / "values.schema.json").read_text())
VALUES = yaml.safe_load((CHART / "values.yaml").read_text())

# What is set on top of a file, and what is said of it: all of it, at once.
CONTRADICTIONS = [
    (
        "keda",
        [
            "nats.url=nats://own:4222",
            "nats.auth.type=token",
            "redis.url=redis://own:6379",
            "config.history.replicas=6",
            "terminationGracePeriodSeconds=200",
            "rollout.minReadySeconds=89",
            "rollout.progressDeadlineSeconds=60",
            "rollout.maxSurge=0",
            "config.http.max_connections=100000",
            "autoscaling.connections=90001",
            "autoscaling.hpa.enabled=true",
            "autoscaling.minReplicas=50",
            "autoscaling.scaleDown.periodSeconds=200",
            "autoscaling.keda.serverAddress=",
            "resources.requests.cpu=",
            "monitoring.podMonitor.enabled=true",
            "monitoring.serviceMonitor.enabled=true",
            "ingress.enabled=true",
            "httpRoute.enabled=true",
            "ports.admin=8080",
        ],
        [
            "nats.url and nats.bundled.enabled are both set",
            "nats.auth is for your own NATS",
            "nats.auth.type is token: nats.auth.existingSecret must name",
            "redis.* and valkey.bundled.enabled are both set",
            "config.history.replicas is 6, and nats.bundled.replicas only 5",
            "terminationGracePeriodSeconds is 200, and a drain may take 245",
            "rollout.minReadySeconds is 89, under half of drain.durationSeconds (180)",
            "rollout.progressDeadlineSeconds is 60, and a pod may take 209",
            "rollout.maxSurge is 0",
            "config.http.max_connections is 100000, and drain.maxRate × drain.durationSeconds only 90000",
            "autoscaling.connections is 90001",
            "autoscaling.hpa and autoscaling.keda are both enabled",
            "autoscaling.minReplicas is 50, and autoscaling.maxReplicas only 40",
            "autoscaling.scaleDown.periodSeconds is 200, and a drain may take 225",
            "autoscaling.keda.serverAddress must say where",
            "autoscaling.cpuPercent is a share of resources.requests.cpu",
            "monitoring.podMonitor and monitoring.serviceMonitor are both enabled",
            "ingress.enabled needs ingress.hosts",
            "httpRoute.enabled needs httpRoute.parentRefs",
            "ports.http, ports.admin and ports.internal must differ",
        ],
    ),
    (
        "minimal",
        [
            "replicas=2",
            "redis.url=redis://:secret@own:6379",
            "redis.username=push",
            "config.auth.hmac_secret=0123456789",
            "config.webhooks.billing.secret=whsec_x",
            "config.auth.keys[0].secret=x",
            "auth.keys[0].algorithm=HS256",
            "auth.keys[0].secret=a",
            "auth.keys[0].key=b",
            "config.nats.password=x",
            "auth.apiKeys.existingSecret=a",
            "config.auth.api_keys[0].id=a",
            "config.http.listen[0]=0.0.0.0:1",
            "config.redis.url_file=/x",
            "config.drain.duration=1s",
            "profiles.keys[0]=a.toml",
            "service.nodePort=30000",
            "extraEnv[0].name=API_KEYS",
            "extraEnv[1].name=A",
            "extraEnv[2].name=A",
            "extraVolumes[0].name=secrets",
            "commonLabels.app\\.kubernetes\\.io/name=a",
            "podLabels.app\\.kubernetes\\.io/component=a",
            "service.labels.helm\\.sh/chart=a",
            "prober.enabled=true",
        ],
        [
            "there is Redis and no NATS, and gateways need both",
            "several gateways need NATS",
            "redis.url holds credentials",
            "redis.username is given",
            "config.auth.hmac_secret would be readable",
            "config.webhooks.billing.secret would be readable",
            "config.auth.keys[0].secret would be readable",
            "auth.keys and config.auth.keys are both set",
            "config.nats.password would be readable",
            "auth.apiKeys and config.auth.api_keys are both set",
            "config.http.listen is set by the chart: use ports.http and ipFamily",
            "config.redis.url_file is set by the chart: use redis.existingSecret",
            "config.drain is set by the chart",
            "profiles.keys are keys of profiles.existingConfigMap",
            "service.nodePort, externalTrafficPolicy, loadBalancerClass",
            "extraEnv: API_KEYS is set by the chart",
            "extraEnv: A is there twice",
            "extraVolumes: secrets is a volume of the chart",
            "commonLabels: app.kubernetes.io/name is set by the chart",
            "podLabels: app.kubernetes.io/component is set by the chart",
            "service.labels: helm.sh/chart is set by the chart",
            "prober.enabled: there is no NATS to publish over",
        ],
    ),
    (
        "gateway-api",
        [
            "valkey.bundled.enabled=false",
            "nats.bundled.enabled=false",
            "nats.url=nats://push:secret@own",
            "nats.auth.type=user",
            "profiles.existingConfigMap=x",
            "prober.enabled=true",
            "prober.tokenSecret=",
            "autoscaling.hpa.enabled=true",
            "autoscaling.connections=0",
            "autoscaling.cpuPercent=0",
        ],
        [
            "there is NATS and no Redis, and gateways need both",
            "nats.url holds credentials",
            "nats.auth.type is user: nats.auth.existingSecret must name",
            "nats.auth.type is user: nats.auth.user must say which",
            "profiles.keys must say which keys",
            "prober.enabled: there is no HS key to make a token with",
            "autoscaling has nothing to go by",
        ],
    ),
]


@pytest.mark.parametrize("name, sets, wanted", CONTRADICTIONS, ids=[each[0] for each in CONTRADICTIONS])
def test_contradictions_are_refused_together(render, name, sets, wanted):
    with pytest.raises(Refused, match="These values cannot be") as refused:
        render(name, *sets)
    text = str(refused.value)
    assert [each for each in wanted if each not in text] == [], text
    assert text.count("\n- ") == len(wanted), text


@pytest.mark.parametrize(
    "value",
    ["replica=3", "nats.bundled.replicas=2", "image.digest=latest", "drain.marginSeconds=5", "rollout.maxSurge=some",
     "auth.keys[0].algorithm=none", "nats.bundled.persistence.size=big"],
)
def test_what_values_cannot_mean_is_refused_by_the_schema(render, value):
    with pytest.raises(Refused, match="values don't meet the specifications of the schema"):
        render("minimal", value)


def described(schema, path=()):
    """Paths of all values that the schema has, and whether it lets further ones in."""
    schema = SCHEMA["$defs"][schema["$ref"].rpartition("/")[2]] if "$ref" in schema else schema
    for key, inner in schema.get("properties", {}).items():
        yield (*path, key)
        yield from described(inner, (*path, key))


def written(values, path=()):
    free = {("config",), ("resources",), ("affinity",)}
    for key, inner in values.items():
        yield (*path, key)
        if isinstance(inner, dict) and (key,) not in free:
            yield from written(inner, (*path, key))


def test_the_schema_has_the_values_that_there_are():
    leaves = {"requests", "limits", "claims", "request", "backendRequest"}
    known = {path for path in described(SCHEMA) if path[-1] not in leaves}
    maps = {path for path in written(VALUES) if path[:-1] not in known and len(path) > 1}
    assert known - set(written(VALUES)) == set()
    # What remains is in the maps of labels and annotations.
    assert {path[-2] for path in maps | (set(written(VALUES)) - known)} <= {"labels", "annotations"}


def test_the_schema_is_closed_and_stands_alone():
    text = json.dumps(SCHEMA)
    assert '"$ref": "http' not in text and SCHEMA["$schema"].endswith("2020-12/schema")

    def check(schema, path):
        if isinstance(schema, dict):
            if "properties" in schema and path != ["properties", "global"]:
                assert schema.get("additionalProperties") is False, path
            for key, inner in schema.items():
                check(inner, [*path, key])

    check(SCHEMA, [])


def test_the_readme_has_all_values():
    check = [sys.executable, TOP / "scripts" / "chart-docs.py", "--check"]
    done = subprocess.run(check, capture_output=True, text=True, timeout=20)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_readme_makes_the_secrets_that_the_chart_would(render, tmp_path):
    readme = (CHART / "README.md").read_text()
    [recipe] = [block for block in re.findall(r"```sh\n(.*?)```", readme, re.DOTALL) if "users.acl" in block]
    script = f"kubectl() {{ echo kubectl \"$@\"; }}\nrm() {{ :; }}\n{recipe}"
    done = subprocess.run(["bash", "-euc", script], cwd=tmp_path, capture_output=True, text=True, timeout=20)
    assert done.returncode == 0, done.stderr
    secrets = {each["metadata"]["name"]: each["data"] for each in render(None).all("Secret")}
    theirs = {line.split()[6]: re.findall(r"--from-file=([\w.-]+)", line) for line in done.stdout.splitlines()}
    for name, keys in theirs.items():
        assert set(secrets[name.replace("push", "fanfare").replace("tokens", "auth")]) - {"password"} == set(keys)
    made = yaml.safe_load(f"!!binary {secrets['fanfare-valkey']['users.acl']}").decode()
    written = (tmp_path / "users.acl").read_text()
    assert re.sub(r"#\w+", "#", written).strip() == re.sub(r"#\w+", "#", made).strip()
    password = (tmp_path / "valkey").read_text()
    assert f"#{hashlib.sha256(password.encode()).hexdigest()} ~*" in written
    assert (tmp_path / "url").read_text() == f"redis://fanfare:{password}@fanfare-valkey:6379/0"


def images_of(values):
    for key, inner in values.items():
        if key == "image":
            yield inner
        elif isinstance(inner, dict):
            yield from images_of(inner)


def test_the_chart_says_what_it_is():
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
    cargo = (TOP / "Cargo.toml").read_text()
    assert chart["kubeVersion"] == ">=1.30.0-0" and f'version = "{chart["appVersion"]}"' in cargo
    images = {each["image"] for each in yaml.safe_load(chart["annotations"]["artifacthub.io/images"])}
    assert images == {
        f"{image['registry']}/{image['repository']}:{image['tag'] or chart['appVersion']}"
        for image in images_of(VALUES)
    }
