"""The work itself: reads segments and writes what is left of them. Pure, over `Files`.

    pass 1   the dirty part: {key: last offset}, as far as memory goes; of all, the last batches
             of each producer
    pass 2   all segments, as many as fit into one: batch by batch copied, shortened, or gone

A generator of disk operations: whoever runs it carries each out before it asks for the next, a
process of its own in the real world, a simulated one in the simulator. Every batch is checked,
its CRC and against the leader epoch cache, before it is copied: damage must not get a new CRC.

A record stays while it is the last of its key. A tombstone (a record without a value) stays for
`delete.retention.ms` after the first pass that saw it, so that a reader who began before that
pass hears of it; the batch says until when, in place of its base timestamp (KIP-534). Records
without a key go: there is nothing that they are the last of. What cannot be looked into stays
as it is: control batches, transactional ones, and those whose records nobody can read.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Iterator
from typing import Final

import msgspec

from kcluster.config import LONG_MAX, LogConfig
from kcluster.core.log.compaction.job import (
    OUTCOME_FILE,
    Group,
    Job,
    Outcome,
    Source,
    cleaned_paths,
    encode,
    read_job,
)
from kcluster.core.log.index import OFFSET_ENTRY_BYTES, TIME_ENTRY_BYTES
from kcluster.core.log.leader_epochs import LeaderEpochs
from kcluster.core.log.producers import BATCHES_KEPT
from kcluster.core.log.scan import Header, checked_batches
from kcluster.core.log.segment import (
    INDEX,
    LOG,
    RELATIVE_OFFSET_MAX,
    TIME_INDEX,
    Segment,
    file_name,
)
from kcluster.core.turn import Append, Buffer, DiskOperation, Files, Replace, Sync, Turn
from kcluster.errors import CorruptLogError, RemoteProtocolError
from kcluster.wire.record_walk import Walked, body_of, empty_batch, walk, with_records
from kcluster.wire.records import (
    CONTROL,
    DELETE_HORIZON,
    HEADER_BYTES,
    LENGTH_OVERHEAD,
    TRANSACTIONAL,
)

ENTRY_BYTES: Final = 150
"""What one key costs beside its own bytes: an entry of a dict, and two objects."""

WRITE_BYTES: Final = 1 << 18
"""Gathered before they are written: in one go, but not so long that others wait for it."""

OPAQUE: Final = CONTROL | TRANSACTIONAL

Operations = Iterator[DiskOperation]


def carry_out(files: Files) -> Operations:
    """The whole of a compactor's life: from the job's file to the outcome's."""
    job = read_job(files)
    try:
        outcome = yield from clean(job, files)
    except CorruptLogError as error:
        outcome = Outcome(job.number, damage=str(error))
    yield Replace(OUTCOME_FILE, encode(outcome), durable=True)


def clean(job: Job, files: Files) -> Generator[DiskOperation, None, Outcome]:
    """Raises CorruptLogError when what it reads is not what was written."""
    return (yield from Cleaning(job, files).run())


