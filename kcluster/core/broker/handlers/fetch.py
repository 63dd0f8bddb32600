"""Fetch (key 1): read batches below the high watermark, waiting a while for enough of them.

Bytes are spans of segment files, sent by sendfile. The first partition with data gives at least
one whole batch, even above every limit (rule 11, KIP-74); the others whole batches within them.

Consumers see nothing at or above the high watermark (invariant 16); without transactions the
last stable offset is the high watermark. Between high watermark and log end there is nothing to
read yet; beyond the log end is OFFSET_OUT_OF_RANGE.

From version 11 on followers are read from as well (KIP-392), below the high watermark that they
know. Where the brokers are told so, a leader sends a consumer to an in-sync follower in its rack
that holds what it wants next: `preferred_read_replica`, and nothing else. A follower sends it
back with OFFSET_NOT_AVAILABLE when it does not hold the offset, or when it had nothing to give
for as long as was waited, and either knows of less than the consumer or is out of sync: Kafka's
says OFFSET_OUT_OF_RANGE to the first and lets the others wait on.

Sessions (KIP-227) are answered with session id 0: every response is a full one, and whoever
insists on a session hears FETCH_SESSION_ID_NOT_FOUND.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from kcluster.config import RACK_AWARE_SELECTOR
from kcluster.core.broker.handlers import leadership
from kcluster.core.purgatory import Waiter
from kcluster.errors import ApiError, CorruptLogError, ErrorCode
from kcluster.model import NO_LEADER
from kcluster.wire.messages.fetch import (
    EpochEndOffset,
    FetchableTopicResponse,
    FetchPartition,
    FetchRequest,
    FetchResponse,
    LeaderIdAndEpoch,
    NodeEndpoint,
    PartitionData,
)

if TYPE_CHECKING:
    from kcluster.core.broker.broker import BrokerCore
    from kcluster.core.broker.connections import Call
    from kcluster.core.replication.follower import FollowerState
    from kcluster.core.replication.leader import LeaderState
    from kcluster.core.replication.replica import Replica
    from kcluster.core.turn import Turn

FOLLOWERS_READ: Final = 11
"""The first version whose clients may read from followers."""
_INITIAL_EPOCH: Final = 0
_FINAL_EPOCH: Final = -1
_READ_COMMITTED: Final = 1


class DelayedFetch(Waiter):
    """A fetch that found less than min_bytes. It looks again whenever a high watermark moves."""

    __slots__ = (
        "broker",
        "call",
        "is_done",
        "max_bytes",
        "may_follow",
        "rack",
        "request",
        "roles",
        "targets",
    )

    def __init__(self, broker: BrokerCore, call: Call, request: FetchRequest) -> None:
        self.due_ms = 0
        self.broker = broker
        self.call = call
        self.request = request
        self.max_bytes = min(request.max_bytes, broker.settings.int("fetch.max.bytes"))
        if call.metered is not None and call.metered.fetch is not None:
            self.max_bytes = int(min(self.max_bytes, call.metered.fetch.at_once))
        self.roles: list[LeaderState | FollowerState] = []
        """Where it waits."""
        self.is_done = False
        self.may_follow = call.header.api_version >= FOLLOWERS_READ
        """Its client knows that a follower may answer."""
        self.rack = request.rack_id
        """Where a follower is looked for; empty when the leader is read from."""
        if self.rack and broker.settings.text("replica.selector.class") != RACK_AWARE_SELECTOR:
            self.rack = ""
        names = broker.image.topic_names
        by_id = call.header.api_version >= 13
        self.targets = [
            (names.get(topic.topic_id) if by_id else topic.topic, topic) for topic in request.topics
        ]
        """Topics by name; None for an id that is not known."""
        _drop_repetitions(request)

    def wake(self) -> None:
        self.broker.wake(self)

    def retry(self, turn: Turn) -> None:
        if self.is_done:
            return
        reading = Reading(self)
        if reading.is_enough:
            self.broker.deadlines.remove(self)
            self.answer(turn, reading)

    def expire(self, turn: Turn) -> None:
        self.answer(turn, Reading(self, is_last=True))

    def wait(self, turn: Turn, reading: Reading) -> None:
        self.roles = reading.roles
        for role in self.roles:
            role.fetches[self] = None
        self.broker.deadlines.add(turn, self.request.max_wait_ms, self)

    def answer(self, turn: Turn, reading: Reading) -> None:
        self.is_done = True
        for role in self.roles:
            role.fetches.pop(self, None)
        self.roles = []
        self.call.answer(turn, reading.response)
        if not self.call.is_withheld:
            reading.count()


def _drop_repetitions(request: FetchRequest) -> None:
    """Each partition once, as Kafka does, the last mention: reading one costs more than naming it.
    And keep nothing while the request waits that its answer does not need."""
    request.forgotten_topics_data = []
    request.rack_id = ""
    request.cluster_id = None
    if len(request.topics) == 1 and len(request.topics[0].partitions) == 1:
        return
    wanted: dict[tuple[str, bytes, int], FetchPartition] = {}
    count = 0
    for topic in request.topics:
        count += len(topic.partitions)
        for part in topic.partitions:
            wanted[topic.topic, topic.topic_id, part.partition] = part
    if len(wanted) == count:
        return
    for topic in request.topics:
        topic.partitions = [
            part
            for part in topic.partitions
            if wanted[topic.topic, topic.topic_id, part.partition] is part
        ]


class Reading:
    """One attempt: the response as it would be now."""

    __slots__ = ("_broker", "_fetch", "_found", "_is_last", "has_news", "response", "roles", "size")

    def __init__(self, fetch: DelayedFetch, *, is_last: bool = False) -> None:
        """`is_last`: the fetch has waited, and is answered whatever is found."""
        self._fetch = fetch
        self._is_last = is_last
        self._broker = fetch.broker
        self.size = 0
        self._found: list[tuple[str, int]] = []
        """(topic, bytes)"""
        self.has_news = False
        """Of another kind than records: errors, or where to read."""
        self.roles: list[LeaderState | FollowerState] = []
        topics: list[FetchableTopicResponse] = []
        moved: set[int] = set()
        isolation = fetch.request.isolation_level
        for name, topic in fetch.targets:
            parts = [self._partition(name, wanted, isolation, moved) for wanted in topic.partitions]
            topics.append(
                FetchableTopicResponse(topic=topic.topic, topic_id=topic.topic_id, partitions=parts)
            )
        self.response = FetchResponse(responses=topics)
        if moved:
            self.response.node_endpoints = [
                NodeEndpoint(
                    node_id=member.id, host=member.host, port=member.port, rack=member.rack
                )
                for member in leadership.members(self._broker, moved)
            ]

    @property
    def is_enough(self) -> bool:
        """To answer at once."""
        return self.has_news or self.size >= self._fetch.request.min_bytes

    def count(self) -> None:
        """It is the answer."""
        for topic, size in self._found:
            self._broker.status.traffic.read(topic, size)

    def _partition(
        self, name: str | None, wanted: FetchPartition, isolation: int, moved: set[int]
    ) -> PartitionData:
        part = PartitionData(
            partition_index=wanted.partition,
            high_watermark=-1,
            aborted_transactions=[] if isolation == _READ_COMMITTED else None,
            records=b"",
        )
        try:
            if name is None:
                raise ApiError(ErrorCode.UNKNOWN_TOPIC_ID)
            self._read(name, wanted, part)
        except ApiError as error:
            self.has_news = True
            part.error_code = error.code
            if error.code in leadership.MOVED and name is not None:
                leader, epoch = leadership.current(self._broker, name, wanted.partition)
                if leader >= 0:
                    part.current_leader = LeaderIdAndEpoch(leader_id=leader, leader_epoch=epoch)
                    moved.add(leader)
        return part

    def _read(self, name: str, wanted: FetchPartition, part: PartitionData) -> None:
        replica = leadership.held(self._broker, name, wanted.partition, wanted.current_leader_epoch)
        leader = replica.leader
        if leader is None:
            self._read_following(name, replica, wanted, part)
            return
        log = replica.log
        high_watermark = leader.high_watermark
        offset = wanted.fetch_offset
        part.high_watermark = part.last_stable_offset = high_watermark
        part.log_start_offset = log.log_start_offset
        if wanted.last_fetched_epoch >= 0 and self._diverges(replica, wanted, part):
            return
        if not log.log_start_offset <= offset <= log.log_end_offset:
            part.high_watermark = part.last_stable_offset = part.log_start_offset = -1
            raise ApiError(ErrorCode.OFFSET_OUT_OF_RANGE)
        if self._fetch.rack:
            preferred = self._preferred(leader, offset)
            if preferred != NO_LEADER:
                part.preferred_read_replica = preferred
                self.has_news = True
                return
        self.roles.append(leader)
        if offset < high_watermark:
            self._take(name, replica, wanted, part, high_watermark)

    def _read_following(
        self, name: str, replica: Replica, wanted: FetchPartition, part: PartitionData
    ) -> None:
        """As a follower: below the high watermark that it knows all is as it is at the leader."""
        follower = replica.follower
        if follower is None or not self._fetch.may_follow:
            raise ApiError(ErrorCode.NOT_LEADER_OR_FOLLOWER)
        log = replica.log
        high_watermark = log.high_watermark
        offset = wanted.fetch_offset
        if offset < log.log_start_offset:
            raise ApiError(ErrorCode.OFFSET_OUT_OF_RANGE)
        is_behind = offset > high_watermark or not replica.is_in_sync
        if offset > log.log_end_offset or (
            self._is_last and is_behind and offset >= high_watermark
        ):
            raise ApiError(ErrorCode.OFFSET_NOT_AVAILABLE)
        part.high_watermark = part.last_stable_offset = high_watermark
        part.log_start_offset = log.log_start_offset
        self.roles.append(follower)
        if offset >= high_watermark:
            return
        if wanted.last_fetched_epoch >= 0 and self._diverges(replica, wanted, part):
            return
        self._take(name, replica, wanted, part, high_watermark)

    def _preferred(self, leader: LeaderState, offset: int) -> int:
        """The follower that a consumer in the fetch's rack is to read from; -1 for this leader.
        As Kafka's RackAwareReplicaSelector: of several the one that is furthest."""
        brokers = self._broker.image.brokers
        rack = self._fetch.rack
        if brokers[leader.me].rack == rack:
            return NO_LEADER
        best, furthest = NO_LEADER, offset
        for id in leader.isr:
            progress = leader.followers.get(id)
            if (
                progress is not None
                and progress.stream is not None
                and progress.log_end >= furthest
                and self._broker.image.is_alive(id)
                and brokers[id].rack == rack
                and not self._broker.is_dead(id)
            ):
                best, furthest = id, progress.log_end
        return best

    def _take(
        self,
        name: str,
        replica: Replica,
        wanted: FetchPartition,
        part: PartitionData,
        high_watermark: int,
    ) -> None:
        limit = min(wanted.partition_max_bytes, self._fetch.max_bytes - self.size)
        if self.size and limit <= 0:
            return
        try:
            result = replica.log.read(
                wanted.fetch_offset,
                max(limit, 0),
                high_watermark,
                at_least_one=not self.size,
                skips_empty=True,
            )
        except CorruptLogError as error:
            raise self._broker.damaged(replica, error) from None
        if result.size:
            part.records = result.spans
            self.size += result.size
            self._found.append((name, result.size))

    def _diverges(self, replica: Replica, wanted: FetchPartition, part: PartitionData) -> bool:
        """Whether the reader's log is no prefix of ours; the answer then says where (KIP-595)."""
        epoch, end_offset = replica.log.end_offset_for_epoch(wanted.last_fetched_epoch)
        if epoch < 0:
            raise ApiError(ErrorCode.OFFSET_OUT_OF_RANGE)
        if epoch < wanted.last_fetched_epoch or end_offset < wanted.fetch_offset:
            part.diverging_epoch = EpochEndOffset(epoch=epoch, end_offset=end_offset)
            self.has_news = True
            return True
        return False


