"""The checker on hand-made histories: each rule once kept and once broken."""

import copy

import pytest

from chaos.checker import check
from chaos.report import details, sentence

NAMESPACES = {
    "plain": {"tier": "plain"},
    "kept": {"tier": "history", "size": 10, "ttl": 600},
    "user": {"tier": "queue"},
}
SECOND = 1_000_000_000


class Log:
    """Writes a history, one event each 10 ms. A place is an offset in epoch `e`, or (epoch, offset)."""

    def __init__(self, publishers=(), readers=()):
        self.t, self.events, self.connections = 0, [], {}
        run = {"namespaces": NAMESPACES, "dedupe_window": 120, "liveness": 10}
        self.add("run", "info", **run, publishers=publishers, readers=readers)

    def add(self, f, type, **members):
        self.t += SECOND // 100
        self.events.append({"t": self.t, "f": f, "type": type} | members)
        return self

    def after(self, seconds):
        self.t += int(seconds * SECOND)
        return self

    def invoke(self, chan, pseq, pub="p", **members):
        return self.add("publish", "invoke", chan=chan, pub=pub, pseq=pseq, id=f"{pub}-{chan}-{pseq}", **members)

    def answer(self, type, chan, pseq, place=None, pub="p", **members):
        return self.add("publish", type, id=f"{pub}-{chan}-{pseq}", **at(place), **members)

    def publish(self, chan, *pseqs, places=None, pub="p"):
        for index, pseq in enumerate(pseqs):
            self.invoke(chan, pseq, pub)
            self.answer("ok", chan, pseq, places and places[index], pub)
        return self

    def connect(self, proc="r"):
        conn = f"{proc}{sum(f == proc for f in self.connections.values())}"
        self.connections[conn] = proc
        self.current = conn
        return self.add("connect", "ok", proc=proc, conn=conn)

    def subscribe(self, chan, place=None, asked=None, proc="r", **members):
        self.connect(proc)
        wanted = {f"asked_{name}": value for name, value in at(asked).items()}
        return self.add("subscribe", "ok", proc=proc, conn=self.current, chan=chan, **at(place), **wanted, **members)

    def receive(self, chan, *pseqs, places=None, proc="r", pub="p", **members):
        for index, pseq in enumerate(pseqs):
            place = at(places and places[index])
            id = f"{pub}-{chan}-{pseq}"
            self.add("receive", "ok", proc=proc, conn=self.conn(proc), chan=chan, id=id, **place, **members)
        return self

    def tell(self, f, proc="r", **members):
        return self.add(f, "info", proc=proc, conn=self.conn(proc), **members)

    def conn(self, proc):
        return [conn for conn, of in self.connections.items() if of == proc][-1]

    def fault(self, kind="nats-kill", seconds=1):
        self.add("fault", "invoke", kind=kind, target="nats-1").after(seconds)
        return self.add("fault", "ok", kind=kind, target="nats-1")

    def broken(self):
        """The rules that this history breaks, but for I12, which wants whole runs."""
        self.add("heal", "info").add("end", "info")
        _, findings = check(copy.deepcopy(self.events))
        return findings.rules - {"I12"}


def at(place):
    if place is None:
        return {}
    epoch, offset = place if isinstance(place, tuple) else ("e", place)
    return {"epoch": epoch, "off": offset}


def kept(*received, published=(1, 2, 3, 4)):
    """A reader of `kept:1` that was given these, each at its own number."""
    log = Log().subscribe("kept:1", place=0).publish("kept:1", *published, places=published)
    return log.receive("kept:1", *received, places=received)


def plain(*received, published=(1, 2, 3, 4)):
    return Log().subscribe("plain:1").publish("plain:1", *published).receive("plain:1", *received)


def resumed(*replayed, **answer):
    """A reader of `kept:1` got 1, was away for 2 and 3, and resumed."""
    log = Log().subscribe("kept:1", place=0).publish("kept:1", 1, places=[1]).receive("kept:1", 1, places=[1])
    log.tell("disconnect", code=1006).publish("kept:1", 2, 3, places=[2, 3])
    log.subscribe("kept:1", asked=1, **({"place": 3, "recovered": True, "replayed": 2} | answer))
    return log.receive("kept:1", *replayed, places=replayed)