class Cleaning:
    def __init__(self, job: Job, files: Files) -> None:
        self.job = job
        self.files = files
        self.epochs = LeaderEpochs()
        for epoch, start in job.epochs:
            self.epochs.assign(epoch, start)
        self.latest: dict[bytes, int] = {}
        """Last offset of each key of the dirty part."""
        self.mapped_end = job.first_dirty_offset
        """Exclusive: behind it nothing is known, and all stays."""
        self.kept_bases: set[int] = set()
        """Base offsets of the last batches of each producer."""
        self.records_before = self.records_after = 0

    def run(self) -> Generator[DiskOperation, None, Outcome]:
        self._look()
        sources = [s for s in self.job.sources if s.base_offset < self.mapped_end]
        groups: list[Group] = []
        bytes_before, bytes_after = sum(source.size for source in sources), 0
        while sources:
            output = Output(self.job, self.files, sources[0].base_offset)
            yield from output.begin()
            members: list[Source] = []
            is_changed = False
            while sources and (not members or output.has_room_for(sources[0])):
                members.append(sources.pop(0))
                is_changed |= yield from self._rewrite(members[-1], output)
            yield from output.end()
            is_changed |= output.joined or len(members) > 1
            assert output.segment.end_offset == members[-1].end_offset, output.segment
            bytes_after += output.segment.size
            if is_changed:
                bases = [source.base_offset for source in members]
                groups.append(Group(bases[0], members[-1].end_offset, output.segment.size, bases))
        return Outcome(
            self.job.number,
            groups,
            self.mapped_end,
            bytes_before,
            bytes_after,
            self.records_before,
            self.records_after,
        )

    def _batches(self, source: Source) -> Iterator[tuple[int, Header]]:
        return checked_batches(
            self.files, _path(self.job, source), (0, source.size), source.base_offset, self.epochs
        )

    def _read(self, source: Source, position: int, header: Header) -> bytes:
        path, size = _path(self.job, source), header[1] + LENGTH_OVERHEAD
        data = self.files.read(path, position, size)
        if len(data) != size:
            raise CorruptLogError(f"{path}: a batch is cut short at {position}")
        return data

    # --- pass 1 ---------------------------------------------------------------------------

    def _look(self) -> None:
        active = set(self.job.producers)
        last: dict[int, tuple[int, deque[int]]] = {}
        """By producer id: its epoch, and base offsets of its last batches."""
        room = self.job.map_bytes
        for source in self.job.sources:
            end = source.base_offset
            for position, header in self._batches(source):
                end = header[0] + header[6] + 1
                if header[9] in active:
                    epoch, bases = last.get(header[9], (-1, deque(maxlen=BATCHES_KEPT)))
                    if epoch != header[10]:
                        bases = deque(maxlen=BATCHES_KEPT)
                    bases.append(header[0])
                    last[header[9]] = header[10], bases
                if end > self.mapped_end and room > 0:
                    room -= self._map(source, position, header)
                    self.mapped_end = end
            if end != source.end_offset:
                raise CorruptLogError(f"{_path(self.job, source)} ends at {end}")
        self.kept_bases = {base for _, bases in last.values() for base in bases}

    def _map(self, source: Source, position: int, header: Header) -> int:
        """Note the keys of one batch; what that costs, in bytes."""
        if not header[12] or header[5] & OPAQUE:
            return 0
        try:
            walked = walk(header, body_of(header, self._read(source, position, header)))
        except RemoteProtocolError:
            return 0
        latest, base_offset = self.latest, header[0]
        cost = 0
        for _, _, _, delta, key, _ in walked:
            if key is not None:
                if key not in latest:
                    cost += ENTRY_BYTES + len(key)
                latest[key] = base_offset + delta
        return cost

    # --- pass 2 ---------------------------------------------------------------------------

    def _rewrite(self, source: Source, output: Output) -> Generator[DiskOperation, None, bool]:
        """Put what is left of `source` behind `output`; whether a batch of it has changed."""
        is_changed = False
        for position, header in self._batches(source):
            count = header[12]
            self.records_before += count
            data: bytes | None = None
            if count or header[0] in self.kept_bases:
                data = whole = self._read(source, position, header)
                is_mapped = header[0] + header[6] < self.mapped_end
                if count and is_mapped and not header[5] & OPAQUE:
                    data, count = self._sift(header, whole)
                    if data is None and header[0] in self.kept_bases:
                        data = _without_records(header)
                is_changed |= data is not whole
            else:
                is_changed |= header[9] >= 0
            self.records_after += count
            if data is None:
                output.leave_out(header)
            else:
                output.add(header, data)
            if output.waiting_bytes >= WRITE_BYTES:
                yield from output.write()
        return is_changed

    def _sift(self, header: Header, whole: bytes) -> tuple[bytes | None, int]:
        """What is left of a batch, None for nothing; and how many records that is."""
        try:
            body = body_of(header, whole)
            walked = walk(header, body)
        except RemoteProtocolError:
            # Its CRC holds, so its producer sent it so: no key of it can be told.
            return whole, header[12]
        horizon = header[7] if header[5] & DELETE_HORIZON else None
        is_over = horizon is not None and self.job.wall_ms >= horizon
        latest, base_offset = self.latest, header[0]
        kept: list[Walked] = []
        has_tombstone = False
        for record in walked:
            _, _, _, delta, key, has_value = record
            if key is None or base_offset + delta < latest.get(key, -1):
                continue
            if not has_value:
                if is_over:
                    continue
                has_tombstone = True
            kept.append(record)
        if not kept:
            return None, 0
        new_horizon: int | None = None
        if has_tombstone and horizon is None:
            new_horizon = min(self.job.wall_ms + self.job.delete_retention_ms, LONG_MAX)
        elif len(kept) == len(walked):
            return whole, len(kept)
        return with_records(header, body, kept, new_horizon), len(kept)


