"""Which partition a record goes to: as Java's producer would put it.

With a key: murmur2 of its bytes, so that one key stays in one partition whichever client wrote
it. Without: one partition for a whole batch, then the next, so that batches fill (KIP-480).

Source: `org.apache.kafka.common.utils.Utils.murmur2`; MurmurHash2 by Austin Appleby.
"""

from __future__ import annotations

import functools
import struct
from typing import Final

KEYS_KEPT: Final = 16_384
"""Keys come again and again: the hash of so many is remembered (0.1 instead of 2 us)."""

_SEED: Final = 0x9747B28C
_MULTIPLIER: Final = 0x5BD1E995
_ROTATION: Final = 24
_WORD: Final = 0xFFFFFFFF


@functools.lru_cache(maxsize=KEYS_KEPT)
def murmur2(data: bytes) -> int:
    """32 bits, unsigned."""
    length = len(data)
    hash = _SEED ^ length
    whole = length & ~3
    for word in struct.unpack_from(f"<{whole >> 2}I", data):
        word = word * _MULTIPLIER & _WORD
        word = (word ^ word >> _ROTATION) * _MULTIPLIER & _WORD
        hash = (hash * _MULTIPLIER & _WORD) ^ word
    if whole < length:
        hash = (hash ^ int.from_bytes(data[whole:], "little")) * _MULTIPLIER & _WORD
    hash = (hash ^ hash >> 13) * _MULTIPLIER & _WORD
    return hash ^ hash >> 15


def partition_of_key(key: bytes, partitions: int) -> int:
    # Java's hash is signed; its sign bit is dropped, not its value negated.
    return (murmur2(bytes(key)) & 0x7FFFFFFF) % partitions


class StickyPartitions:
    """For records without a key: one partition until its batch is full or gone."""

    def __init__(self, first: int = 0) -> None:
        self._current = first

    def choose(self, partitions: int) -> int:
        return self._current % partitions

    def move_on(self, partition: int, partitions: int) -> None:
        """The batch of `partition` takes no more: if it was the current one, the next is."""
        if self.choose(partitions) == partition:
            self._current = partition + 1
