"""Groups on this broker: shards come and go with the leaderships of `__consumer_offsets`.

    role of a replica changes --> open or close its shard --> LoadGroups, a chunk a turn
    requests                  --> serve --> core.groups, on the shard's log (`ReplicaJournal`)

The code of groups is imported with the first such leadership: most brokers of most tests never
need it. Sessions have deadlines of their own, so that thousands of members do not count as
requests that wait.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from random import Random
from typing import TYPE_CHECKING, Final

import msgspec

from kcluster.core.purgatory import Deadlines, Expired
from kcluster.core.turn import Timer, Turn
from kcluster.errors import ApiError, CorruptLogError, ErrorCode
from kcluster.model import OFFSETS_TOPIC
from kcluster.wire.records import CONTROL, Record, batches, build_batch, read_records

if TYPE_CHECKING:
    from kcluster.core.broker.broker import BrokerCore
    from kcluster.core.groups.coordinator import GroupCoordinator
    from kcluster.core.groups.settings import GroupSettings
    from kcluster.core.groups.shard import Done, Shard
    from kcluster.core.replication.replica import Replica

LOAD_BYTES: Final = 256 << 10
"""Of the log, read in one turn: some milliseconds."""


class SessionsExpired(Expired):
    """As `Expired`, of sessions."""


class LoadGroups(Timer, msgspec.Struct):
    """Go on reading a shard."""

    partition: int


class _Committed:
    """Waits for the high watermark on behalf of a shard."""

    __slots__ = ("_done",)

    def __init__(self, done: Done) -> None:
        self._done = done

    def reached(self, turn: Turn, index: int, error: ErrorCode) -> None:
        self._done(turn, error)


class ReplicaJournal:
    """`Journal` of a replica for one leader epoch."""

    def __init__(self, broker: BrokerCore, replica: Replica) -> None:
        assert replica.leader is not None
        self._broker = broker
        self.replica = replica
        self.leader = replica.leader

    @property
    def partition(self) -> int:
        return self.replica.tp.partition

    @property
    def high_watermark(self) -> int:
        return self.leader.high_watermark

    @property
    def log_start_offset(self) -> int:
        return self.replica.log.log_start_offset

    @property
    def log_end_offset(self) -> int:
        return self.replica.log.log_end_offset

    def append(self, turn: Turn, records: Sequence[Record]) -> int:
        replica, leader = self.replica, self.leader
        if replica.leader is not leader:
            raise ApiError(ErrorCode.NOT_LEADER_OR_FOLLOWER)
        if not leader.has_enough_replicas:
            raise ApiError(ErrorCode.NOT_ENOUGH_REPLICAS)
        batch = build_batch(records)
        if len(batch) > replica.log.config.max_message_bytes:
            raise ApiError(ErrorCode.MESSAGE_TOO_LARGE, f"{len(batch)} bytes of a group")
        appended = replica.log.append_own(turn, batch, leader.leader_epoch)
        self._broker.staged(replica, appended.base_offset, appended.last_offset + 1, batch)
        return appended.base_offset

    def when_committed(self, turn: Turn, offset: int, done: Done) -> None:
        if offset <= self.leader.high_watermark:
            done(turn, ErrorCode.NONE)
        elif self.replica.leader is not self.leader:
            done(turn, ErrorCode.NOT_LEADER_OR_FOLLOWER)
        else:
            self.leader.produces.add(offset, _Committed(done), 0)

    def read(self, offset: int) -> tuple[list[Record], int]:
        log = self.replica.log
        data, following = log.read_bytes(offset, LOAD_BYTES, log.written_end)
        records = [
            record
            for position, header in batches(data)
            if not header.attributes & CONTROL
            for record in read_records(data, position)
            if record.offset >= offset
        ]
        return records, following


class Groups:
    def __init__(self, broker: BrokerCore, random: Random) -> None:
        self._broker = broker
        self._random = random
        self._coordinator: GroupCoordinator | None = None
        """None until this broker leads a partition of groups."""
        self.sessions = Deadlines(SessionsExpired)
        self.creation: str | None = None
        """While `__consumer_offsets` is not there: what came of asking for it, "" when that is
        not known yet, None when nobody has."""

    # --- leaderships ----------------------------------------------------------------------

    def role_changed(self, replica: Replica, turn: Turn) -> None:
        if replica.tp.topic != OFFSETS_TOPIC:
            return
        partition = replica.tp.partition
        shard = self._shard(partition)
        leader = replica.leader
        if shard is not None:
            journal = shard.journal
            assert isinstance(journal, ReplicaJournal)
            if journal.leader is leader:
                return
        if leader is not None:
            self._coordinate().open(turn, ReplicaJournal(self._broker, replica))
            # In a turn of its own: the log may have staged appends of this one.
            turn.after(0, LoadGroups(partition))
        elif self._coordinator is not None:
            self._coordinator.close(turn, partition)

    def load(self, event: LoadGroups, turn: Turn) -> None:
        shard = self._shard(event.partition)
        if shard is None:
            return
        try:
            if shard.load(turn):
                turn.after(0, event)
        except CorruptLogError as error:
            journal = shard.journal
            assert isinstance(journal, ReplicaJournal)
            self._broker.damaged(journal.replica, error)

    def _shard(self, partition: int) -> Shard | None:
        return self._coordinator.shards.get(partition) if self._coordinator is not None else None

    def _coordinate(self) -> GroupCoordinator:
        if self._coordinator is None:
            from kcluster.core.groups.coordinator import (  # noqa: PLC0415 - see above
                GroupCoordinator,
            )

            self._coordinator = GroupCoordinator(
                self.sessions,
                self._random,
                self._settings,
                self.partitions,
                lambda: self._broker.image,
            )
        return self._coordinator

    def _settings(self) -> GroupSettings:
        from kcluster.core.groups.settings import GroupSettings  # noqa: PLC0415 - see above

        number = self._broker.settings.int
        text = self._broker.settings.text

        def bounded(name: str) -> int:
            """Of groups of the consumer protocol: never outside of what the other two say."""
            least = number(f"group.consumer.min.{name}")
            return max(
                least, min(number(f"group.consumer.{name}"), number(f"group.consumer.max.{name}"))
            )

        return GroupSettings(
            min_session_timeout_ms=number("group.min.session.timeout.ms"),
            max_session_timeout_ms=number("group.max.session.timeout.ms"),
            initial_rebalance_delay_ms=number("group.initial.rebalance.delay.ms"),
            max_size=number("group.max.size"),
            commit_timeout_ms=number("offsets.commit.timeout.ms"),
            retention_ms=number("offsets.retention.minutes") * 60_000,
            consumer_session_timeout_ms=bounded("session.timeout.ms"),
            consumer_heartbeat_interval_ms=bounded("heartbeat.interval.ms"),
            consumer_max_size=number("group.consumer.max.size"),
            consumer_assignors=tuple(
                name.strip() for name in text("group.consumer.assignors").split(",")
            ),
            migration_policy=text("group.consumer.migration.policy"),
        )

    def partitions(self) -> int:
        """Of `__consumer_offsets`; 0 while there is no such topic."""
        topic = self._broker.image.topics.get(OFFSETS_TOPIC)
        return len(topic.partitions) if topic is not None else 0

    # --- requests -------------------------------------------------------------------------

    def serve(
        self,
        turn: Turn,
        group_id: str,
        act: Callable[[Turn, Shard], None],
        refuse: Callable[[Turn, ErrorCode], None],
    ) -> None:
        """See `GroupCoordinator.serve`."""
        if self._coordinator is None:
            refuse(turn, ErrorCode.NOT_COORDINATOR)
        else:
            self._coordinator.serve(turn, group_id, act, refuse)

    @property
    def coordinator(self) -> GroupCoordinator | None:
        """None when this broker coordinates no group."""
        return self._coordinator

    # --- time and metadata ----------------------------------------------------------------

    def expire(self, turn: Turn) -> bool:
        """Forget offsets whose time is over; whether there may be more."""
        return self._coordinator is not None and self._coordinator.expire(turn)

    def stood_still(self, turn: Turn) -> None:
        """Nobody could be heard meanwhile: whoever was silent gets a whole session anew."""
        if self._coordinator is not None:
            self._coordinator.renew_sessions(turn)

    def topics_changed(self, topics: set[str]) -> None:
        if self._coordinator is not None:
            self._coordinator.topics_changed(topics)

    def topics_deleted(self, topics: set[str], turn: Turn) -> None:
        if self._coordinator is not None:
            self._coordinator.topics_deleted(turn, topics)
