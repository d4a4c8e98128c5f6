"""The manifests of k8s/ are the chart's, and kustomize makes of them what the chart makes."""

import base64
import re
import shutil
import subprocess

import plain
import pytest
from chart import TOP, load_all
from golden import UPDATE
from restricted import escapes
from schemas import NEWEST, OLDEST, problem


@pytest.fixture(scope="module")
def kustomize():
    """What builds a directory, as objects by kind and name."""
    if shutil.which("kustomize"):
        command = ["kustomize", "build"]
    elif shutil.which("kubectl"):
        command = ["kubectl", "kustomize"]
    else:
        pytest.skip("THE OVERLAYS WERE NOT BUILT: NEITHER KUSTOMIZE NOR KUBECTL IS HERE")

    def build(directory):
        text = subprocess.check_output([*command, plain.K8S / directory], text=True, timeout=30)
        return {plain.key(each): each for each in load_all(text)}

    return build


def test_the_manifests_are_made_of_the_chart():
    if UPDATE:
        plain.write()
    made = plain.files()
    committed = {str(path.relative_to(plain.K8S)) for folder in ("base", "overlays") for path in (plain.K8S / folder).rglob("*.yaml")}
    assert committed == set(made)
    stale = [path for path, text in made.items() if (plain.K8S / path).read_text() != text]
    assert not stale, "scripts/k8s.sh makes them anew"


@pytest.mark.parametrize("directory, values", [("base", ("base",)), *(
    (f"overlays/{name}", ("base", name)) for name in plain.OVERLAYS)])
def test_kustomize_makes_what_the_chart_makes(kustomize, directory, values):
    built = kustomize(directory)
    assert built.pop(("Namespace", "fanfare"))
    assert built == {plain.key(each): each for each in plain.objects(*values)}
    for each in built.values():
        assert [problem(version, each) for version in (OLDEST, NEWEST)] == [None, None]
        if template := each.get("spec", {}).get("template"):
            assert list(escapes(template)) == []


def test_the_secrets_are_those_that_the_chart_would_make(render):
    script = subprocess.check_output([plain.K8S / "secrets.sh"], cwd=TOP, text=True)
    given = {each["metadata"]["name"]: opened(each) for each in load_all(script)}
    made = {each["metadata"]["name"]: opened(each) for each in render(None).all("Secret")}
    assert {name: set(data) for name, data in given.items()} == {name: set(data) for name, data in made.items()}
    for secrets in (given, made):
        assert secrets["fanfare-valkey"]["password"] in secrets["fanfare-valkey"]["url"]
    assert shape(given["fanfare-valkey"]) == shape(made["fanfare-valkey"])


def opened(secret):
    return {name: base64.b64decode(value).decode() for name, value in secret["data"].items()}


def shape(data):
    """Passwords and their sums are other ones each time."""
    return {name: re.sub(r"\w{32,}", "…", value) for name, value in data.items()}
