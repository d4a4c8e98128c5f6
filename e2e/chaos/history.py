"""What a log says, sorted by message and by reader: the one pass that the rules are checked on."""

import dataclasses
import enum

SECOND = 1_000_000_000


class Tier(enum.StrEnum):
    """What a namespace promises."""

    PLAIN = "plain"
    HISTORY = "history"
    QUEUE = "queue"


@dataclasses.dataclass
class Message:
    """One message over all attempts to publish it."""

    id: str
    chan: str
    pub: str
    pseq: int
    invoked: int
    retried: int
    attempts: int = 0
    refused: int = 0
    # The connection of the last attempt; by HTTP, none.
    conn: str | None = None
    acked: int | None = None
    # The highest offset of the channel, by epoch, that was acknowledged before the first attempt.
    floors: dict = dataclasses.field(default_factory=dict)
    # Where the store has it, by what publisher and readers were told.
    places: set = dataclasses.field(default_factory=set)

    @property
    def may_exist(self):
        """Whether some attempt was not answered by a refusal."""
        return self.refused < self.attempts

    @property
    def span(self):
        """Seconds from the first attempt to the last."""
        return (self.retried - self.invoked) / SECOND


@dataclasses.dataclass(frozen=True, slots=True)
class Subscribed:
    t: int
    conn: str
    asked: tuple | None
    place: tuple | None
    recovered: bool
    replayed: int | None


@dataclasses.dataclass(frozen=True, slots=True)
class Received:
    t: int
    conn: str
    id: str
    place: tuple | None


@dataclasses.dataclass(frozen=True, slots=True)
class Gap:
    t: int
    conn: str


@dataclasses.dataclass(frozen=True, slots=True)
class Evicted:
    t: int
    conn: str
    count: int


@dataclasses.dataclass(frozen=True, slots=True)
class Disconnected:
    t: int
    conn: str


@dataclasses.dataclass
class Fault:
    kind: str
    target: str
    begun: int
    over: int | None = None