class TestI1Lost:
    def test_all_arrived(self):
        assert kept(1, 2, 3, 4).broken() == set()
        assert plain(1, 2, 3, 4).broken() == set()

    @pytest.mark.parametrize("received", [(2, 3, 4), (1, 3, 4), (1, 2, 3)])
    def test_one_is_missing(self, received):
        assert kept(*received).broken() == {"I1"}
        assert plain(*received).broken() == {"I1"}

    def test_what_came_before_the_subscription_is_not_owed(self):
        log = Log().publish("kept:1", 1, places=[1]).subscribe("kept:1", place=1)
        assert log.publish("kept:1", 2, places=[2]).receive("kept:1", 2, places=[2]).broken() == set()

    def test_what_comes_after_the_end_of_a_plain_connection_is_not_owed(self):
        log = plain(1, 2, published=(1, 2, 3)).tell("disconnect", code=1006)
        assert log.publish("plain:1", 4).broken() == set()

    def test_a_gap_excuses_what_is_missing_around_it(self):
        log = plain(1, published=(1, 2, 3)).tell("gap").receive("plain:1", 3)
        assert log.broken() == set()
        log = plain(1, published=(1, 2, 3)).tell("gap").receive("plain:1", 3).publish("plain:1", 4, 5)
        assert log.receive("plain:1", 5).broken() == {"I1"}

    def test_plain_messages_may_go_missing_when_nats_fails_but_not_otherwise(self):
        log = Log().subscribe("plain:1").fault().publish("plain:1", 1, 2).receive("plain:1", 2)
        assert log.broken() == set()
        log = Log().subscribe("plain:1").fault().after(60).publish("plain:1", 1, 2).receive("plain:1", 2)
        assert log.broken() == {"I1"}
        log = Log().subscribe("plain:1").fault("nats-cut").publish("plain:1", 1, 2).receive("plain:1", 2)
        assert log.broken() == {"I1"}

    def test_it_was_acknowledged_but_never_stored(self):
        log = Log().subscribe("kept:1", place=0).invoke("kept:1", 1).answer("ok", "kept:1", 1)
        assert log.broken() == {"I1"}

    def test_recovery_must_not_be_refused_within_the_window(self):
        assert resumed(recovered=False, replayed=None).broken() == {"I1"}

    def test_recovery_may_be_refused_beyond_the_window(self):
        log = Log().subscribe("kept:1", place=0).publish("kept:1", 1, places=[1]).receive("kept:1", 1, places=[1])
        numbers = list(range(2, 14))
        log.tell("disconnect", code=1006).publish("kept:1", *numbers, places=numbers)
        assert log.subscribe("kept:1", place=13, asked=1, recovered=False).broken() == set()

    def test_recovery_may_be_refused_when_the_store_is_a_new_one(self):
        assert resumed(recovered=False, place=("e2", 0), replayed=None).broken() == set()


class TestI2Phantom:
    def test_a_message_with_an_unknown_outcome_may_arrive(self):
        log = Log().subscribe("plain:1").invoke("plain:1", 1).answer("info", "plain:1", 1, code="unknown")
        assert log.receive("plain:1", 1).broken() == set()

    def test_nobody_published_it(self):
        assert plain(1, 2, published=(1,)).broken() == {"I2"}

    def test_it_was_refused(self):
        log = Log().subscribe("plain:1").invoke("plain:1", 1).answer("fail", "plain:1", 1, code="unavailable")
        assert log.receive("plain:1", 1).broken() == {"I2"}

    def test_it_is_damaged(self):
        log = Log().subscribe("plain:1").publish("plain:1", 1)
        assert log.receive("plain:1", 1, intact=False).broken() == {"I2"}

    def test_it_came_on_another_channel(self):
        log = Log().subscribe("plain:1").publish("plain:2", 1).invoke("plain:1", 1)
        event = log.receive("plain:1", 1).events[-1]
        event["id"] = "p-plain:2-1"
        assert log.broken() == {"I2"}


