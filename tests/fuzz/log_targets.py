"""What lies on the disk: a partition's files, the metadata log's, and the small ones.

Recovery either ends with a log that holds what it says it holds, or says what is damaged.
"""

from __future__ import annotations

import struct

from fastcrc import crc32

from kcluster.config import LogConfig
from kcluster.core.log.checkpoints import format_offsets, parse_offsets
from kcluster.core.log.leader_epochs import FILE_NAME as EPOCHS_FILE
from kcluster.core.log.leader_epochs import LeaderEpochs
from kcluster.core.log.partition_log import PartitionLog, Restart
from kcluster.core.log.partition_metadata import format_metadata, parse_metadata
from kcluster.core.log.producers import Producers
from kcluster.core.log.segment import INDEX, LOG, SNAPSHOT, TIME_INDEX, file_name
from kcluster.core.metadata import snapshot as snapshots
from kcluster.core.metadata.image import ClusterImage
from kcluster.core.metadata.metadata_log import DIRECTORY as METADATA_DIRECTORY
from kcluster.core.metadata.metadata_log import MetadataLog
from kcluster.core.metadata.segments import file_name as metadata_name
from kcluster.core.turn import Append, Sync, Synced, Turn
from kcluster.errors import CorruptLogError
from kcluster.sim.disk import SimDisk, SimFile
from kcluster.wire.records import HEADER, LENGTH_OVERHEAD, check_crc
from tests.core.log.bench import DIRECTORY, WALL_MS, Bench, batch
from tests.fuzz.inputs import Reader, mended
from tests.fuzz.wire_targets import replayed

CONFIG = LogConfig(segment_bytes=2000, index_interval_bytes=0, retention_ms=-1)
RESTARTS = (Restart.CRASH, Restart.CLEAN, Restart.LOSSY)
INT64_MAX = (1 << 63) - 1
MAGIC_BYTES = 20
"""Of a snapshot of the metadata log."""


def put(disk: SimDisk, path: str, data: bytes) -> None:
    disk.files[path] = disk.durable[path] = SimFile(bytearray(data), data, len(data))


# --- a partition's directory --------------------------------------------------------------


def partition(data: bytes) -> None:
    """Numbers: how it restarted (2 bits), repair, CRCs mended, a second segment; which files are
    there; recovery point; log start; base offset of the second segment; offset of the producer
    snapshot. Parts: log, offset index, time index, the second segment's, epochs, snapshot."""
    reader = Reader(data)
    how, present = reader.number(), reader.number()
    recovery_point, log_start = reader.number(), reader.number()
    base_offset, snapshot_offset = reader.number(), reader.number()
    names = [file_name(0, LOG), file_name(0, INDEX), file_name(0, TIME_INDEX)]
    if how & 16:
        names += [file_name(base_offset, suffix) for suffix in (LOG, INDEX, TIME_INDEX)]
    names += [EPOCHS_FILE, file_name(snapshot_offset, SNAPSHOT)]
    disk = SimDisk()
    for number, name in enumerate(names):
        content = reader.part()
        if present >> number & 1:
            if how & 8 and name.endswith(LOG):
                content = mended(content)
            put(disk, f"{DIRECTORY}/{name}", content)
    restart = RESTARTS[(how & 3) % 3]
    bench = Bench(CONFIG)
    bench.disk = disk
    bench.recovery_point, bench.log_start_offset = recovery_point, log_start
    try:
        log = bench.reopen(restart, repair=bool(how & 4))
    except CorruptLogError:
        assert not bench.turn.disk, "a refused log is left as it was"
        return
    assert not bench.failed
    is_scanned = restart is not Restart.CLEAN and recovery_point == 0
    try:
        stands(bench, log)
        _goes_on(bench)
    except CorruptLogError:
        # Found when it was read: what is believed at the start is checked before it is served.
        assert not is_scanned


def stands(bench: Bench, log: PartitionLog) -> None:
    """What the log says of itself is so."""
    assert 0 <= log.log_start_offset <= log.written_end == log.log_end_offset <= INT64_MAX
    assert log.flushed_end <= log.written_end
    entries = log.epochs.entries()
    assert entries == sorted(entries)
    assert len({start for _, start in entries}) == len(entries)
    assert all(epoch >= 0 and start <= log.log_end_offset for epoch, start in entries)
    content = bench.content()
    position, expected = 0, None
    while position < len(content):
        header = HEADER.unpack_from(content, position)
        size = header[1] + LENGTH_OVERHEAD
        assert check_crc(content, position, size)
        assert header[0] == expected or (expected is None and header[0] <= log.log_start_offset)
        expected = header[0] + header[6] + 1
        position += size
    assert expected in (None, log.log_end_offset)
    for timestamp in (0, WALL_MS, INT64_MAX):
        found = log.offset_for_timestamp(timestamp)
        assert found is None or found[1] >= timestamp
    log.max_timestamp()
    for segment in log.chain:
        log.verify_segment(segment.base_offset)


