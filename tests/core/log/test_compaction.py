"""What compaction keeps: of each key the last record, at its offset, as it was."""

from __future__ import annotations

import os
from random import Random

import pytest

from kcluster.config import LONG_MAX
from kcluster.core.log import cutting
from kcluster.core.log.compaction import plan
from kcluster.core.log.compaction.cleaning import ENTRY_BYTES
from kcluster.core.log.partition_log import Restart
from kcluster.core.log.producers import Producers
from kcluster.errors import ApiError, CorruptLogError, ErrorCode, InvalidRecords
from kcluster.wire.compression import Compression
from kcluster.wire.record_walk import start_empty_at, starts_empty_before
from kcluster.wire.records import (
    CONTROL,
    DELETE_HORIZON,
    HEADER,
    Record,
    batches,
    build_batch,
    check_crc,
    read_records,
)
from tests.core.log.bench import DIRECTORY, WALL_MS, Bench
from tests.core.log.compacting import (
    Writer,
    clean_now,
    compact,
    compacted_config,
    content,
    living,
    records_in,
)

HISTORIES = int(os.environ.get("KCLUSTER_HISTORIES", "200"))


def keyed(*pairs: tuple[bytes, bytes | None], **how: int) -> bytearray:
    records = [Record(value, key, timestamp=WALL_MS + n) for n, (key, value) in enumerate(pairs)]
    return build_batch(records, **how)  # type: ignore[arg-type]


def written(bench: Bench, *data: bytearray) -> None:
    """A batch to each segment, all sealed and committed."""
    for one in data:
        bench.produce(one)
        bench.commit()
        bench.log.roll(bench.turn)
    bench.commit()
    bench.log.set_high_watermark(bench.log.log_end_offset)


def check_against(bench: Bench, writer: Writer) -> None:
    """Every batch is sound, offsets have no gaps, and each record is one that was written."""
    data = bench.content()
    expected, epoch = bench.log.log_start_offset, -1
    for position, header in batches(data):
        assert check_crc(data, position, header.size)
        assert header.base_offset == expected
        assert header.leader_epoch >= epoch
        expected, epoch = header.last_offset + 1, header.leader_epoch
        for record in read_records(data, position):
            assert record == writer.records[record.offset]
    assert expected == bench.log.log_end_offset
    assert living(content(bench)) == living(writer.content)


# --- random histories -----------------------------------------------------------------------


@pytest.mark.parametrize("chunk", range(10))
def test_a_log_compacted_at_any_time_is_the_last_value_of_each_key(chunk: int) -> None:
    for seed in range(chunk * HISTORIES, (chunk + 1) * HISTORIES):
        random = Random(seed)
        bench = Bench(compacted_config(delete_retention_ms=random.choice([0, 500, LONG_MAX])))
        writer = Writer(bench, random, keys=random.choice([1, 4, 30]))
        for _ in range(random.randint(2, 8)):
            match random.randrange(5):
                case 0:
                    bench.shut_down()
                    bench.reopen(random.choice([Restart.CLEAN, Restart.CRASH]))
                    bench.log.set_high_watermark(bench.log.log_end_offset)
                case 1:
                    bench.log.roll(bench.turn)
                    bench.commit()
                case 2 | 3:
                    writer.fill(random.randint(1, 25))
                case _:
                    bench.turn.wall_ms += random.choice([0, 400, 1000])
                    room = random.choice([1, ENTRY_BYTES * 5, 1 << 20])
                    if compact(bench, map_bytes=room) is not None:
                        check_against(bench, writer)
        check_against(bench, writer)


@pytest.mark.parametrize("seed", range(20))
def test_passes_without_end_leave_one_record_of_each_key(seed: int) -> None:
    random = Random(seed)
    bench = Bench(compacted_config(delete_retention_ms=0))
    writer = Writer(bench, random)
    writer.fill(60)
    bench.log.roll(bench.turn)
    bench.commit()
    assert compact(bench) is not None
    keys = [record.key for record in records_in(bench)]
    assert sorted(keys) == sorted(set(writer.content))
    # Nothing is dirty any more, but what is new makes it so: now the tombstones may go.
    assert compact(bench) is None
    bench.turn.wall_ms += 1
    writer.append(tombstones=0)
    bench.commit()
    bench.log.roll(bench.turn)
    bench.commit()
    bench.log.set_high_watermark(bench.log.log_end_offset)
    assert compact(bench) is not None
    keys = [record.key for record in records_in(bench)]
    assert sorted(keys) == sorted(living(writer.content))
    check_against(bench, writer)


