"""Consumer: records of topics, alone from any place, or sharing them with a group.

    with Consumer("localhost:19092", "page-views", group="counts") as consumer:
        for record in consumer:
            ...

The rules are those of `core/client/consumer.py` and `core/client/group_consumer.py`. Everything
happens inside `poll` and the other calls, in the caller's thread: a member of a group that calls
nothing for a session timeout loses its partitions to the others.
"""

from __future__ import annotations

import base64
import dataclasses
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Final, TypeVar

from kcluster.client.connect import Where, reach
from kcluster.client.faces import Blocking, Deadline, SyncFace, Waiting
from kcluster.core.client import group_operations, operations
from kcluster.core.client.admin import AdminCore, Operation
from kcluster.core.client.consumer import Consumed, ConsumerCore, ConsumerSettings, From
from kcluster.core.client.exchange import Exchange, Patience
from kcluster.core.client.group_consumer import Assigned, GroupConsumerCore, Revoked
from kcluster.core.client.membership import CLASSIC, CONSUMER, MembershipSettings
from kcluster.errors import ApiError, ErrorCode, UsageError
from kcluster.model import TopicPartition

BEGINNING: Final = From()

COMMIT_S: Final = 30.0

Callback = Callable[[list[TopicPartition]], None]

T = TypeVar("T")


def member_settings(protocol: str, settings: MembershipSettings | None) -> MembershipSettings:
    """UsageError for a protocol that there is not."""
    if protocol not in (CLASSIC, CONSUMER):
        raise UsageError(
            f"group_protocol cannot be {protocol!r}", f"it is {CLASSIC} or {CONSUMER}",
            'group_protocol="consumer"', 2,
        )  # fmt: skip
    settings = settings or MembershipSettings()
    return settings if protocol == CLASSIC else dataclasses.replace(settings, protocol=protocol)


class ConsumerSession:
    """The cores of one consumer, on one exchange, as its driver sees them."""

    def __init__(
        self,
        brokers: list[int],
        topics: list[str],
        group: str | None,
        start: From,
        settings: ConsumerSettings | None,
        membership: MembershipSettings | None,
        patience: Patience | None,
        commit_ms: int,
    ) -> None:
        self.exchange = Exchange(brokers, patience)
        self.group_id = group
        self.admin = AdminCore(self.exchange, has_lane=True)
        self.group: GroupConsumerCore | None = None
        if group is not None and topics:
            self.group = GroupConsumerCore(
                self.exchange, group, topics, start,
                membership=membership, consumer=settings, commit_ms=commit_ms,
                member_id=base64.urlsafe_b64encode(uuid.uuid4().bytes).rstrip(b"=").decode(),
            )  # fmt: skip
            self.reader = self.group.consumer
        else:
            self.reader = ConsumerCore(self.exchange, settings)

    def tick(self, now_ms: int) -> None:
        (self.group or self.reader).tick(now_ms)
        self.admin.tick(now_ms)

    def next_deadline(self) -> int | None:
        deadlines = [(self.group or self.reader).next_deadline(), self.admin.next_deadline()]
        return min((each for each in deadlines if each is not None), default=None)

    @property
    def problem(self) -> ApiError | None:
        """Why nothing will come any more, of a group; of a reader, each is told once."""
        if self.group is not None:
            return self.group.problem
        return self.reader.problems.pop(0)[1] if self.reader.problems else None


