"""FindCoordinator (key 10): which broker looks after a group or a transactional id.

Versions 0-6: 1 adds the key's type and messages, 4 asks for several keys at once (KIP-699).
Neither groups nor transactions are there yet, and the answer says so at once. A group gets
COORDINATOR_NOT_AVAILABLE, which clients ask again about: a consumer with assigned partitions
and a group id reads on regardless. A transactional id gets TRANSACTIONAL_ID_AUTHORIZATION_FAILED,
the one refusal that every client takes as final, so that no transactional producer ever hangs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from kcluster.errors import ErrorCode
from kcluster.wire.messages.find_coordinator import (
    Coordinator,
    FindCoordinatorRequest,
    FindCoordinatorResponse,
)

if TYPE_CHECKING:
    from kcluster.core.broker.broker import BrokerCore
    from kcluster.core.broker.connections import Call
    from kcluster.core.turn import Turn

GROUP: Final = 0
TRANSACTION: Final = 1

BATCHED_VERSION: Final = 4


def handle(
    broker: BrokerCore, call: Call, request: FindCoordinatorRequest, turn: Turn
) -> FindCoordinatorResponse:
    code, message = _refusal(request.key_type)
    if call.header.api_version < BATCHED_VERSION:
        return FindCoordinatorResponse(
            error_code=code, error_message=message, node_id=-1, host="", port=-1
        )
    return FindCoordinatorResponse(
        coordinators=[
            Coordinator(
                key=key, node_id=-1, host="", port=-1, error_code=code, error_message=message
            )
            for key in request.coordinator_keys
        ]
    )


def _refusal(key_type: int) -> tuple[ErrorCode, str]:
    if key_type == GROUP:
        return (
            ErrorCode.COORDINATOR_NOT_AVAILABLE,
            "consumer groups are not supported by kcluster yet: assign partitions instead",
        )
    if key_type == TRANSACTION:
        return (
            ErrorCode.TRANSACTIONAL_ID_AUTHORIZATION_FAILED,
            "transactions are not supported by kcluster yet: leave out transactional.id",
        )
    return ErrorCode.INVALID_REQUEST, f"coordinators of type {key_type} are not supported"
