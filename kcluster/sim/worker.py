"""A process that runs trials: `python -m kcluster.sim.worker SECONDS`.

    its starter                                     worker
                     <----------------  READY       everything is imported
      a Trial        ---------------->              a line of JSON
                     <----------------  its Outcome a line of JSON
      end of input   ---------------->              ends

A worker looks every second whether its starter is still there, and does not outlive it. One that
hangs where it cannot look is ended by a timer after SECONDS of CPU time; a starter that lives is
quicker. SIGUSR1 has it write to standard error where it is.
"""

from __future__ import annotations

import contextlib
import faulthandler
import gc
import os
import signal
import sys

import msgspec

from kcluster.sim.trial import Trial, run

READY = b"ready\n"
NICE = 10
"""Below whoever works on the machine."""
LOOK_S = 1.0
COLLECT_OBJECTS = 20_000
"""New ones, before garbage is looked for."""


def main() -> int:
    limit_s = float(sys.argv[1])
    starter = os.getppid()

    def look(*_: object) -> None:
        if os.getppid() != starter:
            os._exit(1)

    signal.signal(signal.SIGALRM, look)
    signal.setitimer(signal.ITIMER_REAL, LOOK_S, LOOK_S)
    faulthandler.enable()
    faulthandler.register(signal.SIGUSR1)
    with contextlib.suppress(OSError):
        os.nice(NICE)
    # Whoever prints does not spoil the line.
    out = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    tune_collector()
    out.write(READY)
    out.flush()
    for line in sys.stdin.buffer:
        signal.setitimer(signal.ITIMER_VIRTUAL, limit_s)
        outcome = run(msgspec.json.decode(line, type=Trial))
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        out.write(msgspec.json.encode(outcome) + b"\n")
        out.flush()
    return 0


def tune_collector() -> None:
    """A simulation makes many objects and few cycles: measured, a tenth of its time was spent
    looking for them among all modules."""
    gc.freeze()
    gc.set_threshold(COLLECT_OBJECTS, 10, 10)


if __name__ == "__main__":
    sys.exit(main())
