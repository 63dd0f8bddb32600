"""One member of a group of the consumer protocol (KIP-848), without a socket.

    OUT --join--> JOINING --epoch and assignment--> STABLE --leave--> LEAVING --> OUT
                     ^                              |   ^
                     '------ fenced, unknown -------'   '-- GIVING_UP: what is assigned no more

One request says everything, ConsumerGroupHeartbeat: the coordinator answers with the member's
epoch and, when that has changed, with all that it is to have. What it has and shall not is given
up first, then the rest is taken, and the next heartbeat, which leaves at once, says what is owned
now. The coordinator names only what nobody else owns any more, so that nothing is waited for.

Heartbeats go on while partitions are given up. A member that the coordinator does not know, or
that it has fenced, has lost its partitions: others may have them. It joins again. A join is
refused for good where a classic group may not take to this protocol.

`generation` is the member epoch: what Membership calls so, and OffsetCommit too.

Sources: KIP-848, KIP-1082 (the member makes its id).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

from kcluster.core.client.coordination import NOT_YET, Coordination
from kcluster.core.client.membership import MembershipSettings, Owner, State
from kcluster.errors import ApiError, ErrorCode
from kcluster.model import TopicId, TopicPartition
from kcluster.wire.messages.consumer_group_heartbeat import (
    Assignment,
    ConsumerGroupHeartbeatRequest,
    ConsumerGroupHeartbeatResponse,
    TopicPartitions,
)

HEARTBEAT_VERSION: Final = 1

JOINS: Final = 0
LEAVES: Final = -1
COMES_BACK: Final = -2
"""Member epochs of a heartbeat that says so; the last of a static member."""

HEARTBEAT_MS: Final = 1_000
"""Until the coordinator says how often."""

FENCED: Final = frozenset(
    {
        ErrorCode.UNKNOWN_MEMBER_ID,
        ErrorCode.FENCED_MEMBER_EPOCH,
        ErrorCode.GROUP_ID_NOT_FOUND,
    }
)
"""The coordinator has taken a member out; by the last one, the whole group has gone back to the
classic protocol meanwhile, or is deleted. Java's consumer gives up then."""


