"""Why a partition is as it is: its history and the cause of each change, from a journal. Pure.

    events --> in the order of their times --> what each process was doing (Lives)
                                           '-> changes of the partition, each with a chain of causes

What the events do not tell is said, and not made up: a journal that begins later than the
partition, events that are missing, a change without a cause (UNKNOWN).
"""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Iterable, Sequence

import msgspec

from kcluster.client.lives import UNKNOWN, Clock, Lives, is_one_decision, ms
from kcluster.model import NO_LEADER, TopicPartition
from kcluster.wire.events import ClusterEvent

FENCINGS = ("died", "session expired", "new incarnation")

SOURCES = {
    "elr": ", from the ELR",
    "unclean": ", unclean: records may be missing",
    "lossy": ", with the most that is left: records may be missing",
    "preferred": ", the preferred one",
}

BOOTED_NS = 60 * 10**9
"""A monotonic clock that falls so far begins anew; events of processes overtake each other by
less."""


class Change(msgspec.Struct, frozen=True):
    seq: int
    at_ms: int
    """Wall clock."""
    kind: str
    """created, deleted, leader, isr, leads, committed, truncated, offline, reassign; gap: missing
    events."""
    text: str
    causes: list[str] = []
    """A chain, the nearest first. Empty where a change is no cause's effect."""
    leader: int = NO_LEADER
    """As of then, like what follows; -1: nobody, or not known."""
    leader_epoch: int = -1
    isr: list[int] = []
    high_watermark: int = -1
    """As it was last told."""

    def __str__(self) -> str:
        return ": ".join([self.text, *self.causes])


class History(msgspec.Struct, frozen=True):
    topic: str
    partition: int
    is_whole: bool
    """It begins with the partition."""
    journal_begins_ms: int
    changes: list[Change]


def explain(events: Iterable[ClusterEvent], tp: TopicPartition, clock: Clock) -> History | None:
    """None when the journal does not know the partition."""
    told = list(events)
    ordered = in_time(told)
    story = _Story(tp, clock, ordered)
    for event in ordered:
        story.heard(event)
    if not story.is_known:
        return None
    changes = _with_holes(story.changes, told)
    return History(*tp, story.is_whole, ordered[0].at_ms, changes)


def in_time(events: Sequence[ClusterEvent]) -> list[ClusterEvent]:
    """In the order in which things happened, not in which they were heard of."""
    boots, boot, newest = {}, 0, 0
    for event in events:
        if event.monotonic_ns < newest - BOOTED_NS:
            boot, newest = boot + 1, 0
        newest = max(newest, event.monotonic_ns)
        boots[event.seq] = boot
    return sorted(events, key=lambda event: (boots[event.seq], event.monotonic_ns, event.seq))


def _with_holes(changes: Sequence[Change], events: Sequence[ClusterEvent]) -> list[Change]:
    """What is missing before the first change makes no difference to what is told."""
    found = list(changes)
    for earlier, later in itertools.pairwise(events):
        count = later.seq - earlier.seq - 1
        at = next((at for at, change in enumerate(found) if change.seq > earlier.seq), len(found))
        if count > 0 and at > 0:
            text = "one event is missing" if count == 1 else f"{count} events are missing"
            gap = msgspec.structs.replace(
                found[at - 1], seq=earlier.seq + 1, at_ms=earlier.at_ms, kind="gap",
                text=f"{text} in the journal", causes=[],
            )  # fmt: skip
            found.insert(at, gap)
    return found


