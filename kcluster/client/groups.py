"""Consumer groups as values: what `kcluster group ... -o json` prints, and what it changes.

    ListGroups at every broker       which groups there are, and who coordinates each
    DescribeGroups                   at the coordinator: state and members of a classic group
    ConsumerGroupDescribe            and of one of the consumer protocol, with its epochs
    OffsetFetch                      at the coordinator: committed offsets
    ListOffsets                      at the leaders: where logs begin and end

Looking never creates anything: a group that no broker lists is not there. The names are stable:
tools read them. `SCHEMA` rises when one changes its meaning.

A leader or coordinator that is just moving is asked again for `PATIENCE_S`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final, TypeVar

import msgspec

from kcluster.client.requests import Brokers
from kcluster.errors import ApiError, ErrorCode, RemoteProtocolError
from kcluster.model import TopicPartition
from kcluster.wire.consumer_protocol import PROTOCOL_TYPE, decode_assignment
from kcluster.wire.message import Message
from kcluster.wire.messages import consumer_group_describe as cd
from kcluster.wire.messages import delete_groups as dg
from kcluster.wire.messages import describe_groups as de
from kcluster.wire.messages import find_coordinator as fc
from kcluster.wire.messages import list_groups as ls
from kcluster.wire.messages import list_offsets as lo
from kcluster.wire.messages import metadata as m
from kcluster.wire.messages import offset_commit as oc
from kcluster.wire.messages import offset_fetch as of

SCHEMA: Final = 1

CLASSIC: Final = "classic"
CONSUMER: Final = "consumer"

LATEST: Final = -1
EARLIEST: Final = -2

PATIENCE_S: Final = 10.0
LOOK_AGAIN_S: Final = 0.05

GROUPS_TOPIC: Final = "__consumer_offsets"

OFFSET_FETCH_VERSION: Final = 8
OFFSET_COMMIT_VERSION: Final = 8
"""Later ones name topics by id."""

MOVING: Final = frozenset(
    {
        ErrorCode.NOT_COORDINATOR,
        ErrorCode.COORDINATOR_NOT_AVAILABLE,
        ErrorCode.COORDINATOR_LOAD_IN_PROGRESS,
        ErrorCode.NOT_LEADER_OR_FOLLOWER,
        ErrorCode.LEADER_NOT_AVAILABLE,
        ErrorCode.OFFSET_NOT_AVAILABLE,
        ErrorCode.FENCED_LEADER_EPOCH,
        ErrorCode.REQUEST_TIMED_OUT,
    }
)


class MemberStatus(msgspec.Struct, frozen=True):
    member: str
    instance_id: str | None
    client_id: str
    host: str
    partitions: list[TopicPartition]
    """Assigned in this generation, or epoch."""
    epoch: int | None = None
    """As all that follows, of a member of a group of the consumer protocol."""
    target: list[TopicPartition] = []
    """What it is to have when all have given up what others are to have."""
    protocol: str = ""
    """That it speaks: consumer, classic."""

    @property
    def is_reconciled(self) -> bool:
        return set(self.partitions) == set(self.target)


class OffsetStatus(msgspec.Struct, frozen=True):
    topic: str
    partition: int
    committed: int | None
    """None: never, or expired."""
    log_start: int | None
    """None, as `log_end`, when no leader says, or the topic is no more."""
    log_end: int | None
    lag: int | None
    member: str | None
    """Who is assigned the partition."""
    host: str | None
    client_id: str | None


class GroupStatus(msgspec.Struct, frozen=True):
    group: str
    state: str
    """Kafka's words: Empty, PreparingRebalance, CompletingRebalance, Assigning, Reconciling,
    Stable, Dead."""
    protocol_type: str
    protocol: str
    """Of the assignment: range, cooperative-sticky, uniform..."""
    coordinator: int
    """Broker id."""
    members: list[MemberStatus]
    partitions: list[OffsetStatus] = []
    type: str = CLASSIC
    """Whose protocol it is: classic, consumer."""
    epoch: int | None = None
    """As the next, of a group of the consumer protocol."""
    assignment_epoch: int | None = None

    @property
    def is_active(self) -> bool:
        return self.state not in ("Empty", "Dead")


class _Listed(msgspec.Struct, frozen=True):
    coordinator: int
    type: str


T = TypeVar("T")


class _Asked(msgspec.Struct, frozen=True):
    """One broker, or any."""

    brokers: Brokers
    id: int | None

    def request(self, message: Message, version: int | None = None) -> Any:
        return self.brokers.ask(message, self.id, version)


class GroupClient:
    """Asks the brokers of one cluster; each question anew, since leaders move."""

    def __init__(self, brokers: Brokers) -> None:
        self._brokers = brokers

    # --- looking --------------------------------------------------------------------------

    def coordinators(self) -> dict[str, int]:
        """Every group there is, with the id of its coordinator."""
        return {name: where.coordinator for name, where in self._patiently(self._list).items()}

    def describe(self, names: Sequence[str], *, with_offsets: bool = True) -> list[GroupStatus]:
        """In this order; those that are not there are left out."""

        def look() -> list[GroupStatus]:
            where = self._list()
            found = [self._describe(name, where[name]) for name in names if name in where]
            return [self._with_offsets(each) for each in found] if with_offsets else found

        return self._patiently(look)

    def log_ends(self, partitions: Iterable[TopicPartition], timestamp: int) -> dict[
        TopicPartition, int
    ]:  # fmt: skip
        """Offset by time in ms, LATEST or EARLIEST; -1 where there is none that late. Partitions
        that are not there are left out."""
        return self._patiently(lambda: self._offsets(sorted(set(partitions)), timestamp))

    def partitions_of(self, topic: str) -> list[TopicPartition]:
        """Of a topic; none when there is no such topic."""
        leaders = self._leaders([topic])
        return sorted(leaders)

    # --- changing -------------------------------------------------------------------------

    def commit(self, group: str, offsets: dict[TopicPartition, int]) -> None:
        """As nobody's member: only a group without members takes it. Raises ApiError."""

        def write() -> None:
            response = self._broker(self._coordinator(group)).request(
                oc.OffsetCommitRequest(
                    group_id=group,
                    topics=[
                        oc.OffsetCommitRequestTopic(
                            name=topic,
                            partitions=[
                                oc.OffsetCommitRequestPartition(
                                    partition_index=tp.partition, committed_offset=offsets[tp]
                                )
                                for tp in sorted(offsets)
                                if tp.topic == topic
                            ],
                        )
                        for topic in sorted({tp.topic for tp in offsets})
                    ],
                ),
                OFFSET_COMMIT_VERSION,
            )
            for answer in response.topics:
                for partition in answer.partitions:
                    _check(partition.error_code)

        self._patiently(write)

    def delete(self, group: str) -> None:
        """Raises ApiError: NON_EMPTY_GROUP, GROUP_ID_NOT_FOUND."""

        def ask() -> None:
            where = self._list()
            if group not in where:
                raise ApiError(ErrorCode.GROUP_ID_NOT_FOUND)
            broker = self._broker(where[group].coordinator)
            response = broker.request(dg.DeleteGroupsRequest(groups_names=[group]))
            _check(response.results[0].error_code)

        self._patiently(ask)

    # --- one question each ----------------------------------------------------------------

    def _patiently(self, question: Callable[[], T]) -> T:
        """Asked again while what it is about is moving. Raises ApiError."""
        deadline = time.monotonic() + PATIENCE_S
        while True:
            try:
                return question()
            except ApiError as error:
                if error.code not in MOVING or time.monotonic() > deadline:
                    raise
            time.sleep(LOOK_AGAIN_S)

    def _broker(self, id: int) -> _Asked:
        if id not in self._brokers.ids():
            raise ApiError(ErrorCode.NOT_COORDINATOR, f"broker {id} is not running")
        return _Asked(self._brokers, id)

    def _any(self) -> _Asked:
        return _Asked(self._brokers, None)

    def _list(self) -> dict[str, _Listed]:
        """Raises ApiError while a partition of groups has no leader that runs: a list that
        leaves groups out would be a lie."""
        running = set(self._brokers.ids())
        if any(leader not in running for leader in self._leaders([GROUPS_TOPIC]).values()):
            raise ApiError(
                ErrorCode.COORDINATOR_NOT_AVAILABLE, f"{GROUPS_TOPIC} has partitions without leader"
            )
        found = {}
        for id in sorted(running):
            response = self._broker(id).request(ls.ListGroupsRequest())
            _check(response.error_code)
            found.update(
                {group.group_id: _Listed(id, group.group_type) for group in response.groups}
            )
        return found

    def _coordinator(self, group: str) -> int:
        """Also of a group that is not there yet."""
        response = self._any().request(fc.FindCoordinatorRequest(coordinator_keys=[group]))
        [answer] = response.coordinators
        _check(answer.error_code, answer.error_message)
        node_id: int = answer.node_id
        return node_id

    def _describe(self, name: str, listed: _Listed) -> GroupStatus:
        try:
            if listed.type == CONSUMER:
                return self._describe_consumer(name, listed.coordinator)
            return self._describe_classic(name, listed.coordinator)
        except ApiError as error:
            if error.code is not ErrorCode.GROUP_ID_NOT_FOUND:
                raise
            # It has been deleted since, or has gone from one protocol to the other.
            raise ApiError(ErrorCode.COORDINATOR_NOT_AVAILABLE, error.message) from None

    def _describe_consumer(self, name: str, coordinator: int) -> GroupStatus:
        response = self._broker(coordinator).request(
            cd.ConsumerGroupDescribeRequest(group_ids=[name])
        )
        [group] = response.groups
        _check(group.error_code, group.error_message)
        members = [
            MemberStatus(
                member.member_id,
                member.instance_id,
                member.client_id,
                member.client_host.removeprefix("/"),
                _partitions(member.assignment),
                member.member_epoch,
                _partitions(member.target_assignment),
                CONSUMER if member.member_type == 1 else CLASSIC,
            )
            for member in group.members
        ]
        return GroupStatus(
            name,
            group.group_state,
            PROTOCOL_TYPE,
            group.assignor_name,
            coordinator,
            sorted(members, key=lambda each: (each.client_id, each.member)),
            type=CONSUMER,
            epoch=group.group_epoch,
            assignment_epoch=group.assignment_epoch,
        )

    def _describe_classic(self, name: str, coordinator: int) -> GroupStatus:
        response = self._broker(coordinator).request(de.DescribeGroupsRequest(groups=[name]))
        [group] = response.groups
        _check(group.error_code, group.error_message)
        members = [
            MemberStatus(
                member.member_id,
                member.group_instance_id,
                member.client_id,
                member.client_host.removeprefix("/"),
                _assigned(group.protocol_type, member.member_assignment),
            )
            for member in group.members
        ]
        return GroupStatus(
            name,
            group.group_state,
            group.protocol_type,
            group.protocol_data,
            coordinator,
            sorted(members, key=lambda each: (each.client_id, each.member)),
        )

    def _with_offsets(self, group: GroupStatus) -> GroupStatus:
        committed = self._committed(group)
        owners = {tp: member for member in group.members for tp in member.partitions}
        wanted = sorted(committed.keys() | owners.keys())
        starts, ends = self._offsets(wanted, EARLIEST), self._offsets(wanted, LATEST)
        partitions = []
        for tp in wanted:
            at, end, owner = committed.get(tp), ends.get(tp), owners.get(tp)
            partitions.append(
                OffsetStatus(
                    tp.topic,
                    tp.partition,
                    at,
                    starts.get(tp),
                    end,
                    None if at is None or end is None else max(0, end - at),
                    owner.member if owner is not None else None,
                    owner.host if owner is not None else None,
                    owner.client_id if owner is not None else None,
                )
            )
        return msgspec.structs.replace(group, partitions=partitions)

    def _committed(self, group: GroupStatus) -> dict[TopicPartition, int]:
        response = self._broker(group.coordinator).request(
            of.OffsetFetchRequest(
                groups=[of.OffsetFetchRequestGroup(group_id=group.group, topics=None)]
            ),
            OFFSET_FETCH_VERSION,
        )
        [answer] = response.groups
        _check(answer.error_code)
        return {
            TopicPartition(topic.name, partition.partition_index): partition.committed_offset
            for topic in answer.topics
            for partition in topic.partitions
            if partition.error_code == ErrorCode.NONE and partition.committed_offset >= 0
        }

    def _leaders(self, topics: Sequence[str]) -> dict[TopicPartition, int]:
        if not topics:
            return {}
        response = self._any().request(
            m.MetadataRequest(
                topics=[m.MetadataRequestTopic(name=name) for name in topics],
                allow_auto_topic_creation=False,
            )
        )
        return {
            TopicPartition(topic.name, partition.partition_index): partition.leader_id
            for topic in response.topics
            if topic.error_code == ErrorCode.NONE
            for partition in topic.partitions
        }

    def _offsets(
        self, partitions: Sequence[TopicPartition], timestamp: int
    ) -> dict[TopicPartition, int]:
        leaders = self._leaders(sorted({tp.topic for tp in partitions}))
        running = set(self._brokers.ids())
        by_leader: dict[int, list[TopicPartition]] = {}
        for tp in partitions:
            if leaders.get(tp) in running:
                by_leader.setdefault(leaders[tp], []).append(tp)
        found = {}
        for leader, led in by_leader.items():
            response = self._broker(leader).request(
                lo.ListOffsetsRequest(
                    replica_id=-1,
                    topics=[
                        lo.ListOffsetsTopic(
                            name=topic,
                            partitions=[
                                lo.ListOffsetsPartition(
                                    partition_index=tp.partition, timestamp=timestamp
                                )
                                for tp in led
                                if tp.topic == topic
                            ],
                        )
                        for topic in sorted({tp.topic for tp in led})
                    ],
                )
            )
            for answer in response.topics:
                for partition in answer.partitions:
                    _check(partition.error_code)
                    found[TopicPartition(answer.name, partition.partition_index)] = partition.offset
        return found


def _partitions(assignment: cd.Assignment) -> list[TopicPartition]:
    return sorted(
        TopicPartition(topic.topic_name, index)
        for topic in assignment.topic_partitions
        for index in topic.partitions
    )


def _check(code: int, message: str | None = None) -> None:
    if code != ErrorCode.NONE:
        raise ApiError(ErrorCode(code), message or ErrorCode(code).name)


def _assigned(protocol_type: str, assignment: bytes) -> list[TopicPartition]:
    """What only consumers say in a way that is known here."""
    if protocol_type != PROTOCOL_TYPE:
        return []
    try:
        return sorted(decode_assignment(assignment))
    except RemoteProtocolError:
        return []
