"""What Helm itself says of the chart."""

import pytest
from chart import Refused, lint


def test_a_cluster_that_is_too_old_is_refused(render):
    with pytest.raises(Refused, match="incompatible with Kubernetes v1.29.0"):
        render("minimal", kube_version="1.29.0")
    assert render("minimal", kube_version="1.30.0").objects


def test_values_files_lint(ci):
    assert "0 chart(s) failed" in lint(ci)