class TestI3Duplicate:
    def test_a_repetition_that_was_absorbed_is_none(self):
        log = Log().subscribe("kept:1", place=0).invoke("kept:1", 1).answer("info", "kept:1", 1).invoke("kept:1", 1)
        assert log.answer("ok", "kept:1", 1, 1, dup=True).receive("kept:1", 1, places=[1]).broken() == set()

    def test_it_comes_twice(self):
        assert kept(1, 2, 2, 3, 4).broken() == {"I3"}
        assert plain(1, 2, 2, 3, 4).broken() == {"I3"}

    def test_without_history_a_retry_may_come_twice(self):
        log = Log().subscribe("plain:1").invoke("plain:1", 1).answer("info", "plain:1", 1).publish("plain:1", 1)
        assert log.receive("plain:1", 1, 1).broken() == set()

    def test_a_retry_is_stored_twice(self):
        log = Log().invoke("kept:1", 1).answer("info", "kept:1", 1).invoke("kept:1", 1)
        log.answer("ok", "kept:1", 1, 2).subscribe("kept:1", place=0)
        assert log.receive("kept:1", 1, 1, places=[1, 2]).broken() == {"I3"}

    def test_an_unacknowledged_message_of_a_queue_may_come_again(self):
        log = Log().connect().publish("user:1", 1, places=[1])
        assert log.receive("user:1", 1, 1, places=[1, 1]).broken() == set()


class TestI4Order:
    def test_a_publisher_is_overtaken(self):
        assert plain(1, 3, 2, 4).broken() == {"I4"}

    def test_two_publishers_have_no_order(self):
        log = Log().subscribe("plain:1").publish("plain:1", 1, pub="a").publish("plain:1", 1, pub="b")
        assert log.receive("plain:1", 1, pub="b").receive("plain:1", 1, pub="a").broken() == set()

    def test_a_channel_goes_backwards(self):
        log = Log().subscribe("kept:1", place=0)
        log.publish("kept:1", 1, places=[1], pub="a").publish("kept:1", 1, places=[2], pub="b")
        log.receive("kept:1", 1, places=[2], pub="b").receive("kept:1", 1, places=[1], pub="a")
        assert log.broken() == {"I4"}

    def test_what_was_sent_before_a_failure_was_known_may_overtake_the_retry(self):
        log = Log().subscribe("plain:1").invoke("plain:1", 1).invoke("plain:1", 2).answer("info", "plain:1", 1)
        log.answer("ok", "plain:1", 2).receive("plain:1", 2).publish("plain:1", 1)
        assert log.receive("plain:1", 1).broken() == set()

    @pytest.mark.parametrize(("conns", "broken"), [(("a", "b"), set()), (("a", "a"), {"I4"})])
    def test_without_history_a_hung_server_may_swap_what_came_by_two_ways(self, conns, broken):
        log = Log().subscribe("plain:1").fault("nats-pause")
        for pseq, conn in enumerate(conns, start=1):
            log.invoke("plain:1", pseq, conn=conn).answer("ok", "plain:1", pseq)
        assert log.receive("plain:1", 2, 1).broken() == broken

    def test_without_history_the_first_attempt_may_arrive_after_the_last(self):
        log = Log().invoke("plain:1", 1).answer("info", "plain:1", 1).publish("plain:1", 1).subscribe("plain:1")
        log.publish("plain:1", 2).receive("plain:1", 2, 1)
        assert log.broken() == set()
        log = Log().invoke("kept:1", 1).answer("info", "kept:1", 1).subscribe("kept:1", place=0)
        log.publish("kept:1", 1, 2, places=[1, 2])
        assert "I4" in log.receive("kept:1", 2, 1, places=[2, 1]).broken()


