"""The rules of the contract, checked on a history. Pure, and linear in the length of the log."""

import bisect
import collections

from . import segments
from .findings import Findings
from .history import SECOND, Disconnected, Evicted, Gap, History, Received, Subscribed, Tier

SERVERS_OF_NATS = {"nats-kill", "nats-pause", "nats-rollback", "disk-full"}
# How long around a fault of a NATS server a namespace without history may lose messages.
BEFORE, AFTER = 3 * SECOND, 8 * SECOND
# How long a gateway that was paused may take to look at what is due.
AWAKE = SECOND


def check(events):
    """The history of these events, and what is wrong with it."""
    history = History.of(events)
    findings = Findings()
    for rule, text in dict.fromkeys(history.oddities):
        findings.broken(rule, text)
    for rule in (publishes, phantoms, epochs, streams, queues, presence, revocations, liveness):
        rule(history, findings)
    return history, findings


def publishes(history, findings):
    """Figures of the publishers' side; I1, where nobody ever saw the message, and I3: one id stored twice."""
    window = history.run["dedupe_window"]
    findings.count("absorbed", history.absorbed)
    for message in history.messages.values():
        findings.count("retried", message.attempts > 1)
        if message.acked is None:
            findings.count("unknown" if message.may_exist else "refused")
        else:
            findings.count("acked")
            stall = (message.acked - message.invoked) / SECOND
            findings.counts["stall"] = max(findings.counts["stall"], stall)
        if message.acked and not message.places and history.tier(message.chan) is Tier.HISTORY:
            findings.broken("I1", f"{message.id} was acknowledged as stored, and nobody knows where")
        # The same message has another place in each epoch of a log that was restored.
        by_epoch = collections.Counter(epoch for epoch, _ in message.places)
        if max(by_epoch.values(), default=0) > 1 and message.span < window:
            findings.broken("I3", f"{message.id} was stored {len(message.places)} times: {sorted(message.places)}")


def phantoms(history, findings):
    """I2."""
    for (proc, chan), stream in history.streams.items():
        for entry in stream:
            if not isinstance(entry, Received):
                continue
            findings.count("delivered")
            message = history.messages.get(entry.id)
            if message is None or message.chan != chan:
                findings.broken("I2", f"{proc} got {entry.id} on {chan}, where nobody published it")
            elif not message.may_exist:
                findings.broken("I2", f"{proc} got {entry.id}, of which each attempt was refused")


def epochs(history, findings):
    """I8: a store that has lost nothing begins no epoch anew."""
    if not history.run.get("durable") or any(fault.kind == "nats-rollback" for fault in history.faults):
        return
    by_chan = collections.Counter(chan for chan, _ in history.stored)
    for chan, number in by_chan.items():
        if number > 1:
            findings.broken("I8", f"{chan} had {number} epochs, though nothing was lost")


def streams(history, findings):
    """I1, I3, I4, I6, I7 and I8, reader by reader."""
    known = {place: sorted(offsets) for place, offsets in history.stored.items()}
    published = acked_by_publisher(history)
    for (proc, chan), stream in history.streams.items():
        name, tier = f"{proc} on {chan}", history.tier(chan)
        findings.count("gaps", sum(isinstance(entry, Gap) for entry in stream))
        order(history, stream, name, tier, findings)
        match tier:
            case Tier.PLAIN:
                plain(history, stream, name, published[chan], findings)
            case Tier.HISTORY:
                kept(history, stream, name, chan, known, findings)


def order(history, stream, name, tier, findings):
    """I3 and I4: what was not seen before comes in order; what was, only where that is allowed."""
    seen, last, offsets, unread = {}, {}, {}, []
    for entry in stream:
        if isinstance(entry, Subscribed):
            # What waits is then given later than what comes live, or to the next connection.
            unread = [*unread[-1:], tier is Tier.QUEUE and redis_failed_around(history, entry.t)]
        if not isinstance(entry, Received) or entry.id not in history.messages:
            continue
        message, epoch = history.messages[entry.id], entry.place and entry.place[0]
        if entry.id in seen:
            # A store that lost it with the end of an epoch took a retry for new.
            anew = message.attempts > 1 and seen[entry.id] != epoch
            again(message, name, tier, anew, findings)
            seen[entry.id] = epoch
            continue
        seen[entry.id] = epoch
        before, log = last.get(message.pub, (None, None))
        if before and message.pseq < before.pseq:
            # A queue is given anew from a log that was restored.
            anew = tier is Tier.QUEUE and log != epoch
            if any(unread) or anew or may_come_late(history, message, before, tier):
                findings.count("late")
            else:
                findings.broken("I4", f"{name}: {message.id} came after {before.id}")
        if before is None or message.pseq > before.pseq:
            last[message.pub] = (message, epoch)
        if entry.place:
            epoch, offset = entry.place
            if offset < offsets.get(epoch, -1) and not any(unread):
                findings.broken("I4", f"{name}: offset {offset} came after {offsets[epoch]}")
            offsets[epoch] = max(offset, offsets.get(epoch, -1))


