"""A log that is compacted, on a bench: the whole way from plan to swap, operation by operation."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from random import Random

from kcluster.config import LogConfig
from kcluster.core.log.compaction import plan
from kcluster.core.log.compaction.cleaning import clean
from kcluster.core.log.compaction.job import Job, Outcome
from kcluster.core.log.compaction.swap import Stage, Swap
from kcluster.core.turn import DiskOperation
from kcluster.sim.disk import SimDisk
from kcluster.wire.compression import Compression
from kcluster.wire.records import Record, build_batch
from tests.core.log.bench import WALL_MS, Bench

Content = dict[bytes, bytes | None]
"""The last value of each key; None where it was deleted."""

MAP_BYTES = 1 << 20


def compacted_config(**more: int) -> LogConfig:
    values = {
        "segment_bytes": 1500,
        "index_interval_bytes": 200,
        "retention_ms": -1,
        "min_cleanable_dirty_ratio": 0,
        "is_compacted": True,
        "applies_retention": False,
        **more,
    }
    return LogConfig(**values)  # type: ignore[arg-type]


class Killed(BaseException):
    pass


class FragileDisk(SimDisk):
    """Dies before one of its operations."""

    def __init__(self) -> None:
        super().__init__()
        self.left = -1
        """Operations until then; -1 for any."""

    def perform(self, operation: DiskOperation) -> int:
        if self.left == 0:
            raise Killed
        self.left -= 1
        return super().perform(operation)


def clean_now(job: Job, disk: SimDisk) -> Outcome:
    """What the compactor's process does."""
    work = clean(job, disk)
    try:
        while True:
            assert disk.perform(next(work)) == 0
    except StopIteration as end:
        outcome: Outcome = end.value
        return outcome


def compact(
    bench: Bench,
    *,
    map_bytes: int = MAP_BYTES,
    between: Callable[[], None] = lambda: None,
) -> Outcome | None:
    """One pass; None when there is nothing to do. `between` is called while the compactor works,
    and while the swap waits for its sync."""
    log = bench.log
    found = plan.plan(log, bench.turn)
    bench.commit()
    if found is None:
        return None
    outcome = clean_now(found.job(1, bench.turn.wall_ms, map_bytes), bench.disk)
    between()
    swap = Swap(log, outcome, found.segments)
    swap.prepare(bench.turn)
    bench.commit(synced=False)
    between()
    bench.end_syncs()
    if swap.stage is Stage.READY:
        swap.replace(bench.turn)
        bench.commit(synced=False)
        swap.replaced(bench.turn)
        bench.commit()
    assert not bench.failed, bench.failed
    assert not log.failure
    assert log.swap is None
    return outcome if swap.stage is Stage.DONE else None


def records_in(bench: Bench) -> Iterator[Record]:
    return bench.log.read_records(bench.log.log_start_offset, bench.log.log_end_offset)


def content(bench: Bench) -> Content:
    return {record.key or b"": record.value for record in records_in(bench)}


def living(content: Content) -> Content:
    """Without the deleted."""
    return {key: value for key, value in content.items() if value is not None}


class Writer:
    """Appends keyed records at random, and remembers what was written."""

    def __init__(self, bench: Bench, random: Random, keys: int = 8) -> None:
        self.bench = bench
        self.random = random
        self.keys = keys
        self.content: Content = {}
        self.records: dict[int, Record] = {}
        """All that were ever written, by offset."""
        self.batches: list[tuple[int, int, int, bytes]] = []
        """(base offset, last offset, leader epoch, bytes)."""
        self.epoch = 0
        self.serial = 0
        self.sequences: dict[int, int] = {}

    def append(self, *, producer_id: int | None = None, tombstones: float = 0.15) -> None:
        random = self.random
        records = []
        for _ in range(random.randint(1, 5)):
            self.serial += 1
            value = b"%d" % self.serial + bytes(random.choice([0, 5, 60]))
            records.append(
                Record(
                    None if random.random() < tombstones else value,
                    b"key-%d" % random.randrange(self.keys),
                    [("h", b"1")] if random.random() < 0.2 else (),
                    WALL_MS + self.serial * 3 + random.randint(-100, 100),
                )
            )
        if producer_id is None:
            producer_id = random.choice([-1, -1, 1, 2, 3])
        known = self.bench.log.producers.view().get(producer_id)
        sequence = (known[1][-1][1] + 1 if known else 0) if producer_id >= 0 else -1
        data = build_batch(
            records,
            compression=random.choice([Compression.NONE, Compression.NONE, Compression.GZIP]),
            producer_id=producer_id,
            producer_epoch=0 if producer_id >= 0 else -1,
            base_sequence=sequence,
        )
        appended = self.bench.produce(data, self.epoch)
        self.batches.append((appended.base_offset, appended.last_offset, self.epoch, bytes(data)))
        for index, record in enumerate(records):
            record.offset = appended.base_offset + index
            self.records[record.offset] = record
            self.content[record.key or b""] = record.value

    def fill(self, batches: int, **how: float) -> None:
        for _ in range(batches):
            self.append(tombstones=how.get("tombstones", 0.15))
            if self.random.random() < how.get("elections", 0.05):
                self.epoch += 1
                self.bench.log.assign_epoch(
                    self.bench.turn, self.epoch, self.bench.log.log_end_offset
                )
        self.bench.commit()
        self.bench.log.set_high_watermark(self.bench.log.log_end_offset)
