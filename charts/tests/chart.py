"""Renders the chart, once for each set of values, and finds objects in what comes out."""

import functools
import subprocess
from dataclasses import dataclass
from pathlib import Path

import yaml

TOP = Path(__file__).resolve().parents[2]
CHART = TOP / "charts" / "fanfare"
HELM = TOP / ".tools" / "bin" / "helm"


class Refused(Exception):
    """What the chart says of values that it does not take."""


def load_all(text):
    return [document for document in yaml.load_all(text, Loader=yaml.CSafeLoader) if document]


@dataclass(frozen=True)
class Manifests:
    """What one rendering gave, in the order in which an install creates it, hooks last."""

    text: str
    objects: list

    def all(self, kind):
        return [found for found in self.objects if found["kind"] == kind]

    def one(self, kind, name=None):
        found = [each for each in self.all(kind) if name in (None, each["metadata"]["name"])]
        assert len(found) == 1, f"{len(found)} {kind}s called {name or 'anything'}"
        return found[0]

    def pods(self):
        """The template of every pod, with the kind and name of what makes it."""
        for each in self.objects:
            owner = f"{each['kind']} {each['metadata']['name']}"
            match each["kind"]:
                case "Pod":
                    yield owner, each
                case "Deployment" | "StatefulSet" | "DaemonSet" | "Job":
                    yield owner, each["spec"]["template"]
                case "CronJob":
                    yield owner, each["spec"]["jobTemplate"]["spec"]["template"]


def ci_files():
    """The names of the values files that are tested: `ha` is ci/ha-values.yaml."""
    return sorted(path.name.removesuffix("-values.yaml") for path in CHART.glob("ci/*-values.yaml"))


def helm(command, values, sets, *arguments, options=()):
    """Runs Helm with a values file (a name in ci/, a path, or none) and KEY=VALUE settings."""
    line = [HELM, command, "--namespace", "fanfare"]
    if values:
        path = Path(values)
        line += ["--values", path if path.suffix else CHART / "ci" / f"{values}-values.yaml"]
    for each in sets:
        line += ["--set", each]
    done = subprocess.run([*line, *options, *arguments], cwd=TOP, capture_output=True, text=True, timeout=30)
    if done.returncode:
        raise Refused(done.stdout + done.stderr)
    return done.stdout


@functools.cache
def render(values=None, *sets, kube_version=None, upgrade=False):
    """The Manifests of the release `fanfare` in the namespace `fanfare`, or Refused."""
    options = []
    if kube_version:
        options += ["--kube-version", kube_version]
    if upgrade:
        options += ["--is-upgrade"]
    text = helm("template", values, sets, "fanfare", CHART, options=options)
    return Manifests(text, load_all(text))


def lint(values=None, *sets):
    """What `helm lint --strict` says, or Refused."""
    return helm("lint", values, sets, CHART, options=["--strict"])