def test_producers_are_known_as_before_when_nothing_but_the_log_tells_of_them() -> None:
    for seed in range(60):
        random = Random(seed)
        bench = Bench(compacted_config())
        writer = Writer(bench, random, keys=2)
        for _ in range(random.randint(1, 4)):
            writer.fill(random.randint(5, 30))
            compact(bench)
        before = _sequences(bench)
        for name in bench.disk.list(DIRECTORY):
            if name.endswith(".snapshot"):
                del bench.disk.files[f"{DIRECTORY}/{name}"]
        bench.reopen(Restart.CRASH)
        assert _sequences(bench) == before


def _sequences(bench: Bench) -> dict[int, tuple[int, list[tuple[int, ...]]]]:
    """Without timestamps: a shortened batch has that of its records."""
    view = bench.log.producers.view()
    return {id: (epoch, [b[:4] for b in known]) for id, (epoch, known) in view.items()}


def test_producers_that_are_forgotten_leave_no_empty_batches() -> None:
    bench = Bench(compacted_config())
    again = {"producer_id": 7, "producer_epoch": 0}
    written(
        bench,
        keyed((b"a", b"1"), **again, base_sequence=0),
        keyed((b"a", b"2"), **again, base_sequence=1),
        keyed((b"a", b"3")),
    )
    bench.log.producers = Producers()
    assert compact(bench) is not None
    [(_, empty), (_, last)] = batches(bench.content())
    assert (empty.base_offset, empty.last_offset, empty.record_count) == (0, 1, 0)
    assert empty.producer_id == -1
    assert last.base_offset == 2


# --- what stays -----------------------------------------------------------------------------


def test_a_shortened_batch_keeps_its_bounds_epoch_producer_and_codec() -> None:
    for compression in Compression:
        bench = Bench(compacted_config())
        first = keyed(
            (b"a", b"1"), (b"b", b"2"), (b"c", b"3"),
            compression=compression, producer_id=9, producer_epoch=2, base_sequence=40,
        )  # fmt: skip
        written(bench, first, keyed((b"a", b"4"), (b"c", b"5")))
        assert compact(bench) is not None
        data = bench.content()
        header = next(batches(data))[1]
        assert (header.base_offset, header.last_offset) == (0, 2)
        assert header.compression == compression
        assert (header.producer_id, header.producer_epoch, header.base_sequence) == (9, 2, 40)
        assert header.max_timestamp == WALL_MS + 1
        assert [(r.offset, r.key, r.value) for r in read_records(data)] == [(1, b"b", b"2")]
        assert [r.offset for r in records_in(bench)] == [1, 3, 4]


def test_a_batch_that_loses_nothing_is_copied_as_it_is() -> None:
    bench = Bench(compacted_config())
    whole = keyed((b"a", b"1"), (b"b", b"2"), compression=Compression.ZSTD)
    written(bench, whole, keyed((b"c", b"1")), keyed((b"c", b"2")))
    assert compact(bench) is not None
    assert bench.content().startswith(bytes(whole))


def test_nothing_is_swapped_when_nothing_would_change() -> None:
    bench = Bench(compacted_config(segment_bytes=100))
    written(bench, keyed((b"a", b"1")), keyed((b"b", b"2")))
    outcome = compact(bench)
    assert outcome is not None
    assert outcome.groups == []
    assert bench.log.first_dirty_offset == 2
    assert bench.log.compactions == 0
    assert not [name for name in bench.disk.list(DIRECTORY) if "cleaned" in name]


def test_runs_of_empty_batches_end_with_their_leader_epoch() -> None:
    bench = Bench(compacted_config())
    for epoch in (0, 0, 3, 3, 4):
        bench.produce(keyed((b"a", b"%d" % epoch)), epoch)
    bench.commit()
    bench.log.roll(bench.turn)
    bench.commit()
    bench.log.set_high_watermark(5)
    assert compact(bench) is not None
    found = [(h.base_offset, h.last_offset, h.leader_epoch) for _, h in batches(bench.content())]
    assert found == [(0, 1, 0), (2, 3, 3), (4, 4, 4)]
    assert bench.log.epochs.entries() == [(0, 0), (3, 2), (4, 4)]


