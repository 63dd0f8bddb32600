"""What leaves a log at its start, and when a segment is rolled."""

from __future__ import annotations

from random import Random

import pytest

from kcluster.config import LogConfig
from kcluster.core import traces
from kcluster.core.log.partition_log import Restart
from kcluster.core.log.producers import Producers
from kcluster.core.log.retention import DeletionDue
from kcluster.errors import ApiError, ErrorCode
from tests.core.log.bench import DIRECTORY, WALL_MS, Bench, batch

SIZE = len(batch(size=100))


def filled(config: LogConfig, count: int = 10, step_ms: int = 1000) -> Bench:
    bench = Bench(config)
    for n in range(count):
        bench.produce(batch(size=100, timestamp=WALL_MS + n * step_ms))
        bench.commit()
    bench.log.set_high_watermark(count)
    return bench


def segments_of(records: int, **more: int) -> LogConfig:
    return LogConfig(segment_bytes=SIZE * records, **more)


def test_segments_older_than_retention_ms_go() -> None:
    bench = filled(segments_of(2, retention_ms=5000))
    bench.turn.wall_ms = WALL_MS + 8001
    assert bench.log.apply_retention(bench.turn) == [0, 2]
    assert bench.log.log_start_offset == 4
    assert bench.log.epochs.entries() == [(0, 4)]
    with pytest.raises(ApiError) as caught:
        bench.log.read(3, 100, 10)
    assert caught.value.code == ErrorCode.OFFSET_OUT_OF_RANGE


def test_segments_beyond_retention_bytes_go() -> None:
    bench = filled(segments_of(2, retention_bytes=SIZE * 5, retention_ms=-1))
    assert bench.log.apply_retention(bench.turn) == [0, 2]
    assert bench.log.size_bytes == SIZE * 6


def test_nothing_above_the_high_watermark_goes() -> None:
    bench = filled(segments_of(2, retention_ms=0))
    bench.turn.wall_ms = WALL_MS + 10**9
    bench.log.set_high_watermark(5)
    assert bench.log.apply_retention(bench.turn) == [0, 2]


def test_the_active_segment_is_rolled_before_it_goes() -> None:
    bench = filled(segments_of(4, retention_ms=0))
    bench.turn.wall_ms = WALL_MS + 10**9
    assert bench.log.apply_retention(bench.turn) == [0, 4, 8]
    bench.commit()
    assert bench.log.segments() == [(10, 0)]
    assert bench.log.log_start_offset == bench.log.log_end_offset == 10
    log = bench.reopen()
    assert (log.log_start_offset, log.log_end_offset) == (10, 10)
    assert log.apply_retention(bench.turn) == []


def test_records_without_timestamps_age_from_when_they_were_seen() -> None:
    bench = Bench(segments_of(1, retention_ms=5000))
    bench.produce(batch(size=100, timestamp=-1))
    bench.produce(batch(size=100, timestamp=-1))
    bench.commit()
    bench.log.set_high_watermark(2)
    bench.turn.wall_ms = WALL_MS + 5000
    assert bench.log.apply_retention(bench.turn) == []
    bench.turn.wall_ms += 1
    assert bench.log.apply_retention(bench.turn) == [0, 1]


def test_deleted_files_stay_for_the_delay_under_another_name() -> None:
    bench = filled(segments_of(2, retention_ms=5000, file_delete_delay_ms=700))
    bench.turn.wall_ms = WALL_MS + 6001
    bench.turn.now_ms = 50
    assert bench.log.apply_retention(bench.turn) == [0]
    [(due_ms, timer)] = bench.turn.timers
    assert due_ms == 750
    assert isinstance(timer, DeletionDue)
    assert traces.SegmentDeleted("orders", 0, 0, SIZE * 2, "retention.ms") in bench.turn.traces
    bench.commit()
    deleted = [name for name in bench.disk.list(DIRECTORY) if name.endswith(".deleted")]
    assert len(deleted) == 3
    assert not bench.failed
    timer.carry_out(bench.turn)
    bench.commit()
    assert not [name for name in bench.disk.list(DIRECTORY) if name.endswith(".deleted")]


def test_delete_records_stops_at_the_high_watermark() -> None:
    bench = filled(segments_of(2))
    bench.log.set_high_watermark(7)
    with pytest.raises(ApiError) as caught:
        bench.log.advance_log_start(bench.turn, 8)
    assert caught.value.code == ErrorCode.OFFSET_OUT_OF_RANGE
    bench.log.advance_log_start(bench.turn, 7)
    assert bench.log.log_start_offset == 7
    assert bench.log.chain.bases[0] == 6
    bench.log.advance_log_start(bench.turn, 3)
    assert bench.log.log_start_offset == 7


