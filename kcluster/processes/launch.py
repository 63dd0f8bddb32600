"""Starting a supervisor: for the command line, the library and tests.

    Launch()  --starts a process that imports the servers' code--
    .ask(Up)  --one line-->
    .lines()  <--Progress ... | Refused | Running

A process of its own session, so that Ctrl-C in a terminal reaches its starter only. What it is
to do may be said later than it is started: its imports then run beside the starter's.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import kcluster

MODULE = "kcluster.processes"

DROPPED = ("PYTHONDONTWRITEBYTECODE", "PYTHONOPTIMIZE", "PYTHONSTARTUP", "PYTHONINSPECT")
"""Without them our own .pyc would be compiled anew at every start, or the asserts that keep a
broken broker from going on would be gone."""


class Launch:
    """One supervisor, from before it knows what to do."""

    def __init__(self, module: str = MODULE) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", module],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=server_environment(),
            start_new_session=True,
        )

    @property
    def pid(self) -> int:
        return self._process.pid

    def write(self, line: bytes) -> None:
        """One line; a supervisor that is gone tells why on its own output."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(line + b"\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            return

    def lines(self) -> Iterator[bytes]:
        """Until it hangs up (a detached one, once it is up) or ends."""
        assert self._process.stdout is not None
        while line := self._process.stdout.readline():
            yield line

    def let_go(self) -> None:
        """A detached supervisor goes on; one that was told nothing, or that stays in the
        foreground, ends."""
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                pipe.close()

    def wait(self, timeout_s: float | None = None) -> int:
        return self._process.wait(timeout_s)


def server_environment() -> dict[str, str]:
    """Of a server process: bytecode is cached, asserts are on, and our code is found."""
    environment = dict(os.environ)
    for name in DROPPED:
        environment.pop(name, None)
    root = str(Path(kcluster.__file__).parent.parent)
    path = environment.get("PYTHONPATH", "")
    if root not in path.split(os.pathsep):
        environment["PYTHONPATH"] = os.pathsep.join(filter(None, (root, path)))
    return environment
