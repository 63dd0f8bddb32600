"""What the broker-wide checkpoints make of a log, and what becomes of it when they fail."""

from __future__ import annotations

import errno

from kcluster.core.log import checkpoints as files
from kcluster.core.metadata import records as r
from kcluster.model import TopicPartition
from tests.core.broker.stage import TOPIC_ID, TP, Stage, produce

NAMESAKE = bytes(reversed(TOPIC_ID))
WRITTEN_MS = 6000
"""By then high watermarks are in their file."""
POINTS_MS = 61_000
"""By then recovery points and log starts are."""


def test_a_namesake_takes_no_records_while_the_high_watermark_of_the_deleted_stands() -> None:
    stage = Stage(1)
    stage.create([1])
    stage[1].asks(produce(b"a", b"b", b"c"), 9)
    stage.wait(WRITTEN_MS)
    stage.dictate(r.TopicDeleted(TOPIC_ID))
    stage[1].disk.fail_next[files.HIGH_WATERMARKS] = errno.EIO
    stage.dictate(
        r.TopicCreated("orders", NAMESAKE), r.PartitionChanged(NAMESAKE, 0, [1], [1], 1, 0, 0)
    )
    assert stage[1].replica.offline
    stage.restart(1)
    assert not stage[1].replica.offline
    told = files.parse_offsets(stage[1].disk.read(files.HIGH_WATERMARKS, 0, 1000))
    assert (stage[1].log.high_watermark, told[TP]) == (0, 0)


def test_what_could_not_be_written_is_written_the_next_time() -> None:
    stage = Stage(1)
    stage.create([1])
    stage[1].asks(produce(b"a"), 9)
    stage[1].disk.fail_next[files.HIGH_WATERMARKS] = errno.EIO
    stage.wait(WRITTEN_MS)
    assert stage[1].disk.size(files.HIGH_WATERMARKS) == -1
    assert not stage[1].replica.offline
    stage.wait(WRITTEN_MS)
    assert files.parse_offsets(stage[1].disk.read(files.HIGH_WATERMARKS, 0, 1000)) == {TP: 1}


def test_nothing_of_a_damaged_log_passes_for_committed() -> None:
    stage = Stage(2)
    stage.create([2, 1])
    for value in (b"a", b"b", b"c"):
        stage[2].asks(produce(value), 9)
        stage.deliver()
    stage.wait(WRITTEN_MS)
    assert stage[1].log.high_watermark == 3
    # The epoch of the second batch: no CRC covers it, and that it is wrong shows at the third.
    path = f"orders-0/{0:020}.log"
    file = stage[1].disk.files[path].data
    file[len(file) // 3 + 12] ^= 1
    stage.restart(1)
    assert stage[1].core.replica_set.notices
    assert stage[1].log.high_watermark == 0
    stage.deliver()
    stage.wait(1000)
    assert (stage[1].records(), stage[1].log.high_watermark) == ([b"a", b"b", b"c"], 3)


def test_a_power_cut_leaves_the_log_starts_whole_whoever_wrote_them_last() -> None:
    stage = Stage(1)
    stage.create([1])
    stage[1].asks(produce(b"a", b"b", b"c"), 9)
    log = stage[1].log
    log.advance_log_start(stage[1].turn, 2)
    stage[1].run()
    disk = stage[1].disk
    assert files.parse_offsets(disk.read(files.LOG_STARTS, 0, 1000)) == {TP: 2}
    stage.dictate(
        r.TopicCreated("more", NAMESAKE), r.PartitionChanged(NAMESAKE, 0, [1], [1], 1, 0, 0)
    )
    stage.wait(POINTS_MS)
    more = TopicPartition("more", 0)
    assert files.parse_offsets(disk.read(files.LOG_STARTS, 0, 1000)) == {TP: 2, more: 0}
    disk.lose_power()
    assert files.parse_offsets(disk.read(files.LOG_STARTS, 0, 1000)) == {TP: 2, more: 0}


def test_a_cut_below_the_high_watermark_is_told_to_the_checkpoint() -> None:
    """Only an unclean election asks for it: what is written there later may be something else."""
    stage = Stage(1)
    stage.create([1])
    for value in (b"a", b"b", b"c"):
        stage[1].asks(produce(value), 9)
    stage.wait(WRITTEN_MS)
    stage[1].log.truncate_to(stage[1].turn, 1)
    stage[1].run()
    assert files.parse_offsets(stage[1].disk.read(files.HIGH_WATERMARKS, 0, 1000)) == {TP: 1}
