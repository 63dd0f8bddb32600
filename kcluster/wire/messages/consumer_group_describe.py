"""ConsumerGroupDescribe (69): state, epochs and members of groups of the consumer protocol.

Versions 0-1, flexible from 0.

  1   member_type (KIP-1099)

Sources: KIP-848, KIP-1099.
"""

from __future__ import annotations

from typing import Annotated, ClassVar

import msgspec

from kcluster.wire.plan import Message, Struct
from kcluster.wire.types import ZERO_UUID, Bool, Int8, Int16, Int32, String, Uuid, versions


class ConsumerGroupDescribeRequest(Message):
    KEY: ClassVar[int] = 69
    VERSIONS: ClassVar[str] = "0-1"
    FLEXIBLE: ClassVar[str] = "0+"

    group_ids: Annotated[list[String], versions("0+")] = []
    include_authorized_operations: Annotated[Bool, versions("0+")] = False


class TopicPartitions(Struct):
    topic_id: Annotated[Uuid, versions("0+")] = ZERO_UUID
    topic_name: Annotated[String, versions("0+")] = ""
    partitions: Annotated[list[Int32], versions("0+")] = []


class Assignment(Struct):
    topic_partitions: Annotated[list[TopicPartitions], versions("0+")] = []


class Member(Struct):
    member_id: Annotated[String, versions("0+")] = ""
    instance_id: Annotated[String | None, versions("0+", nullable="0+")] = None
    rack_id: Annotated[String | None, versions("0+", nullable="0+")] = None
    member_epoch: Annotated[Int32, versions("0+")] = 0
    client_id: Annotated[String, versions("0+")] = ""
    client_host: Annotated[String, versions("0+")] = ""
    subscribed_topic_names: Annotated[list[String], versions("0+")] = []
    subscribed_topic_regex: Annotated[String | None, versions("0+", nullable="0+")] = None
    assignment: Annotated[Assignment, versions("0+")] = msgspec.field(default_factory=Assignment)
    target_assignment: Annotated[Assignment, versions("0+")] = msgspec.field(
        default_factory=Assignment
    )
    member_type: Annotated[Int8, versions("1+")] = -1
    """0 for one of the classic protocol, 1 for one of the consumer protocol."""


class DescribedGroup(Struct):
    error_code: Annotated[Int16, versions("0+")] = 0
    error_message: Annotated[String | None, versions("0+", nullable="0+")] = None
    group_id: Annotated[String, versions("0+")] = ""
    group_state: Annotated[String, versions("0+")] = ""
    group_epoch: Annotated[Int32, versions("0+")] = 0
    assignment_epoch: Annotated[Int32, versions("0+")] = 0
    assignor_name: Annotated[String, versions("0+")] = ""
    members: Annotated[list[Member], versions("0+")] = []
    authorized_operations: Annotated[Int32, versions("0+")] = -2147483648


class ConsumerGroupDescribeResponse(Message):
    KEY: ClassVar[int] = 69
    VERSIONS: ClassVar[str] = "0-1"
    FLEXIBLE: ClassVar[str] = "0+"

    throttle_time_ms: Annotated[Int32, versions("0+")] = 0
    groups: Annotated[list[DescribedGroup], versions("0+")] = []
