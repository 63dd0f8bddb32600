"""A log that lost what it had promised, and how a start tells that from a torn write.

    partition.damage     in a partition's directory, made durable before anything is cut: this log
                         was found damaged, and why. As long as it is there a start believes
                         nothing of the log, checks every batch, and tells the controller that it
                         is to be trusted no more than one that lost power. It goes when the
                         controller has that in its own log

Without the file, a broker that is killed between the cut and its registration would come back
with a short log that looks whole, and could be elected (fault contract, C3).

A kill leaves a prefix of what was written: within one boot the page cache keeps it all, so that
only the last write can be torn, and its last batch is then shorter than it says. A broken batch
that is as long as it says, sound batches behind a broken one, a segment that ends before the next
begins, no segment at all, or an end below the high watermark are therefore damage.
"""

from __future__ import annotations

from typing import Final

from kcluster.core.turn import Delete, Files, Replace, Turn
from kcluster.wire.records import HEADER, HEADER_BYTES, LENGTH_OVERHEAD, MAGIC, check_crc

FILE_NAME: Final = "partition.damage"

MAGIC_POSITION: Final = 16
"""Of the magic byte within a batch."""

CHUNK_BYTES: Final = 1 << 20

OFFSETS_AHEAD: Final = 1 << 31
"""How far a batch of the same segment may be ahead; what is not one rarely says so."""

CAUSE_BYTES: Final = 1000


def mark(turn: Turn, directory: str, cause: str) -> None:
    data = cause.encode("utf-8", "backslashreplace")[:CAUSE_BYTES]
    turn.disk.append(Replace(f"{directory}/{FILE_NAME}", data, durable=True))


def unmark(turn: Turn, directory: str) -> None:
    turn.disk.append(Delete(f"{directory}/{FILE_NAME}"))


def cause_of(files: Files, directory: str) -> str | None:
    """What the mark says; None when there is none."""
    path = f"{directory}/{FILE_NAME}"
    if files.size(path) < 0:
        return None
    return files.read(path, 0, CAUSE_BYTES).decode("utf-8", "replace")


def is_torn(files: Files, path: str, position: int, end: int, base_offset: int) -> bool:
    """Whether what lies between `position`, where a sound batch at `base_offset` should begin, and
    `end` may be what a kill left of the last write: a batch cut short, and nothing behind it."""
    header = files.read(path, position, HEADER_BYTES)
    is_whole = (
        len(header) == HEADER_BYTES
        and header[MAGIC_POSITION] == MAGIC
        and HEADER_BYTES <= HEADER.unpack(header)[1] + LENGTH_OVERHEAD <= end - position
    )
    return not is_whole and not has_batch_behind(files, path, position, end, base_offset)


def has_batch_behind(files: Files, path: str, position: int, end: int, base_offset: int) -> bool:
    return find_batch_behind(files, path, position, end, base_offset) >= 0


def find_batch_behind(files: Files, path: str, position: int, end: int, base_offset: int) -> int:
    """Where the first whole batch with the CRC that it claims, and an offset at or behind
    `base_offset`, lies in the file between `position`, where none is, and `end`; -1 for none."""
    at = position + 1
    while at + HEADER_BYTES <= end:
        chunk = files.read(path, at, min(CHUNK_BYTES, end - at))
        if len(chunk) < HEADER_BYTES:
            return -1
        found = chunk.find(MAGIC, MAGIC_POSITION)
        while 0 <= found <= len(chunk) - (HEADER_BYTES - MAGIC_POSITION):
            start = found - MAGIC_POSITION
            header = HEADER.unpack_from(chunk, start)
            size = header[1] + LENGTH_OVERHEAD
            if (
                HEADER_BYTES <= size <= end - (at + start)
                and 0 <= header[0] - base_offset <= OFFSETS_AHEAD
                and header[6] >= 0
            ):
                batch = files.read(path, at + start, size)
                if len(batch) == size and check_crc(batch, 0, size):
                    return at + start
            found = chunk.find(MAGIC, found + 1)
        at += max(len(chunk) - HEADER_BYTES + 1, 1)
    return -1
