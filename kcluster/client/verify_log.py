"""One replica's files, read by somebody who does not own them: every batch, index and cache.

    check_log()  yields a Place for each sound batch, in order, and adds what is wrong to `found`

Nothing is written, and nothing is held open for long: the broker may live and change its files.
What a live broker changes meanwhile looks like damage for a moment; `verify` therefore looks
again before it says so.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

import msgspec

from kcluster.core.log import damage, leader_epochs
from kcluster.core.log.index import OffsetIndex, TimeIndex
from kcluster.core.log.leader_epochs import LeaderEpochs
from kcluster.core.log.partition_metadata import FILE_NAME as METADATA_FILE
from kcluster.core.log.partition_metadata import parse_metadata
from kcluster.core.log.producers import Producers
from kcluster.core.log.scan import Header, checked_batches
from kcluster.core.log.segment import INDEX, LOG, SNAPSHOT, TIME_INDEX, file_name
from kcluster.core.turn import Volume
from kcluster.errors import CorruptLogError
from kcluster.model import TopicPartition
from kcluster.wire.records import LENGTH_OVERHEAD

OFFSET_DIGITS: Final = 20


class Damage(msgspec.Struct, frozen=True, order=True):
    """Something that is not as it was written, and where."""

    topic: str
    partition: int
    broker: int
    """0 for the coordinator."""
    file: str
    """Relative to the cluster's directory."""
    what: str
    offset: int = -1
    """Of the record it concerns; -1 for none."""
    position: int = -1
    """Byte in the file; -1 for none."""


class Place(NamedTuple):
    """A sound batch and where it lies."""

    header: Header
    path: str
    position: int
    size: int


class ReadOnlyFiles:
    """`Files` below a directory that somebody else owns."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def read(self, path: str, position: int, size: int) -> bytes:
        try:
            fd = os.open(self._root / path, os.O_RDONLY | os.O_CLOEXEC)
        except (FileNotFoundError, NotADirectoryError):
            return b""
        try:
            return os.pread(fd, size, position)
        finally:
            os.close(fd)

    def size(self, path: str) -> int:
        try:
            return (self._root / path).stat().st_size
        except (FileNotFoundError, NotADirectoryError):
            return -1

    def list(self, directory: str) -> list[str]:
        try:
            return sorted(path.name for path in (self._root / directory).iterdir())
        except (FileNotFoundError, NotADirectoryError):
            return []

    def volume(self) -> Volume:
        return Volume(str(self._root), -1, -1)


class Replica(msgspec.Struct):
    """One of the copies of a partition that are to be looked at."""

    tp: TopicPartition
    broker: int
    data_dir: Path
    name: str
    """Of its broker's directory."""
    topic_id: bytes
    is_in_sync: bool
    end: int = -1
    """Exclusive offset up to which its log holds what a running broker has told; -1: to the end
    of its files, because nobody writes them."""
    found: list[Damage] = []
    notes: list[str] = []
    segments: int = 0
    size: int = 0
    """Bytes that were checked."""

    @property
    def is_moving(self) -> bool:
        return self.end >= 0

    def add(self, file: str, what: str, offset: int = -1, position: int = -1) -> None:
        topic, partition = self.tp
        path = f"{self.name}/{file}"
        self.found.append(Damage(topic, partition, self.broker, path, what, offset, position))


def check_log(replica: Replica) -> Iterator[Place]:
    """Its sound batches up to the first that is not, where it ends."""
    files = ReadOnlyFiles(replica.data_dir)
    directory = str(replica.tp)
    names = files.list(directory)
    if not names:
        if replica.is_in_sync:
            replica.add(directory, "the partition's directory is missing")
        return
    if damage.FILE_NAME in names:
        replica.notes.append(f"{replica.name}/{directory}: marked as damaged, the next start looks")
    _check_small_files(replica, files, names)
    epochs = _epochs(replica, files, names)
    bases = base_offsets(names, LOG)
    expected = bases[0] if bases else 0
    for number, base_offset in enumerate(bases):
        if 0 <= replica.end <= base_offset:
            return
        path = f"{directory}/{file_name(base_offset, LOG)}"
        if base_offset != expected:
            replica.add(path, f"begins at {base_offset}, behind {expected}", expected)
            return
        replica.segments += 1
        is_last = number + 1 == len(bases)
        for place in _check_segment(replica, files, path, base_offset, epochs, is_last=is_last):
            expected = place.header[0] + place.header[6] + 1
            yield place
        if replica.found:
            return
        if not is_last and bases[number + 1] != expected:
            replica.add(path, f"ends at {expected}, before {bases[number + 1]}", expected)
            return
        if 0 <= replica.end <= expected:
            return


