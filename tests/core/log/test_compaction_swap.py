"""A compacted segment takes its place whole, or not at all, whatever ends the process."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from random import Random

import pytest

from kcluster.core.log.compaction import plan
from kcluster.core.log.compaction.swap import Stage, Swap
from kcluster.core.log.partition_log import Restart
from kcluster.core.log.retention import DeletionDue
from kcluster.core.turn import Span
from kcluster.errors import CorruptLogError
from tests.core.log.bench import DIRECTORY, Bench
from tests.core.log.compacting import (
    FragileDisk,
    Killed,
    Writer,
    clean_now,
    compact,
    compacted_config,
    content,
    living,
)
from tests.core.log.test_compaction import check_against


def story(seed: int) -> tuple[Bench, Writer, FragileDisk]:
    """A log that was compacted once, and is dirty again."""
    disk = FragileDisk()
    bench = Bench(compacted_config(), disk)
    writer = Writer(bench, Random(seed), keys=4)
    writer.fill(30)
    assert compact(bench) is not None
    writer.fill(30)
    bench.log.flush(bench.turn)
    bench.commit()
    bench.recovery_point = bench.log.flushed_end
    bench.turn.clear()
    return bench, writer, disk


def prepared(bench: Bench) -> Swap:
    """Cleaned, and asked to be swapped."""
    found = plan.plan(bench.log, bench.turn)
    assert found is not None
    job = found.job(1, bench.turn.wall_ms, 1 << 20)
    swap = Swap(bench.log, clean_now(job, bench.disk), found.segments)
    swap.prepare(bench.turn)
    return swap


def deaths(seed: int) -> Iterator[tuple[Bench, Writer, FragileDisk]]:
    """The story, dead before each operation of a compaction in turn."""
    for operations in range(10_000):
        bench, writer, disk = story(seed)
        disk.left = operations
        try:
            compact(bench)
        except Killed:
            disk.left = -1
            yield bench, writer, disk
        else:
            assert operations > 15
            return


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("restart", [Restart.CRASH, Restart.CLEAN])
def test_a_kill_before_any_operation_loses_nothing(seed: int, restart: Restart) -> None:
    for bench, writer, _ in deaths(seed):
        bench.reopen(restart)
        check_after(bench, writer)


@pytest.mark.parametrize("seed", range(3))
def test_a_power_cut_before_any_operation_loses_nothing(seed: int) -> None:
    for number, (bench, writer, disk) in enumerate(deaths(seed)):
        disk.lose_power(Random(seed * 1000 + number))
        bench.reopen(Restart.LOSSY)
        check_after(bench, writer)


@pytest.mark.parametrize("seed", range(3))
def test_a_recovery_that_is_killed_or_loses_power_is_done_again(seed: int) -> None:
    for number, (bench, writer, disk) in enumerate(deaths(seed)):
        for operations in range(60):
            disk.left = operations
            try:
                bench.reopen(Restart.CRASH)
            except Killed:
                disk.left = -1
                if operations % 3 == 0:
                    disk.lose_power(Random(number * 100 + operations))
            else:
                disk.left = -1
                break
        check_after(bench, writer)


def check_after(bench: Bench, writer: Writer) -> None:
    log = bench.log
    assert log.log_end_offset == writer.batches[-1][1] + 1
    check_against(bench, writer)
    left = bench.disk.list(DIRECTORY)
    assert not [n for n in left if n.endswith((".cleaned", ".swap", ".deleted"))]
    # And it goes on: the next pass does what this one could not.
    writer.fill(10)
    compact(bench)
    check_against(bench, writer)
    bench.shut_down()
    bench.reopen(Restart.CLEAN)
    check_against(bench, writer)


# --- what happens meanwhile -----------------------------------------------------------------


def test_the_log_may_change_while_it_is_compacted() -> None:
    for seed in range(40):
        random = Random(seed)
        bench = Bench(compacted_config())
        writer = Writer(bench, random, keys=4)
        writer.fill(40)
        what = random.choice(["append", "start", "retention"])

        def change(bench: Bench = bench, writer: Writer = writer, what: str = what) -> None:
            log = bench.log
            if what == "append":
                writer.fill(7)
            elif what == "start":
                log.advance_log_start(bench.turn, log.log_start_offset + 20)
            else:
                log.config = compacted_config(applies_retention=True, retention_bytes=3000)
                log.apply_retention(bench.turn)
            bench.commit(synced=False)

        outcome = compact(bench, between=change)
        assert (outcome is None) == (what != "append")
        assert not [n for n in bench.disk.list(DIRECTORY) if n.endswith((".cleaned", ".swap"))]
        start = bench.log.log_start_offset
        expected = {r.key: r.value for o, r in sorted(writer.records.items()) if o >= start}
        assert living(content(bench)) == living(expected)
        bench.log_start_offset = start
        bench.reopen(Restart.CRASH)
        assert living(content(bench)) == living(expected)


def test_a_log_may_be_compacted_and_lose_what_is_old() -> None:
    for seed in range(10):
        bench = Bench(compacted_config(applies_retention=True, retention_bytes=2000))
        writer = Writer(bench, Random(seed), keys=60)
        for _ in range(4):
            writer.fill(25)
            compact(bench)
            bench.log.apply_retention(bench.turn)
            bench.commit()
        start = bench.log.log_start_offset
        assert start > 0
        expected = {r.key: r.value for o, r in sorted(writer.records.items()) if o >= start}
        assert living(content(bench)) == living(expected)
        bench.log_start_offset = start
        bench.shut_down()
        bench.reopen(Restart.CLEAN)
        assert living(content(bench)) == living(expected)


def test_a_truncation_below_a_swap_takes_the_swap_along() -> None:
    bench, _, _ = story(1)
    log = bench.log
    swap = prepared(bench)
    bench.commit(synced=False)
    cut = log.chain.items[1].base_offset
    log.set_high_watermark(0)
    log.truncate_to(bench.turn, cut)
    bench.commit()
    assert swap.stage is Stage.CANCELLED
    assert not [name for name in bench.disk.list(DIRECTORY) if name.endswith(".swap")]
    assert log.log_end_offset == log.first_dirty_offset == cut
    bench.recovery_point = log.flushed_end
    assert bench.reopen(Restart.CRASH).log_end_offset == cut


def test_a_reply_of_the_same_turn_reads_the_file_that_it_meant() -> None:
    bench, _, _ = story(2)
    log = bench.log
    swap = prepared(bench)
    bench.commit()
    before, _ = log.read_bytes(0, 1 << 20, log.log_end_offset)
    bench.turn.reply(1, list(log.read(0, 1 << 20, log.log_end_offset).spans))
    swap.replace(bench.turn)
    parts = bench.turn.replies[0].parts
    operations, bench.turn.disk = bench.turn.disk, []
    assert all(bench.disk.perform(operation) == 0 for operation in operations)
    read = [bench.disk.read(p.path, p.position, p.size) for p in parts if isinstance(p, Span)]
    assert b"".join(read) == before
    swap.replaced(bench.turn)
    assert log.read_bytes(0, 1 << 20, log.log_end_offset)[0] != before


def test_retention_renames_what_a_reply_of_the_same_turn_holds() -> None:
    bench, _, _ = story(3)
    log = bench.log
    before, _ = log.read_bytes(0, 300, log.log_end_offset)
    bench.turn.reply(1, list(log.read(0, 300, log.log_end_offset).spans))
    log.config = compacted_config(applies_retention=True, retention_bytes=0)
    assert log.apply_retention(bench.turn)
    [reply] = bench.turn.replies
    operations, bench.turn.disk = bench.turn.disk, []
    for operation in operations:
        bench.disk.perform(operation)
    read = [bench.disk.read(p.path, p.position, p.size) for p in reply.parts if isinstance(p, Span)]
    assert b"".join(read) == before


def test_old_files_stay_for_the_delay_under_another_name() -> None:
    bench, _, _ = story(4)
    swap = prepared(bench)
    bench.commit()
    swap.replace(bench.turn)
    operations, bench.turn.disk = bench.turn.disk, []
    assert all(bench.disk.perform(operation) == 0 for operation in operations)
    swap.replaced(bench.turn)
    [(_, timer)] = bench.turn.timers
    assert isinstance(timer, DeletionDue)
    bench.commit()
    deleted = [n for n in bench.disk.list(DIRECTORY) if n.endswith(".deleted")]
    assert len(deleted) == len(timer.paths)
    timer.carry_out(bench.turn)
    bench.commit()
    assert not [n for n in bench.disk.list(DIRECTORY) if n.endswith(".deleted")]


def test_a_sync_that_fails_leaves_the_old_segments() -> None:
    bench, writer, _ = story(5)
    log = bench.log
    swap = prepared(bench)
    bench.commit(synced=False)
    bench.end_syncs(errno.EIO)
    assert swap.stage is Stage.FAILED
    swap.cancel(bench.turn)
    bench.commit()
    assert not log.failure
    check_against(bench, writer)
    assert compact(bench) is not None
    check_against(bench, writer)


def test_a_swap_that_is_not_whole_counts_for_nothing() -> None:
    bench, writer, _ = story(6)
    prepared(bench)
    bench.commit()
    for path, file in bench.disk.files.items():
        if path.endswith(".log.swap"):
            file.data[-1] ^= 1
    bench.reopen(Restart.CRASH)
    check_after(bench, writer)


def test_a_segment_that_is_missing_is_still_missed() -> None:
    bench, _, disk = story(7)
    assert compact(bench) is not None
    missing = bench.log.chain.items[1].path
    bench.shut_down()
    assert disk.files.pop(missing)
    with pytest.raises(CorruptLogError):
        bench.reopen(Restart.CLEAN)
