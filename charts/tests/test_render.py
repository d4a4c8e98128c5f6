"""The renderer of the tests beside the real Helm, where there is one."""

import re
import shutil
import subprocess

import pytest
from chart import CHART, TOP, Refused, helm, load_all

HELM = shutil.which("helm")


@pytest.fixture(scope="module")
def helm4():
    if HELM and re.match(r"v?4\.", version := subprocess.check_output([HELM, "version", "--template={{.Version}}"], text=True)):
        return version
    pytest.skip("HELM ITSELF WAS NOT RUN: NO HELM 4 HERE, ONLY ITS ENGINE")


def test_helm_renders_the_same(render, helm4, ci):
    if render(ci).all("Secret"):
        pytest.skip("its secrets are random")
    values = CHART / "ci" / f"{ci}-values.yaml"
    command = [HELM, "template", "fanfare", CHART, "--namespace", "fanfare", "--values", values]
    assert load_all(subprocess.check_output(command, cwd=TOP, text=True)) == render(ci).objects


def test_a_cluster_that_is_too_old_is_refused(render):
    with pytest.raises(Refused, match="incompatible with Kubernetes v1.29.0"):
        render("minimal", kube_version="1.29.0")
    assert render("minimal", kube_version="1.30.0").objects


def test_values_files_lint(ci):
    assert "[ERROR]" not in helm("lint", ci, (), CHART)
