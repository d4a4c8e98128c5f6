"""What Prometheus scrapes."""

import re

import pytest
from prometheus_client.parser import text_string_to_metric_families

from api import http
from client import Client
from harness import TOP, free_port, token

DOCUMENTED = re.compile(r"^\| `(fanfare_\w+)`", re.MULTILINE)

WEBHOOK = {
    "webhooks.billing.addresses": '["billing:*"]',
    "webhooks.billing.url": "http://127.0.0.1:9",
    "webhooks.billing.unsigned": "true",
}


def scrape(gateway):
    answer = http("GET", f"{gateway.admin_url}/metrics")
    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
    return list(text_string_to_metric_families(answer.body.decode()))


def value(families, name, **labels):
    samples = [it for family in families for it in family.samples if it.name == name]
    return sum(it.value for it in samples if labels.items() <= it.labels.items())


def full_name(family):
    """The parser takes the end off the name of a counter."""
    return family.name + "_total" if family.type == "counter" else family.name


@pytest.fixture(params=["embedded", "cluster"])
def busy(request, start_gateway, start_cluster):
    """A gateway that has seen some of everything, from many users on many channels."""
    settings = {"telemetry.otlp_endpoint": f"http://127.0.0.1:{free_port()}"} | WEBHOOK
    is_embedded = request.param == "embedded"
    gateway = start_gateway(settings=settings) if is_embedded else start_cluster(1, settings).first
    for number in range(60):
        with Client(gateway.websocket_url, token(f"user-{number}", role=f"role-{number}")) as client:
            client.subscribe(f"chat:room-{number}")
            client.ask("publish", channel=f"chat:room-{number}", event=f"event-{number}", data=1)
            client.expect("message")
            client.refused("subscribe", channel=f"ns{number}:1")
            client.send_text("oops")
            client.send({"type": f"command-{number}"})
    with Client(gateway.websocket_url) as client:
        client.refused("connect", token="nonsense")
    http("GET", f"{gateway.url}/v1/nonsense")
    return gateway


def test_series_are_few_and_name_nobody(busy):
    families = scrape(busy)
    samples = [sample for family in families for sample in family.samples]
    assert len(samples) <= 500
    labels = {text for sample in samples for text in sample.labels.values()}
    foreign = [text for text in labels if re.search(r"(user|role|room|event|command|ns)-?\d", text)]
    assert not foreign
    assert all(family.documentation for family in families)


def test_figures_are_true(busy):
    families = scrape(busy)
    assert value(families, "fanfare_connections") == 0
    assert value(families, "fanfare_connections_opened_total", transport="websocket") == 61
    assert value(families, "fanfare_messages_out_total", channel_namespace="chat") == 60
    assert value(families, "fanfare_errors_total", code="unknown_namespace") == 60
    assert value(families, "fanfare_commands_total", command="publish") == 60
    assert value(families, "fanfare_delivery_latency_seconds_count") >= 60


def test_the_documentation_lists_what_is_scraped(busy):
    documented = DOCUMENTED.findall((TOP / "docs" / "metrics.md").read_text())
    assert len(documented) == len(set(documented))
    scraped = {full_name(family) for family in scrape(busy) if not family.name.startswith("process_")}
    assert scraped - set(documented) == set(), "scraped, but not in docs/metrics.md"
    assert set(documented) - scraped == set(), "in docs/metrics.md, but not scraped"