class ConsumerCalls:
    """What both faces do alike, and what they wait for."""

    _core: ConsumerSession
    _on_assigned: Callback | None
    _on_revoked: Callback | None
    _on_lost: Callback | None
    _auto_commit: bool
    _events: list[Assigned | Revoked]

    def _now_ms(self) -> int:
        raise NotImplementedError

    def _stir(self) -> None:
        raise NotImplementedError

    def _begin(
        self,
        topics: list[str],
        start: From,
        auto_commit: bool,
        on_assigned: Callback | None,
        on_revoked: Callback | None,
        on_lost: Callback | None,
    ) -> None:
        self._on_assigned, self._on_revoked = on_assigned, on_revoked
        self._on_lost = on_lost
        self._auto_commit = auto_commit
        self._events = []
        group = self._core.group
        if group is not None:
            group.asks_before_revoking = on_revoked is not None
            group.join(self._now_ms())
        else:
            for topic in topics:
                self._core.reader.assign(topic, None, start, self._now_ms())

    # --- what is read, and from where

    def assign(
        self, topic: str, partitions: list[int] | None = None, start: From = BEGINNING
    ) -> None:
        """Read these partitions, or all that there are, from there. Not as a member of a group."""
        if self._core.group is not None:
            raise UsageError(
                "this consumer's partitions are assigned by its group", "it was given topics",
                "Consumer(where, group=...) without topics commits for a group, as no member", 2,
            )  # fmt: skip
        self._core.reader.assign(topic, partitions, start, self._now_ms())
        self._stir()

    def seek(self, tp: TopicPartition, start: From) -> None:
        """Go on from there. Records that have come and were not polled are dropped."""
        self._check(tp)
        (self._core.group or self._core.reader).seek(tp, start, self._now_ms())
        self._stir()

    def pause(self, *partitions: TopicPartition) -> None:
        """Have `poll` give no records of these until `resume`."""
        for tp in partitions:
            self._check(tp)
        self._core.reader.pause(*partitions)

    def resume(self, *partitions: TopicPartition) -> None:
        for tp in partitions:
            self._check(tp)
        self._core.reader.resume(*partitions, now_ms=self._now_ms())
        self._stir()

    @property
    def paused(self) -> set[TopicPartition]:
        return self._core.reader.paused

    def _check(self, tp: TopicPartition) -> None:
        if tp not in self._core.reader.positions():
            raise UsageError(
                f"{tp} is not read by this consumer",
                "it was not assigned to it, or nobody has said yet where it is",
                "consumer.positions() says what is",
                2,
            )

    def positions(self) -> dict[TopicPartition, int]:
        """The next offset that `poll` gives of each partition; -1 while that is not known."""
        return self._core.reader.next_offsets()

    @property
    def assignment(self) -> list[TopicPartition]:
        group = self._core.group
        held = group.membership.owned if group is not None else self._core.reader.positions()
        return sorted(held)

    @property
    def is_at_end(self) -> bool:
        """Everything that was there when the partitions were assigned has been polled."""
        if self._core.group is not None:
            return self._core.group.is_at_end()
        return self._core.reader.is_at_end() and not self._core.reader.has_records

    # --- what is done with it

    def done(self, taken: Iterable[Consumed]) -> None:
        """Dealt with, and all before them in their partitions: to be committed within `commit_ms`
        by a `poll`, at the latest at the end. With auto_commit the next `poll` says so."""
        if self._core.group is not None:
            self._core.group.done(taken)

    def take_events(self) -> list[Assigned | Revoked]:
        """What a group assigned and revoked since the last call."""
        group = self._core.group
        if group is not None:
            self._events += group.events
            group.events = []
        events, self._events = self._events, []
        return events

    def _call_back(self) -> None:
        """Of rebalances. Called between the steps of the driver, never within."""
        group = self._core.group
        if group is None:
            return
        if revoking := group.revoking:
            if self._auto_commit:
                group.done_all()
            if self._on_revoked is not None:
                self._on_revoked(list(revoking))
            group.revoke_now(self._now_ms())
        while group.events:
            event = group.events.pop(0)
            self._events = [*self._events[-EVENTS_MAX:], event]
            if isinstance(event, Assigned):
                if self._on_assigned is not None:
                    self._on_assigned(list(event.partitions))
            elif event.is_lost and self._on_lost is not None:
                self._on_lost(list(event.partitions))

    # --- waiting

    def _poll(self, timeout_ms: float = 500, limit: int | None = None) -> Waiting[list[Consumed]]:
        """Records that are there, or the first that come within `timeout_ms`; at most `limit`.
        Raises ApiError when the group, or a partition or topic, is not to be had."""
        deadline = Deadline(timeout_ms)
        core = self._core
        group, reader = core.group, core.reader
        if group is not None:
            if self._auto_commit:
                group.done_all()
            # Heartbeats leave and rebalances come also while there is always something to take.
            yield 0 if reader.has_records else deadline.left_ms
            self._call_back()
        while True:
            taken = group.take(limit) if group is not None else reader.take(limit)
            if taken:
                return taken
            if (problem := core.problem) is not None:
                raise problem
            if deadline.is_over:
                return []
            yield deadline.left_ms
            self._call_back()

    def _ask(self, operation: Operation[T]) -> Waiting[T]:
        running = self._core.admin.start(operation, self._now_ms())
        try:
            while not running.is_done:
                yield 1000
                self._call_back()
        finally:
            self._core.admin.forget(running)
        if running.error is not None:
            raise running.error
        return running.result  # type: ignore[return-value]

    def _commit(
        self, offsets: Mapping[TopicPartition, int] | None = None, timeout_s: float = COMMIT_S
    ) -> Waiting[None]:
        """These positions, each the next offset to be read, or everything that was polled. Returns
        once it is committed. Raises ApiError when it cannot be: a partition may be another's by
        now."""
        group_id, group = self._group_id(), self._core.group
        if group is None:
            wanted = dict(self.positions() if offsets is None else offsets)
            yield from self._ask(
                group_operations.commit(
                    group_id, {tp: offset for tp, offset in wanted.items() if offset >= 0}
                )
            )
            return
        deadline = Deadline(timeout_s * 1000)
        if offsets is None:
            group.done_all()
            wanted = group.offsets.uncommitted()
        else:
            wanted = dict(offsets)
        group.commit(offsets, self._now_ms())
        while not deadline.is_over:
            held = [tp for tp in wanted if tp in group.membership.owned]
            if len(held) < len(wanted):
                raise ApiError(
                    ErrorCode.ILLEGAL_GENERATION,
                    f"{min(set(wanted) - set(held))} is not this member's any more",
                )
            if group.problem is not None:
                raise group.problem
            if all(group.offsets.committed.get(tp) == wanted[tp] for tp in held):
                return
            yield deadline.left_ms
            group.commit(None, self._now_ms())
        raise ApiError(ErrorCode.REQUEST_TIMED_OUT, f"no answer in {timeout_s:g} s")

    def _committed(
        self, partitions: Iterable[TopicPartition] | None = None
    ) -> Waiting[dict[TopicPartition, int]]:
        """What the group has committed, of all or of these: the next offset of each. Those that
        were never committed are left out."""
        return (yield from self._ask(group_operations.committed(self._group_id(), partitions)))

    def _group_id(self) -> str:
        if self._core.group_id is None:
            raise UsageError(
                "this consumer belongs to no group", "only a group remembers what was committed",
                'Consumer(where, topic, group="...")', 2,
            )  # fmt: skip
        return self._core.group_id

    def _offsets_for_time(
        self, timestamp_ms: int, partitions: Iterable[TopicPartition] | None = None
    ) -> Waiting[dict[TopicPartition, int]]:
        """The offset of the first record at or after that time, of these or of what is assigned;
        -1 where there is none."""
        return (yield from self._offsets(timestamp_ms, partitions))

    def _beginnings(
        self, partitions: Iterable[TopicPartition] | None = None
    ) -> Waiting[dict[TopicPartition, int]]:
        """The first offset that each log still has."""
        return (yield from self._offsets(operations.EARLIEST, partitions))

    def _ends(
        self, partitions: Iterable[TopicPartition] | None = None
    ) -> Waiting[dict[TopicPartition, int]]:
        """The offset behind the last record that consumers may read."""
        return (yield from self._offsets(operations.LATEST, partitions))

    def _offsets(
        self, at: int, partitions: Iterable[TopicPartition] | None
    ) -> Waiting[dict[TopicPartition, int]]:
        wanted = self.assignment if partitions is None else list(partitions)
        found = yield from self._ask(operations.offsets(wanted, at))
        return {tp: each.offset for tp, each in found.items()}

    def _leave(self) -> Waiting[None]:
        """Commit what is done and leave the group. Returns when that has happened, or nobody has
        answered for `leave_ms`."""
        group = self._core.group
        if group is None:
            return
        if self._auto_commit:
            group.done_all()
        group.leave(self._now_ms())
        while not group.is_out:
            yield 500
            self._call_back()


