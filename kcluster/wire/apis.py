"""The table of APIs: what a broker serves and advertises, and how its headers look.

Only what is in this table is served, and only that is advertised: clients call what they see.

Source: Apache Kafka 4.3.1's message definitions; KAFKA-18659 for Produce.
"""

from __future__ import annotations

from typing import Final

import msgspec

from kcluster.wire.message import Message
from kcluster.wire.messages.alter_configs import AlterConfigsRequest, AlterConfigsResponse
from kcluster.wire.messages.api_versions import ApiVersionsRequest, ApiVersionsResponse
from kcluster.wire.messages.create_partitions import (
    CreatePartitionsRequest,
    CreatePartitionsResponse,
)
from kcluster.wire.messages.create_topics import CreateTopicsRequest, CreateTopicsResponse
from kcluster.wire.messages.delete_topics import DeleteTopicsRequest, DeleteTopicsResponse
from kcluster.wire.messages.describe_cluster import (
    DescribeClusterRequest,
    DescribeClusterResponse,
)
from kcluster.wire.messages.describe_configs import (
    DescribeConfigsRequest,
    DescribeConfigsResponse,
)
from kcluster.wire.messages.describe_topic_partitions import (
    DescribeTopicPartitionsRequest,
    DescribeTopicPartitionsResponse,
)
from kcluster.wire.messages.fetch import FetchRequest, FetchResponse
from kcluster.wire.messages.find_coordinator import (
    FindCoordinatorRequest,
    FindCoordinatorResponse,
)
from kcluster.wire.messages.incremental_alter_configs import (
    IncrementalAlterConfigsRequest,
    IncrementalAlterConfigsResponse,
)
from kcluster.wire.messages.init_producer_id import (
    InitProducerIdRequest,
    InitProducerIdResponse,
)
from kcluster.wire.messages.list_offsets import ListOffsetsRequest, ListOffsetsResponse
from kcluster.wire.messages.metadata import MetadataRequest, MetadataResponse
from kcluster.wire.messages.offset_for_leader_epoch import (
    OffsetForLeaderEpochRequest,
    OffsetForLeaderEpochResponse,
)
from kcluster.wire.messages.produce import ProduceRequest, ProduceResponse
from kcluster.wire.plan import flexible_versions, valid_versions
from kcluster.wire.types import VersionRange

PRODUCE: Final = 0
FETCH: Final = 1
LIST_OFFSETS: Final = 2
METADATA: Final = 3
FIND_COORDINATOR: Final = 10
API_VERSIONS: Final = 18
CREATE_TOPICS: Final = 19
DELETE_TOPICS: Final = 20
INIT_PRODUCER_ID: Final = 22
OFFSET_FOR_LEADER_EPOCH: Final = 23
DESCRIBE_CONFIGS: Final = 32
ALTER_CONFIGS: Final = 33
CREATE_PARTITIONS: Final = 37
INCREMENTAL_ALTER_CONFIGS: Final = 44
DESCRIBE_CLUSTER: Final = 60
DESCRIBE_TOPIC_PARTITIONS: Final = 75


class Api(msgspec.Struct, frozen=True):
    key: int
    name: str
    request: type[Message]
    response: type[Message]
    versions: VersionRange
    """Served."""
    advertised: VersionRange
    """What ApiVersions says; differs where clients need it to."""
    flexible_from: int
    """Lowest version with compact lengths and tagged fields."""

    def serves(self, version: int) -> bool:
        return self.versions.low <= version <= self.versions.high

    def is_flexible(self, version: int) -> bool:
        return version >= self.flexible_from

    def has_flexible_response_header(self, version: int) -> bool:
        """ApiVersions keeps the oldest header: a client reads its response before it knows
        what the broker speaks (KIP-511)."""
        return version >= self.flexible_from and self.key != API_VERSIONS


def _api(
    request: type[Message],
    response: type[Message],
    *,
    served: tuple[int, int] | None = None,
    advertised: tuple[int, int] | None = None,
) -> Api:
    assert request.KEY == response.KEY
    name = request.__name__.removesuffix("Request")
    versions = VersionRange(*served) if served else valid_versions(request)
    return Api(
        request.KEY,
        name,
        request,
        response,
        versions,
        VersionRange(*advertised) if advertised else versions,
        flexible_versions(request).low,
    )


APIS: Final[dict[int, Api]] = {
    api.key: api
    for api in (
        _api(ProduceRequest, ProduceResponse, advertised=(0, 13)),
        _api(FetchRequest, FetchResponse),
        _api(ListOffsetsRequest, ListOffsetsResponse),
        _api(MetadataRequest, MetadataResponse),
        _api(FindCoordinatorRequest, FindCoordinatorResponse),
        _api(ApiVersionsRequest, ApiVersionsResponse),
        _api(CreateTopicsRequest, CreateTopicsResponse),
        _api(DeleteTopicsRequest, DeleteTopicsResponse),
        _api(InitProducerIdRequest, InitProducerIdResponse, served=(0, 5)),
        _api(OffsetForLeaderEpochRequest, OffsetForLeaderEpochResponse),
        _api(DescribeConfigsRequest, DescribeConfigsResponse),
        _api(AlterConfigsRequest, AlterConfigsResponse),
        _api(CreatePartitionsRequest, CreatePartitionsResponse),
        _api(IncrementalAlterConfigsRequest, IncrementalAlterConfigsResponse),
        _api(DescribeClusterRequest, DescribeClusterResponse),
        _api(DescribeTopicPartitionsRequest, DescribeTopicPartitionsResponse),
    )
}
"""By key."""

BY_REQUEST: Final[dict[type[Message], Api]] = {api.request: api for api in APIS.values()}
