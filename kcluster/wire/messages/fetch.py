"""Fetch (1): read record batches, waiting a while for enough of them.

Versions 4-18, flexible from 12.

The response's `records` may be spans of files; nothing to read is b"", as Kafka's brokers have
it, not null. The first partition with data gives at least one batch even when it is larger
than the limits (KIP-74), so that a client never starves.

  5   log_start_offset
  7   incremental sessions (KIP-227); a broker may always answer with session id 0
  9   current_leader_epoch fences clients with old metadata (KIP-320)
  11  rack_id and preferred_read_replica (KIP-392)
  12  last_fetched_epoch and diverging_epoch: truncation without a request of its own (KIP-595)
  13  topics by id instead of name (KIP-516)
  15  replica_id moved into replica_state, which carries the broker epoch too (KIP-903)
  16  node_endpoints (KIP-951)
  17  replica_directory_id (KIP-853)
  18  high_watermark of the follower (KIP-1166)

Sources: KIP-74, KIP-227, KIP-320, KIP-392, KIP-516, KIP-595, KIP-903, KIP-951.
"""

from __future__ import annotations

from typing import Annotated, ClassVar

import msgspec

from kcluster.wire.plan import Message, Struct
from kcluster.wire.types import (
    ZERO_UUID,
    Int8,
    Int16,
    Int32,
    Int64,
    Records,
    String,
    Uuid,
    versions,
)


class ReplicaState(Struct):
    replica_id: Annotated[Int32, versions("15+")] = -1
    replica_epoch: Annotated[Int64, versions("15+")] = -1


class FetchPartition(Struct):
    partition: Annotated[Int32, versions("0+")] = 0
    current_leader_epoch: Annotated[Int32, versions("9+")] = -1
    fetch_offset: Annotated[Int64, versions("0+")] = 0
    """First offset wanted."""
    last_fetched_epoch: Annotated[Int32, versions("12+")] = -1
    log_start_offset: Annotated[Int64, versions("5+")] = -1
    partition_max_bytes: Annotated[Int32, versions("0+")] = 0
    replica_directory_id: Annotated[Uuid, versions("17+", tag=0, tagged="17+")] = ZERO_UUID
    high_watermark: Annotated[Int64, versions("18+", tag=1, tagged="18+")] = 2**63 - 1


class FetchTopic(Struct):
    topic: Annotated[String, versions("0-12")] = ""
    topic_id: Annotated[Uuid, versions("13+")] = ZERO_UUID
    partitions: Annotated[list[FetchPartition], versions("0+")] = []


class ForgottenTopic(Struct):
    topic: Annotated[String, versions("7-12")] = ""
    topic_id: Annotated[Uuid, versions("13+")] = ZERO_UUID
    partitions: Annotated[list[Int32], versions("7+")] = []


class FetchRequest(Message):
    KEY: ClassVar[int] = 1
    VERSIONS: ClassVar[str] = "4-18"
    FLEXIBLE: ClassVar[str] = "12+"

    cluster_id: Annotated[String | None, versions("12+", nullable="12+", tag=0, tagged="12+")] = (
        None
    )
    replica_id: Annotated[Int32, versions("0-14")] = -1
    """-1 for a consumer; anything else is a broker, and refused on our client listener."""
    replica_state: Annotated[ReplicaState, versions("15+", tag=1, tagged="15+")] = msgspec.field(
        default_factory=ReplicaState
    )
    max_wait_ms: Annotated[Int32, versions("0+")] = 0
    min_bytes: Annotated[Int32, versions("0+")] = 0
    max_bytes: Annotated[Int32, versions("3+")] = 2**31 - 1
    isolation_level: Annotated[Int8, versions("4+")] = 0
    """0 read_uncommitted, 1 read_committed."""
    session_id: Annotated[Int32, versions("7+")] = 0
    session_epoch: Annotated[Int32, versions("7+")] = -1
    topics: Annotated[list[FetchTopic], versions("0+")] = []
    forgotten_topics_data: Annotated[list[ForgottenTopic], versions("7+")] = []
    rack_id: Annotated[String, versions("11+")] = ""


class EpochEndOffset(Struct):
    epoch: Annotated[Int32, versions("12+")] = -1
    end_offset: Annotated[Int64, versions("12+")] = -1


class LeaderIdAndEpoch(Struct):
    leader_id: Annotated[Int32, versions("12+")] = -1
    leader_epoch: Annotated[Int32, versions("12+")] = -1


class SnapshotId(Struct):
    end_offset: Annotated[Int64, versions("0+")] = -1
    epoch: Annotated[Int32, versions("0+")] = -1


class AbortedTransaction(Struct):
    producer_id: Annotated[Int64, versions("4+")] = 0
    first_offset: Annotated[Int64, versions("4+")] = 0


class PartitionData(Struct):
    partition_index: Annotated[Int32, versions("0+")] = 0
    error_code: Annotated[Int16, versions("0+")] = 0
    high_watermark: Annotated[Int64, versions("0+")] = 0
    """Exclusive end of what may be read; -1 with an error."""
    last_stable_offset: Annotated[Int64, versions("4+")] = -1
    """Exclusive end of what read_committed may read."""
    log_start_offset: Annotated[Int64, versions("5+")] = -1
    diverging_epoch: Annotated[EpochEndOffset, versions("12+", tag=0, tagged="12+")] = (
        msgspec.field(default_factory=EpochEndOffset)
    )
    current_leader: Annotated[LeaderIdAndEpoch, versions("12+", tag=1, tagged="12+")] = (
        msgspec.field(default_factory=LeaderIdAndEpoch)
    )
    snapshot_id: Annotated[SnapshotId, versions("12+", tag=2, tagged="12+")] = msgspec.field(
        default_factory=SnapshotId
    )
    aborted_transactions: Annotated[
        list[AbortedTransaction] | None, versions("4+", nullable="4+")
    ] = []
    """null for read_uncommitted."""
    preferred_read_replica: Annotated[Int32, versions("11+")] = -1
    records: Annotated[Records, versions("0+", nullable="0+")] = None


class FetchableTopicResponse(Struct):
    topic: Annotated[String, versions("0-12")] = ""
    topic_id: Annotated[Uuid, versions("13+")] = ZERO_UUID
    partitions: Annotated[list[PartitionData], versions("0+")] = []


class NodeEndpoint(Struct):
    node_id: Annotated[Int32, versions("16+")] = 0
    host: Annotated[String, versions("16+")] = ""
    port: Annotated[Int32, versions("16+")] = 0
    rack: Annotated[String | None, versions("16+", nullable="16+")] = None


class FetchResponse(Message):
    KEY: ClassVar[int] = 1
    VERSIONS: ClassVar[str] = "4-18"
    FLEXIBLE: ClassVar[str] = "12+"

    throttle_time_ms: Annotated[Int32, versions("1+")] = 0
    error_code: Annotated[Int16, versions("7+")] = 0
    session_id: Annotated[Int32, versions("7+")] = 0
    responses: Annotated[list[FetchableTopicResponse], versions("0+")] = []
    node_endpoints: Annotated[list[NodeEndpoint], versions("16+", tag=0, tagged="16+")] = []
