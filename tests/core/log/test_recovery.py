"""Damage of every file, on every kind of restart: detected, never served, never dropped in
silence below the recovery point."""

from __future__ import annotations

import pytest

from kcluster.config import LogConfig
from kcluster.core import traces
from kcluster.core.log.partition_log import PartitionLog, Restart
from kcluster.core.log.segment import LOG, file_name
from kcluster.core.turn import Replace, Turn
from kcluster.errors import CorruptLogError
from kcluster.sim.disk import SimFile
from tests.core.log.bench import DIRECTORY, TP, WALL_MS, Bench, batch

CONFIG = LogConfig(segment_bytes=500, index_interval_bytes=100, retention_ms=-1)


def path(name: str) -> str:
    return f"{DIRECTORY}/{name}"


def filled(count: int = 20, *, flushed: bool = False) -> Bench:
    bench = Bench(CONFIG)
    for n in range(count):
        bench.produce(batch(1, size=60, producer_id=3, producer_epoch=0, base_sequence=n), n // 8)
        bench.commit(synced=False)
    if flushed:
        bench.log.flush(bench.turn)
        bench.commit()
        bench.recovery_point = bench.log.flushed_end
    else:
        bench.syncs.clear()
    return bench


def active(bench: Bench) -> bytearray:
    return bench.disk.files[bench.log.chain.active.path].data


def state(log: PartitionLog) -> tuple[object, ...]:
    return (
        log.log_start_offset, log.log_end_offset, log.last_epoch, log.epochs.entries(),
        log.producers.view(), log.segments(),
        [(list(s.offset_index.offsets), list(s.offset_index.positions)) for s in log.chain],
        [s.largest_timestamp() for s in log.chain],
    )  # fmt: skip


@pytest.mark.parametrize("restart", Restart)
def test_a_restart_finds_the_log_as_it_was(restart: Restart) -> None:
    bench = filled()
    before, content = state(bench.log), bench.content()
    if restart is Restart.CLEAN:
        bench.shut_down()
    assert state(bench.reopen(restart)) == before
    assert bench.content() == content
    bench.produce(batch(1), 9)
    bench.commit()
    assert bench.log.log_end_offset == 21


@pytest.mark.parametrize("junk", [b"\0" * 40, b"\0" * 200, b"torn" * 30, "half"])
def test_a_torn_tail_is_cut_off_after_a_crash(junk: bytes | str) -> None:
    bench = filled()
    whole = bench.content()
    if junk == "half":
        active(bench)[-30:] = b""
    else:
        active(bench).extend(junk)  # type: ignore[arg-type]
    bench.reopen()
    content = bench.content()
    assert whole.startswith(content)
    assert bench.log.log_end_offset == (19 if isinstance(junk, str) else 20)
    assert bytes(active(bench)) == whole[-len(active(bench)) :] or isinstance(junk, str)
    sequence = bench.log.producers.view()[3][1][-1][1]
    assert sequence == bench.log.log_end_offset - 1


def test_recovery_tells_what_it_cut() -> None:
    bench = filled()
    active(bench).extend(b"torn")
    turn = Turn()
    PartitionLog(TP, DIRECTORY, bench.disk, CONFIG).open(turn, Restart.CRASH)
    assert turn.traces == [traces.LogRecovered("orders", 0, 20, 4)]


def test_all_behind_a_torn_segment_goes() -> None:
    bench = filled()
    bases = bench.log.chain.bases
    bench.disk.files[bench.log.chain.items[1].path].data[70] ^= 1
    bench.reopen(Restart.LOSSY)
    assert bench.log.log_end_offset == bases[1]
    logs = [name for name in bench.disk.list(DIRECTORY) if name.endswith(".log")]
    assert len(logs) == 2
    assert bench.reopen(Restart.CRASH).log_end_offset == bases[1]


@pytest.mark.parametrize("restart", Restart)
@pytest.mark.parametrize("segment", [1, -1])
def test_a_cut_file_below_the_recovery_point_is_never_dropped_silently(
    restart: Restart, segment: int
) -> None:
    bench = filled(flushed=True)
    if restart is Restart.CLEAN:
        bench.shut_down()
    bench.disk.files[bench.log.chain.items[segment].path].data[-30:] = b""
    files = {name: bytes(file.data) for name, file in bench.disk.files.items()}
    with pytest.raises(CorruptLogError):
        bench.reopen(restart)
    assert {name: bytes(file.data) for name, file in bench.disk.files.items()} == files
    log = bench.reopen(restart, repair=True)
    assert log.log_end_offset == (19 if segment == -1 else bench.log.chain.items[1].end_offset)
    assert bench.content()


@pytest.mark.parametrize("restart", Restart)
def test_a_missing_segment_is_noticed(restart: Restart) -> None:
    for victim in (0, 1, -1):
        bench = filled(flushed=True)
        del bench.disk.files[bench.log.chain.items[victim].path]
        with pytest.raises(CorruptLogError):
            bench.reopen(restart)
            bench.content()
            # The first segment may have been deleted by retention: its records are out of range.
            assert victim == 0
            assert bench.log.log_start_offset > 0
            raise CorruptLogError("noticed by the log start")


@pytest.mark.parametrize("recovery_point", [0, 3, 5, 20])
def test_a_segment_that_a_power_cut_brought_back_takes_nothing_along(recovery_point: int) -> None:
    bench = filled(flushed=True)
    bench.recovery_point = recovery_point
    whole, before = bench.content(), state(bench.log)
    first, second = bench.log.chain.items[:2]
    inside = first.base_offset + 1
    assert inside < second.base_offset
    # It began there before a truncation, which the disk has forgotten.
    stale = batch(2, size=60, base_offset=inside, leader_epoch=0)
    bench.disk.files[path(file_name(inside, LOG))] = SimFile(bytearray(stale))
    bench.reopen(Restart.LOSSY)
    assert (bench.content(), state(bench.log)) == (whole, before)
    assert path(file_name(inside, LOG)) not in bench.disk.files


@pytest.mark.parametrize("place", [0, 5, 8, 12, 17, 45, 65, 100])
def test_a_flipped_bit_in_a_sealed_segment_is_never_served(place: int) -> None:
    """Offset, length, epoch (not under the CRC), CRC and record."""
    for restart in Restart:
        bench = filled(flushed=True)
        bench.shut_down()
        bench.disk.files[bench.log.chain.items[1].path].data[place + 131 * 0] ^= 4
        with pytest.raises(CorruptLogError):
            bench.reopen(restart)
            bench.content()
        if bench.log.log_end_offset:
            assert bench.log.failure


@pytest.mark.parametrize("victim", [5, 8, 19])
@pytest.mark.parametrize("bit", [0, 23])
def test_a_batch_whose_epoch_is_not_the_one_that_was_written_goes_with_all_behind_it(
    victim: int, bit: int
) -> None:
    """Not under the CRC, and believed when it rose: what was found damaged was the batch behind
    it, if there was one (seed 1101444)."""
    bench = filled(flushed=False)
    before = bench.content()
    segment = bench.log.chain.items[bench.log.chain.locate(victim)]
    position, base_offset = segment.find(victim)
    at = position + 12  # the leader epoch, behind offset and length
    data = bench.disk.files[segment.path].data
    data[at : at + 4] = (int.from_bytes(data[at : at + 4], "big") ^ 1 << bit).to_bytes(4, "big")
    with pytest.raises(CorruptLogError):
        bench.reopen(Restart.CRASH)
    log = bench.reopen(Restart.CRASH, repair=True)
    assert log.log_end_offset == base_offset
    assert before.startswith(bench.content())


def test_verify_segment_looks_at_all_of_it_now() -> None:
    bench = filled(flushed=True)
    bench.shut_down()
    bench.disk.files[bench.log.chain.items[1].path].data[90] ^= 4
    log = bench.reopen(Restart.CLEAN)
    log.verify_segment(log.chain.bases[0])
    with pytest.raises(CorruptLogError):
        log.verify_segment(log.chain.bases[1])


def test_each_range_is_checked_once() -> None:
    bench = filled(flushed=True)
    bench.shut_down()
    log = bench.reopen(Restart.CLEAN)
    segment = log.chain.items[1]
    assert not segment.is_checked(0, segment.size)
    bench.content()
    assert segment.is_checked(0, segment.size)
    assert segment._checked == [(0, segment.size)]


@pytest.mark.parametrize("damage", ["missing", "cut", "flipped", "empty"])
@pytest.mark.parametrize("suffix", ["index", "timeindex"])
@pytest.mark.parametrize("restart", Restart)
def test_a_damaged_index_is_built_anew(damage: str, suffix: str, restart: Restart) -> None:
    bench = filled(flushed=True)
    bench.shut_down()
    before = bench.content()
    expected = [bench.log.offset_for_timestamp(1_700_000_000_000 + n) for n in range(3)]
    for name, file in list(bench.disk.files.items()):
        if name.endswith("." + suffix):
            if damage == "missing":
                del bench.disk.files[name]
            elif damage == "cut":
                file.data[-1:] = b""
            elif damage == "empty":
                file.data.clear()
            elif file.data:
                file.data[6] ^= 0x55
    bench.reopen(restart)
    for offset in range(20):
        assert bench.log.read(offset, 1, 20).first_offset == offset
    assert bench.content() == before
    found = [bench.log.offset_for_timestamp(1_700_000_000_000 + n) for n in range(3)]
    assert found == expected


@pytest.mark.parametrize("content", [None, b"", b"rubbish", b"0\n1\n0 0\n"])
@pytest.mark.parametrize("restart", Restart)
def test_the_epoch_cache_is_rebuilt_from_the_log(content: bytes | None, restart: Restart) -> None:
    bench = filled(flushed=True)
    bench.shut_down()
    name = path("leader-epoch-checkpoint")
    if content is None:
        del bench.disk.files[name]
    else:
        bench.disk.perform(Replace(name, content))
    log = bench.reopen(restart)
    assert log.epochs.entries() == [(0, 0), (1, 8), (2, 16)]
    assert bytes(bench.disk.files[name].data).startswith(b"0\n4\n0 0\n1 8\n2 16\n2147483647 ")


@pytest.mark.parametrize("restart", [Restart.CLEAN, Restart.CRASH])
def test_the_epoch_of_a_leader_that_wrote_nothing_survives(restart: Restart) -> None:
    bench = filled()
    bench.log.assign_epoch(bench.turn, 7, 20)
    bench.commit()
    log = bench.reopen(restart)
    assert log.epochs.entries()[-1] == (7, 20)
    assert log.end_offset_for_epoch(7) == (7, 20)
    assert log.last_epoch == 2


def test_snapshots_behind_the_log_end_are_deleted() -> None:
    bench = filled()
    newest = bench.log.snapshots[-1]
    for segment in bench.log.chain.items[1:]:
        del bench.disk.files[segment.path]
    log = bench.reopen()
    assert log.log_end_offset < newest
    assert all(offset <= log.log_end_offset for offset in log.snapshots)
    names = [n for n in bench.disk.list(DIRECTORY) if n.endswith(".snapshot")]
    assert len(names) == len(log.snapshots)


def test_a_damaged_snapshot_is_passed_over() -> None:
    bench = filled()
    before = bench.log.producers.view()
    for name, file in bench.disk.files.items():
        if name.endswith(".snapshot"):
            file.data[12] ^= 1
    assert bench.reopen().producers.view() == before


def test_leftovers_of_deletions_are_deleted() -> None:
    bench = filled()
    for name in ("00000000000000000000.log.deleted", "leader-epoch-checkpoint.tmp"):
        bench.disk.perform(Replace(path(name), b"old"))
    bench.disk.perform(Replace(path("00000000000000000099.index"), b""))
    bench.reopen()
    left = bench.disk.list(DIRECTORY)
    assert not [name for name in left if name.endswith((".deleted", ".tmp")) or "99.index" in name]


def test_a_truncation_lowers_the_checkpointed_recovery_point_first() -> None:
    bench = filled(flushed=True)
    seen: list[tuple[int, int]] = []
    bench.log.lower_recovery_point = lambda turn, log, offset: seen.append((offset, len(turn.disk)))
    bench.log.truncate_to(bench.turn, 11)
    assert seen == [(11, 0)]
    bench.commit()
    assert bench.log.flushed_end == 11
    bench.recovery_point = 11
    assert bench.reopen().log_end_offset == 11


def test_a_log_that_ends_below_its_start_begins_anew_there() -> None:
    bench = filled()
    bench.log_start_offset = 30
    log = bench.reopen()
    assert (log.log_start_offset, log.log_end_offset) == (30, 30)
    assert bench.produce(batch(), 3).base_offset == 30


def test_an_emptied_log_keeps_its_start_over_a_restart() -> None:
    bench = filled()
    bench.log.truncate_fully(bench.turn, 77)
    bench.commit()
    assert bench.reopen().log_end_offset == 77


@pytest.mark.parametrize("damage", ["low bit", "high bit", "lost its end", "gone"])
def test_a_damaged_time_index_deletes_nothing(damage: str) -> None:
    bench = Bench(LogConfig(segment_bytes=500, index_interval_bytes=100, retention_ms=1000))
    for n in range(20):
        bench.produce(batch(1, size=60, timestamp=WALL_MS + 100 * n))
        bench.commit()
    bench.shut_down()
    for name, file in bench.disk.files.items():
        if name.endswith(".timeindex"):
            if damage == "low bit":
                file.data[-12 + 6] ^= 0x40
            elif damage == "high bit":
                file.data[-12 + 3] ^= 1
            else:
                del file.data[-12 if damage == "lost its end" else 0 :]
    log = bench.reopen(Restart.CLEAN)
    log.set_high_watermark(20)
    bench.turn.wall_ms = WALL_MS + 1000
    assert log.apply_retention(bench.turn) == []
    assert [s.largest_timestamp()[0] for s in log.chain][-1] == WALL_MS + 1900
    assert log.offset_for_timestamp(WALL_MS + 950) == (10, WALL_MS + 1000, 0)
