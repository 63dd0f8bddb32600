"""ListConfigResources (key 74): what DescribeConfigs can be asked about (KIP-1142).

Version 0 knows client metrics only (KIP-714), of which there are none. Version 1 asks by types,
none named meaning all: topics, the living brokers and their loggers, groups and client metrics
that have configs of their own: none. A type that is not among these is UNSUPPORTED_VERSION, as
Kafka answers.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from kcluster.core.metadata.image import (
    BROKER_LOGGER_RESOURCE,
    BROKER_RESOURCE,
    CLIENT_METRICS_RESOURCE,
    GROUP_RESOURCE,
    TOPIC_RESOURCE,
)
from kcluster.errors import ErrorCode
from kcluster.wire.messages.list_config_resources import (
    ConfigResource,
    ListConfigResourcesRequest,
    ListConfigResourcesResponse,
)

if TYPE_CHECKING:
    from kcluster.core.broker.broker import BrokerCore
    from kcluster.core.broker.connections import Call
    from kcluster.core.metadata.image import ClusterImage
    from kcluster.core.turn import Turn

TYPES: Final = (
    TOPIC_RESOURCE, BROKER_RESOURCE, BROKER_LOGGER_RESOURCE, CLIENT_METRICS_RESOURCE,
    GROUP_RESOURCE,
)  # fmt: skip


def handle(
    broker: BrokerCore, call: Call, request: ListConfigResourcesRequest, turn: Turn
) -> ListConfigResourcesResponse:
    wanted = set(request.resource_types or TYPES)
    if call.header.api_version == 0:
        wanted = {CLIENT_METRICS_RESOURCE}
    if not wanted <= set(TYPES):
        return ListConfigResourcesResponse(error_code=ErrorCode.UNSUPPORTED_VERSION)
    return ListConfigResourcesResponse(
        config_resources=[
            ConfigResource(resource_name=name, resource_type=kind)
            for kind in sorted(wanted)
            for name in _names(broker.image, kind)
        ]
    )


def _names(image: ClusterImage, kind: int) -> list[str]:
    if kind == TOPIC_RESOURCE:
        return sorted(image.topics)
    if kind in (BROKER_RESOURCE, BROKER_LOGGER_RESOURCE):
        return [str(broker.id) for broker in image.alive()]
    return []
