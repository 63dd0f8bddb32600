"""Servers without data, for tests of the processes: they bind, are ready, and stop when asked.

    python -m tests.processes.toy      a supervisor whose servers are these

The file `misbehave` in a toy's data directory changes its ways: "exit 3" at its start, "deaf"
to Stop, "slow" to be ready (never), "refuse" with last words.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from kcluster.core.turn import DiskOperation, Event, Received, Turn
from kcluster.errors import UsageError
from kcluster.model import SUPERVISOR
from kcluster.processes.server import Life, ServerArguments, main_of
from kcluster.wire import bus, telling


class ToyCore:
    def __init__(self, arguments: ServerArguments, manner: str) -> None:
        self.arguments = arguments
        self.manner = manner
        self.has_stopped = False

    def start(self, turn: Turn) -> None:
        if self.manner == "refuse":
            raise UsageError("the toy does not want to")
        if self.manner != "slow":
            turn.send(SUPERVISOR, bus.Ready(self.arguments.id, self.arguments.incarnation))

    def handle(self, event: Event, turn: Turn) -> None:
        if isinstance(event, Received):
            if isinstance(event.message, bus.Stop):
                self.has_stopped = self.manner != "deaf"
            elif isinstance(event.message, telling.DescribeImage):
                image = telling.Image(event.message.request, 0)
                turn.send(event.source, image, [b"\x90"])
            else:
                turn.trace(event.message)

    def settle(self, turn: Turn) -> None:
        pass

    def disk_failed(self, turn: Turn, operation: DiskOperation, errno: int) -> None:
        raise AssertionError(errno)


def run(arguments: ServerArguments) -> int:
    path = Path(arguments.data_dir) / "misbehave"
    manner = path.read_text().strip() if path.exists() else ""
    if manner.startswith("exit"):
        print("the toy is about to exit", file=sys.stderr, flush=True)
        os._exit(int(manner.split()[1]))
    life = Life(arguments)
    core = ToyCore(arguments, manner)
    code = life.run(core, lambda: core.has_stopped, begin=core.start, stood_still_ms=0)
    life.close()
    return code


if __name__ == "__main__":
    if len(sys.argv) > 1:
        main_of(run)
    from kcluster.processes import __main__, zygote

    for server in zygote.ENTRIES:
        zygote.ENTRIES[server] = "tests.processes.toy"
    sys.exit(__main__.main())