def handle(
    broker: BrokerCore, call: Call, request: FetchRequest, turn: Turn
) -> FetchResponse | None:
    replica_id = (
        request.replica_state.replica_id if call.header.api_version >= 15 else request.replica_id
    )
    if replica_id not in leadership.CONSUMERS:
        return _refused(request, ErrorCode.CLUSTER_AUTHORIZATION_FAILED)
    if request.session_id and request.session_epoch not in (_INITIAL_EPOCH, _FINAL_EPOCH):
        return FetchResponse(error_code=ErrorCode.FETCH_SESSION_ID_NOT_FOUND)
    if not request.session_id and request.session_epoch > _INITIAL_EPOCH:
        return FetchResponse(error_code=ErrorCode.FETCH_SESSION_ID_NOT_FOUND)
    fetch = DelayedFetch(broker, call, request)
    reading = Reading(fetch)
    if (
        reading.is_enough
        or request.max_wait_ms <= 0
        or not request.topics
        or broker.deadlines.is_full
    ):
        fetch.answer(turn, reading)
    else:
        fetch.wait(turn, reading)
    return None


def _refused(request: FetchRequest, code: ErrorCode) -> FetchResponse:
    return FetchResponse(
        error_code=code,
        responses=[
            FetchableTopicResponse(
                topic=topic.topic,
                topic_id=topic.topic_id,
                partitions=[
                    PartitionData(
                        partition_index=wanted.partition,
                        error_code=code,
                        high_watermark=-1,
                        records=b"",
                    )
                    for wanted in topic.partitions
                ],
            )
            for topic in request.topics
        ],
    )
