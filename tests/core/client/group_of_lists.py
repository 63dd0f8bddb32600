"""A classic group beside the cluster of lists: joins wait for everybody, as with Kafka's.

The coordinator moves from broker to broker and keeps what it knows; members are put out when the
test says so. Offsets are a plain table, with every commit that was taken in order.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from kcluster.core.client.exchange import Exchange, Outgoing, broker_of_lane
from kcluster.errors import ErrorCode
from kcluster.model import TopicPartition
from kcluster.wire.message import decode, encode
from kcluster.wire.messages import find_coordinator as fc
from kcluster.wire.messages import heartbeat as hb
from kcluster.wire.messages import join_group as jg
from kcluster.wire.messages import leave_group as lg
from kcluster.wire.messages import offset_commit as oc
from kcluster.wire.messages import offset_fetch as of
from kcluster.wire.messages import sync_group as sg
from tests.core.client.cluster_of_lists import BROKERS, ClusterOfLists

EMPTY, PREPARING, COMPLETING, STABLE = "empty", "preparing", "completing", "stable"

COORDINATED = (
    jg.JoinGroupRequest,
    sg.SyncGroupRequest,
    hb.HeartbeatRequest,
    lg.LeaveGroupRequest,
    oc.OffsetCommitRequest,
    of.OffsetFetchRequest,
)


@dataclass
class Waiting:
    exchange: Exchange
    asked: Outgoing
    since_ms: int


@dataclass
class Member:
    metadata: bytes
    rebalance_ms: int
    joining: Waiting | None = None
    syncing: Waiting | None = None
    assignment: bytes = b""


@dataclass
class GroupOfLists(ClusterOfLists):
    seed: int = 0
    coordinator: int = 1
    state: str = EMPTY
    generation: int = 0
    leader: str = ""
    members: dict[str, Member] = field(default_factory=dict)
    promised: set[str] = field(default_factory=set)
    """Ids given by MEMBER_ID_REQUIRED."""
    offsets: dict[TopicPartition, int] = field(default_factory=dict)
    commits: list[tuple[int, str, TopicPartition, int]] = field(default_factory=list)
    """(generation, member, partition, offset)."""
    requests: list[str] = field(default_factory=list)
    errors: dict[str, list[ErrorCode]] = field(default_factory=dict)
    """What the next requests of a class are answered with."""
    began_ms: int = 0

    def __post_init__(self) -> None:
        ClusterOfLists.__init__(self, self.seed)
        self._next_member = 0

    def move_coordinator(self) -> None:
        """Answers that were still to come never do."""
        self.coordinator = self.chance.choice([id for id in BROKERS if id != self.coordinator])
        for member in self.members.values():
            for waiting in (member.joining, member.syncing):
                if waiting is not None:
                    waiting.exchange.lost(waiting.asked.broker_id, self.now_ms)
            member.joining = member.syncing = None

    def put_out(self, member_id: str) -> None:
        """Its session is over."""
        del self.members[member_id]
        self._rebalance()

    def _serve(self, exchange: Exchange, each: Outgoing) -> None:
        if not isinstance(each.request, (*COORDINATED, fc.FindCoordinatorRequest)):
            super()._serve(exchange, each)
            return
        name = type(each.request).__name__.removesuffix("Request")
        self.requests.append(name)
        is_lost = self.chance.random() < self.loss
        broker = broker_of_lane(each.broker_id)
        if broker in self.down or is_lost:
            exchange.lost(each.broker_id, self.now_ms)
            return
        request: Any = decode(type(each.request), encode(each.request, each.version), each.version)
        waiting = Waiting(exchange, each, self.now_ms)
        if self.errors.get(name):
            self._answer(waiting, self._error(request, self.errors[name].pop(0)))
        elif isinstance(request, COORDINATED) and broker != self.coordinator:
            self._answer(waiting, self._error(request, ErrorCode.NOT_COORDINATOR))
        else:
            answer = getattr(self, "_" + name)(request, waiting)
            if answer is not None:
                self._answer(waiting, answer)

    def _answer(self, waiting: Waiting, answer: Any) -> None:
        asked = waiting.asked
        if self.chance.random() < self.loss:
            waiting.exchange.lost(asked.broker_id, self.now_ms)
            return
        assert asked.response is not None
        message = decode(asked.response, encode(answer, asked.version), asked.version)
        waiting.exchange.arrived(asked.correlation, message, self.now_ms)

    def _error(self, request: Any, code: ErrorCode) -> Any:
        match request:
            case jg.JoinGroupRequest():
                return jg.JoinGroupResponse(error_code=code)
            case sg.SyncGroupRequest():
                return sg.SyncGroupResponse(error_code=code)
            case hb.HeartbeatRequest():
                return hb.HeartbeatResponse(error_code=code)
            case lg.LeaveGroupRequest():
                return lg.LeaveGroupResponse(error_code=code)
            case fc.FindCoordinatorRequest():
                return fc.FindCoordinatorResponse(coordinators=[fc.Coordinator(error_code=code)])
            case of.OffsetFetchRequest():
                return of.OffsetFetchResponse(groups=[of.OffsetFetchResponseGroup(error_code=code)])
            case oc.OffsetCommitRequest():
                return oc.OffsetCommitResponse(
                    topics=[
                        oc.OffsetCommitResponseTopic(
                            name=topic.name,
                            partitions=[
                                oc.OffsetCommitResponsePartition(
                                    partition_index=partition.partition_index, error_code=code
                                )
                                for partition in topic.partitions
                            ],
                        )
                        for topic in request.topics
                    ]
                )
        raise AssertionError(request)

    # --- the coordinator

    def _FindCoordinator(self, request: Any, waiting: Waiting) -> Any:  # noqa: N802
        [key] = request.coordinator_keys
        return fc.FindCoordinatorResponse(
            coordinators=[fc.Coordinator(key=key, node_id=self.coordinator)]
        )

    def _JoinGroup(self, request: Any, waiting: Waiting) -> Any:  # noqa: N802
        member_id = request.member_id
        if not member_id:
            self._next_member += 1
            member_id = f"member-{self._next_member}"
            self.promised.add(member_id)
            return jg.JoinGroupResponse(
                error_code=ErrorCode.MEMBER_ID_REQUIRED, member_id=member_id
            )
        metadata = request.protocols[0].metadata
        is_new = member_id in self.promised
        if is_new:
            self.promised.discard(member_id)
            self.members[member_id] = Member(metadata, request.rebalance_timeout_ms)
        elif member_id not in self.members:
            return self._error(request, ErrorCode.UNKNOWN_MEMBER_ID)
        member = self.members[member_id]
        is_same = member.metadata == metadata and not is_new
        member.metadata, member.joining = metadata, waiting
        if self.state == STABLE and is_same and member_id != self.leader:
            member.joining = None
            return self._joined(member_id)
        self._rebalance()
        return None

    def _rebalance(self) -> None:
        if self.state != PREPARING:
            self.state, self.began_ms = PREPARING, self.now_ms
            for member in self.members.values():
                if member.syncing is not None:
                    error = ErrorCode.REBALANCE_IN_PROGRESS
                    self._answer(member.syncing, sg.SyncGroupResponse(error_code=error))
                    member.syncing = None
        self.complete()

    def complete(self) -> None:
        """The next generation, once all have joined; who takes too long is put out."""
        if self.state != PREPARING:
            return
        for id, member in list(self.members.items()):
            if member.joining is None and self.now_ms - self.began_ms > member.rebalance_ms:
                del self.members[id]
        if not self.members:
            self.state = EMPTY
            return
        if any(member.joining is None for member in self.members.values()):
            return
        self.generation += 1
        self.state = COMPLETING
        if self.leader not in self.members:
            self.leader = next(iter(self.members))
        for id, member in list(self.members.items()):
            joining, member.joining = member.joining, None
            if joining is not None:
                self._answer(joining, self._joined(id))

    def _joined(self, member_id: str) -> Any:
        members = [
            jg.JoinGroupResponseMember(member_id=id, metadata=member.metadata)
            for id, member in self.members.items()
        ]
        return jg.JoinGroupResponse(
            generation_id=self.generation,
            protocol_type="consumer",
            protocol_name=None,
            leader=self.leader,
            member_id=member_id,
            members=members if member_id == self.leader else [],
        )

    def _check(self, member_id: str, generation: int) -> ErrorCode:
        if member_id not in self.members:
            return ErrorCode.UNKNOWN_MEMBER_ID
        return ErrorCode.NONE if generation == self.generation else ErrorCode.ILLEGAL_GENERATION

    def _SyncGroup(self, request: Any, waiting: Waiting) -> Any:  # noqa: N802
        code = self._check(request.member_id, request.generation_id)
        if not code and self.state == PREPARING:
            code = ErrorCode.REBALANCE_IN_PROGRESS
        if code:
            return self._error(request, code)
        member = self.members[request.member_id]
        if self.state == STABLE:
            return sg.SyncGroupResponse(assignment=member.assignment)
        member.syncing = waiting
        if request.member_id == self.leader:
            self.state = STABLE
            given = {each.member_id: each.assignment for each in request.assignments}
            for id, each in list(self.members.items()):
                each.assignment = given.get(id, b"")
                syncing, each.syncing = each.syncing, None
                if syncing is not None:
                    self._answer(syncing, sg.SyncGroupResponse(assignment=each.assignment))
        return None

    def _Heartbeat(self, request: Any, waiting: Waiting) -> Any:  # noqa: N802
        code = self._check(request.member_id, request.generation_id)
        if not code and self.state == PREPARING:
            code = ErrorCode.REBALANCE_IN_PROGRESS
        return hb.HeartbeatResponse(error_code=code)

    def _LeaveGroup(self, request: Any, waiting: Waiting) -> Any:  # noqa: N802
        for each in request.members:
            member = self.members.pop(each.member_id, None)
            if member is not None and member.joining is not None:
                unknown = ErrorCode.UNKNOWN_MEMBER_ID
                self._answer(member.joining, jg.JoinGroupResponse(error_code=unknown))
        self._rebalance()
        return lg.LeaveGroupResponse()

    def _OffsetCommit(self, request: Any, waiting: Waiting) -> Any:  # noqa: N802
        member_id, generation = request.member_id, request.generation_id_or_member_epoch
        code = self._check(member_id, generation)
        if not code and self.state == COMPLETING:
            code = ErrorCode.REBALANCE_IN_PROGRESS
        if not code:
            for topic in request.topics:
                for partition in topic.partitions:
                    tp = TopicPartition(topic.name, partition.partition_index)
                    self.offsets[tp] = partition.committed_offset
                    self.commits.append((generation, member_id, tp, partition.committed_offset))
        return self._error(request, code)

    def _OffsetFetch(self, request: Any, waiting: Waiting) -> Any:  # noqa: N802
        [group] = request.groups
        return of.OffsetFetchResponse(
            groups=[
                of.OffsetFetchResponseGroup(
                    group_id=group.group_id,
                    topics=[
                        of.OffsetFetchResponseTopics(
                            name=topic.name,
                            partitions=[
                                of.OffsetFetchResponsePartitions(
                                    partition_index=index,
                                    committed_offset=self.offsets.get(
                                        TopicPartition(topic.name, index), -1
                                    ),
                                )
                                for index in topic.partition_indexes
                            ],
                        )
                        for topic in group.topics
                    ],
                )
            ]
        )

    # --- time

    def step_all(self, cores: list[Any]) -> None:
        """Carry what there is to be carried, or let time pass until something is due."""
        busy = [core for core in cores if core.exchange.outgoing]
        for core in busy:
            self.carry(core.exchange)
        if busy:
            self.now_ms += 1
        else:
            deadlines = [core.next_deadline() for core in cores]
            due = min((each for each in deadlines if each is not None), default=self.now_ms + 10)
            self.now_ms = max(self.now_ms + 1, min(due, self.now_ms + 100))
        self.complete()
        for core in cores:
            core.tick(self.now_ms)
