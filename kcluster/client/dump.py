"""What any one file of a replica or of the coordinator holds: what `kcluster dump-segment` shows.

    dump()  yields what is in the file, in order, a Flaw where it is not as it was written, and a
            Remark where it is odd and no damage

A file is known by its name, as the broker knows it; names that a deletion or a compaction has
lengthened count as well. Nothing is believed: the decoders are those of recovery, and where they
refuse the whole of a file, its entries are shown nevertheless.

Source of the idea: Kafka's DumpLogSegments.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import msgspec
from fastcrc import crc32

from kcluster.client.dump_log import Batch, Flaw, Remark, dump_log, file_offset
from kcluster.client.verify_log import ReadOnlyFiles
from kcluster.core.log import checkpoints, damage, leader_epochs, partition_metadata
from kcluster.core.log.index import OFFSET_ENTRY_BYTES, TIME_ENTRY_BYTES
from kcluster.core.log.producers import Producers
from kcluster.core.log.segment import INDEX, LOG, SNAPSHOT, TIME_INDEX
from kcluster.core.metadata import snapshot
from kcluster.core.metadata.metadata_log import COMMITTED_FILE
from kcluster.errors import CorruptLogError
from kcluster.model import topic_id_text
from kcluster.wire.records import HEADER, HEADER_BYTES


class IndexEntry(msgspec.Struct, frozen=True):
    offset: int
    """Last one of the batch there."""
    position: int
    """Byte in the log."""


class TimeEntry(msgspec.Struct, frozen=True):
    timestamp: int
    """Largest so far, wall ms."""
    offset: int


class EpochStart(msgspec.Struct, frozen=True):
    leader_epoch: int
    start_offset: int


class ProducerBatch(msgspec.Struct, frozen=True):
    producer_id: int
    producer_epoch: int
    first_sequence: int
    last_sequence: int
    base_offset: int
    last_offset: int
    timestamp: int


class CheckpointedOffset(msgspec.Struct, frozen=True):
    topic: str
    partition: int
    offset: int


class Fact(msgspec.Struct, frozen=True):
    """Of a file that holds only a few, and of a snapshot of the metadata."""

    name: str
    value: Any


Entry = (
    Batch | IndexEntry | TimeEntry | EpochStart | ProducerBatch | CheckpointedOffset | Fact
    | Flaw | Remark
)  # fmt: skip

_OFFSET_ENTRY: Final = struct.Struct(">II")
_TIME_ENTRY: Final = struct.Struct(">qI")
_COMMITTED: Final = struct.Struct(">QI")
_NEXT_OFFSET: Final = 20
"""Byte of a metadata snapshot where it says its offset."""
_LENGTHENED: Final = re.compile(r"\.(deleted|cleaned|swap|tmp)$")


def kind_of(name: str) -> str:
    """What a file of this name holds, in words; empty for one that is not known."""
    name = _LENGTHENED.sub("", name)
    found = next((suffix for suffix in _BY_SUFFIX if name.endswith(suffix)), "")
    if name in _BY_NAME:
        return _BY_NAME[name][0]
    return _BY_SUFFIX[found][0] if found else ""


def dump(path: Path, *, with_records: bool = False) -> Iterator[Entry]:
    """All of it. The name must be one that `kind_of` knows."""
    name = _LENGTHENED.sub("", path.name)
    if name in _BY_NAME:
        yield from _BY_NAME[name][1](path.read_bytes())
    elif name.endswith(LOG):
        yield from dump_log(path, with_records=with_records)
    else:
        suffix = next(suffix for suffix in _BY_SUFFIX if name.endswith(suffix))
        yield from _BY_SUFFIX[suffix][1](path)


# --- indexes --------------------------------------------------------------------------------


def _index(path: Path) -> Iterator[Entry]:
    data = path.read_bytes()
    base_offset = max(file_offset(path), 0)
    files = ReadOnlyFiles(path.parent)
    # One that is to take another's place has its log beside it under as long a name.
    log = path.name.replace(INDEX, LOG)
    has_log = files.size(log) >= 0
    before = (-1, -1)
    whole = len(data) - len(data) % OFFSET_ENTRY_BYTES
    for at in range(0, whole, OFFSET_ENTRY_BYTES):
        relative, position = _OFFSET_ENTRY.unpack_from(data, at)
        yield IndexEntry(base_offset + relative, position)
        if relative <= before[0] or position <= before[1]:
            yield Flaw(at, f"the entry of offset {base_offset + relative} does not rise")
        elif has_log and not _ends_at(files, log, position, base_offset + relative):
            yield Flaw(
                at, f"{log} has no batch at {position} that ends at {base_offset + relative}"
            )
        before = relative, position
    if whole < len(data):
        yield Flaw(whole, f"{len(data) - whole} bytes that are no entry")


def _ends_at(files: ReadOnlyFiles, log: str, position: int, offset: int) -> bool:
    head = files.read(log, position, HEADER_BYTES)
    if len(head) < HEADER_BYTES:
        return False
    header = HEADER.unpack(head)
    return bool(header[0] + header[6] == offset)


def _time_index(path: Path) -> Iterator[Entry]:
    data = path.read_bytes()
    base_offset = max(file_offset(path), 0)
    before = (-1, -1)
    whole = len(data) - len(data) % TIME_ENTRY_BYTES
    for at in range(0, whole, TIME_ENTRY_BYTES):
        timestamp, relative = _TIME_ENTRY.unpack_from(data, at)
        yield TimeEntry(timestamp, base_offset + relative)
        if timestamp <= before[0] or relative <= before[1]:
            yield Flaw(at, f"the entry of offset {base_offset + relative} does not rise")
        before = timestamp, relative
    if whole < len(data):
        yield Flaw(whole, f"{len(data) - whole} bytes that are no entry")


# --- snapshots ------------------------------------------------------------------------------


def _producers(path: Path) -> Iterator[Entry]:
    try:
        known = Producers.decode(path.read_bytes())
    except CorruptLogError as error:
        yield Flaw(0, str(error))
        return
    for id, (epoch, batches) in known.view().items():
        for first, last, base, end, timestamp in batches:
            yield ProducerBatch(id, epoch, first, last, base, end, timestamp)


def _metadata_snapshot(path: Path) -> Iterator[Entry]:
    try:
        image = snapshot.decode_snapshot(path.read_bytes())
    except CorruptLogError as error:
        yield Flaw(0, str(error))
        return
    yield Fact("next_offset", image.next_offset)
    if image.next_offset != file_offset(path) >= 0:
        yield Flaw(
            _NEXT_OFFSET, f"its name says {file_offset(path)}; no checksum covers these bytes"
        )
    for record in image.records():
        yield Fact(type(record).__name__, msgspec.to_builtins(record))


# --- small files ----------------------------------------------------------------------------


def _epochs(data: bytes) -> Iterator[Entry]:
    try:
        found = leader_epochs.LeaderEpochs.decode(data).entries()
    except CorruptLogError as error:
        yield from _lines(data, str(error))
        return
    for epoch, start_offset in found:
        yield EpochStart(epoch, start_offset)


def _offsets(data: bytes) -> Iterator[Entry]:
    try:
        found = checkpoints.parse_offsets(data)
    except CorruptLogError as error:
        yield from _lines(data, str(error))
        return
    for tp, offset in found.items():
        yield CheckpointedOffset(tp.topic, tp.partition, offset)


def _lines(data: bytes, what: str) -> Iterator[Entry]:
    """Of a text file with a checksum that does not fit: all its lines may be wrong."""
    for number, line in enumerate(data.decode("utf-8", "backslashreplace").splitlines(), 1):
        yield Fact(f"line {number}", line)
    yield Flaw(0, what)


def _partition_metadata(data: bytes) -> Iterator[Entry]:
    try:
        yield Fact("topic_id", topic_id_text(partition_metadata.parse_metadata(data)))
    except CorruptLogError as error:
        yield from _lines(data, str(error))


def _damage_mark(data: bytes) -> Iterator[Entry]:
    yield Fact("cause", data.decode("utf-8", "backslashreplace"))
    yield Remark("the log beside it was found damaged; the next start checks every batch")


def _committed_offset(data: bytes) -> Iterator[Entry]:
    if len(data) != _COMMITTED.size:
        yield Flaw(0, f"{len(data)} bytes, not {_COMMITTED.size}")
        return
    offset, crc = _COMMITTED.unpack(data)
    yield Fact("committed_offset", offset)
    if crc32.iscsi(data[:8]) != crc:
        yield Flaw(8, "its checksum does not fit")


_BY_NAME: Final[dict[str, tuple[str, Callable[[bytes], Iterator[Entry]]]]] = {
    leader_epochs.FILE_NAME: ("leader epochs", _epochs),
    checkpoints.RECOVERY_POINTS: ("recovery points", _offsets),
    checkpoints.HIGH_WATERMARKS: ("high watermarks", _offsets),
    checkpoints.LOG_STARTS: ("log starts", _offsets),
    checkpoints.FIRST_DIRTY: ("first dirty offsets", _offsets),
    partition_metadata.FILE_NAME: ("topic id", _partition_metadata),
    damage.FILE_NAME: ("a mark of damage", _damage_mark),
    COMMITTED_FILE: ("committed offset", _committed_offset),
}
_BY_SUFFIX: Final[dict[str, tuple[str, Callable[[Path], Iterator[Entry]]]]] = {
    LOG: ("log", dump_log),
    INDEX: ("offset index", _index),
    TIME_INDEX: ("time index", _time_index),
    SNAPSHOT: ("producers", _producers),
    snapshot.SUFFIX: ("metadata snapshot", _metadata_snapshot),
}
NAMES: Final = (*(f"*{suffix}" for suffix in _BY_SUFFIX), *_BY_NAME)