def test_a_tombstone_stays_until_its_horizon_and_keeps_its_time() -> None:
    bench = Bench(compacted_config(delete_retention_ms=1000))
    dead = build_batch([Record(None, b"a", timestamp=WALL_MS - 5_000_000)])
    written(bench, keyed((b"a", b"1")), dead, keyed((b"b", b"1")))
    assert compact(bench) is not None
    tombstone = next(records_in(bench))
    assert (tombstone.value, tombstone.offset) == (None, 1)
    assert tombstone.timestamp == WALL_MS - 5_000_000
    header = next(h for _, h in batches(bench.content()) if h.base_offset == 1)
    assert header.attributes & DELETE_HORIZON
    assert header.base_timestamp == WALL_MS + 1000
    assert header.max_timestamp == WALL_MS - 5_000_000
    for wait_ms, stays in ((999, True), (1, False)):
        bench.turn.wall_ms += wait_ms
        written(bench, keyed((b"b", b"2")))
        assert compact(bench) is not None
        assert (b"a" in content(bench)) == stays


def test_the_brokers_own_timestamps_stay() -> None:
    bench = Bench(compacted_config(is_log_append_time=True))
    written(bench, keyed((b"a", b"1"), (b"b", None), (b"c", b"1")))
    bench.turn.wall_ms += 500
    written(bench, keyed((b"a", b"2")))
    before = {record.offset: record for record in records_in(bench)}
    assert compact(bench) is not None
    left = list(records_in(bench))
    assert [record.offset for record in left] == [1, 2, 3]
    assert all(record == before[record.offset] for record in left)


def test_a_copy_of_any_of_the_last_five_batches_is_known_after_compaction_and_restart() -> None:
    bench = Bench(compacted_config())
    idempotent = {"producer_id": 7, "producer_epoch": 0}
    written(bench, *(keyed((b"a", b"%d" % n), **idempotent, base_sequence=n) for n in range(8)))
    assert compact(bench) is not None
    assert len(list(records_in(bench))) == 1
    for name in bench.disk.list(DIRECTORY):
        if name.endswith(".snapshot"):
            del bench.disk.files[f"{DIRECTORY}/{name}"]
    bench.reopen(Restart.CRASH)
    for n in range(3, 8):
        again = bench.produce(keyed((b"a", b"%d" % n), **idempotent, base_sequence=n))
        assert again.is_duplicate
        assert again.base_offset == n
    with pytest.raises(ApiError) as caught:
        bench.produce(keyed((b"a", b"9"), **idempotent, base_sequence=9))
    assert caught.value.code == ErrorCode.OUT_OF_ORDER_SEQUENCE_NUMBER
    assert bench.produce(keyed((b"a", b"8"), **idempotent, base_sequence=8)).base_offset == 8


def test_control_batches_and_what_cannot_be_read_stay_and_keyless_records_go() -> None:
    bench = Bench(compacted_config(is_compacted=False))
    lie = keyed((b"a", b"1"))
    lie[65] = 0x7F
    HEADER.pack_into(lie, 0, *HEADER.unpack_from(lie)[:4], 0, *HEADER.unpack_from(lie)[5:])
    lie[17:21] = _crc(lie)
    for data in (lie, keyed((b"a", b"2")), build_batch([Record(b"no key")])):
        bench.produce(data)
    bench.log.append_records(bench.turn, [Record(b"end", b"a")], 0, attributes=CONTROL)
    bench.produce(keyed((b"a", b"3")))
    bench.commit()
    bench.log.roll(bench.turn)
    bench.commit()
    bench.log.set_high_watermark(5)
    bench.log.config = compacted_config()
    assert compact(bench) is not None
    found = [(h.base_offset, h.last_offset, h.record_count) for _, h in batches(bench.content())]
    assert found == [(0, 0, 1), (1, 2, 0), (3, 3, 1), (4, 4, 1)]


def _crc(data: bytearray) -> bytes:
    from kcluster.wire.records import crc_of

    return crc_of(data, 0, len(data)).to_bytes(4, "big")


# --- what is compacted ----------------------------------------------------------------------


def test_only_what_is_sealed_committed_and_old_enough_is_compacted() -> None:
    bench = Bench(compacted_config(min_compaction_lag_ms=1000))
    written(bench, keyed((b"a", b"1")), keyed((b"a", b"2")), keyed((b"a", b"3")))
    bench.turn.wall_ms += 999
    assert plan.plan(bench.log, bench.turn) is None
    bench.turn.wall_ms += 1
    bench.log.set_high_watermark(2)
    found = plan.plan(bench.log, bench.turn)
    assert found is not None
    assert [segment.base_offset for segment in found.segments] == [0, 1]
    bench.log.set_high_watermark(3)
    found = plan.plan(bench.log, bench.turn)
    assert found is not None
    assert [segment.base_offset for segment in found.segments] == [0, 1, 2]


