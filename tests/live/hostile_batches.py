"""Record batches that lie, pretend and explode, and requests that ask for the same a lot of times.

As in `hostile_frames.py`, whose table they add to.
"""

from __future__ import annotations

import functools
from collections import Counter
from typing import Final

from kcluster.wire.compression import Compression
from kcluster.wire.messages.fetch import FetchRequest, ReplicaState
from kcluster.wire.messages.list_offsets import (
    ListOffsetsPartition,
    ListOffsetsRequest,
    ListOffsetsTopic,
)
from kcluster.wire.messages.offset_for_leader_epoch import (
    OffsetForLeaderEpochRequest,
    OffsetForLeaderPartition,
    OffsetForLeaderTopic,
)
from kcluster.wire.records import (
    CONTROL,
    HEADER,
    HEADER_BYTES,
    LENGTH_OVERHEAD,
    TRANSACTIONAL,
    BatchBuilder,
    Record,
    build_batch,
    crc_of,
)
from tests.live.hostile_frames import (
    Answers,
    Target,
    answer_code,
    describe_configs,
    fetch_request,
    hostile,
    produce,
)

FIELDS: Final = (
    "base_offset", "length", "leader_epoch", "magic", "crc", "attributes", "last_offset_delta",
    "base_timestamp", "max_timestamp", "producer_id", "producer_epoch", "base_sequence",
    "record_count",
)  # fmt: skip
MAX_TIMESTAMP: Final = -3
PARTITIONS: Final = 14_500
RESOURCES: Final = 10_400
"""Of one thing in one request, that are few enough to be taken."""
TOO_MANY: Final = 50_000
SWARM: Final = 300_000


def batch(**lies: int) -> bytearray:
    """Two records, with header fields that say something else, under a CRC that holds."""
    made = build_batch([Record(b"v", b"k", timestamp=1), Record(b"w", b"l", timestamp=1)])
    header = dict(zip(FIELDS, HEADER.unpack_from(made), strict=True))
    header |= lies
    HEADER.pack_into(made, 0, *header.values())
    if "crc" not in lies:
        header["crc"] = crc_of(made, 0, len(made))
        HEADER.pack_into(made, 0, *header.values())
    return made


@hostile("a CRC that does not match", "CORRUPT_MESSAGE")
def wrong_crc(target: Target) -> Answers:
    flipped = batch()
    flipped[-1] ^= 1
    return Counter([produce(target, batch(crc=1)), produce(target, flipped)])


@hostile("batches whose length lies", "CORRUPT_MESSAGE", "INVALID_RECORD")
def wrong_lengths(target: Target) -> Answers:
    real = len(batch()) - LENGTH_OVERHEAD
    lies = (-1, 0, 48, 49, real - 1, real + 1, 2**31 - 1, -(2**31))
    return Counter(produce(target, batch(length=lie)) for lie in lies) + Counter(
        produce(target, whole) for whole in (b"", bytes(60), batch() + batch())
    )


@hostile("batches whose count or last offset delta lies", "INVALID_RECORD")
def wrong_counts(target: Target) -> Answers:
    lies: list[dict[str, int]] = [
        {"record_count": count, "last_offset_delta": delta}
        for count, delta in (
            (0, -1), (-1, -2), (2, 5), (2, 0), (1, 1), (2**31 - 1, 2**31 - 2), (2, 2**31 - 1),
            (2, -1), (100, 99),
        )
    ]  # fmt: skip
    return Counter(produce(target, batch(**lie)) for lie in lies)


@hostile("control batches, transactions that are none", "INVALID_RECORD", "INVALID_TXN_STATE")
def pretending(target: Target) -> Answers:
    return Counter(
        [
            produce(target, batch(attributes=CONTROL)),
            produce(target, batch(attributes=CONTROL | TRANSACTIONAL)),
            produce(target, batch(attributes=TRANSACTIONAL)),
            produce(target, batch(attributes=TRANSACTIONAL, producer_id=5, producer_epoch=0,
                                  base_sequence=0)),
        ]
    )  # fmt: skip


@hostile("magic 0, 1 and 77, codecs that are none", "CORRUPT_MESSAGE", "INVALID_RECORD",
         "UNSUPPORTED_COMPRESSION_TYPE")  # fmt: skip
def unknown_formats(target: Target) -> Answers:
    lies = [{"magic": magic} for magic in (0, 1, 77, -1)]
    lies += [{"attributes": codec} for codec in (5, 6, 7)]
    return Counter(produce(target, batch(**lie)) for lie in lies)


@hostile("producers that are none", "INVALID_RECORD", "OUT_OF_ORDER_SEQUENCE_NUMBER", "NONE")
def unknown_producers(target: Target) -> Answers:
    """Rule 5: of a producer id that is not known any first sequence is taken."""
    lies = [
        {"producer_id": -5},
        {"producer_id": 1, "producer_epoch": -1, "base_sequence": 0},
        {"producer_id": 1, "producer_epoch": 0, "base_sequence": -1},
        {"producer_id": 2**62, "producer_epoch": 32767, "base_sequence": 2**31 - 1},
    ]
    return Counter(produce(target, batch(**lie)) for lie in lies)


