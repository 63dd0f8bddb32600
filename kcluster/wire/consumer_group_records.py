"""The records of groups of the consumer protocol in `__consumer_offsets`, in Kafka's own formats.

    3  ConsumerGroupMetadata                    the group's epoch
    4  ConsumerGroupPartitionMetadata           of Kafka before 4.1; read, not written
    5  ConsumerGroupMemberMetadata              what a member says of itself
    6  ConsumerGroupTargetAssignmentMetadata    the epoch of the target assignment
    7  ConsumerGroupTargetAssignmentMember      what a member is to have
    8  ConsumerGroupCurrentMemberAssignment     its epoch and state, what it has and must give up
    16 ConsumerGroupRegularExpression           the topics that a pattern was found to match

Each has a key of the group's id, and the member's or the pattern; a null value ends it.

Sources: KIP-848, KIP-1101 (metadata hash), KIP-1251 (assignment epochs), KIP-1263.
"""

from __future__ import annotations

from typing import Annotated, ClassVar, Final

from kcluster.wire.plan import Message, Struct
from kcluster.wire.types import ZERO_UUID, Bytes, Int8, Int32, Int64, String, Uuid, versions


class ConsumerGroupMetadataKey(Message):
    KEY: ClassVar[int] = 3
    VERSIONS: ClassVar[str] = "0"
    FLEXIBLE: ClassVar[str] = "none"

    group_id: Annotated[String, versions("0")] = ""


class ConsumerGroupMetadataValue(Message):
    KEY: ClassVar[int] = 3
    VERSIONS: ClassVar[str] = "0"
    FLEXIBLE: ClassVar[str] = "0+"

    epoch: Annotated[Int32, versions("0+")] = 0
    metadata_hash: Annotated[Int64, versions("0+", tag=0, tagged="0+")] = 0


class ConsumerGroupPartitionMetadataKey(Message):
    KEY: ClassVar[int] = 4
    VERSIONS: ClassVar[str] = "0"
    FLEXIBLE: ClassVar[str] = "none"

    group_id: Annotated[String, versions("0")] = ""


class PartitionMetadata(Struct):
    partition: Annotated[Int32, versions("0+")] = 0
    racks: Annotated[list[String], versions("0+")] = []


class TopicMetadata(Struct):
    topic_id: Annotated[Uuid, versions("0+")] = ZERO_UUID
    topic_name: Annotated[String, versions("0+")] = ""
    num_partitions: Annotated[Int32, versions("0+")] = 0
    partition_metadata: Annotated[list[PartitionMetadata], versions("0+")] = []


class ConsumerGroupPartitionMetadataValue(Message):
    KEY: ClassVar[int] = 4
    VERSIONS: ClassVar[str] = "0"
    FLEXIBLE: ClassVar[str] = "0+"

    topics: Annotated[list[TopicMetadata], versions("0+")] = []


class ConsumerGroupMemberMetadataKey(Message):
    KEY: ClassVar[int] = 5
    VERSIONS: ClassVar[str] = "0"
    FLEXIBLE: ClassVar[str] = "none"

    group_id: Annotated[String, versions("0")] = ""
    member_id: Annotated[String, versions("0")] = ""


class ClassicProtocol(Struct):
    name: Annotated[String, versions("0+")] = ""
    metadata: Annotated[Bytes, versions("0+")] = b""


class ClassicMemberMetadata(Struct):
    session_timeout_ms: Annotated[Int32, versions("0+")] = 0
    supported_protocols: Annotated[list[ClassicProtocol], versions("0+")] = []


class ConsumerGroupMemberMetadataValue(Message):
    KEY: ClassVar[int] = 5
    VERSIONS: ClassVar[str] = "0"
    FLEXIBLE: ClassVar[str] = "0+"

    instance_id: Annotated[String | None, versions("0+", nullable="0+")] = ""
    rack_id: Annotated[String | None, versions("0+", nullable="0+")] = ""
    client_id: Annotated[String, versions("0+")] = ""
    client_host: Annotated[String, versions("0+")] = ""
    subscribed_topic_names: Annotated[list[String], versions("0+")] = []
    subscribed_topic_regex: Annotated[String | None, versions("0+", nullable="0+")] = ""
    rebalance_timeout_ms: Annotated[Int32, versions("0+")] = -1
    server_assignor: Annotated[String | None, versions("0+", nullable="0+")] = ""
    classic_member_metadata: Annotated[
        ClassicMemberMetadata | None, versions("0+", nullable="0+", tag=0, tagged="0+")
    ] = None
    """Of a member that speaks the classic protocol."""


class ConsumerGroupTargetAssignmentMetadataKey(Message):
    KEY: ClassVar[int] = 6
    VERSIONS: ClassVar[str] = "0"
    FLEXIBLE: ClassVar[str] = "none"

    group_id: Annotated[String, versions("0")] = ""


