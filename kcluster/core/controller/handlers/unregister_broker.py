"""UnregisterBroker (64), version 0: forget a broker that will not come back (KIP-631).

One that nobody knows is BROKER_ID_NOT_REGISTERED. One that lives, or whose replicas are still
assigned to it, is INVALID_REQUEST with the reason: the first would only register again, and the
partitions of the second would name a broker that is not there (Kafka forgets both).
"""

from __future__ import annotations

from kcluster.core.controller.topics import Deciding
from kcluster.core.metadata import records as r
from kcluster.errors import ApiError, ErrorCode
from kcluster.wire.messages.unregister_broker import (
    UnregisterBrokerRequest,
    UnregisterBrokerResponse,
)


def decide(
    deciding: Deciding, request: UnregisterBrokerRequest, version: int
) -> UnregisterBrokerResponse:
    try:
        _unregister(deciding, request.broker_id)
    except ApiError as error:
        return UnregisterBrokerResponse(error_code=error.code, error_message=error.message)
    return UnregisterBrokerResponse(error_message=None)


def _unregister(deciding: Deciding, id: int) -> None:
    image = deciding.image
    broker = image.brokers.get(id)
    if broker is None:
        raise ApiError(ErrorCode.BROKER_ID_NOT_REGISTERED, f"Broker {id} is not registered.")
    if not broker.is_fenced:
        raise ApiError(ErrorCode.INVALID_REQUEST, f"Broker {id} is alive: stop it first.")
    held = sum(
        id in state.replicas
        for topic in image.topics.values()
        for state in topic.partitions.values()
    )
    if held:
        raise ApiError(
            ErrorCode.INVALID_REQUEST,
            f"Broker {id} has replicas of {held} partition(s): they have to go elsewhere first.",
        )
    deciding.decision.add(r.BrokerUnregistered(id, broker.broker_epoch))
    deciding.brokers.forget(id)
