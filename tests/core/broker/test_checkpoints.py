"""What the broker-wide checkpoint files say of logs that come and go."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from kcluster.core.broker.checkpoints import Checkpoints
from kcluster.core.log import checkpoints as files
from kcluster.core.turn import Replace, Turn
from kcluster.model import TopicPartition
from kcluster.sim.disk import SimDisk

ORDERS, BRIEF = TopicPartition("orders", 0), TopicPartition("brief", 0)


def replica(tp: TopicPartition, high_watermark: int) -> Any:
    return SimpleNamespace(tp=tp, offline="", log=SimpleNamespace(high_watermark=high_watermark))


def written(checkpoints: Checkpoints, *replicas: Any) -> Replace:
    turn = Turn()
    checkpoints.write_high_watermarks(turn, replicas)
    (operation,) = turn.disk
    assert isinstance(operation, Replace)
    return operation


def test_an_entry_that_goes_is_gone_after_a_power_cut() -> None:
    """Else it would be taken for one of a new log of that name."""
    checkpoints = Checkpoints(SimDisk())
    checkpoints.load()
    assert not written(checkpoints, replica(ORDERS, 3), replica(BRIEF, 5)).durable
    assert not written(checkpoints, replica(ORDERS, 4), replica(BRIEF, 5)).durable
    removal = written(checkpoints, replica(ORDERS, 4))
    assert removal.durable
    assert files.parse_offsets(removal.data) == {ORDERS: 4}
