"""What disks do to a simulated process: full, torn, broken, slow, dark, damaged while it is down.

A disk that failed an operation makes its process sick: logs are offline, and only a restart
brings them back. Each fault gives what undoes it.
"""

from __future__ import annotations

import errno
from collections.abc import Callable
from random import Random
from typing import Final

from kcluster.sim.cluster import SimCluster
from kcluster.sim.disk import SECTOR_BYTES, Operation

POWER: Final = "power"
CORRUPT: Final = "corrupt"

ON_DISKS: Final = {
    POWER: "unsynced bytes are gone or garbled, the boot id is a new one",
    "full disk": "a short write, then ENOSPC",
    "torn write": "a short write and EIO, on one log",
    "failed fsync": "the next fsync ends in EIO",
    "failed roll": "the file of the next segment cannot be written",
    "failed operation": "a rename, a truncation, a deletion or a checkpoint ends in EIO",
    "slow disk": "every fsync takes long",
    CORRUPT: "a file of a broker that is down: flipped, cut, emptied, garbled or missing",
}

OPERATIONS: Final[tuple[Operation, ...]] = ("replace", "truncate", "rename", "delete")
SLOW_SYNC_US: Final = (100_000, 1_500_000)
GARBLED_BYTES_MAX: Final = SECTOR_BYTES

Undo = Callable[[], None]


def fill(cluster: SimCluster, id: int, random: Random) -> Undo:
    disk = cluster.processes[id].disk
    cluster.note(f"full disk {id}")
    disk.capacity_bytes = disk.used_bytes() + random.randint(0, 400)
    return lambda: replace(cluster, id)


def tear(cluster: SimCluster, id: int, random: Random) -> Undo | None:
    disk = cluster.processes[id].disk
    logs = sorted(path for path in disk.files if path.endswith(".log"))
    if not logs:
        return None
    path = random.choice(logs)
    cluster.note(f"torn write {id} {path}")
    disk.short_next[path] = random.choice([0, 10, 70]), errno.EIO
    return lambda: replace(cluster, id)


def fail(cluster: SimCluster, id: int, operation: Operation) -> Undo:
    """The next operation of its kind, whatever its file is."""
    cluster.note(f"failed {operation} {id}")
    cluster.processes[id].disk.fail_kind[operation] = errno.EIO
    return lambda: replace(cluster, id)


def replace(cluster: SimCluster, id: int) -> None:
    """Its disk is well again, and it has a new process."""
    cluster.processes[id].disk.mend()
    cluster.kill(id)
    cluster.start(id)


def damage(cluster: SimCluster, id: int, random: Random) -> None:
    """One file below a partition's directory. Its process is down."""
    disk = cluster.processes[id].disk
    paths = sorted(path for path in disk.files if "/" in path and disk.size(path) > 0)
    if not paths:
        return
    suffix = random.choice(sorted({path.rpartition(".")[2] for path in paths}))
    path = random.choice([path for path in paths if path.endswith(suffix)])
    file = disk.files[path]
    at = random.randrange(len(file.data))
    cluster.processes[id].was_damaged = True
    how = random.choice(["flip", "flip", "cut", "empty", "garble", "remove"])
    cluster.note(f"corrupt {id} {path}: {how} at {at}")
    match how:
        case "flip":
            file.data[at] ^= 1 << random.randrange(8)
        case "cut":
            del file.data[at:]
        case "empty":
            at = 0
            file.data.clear()
        case "garble":
            end = min(at + random.randint(1, GARBLED_BYTES_MAX), len(file.data))
            file.data[at:end] = random.randbytes(end - at)
        case _:
            disk.remove(path)
    file.stable = min(file.stable, at)
