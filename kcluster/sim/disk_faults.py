"""What disks do to a simulated process: full, torn, broken, slow, dark, damaged while it is down.

A disk that failed an operation makes its process sick: logs are offline, and only a restart
brings them back. Each fault gives what undoes it.
"""

from __future__ import annotations

import errno
from collections.abc import Callable
from contextlib import suppress
from random import Random
from typing import Final

from kcluster.core.log import checkpoints, damage
from kcluster.core.log.scan import checked_batches
from kcluster.core.log.segment import LOG
from kcluster.errors import CorruptLogError
from kcluster.sim.cluster import SimCluster
from kcluster.sim.disk import SECTOR_BYTES, Operation, SimDisk
from kcluster.wire.records import LENGTH_OVERHEAD

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


def corrupt(cluster: SimCluster, id: int, random: Random) -> None:
    """One file below a partition's directory. Its process is down."""
    disk = cluster.processes[id].disk
    paths = sorted(path for path in disk.files if "/" in path and disk.size(path) > 0)
    if not paths:
        return
    suffix = random.choice(sorted({path.rpartition(".")[2] for path in paths}))
    path = random.choice([path for path in paths if path.endswith(suffix)])
    file = disk.files[path]
    at = random.randrange(len(file.data))
    how = random.choice(["flip", "flip", "cut", "empty", "garble", "remove"])
    data = bytearray(file.data)
    match how:
        case "flip":
            data[at] ^= 1 << random.randrange(8)
        case "cut":
            del data[at:]
        case "garble":
            end = min(at + random.randint(1, GARBLED_BYTES_MAX), len(data))
            data[at:end] = random.randbytes(end - at)
        case _:
            at = 0
            data.clear()
    was, file.data = file.data, data
    if _passes_unnoticed(disk, path, is_missing=how == "remove"):
        cluster.note(f"corrupt {id} {path}: {how} at {at} is what nobody can tell")
        file.data = was
        return
    cluster.processes[id].was_damaged = True
    cluster.note(f"corrupt {id} {path}: {how} at {at}")
    if how == "remove":
        disk.remove(path)
    file.stable = min(file.stable, at)


def _passes_unnoticed(disk: SimDisk, path: str, *, is_missing: bool) -> bool:
    """What nobody can tell (README): all that is wrong with the file of a log is that it ends too
    early, as after a kill in the last write, and no checkpoint knows better; or the mark that this
    log was found damaged is no more."""
    directory, _, name = path.rpartition("/")
    if name == damage.FILE_NAME:
        return is_missing
    logs = [other for other in disk.list(directory) if other.endswith(LOG)]
    if name != max(logs, default="") or (is_missing and logs == [name]):
        return False
    base_offset = int(name.removesuffix(LOG))
    size = disk.size(path)
    position, end_offset = 0, base_offset
    try:
        for position, header in checked_batches(disk, path, (0, size), base_offset):
            position += header[1] + LENGTH_OVERHEAD
            end_offset = header[0] + header[6] + 1
    except CorruptLogError:
        if not damage.is_torn(disk, path, position, size, end_offset):
            return False
    told = 0
    for checkpoint in (checkpoints.HIGH_WATERMARKS, checkpoints.RECOVERY_POINTS):
        with suppress(CorruptLogError):
            offsets = checkpoints.parse_offsets(disk.read(checkpoint, 0, 1 << 20))
            told = max([told, *(offset for tp, offset in offsets.items() if str(tp) == directory)])
    return end_offset >= told
