"""A group on a fake journal, told as a story: `group >> Join("a") << Joined("a", 1, leads="a")`.

`>>` is something that happens, `<<` the next answer that somebody got. A story tells every
answer: what nobody mentioned fails at the next `>>` and at `group.end()`. Members go by names;
ids and generations are remembered as a client would. The high watermark follows the log at the
end of each step unless `replicates` is False; then `Replicate` moves it.
"""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Any

from kcluster.core.groups import commits, joining, rebalance
from kcluster.core.groups.group import Group
from kcluster.core.groups.offsets import Committed, Place
from kcluster.core.groups.settings import GroupSettings
from kcluster.core.groups.shard import Done, Phase, Shard
from kcluster.core.purgatory import Deadlines
from kcluster.core.turn import Turn
from kcluster.errors import ApiError, ErrorCode
from kcluster.model import TopicPartition
from kcluster.wire.consumer_protocol import Subscription, encode_assignment, encode_subscription
from kcluster.wire.messages.join_group import (
    JoinGroupRequest,
    JoinGroupRequestProtocol,
    JoinGroupResponse,
)
from kcluster.wire.messages.sync_group import (
    SyncGroupRequest,
    SyncGroupRequestAssignment,
    SyncGroupResponse,
)
from kcluster.wire.records import Record, build_batch, read_records

WALL_MS = 1_700_000_000_000
DAY_MS = 86_400_000
PLACE: Place = ("orders", 0)


class FakeJournal:
    """A log that is a list; its high watermark is moved by hand, its appends fail by order."""

    partition = 0
    chunk = 3
    """Records of one read."""

    def __init__(self, records: Sequence[Record] = (), high_watermark: int = 0) -> None:
        self.records = list(records)
        self.high_watermark = high_watermark
        self.log_start_offset = 0
        self.failures: list[ErrorCode] = []
        """Of the next appends; NONE for one that goes well."""
        self.deposed: ErrorCode = ErrorCode.NONE
        self._waiting: list[tuple[int, Done]] = []

    @property
    def log_end_offset(self) -> int:
        return len(self.records)

    def append(self, turn: Turn, records: Sequence[Record]) -> int:
        if self.deposed:
            raise ApiError(self.deposed)
        failure = self.failures.pop(0) if self.failures else ErrorCode.NONE
        if failure:
            raise ApiError(failure)
        base_offset = len(self.records)
        # What is read back has been through the wire format.
        batch = build_batch(records)
        for index, record in enumerate(read_records(batch)):
            record.offset = base_offset + index
            self.records.append(record)
        return base_offset

    def when_committed(self, turn: Turn, offset: int, done: Done) -> None:
        if offset <= self.high_watermark:
            done(turn, ErrorCode.NONE)
        elif self.deposed:
            done(turn, self.deposed)
        else:
            self._waiting.append((offset, done))

    def read(self, offset: int) -> tuple[list[Record], int]:
        found = self.records[offset : offset + self.chunk]
        return found, offset + len(found)

    def reach(self, turn: Turn, offset: int, error: ErrorCode = ErrorCode.NONE) -> None:
        assert self.high_watermark <= offset <= len(self.records)
        self.high_watermark = offset
        while self._waiting and self._waiting[0][0] <= offset:
            _, done = self._waiting.pop(0)
            done(turn, error)

    def depose(self, turn: Turn, error: ErrorCode = ErrorCode.NOT_LEADER_OR_FOLLOWER) -> None:
        self.deposed = error
        waiting, self._waiting = self._waiting, []
        for _, done in waiting:
            done(turn, error)


# --- what happens -------------------------------------------------------------------------


@dataclass
class Join:
    name: str
    protocols: Sequence[str] = ("range",)
    instance: str | None = None
    version: int = 3
    session_ms: int = 10_000
    rebalance_ms: int = 60_000
    topics: Sequence[str] = ("orders",)
    metadata: bytes | None = None
    type: str = "consumer"
    id: str | None = None
    """Instead of the one that it knows."""


@dataclass
class Sync:
    """With `given` by its leader: what each member gets."""

    name: str
    given: dict[str, bytes] = field(default_factory=dict)
    generation: int | None = None
    id: str | None = None
    instance: str | None = None
    type: str | None = None
    protocol: str | None = None


@dataclass
class Beat:
    name: str
    generation: int | None = None
    id: str | None = None
    instance: str | None = None


@dataclass
class Leave:
    name: str
    id: str | None = None
    instance: str | None = None


@dataclass
class Commit:
    """By nobody: as an administrator, or a consumer that assigns for itself."""

    name: str = ""
    offset: int = 0
    place: Place = PLACE
    generation: int | None = None
    id: str | None = None
    instance: str | None = None


@dataclass
class Delete:
    """Offsets of places; without any, the group."""

    places: Sequence[Place] = ()


@dataclass
class Wait:
    ms: int


@dataclass
class Replicate:
    """The high watermark moves: to the end, or by as many records."""

    records: int | None = None
    error: ErrorCode = ErrorCode.NONE


@dataclass
class Fail:
    """The next append does."""

    error: ErrorCode = ErrorCode.NOT_ENOUGH_REPLICAS


