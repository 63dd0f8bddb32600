"""What a leader pushes, before a follower's log takes it: whole, sound, and what comes next.

A function over a PartitionLog, which is its only caller.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from kcluster.core.log.scan import Header
from kcluster.core.turn import Buffer
from kcluster.errors import CorruptLogError
from kcluster.wire.records import HEADER, HEADER_BYTES, LENGTH_OVERHEAD, MAGIC, check_crc

if TYPE_CHECKING:
    from kcluster.core.log.partition_log import PartitionLog


def check_pushed(log: PartitionLog, buffer: Buffer) -> list[Header]:
    """Their headers. Raises CorruptLogError."""
    unpack_from = HEADER.unpack_from
    expected, epoch = log.log_end_offset, log.last_epoch
    headers: list[Header] = []
    position, end = 0, len(buffer)
    while position < end:
        if end - position < HEADER_BYTES:
            raise CorruptLogError(f"{log.tp}: a pushed batch is cut short")
        header: Header = unpack_from(buffer, position)
        size = header[1] + LENGTH_OVERHEAD
        if header[3] != MAGIC or size < HEADER_BYTES or position + size > end:
            raise CorruptLogError(f"{log.tp}: a pushed batch of length {header[1]}")
        if not check_crc(buffer, position, size):
            raise CorruptLogError(f"{log.tp}: CRC of the pushed batch {header[0]}")
        if header[0] != expected or header[6] < 0:
            raise CorruptLogError(f"{log.tp}: pushed offset {header[0]}, not {expected}")
        if header[2] < epoch:
            raise CorruptLogError(f"{log.tp}: pushed epoch {header[2]} behind {epoch}")
        epoch = header[2]
        expected += header[6] + 1
        headers.append(header)
        position += size
    return headers
