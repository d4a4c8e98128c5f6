"""Whether Kubernetes would take what the chart makes, and let its pods run where it is strictest."""

import copy

import pytest
from restricted import escapes
from schemas import NEWEST, OLDEST, problem


@pytest.mark.parametrize("version", [OLDEST, NEWEST])
def test_kubernetes_takes_every_object(render, ci, version):
    problems = [(each["kind"], each["metadata"]["name"], said)
                for each in render(ci).objects if (said := problem(version, each))]
    assert problems == []


def test_the_schemas_refuse_what_is_wrong(render):
    deployment = copy.deepcopy(render("minimal").one("Deployment"))
    container = deployment["spec"]["template"]["spec"]["containers"][0]
    container["port"] = []
    assert "'port' was unexpected" in problem(NEWEST, deployment)
    del container["port"]
    container["ports"][0]["containerPort"] = "8080"
    assert "containerPort" in problem(NEWEST, deployment)
    route = copy.deepcopy(render("gateway-api").one("HTTPRoute"))
    route["spec"]["rules"][0]["timeouts"] = {"request": "1.5s"}
    assert "timeouts.request" in problem(NEWEST, route)
    assert "has no" in problem(NEWEST, {"apiVersion": "policy/v1beta1", "kind": "PodDisruptionBudget"})


def test_no_name_is_given_twice(render, ci):
    """Server-side apply, Helm 4's way, refuses lists with a key twice."""
    for owner, pod in render(ci).pods():
        for container in pod["spec"]["containers"] + pod["spec"].get("initContainers", []):
            for field, key in (("env", "name"), ("ports", "name"), ("ports", "containerPort"), ("volumeMounts", "mountPath")):
                given = [each[key] for each in container.get(field, [])]
                assert len(given) == len(set(given)), (owner, field)
        volumes = [each["name"] for each in pod["spec"].get("volumes", [])]
        assert len(volumes) == len(set(volumes)), owner
    objects = [(each["kind"], each["metadata"]["name"]) for each in render(ci).objects]
    assert len(objects) == len(set(objects))


def test_every_pod_keeps_to_the_restricted_standard(render, ci):
    assert {owner: list(escapes(pod)) for owner, pod in render(ci).pods()} == {
        owner: [] for owner, _ in render(ci).pods()}


@pytest.mark.parametrize("path, value", [
    ("hostNetwork", True),
    ("securityContext.runAsNonRoot", False),
    ("securityContext.runAsUser", 0),
    ("securityContext.seccompProfile.type", "Unconfined"),
    ("containers.0.securityContext.allowPrivilegeEscalation", None),
    ("containers.0.securityContext.privileged", True),
    ("containers.0.securityContext.capabilities.drop", []),
    ("containers.0.securityContext.capabilities.add", ["NET_ADMIN"]),
    ("containers.0.ports.0.hostPort", 80),
    ("volumes.0.hostPath", {"path": "/"}),
])
def test_the_standard_is_checked(render, path, value):
    (_, pod), *_ = render("minimal").pods()
    pod = copy.deepcopy(pod)
    *parents, last = path.split(".")
    place = pod["spec"]
    for part in parents:
        place = place[int(part) if part.isdigit() else part]
    place[last] = value
    assert list(escapes(pod)) != []