@dataclass
class FailOver:
    """Another leader: of what it holds, `lost` records at the end are not there."""

    lost: int = 0


# --- what was answered --------------------------------------------------------------------


@dataclass
class Joined:
    name: str
    generation: int
    leads: str = ""
    """Names of all members, in order, when it leads."""
    skip: bool = False


@dataclass
class Synced:
    name: str
    assignment: bytes = b""


@dataclass
class Refused:
    name: str
    error: ErrorCode


@dataclass
class Ok:
    name: str


class Story:
    def __init__(
        self,
        journal: FakeJournal | None = None,
        *,
        replicates: bool = True,
        id: str = "g",
        **settings: Any,
    ) -> None:
        self.id = id
        self.journal = journal or FakeJournal()
        self.replicates = replicates
        self.settings = GroupSettings(**settings)
        self.turn = Turn()
        self.turn.now_ms = 1_000
        self.turn.wall_ms = WALL_MS
        self.timers: list[tuple[int, int, Any]] = []
        self.heard: list[Any] = []
        self.ids: dict[str, str] = {}
        self.generations: dict[str, int] = {}
        self.instances: dict[str, str | None] = {}
        self.answers: dict[str, JoinGroupResponse] = {}
        """The last to each member's joins."""
        self.traces: list[Any] = []
        self._serial = 0
        self._names: dict[int, str] = {}
        self._random = Random(1)
        self.deadlines = Deadlines()
        self.shard = self._open()

    # --- the shard ------------------------------------------------------------------------

    def _open(self) -> Shard:
        shard = Shard(self.journal, self.deadlines, self._random, self.settings)
        self.load(shard)
        return shard

    def load(self, shard: Shard) -> None:
        while shard.load(self.turn):
            pass
        if self.replicates:
            self.journal.reach(self.turn, self.journal.log_end_offset)
        self._take()

    @property
    def group(self) -> Group:
        group = self.shard.find(self.id)
        assert group is not None
        return group

    @property
    def state(self) -> str:
        return self.group.state.value

    # --- the story ------------------------------------------------------------------------

    def __rshift__(self, event: Any) -> Story:
        self.end()
        getattr(self, "_" + type(event).__name__.lower())(event)
        if self.replicates and self.shard.phase is Phase.ACTIVE:
            while self.journal.high_watermark < self.journal.log_end_offset:
                self.journal.reach(self.turn, self.journal.log_end_offset)
        self._take()
        return self

    def __lshift__(self, answer: Any) -> Story:
        assert self.heard, f"nothing was answered, expected {answer}"
        assert self.heard.pop(0) == answer, (answer, self.heard)
        return self

    def end(self) -> None:
        assert not self.heard, f"also answered: {self.heard}"

    def any(self, *answers: Any) -> Story:
        """These, in whatever order."""
        for answer in answers:
            assert answer in self.heard, (answer, self.heard)
            self.heard.remove(answer)
        return self

    def forget(self) -> Story:
        self.heard.clear()
        return self

    def forget_all(self) -> list[Any]:
        """What was answered."""
        told, self.heard = self.heard, []
        return told

    def _take(self) -> None:
        turn = self.turn
        # Only now all of those who joined know their ids.
        self.heard = [
            self._told(each) if isinstance(each, JoinGroupResponse) else each for each in self.heard
        ]
        for due_ms, timer in turn.timers:
            self._serial += 1
            heapq.heappush(self.timers, (due_ms, self._serial, timer))
        self.traces += turn.traces
        turn.clear()

    def _told(self, response: JoinGroupResponse) -> Joined:
        names = {each: name for name, each in self.ids.items()}
        leads = ",".join(names.get(each.member_id, each.member_id) for each in response.members)
        name = self._names[id(response)]
        return Joined(name, response.generation_id, leads, response.skip_assignment)

    def offset(self, place: Place = PLACE) -> int | None:
        """As OffsetFetch shows it."""
        entry = commits.fetch(self.shard, self.id, [place]).get(place)
        return entry.offset if entry is not None else None

    def offsets(self) -> dict[Place, int]:
        return {p: e.offset for p, e in commits.fetch_all(self.shard, self.id).items()}

    # --- events ---------------------------------------------------------------------------

    def _join(self, event: Join) -> None:
        name = event.name
        self.instances[name] = event.instance
        metadata = event.metadata
        if metadata is None:
            metadata = encode_subscription(Subscription(list(event.topics), []))
        request = JoinGroupRequest(
            group_id=self.id,
            session_timeout_ms=event.session_ms,
            rebalance_timeout_ms=event.rebalance_ms,
            member_id=self.ids.get(name, "") if event.id is None else event.id,
            group_instance_id=event.instance,
            protocol_type=event.type,
            protocols=[
                JoinGroupRequestProtocol(name=each, metadata=metadata) for each in event.protocols
            ],
        )

        def answer(turn: Turn, response: JoinGroupResponse) -> None:
            self.answers[name] = response
            error = ErrorCode(response.error_code)
            if error:
                if error is ErrorCode.MEMBER_ID_REQUIRED:
                    self.ids[name] = response.member_id
                self.heard.append(Refused(name, error))
                return
            self.ids[name] = response.member_id
            self.generations[name] = response.generation_id
            self.heard.append(response)
            self._names[id(response)] = name

        self._try(
            name,
            lambda: joining.join(
                self.shard, request, event.version, name, "/host", self.turn, answer
            ),
        )

    def _try(self, name: str, act: Any) -> None:
        try:
            self.shard.check_active()
            act()
        except ApiError as error:
            self.heard.append(Refused(name, error.code))

    def _sync(self, event: Sync) -> None:
        name = event.name
        request = SyncGroupRequest(
            group_id=self.id,
            generation_id=self._generation(event),
            member_id=self._id(event),
            group_instance_id=event.instance or self.instances.get(name),
            protocol_type=event.type,
            protocol_name=event.protocol,
            assignments=[
                SyncGroupRequestAssignment(
                    member_id=self.ids.get(each, each), assignment=assignment
                )
                for each, assignment in event.given.items()
            ],
        )

        def answer(turn: Turn, response: SyncGroupResponse) -> None:
            error = ErrorCode(response.error_code)
            self.heard.append(Refused(name, error) if error else Synced(name, response.assignment))

        self._try(name, lambda: rebalance.sync(self.shard, request, self.turn, answer))

    def _generation(self, event: Any) -> int:
        given: int | None = event.generation
        return self.generations.get(event.name, -1) if given is None else given

    def _id(self, event: Any) -> str:
        given: str | None = event.id
        return self.ids.get(event.name, "") if given is None else given

    def _beat(self, event: Beat) -> None:
        def act() -> None:
            rebalance.heartbeat(
                self.shard,
                self.id,
                self._id(event),
                event.instance or self.instances.get(event.name),
                self._generation(event),
                self.turn,
            )
            self.heard.append(Ok(event.name))

        self._try(event.name, act)

    def _leave(self, event: Leave) -> None:
        def act() -> None:
            instance = event.instance or self.instances.get(event.name)
            rebalance.leave(self.shard, self.id, self._id(event), instance, "", self.turn)
            self.heard.append(Ok(event.name))

        self._try(event.name, act)

    def _commit(self, event: Commit) -> None:
        entries = {event.place: Committed(event.offset, 3, "note", self.turn.wall_ms)}
        self._try(
            event.name,
            lambda: commits.commit(
                self.shard,
                self.id,
                self._id(event),
                event.instance or self.instances.get(event.name),
                self._generation(event),
                entries,
                self.turn,
                self._done(event.name),
            ),
        )

    def _done(self, name: str) -> Done:
        def done(turn: Turn, error: ErrorCode) -> None:
            self.heard.append(Refused(name, error) if error else Ok(name))

        return done

    def _delete(self, event: Delete) -> None:
        done = self._done("")

        def act() -> None:
            if event.places:
                refused = commits.refused_deletions(self.shard, self.id, list(event.places))
                if refused:
                    raise ApiError(next(iter(refused.values())))
                commits.delete(self.shard, self.id, list(event.places), self.turn, done)
                return
            group = self.shard.find(self.id)
            if group is None:
                raise ApiError(ErrorCode.GROUP_ID_NOT_FOUND)
            self.shard.delete_group(self.turn, group, done)

        self._try("", act)

    def _wait(self, event: Wait) -> None:
        """Sessions are renewed by nobody meanwhile."""
        turn = self.turn
        end_ms = turn.now_ms + event.ms
        while self.timers and self.timers[0][0] <= end_ms:
            due_ms, _, timer = heapq.heappop(self.timers)
            turn.wall_ms += max(due_ms - turn.now_ms, 0)
            turn.now_ms = max(due_ms, turn.now_ms)
            self.deadlines.expired(timer, turn)
            self._take()
        turn.wall_ms += end_ms - turn.now_ms
        turn.now_ms = end_ms

    def _replicate(self, event: Replicate) -> None:
        journal = self.journal
        end = journal.log_end_offset
        if event.records is not None:
            end = journal.high_watermark + event.records
        journal.reach(self.turn, end, event.error)

    def _fail(self, event: Fail) -> None:
        self.journal.failures.append(event.error)

    def _failover(self, event: FailOver) -> None:
        old = self.journal
        old.depose(self.turn)
        self.shard.close(self.turn)
        self._take()
        kept = old.log_end_offset - event.lost
        assert kept >= old.high_watermark, "committed records are never lost"
        # A new leader may not know how far the high watermark came.
        self.journal = FakeJournal(old.records[:kept])
        self.shard = self._open()


def assignment(*partitions: int) -> bytes:
    return encode_assignment(TopicPartition("orders", each) for each in partitions)


def stable(*names: str, **settings: Any) -> Story:
    """A group of these, the first leads; each has been given its name."""
    group = Story(**settings)
    for name in names:
        group >> Join(name)
        group.forget()
    group >> Join(names[0])
    group.forget()
    for name in reversed(names):
        group >> Sync(name, {each: each.encode() for each in names} if name == names[0] else {})
        group.forget()
    assert group.state == "Stable"
    return group
