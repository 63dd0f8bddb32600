"""The checks of compacted logs can fail: each for what it is there for."""

from __future__ import annotations

import pytest

from kcluster.check.anomalies import find
from kcluster.check.compacted import CompactedTruth
from kcluster.check.history import OK, History
from kcluster.check.seen import BatchSeen, InvariantViolated, RecordSeen
from kcluster.model import TopicPartition

TP = TopicPartition("t", 0)


def record(offset: int, key: bytes, *, is_tombstone: bool = False) -> RecordSeen:
    return RecordSeen(offset, key, offset + 100, is_tombstone)


def batch(*records: RecordSeen, base: int = -1, last: int = -1, epoch: int = 0) -> BatchSeen:
    base = records[0].offset if base < 0 else base
    last = records[-1].offset if last < 0 else last
    return BatchSeen(base, last, epoch, 0, records=records)


A0, B1, A2, B3 = (
    record(0, b"a"),
    record(1, b"b"),
    record(2, b"a"),
    record(3, b"b", is_tombstone=True),
)


@pytest.fixture
def truth() -> CompactedTruth:
    made = CompactedTruth()
    made.commit(batch(A0, B1))
    made.commit(batch(A2, B3, epoch=2))
    return made


def match(truth: CompactedTruth, seen: BatchSeen, start: int = 0) -> None:
    truth.match(seen, start, 3, "LogMatching", "here")


def test_what_is_superseded_may_be_missing_and_nothing_else(truth: CompactedTruth) -> None:
    match(truth, batch(base=0, last=1))
    match(truth, batch(A2, base=2, last=3, epoch=2), 2)
    match(truth, batch(A2, B3, epoch=2), 2)
    with pytest.raises(InvariantViolated):
        match(truth, batch(B3, base=2, last=3, epoch=2), 2)


def test_what_is_there_is_what_was_committed_in_its_epoch(truth: CompactedTruth) -> None:
    with pytest.raises(InvariantViolated):
        match(truth, batch(record(0, b"z"), base=0, last=1))
    with pytest.raises(InvariantViolated):
        match(truth, batch(base=0, last=1, epoch=1))
    with pytest.raises(InvariantViolated):
        match(truth, batch(base=0, last=3), 0)
    with pytest.raises(InvariantViolated):
        match(truth, batch(B1), 0)


def test_what_is_committed_is_whole() -> None:
    with pytest.raises(InvariantViolated):
        CompactedTruth().commit(batch(A0, base=0, last=1))


def test_the_last_value_per_key_is_left(truth: CompactedTruth) -> None:
    truth.check_last([A2, B3], "here", is_strict=True)
    truth.check_last([A0, A2], "here", is_strict=True)
    truth.check_last([B1, A2], "here", is_strict=False)
    with pytest.raises(InvariantViolated):
        truth.check_last([B1, A2], "here", is_strict=True)
    with pytest.raises(InvariantViolated):
        truth.check_last([A0, B3], "here", is_strict=False)


def test_a_write_is_lost_only_if_nothing_later_has_its_key() -> None:
    history = History(compacted={TP: {0: b"a", 1: b"b", 2: b"a"}})
    for offset, key in enumerate((b"a", b"b", b"a")):
        sent = history.send("p", TP, b"%d" % offset, -1, is_idempotent=True, key=key)
        sent.outcome, sent.offset = OK, offset
    history.logs[TP] = {1: [(1, b"1"), (2, b"2")], 2: [(0, b"0"), (1, b"1"), (2, b"2")]}
    history.poll("c", TP, [(1, b"1")])
    history.poll("c", TP, [(2, b"2")])
    assert not find(history)
    history.logs[TP][1] = [(2, b"2")]
    assert find(history).counts == {"lost-write": 1}
    history.poll("d", TP, [(0, b"0"), (2, b"2")])
    assert find(history).counts == {"lost-write": 1, "poll-skip": 1}