class _Story:
    """One partition, event by event."""

    def __init__(self, tp: TopicPartition, clock: Clock, events: Sequence[ClusterEvent]) -> None:
        self.is_known = False
        self.is_whole = False
        self.changes: list[Change] = []
        self._tp = tp
        self._lives = Lives(clock)
        self._elections: dict[tuple[int, int, int], ClusterEvent] = {
            _decision(event): event
            for event in events
            if event.event == "Elected" and (event.topic, event.partition) == tp
        }
        self._unfenced: dict[tuple[int, int, int], list[int]] = defaultdict(list)
        self._fenced: dict[tuple[int, int, int], list[int]] = defaultdict(list)
        self._begin_anew()

    def _begin_anew(self) -> None:
        self._leader: int | None = None
        self._epoch: int | None = None
        self._isr: list[int] | None = None
        self._high_watermark = -1
        self._elected: ClusterEvent | None = None
        self._moving: ClusterEvent | None = None
        """The last that was told of a reassignment."""
        self._added: dict[int, ClusterEvent] = {}
        self._behind: dict[int, ClusterEvent] = {}
        self._offline: dict[int, ClusterEvent] = {}
        self._left: dict[int, ClusterEvent] = {}
        self._joined: dict[int, ClusterEvent] = {}
        self._follows: dict[int, int] = {}

    def heard(self, event: ClusterEvent) -> None:
        if event.topic != self._tp.topic:
            self._lives.heard(event)
            if event.event == "BrokerUnfenced":
                self._unfenced[_decision(event)].append(event.broker)
            elif event.event == "BrokerFenced":
                self._fenced[_decision(event)].append(event.broker)
        elif event.event == "TopicCreated":
            self._created(event)
        elif event.event == "TopicDeleted":
            if self.is_known:
                self._add(event, "deleted", "deleted")
                self._begin_anew()
        elif event.partition == self._tp.partition:
            self.is_known = True
            self._changed(event)

    def _add(self, event: ClusterEvent, kind: str, text: str, causes: Sequence[str] = ()) -> None:
        self.changes.append(
            Change(
                event.seq,
                event.at_ms,
                kind,
                text,
                list(causes),
                NO_LEADER if self._leader is None else self._leader,
                -1 if self._epoch is None else self._epoch,
                self._isr or [],
                self._high_watermark,
            )
        )

    def _created(self, event: ClusterEvent) -> None:
        partitions, replicas = event.fields["partitions"], event.fields["replication_factor"]
        if int(str(partitions)) <= self._tp.partition:
            return
        self.is_known = True
        self._begin_anew()
        if not self.changes:
            self.is_whole = True
        count = "one partition" if partitions == 1 else f"{partitions} partitions"
        copies = "one replica" if replicas == 1 else f"{replicas} replicas"
        self._add(event, "created", f"created: {count}, {copies}")

    def _changed(self, event: ClusterEvent) -> None:
        fields = event.fields
        match event.event:
            case "Elected":
                self._new_leader(event)
            case "IsrShrunk" | "IsrExpanded":
                self._new_isr(event)
            case "FellBehind":
                self._behind[event.broker] = event
            case "BecameLeader":
                self._leads(event)
            case "BecameFollower":
                self._follows[event.process] = int(str(fields["leader"]))
            case "FirstCommitted":
                self._high_watermark = int(str(fields["high_watermark"]))
                after = f" {ms(self._elected, event)} after the election" if self._elected else ""
                text = f"first records of epoch {fields['leader_epoch']} committed{after}"
                self._add(event, "committed", f"{text}, high watermark {self._high_watermark}")
            case "Truncated":
                leader = self._follows.get(event.process, NO_LEADER)
                whose = f"that of leader {leader}" if leader != NO_LEADER else "its leader's"
                self._add(
                    event,
                    "truncated",
                    f"broker {event.process} cut its log from {fields['from_offset']}"
                    f" to {fields['to_offset']}",
                    [f"beyond that it differed from {whose}"],
                )
            case "ReassignmentStarted" | "ReassignmentCompleted" | "ReassignmentCancelled":
                self._reassigned(event)
            case "LogOffline":
                self._offline[event.process] = event
                text = f"the log of broker {event.process} went offline"
                self._add(event, "offline", text, [str(fields["cause"])])

    def _reassigned(self, event: ClusterEvent) -> None:
        fields = event.fields
        self._moving = event
        if event.event == "ReassignmentStarted":
            self._added |= dict.fromkeys(_ids(fields["adding"]), event)
            text = f"replicas {_list(fields['before'])} → {_list(fields['target'])} asked for"
            self._add(event, "reassign", text, ["by a reassignment"])
            return
        if fields["leader"] == self._leader and self._epoch is not None:
            # A replica has gone, and the same leader goes on in a new epoch.
            self._epoch = int(str(fields["leader_epoch"]))
        is_done = event.event == "ReassignmentCompleted"
        text = f"reassignment {'complete' if is_done else 'cancelled'}"
        self._add(event, "reassign", f"{text}: replicas {_list(fields['replicas'])}")

    # --- leaders --------------------------------------------------------------------------

    def _leads(self, event: ClusterEvent) -> None:
        epoch = int(str(event.fields["leader_epoch"]))
        if self._epoch is None:
            self._leader, self._epoch = event.process, epoch
            if not self.changes and epoch == 0:
                self.is_whole = True
        elif epoch > self._epoch:
            self._skip_to(event, event.process, epoch)
        self._high_watermark = int(str(event.fields.get("high_watermark", -1)))
        mark = f", high watermark {self._high_watermark}" if self._high_watermark >= 0 else ""
        text = f"broker {event.process} leads epoch {epoch}"
        if self._elected is not None and self._elected.fields["leader_epoch"] == epoch:
            text += f", {ms(self._elected, event)} after its election"
        self._add(event, "leads", f"{text}; its log ends at {event.fields['log_end_offset']}{mark}")

    def _skip_to(self, event: ClusterEvent, leader: int, epoch: int) -> None:
        """An election of which nothing was told."""
        text = f"leader {_who(self._leader)} → {_who(leader)}, epoch {self._epoch} → {epoch}"
        self._leader, self._epoch, self._elected = leader, epoch, None
        self._add(event, "leader", text, [UNKNOWN])

    def _new_leader(self, event: ClusterEvent) -> None:
        fields = event.fields
        before, leader = int(str(fields["before"])), int(str(fields["leader"]))
        epoch = int(str(fields["leader_epoch"]))
        if self._epoch is not None and (self._epoch, self._leader) != (epoch - 1, before):
            self._skip_to(event, before, epoch - 1)
        self._leader, self._epoch, self._elected = leader, epoch, event
        source = SOURCES.get(str(fields["source"]), "")
        text = f"leader {_who(before)} → {_who(leader)}, epoch {epoch - 1} → {epoch}{source}"
        self._add(event, "leader", text, self._why_led(event, before, leader))

    def _why_led(self, event: ClusterEvent, before: int, leader: int) -> list[str]:
        cause = event.fields.get("cause")
        lives = self._lives
        match cause:
            case "rebalance":
                joined = self._joined.get(leader)
                back = f", back in the ISR for {ms(joined, event)}" if joined else ""
                return [f"broker {leader} is its preferred leader{back}"]
            case "asked for":
                return ["asked for by elect-leaders"]
            case "reassigned":
                return self._why_moved(before)
            case "config":
                return ["a config of the topic or the cluster was changed"]
            case "somebody can lead again":
                if leader in self._unfenced[_decision(event)]:
                    return [f"nobody led it, and broker {leader} came back", *self._back(leader)]
                return ["nobody led it, and a broker came back"]
            case "did not come back":
                if before == NO_LEADER:
                    return lives.start("its brokers had come back or been given up")
                return lives.absence(before)
        if before == NO_LEADER:
            gone = self._fenced[_decision(event)]
            if cause in FENCINGS and gone:
                chain = lives.fencing(gone[0], event)
                return ["nobody led it, and nobody else was waited for any more", *chain]
            return [UNKNOWN]
        return self._why_gone(event, before)

    def _back(self, id: int) -> list[str]:
        life = self._lives[id]
        if life.registered is None or life.unfenced is None:
            return []
        return [f"unfenced {ms(life.registered, life.unfenced)} after it registered"]

    # --- the ISR --------------------------------------------------------------------------

    def _new_isr(self, event: ClusterEvent) -> None:
        before, isr = _ids(event.fields["before"]), _ids(event.fields["isr"])
        if self._isr is not None and sorted(self._isr) != sorted(before):
            text = f"ISR {_set(self._isr)} → {_set(before)}"
            self._isr = before
            self._add(event, "isr", text, [UNKNOWN])
        self._isr = isr
        gone = [id for id in before if id not in isr]
        come = [id for id in isr if id not in before]
        causes = [self._why_gone(event, id) for id in gone]
        causes += [self._why_come(event, id) for id in come]
        for id in gone:
            self._left[id] = event
        for id in come:
            self._joined[id] = event
        # Several at once have chains of their own; each is told whole.
        chain = causes[0] if len(causes) == 1 else ["; ".join(": ".join(one) for one in causes)]
        self._add(event, "isr", f"ISR {_set(before)} → {_set(isr)}", chain)

    def _why_gone(self, event: ClusterEvent, id: int) -> list[str]:
        """Why it neither leads nor is in sync any more."""
        lives = self._lives
        match event.fields.get("cause"):
            case cause if cause in FENCINGS:
                return lives.fencing(id, event)
            case "shutting down":
                return lives.shutdown(id, event)
            case "lag":
                return self._lag(event, id)
            case "lossy":
                return lives.loss(id)
            case "reassigned":
                return self._why_moved(id)
            case "did not come back":
                return lives.absence(id)
            case "log dir failed":
                offline = self._offline.get(id)
                why = str(offline.fields["cause"]) if offline is not None else UNKNOWN
                return [f"the log of broker {id} failed", why]
        return [UNKNOWN]

    def _why_moved(self, id: int) -> list[str]:
        """Why it holds a replica no longer."""
        first = f"broker {id} is no replica of it any more"
        if self._moving is None:
            return [first, UNKNOWN]
        if self._moving.event == "ReassignmentCancelled":
            return [first, "the reassignment that had added it was cancelled"]
        return [first, f"it was reassigned to {_list(self._moving.fields['replicas'])}"]

    def _lag(self, event: ClusterEvent, id: int) -> list[str]:
        behind = self._behind.pop(id, None)
        found = [f"broker {id} did not catch up"]
        if behind is None:
            return [*found, "how far behind it was is not in the journal"]
        fields = behind.fields
        behind_ms = int(str(fields["behind_ms"]))
        held = int(str(fields["log_end_offset"]))
        of = fields["leader_log_end_offset"]
        text = f"it held {held} of {of}" if held >= 0 else f"it had told nothing of {of}"
        found.append(
            f"{text} and had not caught up for {behind_ms:,} ms" if behind_ms >= 0 else text
        )
        pause = self._lives.pause(id, event, max(behind_ms, 0))
        return [*found, pause] if pause else found

    def _why_come(self, event: ClusterEvent, id: int) -> list[str]:
        elected = self._elections.get(_decision(event))
        if elected is not None and is_one_decision(elected, event):
            source = str(elected.fields["source"])
            if elected.fields["leader"] == id and source in ("elr", "unclean", "lossy"):
                return [f"broker {id} was elected{SOURCES[source]}"]
        added, left = self._added.get(id), self._left.get(id)
        if added is not None and (left is None or left.seq < added.seq):
            return [f"broker {id} caught up, {ms(added, event)} after a reassignment had added it"]
        return self._lives.catching_up(id, left, event)


def _decision(event: ClusterEvent) -> tuple[int, int, int]:
    return event.process, event.incarnation, event.monotonic_ns


def _ids(value: str | int | bool | list[int]) -> list[int]:
    assert isinstance(value, list)
    return value


def _who(broker: int | None) -> str:
    return "none" if broker in (None, NO_LEADER) else str(broker)


def _list(value: str | int | bool | list[int]) -> str:
    """Replicas in their order, the preferred leader first."""
    return ",".join(map(str, _ids(value)))


def _set(ids: Sequence[int]) -> str:
    return "{" + ",".join(str(id) for id in sorted(ids)) + "}"
