"""Staged, written, failed: what an append changes, and what its failure undoes."""

from __future__ import annotations

import errno as errnos
from itertools import count

import pytest

from kcluster.config import LogConfig
from kcluster.core.log.partition_log import PartitionLog, Restart
from kcluster.core.turn import Append, Synced, Turn
from kcluster.errors import ApiError, CorruptLogError, ErrorCode
from kcluster.sim.disk import SimDisk
from kcluster.wire.records import Record, build_batch, patch
from tests.core.log.bench import DIRECTORY, TP, WALL_MS, Bench, batch

SMALL = LogConfig(segment_bytes=250, retention_ms=-1)


def refused_with(bench: Bench, data: bytearray | None = None) -> ErrorCode:
    with pytest.raises(ApiError) as caught:
        bench.produce(data)
    return caught.value.code


def test_what_is_staged_is_followed_but_not_read() -> None:
    bench = Bench()
    assert bench.produce(batch(3)).base_offset == 0
    assert bench.produce(batch(2)).base_offset == 3
    log = bench.log
    assert (log.written_end, log.log_end_offset) == (0, 5)
    assert log.read(0, 1000, 5).spans == []
    bench.commit()
    assert log.written_end == 5
    assert log.read(0, 1000, 5).next_offset == 5


def test_one_turn_is_one_append_a_file() -> None:
    bench = Bench()
    for _ in range(3):
        bench.produce(batch())
    appends = [op for op in bench.turn.disk if isinstance(op, Append)]
    assert len(appends) == 1
    assert len(appends[0].buffers) == 3


def test_nothing_of_a_request_is_held_after_its_turn() -> None:
    bench = Bench()
    data = batch(3)
    bench.produce(data)
    with pytest.raises(BufferError):
        data.append(0)
    bench.commit()
    data.append(0)


def test_a_copy_is_answered_with_the_offsets_of_the_first() -> None:
    bench = Bench()
    bench.produce(batch(4))
    first = bench.produce(batch(2, producer_id=5, producer_epoch=0, base_sequence=0))
    again = bench.produce(batch(2, producer_id=5, producer_epoch=0, base_sequence=0))
    assert again.is_duplicate
    assert (
        (again.base_offset, again.last_offset) == (first.base_offset, first.last_offset) == (4, 5)
    )
    assert bench.log.log_end_offset == 6


@pytest.mark.parametrize("restart", [Restart.CLEAN, Restart.CRASH])
def test_a_copy_is_recognised_after_a_restart(restart: Restart) -> None:
    bench = Bench(SMALL)
    for n in range(6):
        bench.produce(batch(2, producer_id=5, producer_epoch=0, base_sequence=2 * n))
        bench.commit()
    if restart is Restart.CLEAN:
        bench.shut_down()
    bench.reopen(restart)
    for n in range(1, 6):
        again = bench.produce(batch(2, producer_id=5, producer_epoch=0, base_sequence=2 * n))
        assert again.is_duplicate
        assert again.base_offset == 2 * n


def test_a_follower_recognises_a_copy_when_it_leads() -> None:
    bench = Bench()
    data = batch(2, producer_id=5, producer_epoch=0, base_sequence=0)
    patch(data, 0, 0, 1)
    bench.replicate(data)
    again = bench.produce(batch(2, producer_id=5, producer_epoch=0, base_sequence=0), epoch=2)
    assert again.is_duplicate


def test_a_follower_refuses_what_does_not_come_next() -> None:
    bench = Bench()
    good = batch(2)
    patch(good, 0, 0, 3)
    hole = batch(1)
    patch(hole, 0, 5, 3)
    older = batch(1)
    patch(older, 0, 2, 2)
    broken = batch(1)
    patch(broken, 0, 2, 3)
    broken[-1] ^= 1
    for bad in (good + hole, good + older, good + broken, good + good[:70], good[:30]):
        with pytest.raises(CorruptLogError):
            bench.replicate(bad)
        assert bench.log.log_end_offset == 0
        assert not bench.turn.disk
    bench.replicate(good)
    assert bench.log.log_end_offset == 2


def test_one_push_may_fill_several_segments() -> None:
    bench = Bench(SMALL)
    pushed = bytearray()
    for offset in range(8):
        data = batch(1, size=60)
        patch(data, 0, offset, 0)
        pushed += data
    bench.replicate(pushed)
    bench.commit()
    assert len(bench.log.segments()) > 2
    assert bench.content() == pushed