def may_come_late(history, message, before, tier):
    """Whether no promise puts it before the other.

    A retry may come after what was under way with it, which only a publisher that does not wait can see. Without history,
    each attempt may arrive, the first after the last, and a NATS server that hung may pass on late what came from others.
    """
    if tier is not Tier.PLAIN:
        return message.attempts > 1 and before.invoked < message.retried
    same_way = message.conn is not None and message.conn == before.conn
    return message.attempts > 1 or (not same_way and nats_failed_around(history, message))


def again(message, name, tier, anew, findings):
    match tier:
        case Tier.PLAIN if message.attempts > 1:
            findings.count("repeated")
        case Tier.HISTORY if anew:
            findings.count("repeated")
        case Tier.QUEUE:
            findings.count("redelivered")
        case _:
            findings.broken("I3", f"{name}: {message.id} came twice")


def kept(history, stream, name, chan, known, findings):
    """I1, I6 and I7 of a namespace with history."""
    for segment in segments.cut(stream, findings, name):
        offsets = known.get((chan, segment.epoch), [])
        findings.count("recovered", len(segment.recoveries))
        for offset in segment.missing(offsets):
            missing(history, segment, chan, offset, name, findings)
        if segment.reset and segment.reset.asked:
            findings.count("unrecovered")
            for offset in segments.forgotten(segment, offsets, history.namespace(chan)):
                id = history.stored[chan, segment.epoch][offset]
                if history.was_rolled_back(history.messages[id]):
                    findings.count("rolled_back")
                else:
                    findings.broken("I1", f"{name}: {id} was given up by a resume within the window")


def missing(history, segment, chan, offset, name, findings):
    id = history.stored[chan, segment.epoch][offset]
    message = history.messages.get(id)
    where = "in the middle" if segment.received and offset < segment.last else "at the end"
    text = f"{name}: {id} at {offset} is missing {where}"
    if message is not None and message.acked:
        findings.broken("I1", text)
    elif where == "in the middle":
        findings.broken("I6", text)
    if segment.should_be_replayed(offset):
        findings.broken("I7", text)


def acked_by_publisher(history):
    """chan → pub → its acknowledged messages, in order."""
    published = collections.defaultdict(lambda: collections.defaultdict(list))
    for message in history.messages.values():
        if message.acked:
            published[message.chan][message.pub].append(message)
    return published


def plain(history, stream, name, published, findings):
    """I1 without history: from `subscribed` to the end of the connection all arrive, or a gap is told.

    When NATS servers fail, messages may go missing between them untold: that is counted only.
    """
    for stay in stays(stream):
        for messages in published.values():
            for message in lost(stay, messages):
                if nats_failed_around(history, message):
                    findings.count("lost_at_most_once")
                else:
                    findings.broken("I1", f"{name}: {message.id} is missing, and no gap was told")


def stays(stream):
    """The stream by connection: its entries from `subscribed` on."""
    found = {}
    for entry in stream:
        if isinstance(entry, Subscribed):
            found[entry.conn] = []
        if entry.conn in found:
            found[entry.conn].append(entry)
    return found.values()


