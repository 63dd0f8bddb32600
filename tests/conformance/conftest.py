"""Every test here runs on the real thing and on its double."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Protocol

import pytest

from kcluster.core.turn import Append, DiskOperation, Files, Turn
from kcluster.sim.disk import SimDisk
from kcluster.world.disk import RealDisk
from tests.conformance.ends import Ends, RealEnds, SimEnds


class Disk(Files, Protocol):
    def perform(self, operation: DiskOperation) -> int: ...


class NoOwner:
    """An owner that no test of a disk asks anything of."""

    def written(self, turn: Turn, append: Append) -> None:
        raise AssertionError

    def write_failed(self, turn: Turn, append: Append, errno: int) -> None:
        raise AssertionError


@pytest.fixture(params=["real", "real, portable", "real, one open file", "sim"])
def disk(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Disk]:
    if request.param == "sim":
        yield SimDisk()
        return
    real = RealDisk(
        str(tmp_path / "root"),
        portable="portable" in request.param,
        open_files_max=1 if "one" in request.param else 1000,
    )
    yield real
    real.close()


Append_ = Callable[..., int]


@pytest.fixture
def append(disk: Disk) -> Append_:
    def append(path: str, position: int, *buffers: bytes) -> int:
        size = sum(map(len, buffers))
        return disk.perform(Append(path, position, NoOwner(), list(buffers), size))

    return append


@pytest.fixture(params=["real", "sim"])
def ends(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Ends]:
    ends: Ends = SimEnds() if request.param == "sim" else RealEnds(tmp_path)
    yield ends
    ends.close()
