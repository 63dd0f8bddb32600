"""The broker-wide checkpoint files: one offset for each partition, in Kafka's text format.

    recovery-point-offset-checkpoint      below it all is durable: recovery starts there
    replication-offset-checkpoint         the high watermark
    log-start-offset-checkpoint           the log start, where it is not a segment's base
    cleaner-offset-checkpoint             below it a log is compacted

        0                       version
        2                       entries
        orders 0 1200           topic partition offset
        orders 1 37

A file that is not what it should be is as good as a missing one: a missing recovery point costs
a longer scan, a missing high watermark starts at the log start and is learnt from the leader,
what was compacted before is compacted again.
`parse` therefore raises, and its caller says so and goes on with nothing.

Source: Kafka's OffsetCheckpointFile.
"""

from __future__ import annotations

from collections.abc import Mapping

from kcluster.config import INT_MAX, LONG_MAX
from kcluster.errors import CorruptLogError
from kcluster.model import TopicPartition

RECOVERY_POINTS = "recovery-point-offset-checkpoint"
HIGH_WATERMARKS = "replication-offset-checkpoint"
LOG_STARTS = "log-start-offset-checkpoint"
FIRST_DIRTY = "cleaner-offset-checkpoint"


def format_offsets(offsets: Mapping[TopicPartition, int]) -> bytes:
    lines = ["0", str(len(offsets))]
    lines += [f"{tp.topic} {tp.partition} {offset}" for tp, offset in sorted(offsets.items())]
    return ("\n".join(lines) + "\n").encode()


def parse_offsets(data: bytes) -> dict[TopicPartition, int]:
    """Empty for a missing (empty) file. Raises CorruptLogError."""
    if not data:
        return {}
    offsets: dict[TopicPartition, int] = {}
    try:
        if not data.endswith(b"\n"):
            # Torn within its last number, which would read as a smaller one.
            raise ValueError("no end")
        lines = data.decode("ascii").splitlines()
        if lines[0] != "0" or int(lines[1]) != len(lines) - 2:
            raise ValueError("header")
        for line in lines[2:]:
            topic, partition, offset = line.split(" ")
            if not (0 <= int(partition) <= INT_MAX and 0 <= int(offset) <= LONG_MAX):
                raise ValueError(line)
            offsets[TopicPartition(topic, int(partition))] = int(offset)
    except (ValueError, IndexError) as error:
        raise CorruptLogError(f"an offset checkpoint: {error}") from None
    return offsets
