"""InitProducerId (key 22): a producer id of its own for an idempotent producer.

Always a new id with epoch 0, also for one that brings an old id (KIP-360): without a
transactional id nobody remembers who had it. Transactions need a transaction coordinator, which
is not there: COORDINATOR_NOT_AVAILABLE.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from kcluster.errors import ErrorCode
from kcluster.wire.messages.init_producer_id import InitProducerIdRequest, InitProducerIdResponse

if TYPE_CHECKING:
    from kcluster.core.broker.broker import BrokerCore
    from kcluster.core.broker.connections import Call
    from kcluster.core.turn import Turn


def handle(
    broker: BrokerCore, call: Call, request: InitProducerIdRequest, turn: Turn
) -> InitProducerIdResponse | None:
    refusal = _refusal(request)
    if refusal:
        return InitProducerIdResponse(error_code=refusal, producer_id=-1, producer_epoch=-1)

    def given(later: Turn, error: ErrorCode, producer_id: int) -> None:
        call.answer(
            later,
            InitProducerIdResponse(
                error_code=error, producer_id=producer_id, producer_epoch=-1 if error else 0
            ),
        )

    broker.give_producer_id(turn, given)
    return None


def _refusal(request: InitProducerIdRequest) -> ErrorCode:
    if request.transactional_id is not None:
        if not request.transactional_id:
            return ErrorCode.INVALID_REQUEST
        return ErrorCode.COORDINATOR_NOT_AVAILABLE
    if (request.producer_id < 0) != (request.producer_epoch < 0):
        # Both or neither (KIP-360).
        return ErrorCode.INVALID_REQUEST
    return ErrorCode.NONE
