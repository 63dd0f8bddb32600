"""Damage that fuzzing found to end a broker, to be taken for sound, or to change what it was
found in."""

from __future__ import annotations

import struct

import pytest

from kcluster.config import LogConfig
from kcluster.core.log.checkpoints import format_offsets, parse_offsets
from kcluster.core.log.leader_epochs import LeaderEpochs
from kcluster.core.log.partition_log import PartitionLog, Restart
from kcluster.core.log.segment import LOG, file_name
from kcluster.core.turn import Turn
from kcluster.errors import CorruptLogError, RemoteProtocolError
from kcluster.model import TopicPartition
from kcluster.wire.record_walk import body_of, walk
from kcluster.wire.records import HEADER, LENGTH_OVERHEAD, read_records
from tests.core.log.bench import DIRECTORY, TP, WALL_MS, Bench, batch
from tests.fuzz.seeds import far_in_the_future

CONFIG = LogConfig(segment_bytes=500, index_interval_bytes=0, retention_ms=-1)
EPOCH_AT = 12


def shut_down(count: int = 20) -> Bench:
    bench = Bench(CONFIG)
    for n in range(count):
        bench.produce(batch(1, size=60, producer_id=3, producer_epoch=0, base_sequence=n), n // 8)
        bench.commit()
    bench.shut_down()
    return bench


def log_file(bench: Bench, base_offset: int) -> bytearray:
    return bench.disk.files[f"{DIRECTORY}/{file_name(base_offset, LOG)}"].data


def starts(data: bytearray) -> list[int]:
    """Positions of the batches."""
    found, position = [], 0
    while position < len(data):
        found.append(position)
        position += HEADER.unpack_from(data, position)[1] + LENGTH_OVERHEAD
    return found


def refused(bench: Bench, restart: Restart = Restart.CLEAN) -> None:
    """The log does not open, and nothing is done to its files."""
    turn = Turn()
    log = PartitionLog(TP, DIRECTORY, bench.disk, CONFIG)
    with pytest.raises(CorruptLogError):
        log.open(turn, restart, recovery_point=bench.recovery_point)
    assert not turn.disk


def test_a_flipped_sign_of_the_last_leader_epoch_is_damage_and_no_bug() -> None:
    bench = shut_down()
    data = log_file(bench, bench.log.chain.bases[-1])
    data[starts(data)[-1] + EPOCH_AT] ^= 0x80
    refused(bench)
    log = bench.reopen(Restart.CLEAN, repair=True)
    assert log.log_end_offset == 19


@pytest.mark.parametrize("byte", [0, 2, 3])
def test_a_flipped_base_offset_in_a_believed_segment_is_damage_and_no_bug(byte: int) -> None:
    bench = shut_down()
    for name in [name for name in bench.disk.files if name.endswith("index")]:
        del bench.disk.files[name]
    data = log_file(bench, bench.log.chain.bases[1])
    data[starts(data)[1] + byte] ^= 0x81
    refused(bench)
    end_offset = bench.log.chain.bases[1] + 1
    log = bench.reopen(Restart.CLEAN, repair=True)
    assert log.log_end_offset == end_offset
    assert len(starts(bytearray(bench.content()))) == end_offset


def test_a_log_that_is_refused_at_the_very_end_of_recovery_is_left_as_it_was() -> None:
    """The producers' snapshots are gone, so that their state is rebuilt from a batch that is
    damaged; by then a leftover was to be deleted."""
    bench = shut_down()
    for name in list(bench.disk.files):
        if name.endswith(".snapshot"):
            del bench.disk.files[name]
    bench.disk.files[f"{DIRECTORY}/{file_name(0, LOG)}.deleted"] = bench.disk.files[
        f"{DIRECTORY}/{file_name(0, LOG)}"
    ]
    data = log_file(bench, 0)
    struct.pack_into(">q", data, starts(data)[1], 1 << 60)
    refused(bench)
    log = bench.reopen(Restart.CLEAN, repair=True)
    assert log.log_end_offset == 1, "what is sound before it is kept"
    assert list(log.producers.view()) == [3]


def test_a_segment_that_lost_its_first_batches_is_not_served_from_what_is_left() -> None:
    bench = shut_down()
    data = log_file(bench, 0)
    del data[: starts(data)[2]]
    for name in [name for name in bench.disk.files if name.endswith("index")]:
        del bench.disk.files[name]
    refused(bench)


def test_truncating_into_the_batch_of_the_log_start_takes_the_log_start_along() -> None:
    """A batch goes whole, so that the log ends below where it started: no offset may be given
    below the log start."""
    bench = Bench(CONFIG)
    bench.produce(batch(5))
    bench.produce(batch(5))
    bench.commit()
    bench.log.set_high_watermark(10)
    bench.log.advance_log_start(bench.turn, 7)
    bench.log.truncate_to(bench.turn, 8)
    assert (bench.log.log_start_offset, bench.log.log_end_offset) == (5, 5)
    bench.commit()
    assert bench.produce(batch(2), 1).base_offset == 5
    bench.commit()
    before = bench.content()
    bench.log_start_offset = bench.log.log_start_offset
    log = bench.reopen(Restart.CRASH)
    assert (log.log_start_offset, log.log_end_offset) == (5, 7)
    assert bench.content() == before


def epochs_of(*entries: tuple[int, int]) -> LeaderEpochs:
    cache = LeaderEpochs()
    for epoch, start in entries:
        cache.epochs.append(epoch)
        cache.starts.append(start)
    return cache


def test_a_leader_epoch_checkpoint_that_is_torn_in_its_last_number_is_refused() -> None:
    data = epochs_of((0, 0), (3, 1200)).encode()
    assert LeaderEpochs.decode(data).entries() == [(0, 0), (3, 1200)]
    for size in range(len(data) - 3, len(data)):
        with pytest.raises(CorruptLogError):
            LeaderEpochs.decode(data[:size])


@pytest.mark.parametrize(("number", "offset"), [(3, 1 << 63), (1 << 31, 5)])
def test_numbers_that_no_answer_could_carry_are_refused(number: int, offset: int) -> None:
    with pytest.raises(CorruptLogError):
        LeaderEpochs.decode(epochs_of((number, offset)).encode())
    with pytest.raises(CorruptLogError):
        parse_offsets(format_offsets({TopicPartition("orders", number): offset}))


def test_the_offset_of_a_batch_is_what_a_walk_expects() -> None:
    bench = Bench(CONFIG)
    for _ in range(3):
        bench.produce(batch(1))
    bench.commit()
    data = log_file(bench, 0)
    bench.log.chain.active.known.clear()
    struct.pack_into(">q", data, starts(data)[1], 5)
    with pytest.raises(CorruptLogError):
        list(bench.log.chain.active.headers(0, len(data)))


def test_producers_are_the_same_from_a_snapshot_and_from_the_log() -> None:
    bench = Bench(CONFIG)
    odd = batch(2, producer_id=9, producer_epoch=0, base_sequence=-7)
    bench.replicate(odd)
    bench.commit()
    before = bench.log.producers.view()
    bench.shut_down()
    assert bench.reopen(Restart.CLEAN).producers.view() == before


def test_a_record_of_a_timestamp_that_no_answer_could_carry_answers_no_look_up() -> None:
    """Its header is in order, so that a produced batch may hold it; ListOffsets ended the broker
    that led it, and after it the next leader."""
    bench = Bench(CONFIG)
    bench.produce(bytearray(far_in_the_future()))
    bench.produce(batch(1, timestamp=WALL_MS + 1))
    bench.commit()
    assert bench.log.offset_for_timestamp(WALL_MS + 1) == (2, WALL_MS + 1, 0)
    data = far_in_the_future()
    with pytest.raises(RemoteProtocolError):
        read_records(data)
    with pytest.raises(RemoteProtocolError):
        header = HEADER.unpack_from(data)
        walk(header, body_of(header, data))


def test_what_was_staged_and_cut_off_in_the_same_turn_is_not_replayed_to_producers() -> None:
    """Found by the model: a second truncation went through the buffers of what the first one had
    cut off, and knew its producer again."""
    bench = Bench(CONFIG)
    bench.produce(batch(1, producer_id=1, producer_epoch=0, base_sequence=0))
    bench.log.truncate_to(bench.turn, 0)
    bench.produce(batch(1))
    bench.produce(batch(1, producer_id=2, producer_epoch=0, base_sequence=0))
    bench.produce(batch(1, producer_id=3, producer_epoch=0, base_sequence=0))
    bench.log.truncate_to(bench.turn, 2)
    assert list(bench.log.producers.view()) == [2]
