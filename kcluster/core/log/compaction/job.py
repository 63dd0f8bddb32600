"""What a compactor is told and what it tells: two small files in the broker's directory.

A datagram or a command line would be too small for it, and files outlive neither side: a job is
read once, and an outcome that does not have the job's number is of another one.
"""

from __future__ import annotations

from typing import Final, TypeVar

import msgspec

from kcluster.core.log.segment import INDEX, LOG, TIME_INDEX, file_name
from kcluster.core.turn import Files
from kcluster.errors import CorruptLogError

T = TypeVar("T")

JOB_FILE: Final = ".kcluster_compaction_job"
OUTCOME_FILE: Final = ".kcluster_compaction_outcome"

CLEANED: Final = ".cleaned"
"""Suffix of what a compactor writes: worth nothing until it is renamed."""
SWAP: Final = ".swap"
"""Suffix of what takes the place of the segments whose offsets it holds, whatever happens."""


class Source(msgspec.Struct, frozen=True):
    """A segment to be compacted."""

    base_offset: int
    end_offset: int
    """Exclusive."""
    size: int
    """Bytes."""


class Job(msgspec.Struct, frozen=True):
    number: int
    """New for each job of an incarnation."""
    directory: str
    sources: list[Source]
    """From the start of the log, one behind the other."""
    first_dirty_offset: int
    """Below it no key stands twice."""
    wall_ms: int
    delete_retention_ms: int
    segment_bytes: int
    segment_index_bytes: int
    index_interval_bytes: int
    map_bytes: int
    """Memory for keys, roughly."""
    producers: list[int]
    """Ids of those whose state is to be kept."""
    epochs: list[tuple[int, int]]
    """(epoch, start offset): the leader epoch cache."""

    @property
    def end_offset(self) -> int:
        return self.sources[-1].end_offset


class Group(msgspec.Struct, frozen=True):
    """Segments that became one."""

    base_offset: int
    end_offset: int
    size: int
    """Bytes of what was written."""
    sources: list[int]
    """Base offsets of the segments that it was made of."""


class Outcome(msgspec.Struct, frozen=True):
    number: int
    groups: list[Group] = []
    """Where anything changed: what is to be swapped."""
    cleaned_end: int = 0
    """Exclusive: what is dirty begins here."""
    bytes_before: int = 0
    bytes_after: int = 0
    """Of all sources, and of what they became."""
    records_before: int = 0
    records_after: int = 0
    damage: str = ""
    """What was found broken in the log; then nothing else counts."""


def cleaned_paths(directory: str, base_offset: int) -> tuple[str, str, str]:
    """Of the offset index, the time index and the log, in the order in which they are swapped."""
    return (
        f"{directory}/{file_name(base_offset, INDEX)}{CLEANED}",
        f"{directory}/{file_name(base_offset, TIME_INDEX)}{CLEANED}",
        f"{directory}/{file_name(base_offset, LOG)}{CLEANED}",
    )


def encode(value: Job | Outcome) -> bytes:
    return msgspec.msgpack.encode(value)


def read_job(files: Files) -> Job:
    """Raises CorruptLogError."""
    return _read(files, JOB_FILE, msgspec.msgpack.Decoder(Job))


def read_outcome(files: Files) -> Outcome:
    """Raises CorruptLogError, also when there is none."""
    return _read(files, OUTCOME_FILE, msgspec.msgpack.Decoder(Outcome))


def _read(files: Files, path: str, decoder: msgspec.msgpack.Decoder[T]) -> T:
    try:
        return decoder.decode(files.read(path, 0, max(files.size(path), 0)))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise CorruptLogError(f"{path}: {error}") from None
