"""JoinGroup (key 11): become a member of a group, or stay one in its next generation.

Versions 0-9: 1 brings a rebalance timeout of its own, 4 has new members ask twice (KIP-394), 5
static members (KIP-345), 9 the answer to a leader that has nothing to assign (KIP-814). Answered
when all members have joined: see `core/groups/joining.py`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from kcluster.core.groups import joining
from kcluster.errors import ErrorCode
from kcluster.wire.messages.join_group import JoinGroupRequest, JoinGroupResponse

if TYPE_CHECKING:
    from kcluster.core.broker.broker import BrokerCore
    from kcluster.core.broker.connections import Call
    from kcluster.core.groups.shard import Shard
    from kcluster.core.turn import Turn

NULL_PROTOCOL_VERSION = 7


def handle(broker: BrokerCore, call: Call, request: JoinGroupRequest, turn: Turn) -> None:
    version = call.header.api_version

    def answer(later: Turn, response: JoinGroupResponse) -> None:
        if response.protocol_name is None and version < NULL_PROTOCOL_VERSION:
            response.protocol_name = ""
        call.answer(later, response)

    def refuse(later: Turn, error: ErrorCode) -> None:
        answer(
            later,
            JoinGroupResponse(error_code=error, protocol_name=None, member_id=request.member_id),
        )

    def join(later: Turn, shard: Shard) -> None:
        joining.join(
            shard, request, version, call.header.client_id or "", call.client_host, later, answer
        )

    if not request.group_id:
        refuse(turn, ErrorCode.INVALID_GROUP_ID)
    else:
        broker.groups.serve(turn, request.group_id, join, refuse)
