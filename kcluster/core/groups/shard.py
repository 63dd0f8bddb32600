"""The groups of one partition of `__consumer_offsets`, for as long as this broker leads it.

    loading --(log read to its end, all of it committed)--> active --(leadership ends)--> closed
       |   requests wait, COORDINATOR_LOAD_IN_PROGRESS           NOT_COORDINATOR     ^
       |   after `LOAD_WAIT_MS`                                                      |
       `--(a record cannot be read)--> failed ---------------------------------------'
                                       COORDINATOR_NOT_AVAILABLE

The log is read a chunk at a time, so that clients of other partitions are served in between.
What it holds above the high watermark may still be lost: the shard serves once the high watermark
has reached the log end that it began with, which is where this leader's epoch starts.

A record that was written as nobody can read it is the same on every replica, so that the log is
not to blame and another leader would not help. What it says of whom is not known: the shard
serves nobody, rather than half of the truth.

An append that fails takes the log offline, and with it the leadership and this shard: nothing
that was decided on top of it outlives it (rule 7).
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Sequence
from random import Random
from typing import Final, Protocol

import msgspec

from kcluster.core import traces
from kcluster.core.groups import rebalance, records
from kcluster.core.groups.consumer import heartbeat as consumer
from kcluster.core.groups.consumer.clocks import Clock
from kcluster.core.groups.consumer.clocks import stop_all as stop_clocks
from kcluster.core.groups.consumer.draft import encoded
from kcluster.core.groups.consumer.group import ConsumerGroup
from kcluster.core.groups.consumer.records import group_tombstones
from kcluster.core.groups.group import Group, GroupState, Member, PendingMember
from kcluster.core.groups.offsets import Committed, Offsets, Place, deletion
from kcluster.core.groups.settings import GroupSettings
from kcluster.core.metadata.image import ClusterImage
from kcluster.core.purgatory import Deadlines, Waiter
from kcluster.core.turn import Turn
from kcluster.errors import ApiError, CorruptLogError, ErrorCode, RemoteProtocolError
from kcluster.limits import LIMITS
from kcluster.wire.records import Record

LOAD_WAIT_MS: Final = 2000
"""A request that finds its group still being loaded waits so long: above what a load takes,
below what clients wait for an answer."""

EXPIRED_PER_TURN: Final = 200
"""Groups of which something is deleted in one turn, so that clients are served in between."""

TOMBSTONES: Final = 1000
"""Offsets deleted by one batch, which must not become larger than a log takes."""

Done = Callable[[Turn, ErrorCode], None]
"""Told once what became of an append: NONE when it is committed."""


AnyGroup = Group | ConsumerGroup


class Journal(Protocol):
    """The log of the shard's partition, led by this broker in one leader epoch."""

    @property
    def partition(self) -> int: ...

    @property
    def high_watermark(self) -> int: ...

    def append(self, turn: Turn, records: Sequence[Record]) -> int:
        """Their base offset, as one batch. Raises ApiError; then nothing was appended."""
        ...

    def when_committed(self, turn: Turn, offset: int, done: Done) -> None:
        """`done` once the high watermark has reached `offset`, or when it never will under this
        leader; at once if it has."""
        ...

    @property
    def log_start_offset(self) -> int: ...

    @property
    def log_end_offset(self) -> int: ...

    def read(self, offset: int) -> tuple[list[Record], int]:
        """Some records from `offset` on, and where to go on; the same offset at the end. Raises
        CorruptLogError, when it is not what was written, and RemoteProtocolError, when it is."""
        ...


class Phase(enum.Enum):
    LOADING = "loading"
    ACTIVE = "active"
    FAILED = "failed"
    CLOSED = "closed"


class Parked(Waiter):
    """A request that waits for the shard to be loaded."""

    __slots__ = ("serve", "shard")

    def __init__(self, shard: Shard, serve: Callable[[Turn], None]) -> None:
        self.due_ms = 0
        self.shard = shard
        self.serve = serve

    def expire(self, turn: Turn) -> None:
        self.shard.parked.pop(self, None)
        self.serve(turn)


