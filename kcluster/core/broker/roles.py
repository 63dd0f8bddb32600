"""What this broker leads and follows: made from the image, and proposed to the controller.

image changed --> configs, deleted topics, roles of replicas
Open          --> a stream of a partition that is led here, or an error, or patience
positions     --> who may join an ISR;  time --> who has to leave it
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Final

import msgspec

from kcluster.core import traces
from kcluster.core.broker import throttling
from kcluster.core.log import damage
from kcluster.core.metadata.image import BROKER_RESOURCE, TOPIC_RESOURCE, Changes
from kcluster.core.replication.leader import LeaderState
from kcluster.core.replication.progress import NEVER
from kcluster.core.replication.replica import Replica
from kcluster.core.turn import Received, Turn
from kcluster.errors import ErrorCode
from kcluster.model import TopicPartition
from kcluster.wire import bus

if TYPE_CHECKING:
    from kcluster.core.broker.broker import BrokerCore

EARLY_OPENS: Final = 10_000
EARLY_OPEN_MS: Final = 2000
"""A follower that heard of its leader before the leader did waits here; it asks again anyway."""


class EarlyOpen(msgspec.Struct, frozen=True):
    source: int
    incarnation: int
    entry: bus.OpenEntry
    until_ms: int


class Roles:
    def __init__(self, broker: BrokerCore) -> None:
        self._broker = broker
        self._deferred: list[tuple[TopicPartition, bytes]] = []
        """Replicas to be created once a directory of the same name is out of the way."""
        self._early: dict[tuple[bytes, int, int], EarlyOpen] = {}
        self._proposing: dict[Replica, None] = {}
        """Leaders with a proposal that is not decided."""

    # --- the image ------------------------------------------------------------------------

    def configure(self, changes: Changes, *, is_whole: bool = False) -> None:
        """Take over changed configs: brokers' first, which give topics their defaults."""
        of_brokers = any(resource == BROKER_RESOURCE for resource, _ in changes.configs)
        if of_brokers or is_whole:
            self._broker.settings.dynamic = {
                **self._broker.image.overrides(BROKER_RESOURCE, ""),
                **self._broker.image.overrides(BROKER_RESOURCE, str(self._broker.broker_id)),
            }
        if changes.quotas or is_whole:
            self._broker.quotas.configure(self._broker.image.quotas)
        topics = {name for resource, name in changes.configs if resource == TOPIC_RESOURCE}
        for replica in self._broker.replica_set:
            if of_brokers or is_whole or replica.tp.topic in topics:
                config = self._broker.log_config(replica.tp.topic)
                replica.log.config = config
                if replica.leader is not None:
                    replica.leader.min_insync_replicas = config.min_insync_replicas
                    # A lower minimum may let the high watermark go (KAFKA-13091).
                    self._broker.mark(replica)

    def apply(self, changes: Changes, turn: Turn) -> None:
        """Make this broker what the image says it is."""
        for name, topic_id in changes.topics_deleted:
            for replica in [r for r in self._broker.replica_set if r.topic_id == topic_id]:
                assert replica.tp.topic == name
                self.stand_down(replica, turn)
                self._broker.replica_set.delete(turn, replica)
        for topic_id, partition in sorted(changes.partitions):
            self._apply_partition(topic_id, partition, turn)
        names = self._broker.image.topic_names
        changed = {names[id] for id, _ in changes.partitions if id in names}
        changed.update(name for name, _ in changes.topics_deleted)
        if changed:
            self._broker.groups.topics_changed(changed)
        if changes.topics_deleted:
            self._broker.groups.topics_deleted({name for name, _ in changes.topics_deleted}, turn)
        if changes.brokers:
            self._broker.neighbours.changed(self._broker.image, changes.brokers, turn.now_ms)
            self._broker.members.changed(changes.brokers)
            for replica in self._broker.replica_set:
                # Who may join an ISR, and whom the high watermark waits for, may have changed.
                if replica.leader is not None:
                    self._broker.mark(replica)
        throttles = self._broker.outgoing.throttles
        if changes.configs or throttles.is_on:
            throttling.configure(throttles, self._broker.image, self._broker.settings)
        if self._early:
            self._open_early(turn)
        self._broker.holds.image_changed(turn)
        self._broker.channel.report_failures(turn, self.is_counted_on)

    def _apply_partition(self, topic_id: bytes, partition: int, turn: Turn) -> None:
        topic = self._broker.image.topic_by_id(topic_id)
        state = topic.partitions.get(partition) if topic is not None else None
        if topic is None or state is None:
            return
        tp = TopicPartition(topic.name, partition)
        replica = self._broker.replicas.get(tp)
        if self._broker.broker_id not in state.replicas:
            if replica is not None:
                self.move_away(replica, turn)
            return
        if replica is None:
            if not self._broker.replica_set.can_create(turn, tp):
                self._deferred.append((tp, topic_id))
                return
            replica = self._broker.replica_set.create(turn, tp, topic_id)
        assert replica.topic_id == topic_id
        if replica.offline:
            replica.state = state
            self._broker.channel.log_failed(topic_id, partition)
            return
        if replica.apply(
            turn, self._broker.broker_id, state, self._broker.incoming, self._broker.outgoing
        ):
            self._proposing.pop(replica, None)
            self._broker.mark(replica)
            self._broker.groups.role_changed(replica, turn)

    def move_away(self, replica: Replica, turn: Turn) -> None:
        """A change of the partition's replicas, which this broker has replayed, has left it out:
        it held nothing any more that others lack."""
        turn.trace(traces.ReplicaMovedAway(*replica.tp, replica.log.log_end_offset))
        self.stand_down(replica, turn)
        self._broker.replica_set.delete(turn, replica)

    def create_deferred(self, turn: Turn) -> None:
        """After the disk has moved away what stood in the way."""
        if not self._deferred:
            return
        deferred, self._deferred = self._deferred, []
        for tp, topic_id in deferred:
            if self._broker.replica_set.can_create(turn, tp):
                self._apply_partition(topic_id, tp.partition, turn)
            else:
                turn.trace(traces.Warned(f"{tp} cannot be created: its directory stays in the way"))

    def stand_down(self, replica: Replica, turn: Turn) -> None:
        replica.stand_down(
            turn, self._broker.incoming, self._broker.outgoing, ErrorCode.NOT_LEADER_OR_FOLLOWER
        )
        self._proposing.pop(replica, None)
        self._broker.groups.role_changed(replica, turn)

    # --- replication ----------------------------------------------------------------------

    def opened(self, message: bus.Open, received: Received, turn: Turn) -> None:
        refused: list[bus.RefuseEntry] = []
        for entry in message.entries:
            error = self._open(received.source, received.source_epoch, entry, turn)
            if error:
                refused.append(bus.RefuseEntry(entry.stream, error))
        if refused:
            turn.send(received.source, bus.Refuse(refused))

    def _open(self, source: int, incarnation: int, entry: bus.OpenEntry, turn: Turn) -> ErrorCode:
        """Open one stream, or say why not. Who is ahead of us is kept until we know as much."""
        name = self._broker.image.topic_names.get(entry.topic_id)
        replica = (
            self._broker.replicas.get(TopicPartition(name, entry.partition))
            if name is not None
            else None
        )
        if replica is None or entry.leader_epoch > replica.leader_epoch:
            if len(self._early) < EARLY_OPENS:
                self._early[entry.topic_id, entry.partition, source] = EarlyOpen(
                    source, incarnation, entry, turn.now_ms + EARLY_OPEN_MS
                )
                return ErrorCode.NONE
            return ErrorCode.UNKNOWN_LEADER_EPOCH
        if entry.leader_epoch < replica.leader_epoch:
            # Invariant 7.
            return ErrorCode.FENCED_LEADER_EPOCH
        if replica.leader is None or source not in replica.leader.followers:
            return ErrorCode.NOT_LEADER_OR_FOLLOWER
        is_proposed = source in replica.leader.maximal_isr and not replica.counts_on(source)
        if is_proposed and replica.lacks_beginning(entry.log_start_offset):
            # Whether it may start afresh is to be seen: it asks again.
            return ErrorCode.REPLICA_NOT_AVAILABLE
        self._broker.outgoing.open(source, incarnation, entry, replica, turn)
        self._broker.mark(replica)
        return ErrorCode.NONE

    def _open_early(self, turn: Turn) -> None:
        early, self._early = self._early, {}
        refused: dict[int, list[bus.RefuseEntry]] = {}
        for key, open in early.items():
            if turn.now_ms >= open.until_ms:
                continue
            error = self._open(open.source, open.incarnation, open.entry, turn)
            if error:
                refused.setdefault(open.source, []).append(
                    bus.RefuseEntry(open.entry.stream, error)
                )
            elif key in self._early:
                self._early[key] = open
        for source, entries in refused.items():
            turn.send(source, bus.Refuse(entries))

    # --- the ISR --------------------------------------------------------------------------

    def look_for_joiners(self, replica: Replica, turn: Turn) -> None:
        """Propose a follower that holds what a member of the ISR has to hold."""
        leader = replica.leader
        assert leader is not None
        if self._broker.is_frozen or leader.proposal is not None:
            return
        for id, follower in leader.followers.items():
            if (
                id not in leader.isr
                and leader.may_join(follower)
                and leader.propose_expansion(follower, turn.now_ms, self._broker.members)
            ):
                # The maximal ISR has grown; the high watermark waits for the newcomer from here.
                self._proposing[replica] = None
                return

    def look_for_laggards(self, turn: Turn) -> None:
        """Members of an ISR that do not keep up are proposed to leave it."""
        for replica in self._broker.replica_set:
            leader = replica.leader
            if leader is None:
                continue
            # A follower outside the ISR may hold the high watermark back only while it keeps up.
            self._broker.mark(replica)
            if self._broker.is_frozen:
                continue
            lagging = leader.lagging(turn.now_ms, self._broker.lag_max_ms)
            if lagging and leader.propose_shrink(lagging, turn.now_ms, self._broker.members):
                self._proposing[replica] = None
                _trace_laggards(turn, replica, leader, lagging)

    def propose(self, turn: Turn) -> None:
        """Send the proposals that are due, and forget those that are decided."""
        if not self._proposing:
            return
        self._proposing = {
            replica: None
            for replica in self._proposing
            if replica.leader is not None and replica.leader.proposal is not None
        }
        if not self._broker.is_frozen:
            self._broker.channel.propose(turn, list(self._proposing))

    # --- offline --------------------------------------------------------------------------

    def take_offline(self, replica: Replica, turn: Turn, cause: str) -> None:
        broker = self._broker
        if replica.log.is_damaged and not replica.offline:
            # The next start is not to believe it, however this one ends.
            damage.mark(turn, replica.log.directory, cause)
        replica.log.fail(cause)
        replica.go_offline(turn, broker.incoming, broker.outgoing, cause)
        self._proposing.pop(replica, None)
        broker.groups.role_changed(replica, turn)
        broker.channel.log_failed(replica.topic_id, replica.tp.partition)
        broker.channel.report_failures(turn, self.is_counted_on)

    def is_counted_on(self, topic_id: bytes, partition: int) -> bool:
        """Metadata still has this broker lead the partition, or in its ISR."""
        topic = self._broker.image.topic_by_id(topic_id)
        state = topic.partitions.get(partition) if topic is not None else None
        me = self._broker.broker_id
        return state is not None and (state.leader == me or me in state.isr)


def _trace_laggards(
    turn: Turn, replica: Replica, leader: LeaderState, lagging: Iterable[int]
) -> None:
    for id in lagging:
        follower = leader.followers[id]
        is_known = follower.caught_up_ms != NEVER
        behind_ms = turn.now_ms - follower.caught_up_ms if is_known else -1
        turn.trace(
            traces.FellBehind(
                *replica.tp, id, leader.leader_epoch, follower.log_end, leader.position, behind_ms
            )
        )
