"""What a start takes for damage and not for a torn write."""

from __future__ import annotations

import pytest

from kcluster.core.log import damage
from kcluster.core.log.partition_log import Restart
from kcluster.core.turn import Turn
from kcluster.errors import CorruptLogError
from kcluster.sim.disk import SimFile
from tests.core.log.bench import DIRECTORY, Bench, batch
from tests.core.log.test_recovery import CONFIG, active, filled


def wide() -> Bench:
    """Everything in one segment."""
    bench = Bench(type(CONFIG)(segment_bytes=1 << 20, retention_ms=-1))
    for n in range(10):
        bench.produce(batch(1, size=60), n // 4)
        bench.commit(synced=False)
    bench.syncs.clear()
    return bench


@pytest.mark.parametrize("at", [0.05, 0.3, 0.7])
def test_a_kill_does_not_leave_sound_batches_behind_a_broken_one(at: float) -> None:
    bench = wide()
    data = active(bench)
    data[int(len(data) * at)] ^= 1
    with pytest.raises(CorruptLogError):
        bench.reopen(Restart.CRASH)
    assert bench.reopen(Restart.CRASH, repair=True).log_end_offset < 10


def test_a_power_loss_may_leave_sound_batches_behind_a_broken_one() -> None:
    bench = wide()
    active(bench)[len(active(bench)) // 2] ^= 1
    assert 0 < bench.reopen(Restart.LOSSY).log_end_offset < 10


def test_the_last_batch_may_be_torn_by_a_kill() -> None:
    bench = wide()
    del active(bench)[-5:]
    assert bench.reopen(Restart.CRASH).log_end_offset == 9


@pytest.mark.parametrize("from_end", [1, 10])
def test_a_kill_breaks_no_batch_that_is_as_long_as_it_says(from_end: int) -> None:
    bench = wide()
    active(bench)[-from_end] ^= 1
    with pytest.raises(CorruptLogError, match="CRC"):
        bench.reopen(Restart.CRASH)


def test_a_log_without_any_segment_is_damaged_unless_power_was_lost() -> None:
    bench = wide()
    path = bench.log.chain.active.path
    bench.disk.files[f"{DIRECTORY}/partition.metadata"] = SimFile(bytearray(b"version: 0"))
    del bench.disk.files[path]
    with pytest.raises(CorruptLogError, match="no segment"):
        bench.reopen(Restart.CRASH)
    assert bench.reopen(Restart.LOSSY).log_end_offset == 0
    assert bench.disk.size(path) == 0


def test_a_new_log_has_a_segment_from_the_start() -> None:
    bench = Bench(CONFIG)
    bench.commit()
    assert bench.disk.size(bench.log.chain.active.path) == 0


def test_a_kill_does_not_shorten_a_sealed_segment() -> None:
    bench = filled()
    sealed = bench.log.chain.items[1]
    del bench.disk.files[sealed.path].data[-10:]
    with pytest.raises(CorruptLogError):
        bench.reopen(Restart.CRASH)


def test_a_log_that_ends_below_what_was_committed_is_damaged() -> None:
    bench = wide()
    del active(bench)[-70:]
    turn = Turn()
    bench.log = type(bench.log)(bench.log.tp, DIRECTORY, bench.disk, bench.config)
    with pytest.raises(CorruptLogError, match="was committed to 10"):
        bench.log.open(turn, Restart.CRASH, high_watermark=10)
    assert not turn.disk


@pytest.mark.parametrize("restart", [Restart.CLEAN, Restart.CRASH])
def test_a_log_without_its_first_segment_is_damaged_unless_its_start_was_moved(
    restart: Restart,
) -> None:
    bench = filled()
    if restart is Restart.CLEAN:
        bench.shut_down()
    [first, second] = bench.log.chain.bases[:2]
    del bench.disk.files[f"{DIRECTORY}/{first:020d}.log"]
    bench.log_start_offset = second
    assert bench.reopen(restart).log_start_offset == second
    bench.log_start_offset = 0
    with pytest.raises(CorruptLogError, match="begins with"):
        bench.reopen(restart)


def test_a_mark_says_why_and_goes() -> None:
    bench = wide()
    assert damage.cause_of(bench.disk, DIRECTORY) is None
    damage.mark(bench.turn, DIRECTORY, "a flipped bit")
    bench.commit()
    assert damage.cause_of(bench.disk, DIRECTORY) == "a flipped bit"
    damage.unmark(bench.turn, DIRECTORY)
    bench.commit()
    assert damage.cause_of(bench.disk, DIRECTORY) is None


def test_a_batch_behind_is_found_across_chunks_and_never_made_up() -> None:
    bench = Bench(type(CONFIG)(segment_bytes=1 << 24, retention_ms=-1))
    for _ in range(3):
        bench.produce(batch(1, size=700_000))
    bench.commit()
    path, data = bench.log.chain.active.path, active(bench)
    start = len(data) // 3
    data[:100] = bytes(100)
    assert damage.has_batch_behind(bench.disk, path, 0, len(data), 0)
    assert not damage.has_batch_behind(bench.disk, path, 0, len(data), 10)
    data[start : start + 100] = data[2 * start : 2 * start + 100] = b"\2" * 100
    assert not damage.has_batch_behind(bench.disk, path, 0, len(data), 0)