def test_i5_an_offset_means_two_messages():
    log = Log().publish("kept:1", 1, 2, places=[1, 2])
    log.subscribe("kept:1", place=0)
    assert log.receive("kept:1", 1, 2, places=[1, 2]).broken() == set()
    log = Log().publish("kept:1", 1, 2, places=[1, 2])
    log.subscribe("kept:1", place=0, proc="other")
    log.add("receive", "ok", proc="other", conn="other0", chan="kept:1", id="p-kept:1-2", **at(1))
    assert "I5" in log.broken()


def test_i6_what_another_reader_got_is_missing():
    def two_readers(second):
        log = Log().subscribe("kept:1", place=0).subscribe("kept:1", place=0, proc="s")
        log.publish("kept:1", 1, places=[1]).invoke("kept:1", 2).publish("kept:1", 3, places=[3])
        log.receive("kept:1", 1, 2, 3, places=[1, 2, 3])
        return log.receive("kept:1", *second, places=second, proc="s")

    assert two_readers([1, 2, 3]).broken() == set()
    assert two_readers([1, 3]).broken() == {"I6"}


class TestI7Recovery:
    def test_everything_is_replayed(self):
        assert resumed(2, 3).broken() == set()

    def test_one_of_those_replayed_is_left_out(self):
        assert resumed(3, replayed=1).broken() == {"I1", "I7"}

    def test_the_end_is_left_out(self):
        assert resumed(2, replayed=1).broken() == {"I1"}


class TestI8Epoch:
    def test_the_store_lost_its_tail_and_says_so(self):
        log = kept(1, 2, published=(1, 2)).tell("gap", chan="kept:1")
        log.publish("kept:1", 3, places=[("e2", 1)]).receive("kept:1", 3, places=[("e2", 1)])
        assert log.broken() == set()

    def test_offsets_are_handed_out_again(self):
        log = Log().publish("kept:1", 1, 2, places=[1, 2])
        assert log.publish("kept:1", 3, places=[1]).broken() == {"I5", "I8"}
        log = Log().publish("kept:1", 1, 2, places=[3, 4])
        assert log.publish("kept:1", 3, places=[2]).broken() == {"I8"}

    def test_a_gap_of_all_channels_says_nothing_of_those_with_history(self):
        assert kept(1, published=(1, 2, 3)).tell("gap").receive("kept:1", 3, places=[3]).broken() == {"I1"}
        log = kept(1, published=(1, 2, 3)).tell("gap", chan="kept:1").receive("kept:1", 3, places=[3])
        assert log.broken() == set()

    def test_the_epoch_changes_in_silence(self):
        log = kept(1, 2, published=(1, 2)).publish("kept:1", 3, places=[("e2", 1)])
        assert log.receive("kept:1", 3, places=[("e2", 1)]).broken() == {"I8"}


class TestI9Queue:
    def test_what_one_connection_did_not_get_another_did(self):
        log = Log().connect().publish("user:1", 1, 2, places=[1, 2]).receive("user:1", 1, places=[1])
        assert log.connect("s").receive("user:1", 2, places=[2], proc="s").broken() == set()

    def test_what_was_evicted_is_told(self):
        log = Log().publish("user:1", 1, 2, 3, places=[1, 2, 3]).connect().tell("evicted", chan="user:1", count=2)
        assert log.receive("user:1", 3, places=[3]).broken() == set()

    def test_one_never_comes(self):
        log = Log().connect().publish("user:1", 1, 2, places=[1, 2])
        assert log.receive("user:1", 2, places=[2]).broken() == {"I1", "I9"}


class TestI10Presence:
    def listed(self, *conns):
        return Log().connect("r").connect("s").tell("disconnect", "s").add("presence", "ok", listed=conns)

    def test_those_who_are_there(self):
        assert self.listed("r0").broken() == set()

    @pytest.mark.parametrize("conns", [["r0", "s0"], []], ids=["ghost", "missing"])
    def test_those_who_are_not(self, conns):
        assert self.listed(*conns).broken() == {"I10"}


