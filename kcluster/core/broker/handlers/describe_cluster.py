"""DescribeCluster (key 60): the brokers, without topics (KIP-700).

Versions 0-2: 1 says whether brokers or controllers are meant (KIP-919; this listener has
brokers only), 2 may include fenced brokers (KIP-1073).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from kcluster.core.broker.handlers import operations
from kcluster.errors import ErrorCode
from kcluster.wire.messages.describe_cluster import (
    DescribeClusterBroker,
    DescribeClusterRequest,
    DescribeClusterResponse,
)

if TYPE_CHECKING:
    from kcluster.core.broker.broker import BrokerCore
    from kcluster.core.broker.connections import Call
    from kcluster.core.turn import Turn

BROKERS: Final = 1
CONTROLLERS: Final = 2


def handle(
    broker: BrokerCore, call: Call, request: DescribeClusterRequest, turn: Turn
) -> DescribeClusterResponse:
    image = broker.image
    if request.endpoint_type == CONTROLLERS:
        return _refused(
            request,
            ErrorCode.MISMATCHED_ENDPOINT_TYPE,
            "this listener has brokers; controllers are not reached by Kafka's protocol",
        )
    if request.endpoint_type != BROKERS:
        return _refused(
            request,
            ErrorCode.UNSUPPORTED_ENDPOINT_TYPE,
            f"endpoint type {request.endpoint_type} is unknown",
        )
    return DescribeClusterResponse(
        cluster_id=image.cluster_id,
        controller_id=operations.advertised_controller(broker),
        brokers=[
            DescribeClusterBroker(
                broker_id=member.id,
                host=member.host,
                port=member.port,
                rack=member.rack,
                is_fenced=member.is_fenced,
            )
            for _, member in sorted(image.brokers.items())
            if not member.is_fenced or request.include_fenced_brokers
        ],
        cluster_authorized_operations=operations.cluster_operations(
            request.include_cluster_authorized_operations
        ),
    )


def _refused(
    request: DescribeClusterRequest, code: ErrorCode, message: str
) -> DescribeClusterResponse:
    return DescribeClusterResponse(
        error_code=code, error_message=message, endpoint_type=request.endpoint_type, cluster_id=""
    )
