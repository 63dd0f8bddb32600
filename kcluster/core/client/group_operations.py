"""Questions and orders about consumer groups: one generator each, at the coordinator.

A coordinator that is just moving, or still loads, is asked again until the operation's deadline.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

from kcluster.core.client import results as r
from kcluster.core.client.admin import ANY, Ask, Operation, Pause
from kcluster.core.client.coordination import NOT_YET
from kcluster.core.client.exchange import METADATA_VERSION
from kcluster.core.client.offsets import (
    OFFSET_COMMIT_VERSION,
    OFFSET_FETCH_VERSION,
    by_topic,
    fetch_request,
    fetched,
)
from kcluster.core.client.operations import answered, refuse
from kcluster.errors import ErrorCode, RemoteProtocolError
from kcluster.model import TopicPartition
from kcluster.wire.consumer_protocol import PROTOCOL_TYPE, decode_assignment
from kcluster.wire.message import Message
from kcluster.wire.messages import delete_groups as dg
from kcluster.wire.messages import describe_groups as de
from kcluster.wire.messages import find_coordinator as fc
from kcluster.wire.messages import list_groups as ls
from kcluster.wire.messages import metadata as m
from kcluster.wire.messages import offset_commit as oc
from kcluster.wire.messages import offset_delete as od

FIND_COORDINATOR_VERSION: Final = 4


def coordinator(group: str) -> Operation[int]:
    """The broker that coordinates a group, also one that is not there yet."""
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
        yield Pause()


def _at_coordinator(
    group: str, request: Message, code_of: Any, version: int | None = None
) -> Operation[tuple[Any, int]]:
    """(response, coordinator); `code_of` the response says whether to ask again."""
    while True:
        broker = yield from coordinator(group)
        response = yield Ask(broker, request, version)
        if response is not None and code_of(response) not in NOT_YET:
            return response, broker
        yield Pause()


def groups() -> Operation[list[r.GroupListing]]:
    """All there are, by name."""
    while True:
        described = yield from answered(ANY, m.MetadataRequest(topics=[]), METADATA_VERSION)
        brokers = sorted(each.node_id for each in described.brokers)
        responses = yield [Ask(broker, ls.ListGroupsRequest()) for broker in brokers]
        if all(
            response is not None and response.error_code not in NOT_YET for response in responses
        ):
            break
        yield Pause()  # A list that leaves groups out would be a lie.
    found = []
    for broker, response in zip(brokers, responses, strict=True):
        refuse(response.error_code)
        found += [
            r.GroupListing(
                each.group_id, each.group_state, each.protocol_type, each.group_type, broker
            )
            for each in response.groups
        ]
    return sorted(found, key=lambda each: each.group)


def describe_group(group: str) -> Operation[r.Group]:
    """Of a classic group. One that is not there is Dead, as Kafka has it."""
    response, broker = yield from _at_coordinator(
        group, de.DescribeGroupsRequest(groups=[group]), lambda each: each.groups[0].error_code
    )
    [found] = response.groups
    if found.error_code != ErrorCode.GROUP_ID_NOT_FOUND:
        refuse(found.error_code, found.error_message)
    return r.Group(
        group,
        found.group_state or "Dead",
        found.protocol_type,
        found.protocol_data,
        broker,
        [
            r.Member(
                each.member_id,
                each.group_instance_id,
                each.client_id,
                each.client_host.removeprefix("/"),
                assigned(found.protocol_type, each.member_assignment),
            )
            for each in sorted(found.members, key=lambda each: (each.client_id, each.member_id))
        ],
    )


def assigned(protocol_type: str, assignment: bytes) -> list[TopicPartition]:
    """What only consumers say in a way that is known here."""
    if protocol_type != PROTOCOL_TYPE:
        return []
    try:
        return sorted(decode_assignment(assignment))
    except RemoteProtocolError:
        return []


def delete_group(group: str) -> Operation[None]:
    """With all that it has committed. Raises ApiError: NON_EMPTY_GROUP, GROUP_ID_NOT_FOUND."""
    response, _ = yield from _at_coordinator(
        group,
        dg.DeleteGroupsRequest(groups_names=[group]),
        lambda each: each.results[0].error_code,
    )
    refuse(response.results[0].error_code, None, f"group {group}")


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
