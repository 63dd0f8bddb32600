"""DeleteGroups (key 42): delete groups without members, with their offsets.

Versions 0-2. NON_EMPTY_GROUP while it has members; answered when the deletion is committed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from kcluster.core.broker.handlers.gathering import Gathering
from kcluster.core.groups.group import Group
from kcluster.errors import ApiError, ErrorCode
from kcluster.wire.messages.delete_groups import (
    DeletableGroupResult,
    DeleteGroupsRequest,
    DeleteGroupsResponse,
)

if TYPE_CHECKING:
    from kcluster.core.broker.broker import BrokerCore
    from kcluster.core.broker.connections import Call
    from kcluster.core.groups.shard import Done, Shard
    from kcluster.core.turn import Turn


def handle(broker: BrokerCore, call: Call, request: DeleteGroupsRequest, turn: Turn) -> None:
    names = request.groups_names

    def respond(later: Turn, errors: list[ErrorCode]) -> None:
        results = [
            DeletableGroupResult(group_id=name, error_code=error)
            for name, error in zip(names, errors, strict=True)
        ]
        call.answer(later, DeleteGroupsResponse(results=results))

    gathering = Gathering(turn, len(names), respond)
    for index, name in enumerate(names):
        _delete(broker, name, turn, gathering.part(index))


def _delete(broker: BrokerCore, group_id: str, turn: Turn, done: Done) -> None:
    def delete(later: Turn, shard: Shard) -> None:
        group = shard.find_any(group_id)
        if group is None:
            raise ApiError(ErrorCode.GROUP_ID_NOT_FOUND)
        if not group.is_empty or (isinstance(group, Group) and group.pending):
            raise ApiError(ErrorCode.NON_EMPTY_GROUP)
        shard.delete_group(later, group, done)

    broker.groups.serve(turn, group_id, delete, done)
