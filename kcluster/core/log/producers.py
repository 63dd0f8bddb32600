"""What each producer appended last: so that a (producer id, epoch, sequence) is taken once.

For each producer id the epoch and the last five batches, as Kafka keeps them: a client has at
most five requests in flight, so that any of them may come again and is answered with the
offsets that it got. The state is a function of the log's prefix (invariant 14): leader and
followers update it from the batches that they append, truncation and recovery rebuild it from
the newest snapshot and the batches behind that. A follower whose log begins where the leader's
does gets from it what is known of the batches before (in Kafka it does not, and takes a batch
that is sent again for a new one).

    <offset>.snapshot   version 1 (2), CRC-32C of the rest (4), count (4), then for each entry:
                        producer id (8), epoch (2), last sequence (4), last offset (8),
                        offset delta (4), timestamp (8), coordinator epoch (4), first offset of
                        the open transaction (8)

Kafka's snapshot holds the last batch only, and forgets the other four with a restart. Ours
writes an entry for each batch, oldest first: Kafka's reader takes the last of a producer id, as
if there were no other, and we get all five back.

Sequences run from 0 to 2**31 - 1 and start again at 0.
Sources: KIP-98, KIP-360; Kafka's ProducerStateManager and ProducerAppendInfo.
"""

from __future__ import annotations

import struct
from typing import Final

from fastcrc import crc32

from kcluster.core.log.scan import Header
from kcluster.errors import ApiError, CorruptLogError, ErrorCode
from kcluster.limits import LIMITS

BATCHES_KEPT: Final = 5
SEQUENCE_MASK: Final = 0x7FFFFFFF
SNAPSHOT_VERSION: Final = 1

_HEAD: Final = struct.Struct(">hIi")
_ENTRY: Final = struct.Struct(">qhiqiqiq")
_CRC_END: Final = 6

Batch = tuple[int, int, int, int, int]
"""(first sequence, last sequence, base offset, last offset, max timestamp in ms)"""


class Producer:
    __slots__ = ("batches", "epoch")

    def __init__(self, epoch: int) -> None:
        self.epoch = epoch
        self.batches: list[Batch] = []
        """Of this epoch, oldest first. Invariant: 1 to 5."""


