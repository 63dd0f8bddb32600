"""Invariant 14: what is committed of each producer, and that a log knows it when it is opened."""

from __future__ import annotations

from kcluster.check.seen import BatchSeen, ReplicaSeen, require

SEQUENCES = 1 << 31
"""They start again at 0."""

Known = dict[int, tuple[int, int, int]]
"""(epoch, last sequence, last offset) by producer id."""


def batch_committed(known: Known, batch: BatchSeen, where: str) -> None:
    """A batch was, for the first time: `known` has it from now on."""
    if batch.producer_id < 0:
        return
    before = known.get(batch.producer_id)
    count = batch.last_offset - batch.base_offset + 1
    last = (batch.base_sequence + count - 1) % SEQUENCES
    if before is not None and before[0] == batch.producer_epoch:
        require(
            batch.base_sequence == (before[1] + 1) % SEQUENCES, 14,
            "sequences are committed once and without holes",
            f"{where}: producer {batch.producer_id} sequence {batch.base_sequence} at "
            f"{batch.base_offset} after {before[1]}",
        )  # fmt: skip
    elif before is not None:
        require(
            batch.producer_epoch > before[0] and batch.base_sequence == 0, 14,
            "a new producer epoch starts at sequence 0", f"{where}: {batch}",
        )  # fmt: skip
    known[batch.producer_id] = batch.producer_epoch, last, batch.last_offset


def log_opened(known: Known, now: ReplicaSeen) -> None:
    """Whose last committed batch lies in the log, the log knows."""
    assert now.producers is not None
    its = now.producers
    forgotten = {
        id: last_offset
        for id, (*_, last_offset) in known.items()
        if now.log_start_offset <= last_offset < now.high_watermark
        and its.get(id, -1) < last_offset
    }
    require(
        not forgotten, 14, "a log knows its producers",
        lambda: f"{now}: by producer, the last batch ends at {forgotten}, known are {its}",
    )  # fmt: skip
