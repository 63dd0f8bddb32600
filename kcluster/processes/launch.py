"""Starting a supervisor: for the command line, the library and tests.

    Launch()  --starts a process that imports the servers' code--
    .write(Up as JSON)  --one line-->
    .lines()            <--Progress ... | Refused | Running

A process of its own session, so that Ctrl-C in a terminal reaches its starter only. What it is
to do may be said later than it is started: its imports then run beside the starter's. For the
same reason this module imports next to nothing (`subprocess` alone would be 10 ms).
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator

import kcluster

MODULE = "kcluster.processes"

DROPPED = ("PYTHONDONTWRITEBYTECODE", "PYTHONOPTIMIZE", "PYTHONSTARTUP", "PYTHONINSPECT")
"""Without them our own .pyc would be compiled anew at every start, or the asserts that keep a
broken broker from going on would be gone."""

WAIT_POLL_S = 0.005


class Launch:
    """One supervisor, from before it knows what to do."""

    def __init__(self, module: str = MODULE) -> None:
        its_input, self._input = os.pipe()
        self._output, its_output = os.pipe()
        command = [sys.executable, "-m", module]
        actions = [(os.POSIX_SPAWN_DUP2, its_input, 0), (os.POSIX_SPAWN_DUP2, its_output, 1)]
        try:
            self.pid = os.posix_spawn(
                sys.executable, command, server_environment(), file_actions=actions, setsid=True
            )
        except NotImplementedError:  # this system cannot; the process leaves by itself, later
            self.pid = os.posix_spawn(
                sys.executable, command, server_environment(), file_actions=actions
            )
        os.close(its_input)
        os.close(its_output)
        self._unread = b""
        self._exit_code: int | None = None

    def write(self, line: bytes) -> None:
        """One line. A supervisor that is gone tells why on its own output."""
        try:
            os.write(self._input, line + b"\n")
        except BrokenPipeError:
            return

    def lines(self) -> Iterator[bytes]:
        """Until it hangs up (a detached one, once it is up) or ends."""
        while True:
            line, newline, rest = self._unread.partition(b"\n")
            if newline:
                self._unread = rest
                yield line
                continue
            data = os.read(self._output, 1 << 16)
            if not data:
                return
            self._unread += data

    def let_go(self) -> None:
        """A detached supervisor goes on; one that was told nothing, or that stays in the
        foreground, ends."""
        for descriptor in (self._input, self._output):
            if descriptor >= 0:
                os.close(descriptor)
        self._input = self._output = -1

    def wait(self, timeout_s: float | None = None) -> int:
        """Its exit code, or minus the signal that ended it. TimeoutError when it goes on."""
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        while self._exit_code is None:
            pid, status = os.waitpid(self.pid, 0 if deadline is None else os.WNOHANG)
            if pid:
                self._exit_code = os.waitstatus_to_exitcode(status)
            elif deadline is not None and time.monotonic() > deadline:
                raise TimeoutError(f"supervisor {self.pid} still runs after {timeout_s} s")
            else:
                time.sleep(WAIT_POLL_S)
        return self._exit_code


def server_environment() -> dict[str, str]:
    """Of a server process: bytecode is cached, asserts are on, and our code is found."""
    environment = dict(os.environ)
    for name in DROPPED:
        environment.pop(name, None)
    assert kcluster.__file__ is not None
    root = os.path.dirname(os.path.dirname(kcluster.__file__))  # noqa: PTH120 - imports nothing
    path = environment.get("PYTHONPATH", "")
    if root not in path.split(os.pathsep):
        environment["PYTHONPATH"] = os.pathsep.join(filter(None, (root, path)))
    return environment
