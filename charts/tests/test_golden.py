"""What a change of the chart changes in clusters is seen in its diff, and can be upgraded to.

`UPDATE_GOLDEN=1 make charts` writes golden/ and k8s/ anew. With each release of the chart, and only then,
`UPDATE_RELEASED=1` writes released.yaml: what the next release must leave as it is.
"""

import copy
import difflib
import os
import shutil

import pytest
import yaml
from chart import CHART, ci_files, helm, load_all
from golden import GOLDEN, RELEASED, UPDATE, dump, fixed, picture


def test_manifests_are_as_committed(render, ci):
    now, path = picture(render(ci).objects), GOLDEN / f"{ci}.yaml"
    if UPDATE:
        path.write_text(now)
    was = path.read_text() if path.exists() else ""
    changes = "\n".join(difflib.unified_diff(was.splitlines(), now.splitlines(), str(path.name), "now", lineterm=""))
    assert not changes, f"{changes}\n\nis that wanted? UPDATE_GOLDEN=1 make charts"


def test_every_picture_has_its_values():
    assert sorted(path.stem for path in GOLDEN.glob("*.yaml")) == ci_files()


def test_a_release_can_be_upgraded(render):
    now = {ci: fixed(render(ci).objects) for ci in ci_files()}
    if "UPDATE_RELEASED" in os.environ:
        version = yaml.safe_load((CHART / "Chart.yaml").read_text())["version"]
        RELEASED.write_text(f"# What clusters have: see test_golden.py.\n{dump({'version': version, 'fixed': now})}")
    released = yaml.safe_load(RELEASED.read_text())["fixed"]
    assert list(changed(released, now)) == []


def changed(before, after):
    """The objects of which a field differs that cannot be changed. New and removed ones are well."""
    for ci in before.keys() & after.keys():
        for name in before[ci].keys() & after[ci].keys():
            if before[ci][name] != after[ci][name]:
                yield ci, name, before[ci][name], after[ci][name]


def test_a_new_version_changes_no_fixed_field(render, tmp_path):
    """The version is in labels, and labels get everywhere."""
    shutil.copytree(CHART, tmp_path / "fanfare")
    about = tmp_path / "fanfare" / "Chart.yaml"
    data = yaml.safe_load(about.read_text()) | {"version": "99.0.0", "appVersion": "99.0.0"}
    about.write_text(yaml.safe_dump(data))
    later = load_all(helm("template", "ha", (), "fanfare", tmp_path / "fanfare", options=["--is-upgrade"]))
    assert list(changed({"ha": fixed(render("ha").objects)}, {"ha": fixed(later)})) == []
    replaced = {each["metadata"]["name"] for each in later if each["kind"] == "StatefulSet"
                and "99.0.0" in dump(each["spec"]["template"]["metadata"])}
    assert not replaced, "servers would be restarted for nothing"


@pytest.mark.parametrize("kind, path, value", [
    ("StatefulSet", ("spec", "volumeClaimTemplates", 0, "spec", "resources", "requests", "storage"), "1Ti"),
    ("StatefulSet", ("spec", "serviceName"), "another"),
    ("Deployment", ("spec", "selector", "matchLabels", "app.kubernetes.io/name"), "another"),
])
def test_fixed_fields_are_compared(render, kind, path, value):
    before = render("ha").objects
    after = copy.deepcopy(before)
    place = next(each for each in after if each["kind"] == kind)
    for part in path[:-1]:
        place = place[part]
    place[path[-1]] = value
    assert len(list(changed({"ha": fixed(before)}, {"ha": fixed(after)}))) == 1
