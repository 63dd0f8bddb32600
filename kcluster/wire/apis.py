"""The table of APIs: what a broker serves and advertises, what it does not and why.

Only what is in `APIS` is served, and only that is advertised: clients call what they see. The
classes of an API's messages are imported when the first of its requests comes, so that a
broker pays at start only for what its clients use; a test holds every line of the table against
them.

Source: Apache Kafka 4.3.1's message definitions; KAFKA-18659 for Produce.
"""

from __future__ import annotations

import functools
import importlib
import re
from typing import Any, Final

import msgspec

from kcluster.wire.plan import Message
from kcluster.wire.types import HIGHEST, VersionRange, version_range

PRODUCE: Final = 0
FETCH: Final = 1
LIST_OFFSETS: Final = 2
METADATA: Final = 3
OFFSET_COMMIT: Final = 8
OFFSET_FETCH: Final = 9
FIND_COORDINATOR: Final = 10
JOIN_GROUP: Final = 11
HEARTBEAT: Final = 12
LEAVE_GROUP: Final = 13
SYNC_GROUP: Final = 14
API_VERSIONS: Final = 18
CREATE_TOPICS: Final = 19
DELETE_TOPICS: Final = 20
DELETE_RECORDS: Final = 21
INIT_PRODUCER_ID: Final = 22
OFFSET_FOR_LEADER_EPOCH: Final = 23
DESCRIBE_CONFIGS: Final = 32
ALTER_CONFIGS: Final = 33
CREATE_PARTITIONS: Final = 37
ELECT_LEADERS: Final = 43
INCREMENTAL_ALTER_CONFIGS: Final = 44
ALTER_PARTITION_REASSIGNMENTS: Final = 45
LIST_PARTITION_REASSIGNMENTS: Final = 46
ALTER_CLIENT_QUOTAS: Final = 49
DESCRIBE_QUORUM: Final = 55
UPDATE_FEATURES: Final = 57
DESCRIBE_CLUSTER: Final = 60
UNREGISTER_BROKER: Final = 64
DESCRIBE_TOPIC_PARTITIONS: Final = 75


class Api(msgspec.Struct, frozen=True):
    key: int
    name: str
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

    @property
    def request(self) -> type[Message]:
        return _message_class(self.name, "Request")

    @property
    def response(self) -> type[Message]:
        return _message_class(self.name, "Response")


@functools.cache
def _message_class(name: str, suffix: str) -> type[Message]:
    file = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name).lower()
    module = importlib.import_module(f"kcluster.wire.messages.{file}")
    found: type[Message] = getattr(module, name + suffix)
    return found


def _api(key: int, name: str, served: str, flexible_from: int | None, advertised: str = "") -> Api:
    return Api(
        key,
        name,
        version_range(served),
        version_range(advertised or served),
        HIGHEST + 1 if flexible_from is None else flexible_from,
    )


APIS: Final[dict[int, Api]] = {
    api.key: api
    for api in (
        # KAFKA-18659: with 3-13, librdkafka before 2.8 silently drops compression.
        _api(0, "Produce", "3-13", 9, advertised="0-13"),
        _api(1, "Fetch", "4-18", 12),
        _api(2, "ListOffsets", "1-11", 6),
        _api(3, "Metadata", "0-13", 9),
        _api(8, "OffsetCommit", "2-10", 8),
        _api(9, "OffsetFetch", "1-10", 6),
        _api(10, "FindCoordinator", "0-6", 3),
        _api(11, "JoinGroup", "0-9", 6),
        _api(12, "Heartbeat", "0-4", 4),
        _api(13, "LeaveGroup", "0-5", 4),
        _api(14, "SyncGroup", "0-5", 4),
        _api(15, "DescribeGroups", "0-6", 5),
        _api(16, "ListGroups", "0-5", 3),
        _api(18, "ApiVersions", "0-4", 3),
        _api(19, "CreateTopics", "2-7", 5),
        _api(20, "DeleteTopics", "1-6", 4),
        _api(21, "DeleteRecords", "0-2", 2),
        _api(22, "InitProducerId", "0-5", 2),
        _api(23, "OffsetForLeaderEpoch", "2-4", 4),
        _api(29, "DescribeAcls", "1-3", 2),
        _api(30, "CreateAcls", "1-3", 2),
        _api(31, "DeleteAcls", "1-3", 2),
        _api(32, "DescribeConfigs", "1-4", 4),
        _api(33, "AlterConfigs", "0-2", 2),
        _api(35, "DescribeLogDirs", "1-5", 2),
        _api(37, "CreatePartitions", "0-3", 2),
        _api(42, "DeleteGroups", "0-2", 2),
        _api(43, "ElectLeaders", "0-2", 2),
        _api(44, "IncrementalAlterConfigs", "0-1", 1),
        _api(45, "AlterPartitionReassignments", "0-1", 0),
        _api(46, "ListPartitionReassignments", "0", 0),
        _api(47, "OffsetDelete", "0", None),
        _api(48, "DescribeClientQuotas", "0-1", 1),
        _api(49, "AlterClientQuotas", "0-1", 1),
        _api(55, "DescribeQuorum", "0-2", 0),
        _api(57, "UpdateFeatures", "0-2", 0),
        _api(60, "DescribeCluster", "0-2", 0),
        _api(61, "DescribeProducers", "0", 0),
        _api(64, "UnregisterBroker", "0", 0),
        _api(68, "ConsumerGroupHeartbeat", "0-1", 0),
        _api(69, "ConsumerGroupDescribe", "0-1", 0),
        _api(74, "ListConfigResources", "0-1", 0),
        _api(75, "DescribeTopicPartitions", "0", 0),
    )
}
"""By key."""


def api_of(message: Any) -> Api:
    """Of a request or a response."""
    return APIS[message.KEY]
