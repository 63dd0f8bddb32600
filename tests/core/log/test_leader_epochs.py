"""The leader epoch cache against a log whose records know their epoch."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kcluster.core.log.leader_epochs import LeaderEpochs
from kcluster.errors import CorruptLogError


def cache(*entries: tuple[int, int]) -> LeaderEpochs:
    epochs = LeaderEpochs()
    for epoch, start in entries:
        epochs.assign(epoch, start)
    return epochs


@given(
    st.lists(
        st.one_of(
            st.tuples(st.just("append"), st.integers(1, 5)),
            st.tuples(st.just("lead"), st.integers(1, 3)),
            st.tuples(st.just("cut"), st.integers(0, 40)),
            st.tuples(st.just("start"), st.integers(0, 40)),
        ),
        max_size=40,
    )
)
def test_it_knows_the_epoch_of_every_record(steps: list[tuple[str, int]]) -> None:
    epochs, log, start, epoch = LeaderEpochs(), [], 0, 0
    epochs.assign(0, 0)
    for step, value in steps:
        if step == "append":
            epochs.assign(epoch, len(log))
            log += [epoch] * value
        elif step == "lead":
            epoch += value
            epochs.assign(epoch, len(log))
        elif step == "cut" and start <= value < len(log):
            del log[value:]
            epochs.truncate_from_end(value)
        elif step == "start" and start <= value <= len(log):
            start = value
            epochs.truncate_from_start(value)
        pairs = epochs.entries()
        assert [e for e, _ in pairs] == sorted({e for e, _ in pairs})
        assert [s for _, s in pairs] == sorted({s for _, s in pairs})
        for offset in range(start, len(log)):
            assert epochs.epoch_of(offset) == log[offset]
        for asked in {*log[start:]}:
            last = max(offset for offset, e in enumerate(log) if e == asked)
            assert epochs.end_offset_for(asked, len(log))[0] == asked
            assert epochs.end_offset_for(asked, len(log))[1] == last + 1
        assert LeaderEpochs.decode(epochs.encode()).entries() == pairs


def test_an_epoch_without_records_is_kept_and_ends_where_it_began() -> None:
    epochs = cache((0, 0), (1, 10), (4, 20))
    assert epochs.end_offset_for(4, 20) == (4, 20)
    assert epochs.end_offset_for(1, 20) == (1, 20)


def test_an_epoch_in_a_gap_is_answered_with_the_one_before() -> None:
    epochs = cache((0, 0), (1, 10), (4, 20))
    assert epochs.end_offset_for(3, 25) == (1, 20)
    assert epochs.end_offset_for(9, 25) == (4, 25)


def test_an_epoch_older_than_the_log_is_undefined() -> None:
    assert cache((2, 5)).end_offset_for(1, 9) == (-1, -1)
    assert cache().end_offset_for(1, 9) == (-1, -1)


def test_records_of_an_older_epoch_drop_a_newer_one_that_wrote_nothing() -> None:
    epochs = cache((0, 0), (5, 10))
    epochs.assign(3, 10)
    assert epochs.entries() == [(0, 0), (3, 10)]


def test_the_log_start_moves_the_start_of_its_epoch() -> None:
    epochs = cache((0, 0), (1, 10), (4, 20))
    epochs.truncate_from_start(15)
    assert epochs.entries() == [(1, 15), (4, 20)]
    epochs.truncate_from_start(30)
    assert epochs.entries() == [(4, 30)]


def test_the_file_is_kafkas_checkpoint_format_with_a_checksum_that_kafka_drops() -> None:
    encoded = cache((0, 0), (3, 1200)).encode()
    assert encoded == b"0\n3\n0 0\n3 1200\n2147483647 4611686021286447999\n"


def test_no_flipped_bit_and_no_cut_makes_another_cache() -> None:
    data = cache((0, 0), (3, 1200)).encode()
    damaged = [data[:size] for size in range(len(data))]
    for bit in range(8 * len(data)):
        changed = bytearray(data)
        changed[bit // 8] ^= 1 << bit % 8
        damaged.append(bytes(changed))
    for one in damaged:
        with pytest.raises(CorruptLogError):
            LeaderEpochs.decode(one)


DAMAGED = (
    b"", b"1\n0\n", b"0\n2\n0 0\n", b"0\n1\nx y\n", b"0\n2\n1 0\n1 5\n", b"0\n2\n0 5\n1 5\n",
    b"\xff\xfe", b"0\n1\n-1 0\n",
)  # fmt: skip


@pytest.mark.parametrize("data", DAMAGED)
def test_a_damaged_file_is_refused(data: bytes) -> None:
    with pytest.raises(CorruptLogError):
        LeaderEpochs.decode(data)