def test_a_log_is_due_by_its_dirty_part_or_by_its_age() -> None:
    bench = Bench(compacted_config())
    written(bench, *(keyed((b"k%d" % n, bytes(100))) for n in range(9)))
    assert compact(bench) is not None
    written(bench, keyed((b"k0", bytes(100))))
    bench.log.config = compacted_config(min_cleanable_dirty_ratio=0.5)  # type: ignore[arg-type]
    found = plan.plan(bench.log, bench.turn)
    assert found is not None
    assert 0.09 < found.dirty_ratio < 0.11
    assert not found.is_due
    bench.log.config = compacted_config(
        min_cleanable_dirty_ratio=0.5,  # type: ignore[arg-type]
        max_compaction_lag_ms=5000,
    )
    bench.turn.wall_ms = WALL_MS + 5000
    found = plan.plan(bench.log, bench.turn)
    assert found is not None and not found.is_due
    bench.turn.wall_ms = WALL_MS + 5001
    found = plan.plan(bench.log, bench.turn)
    assert found is not None and found.is_due


def test_a_segment_that_is_not_durable_is_synced_first() -> None:
    bench = Bench(compacted_config())
    written(bench, keyed((b"a", b"1")), keyed((b"a", b"2")))
    bench.reopen(Restart.CRASH)
    bench.log.set_high_watermark(2)
    assert plan.plan(bench.log, bench.turn) is None
    bench.commit()
    assert plan.plan(bench.log, bench.turn) is not None


def test_more_keys_than_memory_take_more_than_one_pass() -> None:
    bench = Bench(compacted_config())
    for value in (b"1", b"2"):
        written(bench, *(keyed((b"key-%d" % n, value)) for n in range(20)))
    passes = 0
    while compact(bench, map_bytes=ENTRY_BYTES * 6) is not None:
        passes += 1
    assert 3 < passes < 10
    assert [r.value for r in records_in(bench)] == [b"2"] * 20


def test_a_key_costs_memory_once_however_often_it_stands() -> None:
    bench = Bench(compacted_config())
    written(bench, *(keyed((b"k%d" % (n % 3), bytes(50))) for n in range(60)))
    assert compact(bench, map_bytes=ENTRY_BYTES * 5) is not None
    assert bench.log.first_dirty_offset == 60
    assert [r.offset for r in records_in(bench)] == [57, 58, 59]


def test_small_segments_are_joined_up_to_segment_bytes() -> None:
    bench = Bench(compacted_config(segment_bytes=1000))
    written(bench, *(keyed((b"k%d" % n, bytes(200))) for n in range(12)))
    assert compact(bench) is not None
    sizes = [size for _, size in bench.log.segments()]
    assert len(sizes) < 6
    assert max(sizes) <= 1000
    bench.shut_down()
    assert bench.reopen(Restart.CLEAN).log_end_offset == 12


def test_damage_is_found_and_not_given_a_new_crc() -> None:
    for at, flip in ((3, 0x40), (15, 0x01), (64, 0x10)):
        bench = Bench(compacted_config())
        written(bench, keyed((b"a", b"1")), keyed((b"a", b"2")))
        found = plan.plan(bench.log, bench.turn)
        assert found is not None
        bench.disk.files[bench.log.chain.items[0].path].data[at] ^= flip
        with pytest.raises(CorruptLogError):
            clean_now(found.job(1, WALL_MS, 1 << 20), bench.disk)


# --- reading a compacted log ----------------------------------------------------------------


def gappy(seed: int = 5) -> tuple[Bench, Writer]:
    bench = Bench(compacted_config())
    writer = Writer(bench, Random(seed), keys=3)
    writer.fill(80, tombstones=0)
    assert compact(bench) is not None
    return bench, writer


