"""What a load writes: unique values, numbered within their key.

    value    b"<run> <stream> <sequence> ....."    padded to the size that was asked for

A stream is one key of one producer, and goes to one partition: Kafka's own partitioner puts its
key there. Its sequence counts from 0, so that what was sent is known from three numbers, and a
record that is read back says by itself what it is, where it belongs and what comes before it.
"""

from __future__ import annotations

from typing import Final

from kcluster.core.client.partitioner import partition_of_key

SEQUENCE_BITS: Final = 40

EMPTY: Final = -1
"""No record."""
OTHER: Final = -2
"""A record of somebody else."""
FOREIGN: Final = -3
"""A record that claims to be of this run, and that nobody sent."""

VALUE_BYTES_MIN: Final = 40


def token_of(stream: int, sequence: int) -> int:
    """A send as one number from 0 up."""
    return stream << SEQUENCE_BITS | sequence


def stream_of(token: int) -> int:
    return token >> SEQUENCE_BITS


def sequence_of(token: int) -> int:
    return token & (1 << SEQUENCE_BITS) - 1


class Workload:
    def __init__(self, run: str, topic: str, partitions: int, producers: int, size: int) -> None:
        """`run` tells the records of one load from those of all others; `size` is that of a
        value, in bytes."""
        self.run = run
        self.topic = topic
        self.partitions = partitions
        self.producers = producers
        self.size = max(size, VALUE_BYTES_MIN)
        self._head = f"{run} ".encode()
        self._keys = [
            key for producer in range(producers) for key in _keys(f"{run}-{producer}", partitions)
        ]

    @property
    def streams(self) -> int:
        return self.producers * self.partitions

    def stream(self, producer: int, partition: int) -> int:
        return producer * self.partitions + partition

    def partition(self, stream: int) -> int:
        return stream % self.partitions

    def key(self, stream: int) -> bytes:
        return self._keys[stream]

    def value(self, stream: int, sequence: int) -> bytes:
        return (b"%b%d %d " % (self._head, stream, sequence)).ljust(self.size, b".")

    def token(self, value: bytes | None) -> int:
        """Which send this is the value of: `token_of`, OTHER or FOREIGN."""
        if value is None or not value.startswith(self._head):
            return OTHER
        fields = value.split(b" ", 3)
        if len(fields) < 4 or not (fields[1].isdigit() and fields[2].isdigit()):
            return FOREIGN
        stream, sequence = int(fields[1]), int(fields[2])
        is_ours = stream < self.streams and sequence < 1 << SEQUENCE_BITS
        if not is_ours or value != self.value(stream, sequence):
            return FOREIGN
        return token_of(stream, sequence)

    def told(self, token: int) -> str:
        """A send in words."""
        match token:
            case _ if token >= 0:
                return f"{sequence_of(token)} of key {self.key(stream_of(token)).decode()}"
            case -1:
                return "nothing"
            case -2:
                return "a record of somebody else"
        return "a value that nobody sent"


def _keys(name: str, partitions: int) -> list[bytes]:
    """One for each partition, by number."""
    found: dict[int, bytes] = {}
    number = 0
    while len(found) < partitions:
        key = f"{name}-{number}".encode()
        found.setdefault(partition_of_key(key, partitions), key)
        number += 1
    return [found[partition] for partition in range(partitions)]
