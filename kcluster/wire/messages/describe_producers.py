"""DescribeProducers (61): idempotent and transactional producers that a partition knows.

Version 0, flexible from 0.

Source: KIP-664.
"""

from __future__ import annotations

from typing import Annotated, ClassVar

from kcluster.wire.plan import Message, Struct
from kcluster.wire.types import Int16, Int32, Int64, String, versions


class TopicRequest(Struct):
    name: Annotated[String, versions("0+")] = ""
    partition_indexes: Annotated[list[Int32], versions("0+")] = []


class DescribeProducersRequest(Message):
    KEY: ClassVar[int] = 61
    VERSIONS: ClassVar[str] = "0"
    FLEXIBLE: ClassVar[str] = "0+"

    topics: Annotated[list[TopicRequest], versions("0+")] = []


class ProducerState(Struct):
    producer_id: Annotated[Int64, versions("0+")] = 0
    producer_epoch: Annotated[Int32, versions("0+")] = 0
    last_sequence: Annotated[Int32, versions("0+")] = -1
    last_timestamp: Annotated[Int64, versions("0+")] = -1
    coordinator_epoch: Annotated[Int32, versions("0+")] = 0
    current_txn_start_offset: Annotated[Int64, versions("0+")] = -1


class PartitionResponse(Struct):
    partition_index: Annotated[Int32, versions("0+")] = 0
    error_code: Annotated[Int16, versions("0+")] = 0
    error_message: Annotated[String | None, versions("0+", nullable="0+")] = None
    active_producers: Annotated[list[ProducerState], versions("0+")] = []


class TopicResponse(Struct):
    name: Annotated[String, versions("0+")] = ""
    partitions: Annotated[list[PartitionResponse], versions("0+")] = []


class DescribeProducersResponse(Message):
    KEY: ClassVar[int] = 61
    VERSIONS: ClassVar[str] = "0"
    FLEXIBLE: ClassVar[str] = "0+"

    throttle_time_ms: Annotated[Int32, versions("0+")] = 0
    topics: Annotated[list[TopicResponse], versions("0+")] = []
