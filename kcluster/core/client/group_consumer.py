"""A consumer whose partitions are those that its group assigns to it, without a socket.

    membership --assigned--> offsets: read --committed--> ConsumerCore: fetch --take--> caller
        ^                                                                                  |
        '-- revoke: fetch no more, commit what is done, go on <------- done ---------------'

At least once: only what the caller called `done` is committed, every `commit_ms`, before a
partition is given up, and at the end. A record that was taken and not done comes again, here or
with the next owner.

Where the group has committed nothing the reading begins at `start`, and that place is committed
at once: otherwise what is written between two owners that both begin at the end would be read by
neither.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from kcluster.core.client.consumer import Consumed, ConsumerCore, ConsumerSettings, From, Place
from kcluster.core.client.consumer_membership import ConsumerMembership
from kcluster.core.client.coordination import Coordination
from kcluster.core.client.exchange import ASK_AGAIN, Exchange
from kcluster.core.client.membership import CONSUMER, Membership, MembershipSettings, State
from kcluster.core.client.offsets import GroupOffsets
from kcluster.errors import ApiError
from kcluster.model import TopicPartition

REVOKE_MS: Final = 5_000
"""So long a partition is held for the commit of what was done with it; then its records since
the last commit come again."""

COMMITTING: Final = frozenset({State.STABLE, State.GIVING_UP})
"""States in which the member's generation is the group's."""


@dataclass(frozen=True, slots=True)
class Assigned:
    generation: int
    partitions: tuple[TopicPartition, ...]


@dataclass(frozen=True, slots=True)
class Revoked:
    """Given up; `is_lost` without a word, since others may have them already."""

    partitions: tuple[TopicPartition, ...]
    is_lost: bool


@dataclass(slots=True)
class _GivingUp:
    partitions: list[TopicPartition]
    until_ms: int
    then: Callable[[int], None]
    is_told: bool
    """The owner knows, or wants to hear afterwards only."""


class GroupConsumerCore:
    def __init__(
        self,
        exchange: Exchange,
        group: str,
        topics: list[str],
        start: From,
        *,
        membership: MembershipSettings | None = None,
        consumer: ConsumerSettings | None = None,
        commit_ms: int = 1_000,
        member_id: str = "",
    ) -> None:
        """`member_id`: with the consumer protocol, what nobody else is called."""
        self.exchange = exchange
        self.events: list[Assigned | Revoked] = []
        """What came and went since the caller looked."""
        self.asks_before_revoking = False
        """Before partitions are given up, `revoking` names them until `revoke_now`."""
        self.consumer = ConsumerCore(exchange, consumer)
        self.coordination = Coordination(exchange, group)
        self.membership: Membership | ConsumerMembership
        if membership is not None and membership.protocol == CONSUMER:
            self.membership = ConsumerMembership(
                self.coordination, topics, self, membership, member_id
            )
        else:
            self.membership = Membership(self.coordination, topics, self, membership)
        self.offsets = GroupOffsets(self.coordination, self.membership, self._begin)
        self._start = start
        self._commit_ms = commit_ms
        self._commit_at_ms = 0
        self._unplaced: set[TopicPartition] = set()
        """Never committed, and where their reading begins is not known yet."""
        self._undone: dict[TopicPartition, int] = {}
        """The last offset that was taken, of partitions where not all that was is done."""
        self._moved: set[TopicPartition] = set()
        """Where the caller has said what to commit, and has called nothing done since."""
        self._giving_up: _GivingUp | None = None
        exchange.on_metadata = self.pump

    # --- what the caller does

    def join(self, now_ms: int) -> None:
        for topic in self.membership.topics:
            self.exchange.follow(topic, now_ms)
        self.membership.join(now_ms)

    def leave(self, now_ms: int) -> None:
        self.membership.leave(now_ms)
        self.pump(now_ms)

    def take(self, limit: int | None = None) -> list[Consumed]:
        taken = self.consumer.take(limit)
        self._undone.update(self.consumer.last_taken)
        return taken

    def done_all(self) -> None:
        """Everything that was taken is dealt with."""
        for tp, offset in self._undone.items():
            self.offsets.done(tp, offset + 1)
        self._moved.difference_update(self._undone)
        self._undone.clear()

    def commit(self, offsets: Mapping[TopicPartition, int] | None, now_ms: int) -> None:
        """These, or what is done, without waiting for `commit_ms` to be over. Partitions that
        are not this member's are left out."""
        for tp, offset in (offsets or {}).items():
            if tp in self.membership.owned:
                self.offsets.move(tp, offset)
                self._moved.add(tp)
        self._commit_at_ms = now_ms
        self.pump(now_ms)

    def seek(self, tp: TopicPartition, start: From, now_ms: int) -> None:
        """Go on from there; from now on that is what is committed, also where it is less."""
        self._undone.pop(tp, None)
        self.offsets.rewind(tp)
        self.consumer.seek(tp, start, now_ms)

    @property
    def revoking(self) -> list[TopicPartition]:
        """With `asks_before_revoking`: what is to be given up once `revoke_now` is called."""
        giving_up = self._giving_up
        return [] if giving_up is None or giving_up.is_told else giving_up.partitions

    def revoke_now(self, now_ms: int) -> None:
        giving_up = self._giving_up
        if giving_up is not None and not giving_up.is_told:
            giving_up.is_told = True
            self._stop_reading(giving_up.partitions)
            self._go_on_giving_up(now_ms)

    def done(self, taken: Iterable[Consumed]) -> None:
        """These are dealt with, and all before them in their partitions."""
        reading = self.consumer.positions()
        for consumed in taken:
            tp, offset = consumed.tp, consumed.record.offset
            # What was taken in an earlier generation may be behind what others have committed.
            if tp in reading and offset >= self.consumer.begin_offset(tp) >= 0:
                self.offsets.done(tp, offset + 1)
                self._moved.discard(tp)
                if self._undone.get(tp, offset) <= offset:
                    self._undone.pop(tp, None)

    @property
    def is_out(self) -> bool:
        return self.membership.state is State.OUT

    @property
    def problem(self) -> ApiError | None:
        """Why nothing will come any more."""
        if self.membership.problem is not None:
            return self.membership.problem
        return self.consumer.problems[0][1] if self.consumer.problems else None

    def is_at_end(self) -> bool:
        """Of all partitions that are assigned to this member, what was there when it began."""
        membership = self.membership
        if membership.state is not State.STABLE or self.consumer.has_records:
            return False
        if membership.owned:
            return membership.owned == self.consumer.positions().keys() and (
                self.consumer.is_at_end()
            )
        return True

    def next_deadline(self) -> int | None:
        deadlines = [
            self.consumer.next_deadline(),
            self.membership.next_deadline(),
            self.offsets.read_deadline(),
        ]
        commit_ms = self.offsets.commit_deadline()
        if self._giving_up is not None:
            deadlines += [self._giving_up.until_ms, commit_ms]
        elif commit_ms is not None and self._may_commit():
            deadlines.append(max(commit_ms, self._commit_at_ms))
        return min((each for each in deadlines if each is not None), default=None)

    def tick(self, now_ms: int) -> None:
        self.exchange.tick(now_ms)
        self.pump(now_ms)

    def pump(self, now_ms: int) -> None:
        self._look_at_topics(now_ms)
        self.membership.pump(now_ms)
        self.offsets.read(now_ms)
        self.consumer.pump(now_ms)
        for tp in [tp for tp in self._unplaced if self.consumer.begin_offset(tp) >= 0]:
            self._unplaced.discard(tp)
            self.offsets.done(tp, self.consumer.begin_offset(tp))
            self._commit_at_ms = now_ms
        self._pass_gaps()
        if now_ms >= self._commit_at_ms and self._may_commit() and self.offsets.commit(now_ms):
            self._commit_at_ms = now_ms + self._commit_ms
        self._go_on_giving_up(now_ms)

    # --- what the membership wants

    def assigned(self, partitions: list[TopicPartition], now_ms: int) -> None:
        self.events.append(Assigned(self.membership.generation, tuple(partitions)))
        self.offsets.follow(partitions)
        self.offsets.read(now_ms)

    def revoke(
        self, partitions: list[TopicPartition], now_ms: int, then: Callable[[int], None]
    ) -> None:
        if not self.asks_before_revoking:
            self._stop_reading(partitions)
        else:
            self.consumer.pause(*partitions)
        self._giving_up = _GivingUp(
            partitions, now_ms + REVOKE_MS, then, not self.asks_before_revoking
        )
        self._go_on_giving_up(now_ms)

    def lost(self, partitions: list[TopicPartition], now_ms: int) -> None:
        self._stop_reading(partitions)
        self.offsets.forget(partitions)
        self._giving_up = None
        self.events.append(Revoked(tuple(partitions), is_lost=True))

    # --- inside

    def _may_commit(self) -> bool:
        return self.membership.state in COMMITTING and self.coordination.is_known

    def _begin(self, tp: TopicPartition, committed: int, now_ms: int) -> None:
        if tp not in self.membership.owned:
            return
        if committed >= 0:
            self.consumer.add(tp, From(Place.NEAREST, committed), now_ms)
        else:
            self._unplaced.add(tp)
            self.consumer.add(tp, self._start, now_ms)

    def _pass_gaps(self) -> None:
        """Behind the last record there may be offsets without any: compaction took them. A group
        that has done everything has no lag."""
        for tp, position in self.consumer.positions().items():
            is_done = tp not in self._undone and not self.consumer.is_buffered(tp)
            if tp in self._moved:
                continue
            at = self.offsets.position(tp)
            if is_done and at is not None and at < position:
                self.offsets.done(tp, position)

    def _stop_reading(self, partitions: list[TopicPartition]) -> None:
        for tp in partitions:
            self.consumer.remove(tp)
            self._unplaced.discard(tp)
            self._moved.discard(tp)
            self._undone.pop(tp, None)

    def _go_on_giving_up(self, now_ms: int) -> None:
        giving_up = self._giving_up
        if giving_up is None or (not giving_up.is_told and now_ms < giving_up.until_ms):
            return
        if not self.offsets.is_committed(giving_up.partitions) and now_ms < giving_up.until_ms:
            if self._may_commit():
                self.offsets.commit(now_ms)
            return
        self._giving_up = None
        if not giving_up.is_told:
            self._stop_reading(giving_up.partitions)
        self.offsets.forget(giving_up.partitions)
        self.events.append(Revoked(tuple(giving_up.partitions), is_lost=False))
        giving_up.then(now_ms)

    def _look_at_topics(self, now_ms: int) -> None:
        for topic in self.membership.topics:
            view = self.exchange.topics.get(topic)
            if view is None or view.leaders:
                continue
            is_hopeless = view.error and view.error not in ASK_AGAIN
            is_missing = now_ms - view.missing_since_ms >= self.exchange.patience.topic_ms
            if (is_hopeless or is_missing) and self.membership.problem is None:
                message = f"there is no topic {topic} ({view.error.name})"
                self.membership.problem = ApiError(view.error, message)
