"""Heartbeat (key 12): a member lives, and hears whether a rebalance is on.

Versions 0-4: 3 static members (KIP-345). While the group is still being loaded the answer is that
all is well, as in Kafka: nobody loses its place for what its coordinator does not know yet.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from kcluster.core.groups import rebalance
from kcluster.core.groups.consumer import classic
from kcluster.errors import ErrorCode
from kcluster.wire.messages.heartbeat import HeartbeatRequest, HeartbeatResponse

if TYPE_CHECKING:
    from kcluster.core.broker.broker import BrokerCore
    from kcluster.core.broker.connections import Call
    from kcluster.core.groups.shard import Shard
    from kcluster.core.turn import Turn


def handle(broker: BrokerCore, call: Call, request: HeartbeatRequest, turn: Turn) -> None:
    def refuse(later: Turn, error: ErrorCode) -> None:
        if error == ErrorCode.COORDINATOR_LOAD_IN_PROGRESS:
            error = ErrorCode.NONE
        call.answer(later, HeartbeatResponse(error_code=error))

    def beat(later: Turn, shard: Shard) -> None:
        group = shard.find_consumer(request.group_id)
        if group is not None:
            classic.heartbeat(
                shard,
                group,
                request.member_id,
                request.group_instance_id,
                request.generation_id,
                later,
            )
            call.answer(later, HeartbeatResponse())
            return
        rebalance.heartbeat(
            shard,
            request.group_id,
            request.member_id,
            request.group_instance_id,
            request.generation_id,
            later,
        )
        call.answer(later, HeartbeatResponse())

    if not request.group_id:
        refuse(turn, ErrorCode.INVALID_GROUP_ID)
    else:
        broker.groups.serve(turn, request.group_id, beat, refuse)