class ConsumerGroupTargetAssignmentMetadataValue(Message):
    KEY: ClassVar[int] = 6
    VERSIONS: ClassVar[str] = "0"
    FLEXIBLE: ClassVar[str] = "0+"

    assignment_epoch: Annotated[Int32, versions("0+")] = 0
    assignment_timestamp: Annotated[Int64, versions("0+", tag=0, tagged="0+")] = 0
    """Wall ms."""


class ConsumerGroupTargetAssignmentMemberKey(Message):
    KEY: ClassVar[int] = 7
    VERSIONS: ClassVar[str] = "0"
    FLEXIBLE: ClassVar[str] = "none"

    group_id: Annotated[String, versions("0")] = ""
    member_id: Annotated[String, versions("0")] = ""


class TopicPartition(Struct):
    topic_id: Annotated[Uuid, versions("0+")] = ZERO_UUID
    partitions: Annotated[list[Int32], versions("0+")] = []


class ConsumerGroupTargetAssignmentMemberValue(Message):
    KEY: ClassVar[int] = 7
    VERSIONS: ClassVar[str] = "0"
    FLEXIBLE: ClassVar[str] = "0+"

    topic_partitions: Annotated[list[TopicPartition], versions("0+")] = []


class ConsumerGroupCurrentMemberAssignmentKey(Message):
    KEY: ClassVar[int] = 8
    VERSIONS: ClassVar[str] = "0"
    FLEXIBLE: ClassVar[str] = "none"

    group_id: Annotated[String, versions("0")] = ""
    member_id: Annotated[String, versions("0")] = ""


class TopicPartitions(Struct):
    topic_id: Annotated[Uuid, versions("0+")] = ZERO_UUID
    partitions: Annotated[list[Int32], versions("0+")] = []
    assignment_epochs: Annotated[
        list[Int32] | None, versions("0+", nullable="0+", tag=0, tagged="0+")
    ] = None
    """As long as `partitions`: the member epoch with which each of them came."""


class ConsumerGroupCurrentMemberAssignmentValue(Message):
    KEY: ClassVar[int] = 8
    VERSIONS: ClassVar[str] = "0"
    FLEXIBLE: ClassVar[str] = "0+"

    member_epoch: Annotated[Int32, versions("0+")] = 0
    previous_member_epoch: Annotated[Int32, versions("0+")] = 0
    state: Annotated[Int8, versions("0+")] = 0
    assigned_partitions: Annotated[list[TopicPartitions], versions("0+")] = []
    partitions_pending_revocation: Annotated[list[TopicPartitions], versions("0+")] = []


class ConsumerGroupRegularExpressionKey(Message):
    KEY: ClassVar[int] = 16
    VERSIONS: ClassVar[str] = "0"
    FLEXIBLE: ClassVar[str] = "none"

    group_id: Annotated[String, versions("0")] = ""
    regular_expression: Annotated[String, versions("0")] = ""


class ConsumerGroupRegularExpressionValue(Message):
    KEY: ClassVar[int] = 16
    VERSIONS: ClassVar[str] = "0"
    FLEXIBLE: ClassVar[str] = "0+"

    topics: Annotated[list[String], versions("0+")] = []
    version: Annotated[Int64, versions("0+")] = 0
    """Of the metadata that the pattern was held against."""
    timestamp: Annotated[Int64, versions("0+")] = 0
    """Wall ms."""


Key = (
    ConsumerGroupMetadataKey
    | ConsumerGroupPartitionMetadataKey
    | ConsumerGroupMemberMetadataKey
    | ConsumerGroupTargetAssignmentMetadataKey
    | ConsumerGroupTargetAssignmentMemberKey
    | ConsumerGroupCurrentMemberAssignmentKey
    | ConsumerGroupRegularExpressionKey
)
Value = (
    ConsumerGroupMetadataValue
    | ConsumerGroupPartitionMetadataValue
    | ConsumerGroupMemberMetadataValue
    | ConsumerGroupTargetAssignmentMetadataValue
    | ConsumerGroupTargetAssignmentMemberValue
    | ConsumerGroupCurrentMemberAssignmentValue
    | ConsumerGroupRegularExpressionValue
)

KINDS: Final[tuple[tuple[type[Key], type[Value]], ...]] = (
    (ConsumerGroupMetadataKey, ConsumerGroupMetadataValue),
    (ConsumerGroupPartitionMetadataKey, ConsumerGroupPartitionMetadataValue),
    (ConsumerGroupMemberMetadataKey, ConsumerGroupMemberMetadataValue),
    (ConsumerGroupTargetAssignmentMetadataKey, ConsumerGroupTargetAssignmentMetadataValue),
    (ConsumerGroupTargetAssignmentMemberKey, ConsumerGroupTargetAssignmentMemberValue),
    (ConsumerGroupCurrentMemberAssignmentKey, ConsumerGroupCurrentMemberAssignmentValue),
    (ConsumerGroupRegularExpressionKey, ConsumerGroupRegularExpressionValue),
)
"""Each kind of record: its key, its value."""
