"""What happens in a cluster, told as events: the supervisor's part of `kcluster events`.

    traces of server processes --.
    starts, ends, commands ------+--> Chronicle --> journal on disk, and whoever follows

It tells, and is asked for no decision by anybody.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence

from kcluster.core import traces as t
from kcluster.model import COORDINATOR, NO_LEADER, SUPERVISOR
from kcluster.wire.events import ClusterEvent

Fields = dict[str, str | int | bool | list[int]]

DECISIONS = (t.IsrShrunk, t.IsrExpanded, t.IsrRefused)
"""Of the controller; leaders, who hear of them, say the same once more."""

SOURCES = {
    "isr": "", "none": "", "elr": "from the ELR", "preferred": "the preferred one",
    "unclean": "unclean: records may be missing",
    "lossy": "the most that is left: records may be missing",
}  # fmt: skip
"""Where a leader comes from, for people."""


SILENCE = "session expired"

RESTARTS = {"crash": "after a crash", "lossy": "after a crash that may have cost records"}


class Chronicle:
    def __init__(self, next_seq: int, keep: Callable[[Sequence[ClusterEvent]], None]) -> None:
        """`keep` takes new events, in their order."""
        self.next_seq = next_seq
        self.counts: Counter[str] = Counter()
        """Events of each kind, since the supervisor started."""
        self._take = keep

    # --- what the supervisor does and sees ------------------------------------------------

    def did(
        self,
        type: str,
        event: str,
        text: str,
        *,
        broker: int,
        incarnation: int,
        at_ms: int,
        monotonic_ns: int,
        fields: Fields | None = None,
    ) -> None:
        self._keep(
            [
                ClusterEvent(
                    self._number(), at_ms, monotonic_ns, SUPERVISOR, incarnation, type, event, text,
                    broker=broker, fields=fields or {},
                )
            ]
        )  # fmt: skip

    # --- what servers say -----------------------------------------------------------------

    def heard(
        self,
        process: int,
        incarnation: int,
        wall_ms: int,
        monotonic_ns: int,
        traces: Sequence[t.Trace],
    ) -> None:
        events = []
        for trace in traces:
            if process != COORDINATOR and isinstance(trace, DECISIONS):
                continue
            told = in_words(trace)
            if told is None:
                continue
            type, text = told
            fields = {name: getattr(trace, name) for name in trace.__struct_fields__}
            topic = str(fields.pop("topic", ""))
            partition = fields.pop("partition", -1)
            if not topic:
                # A partition of __consumer_offsets, where groups are loaded.
                partition = -1
            broker = fields.get("broker_id", -1)
            events.append(
                ClusterEvent(
                    self._number(), wall_ms, monotonic_ns, process, incarnation, type,
                    trace.__class__.__name__, text, topic, partition, broker, fields,
                )
            )  # fmt: skip
        if events:
            self._keep(events)

    def _keep(self, events: Sequence[ClusterEvent]) -> None:
        self.counts.update(event.event for event in events)
        self._take(events)

    def _number(self) -> int:
        self.next_seq += 1
        return self.next_seq - 1


def in_words(trace: t.Trace) -> tuple[str, str] | None:
    """(type, text); None for what is nobody's news."""
    match trace:
        case t.Elected(_, _, before, leader, epoch, source, _):
            text = f"leader {_who(before)} → {_who(leader)}, epoch {epoch}"
            return "election", f"{text}, {SOURCES.get(source, source)}".rstrip(", ")
        case t.IsrShrunk(_, _, before, isr, cause):
            return "isr", f"{_set(before)} → {_set(isr)}, {cause}"
        case t.IsrExpanded(_, _, before, isr):
            return "isr", f"{_set(before)} → {_set(isr)}"
        case t.IsrRefused(_, _, error):
            return "isr", f"a change was refused: {error}"
        case t.FellBehind(_, _, broker, _, end, leader_end, behind):
            held = f"holds {end} of {leader_end}" if end >= 0 else "has said nothing"
            time = f"not caught up for {behind} ms" if behind >= 0 else "never caught up"
            return "isr", f"broker {broker} fell behind: {held}, {time}"
        case t.BecameLeader(_, _, epoch, end, mark):
            text = f"leads in epoch {epoch}, its log ends at {end}"
            return "role", f"{text}, high watermark {mark}" if mark >= 0 else text
        case t.FirstCommitted(_, _, epoch, mark):
            return "role", f"first records of epoch {epoch} committed, high watermark {mark}"
        case t.BecameFollower(_, _, epoch, leader):
            whom = f"follows {leader}" if leader != NO_LEADER else "has nobody to follow"
            return "role", f"{whom} in epoch {epoch}"
        case t.ReassignmentStarted(_, _, before, target, adding, removing):
            changes = [f"adds {_list(adding)}"] if adding else []
            changes += [f"removes {_list(removing)}"] if removing else []
            how = f", {' and '.join(changes)}" if changes else ""
            return "reassign", f"started: replicas {_list(before)} → {_list(target)}{how}"
        case t.ReassignmentCompleted(_, _, replicas, gone, _, _):
            return "reassign", f"complete: replicas {_list(replicas)}" + (
                f", {_list(gone)} gone" if gone else ""
            )
        case t.ReassignmentCancelled(_, _, replicas, gone, _, _):
            return "reassign", f"cancelled: replicas {_list(replicas)}, {_list(gone)} not added"
        case t.ReplicaMovedAway(_, _, end):
            return "reassign", f"its files go, the log ended at {end}"
        case t.BrokerFenced(_, cause, silent):
            heard = f", not heard of for {silent} ms" if cause == SILENCE else ""
            return "broker", f"fenced: {cause}{heard}"
        case t.BrokerUnfenced():
            return "broker", "unfenced"
        case t.BrokerRegistered(_, epoch, restart):
            after = f", {RESTARTS[restart]}" if restart in RESTARTS else ""
            return "broker", f"registered, broker epoch {epoch}{after}"
        case t.Truncated(_, _, start, end):
            return "log", f"truncated from {start} to {end}"
        case t.LogRecovered(_, _, end, cut):
            rest = f", {cut} bytes cut" if cut else ""
            return "log", f"recovered to {end}{rest}"
        case t.LogOffline(_, _, cause):
            return "log", f"offline: {cause}"
        case t.SegmentRolled(_, _, base):
            return "segment", f"rolled, the new one begins at {base}"
        case t.SegmentDeleted(_, _, base, size, cause):
            return "retention", f"deleted {base:020d}.log, {size} bytes: {cause}"
        case t.LogCompacted(_, _, end, before, after):
            return "compaction", f"below {end}: {before} → {after} bytes"
        case t.TopicCreated(_, partitions, replicas):
            return "topic", f"created, {partitions} partitions, {replicas} replicas"
        case t.TopicDeleted():
            return "topic", "deleted"
        case t.Warned(text):
            return "warning", text
        case t.GroupsLoaded(partition, groups, took):
            if not groups:
                return None
            return "group", f"{groups} groups of partition {partition} loaded in {took} ms"
        case t.GroupRebalancing(group, generation, cause):
            return "group", f"{group} leaves generation {generation}: {cause}"
        case t.GroupGeneration(group, generation, members, protocol):
            by = f", by {protocol}" if protocol else ""
            return "group", f"{group} generation {generation}: {members} members{by}"
        case t.GroupStable(group, generation, members):
            return "group", f"{group} stable in generation {generation}, {members} members"
        case t.GroupEpoch(group, epoch, cause):
            return "group", f"{group} goes to epoch {epoch}{': ' if cause else ''}{cause}"
        case t.GroupAssigned(group, epoch, members, assignor):
            return "group", f"{group} assigned in epoch {epoch}: {members} members, by {assignor}"
        case t.GroupConverted(group, protocol, members):
            return "group", f"{group} is a {protocol} group now, with {members} members"
        case t.GroupDeleted(group):
            return "group", f"{group} deleted"
        case t.OffsetsExpired(group, count):
            return "group", f"{count} offsets of {group} expired"
    return None


def _who(broker: int) -> str:
    return "none" if broker == NO_LEADER else str(broker)


def _list(ids: Sequence[int]) -> str:
    """In their order, which says who is preferred as leader."""
    return ",".join(map(str, ids)) or "none"


def _set(ids: Sequence[int]) -> str:
    return "{" + ",".join(str(id) for id in sorted(ids)) + "}"
