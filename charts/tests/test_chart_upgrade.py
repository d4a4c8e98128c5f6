"""What the chart makes where the cluster can be asked what is there."""

import chart
import pytest
from cluster import cluster


def replicas(render, values, *sets, there=()):
    """How many gateways the Deployment asks for in a cluster that has the objects `there`."""
    with cluster(render(values, *sets).objects, there) as url:
        server = ["--dry-run=server", "--disable-openapi-validation", "--kube-apiserver", url, "--kubeconfig", "/dev/null"]
        text = chart.helm("template", values, sets, "fanfare", chart.CHART, options=server)
    return chart.Manifests(text, chart.load_all(text)).one("Deployment", "fanfare")["spec"].get("replicas")


def running(render, count):
    deployment = render("ha").one("Deployment", "fanfare")
    return deployment | {"spec": deployment["spec"] | {"replicas": count}}


@pytest.mark.parametrize("values", ["ha", "keda"])
def test_an_upgrade_leaves_what_is_scaled(render, values):
    assert replicas(render, values, there=[running(render, 7)]) == 7
    assert replicas(render, values, there=[running(render, 0)]) == 0


def test_an_install_leaves_it_to_the_autoscaler(render):
    assert replicas(render, "ha") is None


def test_without_an_autoscaler_values_count(render):
    assert replicas(render, "minimal", there=[running(render, 7)]) == 1