class Producers:
    __slots__ = ("_limit", "_producers")

    def __init__(self, limit: int = LIMITS.producers_per_partition) -> None:
        self._producers: dict[int, Producer] = {}
        """By producer id; the one silent for longest is first."""
        self._limit = limit

    def __len__(self) -> int:
        return len(self._producers)

    def ids(self) -> list[int]:
        return list(self._producers)

    def view(self) -> dict[int, tuple[int, list[Batch]]]:
        """{producer id: (epoch, its last batches)}"""
        return {id: (known.epoch, list(known.batches)) for id, known in self._producers.items()}

    def check(
        self, producer_id: int, producer_epoch: int, base_sequence: int, last_sequence: int
    ) -> Batch | None:
        """None when the batch is the next one of its producer; the batch that was appended when
        this is a copy of it. Raises ApiError when it is neither."""
        known = self._producers.get(producer_id)
        if known is None:
            # Its records may have been deleted by retention: any sequence may come first.
            return None
        epoch = known.epoch
        if producer_epoch == epoch:
            last = known.batches[-1][1]
            if base_sequence == (last + 1) & SEQUENCE_MASK:
                return None
            for batch in known.batches:
                if batch[0] == base_sequence and batch[1] == last_sequence:
                    return batch
            raise ApiError(
                ErrorCode.OUT_OF_ORDER_SEQUENCE_NUMBER,
                f"producer {producer_id}: sequence {base_sequence} after {last}",
            )
        if producer_epoch < epoch:
            raise ApiError(
                ErrorCode.INVALID_PRODUCER_EPOCH,
                f"producer {producer_id}: epoch {producer_epoch} is older than {epoch}",
            )
        if base_sequence != 0:
            raise ApiError(
                ErrorCode.OUT_OF_ORDER_SEQUENCE_NUMBER,
                f"producer {producer_id}: sequence {base_sequence} first in a new epoch",
            )
        return None

    def update(self, header: Header, base_offset: int, timestamp: int) -> None:
        """The batch with `header` is in the log at `base_offset`, `timestamp` its largest: what a
        leader has checked, a follower and a replay believe."""
        delta = header[6]
        # As a snapshot brings it back; what a leader took is never negative.
        base_sequence = header[11] & SEQUENCE_MASK
        last_sequence = (base_sequence + delta) & SEQUENCE_MASK
        batch = (base_sequence, last_sequence, base_offset, base_offset + delta, timestamp)
        self._put(header[9], header[10], batch)

    def _put(self, producer_id: int, producer_epoch: int, batch: Batch) -> None:
        producers = self._producers
        # Taken out and put back, so that the order is that of the last appends.
        known = producers.pop(producer_id, None)
        if known is None:
            if len(producers) >= self._limit:
                del producers[next(iter(producers))]
            known = Producer(producer_epoch)
        elif known.epoch != producer_epoch:
            known.epoch = producer_epoch
            known.batches.clear()
        producers[producer_id] = known
        batches = known.batches
        batches.append(batch)
        if len(batches) > BATCHES_KEPT:
            del batches[0]

    def reaches(self, offset: int) -> bool:
        """Whether it knows of a batch at or behind `offset`."""
        # The order is that of appends, so that the last producer has the newest batch.
        if not self._producers:
            return False
        newest = self._producers[next(reversed(self._producers))]
        return newest.batches[-1][3] >= offset

    def expire(self, wall_ms: int, expiration_ms: int) -> int:
        """Forget producers whose last batch is older than `expiration_ms`; how many."""
        due = [
            producer_id
            for producer_id, known in self._producers.items()
            if wall_ms - known.batches[-1][4] >= expiration_ms
        ]
        for producer_id in due:
            del self._producers[producer_id]
        return len(due)

    # --- snapshots ------------------------------------------------------------------------

    def below(self, offset: int) -> Producers:
        """What a log that begins at `offset` has to know of the batches that end before it: with
        those that it appends, it comes to the state that this is."""
        kept: list[tuple[int, Producer]] = []
        for producer_id, known in self._producers.items():
            batches = [batch for batch in known.batches if batch[3] < offset]
            if batches:
                producer = Producer(known.epoch)
                producer.batches = batches
                kept.append((producer_id, producer))
        kept.sort(key=lambda entry: entry[1].batches[-1][3])
        below = Producers(self._limit)
        below._producers.update(kept)
        return below

    def encode(self) -> bytes:
        entries = b"".join(
            _ENTRY.pack(producer_id, known.epoch, last, end, end - base, timestamp, -1, -1)
            for producer_id, known in self._producers.items()
            for _, last, base, end, timestamp in known.batches
        )
        body = struct.pack(">i", len(entries) // _ENTRY.size) + entries
        return struct.pack(">hI", SNAPSHOT_VERSION, crc32.iscsi(body)) + body

    @classmethod
    def decode(cls, data: bytes, limit: int = LIMITS.producers_per_partition) -> Producers:
        """Raises CorruptLogError."""
        if len(data) < _HEAD.size:
            raise CorruptLogError(f"a producer snapshot of {len(data)} bytes")
        version, crc, count = _HEAD.unpack_from(data)
        if version != SNAPSHOT_VERSION:
            raise CorruptLogError(f"a producer snapshot of version {version}")
        if crc32.iscsi(data[_CRC_END:]) != crc or len(data) != _HEAD.size + count * _ENTRY.size:
            raise CorruptLogError("a producer snapshot fails its CRC")
        producers = cls(limit)
        for entry in _ENTRY.iter_unpack(data[_HEAD.size :]):
            producer_id, epoch, last, end, delta, timestamp, _, _ = entry
            first = (last - delta) & SEQUENCE_MASK
            producers._put(producer_id, epoch, (first, last, end - delta, end, timestamp))
        return producers
