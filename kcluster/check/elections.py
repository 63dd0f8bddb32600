"""What the controller may do: who joins an ISR, who is elected, what it tells before it is durable.

2   Replicas that are added are in sync when others go.
9   A leader's wish is granted by compare-and-set, on the leader and the partition epoch; a replica
    that goes makes a new leader epoch.
10  Who joins an ISR does so under the broker epoch that its leader named, and that is the
    epoch of the incarnation whose position the leader had looked at.
11  Who registers after a lossy end is in no ISR and no ELR.
12  Who is elected was in the ISR or the ELR, unless all who were have come back lossy; then
    the state says that it recovers.

rule 7   No leader knows of an ISR that is not durable yet.
rule 8   Who has asked to stop leads nothing that another could lead.
rule 10  CreateTopics is answered when all who live have applied it, or after a second.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Mapping, Sequence
from dataclasses import dataclass, field

from kcluster.check.seen import require
from kcluster.core.metadata.records import PartitionChanged
from kcluster.model import NO_LEADER, TopicPartition

CREATE_WAIT_MS = 1000

Key = tuple[bytes, int]
"""(topic id, partition)."""


@dataclass(frozen=True, slots=True)
class Wish:
    """One partition of an AlterPartition."""

    isr: Sequence[int]
    broker_epochs: Sequence[int]
    leader_epoch: int
    partition_epoch: int


@dataclass(slots=True)
class _Created:
    at_ms: int
    alive: set[int]
    """Brokers that were unfenced then and ever since."""


@dataclass(slots=True)
class Elections:
    sound: dict[int, Container[Key]] = field(default_factory=dict)
    """By broker, of its last registration: the replicas that hold what they had promised."""
    durable: dict[Key, int] = field(default_factory=dict)
    """The highest partition epoch that was ever committed."""
    incarnations: dict[tuple[int, int], int] = field(default_factory=dict)
    """By (broker, broker epoch)."""
    _created: dict[str, _Created] = field(default_factory=dict)

    def granted(
        self,
        tp: TopicPartition,
        wish: Wish,
        before: PartitionChanged,
        after: PartitionChanged,
        broker_epochs: Mapping[int, int],
    ) -> None:
        """A turn in which the controller did nothing but decide about `wish`."""
        if after.partition_epoch == before.partition_epoch:
            return
        require(
            (wish.leader_epoch, wish.partition_epoch)
            == (before.leader_epoch, before.partition_epoch),
            9, "a change is compared with what it is to change", f"{tp}: {wish} of {before}",
        )  # fmt: skip
        for id, epoch in zip(wish.isr, wish.broker_epochs, strict=False):
            if id in after.isr and id not in before.isr:
                require(
                    broker_epochs.get(id) == epoch, 10, "a stale broker epoch never joins an ISR",
                    f"{tp}: broker {id} is registered in epoch {broker_epochs.get(id)}: {wish}",
                )  # fmt: skip

    def proposed(self, tp: TopicPartition, id: int, broker_epoch: int, incarnation: int) -> None:
        """A leader asks for `id` to join; it has looked at the position of `incarnation`."""
        meant = self.incarnations.get((id, broker_epoch))
        require(
            meant in (None, incarnation), 10, "who is proposed is who was looked at",
            f"{tp}: broker epoch {broker_epoch} of broker {id} is of incarnation {meant}, the "
            f"position of {incarnation}",
        )  # fmt: skip

    def registered(
        self, id: int, sound: Container[Key], states: Mapping[TopicPartition, PartitionChanged]
    ) -> None:
        """A new incarnation of `id`; none is sound after a lossy end. The states are those after
        the turn."""
        self.sound[id] = sound
        for tp, state in states.items():
            is_last_resort = state.recovering and state.leader == id and list(state.isr) == [id]
            require(
                (id not in state.isr and id not in state.elr)
                or (state.topic_id, state.partition) in sound
                or is_last_resort,
                11, "who came back lossy holds no place", f"{tp}: broker {id}, {state}",
            )  # fmt: skip

    def changed(
        self, tp: TopicPartition, before: PartitionChanged, after: PartitionChanged
    ) -> None:
        if after.leader in (NO_LEADER, before.leader):
            return
        if after.partition_epoch != before.partition_epoch + 1:
            # Several steps in one turn: who was in the ISR in between is not seen.
            return
        candidates = {*before.isr, *before.elr}
        if before.is_reassigning and not after.is_reassigning:
            # The step that lets the last of them into the ISR completes it.
            candidates |= {*after.isr}
        key = (after.topic_id, after.partition)
        trusted = {id for id in candidates if id not in self.sound or key in self.sound[id]}
        require(
            after.leader in candidates or (after.recovering and not trusted),
            12, "no unclean election where none is allowed",
            f"{tp}: {after} after {before}, {sorted(trusted)} have lost nothing",
        )  # fmt: skip

    def reassigned(
        self, tp: TopicPartition, before: PartitionChanged, after: PartitionChanged
    ) -> None:
        what = f"{tp}: {after} after {before}"
        require(
            set(after.replicas) >= set(before.replicas)
            or after.leader_epoch > before.leader_epoch,
            9, "a replica goes with a new epoch", what,
        )  # fmt: skip
        if after.partition_epoch != before.partition_epoch + 1:
            # Several steps in one turn: who was in sync then may have died since.
            return
        is_complete = before.is_reassigning and not after.is_reassigning
        if is_complete and after.replicas == before.target:
            require(
                set(after.isr) >= set(before.adding), 2,
                "who is added is in sync when others go", what,
            )  # fmt: skip

    def committed(self, partition_epochs: Mapping[Key, int]) -> None:
        """Of all partitions that there are. What is gone is not judged any more: its last change
        may have become durable together with its deletion."""
        known = self.durable
        self.durable = {
            key: max(epoch, known.get(key, -1)) for key, epoch in partition_epochs.items()
        }

    def believed(self, tp: TopicPartition, key: Key, partition_epoch: int) -> None:
        require(
            partition_epoch <= self.durable.get(key, partition_epoch), "rule 7",
            "only what is durable is told",
            lambda: f"{tp}: a leader knows partition epoch {partition_epoch}, durable is "
            f"{self.durable.get(key)}",
        )  # fmt: skip

    def leaving(
        self,
        id: int,
        states: Mapping[TopicPartition, PartitionChanged],
        can_lead: Callable[[int, Key], bool],
    ) -> None:
        """A turn in which nothing was done but to let a broker go."""
        for tp, state in states.items():
            key = (state.topic_id, state.partition)
            others = [other for other in state.isr if other != id and can_lead(other, key)]
            require(
                state.leader != id or not others, "rule 8", "leaders move before a broker stops",
                f"{tp}: broker {id} wants to stop, {others} could lead: {state}",
            )  # fmt: skip

    def alive(self, topics: Mapping[str, object], alive: frozenset[int], now_ms: int) -> None:
        """Of the controller's image, after each of its turns."""
        for name in topics:
            if name not in self._created:
                self._created[name] = _Created(now_ms, set(alive))
        for name in [name for name in self._created if name not in topics]:
            del self._created[name]
        for created in self._created.values():
            created.alive &= alive

    def create_answered(self, topic: str, appliers: set[int], now_ms: int) -> None:
        """CreateTopics is answered without an error; `appliers` have the topic, or do not run."""
        created = self._created.get(topic)
        if created is None or now_ms - created.at_ms >= CREATE_WAIT_MS:
            return
        require(
            created.alive <= appliers, "rule 10", "CreateTopics answers when all have applied it",
            f"{topic}, created {now_ms - created.at_ms} ms ago: {sorted(created.alive - appliers)} "
            f"do not know it",
        )  # fmt: skip