EVENTS_MAX: Final = 1000
"""Of rebalances, that nobody has looked at."""


class Consumer(ConsumerCalls, SyncFace):
    """Records of topics. Give it topics to read them all; with a `group` as well, it is a member
    of that group; with neither, `assign` says what to read."""

    def __init__(
        self,
        where: Where | None = None,
        topics: str | Iterable[str] = (),
        settings: ConsumerSettings | None = None,
        *,
        cluster: str | None = None,
        group: str | None = None,
        start: From = BEGINNING,
        auto_commit: bool = True,
        commit_ms: int = 1_000,
        on_assigned: Callback | None = None,
        on_revoked: Callback | None = None,
        on_lost: Callback | None = None,
        group_protocol: str = CLASSIC,
        membership: MembershipSettings | None = None,
        patience: Patience | None = None,
    ) -> None:
        """`where`: "host:port,host:port" of any Kafka cluster; or `cluster`: the name of one that
        this user started. `start`: of a member, for what its group never committed.

        `auto_commit`: what one `poll` gave counts as done with the next; without it only `done`
        and `commit` say so. `on_revoked` is called before partitions are given up, when what is
        done can still be committed; `on_lost` when others may have them already.
        `group_protocol="consumer"`: the coordinator assigns, and only what moves is given up
        (KIP-848); all members of a group should have the same."""
        names = [topics] if isinstance(topics, str) else list(topics)
        transport = reach(where, cluster)
        self._core = ConsumerSession(
            transport.brokers(), names, group, start, settings,
            member_settings(group_protocol, membership), patience, commit_ms,
        )  # fmt: skip
        SyncFace.__init__(self, self._core, transport)
        self._begin(names, start, auto_commit, on_assigned, on_revoked, on_lost)

    def __enter__(self) -> Consumer:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __iter__(self) -> Iterator[Consumed]:
        """Without end."""
        while True:
            yield from self.poll()

    def _now_ms(self) -> int:
        return self._driver.now_ms()

    def _stir(self) -> None:
        SyncFace._stir(self)

    poll = Blocking(ConsumerCalls._poll)
    commit = Blocking(ConsumerCalls._commit)
    committed = Blocking(ConsumerCalls._committed)
    offsets_for_time = Blocking(ConsumerCalls._offsets_for_time)
    beginnings = Blocking(ConsumerCalls._beginnings)
    ends = Blocking(ConsumerCalls._ends)
    leave = Blocking(ConsumerCalls._leave)

    def read_to_end(self) -> Iterator[Consumed]:
        """Everything from the place of assignment to what was the end at that time."""
        while not self.is_at_end:
            yield from self.poll()

    def close(self) -> None:
        """Leaves the group, with what is done committed."""
        try:
            self.leave()
        finally:
            self._close()
