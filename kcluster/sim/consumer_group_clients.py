"""Simulated members of groups of the consumer protocol (KIP-848).

    beat    a life: heartbeats, which say what is owned and are told what is assigned
    read    a life: commits and lets go of what was taken away, reads what was given, commits

Both belong to one incarnation of the member, which has an id of its own. By chance it leaves, is
killed, or stands still for a while and goes on as if it still had its partitions; then the next
one comes. Once it is settled it stays.
"""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass, field
from typing import Any

from kcluster.check.groups import GroupHistory, Place
from kcluster.core.client.exchange import broker_of_lane, coordinator_lane
from kcluster.errors import ErrorCode
from kcluster.model import TopicPartition
from kcluster.sim.clients import RETRY_BACKOFF_MS, Call, Life, SimClient, Sleep, Step
from kcluster.sim.consumer import EARLIEST_TIMESTAMP
from kcluster.sim.consumer_group_plan import ConsumerGroupPlan
from kcluster.sim.group_clients import CERTAINLY_REFUSED, Coordinators, record_reads
from kcluster.wire.messages import consumer_group_heartbeat as h
from kcluster.wire.messages import fetch as f
from kcluster.wire.messages import find_coordinator as fc
from kcluster.wire.messages import list_offsets as lo
from kcluster.wire.messages import offset_commit as oc
from kcluster.wire.messages import offset_fetch as of
from kcluster.wire.records import batches, read_records

CALL_MS = 1_500
FETCH_MS = 100
REBALANCE_MS = 4_000
LOOK_MS = 30

OUT = frozenset(
    {
        ErrorCode.UNKNOWN_MEMBER_ID,
        ErrorCode.FENCED_MEMBER_EPOCH,
        ErrorCode.FENCED_INSTANCE_ID,
        ErrorCode.GROUP_ID_NOT_FOUND,
    }
)
"""Answers to a heartbeat after which it joins again, with nothing."""

MOVING = frozenset(
    {
        ErrorCode.NOT_COORDINATOR,
        ErrorCode.COORDINATOR_NOT_AVAILABLE,
        ErrorCode.COORDINATOR_LOAD_IN_PROGRESS,
        ErrorCode.UNRELEASED_INSTANCE_ID,
    }
)
"""Answers that time heals."""


@dataclass(eq=False, slots=True)
class Incarnation:
    id: str
    epoch: int = 0
    says_all: bool = True
    """In the next heartbeat: the last one may not have arrived."""
    owned: dict[TopicPartition, int | None] = field(default_factory=dict)
    """Position by partition; None while it is not read."""
    given: set[TopicPartition] = field(default_factory=set)
    """What it may own; what it owns beyond that it lets go."""
    serials: dict[TopicPartition, int] = field(default_factory=dict)
    committed: dict[TopicPartition, int] = field(default_factory=dict)
    is_over: bool = False
    leaves: bool = False
    stands_still: bool = False