class ConsumerMembership:
    """What Membership is for a classic group."""

    def __init__(
        self,
        coordination: Coordination,
        topics: list[str],
        owner: Owner,
        settings: MembershipSettings | None = None,
        member_id: str = "",
    ) -> None:
        """`member_id`: of this member's whole life, and of nobody else's."""
        self.settings = settings or MembershipSettings()
        self.coordination = coordination
        self.exchange = coordination.exchange
        self.topics = sorted(topics)
        self.state = State.OUT
        self.member_id = member_id
        self.generation = JOINS
        self.owned: set[TopicPartition] = set()
        """Held, or being given up."""
        self.problem: ApiError | None = None
        """Why this is a member no more."""
        self._owner = owner
        self._assignment: Assignment | None = None
        """All that it is to have, as the coordinator said last; None when that is done."""
        self._says_all = True
        """The coordinator may not know what was said before."""
        self._says_owned = False
        self._heartbeat_ms = HEARTBEAT_MS
        self._is_asking = False
        self._at_ms: int | None = None
        """The next heartbeat."""
        self._leaves = False
        self._leave_by_ms = 0
        self._round = 0
        """Rises when what was asked before does not count any more."""
        coordination.on_found = self.pump

    # --- what the owner does

    def join(self, now_ms: int) -> None:
        assert self.state is State.OUT, self.state
        self._begin(now_ms)
        self.pump(now_ms)

    def leave(self, now_ms: int) -> None:
        """Give everything up and go; OUT when that is done, within `leave_ms`."""
        if self._leaves or self.state is State.OUT:
            return
        self._leaves = True
        self._leave_by_ms = now_ms + self.settings.leave_ms
        if self.state is not State.GIVING_UP:
            self._give_up(sorted(self.owned), now_ms)

    def refused(self, code: ErrorCode, now_ms: int) -> None:
        """A commit of this epoch was refused."""
        if code is ErrorCode.STALE_MEMBER_EPOCH:
            self._at_ms = now_ms  # The next heartbeat brings the new one.
        elif self.state in (State.STABLE, State.GIVING_UP):
            self._refused(code, None, now_ms)

    def next_deadline(self) -> int | None:
        """None while the next step is an answer's, or waits for the coordinator to be found."""
        at_ms = None if self._is_asking or not self.coordination.is_known else self._at_ms
        if self.state is State.LEAVING:
            return self._leave_by_ms if at_ms is None else min(at_ms, self._leave_by_ms)
        return at_ms

    def pump(self, now_ms: int) -> None:
        """Do what is due."""
        if self.state is State.OUT:
            return
        if self.coordination.problem is not None:
            self._end(self.coordination.problem, now_ms)
            return
        if self.state is State.LEAVING and now_ms >= self._leave_by_ms:
            self._left(now_ms)
            return
        if self.state is State.STABLE and self._assignment is not None:
            self._reconcile(now_ms)
        if self._is_asking or self._at_ms is None or now_ms < self._at_ms:
            return
        if not self.coordination.is_known:
            self.coordination.find(now_ms)
            return
        self._ask(now_ms)

    # --- from state to state

    def _begin(self, now_ms: int) -> None:
        self.state, self.generation = State.JOINING, JOINS
        self._assignment = None
        self._says_all = True
        self._is_asking = False
        self._round += 1
        self._at_ms = now_ms

    def _give_up(self, partitions: list[TopicPartition], now_ms: int) -> None:
        """Have the owner give these up, then go on to what is to be had, or to leave."""
        self.state = State.GIVING_UP
        began = self._round

        def given_up(now_ms: int) -> None:
            self.owned.difference_update(partitions)
            if self._round != began:
                return
            if self._leaves and self.owned:
                # It was to give up some, and meanwhile it was told to leave: now the others.
                self._give_up(sorted(self.owned), now_ms)
            elif self._leaves:
                self._begin_to_leave(now_ms)
            else:
                self.state = State.STABLE
                self._says_owned = True
                self._at_ms = now_ms
                self.pump(now_ms)

        if partitions:
            self._owner.revoke(partitions, now_ms, given_up)
        else:
            given_up(now_ms)

    def _begin_to_leave(self, now_ms: int) -> None:
        if self.generation == JOINS and not self._is_asking:
            self._left(now_ms)  # Nobody has heard of it.
            return
        self.state = State.LEAVING
        self.generation = LEAVES if self.settings.instance_id is None else COMES_BACK
        self._is_asking = False
        self._round += 1
        self._at_ms = now_ms
        self.pump(now_ms)

    def _reconcile(self, now_ms: int) -> None:
        """What is owned and shall not be goes first, then what shall be and is not comes."""
        assert self._assignment is not None
        wanted = self._named(self._assignment, now_ms)
        if wanted is None:
            return  # A topic of this id is not known yet; its Metadata is asked for.
        if removed := sorted(self.owned - wanted):
            self._give_up(removed, now_ms)
            return
        self._assignment = None
        added = sorted(wanted - self.owned)
        self.owned |= wanted
        self._says_owned = True
        self._at_ms = now_ms
        if added:
            self._owner.assigned(added, now_ms)

    def _named(self, assignment: Assignment, now_ms: int) -> set[TopicPartition] | None:
        by_id = {view.topic_id: name for name, view in self.exchange.topics.items()}
        found: set[TopicPartition] = set()
        for topic in assignment.topic_partitions:
            name = by_id.get(topic.topic_id)
            if name is None:
                self.exchange.refresh_soon(now_ms)
                return None
            found.update(TopicPartition(name, index) for index in topic.partitions)
        return found

    def _lose(self, now_ms: int) -> None:
        if self.owned:
            partitions = sorted(self.owned)
            self.owned.clear()
            self._owner.lost(partitions, now_ms)

    def _end(self, problem: ApiError, now_ms: int) -> None:
        self.problem = problem
        self._left(now_ms)

    def _left(self, now_ms: int) -> None:
        self._round += 1
        self.state, self.generation, self._at_ms = State.OUT, JOINS, None
        self._is_asking = self._leaves = False
        self._assignment = None
        self._lose(now_ms)

    # --- heartbeats

    def _ask(self, now_ms: int) -> None:
        self._is_asking = True
        self._at_ms = now_ms + self._heartbeat_ms
        says_all, says_owned = self._says_all, self._says_all or self._says_owned
        self._says_all = self._says_owned = False
        began = self._round
        settings = self.settings
        is_leaving = self.state is State.LEAVING
        request = ConsumerGroupHeartbeatRequest(
            group_id=self.coordination.group,
            member_id=self.member_id,
            member_epoch=self.generation,
            instance_id=settings.instance_id,
        )
        if says_all and not is_leaving:
            request.rebalance_timeout_ms = settings.rebalance_ms
            request.subscribed_topic_names = self.topics
            request.server_assignor = settings.server_assignor
        if says_owned and not is_leaving:
            request.topic_partitions = self._by_id(self.owned)

        def answered(answer: Any, now_ms: int) -> None:
            if self._round == began:
                self._is_asking = False
                self._answered(answer, now_ms)

        self.coordination.ask(
            request,
            HEARTBEAT_VERSION,
            ConsumerGroupHeartbeatResponse,
            answered,
            now_ms=now_ms,
            timeout_ms=settings.leave_ms if is_leaving else settings.session_ms // 3,
        )

    def _by_id(self, partitions: Iterable[TopicPartition]) -> list[TopicPartitions]:
        topics: dict[str, list[int]] = {}
        for tp in sorted(partitions):
            topics.setdefault(tp.topic, []).append(tp.partition)
        return [
            TopicPartitions(
                topic_id=TopicId(self.exchange.topics[name].topic_id), partitions=indexes
            )
            for name, indexes in topics.items()
        ]

    def _answered(self, response: ConsumerGroupHeartbeatResponse | None, now_ms: int) -> None:
        if response is None:
            # As soon as the coordinator is found it shall hear of us, and of all that we said.
            self._says_all = True
            self._at_ms = now_ms
            return
        if response.error_code:
            self._refused(ErrorCode(response.error_code), response.error_message, now_ms)
            return
        if self.state is State.LEAVING:
            self._left(now_ms)
            return
        if response.member_id:
            self.member_id = response.member_id
        self.generation = response.member_epoch
        if response.heartbeat_interval_ms > 0:
            self._heartbeat_ms = response.heartbeat_interval_ms
        if not (self._says_owned or self._says_all):
            self._at_ms = now_ms + self._heartbeat_ms
        if response.assignment is not None:
            self._assignment = response.assignment
        if self.state is State.JOINING:
            self.state = State.STABLE
        self.pump(now_ms)

    def _refused(self, code: ErrorCode, message: str | None, now_ms: int) -> None:
        is_joining = self.generation == JOINS
        if code in FENCED and not (is_joining and code is ErrorCode.GROUP_ID_NOT_FOUND):
            self._lose(now_ms)
            if self._leaves:
                self._left(now_ms)
            else:
                self._begin(now_ms)
                self.pump(now_ms)
        elif code in NOT_YET:
            self.coordination.refused(code, now_ms)
            self._says_all = True
            self._at_ms = now_ms + self.exchange.patience.backoff_ms
        else:
            why = message or code.name
            self._end(ApiError(code, f"group {self.coordination.group}: {why}"), now_ms)
