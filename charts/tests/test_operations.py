"""What docs/operations.md and its neighbours tell people to write, read and look at is there."""

import pathlib
import re

import pytest

TOP = pathlib.Path(__file__).resolve().parents[2]
GUIDES = ["docs/operations.md", "docs/proxies.md", "docs/capacity.md"]


def text_of(page):
    return (TOP / page).read_text(encoding="utf-8")


def blocks(page, language):
    return re.findall(rf"^```{language}\n(.*?)^```", text_of(page), re.DOTALL | re.MULTILINE)


def slug(heading):
    """As GitHub makes it."""
    return re.sub(r"[^\w -]", "", heading.strip().lower()).replace(" ", "-")


@pytest.mark.parametrize("number", range(len(blocks("docs/operations.md", "yaml"))))
def test_values_are_taken_by_the_chart(render, tmp_path, number):
    values = tmp_path / "values.yaml"
    values.write_text(blocks("docs/operations.md", "yaml")[number], encoding="utf-8")
    assert render(values).all("Deployment")


@pytest.mark.parametrize("page", GUIDES)
def test_links_lead_somewhere(page):
    broken = []
    for target in re.findall(r"\]\(([^)]+)\)", text_of(page)):
        file, _, anchor = target.partition("#")
        if "://" in target:
            continue
        path = (TOP / page).parent / file if file else TOP / page
        headings = re.findall(r"^#+ (.*)$", path.read_text(encoding="utf-8"), re.MULTILINE) if anchor else []
        if not path.exists() or (anchor and anchor not in map(slug, headings)):
            broken.append(target)
    assert broken == []


@pytest.mark.parametrize("page", GUIDES)
def test_metrics_exist(page):
    """Those of gateways are in docs/metrics.md, those of the prober in docs/cli.md."""
    known = set(re.findall(r"`(fanfare_\w+)`", text_of("docs/metrics.md") + text_of("docs/cli.md")))
    assert set(re.findall(r"\bfanfare_[a-z_]+", text_of(page))) - known == set()


def test_options_exist():
    """What looks like an option of a gateway is one, or a value of the chart."""
    options = set(re.findall(r"^### `([\w.]+)`$", text_of("docs/configuration.md"), re.MULTILINE))
    # Of a namespace, its name is left out.
    options |= {it.removeprefix("namespaces.NAME.") for it in options}
    values = set(re.findall(r"^\| `([\w.]+)`", text_of("charts/fanfare/README.md"), re.MULTILINE))
    sections = "http|auth|nats|redis|drain|limits|heartbeat|history|session|websocket|socketio|presence"
    named = re.findall(rf"`((?:{sections})\.[\w.]+)`", "".join(map(text_of, GUIDES)))
    assert set(named) - options - values == set()