class ConsumerGroupMember:
    def __init__(
        self,
        client: SimClient,
        plan: ConsumerGroupPlan,
        topics: dict[str, int],
        coordinators: Coordinators,
        instance_id: str | None,
    ) -> None:
        self.client = client
        self.plan = plan
        self.topics = topics
        self.instance_id = instance_id
        self.is_settled = False
        self.current: Incarnation | None = None
        self._coordinators = coordinators
        self._coordinator: int | None = None
        self._starts = 0
        self._serial = 0

    @property
    def _history(self) -> GroupHistory:
        return self.client.history.groups

    def _place(self, tp: TopicPartition) -> Place:
        return self.plan.group, tp

    def start(self) -> None:
        self.client.live(self.life())

    # --- coming and going -------------------------------------------------------------------

    def life(self) -> Life:
        chance, cluster = self.client.random, self.client.cluster
        while True:
            if self.current is None:
                self._starts += 1
                self.current = Incarnation(f"{self.client.name}/{self._starts}")
                self.client.live(self._beat(self.current))
                self.client.live(self._read(self.current))
            elif not self.is_settled and chance.random() < self.plan.restless * 5:
                one = self.current
                match chance.choice(["leave", "die", "stand still"]):
                    case "leave":
                        one.leaves = True
                    case "die":
                        cluster.note(f"{one.id} dies")
                        self._over(one)
                        self.client.hang_up()
                    case _:
                        cluster.note(f"{one.id} stands still")
                        one.stands_still = True
                        yield Sleep(chance.choice([300, 4_000]))
                        cluster.note(f"{one.id} goes on")
                        one.stands_still = False
            yield Sleep(chance.randint(100, 2_500))

    def _over(self, one: Incarnation) -> None:
        self._lose(one)
        one.is_over = True
        if self.current is one:
            self.current = None

    def _lose(self, one: Incarnation) -> None:
        for tp in one.owned:
            self._history.ownership.let_go(self._place(tp), one.id)
        one.owned.clear()
        one.given.clear()
        one.committed.clear()

    # --- heartbeats -------------------------------------------------------------------------

    def _beat(self, one: Incarnation) -> Life:
        while not one.is_over:
            if one.stands_still:
                yield Sleep(LOOK_MS)
                continue
            if one.leaves and not one.owned:
                yield from self._leave(one)
                return
            broker = yield from self._find()
            if broker is None or one.is_over:
                yield Sleep(RETRY_BACKOFF_MS)
                continue
            wait_ms = yield from self._heartbeat(one, broker)
            yield Sleep(wait_ms)

    def _heartbeat(self, one: Incarnation, broker: int) -> Generator[Step, Any, int]:
        """How long to wait until the next."""
        owned = sorted(one.owned)
        request = self._request(one, owned)
        asked = self._history.moment()
        response = yield Call(broker, request, 1, CALL_MS)
        while one.stands_still:
            yield Sleep(LOOK_MS)
        if one.is_over:
            return 0
        one.says_all = True
        if response is None:
            self._coordinator = None
            return RETRY_BACKOFF_MS
        code = ErrorCode(response.error_code)
        if code in MOVING:
            self._coordinator = None
            return RETRY_BACKOFF_MS
        if code in OUT:
            self.client.cluster.note(f"{one.id} is out: {code.name}")
            self._lose(one)
            one.epoch = 0
            return RETRY_BACKOFF_MS
        if code:
            self.client.surprises.append(f"{one.id}: a heartbeat was answered {code.name}")
            return 1_000
        one.says_all = False
        yield from self._told(one, response, owned, asked, broker)
        return int(response.heartbeat_interval_ms)

    def _request(
        self, one: Incarnation, owned: list[TopicPartition]
    ) -> h.ConsumerGroupHeartbeatRequest:
        request = h.ConsumerGroupHeartbeatRequest(
            group_id=self.plan.group,
            member_id=one.id,
            member_epoch=one.epoch,
            instance_id=self.instance_id,
            topic_partitions=self._by_id(owned) if one.epoch else [],
        )
        if one.says_all:
            request.rebalance_timeout_ms = REBALANCE_MS
            request.server_assignor = self.plan.assignor
            if self.plan.has_pattern:
                request.subscribed_topic_regex = "|".join(sorted(self.topics))
            else:
                request.subscribed_topic_names = sorted(self.topics)
        return request

    def _by_id(self, owned: list[TopicPartition]) -> list[h.TopicPartitions]:
        ids = self.client.topic_ids
        return [
            h.TopicPartitions(ids[topic], [tp.partition for tp in owned if tp.topic == topic])
            for topic in sorted({tp.topic for tp in owned})
        ]

    def _told(
        self,
        one: Incarnation,
        response: h.ConsumerGroupHeartbeatResponse,
        claimed: list[TopicPartition],
        asked: int,
        broker: int,
    ) -> Generator[Step, Any, None]:
        history, answered = self._history, self._history.moment()
        # One that has not heard that it coordinates no more answers as it knew it.
        is_certain = not self._coordinators.is_deposed(broker_of_lane(broker), self.plan.group)
        if is_certain:
            for tp in claimed:
                history.ownership.claimed(self._place(tp), one.id, asked, answered)
        one.epoch = response.member_epoch
        if response.assignment is None:
            return
        given: set[TopicPartition] = set()
        for told in response.assignment.topic_partitions:
            name = yield from self._name_of(told.topic_id)
            if one.is_over:
                return
            given.update(TopicPartition(name, index) for index in told.partitions)
        one.given = given
        added = sorted(given - one.owned.keys())
        if added:
            self._serial += 1
            self.client.cluster.note(f"{one.id} epoch {one.epoch}: {added}")
            # Who takes the place of its former self is in the same epoch.
            history.assigned(self.plan.group, one.epoch, self.instance_id or one.id, added)
        for tp in added:
            one.owned[tp] = None
            one.serials[tp] = self._serial
            history.ownership.given(self._place(tp), one.id, asked, answered)

    def _name_of(self, topic_id: Any) -> Generator[Step, Any, str]:
        while True:
            for name, known in self.client.topic_ids.items():
                if known == topic_id:
                    return name
            for name in sorted(self.topics):
                yield from self.client.refresh(name)
            yield Sleep(1)

    def _leave(self, one: Incarnation) -> Life:
        broker = yield from self._find()
        if broker is not None and not one.is_over:
            is_static = self.instance_id is not None
            request = h.ConsumerGroupHeartbeatRequest(
                group_id=self.plan.group,
                member_id=one.id,
                member_epoch=-2 if is_static else -1,
                instance_id=self.instance_id,
            )
            yield Call(broker, request, 1, CALL_MS)
        self._over(one)

    def _find(self) -> Generator[Step, Any, int | None]:
        if self._coordinator is None:
            found = yield Call(
                self.client.some_broker(),
                fc.FindCoordinatorRequest(coordinator_keys=[self.plan.group]),
                4,
                CALL_MS,
            )
            if found is not None and not found.coordinators[0].error_code:
                # A heartbeat must not wait behind a Fetch that waits for records.
                self._coordinator = coordinator_lane(found.coordinators[0].node_id)
        return self._coordinator

    # --- reading ----------------------------------------------------------------------------

    def _read(self, one: Incarnation) -> Life:
        chance = self.client.random
        while not one.is_over:
            if one.stands_still:
                yield Sleep(LOOK_MS)
                continue
            lost = [tp for tp in sorted(one.owned) if tp not in one.given or one.leaves]
            if lost:
                yield from self._commit(one, lost)
                for tp in lost:
                    one.owned.pop(tp, None)
                    one.committed.pop(tp, None)
                    self._history.ownership.let_go(self._place(tp), one.id)
            for tp in sorted(one.owned):
                if not one.is_over and tp in one.owned and not one.stands_still:
                    yield from self._read_one(one, tp)
            if chance.random() < 0.4:
                yield from self._commit(one, sorted(one.owned))
            yield Sleep(chance.randint(5, 60))

    def _read_one(self, one: Incarnation, tp: TopicPartition) -> Generator[Step, Any, None]:
        serial = one.serials[tp]
        if one.owned[tp] is None:
            yield from self._begin(one, tp)
            return
        leader = yield from self.client.find_leader(tp)
        position = one.owned.get(tp)
        if leader < 0 or position is None:
            return
        partition = f.FetchPartition(
            partition=tp.partition, fetch_offset=position, partition_max_bytes=2_000
        )
        request = f.FetchRequest(
            max_wait_ms=FETCH_MS,
            min_bytes=1,
            max_bytes=2_000,
            topics=[f.FetchTopic(topic=tp.topic, partitions=[partition])],
        )
        response = yield Call(leader, request, 12, CALL_MS)
        while one.stands_still:
            yield Sleep(LOOK_MS)
        if one.is_over or one.serials[tp] != serial or one.owned.get(tp) != position:
            return
        if response is None or response.error_code or not response.responses:
            self.client.forget_leader(tp)
            return
        told = response.responses[0].partitions[0]
        if told.error_code == ErrorCode.OFFSET_OUT_OF_RANGE:
            yield from self._seek_start(one, tp)
        elif told.error_code:
            self.client.forget_leader(tp)
        else:
            self._take(one, tp, position, told.records or b"")

    def _take(self, one: Incarnation, tp: TopicPartition, position: int, records: Any) -> None:
        fresh = []
        data = memoryview(bytes(records))
        for at, header in batches(data):
            for record in read_records(data[at : at + header.size]):
                if record.offset >= position:
                    self._history.give(self._place(tp), record.offset)
                    if record.value is not None:
                        fresh.append((record.offset, bytes(record.value)))
            position = max(position, header.last_offset + 1)
        one.owned[tp] = position
        self.client.history.poll(f"{one.id}/{one.serials[tp]}", tp, fresh)

    def _begin(self, one: Incarnation, tp: TopicPartition) -> Generator[Step, Any, None]:
        """Where the group has committed, or where the log begins."""
        broker = yield from self._find()
        if broker is None or one.is_over:
            return
        topic = of.OffsetFetchRequestTopics(name=tp.topic, partition_indexes=[tp.partition])
        request = of.OffsetFetchRequest(
            groups=[
                of.OffsetFetchRequestGroup(
                    group_id=self.plan.group,
                    member_id=one.id,
                    member_epoch=one.epoch,
                    topics=[topic],
                )
            ]
        )
        asked, serial = self._history.moment(), one.serials[tp]
        response = yield Call(broker, request, 9, CALL_MS)
        if one.is_over or tp not in one.owned or one.serials[tp] != serial:
            return
        if response is None or response.groups[0].error_code:
            self._coordinator = None
            return
        if not self._coordinators.is_deposed(broker_of_lane(broker), self.plan.group):
            record_reads(self._history, self.plan.group, one.id, response, asked)
        offset = response.groups[0].topics[0].partitions[0].committed_offset
        if offset >= 0:
            one.owned[tp] = one.committed[tp] = offset
        else:
            yield from self._seek_start(one, tp)

    def _seek_start(self, one: Incarnation, tp: TopicPartition) -> Generator[Step, Any, None]:
        leader = yield from self.client.find_leader(tp)
        wanted = lo.ListOffsetsPartition(partition_index=tp.partition, timestamp=EARLIEST_TIMESTAMP)
        topic = lo.ListOffsetsTopic(name=tp.topic, partitions=[wanted])
        serial = one.serials[tp]
        response = yield Call(leader, lo.ListOffsetsRequest(replica_id=-1, topics=[topic]), 7)
        if one.is_over or tp not in one.owned or one.serials[tp] != serial:
            return
        if response is None or response.topics[0].partitions[0].error_code:
            self.client.forget_leader(tp)
            return
        start = response.topics[0].partitions[0].offset
        one.owned[tp] = max(one.owned[tp] or 0, int(start))

    def _commit(self, one: Incarnation, tps: list[TopicPartition]) -> Generator[Step, Any, None]:
        history = self._history
        wanted = {
            tp: position
            for tp in tps
            if (position := one.owned.get(tp)) is not None and one.committed.get(tp) != position
        }
        broker = yield from self._find()
        if not wanted or broker is None or one.is_over:
            return
        request = oc.OffsetCommitRequest(
            group_id=self.plan.group,
            member_id=one.id,
            generation_id_or_member_epoch=one.epoch,
            group_instance_id=self.instance_id,
            topics=[
                oc.OffsetCommitRequestTopic(
                    name=tp.topic,
                    partitions=[
                        oc.OffsetCommitRequestPartition(
                            partition_index=tp.partition, committed_offset=position
                        )
                    ],
                )
                for tp, position in wanted.items()
            ],
        )
        commits = {
            tp: history.committing(self._place(tp), one.id, one.epoch, position)
            for tp, position in wanted.items()
        }
        response = yield Call(broker, request, 9, CALL_MS)
        if response is None:
            self._coordinator = None
            return
        for topic in response.topics:
            [partition] = topic.partitions
            tp = TopicPartition(topic.name, partition.partition_index)
            code = ErrorCode(partition.error_code)
            if code is ErrorCode.NONE:
                commits[tp].acknowledged = history.moment()
                if tp in one.owned:
                    one.committed[tp] = wanted[tp]
            elif code in CERTAINLY_REFUSED:
                commits[tp].is_refused = True
            elif code in MOVING:
                self._coordinator = None