def _check_segment(
    replica: Replica,
    files: ReadOnlyFiles,
    path: str,
    base_offset: int,
    epochs: LeaderEpochs | None,
    *,
    is_last: bool,
) -> Iterator[Place]:
    size = max(files.size(path), 0)
    entries, times = _indexes(replica, files, path, base_offset, is_sealed=not is_last and size > 0)
    position, expected = 0, base_offset
    try:
        for position, header in checked_batches(files, path, (0, size), base_offset, epochs):
            last_offset = header[0] + header[6]
            batch_size = header[1] + LENGTH_OVERHEAD
            expected, replica.size = last_offset + 1, replica.size + batch_size
            entry = entries.pop(position, None)
            if entry is not None and entry != last_offset:
                what = f"its entry of byte {position} says {entry}, the log {last_offset}"
                replica.add(sibling(path, INDEX), what, last_offset, position)
            time = times.pop(last_offset, None)
            if time is not None and time != header[8]:
                what = f"its entry of {last_offset} says {time}, the log {header[8]}"
                replica.add(sibling(path, TIME_INDEX), what, last_offset, position)
            yield Place(header, path, position, batch_size)
            position += batch_size
            if 0 <= replica.end <= expected:
                # Behind it somebody may be writing.
                return
    except CorruptLogError as error:
        what = str(error).removeprefix(f"{path}: ")
        is_torn = (
            is_last
            and not replica.is_moving
            and damage.is_torn(files, path, position, size, expected)
        )
        if is_torn:
            cut = f"{size - position} bytes from byte {position} on are torn"
            replica.notes.append(f"{replica.name}/{path}: {cut}; the next start cuts them off")
        else:
            replica.add(path, what, expected, position)
        return
    if replica.is_moving and is_last:
        return
    for position, entry in sorted(entries.items()):
        replica.add(sibling(path, INDEX), f"no batch begins at byte {position}", entry, position)
    for offset in sorted(times):
        replica.add(sibling(path, TIME_INDEX), f"no batch ends at {offset}", offset)


def _indexes(
    replica: Replica, files: ReadOnlyFiles, path: str, base_offset: int, *, is_sealed: bool
) -> tuple[dict[int, int], dict[int, int]]:
    """{position: last offset of the batch there}, {last offset: timestamp}."""
    offsets, times = OffsetIndex(), TimeIndex()
    index, time_index = sibling(path, INDEX), sibling(path, TIME_INDEX)
    for name in (index, time_index):
        size = files.size(name)
        if size < 0:
            if is_sealed:
                replica.add(name, "is missing")
            continue
        data = files.read(name, 0, size)
        read: OffsetIndex | TimeIndex | None
        read = OffsetIndex.decode(data) if name == index else TimeIndex.decode(data)
        if read is None:
            replica.add(name, f"{size} bytes that are no index")
        elif isinstance(read, OffsetIndex):
            offsets = read
        else:
            times = read
    return (
        {at: base_offset + o for o, at in zip(offsets.offsets, offsets.positions, strict=True)},
        {base_offset + o: time for time, o in zip(times.timestamps, times.offsets, strict=True)},
    )


def _check_small_files(replica: Replica, files: ReadOnlyFiles, names: list[str]) -> None:
    directory = str(replica.tp)
    path = f"{directory}/{METADATA_FILE}"
    try:
        if parse_metadata(files.read(path, 0, 4096)) != replica.topic_id:
            replica.add(path, "is of another topic")
    except CorruptLogError as error:
        replica.add(path, str(error))
    for offset in base_offsets(names, SNAPSHOT):
        path = f"{directory}/{file_name(offset, SNAPSHOT)}"
        try:
            Producers.decode(files.read(path, 0, max(files.size(path), 0)))
        except CorruptLogError as error:
            replica.add(path, str(error), offset)


def _epochs(replica: Replica, files: ReadOnlyFiles, names: list[str]) -> LeaderEpochs | None:
    path = f"{replica.tp}/{leader_epochs.FILE_NAME}"
    if leader_epochs.FILE_NAME not in names:
        return None
    try:
        return LeaderEpochs.decode(files.read(path, 0, max(files.size(path), 0)))
    except CorruptLogError as error:
        replica.add(path, str(error))
        return None


def base_offsets(names: list[str], suffix: str) -> list[int]:
    """Of the files with that suffix, rising; what is named otherwise is left out."""
    stems = (name.removesuffix(suffix) for name in names if name.endswith(suffix))
    return sorted(int(stem) for stem in stems if len(stem) == OFFSET_DIGITS and stem.isdigit())


def sibling(path: str, suffix: str) -> str:
    """The index or time index of a segment's log."""
    return path.removesuffix(LOG) + suffix
