"""ConsumerGroupHeartbeat (key 68): join, stay in and leave a group of the consumer protocol.

Versions 0-1: 1 subscribes by regular expression, and has members make their ids themselves
(KIP-1082). Answered when what it tells is committed to `__consumer_offsets`: see
`core/groups/consumer/heartbeat.py`. Groups have no configs of their own here, so that sessions
and heartbeats are those of the broker's configs; target assignments are made at once.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from kcluster.core.groups.consumer import heartbeat
from kcluster.errors import ApiError, ErrorCode
from kcluster.wire.messages.consumer_group_heartbeat import (
    ConsumerGroupHeartbeatRequest,
    ConsumerGroupHeartbeatResponse,
)

if TYPE_CHECKING:
    from kcluster.core.broker.broker import BrokerCore
    from kcluster.core.broker.connections import Call
    from kcluster.core.groups.shard import Shard
    from kcluster.core.turn import Turn


def handle(
    broker: BrokerCore, call: Call, request: ConsumerGroupHeartbeatRequest, turn: Turn
) -> None:
    def refuse(later: Turn, error: ErrorCode) -> None:
        call.answer(later, ConsumerGroupHeartbeatResponse(error_code=error))

    def beat(later: Turn, shard: Shard) -> None:
        try:
            heartbeat.heartbeat(
                shard,
                request,
                call.header.api_version,
                call.header.client_id or "",
                call.client_host,
                later,
                call.answer,
            )
        except ApiError as error:
            call.answer(
                later,
                ConsumerGroupHeartbeatResponse(error_code=error.code, error_message=error.message),
            )

    broker.groups.serve(turn, request.group_id, beat, refuse)
