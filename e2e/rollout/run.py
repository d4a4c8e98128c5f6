"""The two ways in which gateways go: told to, one after the other, or killed."""

import dataclasses
import math
import time

from harness import wait_until

from .site import GATEWAYS, Clients, Sampler, scrape, value


@dataclasses.dataclass(frozen=True)
class Load:
    clients: int
    # Messages per second, over all channels.
    rate: float
    channels: int


@dataclasses.dataclass(frozen=True)
class Drain:
    """One gateway's."""

    gateway: str
    connections: int
    # From SIGTERM to the end of the process.
    seconds: float
    exit_code: int
    # Handshakes per second, at all gateways, while it lasted.
    handshakes: float

    def pace(self, duration):
        """How many a second it sends away: a few connections go sooner."""
        return max(self.connections / duration, 10)


@dataclasses.dataclass(frozen=True)
class Kill:
    gateway: str
    connections: int
    # Until as many as before were connected to the others.
    back: float


def replace(site, load, also=0):
    """Each by a new one, which is in balance before the old one is told to go. What the clients saw, and the drains.

    `also` are other clients, which are to be back as well.
    """
    drains = []
    with Sampler(site) as sampler, Clients(site, "replaced", load) as clients:
        for old, new in zip(site.gateways[:GATEWAYS], site.gateways[GATEWAYS:], strict=True):
            site.begin(new)
            site.wait_until_in_balance(new)
            connections = int(value(scrape(old), "fanfare_connections"))
            begun = time.monotonic()
            old.terminate()
            code = old.wait(180)
            ended = time.monotonic()
            wait_until(lambda: site.connections() == load.clients + also, "everybody is back", 30)
            drains.append(Drain(old.name, connections, ended - begun, code, sampler.peak(begun + 1, time.monotonic())))
    return clients.found | recoveries(sampler), drains


def kill(site, load, also=0):
    """Each without warning; the same one starts anew, as a container does."""
    kills = []
    with Sampler(site) as sampler, Clients(site, "killed", load) as clients:
        for gateway in site.running():
            connections = int(value(scrape(gateway), "fanfare_connections"))
            begun = time.monotonic()
            gateway.kill()
            site.begin(gateway)
            wait_until(lambda: site.connections() == load.clients + also, "everybody is back", 60)
            kills.append(Kill(gateway.name, connections, time.monotonic() - begun))
            site.wait_until_in_balance(gateway)
    return clients.found | recoveries(sampler), kills


def recoveries(sampler):
    """What became of those who came back, as the gateways count it."""
    return {
        "native recoveries": sampler.counted("fanfare_recoveries_total"),
        "Socket.IO recoveries": sampler.counted("fanfare_socketio_recoveries_total"),
    }


def check_clients(found):
    """Nobody missed, repeated or saw out of order anything; everybody recovered."""
    faults = ["lost", "duplicated", "reordered", "strays", "refused", "closed", "unrecovered"]
    assert {name: found[name] for name in faults} == dict.fromkeys(faults, 0), found
    assert found["recovered"] == found["disconnected"] > 0, found
    assert found["deliveries"] > 0, found


def check_replaced(found, drains, settings, grace, slack=1):
    """`slack`: on a busy machine, what is late comes together."""
    check_clients(found)
    assert found["close_codes"] == f"1012:{found['disconnected']}"
    paces = []
    for drain in drains:
        assert drain.exit_code == 0, drain
        assert drain.seconds <= grace, drain
        paces.append(drain.pace(seconds(settings["drain.duration"])))
        # Clients come back after a random time, so the same number scatters.
        assert 0 < drain.handshakes <= slack * scattered(paces[-1]), drain
    # Each goes at a random moment of its share of the time, and a few come late to the clients: into one second
    # comes some of its neighbours'. With 5,000 clients there were 32 at a pace of 28.
    assert found["ends_peak_per_second"] <= slack * max(paces) * 1.1 + 3, found
    assert found["handshakes_peak_per_second"] <= slack * scattered(max(paces)), found


def scattered(pace):
    """What so many events a second do not exceed in any second, where each comes when it likes."""
    return pace + 4 * math.sqrt(pace)


def check_killed(found, kills):
    check_clients(found)
    assert found["away_max_seconds"] <= 30, found
    assert all(it.back <= 30 for it in kills), kills


def seconds(text):
    return float(text.removesuffix("s"))