@dataclasses.dataclass
class History:
    """A whole run."""

    run: dict = dataclasses.field(default_factory=dict)
    messages: dict = dataclasses.field(default_factory=dict)
    # What a reader (a proc) heard of a channel, over all its connections, in order.
    streams: dict = dataclasses.field(default_factory=dict)
    # What the store holds, as far as anybody was told: (chan, epoch) → offset → the first id named.
    stored: dict = dataclasses.field(default_factory=dict)
    connections: dict = dataclasses.field(default_factory=dict)
    faults: list = dataclasses.field(default_factory=list)
    presence: list = dataclasses.field(default_factory=list)
    revoked: dict = dataclasses.field(default_factory=dict)
    closed: dict = dataclasses.field(default_factory=dict)
    absorbed: int = 0
    healed: int | None = None
    ended: int | None = None
    # Faults of the history that can only be seen while it is read: (rule, text).
    oddities: list = dataclasses.field(default_factory=list)
    tops: dict = dataclasses.field(default_factory=dict)

    @classmethod
    def of(cls, events):
        history = cls()
        for event in events:
            getattr(history, f"on_{event['f']}")(event)
        return history

    def namespace(self, chan):
        return self.run["namespaces"][chan.split(":")[0]]

    def tier(self, chan):
        return Tier(self.namespace(chan)["tier"])

    def was_rolled_back(self, message):
        """Whether the store may have lost it although it was acknowledged, because a backup took its place."""
        stored = message.acked or message.retried
        return any(
            fault.kind == "nats-rollback" and fault.begun <= stored <= (fault.over or self.ended)
            for fault in self.faults
        )

    def on_run(self, event):
        self.run = event

    def on_publish(self, event):
        match event["type"]:
            case "invoke":
                self.attempt(event)
            case "ok":
                self.accept(event)
            case "fail":
                self.messages[event["id"]].refused += 1

    def attempt(self, event):
        t, chan = event["t"], event["chan"]
        message = self.messages.get(event["id"])
        if message is None:
            message = Message(event["id"], chan, event["pub"], event["pseq"], t, t)
            message.floors = dict(self.tops.get(chan, ()))
            self.messages[message.id] = message
        message.attempts += 1
        message.retried, message.conn = t, event.get("conn")

    def accept(self, event):
        message = self.messages[event["id"]]
        message.acked = message.acked or event["t"]
        self.absorbed += bool(event.get("dup"))
        place = place_of(event)
        if place:
            epoch, offset = place
            if offset <= message.floors.get(epoch, -1):
                text = f"{message.id} got {offset} in {epoch}, where {message.floors[epoch]} was already acknowledged"
                self.oddities.append(("I8", text))
            tops = self.tops.setdefault(message.chan, {})
            tops[epoch] = max(offset, tops.get(epoch, -1))
            self.note_place(message.chan, place, message.id)

    def note_place(self, chan, place, id):
        epoch, offset = place
        known = self.stored.setdefault((chan, epoch), {}).setdefault(offset, id)
        if known != id:
            self.oddities.append(("I5", f"{chan} {epoch}.{offset} is {known} and {id}"))
        if message := self.messages.get(id):
            message.places.add(place)

    def on_subscribe(self, event):
        if event["type"] == "ok":
            asked = (event["asked_epoch"], event["asked_off"]) if "asked_off" in event else None
            recovered, replayed = event.get("recovered", False), event.get("replayed")
            self.stream(event).append(
                Subscribed(event["t"], event["conn"], asked, place_of(event), recovered, replayed)
            )

    def on_receive(self, event):
        place = place_of(event)
        self.stream(event).append(Received(event["t"], event["conn"], event["id"], place))
        if place:
            self.note_place(event["chan"], place, event["id"])
        if not event.get("intact", True):
            self.oddities.append(("I2", f"{event['id']} reached {event['proc']} damaged"))

    def on_gap(self, event):
        """One for all channels is for those alone that have no history: the others are told one by one."""
        for (proc, chan), stream in self.streams.items():
            concerns = event.get("chan", chan) == chan and ("chan" in event or self.tier(chan) is Tier.PLAIN)
            if proc == event["proc"] and concerns:
                stream.append(Gap(event["t"], event["conn"]))

    def on_evicted(self, event):
        self.stream(event).append(Evicted(event["t"], event["conn"], event["count"]))

    def on_connect(self, event):
        if event["type"] == "ok":
            self.connections[event["conn"]] = None

    def on_disconnect(self, event):
        self.connections[event["conn"]] = event["t"]
        code = event.get("code")
        self.closed[code] = self.closed.get(code, 0) + 1
        for (proc, _), stream in self.streams.items():
            if proc == event["proc"]:
                stream.append(Disconnected(event["t"], event["conn"]))

    def on_unsubscribed(self, event):
        self.stream(event).append(Disconnected(event["t"], event["conn"]))

    def on_fault(self, event):
        if event["type"] == "invoke":
            self.faults.append(Fault(event["kind"], event["target"], event["t"]))
        else:
            self.faults[-1].over = event["t"]

    def on_presence(self, event):
        self.presence.append((event["t"], set(event["listed"])))

    def on_revoke(self, event):
        self.revoked[event["conn"]] = event["t"] + int(event["grace"] * SECOND)

    def on_heal(self, event):
        self.healed = event["t"]

    def on_end(self, event):
        self.ended = event["t"]

    def on_abandon(self, event):
        """Says only that the publisher goes on; what became of the message stays open."""

    def on_ack(self, event):
        """Kept for who reads the log: acknowledgements change no rule."""

    def stream(self, event):
        return self.streams.setdefault((event["proc"], event["chan"]), [])


def place_of(event):
    return (event["epoch"], event["off"]) if "off" in event else None