def test_a_failed_write_undoes_all_that_was_staged() -> None:
    bench = Bench(SMALL)
    bench.produce(batch(1, producer_id=5, producer_epoch=0, base_sequence=0))
    bench.commit()
    before = bench.content()
    for n in range(1, 6):
        data = batch(1, producer_id=5, producer_epoch=0, base_sequence=n)
        bench.produce(data, epoch=n)
    assert len(bench.log.segments()) > 1
    bench.refuse_next_write()
    bench.commit()
    log = bench.log
    assert log.failed_errno == errnos.ENOSPC
    assert (log.written_end, log.log_end_offset, log.last_epoch) == (1, 1, 0)
    assert log.segments() == [(0, len(before))]
    assert [b[0] for b in log.producers.view()[5][1]] == [0]
    assert bench.content() == before
    assert refused_with(bench) == ErrorCode.KAFKA_STORAGE_ERROR
    assert not bench.failed
    logs = [name for name in bench.disk.list(DIRECTORY) if name.endswith(".log")]
    assert logs == ["00000000000000000000.log"]
    assert bench.reopen().log_end_offset == 1


def test_a_failed_write_to_a_new_segment_keeps_what_the_old_one_took() -> None:
    bench = Bench(SMALL)
    for _ in range(4):
        bench.produce(batch(1, size=60))
    second = bench.log.chain.bases[1]
    bench.refuse_next_write(second)
    bench.commit()
    log = bench.log
    assert log.written_end == log.log_end_offset == second
    assert [base for base, _ in log.segments()] == [0]
    assert refused_with(bench) == ErrorCode.KAFKA_STORAGE_ERROR
    assert bench.reopen().log_end_offset == second


def test_a_torn_write_is_cut_off() -> None:
    bench = Bench()
    bench.produce(batch(2))
    bench.commit()
    whole = bench.content()
    bench.produce(batch(2))
    perform = bench.disk.perform

    def short(operation: object) -> int:
        if isinstance(operation, Append):
            bench.disk.files[operation.path].data += b"\0\0\0torn"
            return errnos.EFBIG
        return perform(operation)  # type: ignore[arg-type]

    bench.disk.perform = short  # type: ignore[method-assign]
    bench.commit()
    assert bytes(bench.disk.files[bench.log.chain.active.path].data) == whole


def test_an_offset_is_never_given_twice_after_a_failure() -> None:
    bench = Bench()
    bench.produce(batch(3))
    bench.refuse_next_write()
    bench.commit()
    assert refused_with(bench) == ErrorCode.KAFKA_STORAGE_ERROR
    with pytest.raises(ApiError):
        bench.log.append_as_follower(bench.turn, memoryview(batch(1)))


def test_truncation_in_the_turn_of_the_append_leaves_what_was_kept() -> None:
    bench = Bench()
    bench.produce(batch(2))
    bench.produce(batch(2))
    bench.log.truncate_to(bench.turn, 2)
    again = bench.produce(batch(1), epoch=4)
    assert again.base_offset == 2
    bench.commit()
    assert bench.log.written_end == 3
    assert bench.log.epochs.entries() == [(0, 0), (4, 2)]
    assert bench.reopen().log_end_offset == 3


def test_flushed_end_follows_the_syncs_in_order() -> None:
    bench = Bench(SMALL)
    for _ in range(6):
        bench.produce(batch(1, size=60))
    bench.commit(synced=False)
    assert bench.log.flushed_end == 0
    bench.log.flush(bench.turn)
    bench.commit(synced=False)
    bench.syncs.reverse()
    bench.end_syncs()
    assert bench.log.flushed_end == bench.log.log_end_offset == 6


def test_a_sync_does_not_vouch_for_what_came_after_it() -> None:
    bench = Bench()
    bench.produce()
    bench.log.flush(bench.turn)
    bench.commit(synced=False)
    bench.produce()
    bench.commit(synced=False)
    bench.end_syncs()
    assert (bench.log.flushed_end, bench.log.log_end_offset) == (1, 2)


def test_a_sync_from_before_a_truncation_counts_for_nothing() -> None:
    bench = Bench()
    bench.produce(batch(4))
    bench.produce(batch(4))
    bench.log.flush(bench.turn)
    bench.commit(synced=False)
    bench.log.truncate_to(bench.turn, 4)
    bench.produce(batch(4))
    bench.commit(synced=False)
    bench.end_syncs()
    assert bench.log.flushed_end == 0


