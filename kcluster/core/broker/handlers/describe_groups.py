"""DescribeGroups (key 15): state and members of groups.

Versions 0-6: 3 permitted operations, 4 instance ids, 6 says GROUP_ID_NOT_FOUND of a group that is
not there (KIP-1043), which before was one in state Dead. What members subscribe to and have is
told of a stable group only, as in Kafka: until then nothing is settled. A group of the consumer
protocol is not there for this API: ConsumerGroupDescribe tells of it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from kcluster.core.broker.handlers import operations
from kcluster.core.broker.handlers.gathering import Gathering
from kcluster.core.groups.group import Group, GroupState
from kcluster.errors import ErrorCode
from kcluster.wire.messages.describe_groups import (
    DescribedGroup,
    DescribedGroupMember,
    DescribeGroupsRequest,
    DescribeGroupsResponse,
)

if TYPE_CHECKING:
    from kcluster.core.broker.broker import BrokerCore
    from kcluster.core.broker.connections import Call
    from kcluster.core.groups.shard import Shard
    from kcluster.core.turn import Turn

NOT_FOUND_VERSION = 6


def handle(broker: BrokerCore, call: Call, request: DescribeGroupsRequest, turn: Turn) -> None:
    version = call.header.api_version

    def respond(later: Turn, described: list[DescribedGroup]) -> None:
        call.answer(later, DescribeGroupsResponse(groups=described))

    gathering = Gathering(turn, len(request.groups), respond)
    for index, group_id in enumerate(request.groups):
        _find(
            broker,
            group_id,
            version,
            request.include_authorized_operations,
            turn,
            gathering.part(index),
        )


def _find(
    broker: BrokerCore,
    group_id: str,
    version: int,
    wants_operations: bool,
    turn: Turn,
    answer: Callable[[Turn, DescribedGroup], None],
) -> None:
    def refuse(later: Turn, error: ErrorCode) -> None:
        answer(later, DescribedGroup(group_id=group_id, error_code=error))

    def describe(later: Turn, shard: Shard) -> None:
        group = shard.find(group_id)
        if group is None:
            answer(later, _not_found(group_id, version, shard.find_any(group_id) is not None))
            return
        described = _describe(group)
        described.authorized_operations = operations.group_operations(wants_operations)
        answer(later, described)

    broker.groups.serve(turn, group_id, describe, refuse)


def _not_found(group_id: str, version: int, is_another_kind: bool) -> DescribedGroup:
    described = DescribedGroup(group_id=group_id, group_state=GroupState.DEAD.value)
    if version >= NOT_FOUND_VERSION:
        described.error_code = ErrorCode.GROUP_ID_NOT_FOUND
        what = "is not a classic group" if is_another_kind else "not found"
        described.error_message = f"Group {group_id} {what}."
    return described


def _describe(group: Group) -> DescribedGroup:
    return DescribedGroup(
        group_id=group.id,
        group_state=group.state.value,
        protocol_type=group.protocol_type,
        protocol_data=(group.protocol or "") if group.is_stable else "",
        members=[
            DescribedGroupMember(
                member_id=member.id,
                group_instance_id=member.instance_id,
                client_id=member.client_id,
                client_host=member.client_host,
                member_metadata=member.metadata(group.protocol) if group.is_stable else b"",
                member_assignment=member.assignment if group.is_stable else b"",
            )
            for member in group.members.values()
        ],
    )
