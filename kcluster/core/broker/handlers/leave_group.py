"""LeaveGroup (key 13): take members out of a group, each with its own outcome.

Versions 0-5: one member until 2, then many, static ones by their instance id (KIP-345), 5 with a
reason (KIP-800). One member's failure is the whole answer of the old versions.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from kcluster.core.groups import rebalance
from kcluster.core.groups.consumer import classic
from kcluster.errors import ApiError, ErrorCode
from kcluster.wire.messages.leave_group import (
    LeaveGroupRequest,
    LeaveGroupResponse,
    MemberIdentity,
    MemberResponse,
)

if TYPE_CHECKING:
    from kcluster.core.broker.broker import BrokerCore
    from kcluster.core.broker.connections import Call
    from kcluster.core.groups.shard import Shard
    from kcluster.core.turn import Turn

BATCHED_VERSION = 3


def handle(broker: BrokerCore, call: Call, request: LeaveGroupRequest, turn: Turn) -> None:
    is_batched = call.header.api_version >= BATCHED_VERSION
    members = request.members if is_batched else [MemberIdentity(member_id=request.member_id)]

    def refuse(later: Turn, error: ErrorCode) -> None:
        call.answer(later, LeaveGroupResponse(error_code=error))

    def left(later: Turn, outcomes: list[MemberResponse]) -> None:
        if is_batched:
            response = LeaveGroupResponse(members=outcomes)
        else:
            response = LeaveGroupResponse(error_code=outcomes[0].error_code)
        call.answer(later, response)

    def leave(later: Turn, shard: Shard) -> None:
        group = shard.find_consumer(request.group_id)
        if group is None:
            left(later, [_leave(shard, request.group_id, member, later) for member in members])
            return

        def done(when: Turn, error: ErrorCode, gone: list[MemberResponse]) -> None:
            if error:
                refuse(when, error)
            else:
                left(when, gone)

        classic.leave(shard, group, members, later, done)

    if not request.group_id:
        refuse(turn, ErrorCode.INVALID_GROUP_ID)
    else:
        broker.groups.serve(turn, request.group_id, leave, refuse)


def _leave(shard: Shard, group_id: str, member: MemberIdentity, turn: Turn) -> MemberResponse:
    code = ErrorCode.NONE
    try:
        rebalance.leave(
            shard,
            group_id,
            member.member_id,
            member.group_instance_id,
            member.reason or "",
            turn,
        )
    except ApiError as error:
        code = error.code
    return MemberResponse(
        member_id=member.member_id, group_instance_id=member.group_instance_id, error_code=code
    )
