"""One member of a consumer group, without a socket: joining, staying, leaving.

    OUT --join--> JOINING --> ASSIGNING --> SYNCING --> STABLE --leave--> LEAVING --> OUT
                   ^   ^      (leader)         |           |
                   |   '----- any refusal -----'           |
                   '-- GIVING_UP <-- a rebalance is on ----'

    JOINING     JoinGroup is asked, or waits for a coordinator
    ASSIGNING   this member leads the group and waits for Metadata of all topics
    STABLE      partitions are held; heartbeats
    GIVING_UP   the owner commits what was done and gives up partitions; eager: all of them,
                cooperative: after SYNCING, what the assignment took away. Also before LEAVING

A member whose generation or id is not known any more (ILLEGAL_GENERATION, UNKNOWN_MEMBER_ID) has
lost its partitions: others may have them, so nothing is committed. FENCED_INSTANCE_ID and
whatever else a retry cannot heal ends the membership with `problem`.

The member tells its owner what to read and what to give up; the owner says with a call when
that is done. Time comes in with every call; `next_deadline` says when to call `pump`.

Sources: KIP-62, KIP-345 (static members), KIP-394 (MEMBER_ID_REQUIRED), KIP-429 (cooperative),
KIP-814 (skip_assignment).
"""

from __future__ import annotations

import enum
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, Protocol

from kcluster.core.client.assignors import COOPERATIVE_STICKY, RANGE
from kcluster.core.client.coordination import NOT_YET, Coordination
from kcluster.core.client.group_leader import GroupLeader
from kcluster.errors import ApiError, ErrorCode
from kcluster.model import TopicPartition
from kcluster.wire.consumer_protocol import (
    PROTOCOL_TYPE,
    Subscription,
    decode_assignment,
    encode_subscription,
)
from kcluster.wire.messages.heartbeat import HeartbeatRequest, HeartbeatResponse
from kcluster.wire.messages.join_group import (
    JoinGroupRequest,
    JoinGroupRequestProtocol,
    JoinGroupResponse,
)
from kcluster.wire.messages.leave_group import (
    LeaveGroupRequest,
    LeaveGroupResponse,
    MemberIdentity,
)
from kcluster.wire.messages.sync_group import (
    SyncGroupRequest,
    SyncGroupRequestAssignment,
    SyncGroupResponse,
)

JOIN_GROUP_VERSION: Final = 9
SYNC_GROUP_VERSION: Final = 5
HEARTBEAT_VERSION: Final = 4
LEAVE_GROUP_VERSION: Final = 5

CLASSIC: Final = "classic"
CONSUMER: Final = "consumer"

NO_GENERATION: Final = -1

SLACK_MS: Final = 5_000
"""On top of the rebalance timeout, for the answer to JoinGroup and SyncGroup."""


class State(enum.Enum):
    OUT = "out"
    GIVING_UP = "giving up"
    JOINING = "joining"
    ASSIGNING = "assigning"
    SYNCING = "syncing"
    STABLE = "stable"
    LEAVING = "leaving"


@dataclass(frozen=True, slots=True)
class MembershipSettings:
    session_ms: int = 10_000
    """Without a heartbeat for so long, the coordinator takes the member out."""
    rebalance_ms: int = 60_000
    """So long others wait for a member to give up its partitions and join."""
    heartbeat_ms: int = 1_000
    leave_ms: int = 5_000
    """The coordinator of a member that leaves may be away for so long."""
    assign_ms: int = 2_000
    """The leader waits so long for Metadata of topics that have no leaders yet."""
    recount_ms: int = 10_000
    """The leader looks so often whether topics have more partitions."""
    protocol: str = CLASSIC
    """CLASSIC: the members assign. CONSUMER: the coordinator does (KIP-848)."""
    assignor: str = RANGE
    """Of the classic protocol."""
    server_assignor: str | None = None
    """Of the consumer protocol: uniform or range; None for the coordinator's choice."""
    instance_id: str | None = None
    """A static member: it keeps its partitions over a restart within the session (KIP-345)."""