def test_a_failed_sync_ends_the_log() -> None:
    bench = Bench()
    bench.produce()
    bench.log.flush(bench.turn)
    bench.commit(synced=False)
    bench.end_syncs(errnos.EIO)
    assert bench.log.flushed_end == 0
    assert refused_with(bench) == ErrorCode.KAFKA_STORAGE_ERROR


def test_a_failed_sync_of_a_deleted_namesake_ends_nothing() -> None:
    """Seed 720696: it had waited behind another one, and the file was gone when its turn came."""
    tokens = count(1)
    was = PartitionLog(TP, DIRECTORY, SimDisk(), LogConfig(), sync_tokens=tokens)
    was.open(Turn(), Restart.CLEAN)
    token = was.start_sync(Turn(), was.chain.active.path)
    bench = Bench()
    bench.log = PartitionLog(TP, DIRECTORY, SimDisk(), LogConfig(), sync_tokens=tokens)
    bench.log.open(bench.turn, Restart.CLEAN)
    bench.log.synced(Synced(bench.log.chain.active.path, token, errnos.ENOENT))
    bench.produce()
    assert not bench.log.failure


def test_flush_messages_bounds_what_counts_without_being_durable() -> None:
    for messages, counted in ((1, 0), (3, 2), (100, 5)):
        bench = Bench(LogConfig(flush_messages=messages))
        bench.produce(batch(5))
        bench.commit()
        assert bench.log.acknowledgeable_end == counted
        assert bench.log.needs_flush(0) == (messages <= 5)


def test_flush_ms_counts_from_the_last_flush() -> None:
    bench = Bench(LogConfig(flush_ms=1000))
    assert not bench.log.needs_flush(5000)
    bench.produce()
    bench.turn.now_ms = 500
    bench.log.flush(bench.turn)
    bench.commit()
    bench.produce()
    assert not bench.log.needs_flush(1499)
    assert bench.log.needs_flush(1500)


def test_a_question_about_time_in_the_turn_of_an_append_is_answered_from_what_is_written() -> None:
    bench = Bench(LogConfig(index_interval_bytes=0))
    for n in range(5):
        bench.produce(batch(timestamp=WALL_MS + n))
    bench.commit()
    for n in range(5, 9):
        bench.produce(batch(timestamp=WALL_MS + n))
    log = bench.log
    assert log.offset_for_timestamp(WALL_MS + 3) == (3, WALL_MS + 3, 0)
    assert log.offset_for_timestamp(WALL_MS + 7) is None
    assert log.read(2, 10_000, 9).next_offset == 5
    log.chain.active.rebuild_indexes()
    bench.commit()
    for offset in range(9):
        assert log.read(offset, 1, 9).first_offset == offset
    assert log.offset_for_timestamp(WALL_MS + 7) == (7, WALL_MS + 7, 0)
    assert log.max_timestamp() == (8, WALL_MS + 8)


def test_a_cut_among_staged_batches_keeps_the_times_of_those_before_it() -> None:
    bench = Bench(LogConfig(index_interval_bytes=150))
    for n in range(3):
        bench.produce(batch(timestamp=WALL_MS + n))
    bench.log.truncate_to(bench.turn, 2)
    bench.commit()
    assert bench.log.offset_for_timestamp(WALL_MS + 1) == (1, WALL_MS + 1, 0)
    assert bench.log.max_timestamp() == (1, WALL_MS + 1)


def test_largest_timestamp_is_looked_for_above_the_log_start() -> None:
    bench = Bench()
    for stamps in ((9, 1, 4), (2, 3), (3, 1)):
        records = [Record(b"v", timestamp=WALL_MS + at) for at in stamps]
        bench.produce(bytearray(build_batch(records)))
    bench.commit()
    log = bench.log
    log.set_high_watermark(7)
    found = []
    for start in range(8):
        log.advance_log_start(bench.turn, start)
        found.append(log.max_timestamp())
    expected = [(0, 9), (2, 4), (2, 4), (4, 3), (4, 3), (5, 3), (6, 1)]
    assert found[:7] == [(offset, WALL_MS + at) for offset, at in expected]
    assert found[7] == (-1, -1)
