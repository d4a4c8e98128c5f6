import chart
import pytest


@pytest.fixture(scope="session")
def render():
    """chart.render: `render("ha", "replicaCount=5").one("Deployment")`."""
    return chart.render


def pytest_generate_tests(metafunc):
    """A test with an argument `ci` runs for every values file in ci/."""
    if "ci" in metafunc.fixturenames:
        metafunc.parametrize("ci", chart.ci_files())