def _goes_on(bench: Bench) -> None:
    """It is cut and appended to, and comes back after the next crash as it was."""
    log = bench.log
    middle = (log.log_start_offset + log.log_end_offset) // 2
    log.truncate_to(bench.turn, middle)
    bench.commit()
    assert log.log_end_offset <= max(middle, log.log_start_offset)
    bench.produce(batch(2), max(log.last_epoch, log.epochs.latest, 0))
    log.roll(bench.turn)
    bench.produce(batch(1), max(log.last_epoch, 0))
    bench.commit()
    assert not bench.failed
    log.set_high_watermark(log.log_end_offset)
    log.apply_retention(bench.turn)
    bench.commit()
    before = bench.content(), log.epochs.entries(), log.producers.view(), log.log_start_offset
    bench.log_start_offset = log.log_start_offset
    bench.recovery_point = 0
    again = bench.reopen(Restart.CRASH)
    stands(bench, again)
    after = bench.content(), again.epochs.entries(), again.producers.view(), again.log_start_offset
    assert after == before


def pushed(data: bytes) -> None:
    """What a leader pushes into a follower's log. First number: CRCs mended."""
    reader = Reader(data)
    choice, batches = reader.number(), reader.rest()
    if choice & 1:
        batches = mended(batches)
    bench = Bench(CONFIG)
    try:
        bench.replicate(batches)
    except CorruptLogError:
        assert bench.log.log_end_offset == 0
        assert not bench.turn.disk
        return
    bench.commit()
    stands(bench, bench.log)
    before = bench.content(), bench.log.producers.view()
    assert before[0] == batches
    stands(bench, bench.reopen(Restart.CRASH))
    assert (bench.content(), bench.log.producers.view()) == before


# --- small files --------------------------------------------------------------------------


def small_file(data: bytes) -> None:
    """Epoch checkpoint, offset checkpoint, partition.metadata, producer snapshot."""
    reader = Reader(data)
    choice, content = reader.number() % 4, reader.rest()
    try:
        match choice:
            case 0:
                epochs = LeaderEpochs.decode(content)
                assert LeaderEpochs.decode(epochs.encode()).entries() == epochs.entries()
                assert all(0 <= epoch < 1 << 31 for epoch in epochs.epochs)
                assert all(0 <= start <= INT64_MAX for start in epochs.starts)
            case 1:
                offsets = parse_offsets(content)
                assert parse_offsets(format_offsets(offsets)) == offsets
                assert all(0 <= offset <= INT64_MAX for offset in offsets.values())
                assert all(tp.partition < 1 << 31 for tp in offsets)
            case 2:
                topic_id = parse_metadata(content)
                assert parse_metadata(format_metadata(topic_id)) == topic_id
            case _:
                producers = Producers.decode(content)
                assert Producers.decode(producers.encode()).view() == producers.view()
    except CorruptLogError:
        return


# --- the metadata log ---------------------------------------------------------------------


def metadata(data: bytes) -> None:
    """Numbers: which of the files are there (3 bits), CRCs mended, checksum of the snapshot
    mended; base offset of the second segment; offset in the snapshot's name. Parts: log, second
    log, records of the snapshot or all of it."""
    reader = Reader(data)
    how, base_offset, snapshot_offset = reader.number(), reader.number(), reader.number()
    disk = SimDisk()
    names = [metadata_name(0), metadata_name(base_offset), snapshots.file_name(snapshot_offset)]
    for number, name in enumerate(names):
        content = reader.part()
        if not how >> number & 1:
            continue
        if how & 8 and name.endswith(LOG):
            content = mended(content)
        if how & 16 and name.endswith(snapshots.SUFFIX):
            content = _sealed(content, snapshot_offset)
        put(disk, f"{METADATA_DIRECTORY}/{name}", content)
    turn = Turn()
    log = MetadataLog(disk, 1)
    try:
        image = log.load(turn)
    except CorruptLogError:
        assert not turn.disk
        return
    assert image.next_offset == log.end_offset >= log.committed_offset
    replayed(image.records())
    _carry_out(disk, log, turn)
    assert log.committed_offset == log.end_offset
    assert log.image.records() == image.records()
    turn.clear()
    again = MetadataLog(disk, 2)
    assert again.load(turn).records() == image.records()
    assert again.end_offset == log.end_offset


def _sealed(payload: bytes, next_offset: int) -> bytes:
    """A snapshot with the head that `payload` should have."""
    magic = snapshots.encode_snapshot(ClusterImage())[:MAGIC_BYTES]
    head = struct.pack(">QIQ", next_offset, crc32.iscsi(payload), len(payload))
    return magic + head + payload


def _carry_out(disk: SimDisk, log: MetadataLog, turn: Turn) -> None:
    for _ in range(3):
        operations, turn.disk = turn.disk, []
        for operation in operations:
            assert disk.perform(operation) == 0
            if isinstance(operation, Append):
                log.written(turn, operation)
            elif isinstance(operation, Sync):
                log.synced(turn, Synced(operation.path, operation.token))
        log.settle(turn)