def test_a_segment_is_rolled_by_the_age_of_its_first_record() -> None:
    bench = Bench(LogConfig(segment_ms=5000))
    for at in (0, 5000, 5001, 6000):
        bench.produce(batch(timestamp=WALL_MS + at))
    assert [base for base, _ in bench.log.segments()] == [0, 2]
    bench.produce(batch(timestamp=-1))
    bench.turn.wall_ms = WALL_MS + 5001
    bench.produce(batch(timestamp=-1))
    assert [base for base, _ in bench.log.segments()] == [0, 2, 5]


def test_jitter_makes_a_segment_younger_by_less_than_its_bound() -> None:
    config = LogConfig(segment_ms=5000, segment_jitter_ms=1000)
    bench = Bench(config)
    jitter_ms = bench.log.chain.active.jitter_ms(config)
    assert 0 < jitter_ms < 1000
    bench.produce(batch(timestamp=WALL_MS))
    bench.produce(batch(timestamp=WALL_MS + 5000 - jitter_ms))
    assert len(bench.log.segments()) == 1
    bench.produce(batch(timestamp=WALL_MS + 5001 - jitter_ms))
    assert len(bench.log.segments()) == 2


def test_a_segment_is_rolled_when_its_index_is_full() -> None:
    bench = Bench(LogConfig(segment_index_bytes=48, index_interval_bytes=0))
    for n in range(9):
        bench.produce(batch(timestamp=WALL_MS + n))
    assert [base for base, _ in bench.log.segments()] == [0, 4, 8]


def test_a_segment_is_rolled_when_offsets_outgrow_the_index() -> None:
    bench = Bench()
    bench.log.truncate_fully(bench.turn, 0)
    bench.produce()
    bench.log.chain.active.base_offset -= 2**31 - 2
    bench.produce()
    assert len(bench.log.segments()) == 1
    bench.produce()
    assert len(bench.log.segments()) == 2


def test_timestamps_are_found_exactly() -> None:
    bench = Bench(segments_of(3, index_interval_bytes=0))
    for epoch, first in enumerate((1000, 5000, 3000, 9000, 2000)):
        bench.produce(batch(3, size=30, timestamp=first), epoch)
    bench.commit()
    log = bench.log
    assert log.offset_for_timestamp(0) == (0, 1000, 0)
    assert log.offset_for_timestamp(1002) == (2, 1002, 0)
    assert log.offset_for_timestamp(1003) == (3, 5000, 1)
    assert log.offset_for_timestamp(5003) == (9, 9000, 3)
    assert log.offset_for_timestamp(9003) is None
    assert log.max_timestamp() == (11, 9002)


def test_an_empty_log_has_no_timestamps() -> None:
    log = Bench().log
    assert log.offset_for_timestamp(0) is None
    assert log.max_timestamp() == (-1, -1)


def test_what_was_synced_behind_a_deleted_segment_counts_as_flushed() -> None:
    """Found by the log model: nothing was left to sync, and the flushed end stood still, with
    flush.messages=1 for ever."""
    bench = filled(segments_of(1), 2)
    bench.reopen(Restart.LOSSY)
    log = bench.log
    assert [segment.base_offset for segment in log.chain] == [0, 1]
    log.roll(bench.turn)
    bench.commit()
    assert log.flushed_end == 0, "the first segment has not been synced since"
    log.set_high_watermark(2)
    log.advance_log_start(bench.turn, 1)
    bench.commit()
    assert log.flushed_end == 2


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("by", ["retention", "delete records"])
def test_a_producer_whose_batches_went_is_known_after_a_power_cut(by: str, seed: int) -> None:
    """Seed 800645: the snapshot of the roll was torn, what it told stood nowhere else, and a batch
    sent again was appended a second time."""
    bench = Bench(segments_of(2, retention_ms=5000))
    for n in range(4):
        producer = {"producer_id": 7, "producer_epoch": 0, "base_sequence": n} if n < 2 else {}
        bench.produce(batch(size=100, timestamp=WALL_MS + n * 1000, **producer))
        bench.commit()
    bench.log.set_high_watermark(4)
    if by == "retention":
        bench.turn.wall_ms = WALL_MS + 6001
        assert bench.log.apply_retention(bench.turn) == [0]
    else:
        bench.log.advance_log_start(bench.turn, 2)
    bench.log_start_offset = 2
    bench.commit()
    bench.disk.lose_power(Random(seed))
    bench.reopen(Restart.LOSSY)
    again = bench.produce(batch(size=100, producer_id=7, producer_epoch=0, base_sequence=1))
    assert (again.is_duplicate, again.base_offset) == (True, 1)


@pytest.mark.parametrize("seed", range(20))
def test_a_log_that_starts_afresh_knows_its_producers_after_a_power_cut(seed: int) -> None:
    bench = Bench()
    producers = Producers()
    producers.update((0, 0, 0, 2, 0, 0, 0, 0, 0, 7, 0, 1, 1), 41, WALL_MS)
    bench.log.truncate_fully(bench.turn, 42, producers)
    bench.log_start_offset = 42
    bench.commit()
    bench.disk.lose_power(Random(seed))
    assert list(bench.reopen(Restart.LOSSY).producers.view()) == [7]