class TestABackupTakesThePlaceOfTheStore:
    """What was acknowledged during the fault may be gone, numbers begin anew, and that is told."""

    def restored(self, kind="nats-rollback", durable=True):
        log = Log().subscribe("kept:1", place=0)
        log.events[0]["durable"] = durable
        log.publish("kept:1", 1, places=[1]).receive("kept:1", 1, places=[1])
        log.add("fault", "invoke", kind=kind, target="all").publish("kept:1", 2, places=[2])
        return log.add("fault", "ok", kind=kind, target="all").tell("gap", chan="kept:1", reason="lost")

    def test_it_begins_another_epoch(self):
        log = self.restored().publish("kept:1", 3, places=[("f", 2)])
        assert log.receive("kept:1", 3, places=[("f", 2)]).broken() == set()

    @pytest.mark.parametrize(("durable", "broken"), [(True, {"I8"}), (False, set())])
    def test_no_other_fault_of_a_cluster_does(self, durable, broken):
        log = self.restored("nats-pause", durable).publish("kept:1", 3, places=[("f", 3)])
        assert log.receive("kept:1", 3, places=[("f", 3)]).broken() == broken

    @pytest.mark.parametrize(("epoch", "broken"), [("f", set()), ("e", {"I3", "I5"})])
    def test_a_retry_is_new_to_it(self, epoch, broken):
        log = self.restored().invoke("kept:1", 1).answer("ok", "kept:1", 1, (epoch, 2))
        assert log.receive("kept:1", 1, places=[(epoch, 2)]).broken() == broken

    @pytest.mark.parametrize(("kind", "broken"), [("nats-rollback", set()), ("nats-kill", {"I1", "I9"})])
    def test_a_queue_may_have_lost_what_was_acknowledged(self, kind, broken):
        log = Log().subscribe("user:1").add("fault", "invoke", kind=kind, target="all")
        log.publish("user:1", 1, places=[1]).add("fault", "ok", kind=kind, target="all")
        assert log.broken() == broken

    @pytest.mark.parametrize(("epoch", "broken"), [("f", set()), ("e", {"I4"})])
    def test_a_queue_gives_old_messages_again(self, epoch, broken):
        log = Log().subscribe("user:1").publish("user:1", 1, 2, places=[1, 2]).fault("nats-rollback")
        log.receive("user:1", 2, places=[2]).receive("user:1", 1, places=[(epoch, 1)])
        assert log.broken() == broken


@pytest.mark.parametrize(("after", "broken"), [(1, set()), (3, {"I11"})])
def test_i11_nothing_comes_after_access_was_revoked(after, broken):
    log = Log().subscribe("plain:1").tell("revoke", grace=2).after(after)
    assert log.publish("plain:1", 1).receive("plain:1", 1).broken() == broken


class TestI12Liveness:
    def run(self, publish=True, receive=True, late=0.0):
        log = Log(publishers=[["p", "plain:1"]], readers=[["r", "plain:1"]])
        log.subscribe("plain:1").fault().after(60).add("heal", "info").after(late)
        if publish:
            log.publish("plain:1", 1)
        if receive:
            log.receive("plain:1", 1)
        return check(log.add("end", "info").events)

    def test_all_works_again(self):
        history, findings = self.run()
        assert not findings.violations
        said = sentence(history, findings, "v1")
        assert said.startswith("v1: 1 faults of 1 kinds, 1 acknowledged, 0 lost, 0 phantom, 0 duplicated")
        assert "BROKEN" not in details(history, findings)

    @pytest.mark.parametrize("problem", [{"publish": False, "receive": False}, {"receive": False}, {"late": 11}])
    def test_something_does_not(self, problem):
        history, findings = self.run(**problem)
        assert "I12" in findings.rules
        assert "BROKEN I12" in details(history, findings)

    def test_a_run_without_an_end_proves_nothing(self):
        _, findings = check(Log().publish("plain:1", 1).events)
        assert findings.rules == {"I12"}


def test_a_long_history_is_checked_in_seconds():
    numbers = range(1, 50_001)
    log = Log().subscribe("kept:1", place=0).subscribe("kept:1", place=0, proc="s")
    log.publish("kept:1", *numbers, places=numbers)
    for proc in "rs":
        log.receive("kept:1", *numbers, places=numbers, proc=proc)
    assert log.broken() == set()
