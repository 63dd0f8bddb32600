"""What may leave a log at its start, and what may not."""

from __future__ import annotations

import pytest

from kcluster.check.deletions import Deletions
from kcluster.check.seen import BatchSeen, InvariantViolated, ReplicaSeen
from kcluster.model import TopicPartition

TP = TopicPartition("orders", 0)
BATCHES = [BatchSeen(at, at, 0, 0, max_timestamp=1_000 + at) for at in range(10)]


def seen(start: int, size_bytes: int = 0, *, is_leader: bool = True) -> ReplicaSeen:
    return ReplicaSeen(1, 1, TP, b"id", is_leader, 0, start, 10, 10, size_bytes=size_bytes)


def test_nothing_is_deleted_that_nobody_asked_for() -> None:
    with pytest.raises(InvariantViolated, match="old, too much, or unwanted"):
        Deletions().start_moved(seen(1), BATCHES, 1 << 50)


def test_what_was_asked_for_is_and_no_more() -> None:
    deletions = Deletions()
    deletions.ask(TP, 4)
    deletions.start_moved(seen(4), BATCHES, 0)
    assert deletions.start(b"id", 0) == 4
    with pytest.raises(InvariantViolated):
        deletions.start_moved(seen(5), BATCHES, 0)


def test_retention_takes_what_is_old_enough() -> None:
    deletions = Deletions()
    deletions.may_age("orders", 500)
    deletions.start_moved(seen(3), BATCHES, 1_503)
    with pytest.raises(InvariantViolated):
        deletions.start_moved(seen(4), BATCHES, 1_503)


def test_retention_by_size_leaves_what_a_partition_may_have() -> None:
    deletions = Deletions()
    deletions.may_outgrow("orders", 100)
    deletions.start_moved(seen(3, 100), BATCHES, 0)
    with pytest.raises(InvariantViolated):
        deletions.start_moved(seen(4, 99), BATCHES, 0)


def test_only_what_is_committed_is_deleted() -> None:
    deletions = Deletions()
    deletions.ask(TP, -1)
    with pytest.raises(InvariantViolated, match="committed"):
        deletions.start_moved(seen(11), BATCHES, 0)


def test_what_lost_power_may_lack_its_beginning_until_it_is_counted_on() -> None:
    deletions = Deletions()
    late = seen(4, is_leader=False)
    deletions.start_moved(late, BATCHES, 0, is_counted_on=False, has_lost=True)
    # It was killed before its leader has heard of it.
    deletions.start_moved(late, BATCHES, 0, is_counted_on=False)
    assert deletions.start(b"id", 0) == 0
    with pytest.raises(InvariantViolated, match="old, too much, or unwanted"):
        deletions.start_moved(late, BATCHES, 0)


def test_who_lost_nothing_deletes_nothing_either_while_out_of_the_isr() -> None:
    with pytest.raises(InvariantViolated, match="old, too much, or unwanted"):
        Deletions().start_moved(seen(1, is_leader=False), BATCHES, 0, is_counted_on=False)