def test_a_reader_is_given_records_from_any_offset_and_the_end_when_there_are_none() -> None:
    bench, _ = gappy()
    log = bench.log
    end = log.log_end_offset
    offsets = [record.offset for record in records_in(bench)]
    for offset in range(end):
        for limit in (0, 100, 1 << 20):
            result = log.read(offset, limit, end, skips_empty=True)
            data = b"".join(log.files.read(s.path, s.position, s.size) for s in result.spans)
            first = read_records(data)
            assert first, "it begins with records"
            got = [r.offset for at, _ in batches(data) for r in read_records(data, at)]
            due = [o for o in offsets if o >= offset]
            assert [o for o in got if o >= offset] == due[: len([o for o in got if o >= offset])]
            assert any(o >= offset for o in got)
    # Nothing but empty batches below the high watermark: they move the reader on.
    first_live = offsets[0]
    upto = max(h.last_offset + 1 for _, h in batches(bench.content()) if h.last_offset < first_live)
    position = 0
    while position < upto:
        result = log.read(position, 100, upto, skips_empty=True)
        assert result.size
        assert result.next_offset > position
        position = result.next_offset


def test_a_flipped_bit_in_a_skipped_batch_is_found() -> None:
    bench, _ = gappy()
    path = bench.log.chain.items[0].path
    header = HEADER.unpack_from(bench.disk.files[path].data)
    assert header[12] == 0
    bench.disk.files[path].data[25] ^= 1
    with pytest.raises(CorruptLogError):
        bench.log.read(0, 1000, bench.log.log_end_offset, skips_empty=True)


def test_timestamps_are_those_of_records_and_not_of_empty_batches() -> None:
    for seed in range(30):
        bench, _ = gappy(seed)
        log = bench.log
        found = [(r.timestamp, -r.offset) for r in records_in(bench)]
        timestamp, offset = max(found)
        assert log.max_timestamp() == (-offset, timestamp)
        for wanted in range(WALL_MS - 110, WALL_MS + 900, 37):
            due = next((r for r in records_in(bench) if r.timestamp >= wanted), None)
            answer = log.offset_for_timestamp(wanted)
            if due is None:
                assert answer is None
            else:
                assert answer is not None
                assert answer[:2] == (due.offset, due.timestamp)


def test_a_follower_catches_up_from_every_position() -> None:
    leader, writer = gappy()
    end = leader.log.log_end_offset
    for position in range(len(writer.batches) + 1):
        follower = Bench(compacted_config())
        for _, _, _, data in writer.batches[:position]:
            follower.replicate(data)
        follower.commit()
        while follower.log.log_end_offset < end:
            at = follower.log.log_end_offset
            data, following = leader.log.read_bytes(at, 700, end)
            if starts_empty_before(data, at):
                data = start_empty_at(data, at)
            follower.replicate(data)
            follower.commit()
            assert follower.log.log_end_offset == following
        assert living(content(follower)) == living(writer.content)
        assert follower.log.epochs.entries() == leader.log.epochs.entries()
        follower.log.set_high_watermark(end)
        compact(follower)
        check_against(follower, writer)


def test_a_cut_inside_an_empty_batch_takes_all_of_it() -> None:
    bench, _ = gappy()
    header = next(h for _, h in batches(bench.content()) if h.record_count == 0 and h.base_offset)
    assert header.last_offset > header.base_offset
    bench.log.set_high_watermark(0)
    bench.log.truncate_to(bench.turn, header.base_offset + 1)
    bench.commit()
    assert bench.log.log_end_offset == header.base_offset
    assert bench.log.first_dirty_offset <= header.base_offset
    cutting.rebuild_producers(bench.log)


# --- producing ------------------------------------------------------------------------------


@pytest.mark.parametrize("compression", Compression)
def test_a_record_without_a_key_refuses_its_batch_by_name(compression: Compression) -> None:
    bench = Bench(compacted_config())
    records = [Record(b"1", b"a"), Record(b"2"), Record(b"3", b""), Record(b"4")]
    with pytest.raises(InvalidRecords) as caught:
        bench.produce(build_batch(records, compression=compression))
    assert caught.value.code == ErrorCode.INVALID_RECORD
    what = "Compacted topic cannot accept message without key in topic partition orders-0."
    assert caught.value.records == [(1, what), (3, what)]
    assert bench.log.log_end_offset == 0
    assert not bench.turn.disk


def test_a_compacted_topic_takes_no_batch_whose_records_cannot_be_read() -> None:
    lie = keyed((b"a", b"1"))
    lie[65] = 0x7F
    lie[17:21] = _crc(lie)
    bench = Bench(compacted_config())
    with pytest.raises(ApiError) as caught:
        bench.produce(lie)
    assert caught.value.code == ErrorCode.INVALID_RECORD
