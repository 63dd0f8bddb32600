"""SyncGroup (key 14): hand in the assignment (the leader), and get one's own.

Versions 0-5: 3 static members (KIP-345), 5 checks and echoes the protocol (KIP-559). Answered
when the assignment is committed to `__consumer_offsets`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from kcluster.core.groups import rebalance
from kcluster.core.groups.consumer import classic
from kcluster.errors import ErrorCode
from kcluster.wire.messages.sync_group import SyncGroupRequest, SyncGroupResponse

if TYPE_CHECKING:
    from kcluster.core.broker.broker import BrokerCore
    from kcluster.core.broker.connections import Call
    from kcluster.core.groups.shard import Shard
    from kcluster.core.turn import Turn

NAMES_PROTOCOL_VERSION = 5


def handle(broker: BrokerCore, call: Call, request: SyncGroupRequest, turn: Turn) -> None:
    version = call.header.api_version

    def refuse(later: Turn, error: ErrorCode) -> None:
        call.answer(later, SyncGroupResponse(error_code=error))

    def sync(later: Turn, shard: Shard) -> None:
        group = shard.find_consumer(request.group_id)
        if group is not None:
            classic.sync(shard, group, request, later, call.answer)
        else:
            rebalance.sync(shard, request, later, call.answer)

    if not request.group_id:
        refuse(turn, ErrorCode.INVALID_GROUP_ID)
    elif version >= NAMES_PROTOCOL_VERSION and not (
        request.protocol_type and request.protocol_name
    ):
        refuse(turn, ErrorCode.INCONSISTENT_GROUP_PROTOCOL)
    else:
        broker.groups.serve(turn, request.group_id, sync, refuse)
