"""Pictures of what the chart makes, as committed in golden/ and released.yaml."""

import copy
import os
from pathlib import Path

import yaml

HERE = Path(__file__).parent
GOLDEN = HERE / "golden"
RELEASED = HERE / "released.yaml"
UPDATE = "UPDATE_GOLDEN" in os.environ
# Changes that Kubernetes takes for a StatefulSet; it refuses all others.
MUTABLE = {"replicas", "ordinals", "template", "updateStrategy", "revisionHistoryLimit",
           "persistentVolumeClaimRetentionPolicy", "minReadySeconds"}


def dump(value):
    return yaml.dump(value, Dumper=yaml.CSafeDumper, sort_keys=True, width=120)


def picture(objects):
    """The objects as text, without what is random and without files that the chart only carries."""
    return "---\n".join(dump(recognisable(each)) for each in objects)


def recognisable(each):
    each = copy.deepcopy(each)
    if each["kind"] == "Secret":
        each["data"] = dict.fromkeys(each["data"], "(made at install)")
    if each["kind"] == "ConfigMap" and "grafana_dashboard" in each["metadata"].get("labels", {}):
        each["data"] = dict.fromkeys(each["data"], "(a file of dashboards/)")
    if each["kind"] == "PrometheusRule":
        each["spec"] = {"groups": [group["name"] for group in each["spec"]["groups"] or []]}
    return each


def fixed(objects):
    """By kind and name: what an upgrade cannot change, but only a new install."""
    found = {}
    for each in objects:
        spec = each.get("spec", {})
        match each["kind"]:
            case "Deployment" | "DaemonSet":
                fields = {"selector": spec["selector"]}
            case "StatefulSet":
                fields = {field: spec[field] for field in spec if field not in MUTABLE}
            case "Service":
                fields = {"clusterIP": spec.get("clusterIP", "(given by Kubernetes)")}
            case "Secret":
                fields = {"type": each["type"]}
            case "RoleBinding" | "ClusterRoleBinding":
                fields = {"roleRef": each["roleRef"]}
            case "PersistentVolumeClaim":
                fields = {"spec": spec}
            case _:
                continue
        found[f"{each['kind']} {each['metadata']['name']}"] = fields
    return found