@hostile("a replica id from a client", "CLUSTER_AUTHORIZATION_FAILED")
def replica_ids(target: Target) -> Answers:
    old = fetch_request(target)
    new = fetch_request(target)
    offsets = [ListOffsetsPartition(timestamp=-1)]
    epochs = [OffsetForLeaderPartition(leader_epoch=0)]
    return Counter(
        [
            answer_code(target, _as_replica(old, 12), 12),
            answer_code(target, _as_replica(new, 16), 16),
            answer_code(target, ListOffsetsRequest(
                replica_id=2, topics=[ListOffsetsTopic(name=target.topic, partitions=offsets)]), 7),
            answer_code(target, OffsetForLeaderEpochRequest(
                replica_id=2,
                topics=[OffsetForLeaderTopic(topic=target.topic, partitions=epochs)]), 3),
        ]
    )  # fmt: skip


def _as_replica(request: FetchRequest, version: int) -> FetchRequest:
    if version >= 15:
        request.replica_state = ReplicaState(replica_id=2, replica_epoch=1)
    else:
        request.replica_id = 2
    return request


# --- bombs --------------------------------------------------------------------------------------


def bomb(codec: Compression, zeros: int) -> bytearray:
    """One record whose value is `zeros` bytes of nothing."""
    return build_batch([Record(bytes(zeros), b"k", timestamp=1)], compression=codec)


@functools.cache
def swarm(codec: Compression, count: int) -> bytearray:
    """As many records as can be, each of a few bytes and all alike but for their number."""
    builder = BatchBuilder()
    for _ in range(count):
        builder.append(1, b"", None)
    return builder.build(compression=codec)


@hostile("decompression bombs to a compacted topic", "INVALID_RECORD", "MESSAGE_TOO_LARGE")
def bombs(target: Target) -> Answers:
    """What a batch becomes is looked at where keys are: 64 MiB of zeros, a snappy block that says
    to be 2 GB."""
    made = [bomb(codec, 64 << 20) for codec in (Compression.GZIP, Compression.ZSTD)]
    lying = batch(attributes=Compression.SNAPPY)
    lying[HEADER_BYTES : HEADER_BYTES + 5] = b"\xff\xff\xff\xff\x07"
    HEADER.pack_into(lying, 0, *_resealed(lying))
    return Counter(produce(target, one, target.compacted) for one in (*made, lying))


def _resealed(made: bytearray) -> list[int]:
    header = list(HEADER.unpack_from(made))
    header[4] = crc_of(made, 0, len(made))
    return header


@hostile("300 000 records in a small batch, to a compacted topic", "INVALID_RECORD")
def swarms(target: Target) -> Answers:
    return Counter([produce(target, swarm(Compression.ZSTD, SWARM), target.compacted)])


@hostile("times looked up in bombs", "NONE", "answered")
def lookups(target: Target) -> Answers:
    """A plain topic takes a compressed batch unseen; a lookup by time looks into it."""
    answers = Counter(
        [
            produce(target, bomb(Compression.ZSTD, 64 << 20)),
            produce(target, swarm(Compression.ZSTD, SWARM)),
        ]
    )
    for timestamp in (0, 1, MAX_TIMESTAMP):
        wanted = ListOffsetsPartition(timestamp=timestamp)
        topic = ListOffsetsTopic(name=target.topic, partitions=[wanted])
        answers[answer_code(target, ListOffsetsRequest(replica_id=-1, topics=[topic]), 7)] += 1
    return answers


# --- the same again -----------------------------------------------------------------------------


@hostile("one partition asked for 14 500 times", "NONE", "answered", "INVALID_REQUEST")
def repeated(target: Target) -> Answers:
    wanted = [ListOffsetsPartition(timestamp=0)] * PARTITIONS
    topic = ListOffsetsTopic(name=target.topic, partitions=wanted)
    return Counter(
        [
            answer_code(target, fetch_request(target, max_wait_ms=0, repeat=PARTITIONS), 12),
            answer_code(target, ListOffsetsRequest(replica_id=-1, topics=[topic]), 7),
        ]
    )


@hostile("one topic's configs asked for 10 400 times", "answered", "INVALID_REQUEST")
def repeated_configs(target: Target) -> Answers:
    return Counter([answer_code(target, describe_configs(target, RESOURCES), 4)])


@hostile("one partition, or one topic's configs, asked for 50 000 times", "closed", "answered")
def repeated_too_often(target: Target) -> Answers:
    """Apache Kafka answers."""
    return Counter(
        [
            answer_code(target, fetch_request(target, max_wait_ms=0, repeat=TOO_MANY), 12),
            answer_code(target, describe_configs(target, TOO_MANY), 4),
        ]
    )
