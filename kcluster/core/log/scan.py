"""A walk over batches in a file that believes nothing: CRC, and what the CRC leaves out.

Base offset, length and leader epoch lie outside the CRC, because a leader patches them in place:
a flip there is found because offsets follow each other without a gap and epochs lie where the
leader epoch cache has them (fault contract, C3).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from kcluster.core.log.leader_epochs import LeaderEpochs
from kcluster.core.turn import Files
from kcluster.errors import CorruptLogError
from kcluster.wire.records import HEADER, HEADER_BYTES, LENGTH_OVERHEAD, MAGIC, check_crc

Header = tuple[int, int, int, int, int, int, int, int, int, int, int, int, int]
"""As `wire.records.HEADER` unpacks it: base offset 0, length 1, leader epoch 2, magic 3,
attributes 5, last offset delta 6, max timestamp 8, producer id 9, epoch 10, base sequence 11."""

CHECK_BYTES: Final = 1 << 20
"""Read at a time."""


def checked_batches(
    files: Files,
    path: str,
    span: tuple[int, int],
    base_offset: int,
    epochs: LeaderEpochs | None = None,
) -> Iterator[tuple[int, Header]]:
    """(position, header) of the batches in `span`, (start, end): whole, with the CRC that they
    claim, one behind the other without a gap, the first at `base_offset`, and, given the epoch
    cache, in their epochs. Raises CorruptLogError at the first that is not."""
    position, end = span
    read = files.read
    unpack_from = HEADER.unpack_from
    expected = base_offset
    last_epoch = -1
    chunk, chunk_start = b"", position
    while position < end:
        at = position - chunk_start
        size = HEADER_BYTES
        if at + HEADER_BYTES <= len(chunk):
            size = unpack_from(chunk, at)[1] + LENGTH_OVERHEAD
        if at + size > len(chunk):
            # A length that lies asks for no more than the file has.
            want = min(max(CHECK_BYTES, size), end - position)
            chunk, chunk_start, at = read(path, position, want), position, 0
            if len(chunk) < HEADER_BYTES:
                raise CorruptLogError(f"{path}: a batch is cut short at {position}")
            size = unpack_from(chunk)[1] + LENGTH_OVERHEAD
            if size > len(chunk) and size <= end - position:
                chunk = read(path, position, size)
        header: Header = unpack_from(chunk, at)
        if header[3] != MAGIC or size < HEADER_BYTES or at + size > len(chunk):
            raise CorruptLogError(f"{path}: there is no whole batch at {position}")
        if not check_crc(chunk, at, size):
            raise CorruptLogError(f"{path}: CRC of the batch at {position}")
        if header[0] != expected or header[6] < 0:
            raise CorruptLogError(f"{path}: offset {header[0]} at {position}, not {expected}")
        epoch = header[2]
        if epoch < last_epoch:
            raise CorruptLogError(f"{path}: epoch {epoch} behind {last_epoch}")
        # The cache starts at the log start, which may lie inside a batch.
        if epochs is not None and epochs.epoch_of(expected + header[6]) not in (epoch, -1):
            raise CorruptLogError(f"{path}: offset {expected} is not of epoch {epoch}")
        yield position, header
        last_epoch = epoch
        expected += header[6] + 1
        position += size
