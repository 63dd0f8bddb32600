"""Threads that feed the screen. Each tells what it learns by one call, and touches nothing else.

WatchFeed   sights of the cluster; begins anew when its supervisor comes back
carry_out   one action, with a connection of its own
PageFeed    what a page shows, asked again while it is open
LoadFeed    figures of a checked load, which is a process of its own
"""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
from collections.abc import Callable

import msgspec

from kcluster.client.control import ControlTimeout
from kcluster.client.find import connect, watch
from kcluster.client.watch import Sight
from kcluster.errors import KclusterError, UsageError
from kcluster.tui.actions import LOAD, Action
from kcluster.tui.lines import Line
from kcluster.tui.load_figures import Figures, Report

AGAIN_S = 1.0
"""How often a supervisor that is gone is looked for, and a page is read anew."""


class WatchFeed(threading.Thread):
    def __init__(
        self,
        name: str,
        interval_ms: int,
        tell: Callable[[Sight], object],
        lose: Callable[[str], object],
        *,
        after: int = -1,
    ) -> None:
        """Events are told behind the seq `after`; -1: from now on."""
        super().__init__(name="watch", daemon=True)
        self._cluster = name
        self._interval_ms = interval_ms
        self._after = after
        self._tell = tell
        self._lose = lose
        self._stops = threading.Event()

    def stop(self) -> None:
        self._stops.set()

    def run(self) -> None:
        while not self._stops.is_set():
            try:
                with watch(
                    self._cluster, interval_ms=self._interval_ms, after=self._after
                ) as watched:
                    while not self._stops.is_set():
                        sight = watched.look()
                        if sight.events:
                            self._after = sight.events[-1].seq
                        self._tell(sight)
            except UsageError as problem:
                self._lose(in_words(problem))
                self._stops.wait(AGAIN_S)


def in_words(problem: KclusterError) -> str:
    if isinstance(problem, ControlTimeout | UsageError):
        return f"{problem.what}; try: {problem.hint}" if problem.hint else problem.what
    return str(problem)


def carry_out(cluster: str, action: Action, ended: Callable[[str], object]) -> threading.Thread:
    """Calls `ended` with what went wrong, or with nothing."""

    def act() -> None:
        try:
            with connect(cluster) as control:
                action.carry_out(control)
        except KclusterError as problem:
            ended(in_words(problem))
        else:
            ended("")

    thread = threading.Thread(target=act, name=action.command, daemon=True)
    thread.start()
    return thread


class PageFeed(threading.Thread):
    """Asks until it is told to stop. `ask` gives the rows; what it raises becomes one."""

    def __init__(self, ask: Callable[[], list[Line]], tell: Callable[[list[Line]], object]) -> None:
        super().__init__(name="page", daemon=True)
        self._ask = ask
        self._tell = tell
        self._stops = threading.Event()

    def stop(self) -> None:
        self._stops.set()

    def run(self) -> None:
        while not self._stops.is_set():
            try:
                rows = self._ask()
            except (KclusterError, OSError) as problem:
                text = in_words(problem) if isinstance(problem, KclusterError) else str(problem)
                rows = [((f"  {text}", "warn"),)]
            if not self._stops.is_set():
                self._tell(rows)
            self._stops.wait(AGAIN_S)


class LoadFeed(threading.Thread):
    """A child process, so that neither its work nor its end is this screen's."""

    def __init__(
        self,
        cluster: str,
        tell: Callable[[Figures | Report], object],
        fail: Callable[[str], object],
    ) -> None:
        super().__init__(name="load", daemon=True)
        self._tell = tell
        self._fail = fail
        self._process = subprocess.Popen(
            [sys.executable, "-m", "kcluster.cli.main", *LOAD, "-c", cluster, "-o", "json",
             "--progress"],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip

    def finish(self) -> None:
        """No more writing; then it reads every replica, and tells its verdict."""
        self._process.send_signal(signal.SIGINT)

    def kill(self) -> None:
        """Without a verdict."""
        self._process.kill()

    def run(self) -> None:
        figures, report = msgspec.json.Decoder(Figures), msgspec.json.Decoder(Report)
        is_judged = False
        with self._process as process:
            assert process.stdout is not None
            assert process.stderr is not None
            for line in process.stdout:
                if line.startswith(b'{"schema"'):
                    is_judged = True
                    self._tell(report.decode(line))
                elif line.startswith(b"{"):
                    self._tell(figures.decode(line))
            said = process.stderr.read().decode("utf-8", "replace").split("\n", maxsplit=1)[0]
        if not is_judged:
            self._fail(said or f"the load ended with {process.returncode}")
