"""Toy clusters: real processes without data, in a home of their own."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import pytest

from kcluster.client.control import ControlClient
from kcluster.client.find import connect
from kcluster.processes.launch import Launch
from kcluster.wire import control as c

DEADLINE_S = 20


def wait_until(is_true: Callable[[], bool], what: str, timeout_s: float = DEADLINE_S) -> None:
    deadline = time.monotonic() + timeout_s
    while not is_true():
        assert time.monotonic() < deadline, f"not in time: {what}"
        time.sleep(0.005)


def is_alive(pid: int) -> bool:
    """Running or stopped; a zombie that nobody has reaped is dead."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False
    return stat.rpartition(")")[2].split()[0] not in "ZX"


class ToyCluster:
    """One supervisor with toys below it."""

    def __init__(self, **wanted: object) -> None:
        self.up = c.Up(**{"name": "toys", "timeout_ms": 15_000, **wanted})  # type: ignore[arg-type]
        self.launch = Launch("tests.processes.toy")
        self.launch.write(msgspec.json.encode(self.up))
        self.lines: list[c.Line] = []

    def read(self, *, until: str = "up") -> c.Line:
        """The line that says so, or the one that says it cannot be."""
        decoder = msgspec.json.Decoder(c.Line)
        for text in self.launch.lines():
            line = decoder.decode(text)
            self.lines.append(line)
            if not isinstance(line, c.Progress) or line.event == until:
                return line
        raise AssertionError(f"the supervisor ended before {until}: {self.lines}")

    def wait_up(self) -> ToyCluster:
        line = self.read()
        assert isinstance(line, c.Progress), line
        return self

    def control(self) -> ControlClient:
        return connect(self.up.name)

    def pids(self) -> dict[int, int]:
        with self.control() as control:
            return {i.state.id: i.state.pid for i in control.describe().processes}

    def states(self) -> dict[int, str]:
        with self.control() as control:
            return {i.state.id: i.state.state for i in control.describe().processes}

    def kill(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.launch.pid, signal.SIGKILL)
        self.launch.let_go()
        self.launch.wait(DEADLINE_S)


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where clusters live, for this test and for what it starts."""
    monkeypatch.setenv("KCLUSTER_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


@pytest.fixture
def toys(home: Path) -> Iterator[Callable[..., ToyCluster]]:
    """Start toy clusters; those that still run at the end are killed."""
    started: list[ToyCluster] = []

    def start(**wanted: object) -> ToyCluster:
        cluster = ToyCluster(**wanted)
        started.append(cluster)
        return cluster

    yield start
    for cluster in started:
        cluster.kill()