def _without_records(header: Header) -> bytes:
    """What its producer said of it stays."""
    return empty_batch(
        header[0],
        header[0] + header[6],
        header[2],
        header[8],
        attributes=header[5],
        producer=(header[9], header[10], header[11]),
    )


def _path(job: Job, source: Source) -> str:
    return f"{job.directory}/{file_name(source.base_offset, LOG)}"


class Run(msgspec.Struct):
    """Batches that are gone, of one leader epoch, one behind the other."""

    base_offset: int
    last_offset: int
    leader_epoch: int
    max_timestamp: int


class Output:
    """A cleaned segment, as it is written."""

    def __init__(self, job: Job, files: Files, base_offset: int) -> None:
        config = LogConfig(
            index_interval_bytes=job.index_interval_bytes,
            segment_index_bytes=job.segment_index_bytes,
        )
        self._job = job
        self._files = files
        self.segment = Segment(files, job.directory, base_offset, config, job.wall_ms)
        """Never read: it builds the indexes."""
        self.paths = cleaned_paths(job.directory, base_offset)
        self.waiting_bytes = 0
        self.joined = False
        """An empty batch stands for more than one batch."""
        self._waiting: list[Buffer] = []
        self._run: Run | None = None

    def begin(self) -> Operations:
        # What an earlier compactor left of it must not lie behind its end.
        yield Replace(self.paths[2], b"")

    def has_room_for(self, source: Source) -> bool:
        """Whether `source` fits behind what there is by now, even if all of it stays: so that small
        segments do not pile up. Kafka counts what its members were, not what is left of them."""
        job, segment = self._job, self.segment
        stem = f"{job.directory}/{file_name(source.base_offset, '')}"
        offset_bytes = OFFSET_ENTRY_BYTES * (len(segment.offset_index) + 1)
        time_bytes = TIME_ENTRY_BYTES * (len(segment.time_index) + 2)
        return (
            segment.size + HEADER_BYTES + source.size <= job.segment_bytes
            and offset_bytes + self._files.size(stem + INDEX) <= job.segment_index_bytes
            and time_bytes + self._files.size(stem + TIME_INDEX) <= job.segment_index_bytes
            and source.end_offset - 1 - segment.base_offset <= RELATIVE_OFFSET_MAX
        )

    def add(self, header: Header, data: bytes) -> None:
        """`data` takes the place of the batch that `header` was of."""
        self._end_run()
        self._append(data, header[0] + header[6], int.from_bytes(data[35:43], "big", signed=True))

    def leave_out(self, header: Header) -> None:
        base_offset, last_offset = header[0], header[0] + header[6]
        run = self._run
        if (
            run is not None
            and run.leader_epoch == header[2]
            and last_offset - run.base_offset <= RELATIVE_OFFSET_MAX
        ):
            run.last_offset = last_offset
            run.max_timestamp = max(run.max_timestamp, header[8])
            self.joined = True
        else:
            self._end_run()
            self._run = Run(base_offset, last_offset, header[2], header[8])

    def _end_run(self) -> None:
        run, self._run = self._run, None
        if run is not None:
            data = empty_batch(
                run.base_offset, run.last_offset, run.leader_epoch, run.max_timestamp
            )
            self._append(data, run.last_offset, run.max_timestamp)

    def _append(self, data: bytes, last_offset: int, max_timestamp: int) -> None:
        segment = self.segment
        segment.add(last_offset, len(data), max_timestamp)
        # Nothing staged keeps its place in memory.
        segment.written_size = segment.size
        segment.bound_known()
        self._waiting.append(data)
        self.waiting_bytes += len(data)

    def write(self) -> Operations:
        buffers, size = self._waiting, self.waiting_bytes
        if buffers:
            self._waiting, self.waiting_bytes = [], 0
            yield Append(self.paths[2], self.segment.size - size, NOBODY, buffers, size)

    def end(self) -> Operations:
        """All of it is on the disk, durable."""
        self._end_run()
        yield from self.write()
        segment = self.segment
        yield Replace(self.paths[0], segment.offset_index.encode())
        largest = segment.max_timestamp, segment.max_timestamp_offset - segment.base_offset
        yield Replace(self.paths[1], segment.time_index.encode(*largest))
        yield Sync(self.paths[2], 0)


class Nobody:
    """Owner of an append whose end is told by whoever carries it out."""

    def written(self, turn: Turn, append: Append) -> None:
        raise AssertionError("a compactor has no turns")

    def write_failed(self, turn: Turn, append: Append, errno: int) -> None:
        raise AssertionError("a compactor has no turns")


NOBODY: Final = Nobody()