def lost(stay, messages):
    """Of one publisher's messages, those missing between neighbours that have no gap between them."""
    begun, ended = stay[0].t, isinstance(stay[-1], Disconnected)
    gaps, gaps_at = 0, {}
    for entry in stay:
        if isinstance(entry, Gap):
            gaps += 1
        elif isinstance(entry, Received):
            gaps_at.setdefault(entry.id, gaps)
    first = bisect.bisect_right(messages, begun, key=lambda message: message.invoked)
    end = bisect.bisect_left(messages, stay[-1].t, key=lambda message: message.invoked) if ended else len(messages)
    before, waiting, found = 0, [], []
    for message in messages[first:end]:
        if message.id not in gaps_at:
            waiting.append(message)
            continue
        if gaps_at[message.id] == before:
            found += waiting
        before, waiting = gaps_at[message.id], []
    # What comes last may have been on its way when the connection ended.
    return found if ended or gaps != before else found + waiting


def nats_failed_around(history, message):
    return any(
        fault.kind in SERVERS_OF_NATS
        and fault.begun - BEFORE <= message.acked
        and message.invoked <= (fault.over or history.ended) + AFTER
        for fault in history.faults
    )


def redis_failed_around(history, t):
    return any(
        fault.kind.startswith("redis-") and fault.begun <= t <= (fault.over or history.ended) + AFTER
        for fault in history.faults
    )


def queues(history, findings):
    """I9, and I1 with it: over all of a user's connections, each message ends delivered or evicted."""
    received, evicted = collections.defaultdict(set), collections.Counter()
    for (_, chan), stream in history.streams.items():
        received[chan].update(entry.id for entry in stream if isinstance(entry, Received))
        evicted[chan] += sum(entry.count for entry in stream if isinstance(entry, Evicted))
    unseen = collections.defaultdict(list)
    for message in history.messages.values():
        if message.acked and history.tier(message.chan) is Tier.QUEUE and message.id not in received[message.chan]:
            if history.was_rolled_back(message):
                findings.count("rolled_back")
            else:
                unseen[message.chan].append(message.id)
    for chan, ids in unseen.items():
        findings.count("evicted", min(len(ids), evicted[chan]))
        for id in ids[evicted[chan] :]:
            findings.broken("I1", f"{chan}: {id} never arrived")
            findings.broken("I9", f"{chan}: {id} is neither delivered nor among {evicted[chan]} evicted")


def presence(history, findings):
    """I10: after the faults, those listed are those connected."""
    if not history.presence:
        return
    t, listed = history.presence[-1]
    live = {conn for conn, gone in history.connections.items() if gone is None or gone > t}
    for conn in sorted(listed - live):
        findings.broken("I10", f"{conn} is listed, and gone")
    for conn in sorted(live - listed):
        findings.broken("I10", f"{conn} is there, and not listed")


def revocations(history, findings):
    """I11."""
    for (proc, chan), stream in history.streams.items():
        for entry in stream:
            until = history.revoked.get(entry.conn)
            if until is not None and isinstance(entry, Received) and entry.t > ends(history, until):
                findings.broken("I11", f"{proc} got {entry.id} on {chan} {(entry.t - until) / SECOND:.1f} s too late")


def ends(history, until):
    """When access must be over that is revoked at this time: a gateway that stands still then ends it when it goes on."""
    paused = (fault.over or history.ended for fault in history.faults if fault.kind == "gateway-pause" and fault.begun <= until)
    return max([until, *(over + AWAKE for over in paused if over > until - AWAKE)])


def liveness(history, findings):
    """I12: after the faults each publisher gets through and each reader hears, within the bound."""
    if history.healed is None or history.ended is None:
        return findings.broken("I12", "the run did not come to its end")
    limit = history.healed + int(history.run["liveness"] * SECOND)
    accepted, arrived = {}, {}
    fresh = {message.id: message for message in history.messages.values() if message.invoked > history.healed}
    for message in fresh.values():
        if message.acked:
            sent = message.pub, message.chan
            accepted[sent] = min(message.acked, accepted.get(sent, message.acked))
    for reads, stream in history.streams.items():
        arrived[reads] = next((it.t for it in stream if isinstance(it, Received) and it.id in fresh), None)
    for who, expected, seen in (
        ("publishes", history.run["publishers"], accepted),
        ("receives", history.run["readers"], arrived),
    ):
        for proc, chan in expected:
            if (when := seen.get((proc, chan))) is None or when > limit:
                findings.broken("I12", f"{proc} {who} nothing on {chan} within {history.run['liveness']} s")
    if not findings.counts["acked"] or not findings.counts["delivered"]:
        findings.broken("I12", "nothing was published and delivered at all")
