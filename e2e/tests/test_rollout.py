"""Gateways are replaced, or killed, under traffic. `make rollout` does it with 5,000 clients and the chart's parameters."""

import pytest

from harness import token, wait_until
from rollout import run
from rollout.site import Site
from socketio_client import Node

LOAD = run.Load(clients=300, rate=50, channels=10)
SETTINGS = {"drain.delay": "1s", "drain.duration": "3s", "drain.grace": "3s"}
GRACE = 12
# Clients of Socket.IO that begin with HTTP long polling, as they do by default.
PAGES = 12


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    site = Site(tmp_path_factory.mktemp("rollout"), SETTINGS)
    try:
        site.start()
        yield site
    finally:
        site.close()


@pytest.fixture
def pages(site):
    """Each in a channel of its own of those that are published to; all but a few change to WebSocket."""

    def opened(number):
        polls = {"transports": ["polling"]} if number < 3 else {}
        return node.open(site.balancer, auth={"token": token(f"page-{number}")}, **polls)

    with Node() as node:
        yield [page.connected() for page in map(opened, range(PAGES))]


def follow(pages, name):
    for number, page in enumerate(pages):
        page.subscribe(f"room:{name}-{number % LOAD.channels}")


def check_pages(pages, messages):
    """Each heard every message of its channel from some one on, once and in order, and was recovered each time."""
    for number, page in enumerate(pages):
        # The channels take turns.
        last = len(range(number % LOAD.channels, messages, LOAD.channels)) - 1
        wait_until(lambda page=page, last=last: last in heard(page), f"page {number} hears message {last}")
        numbers = heard(page)
        assert numbers == list(range(numbers[0], last + 1))
        came = [it for it in happened(page) if it[0] == "connect"]
        assert came and all(recovered for _, _, _, recovered in came), came


def happened(page):
    return list(page.aside) + list(page.inbox.queue)


def heard(page):
    """The numbers of its messages."""
    return [int(it[2][19:31], 16) for it in happened(page) if it[:2] == ["event", "message"]]


def test_nobody_misses_anything_when_every_gateway_is_replaced(site, pages):
    follow(pages, "replaced")
    found, drains = run.replace(site, LOAD, also=PAGES)
    run.check_replaced(found, drains, SETTINGS, GRACE, slack=2)
    check_pages(pages, found["messages"])


def test_nobody_misses_anything_when_every_gateway_is_killed(site, pages):
    follow(pages, "killed")
    found, kills = run.kill(site, LOAD, also=PAGES)
    run.check_killed(found, kills)
    check_pages(pages, found["messages"])
