"""The plain values that every room shares: ids, epochs, partitions.

Offsets, epochs and sizes are plain ints; their names say which one they are
(`log_end_offset`, `leader_epoch`, `segment_bytes`).
"""

from __future__ import annotations

import base64
from typing import NamedTuple, NewType

BrokerId = NewType("BrokerId", int)
TopicId = NewType("TopicId", bytes)
"""16 bytes; Kafka prints them in URL-safe base64 without padding (KIP-516)."""

ZERO_TOPIC_ID = TopicId(bytes(16))

OFFSETS_TOPIC = "__consumer_offsets"
"""Where groups are kept; who leads a partition of it coordinates the groups in it."""

NO_LEADER = -1
"""The leader of a partition that has none."""

NO_EPOCH = -1
"""Any epoch that is not known."""

COORDINATOR = 0
"""The bus address of the coordinator; brokers have ids from 1 up."""

SUPERVISOR = -1
"""The bus address of the supervisor."""


class TopicPartition(NamedTuple):
    topic: str
    partition: int

    def __str__(self) -> str:
        return f"{self.topic}-{self.partition}"


def topic_id_text(topic_id: bytes) -> str:
    """The id as Kafka prints it: 22 characters of URL-safe base64."""
    return base64.urlsafe_b64encode(topic_id).rstrip(b"=").decode()
