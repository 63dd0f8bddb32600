"""The atlas of damage: which file of a broker, what is done to it, and what must happen then.

`ATLAS` is the table that `test_damage` goes through. Every case is done to one replica while its
broker is down (fault contract, C3).
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from kcluster.core.log import checkpoints, leader_epochs, partition_metadata

Damage = Callable[[Path], None]
"""Done to one file."""

LOG, INDEX, TIME_INDEX, SNAPSHOT = "*.log", "*.index", "*.timeindex", "*.snapshot"


def flip(part: float) -> Damage:
    """A bit of the byte at this part of the file."""

    def damage(path: Path) -> None:
        data = bytearray(path.read_bytes())
        data[min(int(len(data) * part), len(data) - 1)] ^= 0x10
        path.write_bytes(data)

    damage.__name__ = f"a bit flipped at {part:.0%}"
    return damage


def cut(part: float) -> Damage:
    def damage(path: Path) -> None:
        path.write_bytes(path.read_bytes()[: int(path.stat().st_size * part)])

    damage.__name__ = f"cut to {part:.0%}"
    return damage


def torn(path: Path) -> None:
    """The last 13 bytes never arrived."""
    path.write_bytes(path.read_bytes()[:-13])


def emptied(path: Path) -> None:
    path.write_bytes(b"")


def missing(path: Path) -> None:
    path.unlink()


def junk_behind(path: Path) -> None:
    path.write_bytes(path.read_bytes() + b"\0" * 100 + b"junk" * 100)


def zeros_inside(path: Path) -> None:
    """A page that was never written."""
    data = bytearray(path.read_bytes())
    start = len(data) // 2
    data[start : start + 4096] = bytes(len(data[start : start + 4096]))
    path.write_bytes(data)


def unknown_directory(partition: Path) -> None:
    """A copy under a name that metadata does not know."""
    shutil.copytree(partition, partition.with_name("nobody-0"))


def gone(partition: Path) -> None:
    shutil.rmtree(partition)


@dataclass(frozen=True)
class Case:
    file: str
    """What it is called in the table."""
    damage: Damage
    said: str
    """Part of what the broker says of it, in its log and in the status; empty: nothing, for
    nothing is lost by it."""
    found: str = "start"
    """When: at the start, or only when the segment is first served."""
    is_killed: bool = False
    """Its broker ended by SIGKILL and not in good order."""

    @property
    def name(self) -> str:
        end = "killed" if self.is_killed else "stopped"
        return f"{self.file}, {self.damage.__name__.replace('_', ' ')}, {end}"


DAMAGED, ANEW, STRAY = "is damaged and keeps its sound part", "was made anew", "set aside as stray"
UNUSED = "is not used"

CHECKPOINTS = (checkpoints.RECOVERY_POINTS, checkpoints.HIGH_WATERMARKS, checkpoints.LOG_STARTS)

ATLAS: list[Case] = [
    # Cut: whatever ends early, or is not there, is seen from its neighbours and its checkpoints.
    *(
        Case(file, damage, DAMAGED, is_killed=is_killed)
        for is_killed in (False, True)
        for file in ("active segment", "sealed segment", "first segment")
        for damage in (torn, cut(0.5), emptied, missing)
        # After a kill the end of what is not flushed may be a torn write: see below.
        if not (is_killed and file == "active segment")
    ),
    Case("active segment", torn, "was cut at", is_killed=True),
    Case("active segment", junk_behind, DAMAGED),
    Case("active segment", junk_behind, "was cut at", is_killed=True),
    # Flipped: after a clean stop found when it is served, after a kill when it is scanned.
    Case("active segment", flip(0.3), DAMAGED, "served"),
    Case("active segment", flip(0.3), DAMAGED, is_killed=True),
    Case("active segment", zeros_inside, DAMAGED, is_killed=True),
    Case("sealed segment", flip(0.5), DAMAGED, "served"),
    Case("sealed segment", zeros_inside, DAMAGED, "served"),
    Case("first segment", flip(0.0), DAMAGED, "served"),
    # Made from the log again.
    *(
        Case(file, damage, ANEW)
        for file in ("index", "active index")
        for damage in (cut(0.4), emptied, missing, flip(0.9999))
    ),
    Case("time index", torn, ANEW),
    Case("time index", missing, ANEW),
    Case(leader_epochs.FILE_NAME, flip(0.5), ANEW),
    Case(leader_epochs.FILE_NAME, torn, ANEW),
    Case(leader_epochs.FILE_NAME, emptied, ANEW),
    Case(leader_epochs.FILE_NAME, missing, ""),
    Case("producer snapshot", flip(0.5), ""),
    Case("producer snapshot", emptied, ""),
    Case("producer snapshot", missing, ""),
    # Not believed.
    *(
        Case(file, damage, UNUSED, is_killed=is_killed)
        for is_killed in (False, True)
        for file in CHECKPOINTS
        for damage in (flip(0.3), torn, emptied)
    ),
    *(Case(file, missing, "") for file in CHECKPOINTS),
    # Whose is it? Set aside, never deleted, and begun afresh from a peer.
    Case(partition_metadata.FILE_NAME, flip(0.8), STRAY),
    Case(partition_metadata.FILE_NAME, emptied, STRAY),
    Case(partition_metadata.FILE_NAME, missing, STRAY),
    Case("partition directory", unknown_directory, STRAY),
    Case("partition directory", gone, ""),
]


def target(partition: Path, file: str) -> Path:
    """Which file of a partition's directory, or of its broker's, a case means."""
    logs = sorted(partition.glob(LOG))
    assert len(logs) >= 3, "there is no segment in the middle"
    middle = logs[len(logs) // 2]
    match file:
        case "active segment":
            return logs[-1]
        case "sealed segment":
            return middle
        case "first segment":
            return logs[0]
        case "index":
            return middle.with_suffix(".index")
        case "active index":
            return logs[-1].with_suffix(".index")
        case "time index":
            return middle.with_suffix(".timeindex")
        case "producer snapshot":
            return max(partition.glob(SNAPSHOT))
        case "partition directory":
            return partition
    if file in CHECKPOINTS:
        return partition.parent / file
    return partition / file
