"""Questions and orders about consumer groups: one generator each, at the coordinator.

A coordinator that is just moving, or still loads, is asked again until the operation's deadline.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

import msgspec

from kcluster.core.client import results as r
from kcluster.core.client.admin import ANY, Ask, Operation, Pause
from kcluster.core.client.coordination import NOT_YET
from kcluster.core.client.membership import CLASSIC, CONSUMER
from kcluster.core.client.offsets import (
    OFFSET_COMMIT_VERSION,
    OFFSET_FETCH_VERSION,
    by_topic,
    fetch_request,
    fetched,
)
from kcluster.core.client.operations import (
    EARLIEST,
    LATEST,
    Reason,
    answered,
    described,
    leaders_in,
    led,
    offsets,
    refuse,
)
from kcluster.errors import ErrorCode, RemoteProtocolError
from kcluster.model import OFFSETS_TOPIC, TopicPartition
from kcluster.wire.consumer_protocol import PROTOCOL_TYPE, decode_assignment
from kcluster.wire.message import Message
from kcluster.wire.messages import consumer_group_describe as cd
from kcluster.wire.messages import delete_groups as dg
from kcluster.wire.messages import describe_groups as de
from kcluster.wire.messages import find_coordinator as fc
from kcluster.wire.messages import list_groups as ls
from kcluster.wire.messages import offset_commit as oc
from kcluster.wire.messages import offset_delete as od

FIND_COORDINATOR_VERSION: Final = 4

DEAD: Final = "Dead"

MOVED: Final = NOT_YET | {ErrorCode.GROUP_ID_NOT_FOUND}
"""Of a group that was listed: it is to be listed anew."""

MEMBER_TYPES: Final = {0: CLASSIC, 1: CONSUMER}
"""Of ConsumerGroupDescribe, from version 1 on."""


def coordinator(group: str) -> Operation[int]:
    """The broker that coordinates a group, also one that is not there yet."""
    with Reason() as reason:
        while True:
            response = yield from answered(
                ANY,
                fc.FindCoordinatorRequest(key=group, coordinator_keys=[group]),
                FIND_COORDINATOR_VERSION,
            )
            answer = response.coordinators[0] if response.coordinators else response
            if answer.error_code not in NOT_YET:
                refuse(answer.error_code, answer.error_message, f"group {group}")
                return int(answer.node_id)
            yield from reason.wait(answer.error_code, answer.error_message)


def _at_coordinator(
    group: str, request: Message, code_of: Any, version: int | None = None
) -> Operation[tuple[Any, int]]:
    """(response, coordinator); `code_of` the response says whether to ask again."""
    with Reason() as reason:
        while True:
            broker = yield from coordinator(group)
            response = yield Ask(broker, request, version)
            code = ErrorCode.COORDINATOR_NOT_AVAILABLE if response is None else code_of(response)
            if code not in NOT_YET:
                return response, broker
            yield from reason.wait(code, f"group {group}: {ErrorCode(code).name}")


# --- looking ------------------------------------------------------------------------------


def groups() -> Operation[list[r.GroupListing]]:
    """All there are, by name. ApiError while the groups of some partition have no coordinator: a
    list that leaves groups out would be a lie."""
    with Reason() as reason:
        while True:
            cluster = yield from described([OFFSETS_TOPIC])
            brokers = sorted(each.node_id for each in cluster.brokers)
            lost = [tp for tp, leader in leaders_in(cluster).items() if leader not in brokers]
            if lost:
                yield from reason.wait(
                    ErrorCode.COORDINATOR_NOT_AVAILABLE, f"nobody leads {min(lost)}"
                )
                continue
            responses = yield [Ask(broker, ls.ListGroupsRequest()) for broker in brokers]
            codes = [
                ErrorCode.COORDINATOR_NOT_AVAILABLE if each is None else each.error_code
                for each in responses
            ]
            wrong = next((code for code in codes if code in NOT_YET), None)
            if wrong is None:
                break
            yield from reason.wait(wrong)
    found: list[r.GroupListing] = []
    for broker, response in zip(brokers, responses, strict=True):
        refuse(response.error_code)
        found += _listed(broker, response)
    return sorted(found, key=lambda each: each.group)


def _listed(broker: int, response: ls.ListGroupsResponse) -> list[r.GroupListing]:
    return [
        r.GroupListing(each.group_id, each.group_state, each.protocol_type, each.group_type, broker)
        for each in response.groups
    ]


def describe_group(group: str) -> Operation[r.Group]:
    """Its state and members. One that is not there is Dead, as Kafka has it."""
    while True:
        response, broker = yield from _at_coordinator(
            group, ls.ListGroupsRequest(), lambda each: each.error_code
        )
        refuse(response.error_code)
        listed = [each for each in _listed(broker, response) if each.group == group]
        if not listed:
            return r.Group(group, DEAD, "", "", broker, [])
        found = yield from _described(listed[0])
        if found is not None:
            return found
        yield Pause()


def describe_groups(
    names: Iterable[str] | None = None, *, with_offsets: bool = True
) -> Operation[list[r.Group]]:
    """All there are, by name; or of these, in their order, those that are there. With what they
    have committed, and where the logs begin and end."""
    wanted = None if names is None else list(names)
    while True:
        listed = {each.group: each for each in (yield from groups())}
        found: list[r.Group] = []
        for name in listed if wanted is None else wanted:
            if name not in listed:
                continue
            group = yield from _described(listed[name])
            if group is None:
                break
            found.append(group)
        else:
            return (yield from _with_offsets(found)) if with_offsets else found
        yield Pause()


def _described(listed: r.GroupListing) -> Operation[r.Group | None]:
    """None: it is no more what was listed, or no more there."""
    is_consumer = listed.type == CONSUMER
    request = (
        cd.ConsumerGroupDescribeRequest(group_ids=[listed.group])
        if is_consumer
        else de.DescribeGroupsRequest(groups=[listed.group])
    )
    response = yield Ask(listed.coordinator, request)
    if response is None:
        return None
    [group] = response.groups
    if group.error_code in MOVED or group.group_state == DEAD:
        return None
    refuse(group.error_code, group.error_message)
    return _consumer_group(listed, group) if is_consumer else _classic_group(listed, group)


def _classic_group(listed: r.GroupListing, group: de.DescribedGroup) -> r.Group:
    members = [
        r.GroupMember(
            each.member_id,
            each.group_instance_id,
            each.client_id,
            each.client_host.removeprefix("/"),
            assigned(group.protocol_type, each.member_assignment),
        )
        for each in group.members
    ]
    return r.Group(
        listed.group,
        group.group_state,
        group.protocol_type,
        group.protocol_data,
        listed.coordinator,
        _in_order(members),
    )


def _consumer_group(listed: r.GroupListing, group: cd.DescribedGroup) -> r.Group:
    members = [
        r.GroupMember(
            each.member_id,
            each.instance_id,
            each.client_id,
            each.client_host.removeprefix("/"),
            _partitions(each.assignment),
            each.member_epoch,
            _partitions(each.target_assignment),
            MEMBER_TYPES.get(each.member_type, ""),
        )
        for each in group.members
    ]
    return r.Group(
        listed.group,
        group.group_state,
        PROTOCOL_TYPE,
        group.assignor_name,
        listed.coordinator,
        _in_order(members),
        type=CONSUMER,
        epoch=group.group_epoch,
        assignment_epoch=group.assignment_epoch,
    )


def _in_order(members: list[r.GroupMember]) -> list[r.GroupMember]:
    return sorted(members, key=lambda each: (each.client_id, each.member))


def _partitions(assignment: cd.Assignment) -> list[TopicPartition]:
    return sorted(
        TopicPartition(topic.topic_name, index)
        for topic in assignment.topic_partitions
        for index in topic.partitions
    )


def assigned(protocol_type: str, assignment: bytes) -> list[TopicPartition]:
    """What only consumers say in a way that is known here."""
    if protocol_type != PROTOCOL_TYPE:
        return []
    try:
        return sorted(decode_assignment(assignment))
    except RemoteProtocolError:
        return []


def committed(
    group: str, partitions: Iterable[TopicPartition] | None = None
) -> Operation[dict[TopicPartition, int]]:
    """The next offset of each partition, of all or of these; none for what was never committed."""
    response, _ = yield from _at_coordinator(
        group,
        fetch_request(group, None if partitions is None else list(partitions)),
        lambda each: fetched(each)[0],
        OFFSET_FETCH_VERSION,
    )
    code, found = fetched(response)
    refuse(code, None, f"group {group}")
    return {
        tp: each.committed_offset
        for tp, each in found
        if each.error_code == ErrorCode.NONE and each.committed_offset >= 0
    }


def _with_offsets(found: list[r.Group]) -> Operation[list[r.Group]]:
    marks: list[dict[TopicPartition, int]] = []
    for group in found:
        marks.append((yield from committed(group.group)))
    wanted = {tp for each in marks for tp in each}
    wanted.update(tp for group in found for each in group.members for tp in each.partitions)
    known = yield from led(wanted)
    starts = yield from offsets(known, EARLIEST)
    ends = yield from offsets(known, LATEST)
    return [
        msgspec.structs.replace(group, partitions=_rows(group, theirs, starts, ends))
        for group, theirs in zip(found, marks, strict=True)
    ]


def _rows(
    group: r.Group,
    committed: Mapping[TopicPartition, int],
    starts: Mapping[TopicPartition, r.Offset],
    ends: Mapping[TopicPartition, r.Offset],
) -> list[r.GroupOffset]:
    owners = {tp: each for each in group.members for tp in each.partitions}
    rows = []
    for tp in sorted(committed.keys() | owners.keys()):
        at, owner = committed.get(tp), owners.get(tp)
        start = starts[tp].offset if tp in starts else None
        end = ends[tp].offset if tp in ends else None
        rows.append(
            r.GroupOffset(
                tp.topic,
                tp.partition,
                at,
                start,
                end,
                None if at is None or end is None else max(0, end - at),
                owner.member if owner is not None else None,
                owner.host if owner is not None else None,
                owner.client_id if owner is not None else None,
            )
        )
    return rows


# --- changing -----------------------------------------------------------------------------


def delete_group(group: str) -> Operation[None]:
    """With all that it has committed. Raises ApiError: NON_EMPTY_GROUP, GROUP_ID_NOT_FOUND."""
    response, _ = yield from _at_coordinator(
        group,
        dg.DeleteGroupsRequest(groups_names=[group]),
        lambda each: each.results[0].error_code,
    )
    refuse(response.results[0].error_code, None, f"group {group}")


def commit(group: str, offsets: Mapping[TopicPartition, int]) -> Operation[None]:
    """As nobody's member: only a group without members takes it. Raises ApiError."""
    request = oc.OffsetCommitRequest(
        group_id=group,
        topics=[
            oc.OffsetCommitRequestTopic(
                name=topic,
                partitions=[
                    oc.OffsetCommitRequestPartition(
                        partition_index=index,
                        committed_offset=offsets[TopicPartition(topic, index)],
                    )
                    for index in indexes
                ],
            )
            for topic, indexes in by_topic(offsets).items()
        ],
    )
    response, _ = yield from _at_coordinator(group, request, _first, OFFSET_COMMIT_VERSION)
    for topic in response.topics:
        for each in topic.partitions:
            refuse(each.error_code, None, f"{topic.name}-{each.partition_index}")


def delete_offsets(group: str, partitions: Iterable[TopicPartition]) -> Operation[None]:
    """Forget what a group has committed of these, which it does not read. Raises ApiError."""
    request = od.OffsetDeleteRequest(
        group_id=group,
        topics=[
            od.OffsetDeleteRequestTopic(
                name=topic,
                partitions=[
                    od.OffsetDeleteRequestPartition(partition_index=index) for index in indexes
                ],
            )
            for topic, indexes in by_topic(partitions).items()
        ],
    )
    response, _ = yield from _at_coordinator(group, request, lambda each: each.error_code)
    refuse(response.error_code, None, f"group {group}")
    for topic in response.topics:
        for each in topic.partitions:
            refuse(each.error_code, None, f"{topic.name}-{each.partition_index}")


def _first(response: oc.OffsetCommitResponse) -> int:
    """A coordinator that refuses all refuses each alike."""
    return next((each.error_code for topic in response.topics for each in topic.partitions), 0)
