"""Produce (0): append record batches to partitions, and hear where they went.

Versions 3-13, flexible from 9; advertised as 0-13, because librdkafka before 2.8 stops
compressing when it does not see the old ones (KAFKA-18659).

Each partition brings exactly one batch of magic 2. `acks` 0 gets no response at all, not even
for an error. The records of a decoded request are views of its frame.

  5   log_start_offset in the response
  7   zstd is allowed (KIP-110)
  8   record_errors and error_message name the record that was refused (KIP-467)
  10  current_leader and node_endpoints let a client move on at once (KIP-951)
  11  no change of layout; a transactional producer of v11 adds partitions itself (KIP-890)
  12  the broker may add partitions to the transaction on the way (KIP-890)
  13  topics by id instead of name (KIP-516)

Sources: KIP-98, KIP-467, KIP-890, KIP-951.
"""

from __future__ import annotations

from typing import Annotated, ClassVar

import msgspec

from kcluster.wire.plan import Message, Struct
from kcluster.wire.types import ZERO_UUID, Int16, Int32, Int64, Records, String, Uuid, versions


class PartitionProduceData(Struct):
    index: Annotated[Int32, versions("0+")] = 0
    records: Annotated[Records, versions("0+", nullable="0+")] = None


class TopicProduceData(Struct):
    name: Annotated[String, versions("0-12")] = ""
    topic_id: Annotated[Uuid, versions("13+")] = ZERO_UUID
    partition_data: Annotated[list[PartitionProduceData], versions("0+")] = []


class ProduceRequest(Message):
    KEY: ClassVar[int] = 0
    VERSIONS: ClassVar[str] = "3-13"
    FLEXIBLE: ClassVar[str] = "9+"

    transactional_id: Annotated[String | None, versions("3+", nullable="3+")] = None
    acks: Annotated[Int16, versions("0+")] = 0
    """0: none, and no response; 1: the leader; -1: all of the ISR."""
    timeout_ms: Annotated[Int32, versions("0+")] = 0
    """How long to wait for the ISR."""
    topic_data: Annotated[list[TopicProduceData], versions("0+")] = []


class BatchIndexAndErrorMessage(Struct):
    batch_index: Annotated[Int32, versions("8+")] = 0
    """Of the record within its batch."""
    batch_index_error_message: Annotated[String | None, versions("8+", nullable="8+")] = None


class LeaderIdAndEpoch(Struct):
    leader_id: Annotated[Int32, versions("10+")] = -1
    leader_epoch: Annotated[Int32, versions("10+")] = -1


class PartitionProduceResponse(Struct):
    index: Annotated[Int32, versions("0+")] = 0
    error_code: Annotated[Int16, versions("0+")] = 0
    base_offset: Annotated[Int64, versions("0+")] = 0
    """Of the first record of the batch; -1 when it was refused."""
    log_append_time_ms: Annotated[Int64, versions("2+")] = -1
    """-1 unless the topic stamps records with LogAppendTime."""
    log_start_offset: Annotated[Int64, versions("5+")] = -1
    record_errors: Annotated[list[BatchIndexAndErrorMessage], versions("8+")] = []
    error_message: Annotated[String | None, versions("8+", nullable="8+")] = None
    current_leader: Annotated[LeaderIdAndEpoch, versions("10+", tag=0, tagged="10+")] = (
        msgspec.field(default_factory=LeaderIdAndEpoch)
    )


class TopicProduceResponse(Struct):
    name: Annotated[String, versions("0-12")] = ""
    topic_id: Annotated[Uuid, versions("13+")] = ZERO_UUID
    partition_responses: Annotated[list[PartitionProduceResponse], versions("0+")] = []


class NodeEndpoint(Struct):
    node_id: Annotated[Int32, versions("10+")] = 0
    host: Annotated[String, versions("10+")] = ""
    port: Annotated[Int32, versions("10+")] = 0
    rack: Annotated[String | None, versions("10+", nullable="10+")] = None


class ProduceResponse(Message):
    KEY: ClassVar[int] = 0
    VERSIONS: ClassVar[str] = "3-13"
    FLEXIBLE: ClassVar[str] = "9+"

    responses: Annotated[list[TopicProduceResponse], versions("0+")] = []
    throttle_time_ms: Annotated[Int32, versions("1+")] = 0
    node_endpoints: Annotated[list[NodeEndpoint], versions("10+", tag=0, tagged="10+")] = []
    """Where the leaders named in current_leader listen."""
