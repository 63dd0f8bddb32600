"""What happens in a cluster, told as events: the supervisor's part of `kcluster events`.

    traces of server processes --.
    starts, ends, commands ------+--> Chronicle --> journal on disk, and whoever follows

The chronicle remembers who led and who was in sync, so that an event says what was before. It is
not asked for a decision by anybody.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from kcluster.core import traces as t
from kcluster.model import COORDINATOR, NO_LEADER, SUPERVISOR
from kcluster.wire.events import ClusterEvent

Fields = dict[str, str | int | bool | list[int]]

BROKER_ONLY = (t.IsrShrunk, t.IsrExpanded, t.IsrRefused)
"""Told by the controller, whose decision it is, and then by the leader that hears of it."""


class Chronicle:
    def __init__(self, next_seq: int, keep: Callable[[Sequence[ClusterEvent]], None]) -> None:
        """`keep` takes new events, in their order."""
        self.next_seq = next_seq
        self._keep = keep
        self._leaders: dict[tuple[str, int], tuple[int, int]] = {}
        """(leader, epoch) of each partition, as far as it was heard."""
        self._isrs: dict[tuple[str, int], list[int]] = {}

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
            if process != COORDINATOR and isinstance(trace, BROKER_ONLY):
                continue
            told = self._told(trace)
            if told is None:
                continue
            type, text, more = told
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
                    trace.__class__.__name__, text, topic, partition, broker, {**more, **fields},
                )
            )  # fmt: skip
        if events:
            self._keep(events)

    def _number(self) -> int:
        self.next_seq += 1
        return self.next_seq - 1

    def _told(self, trace: t.Trace) -> tuple[str, str, Fields] | None:
        """(type, text, what was before); None for what is nobody's news."""
        match trace:
            case t.Elected(topic, partition, leader, epoch, source):
                before, old_epoch = self._leaders.get((topic, partition), (NO_LEADER, epoch - 1))
                self._leaders[topic, partition] = leader, epoch
                text = f"leader {_who(before)} → {_who(leader)}, epoch {old_epoch} → {epoch}"
                if source not in ("isr", "none", "preferred"):
                    text += f", from {source}"
                elif source == "preferred":
                    text += ", the preferred one"
                return "election", text, {"leader_before": before}
            case t.IsrShrunk(topic, partition, isr, cause):
                isr_before = self._isrs.get((topic, partition), [])
                self._isrs[topic, partition] = isr
                text = f"{_change(isr_before, isr)}, {cause}"
                return "isr", text, {"isr_before": isr_before}
            case t.IsrExpanded(topic, partition, isr):
                isr_before = self._isrs.get((topic, partition), [])
                self._isrs[topic, partition] = isr
                return "isr", _change(isr_before, isr), {"isr_before": isr_before}
            case t.IsrRefused(_, _, error):
                return "isr", f"a change was refused: {error}", {}
            case t.BecameLeader(topic, partition, epoch, end):
                return "role", f"leads in epoch {epoch}, its log ends at {end}", {}
            case t.BecameFollower(topic, partition, epoch, leader):
                whom = f"follows {leader}" if leader != NO_LEADER else "has nobody to follow"
                return "role", f"{whom} in epoch {epoch}", {}
            case t.BrokerFenced(_, cause):
                return "broker", f"fenced: {cause}", {}
            case t.BrokerUnfenced():
                return "broker", "unfenced", {}
            case t.BrokerRegistered(_, epoch):
                return "broker", f"registered, broker epoch {epoch}", {}
            case t.Truncated(_, _, start, end):
                return "log", f"truncated from {start} to {end}", {}
            case t.LogRecovered(_, _, end, cut):
                rest = f", {cut} bytes cut" if cut else ""
                return "log", f"recovered to {end}{rest}", {}
            case t.LogOffline(_, _, cause):
                return "log", f"offline: {cause}", {}
            case t.SegmentRolled(_, _, base):
                return "segment", f"rolled, the new one begins at {base}", {}
            case t.SegmentDeleted(_, _, base, size, cause):
                return "retention", f"deleted {base:020d}.log, {size} bytes: {cause}", {}
            case t.LogCompacted(_, _, end, before, after):
                return "compaction", f"below {end}: {before} → {after} bytes", {}
            case t.TopicCreated(topic, partitions, replicas):
                self._forget(topic)
                return "topic", f"created, {partitions} partitions, {replicas} replicas", {}
            case t.TopicDeleted(topic):
                self._forget(topic)
                return "topic", "deleted", {}
            case t.Warned(text):
                return "warning", text, {}
            case t.GroupsLoaded(partition, groups, took):
                if not groups:
                    return None
                return "group", f"{groups} groups of partition {partition} loaded in {took} ms", {}
            case t.GroupRebalancing(group, generation, cause):
                return "group", f"{group} leaves generation {generation}: {cause}", {}
            case t.GroupGeneration(group, generation, members, protocol):
                by = f", by {protocol}" if protocol else ""
                return "group", f"{group} generation {generation}: {members} members{by}", {}
            case t.GroupStable(group, generation, members):
                return "group", f"{group} stable in generation {generation}, {members} members", {}
            case t.GroupDeleted(group):
                return "group", f"{group} deleted", {}
            case t.OffsetsExpired(group, count):
                return "group", f"{count} offsets of {group} expired", {}
        return None

    def _forget(self, topic: str) -> None:
        for known in (self._leaders, self._isrs):
            for key in [key for key in known if key[0] == topic]:
                del known[key]


def _who(broker: int) -> str:
    return "none" if broker == NO_LEADER else str(broker)


def _change(before: Sequence[int], after: Sequence[int]) -> str:
    """What was before is not known of what began before we listened."""
    return f"{_set(before)} → {_set(after)}" if before else _set(after)


def _set(ids: Sequence[int]) -> str:
    return "{" + ",".join(str(id) for id in sorted(ids)) + "}"
