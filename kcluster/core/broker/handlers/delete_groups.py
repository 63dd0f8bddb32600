"""DeleteGroups (key 42): delete groups without members, with their offsets.

Versions 0-2. NON_EMPTY_GROUP while it has members; answered when the deletion is committed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

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
    results = [DeletableGroupResult(group_id=name) for name in request.groups_names]
    missing = len(results)

    def done(later: Turn, result: DeletableGroupResult, error: ErrorCode) -> None:
        nonlocal missing
        result.error_code = error
        missing -= 1
        if not missing:
            call.answer(later, DeleteGroupsResponse(results=results))

    if not results:
        call.answer(turn, DeleteGroupsResponse())
    for result in results:
        _delete(
            broker,
            result.group_id,
            turn,
            lambda later, error, result=result: done(later, result, error),  # type: ignore[misc]
        )


def _delete(broker: BrokerCore, group_id: str, turn: Turn, done: Done) -> None:
    def delete(later: Turn, shard: Shard) -> None:
        group = shard.find(group_id)
        if group is None:
            raise ApiError(ErrorCode.GROUP_ID_NOT_FOUND)
        if not group.is_empty or group.pending:
            raise ApiError(ErrorCode.NON_EMPTY_GROUP)
        shard.delete_group(later, group, done)

    broker.groups.serve(turn, group_id, delete, done)