class CommitTimeout(Waiter):
    """An answer that waits for a commit, and not for ever."""

    __slots__ = ("done",)

    def __init__(self, done: Done) -> None:
        self.due_ms = 0
        self.done: Done | None = done

    def expire(self, turn: Turn) -> None:
        done, self.done = self.done, None
        if done is not None:
            done(turn, ErrorCode.COORDINATOR_NOT_AVAILABLE)


_ERRORS: Final = {
    ErrorCode.NOT_LEADER_OR_FOLLOWER: ErrorCode.NOT_COORDINATOR,
    ErrorCode.KAFKA_STORAGE_ERROR: ErrorCode.NOT_COORDINATOR,
    ErrorCode.NOT_ENOUGH_REPLICAS: ErrorCode.COORDINATOR_NOT_AVAILABLE,
    ErrorCode.NOT_ENOUGH_REPLICAS_AFTER_APPEND: ErrorCode.COORDINATOR_NOT_AVAILABLE,
    ErrorCode.MESSAGE_TOO_LARGE: ErrorCode.UNKNOWN_SERVER_ERROR,
}
"""What a failed append means to a member of a group (Kafka's mapping)."""


class Shard:
    def __init__(
        self,
        journal: Journal,
        deadlines: Deadlines,
        random: Random,
        settings: GroupSettings,
        image: Callable[[], ClusterImage] = ClusterImage,
    ) -> None:
        self.journal = journal
        self.image = image
        """Of the cluster as it is known now: consumer groups are assigned its topics."""
        self.deadlines = deadlines
        self.random = random
        self.settings = settings
        self.phase = Phase.LOADING
        self.groups: dict[str, AnyGroup] = {}
        self.parked: dict[Parked, None] = {}
        self._load_offset = journal.log_start_offset
        self._load_end = journal.log_end_offset
        self._started_ms = -1
        self._deleted_topics: dict[str, int] = {}
        """{topic: log end offset when it was deleted}: offsets committed below that are still to
        be forgotten."""

    def __repr__(self) -> str:
        return f"Shard({self.journal.partition}, {self.phase.value}, {len(self.groups)} groups)"

    # --- life -----------------------------------------------------------------------------

    def load(self, turn: Turn) -> bool:
        """Read on; whether there is more to read. Raises CorruptLogError."""
        if self.phase is not Phase.LOADING:
            return False
        if self._started_ms < 0:
            self._started_ms = turn.now_ms
        # What was deleted meanwhile is not there any more.
        self._load_offset = max(self._load_offset, self.journal.log_start_offset)
        if self._load_offset < self._load_end:
            self._read_on(turn)
            return self.phase is Phase.LOADING
        # Its own epoch begins where it found the end: what is below is committed by then.
        self.journal.when_committed(turn, self._load_end, self._loaded)
        return False

    def _read_on(self, turn: Turn) -> None:
        offset = self._load_offset
        try:
            found, following = self.journal.read(offset)
        except RemoteProtocolError as error:
            self._fail(turn, f"the batch at {offset}: {error}")
            return
        if following <= offset:
            self._fail(turn, f"nothing is to be read at {offset}, and it ends at {self._load_end}")
            return
        for record in found:
            try:
                records.replay(self, record)
            except CorruptLogError as error:
                self._fail(turn, f"the record at {record.offset}: {error}")
                return
        self._load_offset = following

    def _fail(self, turn: Turn, problem: str) -> None:
        self.phase = Phase.FAILED
        self.groups.clear()
        partition = self.journal.partition
        turn.trace(traces.Warned(f"groups of partition {partition} cannot be loaded: {problem}"))
        self._serve_parked(turn)

    def _loaded(self, turn: Turn, error: ErrorCode) -> None:
        if error and error is not ErrorCode.NOT_ENOUGH_REPLICAS_AFTER_APPEND:
            return
        if self.phase is not Phase.LOADING:
            return
        self.phase = Phase.ACTIVE
        self.renew_sessions(turn)
        for found in list(self.groups.values()):
            self.forget_if_unused(found)
        for each in self.consumer_groups():
            consumer.loaded(self, each, turn)
        for group in self.classic_groups():
            if group.members and group.leader is None:
                rebalance.rebalance_or_join(self, group, turn, "it was in the middle of one")
            elif len(group.members) > self.settings.max_size:
                # The bound was lowered: who joins again first stays.
                rebalance.rebalance_or_join(self, group, turn, "more members than it may have")
        self._forget_deleted_topics(turn)
        turn.trace(
            traces.GroupsLoaded(
                self.journal.partition, len(self.groups), turn.now_ms - self._started_ms
            )
        )
        self._serve_parked(turn)

    def close(self, turn: Turn) -> None:
        """This broker leads the partition no more: whoever waits is told to look elsewhere."""
        self.phase = Phase.CLOSED
        for group in self.classic_groups():
            rebalance.abandon(self, group, turn)
        for each in self.consumer_groups():
            stop_clocks(self, each)
            each.is_dead = True
        self.groups.clear()
        self._serve_parked(turn)

    def _serve_parked(self, turn: Turn) -> None:
        parked, self.parked = self.parked, {}
        for each in parked:
            self.deadlines.remove(each)
            each.serve(turn)

    def park(self, turn: Turn, serve: Callable[[Turn], None]) -> None:
        """Have `serve` called when the shard is loaded or closed, or has taken too long."""
        if len(self.parked) >= LIMITS.parked_group_requests:
            serve(turn)
            return
        parked = Parked(self, serve)
        self.parked[parked] = None
        self.deadlines.add(turn, LOAD_WAIT_MS, parked)

    def check_active(self) -> None:
        """Raises ApiError unless it serves."""
        if self.phase is Phase.LOADING:
            raise ApiError(ErrorCode.COORDINATOR_LOAD_IN_PROGRESS)
        if self.phase is Phase.FAILED:
            raise ApiError(ErrorCode.COORDINATOR_NOT_AVAILABLE)
        if self.phase is Phase.CLOSED:
            raise ApiError(ErrorCode.NOT_COORDINATOR)

    # --- groups ---------------------------------------------------------------------------

    def classic_groups(self) -> list[Group]:
        return [group for group in self.groups.values() if isinstance(group, Group)]

    def consumer_groups(self) -> list[ConsumerGroup]:
        return [group for group in self.groups.values() if isinstance(group, ConsumerGroup)]

    def group(self, group_id: str) -> Group:
        """The classic group, made when there is none. Raises ApiError at the bound of groups."""
        group = self.groups.get(group_id)
        if group is None:
            self.check_room_for(group_id)
            group = self.groups[group_id] = Group(group_id)
        assert isinstance(group, Group)
        return group

    def check_room_for(self, group_id: str) -> None:
        """Raises ApiError when there would be one group too many."""
        if group_id not in self.groups and len(self.groups) >= LIMITS.groups_per_shard:
            raise ApiError(ErrorCode.COORDINATOR_NOT_AVAILABLE, "too many groups")

    def find_any(self, group_id: str) -> AnyGroup | None:
        """None also for one of which nobody is told."""
        group = self.groups.get(group_id)
        return None if group is None or group.is_unused else group

    def find(self, group_id: str) -> Group | None:
        """Of the classic ones."""
        group = self.find_any(group_id)
        return group if isinstance(group, Group) else None

    def find_consumer(self, group_id: str) -> ConsumerGroup | None:
        """Of those of the consumer protocol."""
        group = self.find_any(group_id)
        return group if isinstance(group, ConsumerGroup) else None

    def new_id(self) -> str:
        """Of a member, in the text form of a UUID."""
        text = f"{self.random.getrandbits(128):032x}"
        return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"

    def offsets_of(self, group_id: str) -> Offsets | None:
        """Also of a group whose deletion is not committed yet: until then they are shown."""
        group = self.groups.get(group_id)
        return group.offsets if group is not None else None

    def forget_if_unused(self, group: AnyGroup) -> None:
        if (
            group.is_unused
            and self.groups.get(group.id) is group
            and group.offsets.is_forgotten(self.journal.high_watermark)
        ):
            del self.groups[group.id]

    def member_fell_silent(self, member: Member, turn: Turn) -> None:
        rebalance.member_fell_silent(self, member.group, member, turn)

    def pending_member_fell_silent(self, member: PendingMember, turn: Turn) -> None:
        rebalance.pending_member_fell_silent(self, member.group, member, turn)

    def clock_ran_out(self, clock: Clock, turn: Turn) -> None:
        consumer.clock_ran_out(self, clock, turn)

    def renew_sessions(self, turn: Turn) -> None:
        """Each member gets a whole session from now on."""
        for group in self.classic_groups():
            for member in group.members.values():
                if not member.is_new:
                    rebalance.beat(self, member, turn)
        for other in self.consumer_groups():
            for each in other.members.values():
                consumer.beat(self, other, each, turn)

    def topics_changed(self, topics: set[str], *, are_others: bool = True) -> None:
        """Something is new of these: groups that subscribe to them are to look. `are_others`: some
        were created or deleted, so that those who subscribe by patterns are to look, too."""
        for group in self.consumer_groups():
            if (are_others and group.facts.patterns) or not topics.isdisjoint(
                group.subscribed_topics()
            ):
                group.is_stale = True

    # --- the log --------------------------------------------------------------------------

    def append(self, turn: Turn, batch: Sequence[Record], done: Done | None) -> int:
        """Append as one batch; its base offset. `done` is told when it is committed, or after
        the commit timeout that nobody knows. Raises ApiError with a group's error code; then
        nothing was appended."""
        try:
            base_offset = self.journal.append(turn, batch)
        except ApiError as error:
            raise ApiError(_ERRORS.get(error.code, error.code), error.message) from error
        if done is not None:
            self._when_committed(turn, base_offset + len(batch), done)
        return base_offset

    def when_written(self, turn: Turn, end_offset: int, done: Done) -> None:
        """Now, when all below `end_offset` is committed; else as an append is."""
        if end_offset <= self.journal.high_watermark:
            done(turn, ErrorCode.NONE)
        else:
            self._when_committed(turn, end_offset, done)

    def _when_committed(self, turn: Turn, end_offset: int, done: Done) -> None:
        waiter = CommitTimeout(done)
        self.deadlines.add(turn, self.settings.commit_timeout_ms, waiter)

        def committed(later: Turn, error: ErrorCode) -> None:
            self.deadlines.remove(waiter)
            waiting, waiter.done = waiter.done, None
            if waiting is not None:
                waiting(later, _ERRORS.get(error, error))

        self.journal.when_committed(turn, end_offset, committed)

    def commit_offsets(
        self, turn: Turn, group: AnyGroup, entries: dict[Place, Committed], done: Done
    ) -> None:
        """Raises ApiError."""
        batch = [
            records.offset_record(group.id, place, entry, turn.wall_ms)
            for place, entry in entries.items()
        ]
        base_offset = self.append(turn, batch, done)
        for index, (place, entry) in enumerate(entries.items()):
            group.offsets.replay(
                place,
                msgspec.structs.replace(entry, log_offset=base_offset + index),
                self.journal.high_watermark,
            )

    def delete_offsets(
        self, turn: Turn, group: AnyGroup, places: Sequence[Place], done: Done | None
    ) -> None:
        """Raises ApiError; of very many, some may then be deleted."""
        for first in range(0, len(places), TOMBSTONES):
            some = places[first : first + TOMBSTONES]
            batch = [records.offset_tombstone(group.id, place, turn.wall_ms) for place in some]
            is_last = first + TOMBSTONES >= len(places)
            base_offset = self.append(turn, batch, done if is_last else None)
            self._replay_deletions(group, some, base_offset)

    def _replay_deletions(self, group: AnyGroup, places: Sequence[Place], base_offset: int) -> None:
        high_watermark = self.journal.high_watermark
        for index, place in enumerate(places):
            group.offsets.replay(place, deletion(base_offset + index), high_watermark)

    def delete_group(self, turn: Turn, group: AnyGroup, done: Done | None) -> None:
        """With all its offsets, in one batch unless they are very many. Raises ApiError, as
        `delete_offsets`."""
        places = group.offsets.places()
        self.delete_offsets(turn, group, places[TOMBSTONES:], None)
        places = places[:TOMBSTONES]
        batch = [records.offset_tombstone(group.id, place, turn.wall_ms) for place in places]
        if isinstance(group, ConsumerGroup):
            batch += encoded(group_tombstones(group), turn.wall_ms)
        else:
            batch.append(records.group_tombstone(group.id, turn.wall_ms))
        base_offset = self.append(turn, batch, done)
        self._replay_deletions(group, places, base_offset)
        end_offset = base_offset + len(batch)
        if isinstance(group, ConsumerGroup):
            stop_clocks(self, group)
            group.is_dead = True
        else:
            for pending in group.pending.values():
                self.deadlines.remove(pending)
            group.enter(GroupState.DEAD, turn.wall_ms)
        # As after a replay: what was committed is shown until the deletion is.
        rest = self.groups[group.id] = Group(group.id)
        rest.offsets = group.offsets
        self.journal.when_committed(turn, end_offset, lambda _, error: self.forget_if_unused(rest))
        turn.trace(traces.GroupDeleted(group.id))

    def expire(self, turn: Turn) -> bool:
        """Forget offsets whose time is over, and groups that have none left and no members.
        Whether there may be more: then it is to be asked again soon."""
        if self.phase is not Phase.ACTIVE:
            return False
        self._forget_deleted_topics(turn)
        touched = 0
        for group in list(self.groups.values()):
            if touched >= EXPIRED_PER_TURN:
                return True
            if group.is_unused:
                self.forget_if_unused(group)
                continue
            due = group.offsets.expired(group.expiry(), turn.wall_ms, self.settings.retention_ms)
            try:
                if due:
                    touched += 1
                    self.delete_offsets(turn, group, due, None)
                    turn.trace(traces.OffsetsExpired(group.id, len(due)))
                is_pending = isinstance(group, Group) and bool(group.pending)
                if group.is_empty and not is_pending and not group.offsets:
                    touched += 1
                    self.delete_group(turn, group, None)
            except ApiError:
                # Too few in-sync replicas: the next round tries again.
                return False
        return False

    def topics_deleted(self, turn: Turn, topics: set[str]) -> None:
        """Offsets of a topic that is no more would be those of its namesake, too."""
        end_offset = self.journal.log_end_offset
        self._deleted_topics.update((topic, end_offset) for topic in sorted(topics))
        self._forget_deleted_topics(turn)

    def _forget_deleted_topics(self, turn: Turn) -> None:
        if not self._deleted_topics or self.phase is not Phase.ACTIVE:
            return
        for group in list(self.groups.values()):
            gone = [
                place
                for place in group.offsets.places()
                if group.offsets.latest(place).log_offset < self._deleted_topics.get(place[0], -1)
            ]
            try:
                self.delete_offsets(turn, group, gone, None)
            except ApiError:
                # Too few in-sync replicas: the next round of expiry tries again.
                return
        self._deleted_topics.clear()
