"""What damage is drawn for the files of a broker that is down."""

from __future__ import annotations

from random import Random

from kcluster.core.log import damage
from kcluster.core.turn import Replace
from kcluster.sim.cluster import SimCluster
from kcluster.sim.cores import make_broker, make_controller
from kcluster.sim.disk import SimDisk
from kcluster.sim.disk_faults import corrupt


def corrupted(path: str, seed: int) -> tuple[SimDisk, bool]:
    """A disk whose only file has been struck, and whether the ledger is to expect damage."""
    cluster = SimCluster(seed, make_broker=make_broker, make_controller=make_controller)
    process = cluster.processes[1]
    process.disk.perform(Replace(path, b"a batch is cut short", durable=True))
    corrupt(cluster, 1, Random(seed))
    return process.disk, process.was_damaged


def test_the_mark_of_damage_is_spoilt_in_every_way_but_never_taken_away() -> None:
    mark = f"orders-0/{damage.FILE_NAME}"
    seen = [corrupted(mark, seed) for seed in range(60)]
    assert all(damage.cause_of(disk, "orders-0") is not None for disk, _ in seen)
    assert {was_damaged for _, was_damaged in seen} == {True, False}
    assert {disk.size(mark) for disk, _ in seen} >= {0, 20}


def test_any_other_file_may_be_taken_away() -> None:
    path = "orders-0/partition.metadata"
    seen = [corrupted(path, seed) for seed in range(60)]
    assert any(disk.size(path) < 0 for disk, _ in seen)
    assert all(was_damaged for _, was_damaged in seen)