class Owner(Protocol):
    """Who reads the partitions."""

    def assigned(self, partitions: list[TopicPartition], now_ms: int) -> None:
        """Also to be read from now on."""
        ...

    def revoke(
        self, partitions: list[TopicPartition], now_ms: int, then: Callable[[int], None]
    ) -> None:
        """Stop reading, commit what was done, and call `then(now_ms)`."""
        ...

    def lost(self, partitions: list[TopicPartition], now_ms: int) -> None:
        """Stop reading; others may have them already."""
        ...


class Membership:
    def __init__(
        self,
        coordination: Coordination,
        topics: list[str],
        owner: Owner,
        settings: MembershipSettings | None = None,
    ) -> None:
        self.settings = settings or MembershipSettings()
        self.coordination = coordination
        self.exchange = coordination.exchange
        self.topics = sorted(topics)
        self.state = State.OUT
        self.member_id = ""
        self.generation = NO_GENERATION
        self.is_leader = False
        self.owned: set[TopicPartition] = set()
        """Held, or being given up."""
        self.problem: ApiError | None = None
        """Why this is a member no more."""
        self._owner = owner
        self._is_asking = False
        self._at_ms: int | None = None
        """When to go on: the next try, the next heartbeat, the end of waiting for Metadata."""
        self._leaves = False
        self._leave_by_ms = 0
        self._round = 0
        """Rises with every change of state, so that late answers find nobody."""
        self._join: JoinGroupResponse | None = None
        self._leader = GroupLeader(self.exchange, self.settings)
        coordination.on_found = self.pump

    @property
    def is_cooperative(self) -> bool:
        return self.settings.assignor == COOPERATIVE_STICKY

    # --- what the owner does

    def join(self, now_ms: int) -> None:
        assert self.state is State.OUT, self.state
        self._enter(State.JOINING, now_ms)
        self.pump(now_ms)

    def leave(self, now_ms: int) -> None:
        """Give everything up and go; OUT when that is done, within `leave_ms`."""
        if self._leaves or self.state is State.OUT:
            return
        self._leaves = True
        self._leave_by_ms = now_ms + self.settings.leave_ms
        if self.state is State.GIVING_UP:
            return  # What waits for that goes on to leave.
        held = sorted(self.owned)
        self._enter(State.GIVING_UP, None)
        self._give_up(held, now_ms)

    def refused(self, code: ErrorCode, now_ms: int) -> None:
        """A commit of this generation was refused."""
        if self.state in (State.STABLE, State.GIVING_UP):
            self._refused(code, now_ms)

    def next_deadline(self) -> int | None:
        """None while the next step is an answer's, or waits for the coordinator to be found."""
        is_waiting = self._is_asking or not (
            self.coordination.is_known or self.state is State.ASSIGNING
        )
        at_ms = None if is_waiting else self._at_ms
        if self.state is State.LEAVING:
            return self._leave_by_ms if at_ms is None else min(at_ms, self._leave_by_ms)
        return at_ms

    def pump(self, now_ms: int) -> None:
        """Do what is due."""
        if self.coordination.problem is not None and self.state is not State.OUT:
            self._end(self.coordination.problem, now_ms)
        if self.state is State.LEAVING and now_ms >= self._leave_by_ms:
            self._left(now_ms)
        if self.state is State.ASSIGNING and self._leader.is_ready(now_ms):
            self._sync(self._leader.assign(now_ms), now_ms)
        if self._is_asking or self._at_ms is None or now_ms < self._at_ms:
            return
        if self.state not in (State.JOINING, State.STABLE, State.LEAVING):
            return
        if not self.coordination.is_known:
            # Whoever finds it calls `pump`; a heartbeat that is due by then leaves at once.
            self.coordination.find(now_ms)
            return
        if self.state is State.JOINING:
            self._ask_to_join(now_ms)
        elif self.state is State.LEAVING:
            self._ask_to_leave(now_ms)
        elif self.is_leader and self._leader.has_news(now_ms):
            self._rejoin(now_ms)
        else:
            self._ask_to_stay(now_ms)

    # --- from state to state

    def _enter(self, state: State, at_ms: int | None) -> None:
        self.state, self._at_ms = state, at_ms
        self._is_asking = False
        self._round += 1

    def _ask(
        self,
        request: Any,
        version: int,
        response: type[Any],
        done: Callable[[Any, int], None],
        *,
        now_ms: int,
        timeout_ms: int,
    ) -> None:
        """Of the coordinator; an answer that comes after the state has changed is dropped."""
        self._is_asking = True
        began = self._round

        def answered(answer: Any, now_ms: int) -> None:
            if self._round == began:
                self._is_asking = False
                done(answer, now_ms)

        self.coordination.ask(
            request, version, response, answered, now_ms=now_ms, timeout_ms=timeout_ms
        )

    def _give_up(self, partitions: list[TopicPartition], now_ms: int) -> None:
        """Have the owner give these up, then go on to join or to leave."""
        began = self._round

        def given_up(now_ms: int) -> None:
            self.owned.difference_update(partitions)
            if self._round != began:
                return
            if self._leaves and self.owned:
                # It was to give up some, and meanwhile it was told to leave: now the others.
                self._give_up(sorted(self.owned), now_ms)
                return
            if self._leaves:
                self._enter(State.LEAVING, now_ms)
                if not self.member_id or self.settings.instance_id is not None:
                    # A static member comes back, or its session ends (KIP-345).
                    self._left(now_ms)
            else:
                self._enter(State.JOINING, now_ms)
            self.pump(now_ms)

        if partitions:
            self._owner.revoke(partitions, now_ms, given_up)
        else:
            given_up(now_ms)

    def _rejoin(self, now_ms: int) -> None:
        self._enter(State.GIVING_UP, None)
        self._give_up([] if self.is_cooperative else sorted(self.owned), now_ms)

    def _lose(self, now_ms: int) -> None:
        if self.owned:
            partitions = sorted(self.owned)
            self.owned.clear()
            self._owner.lost(partitions, now_ms)

    def _refused(self, code: ErrorCode, now_ms: int) -> None:
        """What every request of a member may be refused with."""
        backoff_ms = self.exchange.patience.backoff_ms
        if code is ErrorCode.REBALANCE_IN_PROGRESS:
            if self.state is State.STABLE:
                self._rejoin(now_ms)
            elif self.state is not State.GIVING_UP:
                self._enter(State.JOINING, now_ms)
        elif code in (ErrorCode.UNKNOWN_MEMBER_ID, ErrorCode.ILLEGAL_GENERATION):
            if code is ErrorCode.UNKNOWN_MEMBER_ID:
                self.member_id = ""
            self.generation = NO_GENERATION
            self._lose(now_ms)
            if self._leaves:
                self._left(now_ms)
            else:
                self._enter(State.JOINING, now_ms)
        elif code in NOT_YET:
            self.coordination.refused(code, now_ms)
            if self.state is State.SYNCING:
                self._enter(State.JOINING, now_ms + backoff_ms)
            elif self.state is not State.GIVING_UP:
                self._at_ms = now_ms + backoff_ms
        else:
            self._end(ApiError(code, f"group {self.coordination.group}: {code.name}"), now_ms)

    def _end(self, problem: ApiError, now_ms: int) -> None:
        self.problem = problem
        self._left(now_ms)

    def _left(self, now_ms: int) -> None:
        self.member_id, self.generation = "", NO_GENERATION
        self._lose(now_ms)
        self._leaves = False
        self._enter(State.OUT, None)

    # --- joining

    def _ask_to_join(self, now_ms: int) -> None:
        settings = self.settings
        subscription = Subscription(self.topics, sorted(self.owned), self.generation)
        self._ask(
            JoinGroupRequest(
                group_id=self.coordination.group,
                session_timeout_ms=settings.session_ms,
                rebalance_timeout_ms=settings.rebalance_ms,
                member_id=self.member_id,
                group_instance_id=settings.instance_id,
                protocol_type=PROTOCOL_TYPE,
                protocols=[
                    JoinGroupRequestProtocol(
                        name=settings.assignor, metadata=encode_subscription(subscription)
                    )
                ],
            ),
            JOIN_GROUP_VERSION,
            JoinGroupResponse,
            self._joined,
            now_ms=now_ms,
            timeout_ms=settings.rebalance_ms + SLACK_MS,
        )

    def _joined(self, response: JoinGroupResponse | None, now_ms: int) -> None:
        if response is None:
            self._enter(State.JOINING, now_ms + self.exchange.patience.backoff_ms)
            return
        code = ErrorCode(response.error_code)
        if code is ErrorCode.MEMBER_ID_REQUIRED:
            self.member_id = response.member_id
            self._enter(State.JOINING, now_ms)
            self.pump(now_ms)
        elif code:
            self._refused(code, now_ms)
            self.pump(now_ms)
        else:
            self.member_id, self.generation = response.member_id, response.generation_id
            self.is_leader = response.leader == response.member_id
            self._join = response
            if self.is_leader and not response.skip_assignment:
                self._enter(State.ASSIGNING, self._leader.begin(response, now_ms))
            else:
                self._sync([], now_ms)

    # --- syncing

    def _sync(self, assignments: list[SyncGroupRequestAssignment], now_ms: int) -> None:
        response = self._join
        assert response is not None
        self._enter(State.SYNCING, None)
        if not self.coordination.is_known:
            # Whether the next coordinator knows of this generation, it will say to JoinGroup.
            self._enter(State.JOINING, now_ms)
            self.pump(now_ms)
            return
        self._ask(
            SyncGroupRequest(
                group_id=self.coordination.group,
                generation_id=self.generation,
                member_id=self.member_id,
                group_instance_id=self.settings.instance_id,
                protocol_type=PROTOCOL_TYPE,
                protocol_name=response.protocol_name,
                assignments=assignments,
            ),
            SYNC_GROUP_VERSION,
            SyncGroupResponse,
            self._synced,
            now_ms=now_ms,
            timeout_ms=self.settings.rebalance_ms + SLACK_MS,
        )

    def _synced(self, response: SyncGroupResponse | None, now_ms: int) -> None:
        if response is None:
            self._enter(State.JOINING, now_ms + self.exchange.patience.backoff_ms)
            return
        if response.error_code:
            self._refused(ErrorCode(response.error_code), now_ms)
            self.pump(now_ms)
            return
        assigned = set(decode_assignment(response.assignment))
        added, removed = assigned - self.owned, self.owned - assigned
        self.owned |= added
        self._enter(State.STABLE, now_ms + self.settings.heartbeat_ms)
        if added:
            self._owner.assigned(sorted(added), now_ms)
        if removed and self.state is State.STABLE:
            # KIP-429: once it is given up here, joining again has it given to another.
            self._enter(State.GIVING_UP, None)
            self._give_up(sorted(removed), now_ms)

    # --- staying, leaving

    def _ask_to_stay(self, now_ms: int) -> None:
        self._at_ms = now_ms + self.settings.heartbeat_ms
        self._ask(
            HeartbeatRequest(
                group_id=self.coordination.group,
                generation_id=self.generation,
                member_id=self.member_id,
                group_instance_id=self.settings.instance_id,
            ),
            HEARTBEAT_VERSION,
            HeartbeatResponse,
            self._stayed,
            now_ms=now_ms,
            timeout_ms=self.settings.session_ms // 3,
        )

    def _stayed(self, response: HeartbeatResponse | None, now_ms: int) -> None:
        if response is None:
            # The coordinator is being looked for; as soon as it is found, it shall hear of us.
            self._at_ms = now_ms
        elif response.error_code:
            self._refused(ErrorCode(response.error_code), now_ms)
            self.pump(now_ms)

    def _ask_to_leave(self, now_ms: int) -> None:
        self._at_ms = now_ms + self.exchange.patience.backoff_ms
        self._ask(
            LeaveGroupRequest(
                group_id=self.coordination.group,
                members=[MemberIdentity(member_id=self.member_id, reason="it is done")],
            ),
            LEAVE_GROUP_VERSION,
            LeaveGroupResponse,
            self._is_let_go,
            now_ms=now_ms,
            timeout_ms=self.settings.leave_ms,
        )

    def _is_let_go(self, response: LeaveGroupResponse | None, now_ms: int) -> None:
        if response is None:
            return
        code = ErrorCode(response.error_code)
        if code in NOT_YET:
            self.coordination.refused(code, now_ms)
        else:
            self._left(now_ms)
