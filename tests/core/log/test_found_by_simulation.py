"""What simulated clusters found in the log, each as small as it gets."""

from random import Random

from kcluster.config import LogConfig
from kcluster.core.log.partition_log import Restart
from kcluster.wire.records import batches

from .bench import Bench, batch


def test_a_read_with_a_budget_does_not_go_on_in_the_next_segment() -> None:
    """Batches that the budget left out of a segment were skipped when a smaller one at the start
    of the next segment still fitted: a consumer lost them."""
    bench = Bench(LogConfig(segment_bytes=400))
    for size in (10, 200, 10, 10, 10):
        bench.produce(batch(size=size))
        bench.commit()
    assert len(bench.log.segments()) > 1
    end = bench.log.log_end_offset
    for budget in range(1, 1000, 7):
        offset = 0
        while offset < end:
            data, following = bench.log.read_bytes(offset, budget, end)
            found = [header.base_offset for _, header in batches(data)]
            assert found == list(range(offset, following)), f"budget {budget}"
            offset = following


def test_an_epoch_led_without_records_gives_way_to_an_older_one_that_goes_on() -> None:
    """A broker led epoch 1 and wrote nothing, then followed one whose records of epoch 0 go on
    behind that: the cache kept epoch 1 at the old end, and contradicted the log."""
    bench = Bench()
    bench.replicate(batch(2, base_offset=0, leader_epoch=0))
    bench.log.assign_epoch(bench.turn, 1, 2)
    bench.replicate(batch(2, base_offset=2, leader_epoch=0))
    bench.replicate(batch(2, base_offset=4, leader_epoch=2))
    bench.commit()
    assert bench.log.end_offset_for_epoch(0) == (0, 4)
    assert bench.log.end_offset_for_epoch(1) == (0, 4)
    bench.recovery_point = bench.log.flushed_end
    log = bench.reopen(Restart.CRASH)
    assert log.end_offset_for_epoch(1) == (0, 4)
    assert log.log_end_offset == 6


def test_what_a_truncation_took_does_not_come_back_before_what_was_written_since() -> None:
    """The cut of a segment was made durable by nothing, and after a power loss its old bytes came
    back, taking the place of what lay in the segments behind it, synced or not: a log of two
    histories, which no comparison of epochs can tell from its leader's (seed 1001040)."""
    for draw in range(100):
        bench = Bench(LogConfig(segment_bytes=400))
        kept = _replicated(bench, range(6), epoch=1, size=50)[:4]
        bench.log.flush(bench.turn)
        bench.commit()
        bench.log.truncate_to(bench.turn, 4)
        bench.commit()
        written = kept + _replicated(bench, range(4, 9), epoch=2, size=250)
        flushed = bench.log.flushed_end
        bench.recovery_point = flushed if draw % 2 else 0
        bench.disk.lose_power(Random(draw))
        log = bench.reopen(Restart.LOSSY)
        assert bench.content() == b"".join(written[: log.log_end_offset]), f"draw {draw}"
        assert log.log_end_offset >= flushed, f"draw {draw}"
        assert log.end_offset_for_epoch(1) == (1, 4)


def _replicated(bench: Bench, offsets: range, epoch: int, size: int) -> list[bytes]:
    """Batches of one record each, as they lie in the log."""
    found = []
    for offset in offsets:
        data = batch(size=size, base_offset=offset, leader_epoch=epoch)
        found.append(bytes(data))
        bench.replicate(data)
        bench.commit()
    return found
