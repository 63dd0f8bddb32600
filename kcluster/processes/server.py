"""What every server process does alike, from its fork or exec to its exit.

    enter         leave the terminal, die with the supervisor, descriptors, signals
    Life          lock -> bus -> world -> core -> driver -> until stopped -> close
    leave         last words, exit code

The supervisor gives a process all it needs as one `ServerArguments`. The process tells where its
inbox is bound (`Bound`) before anybody connects to it, `Ready` when it serves, and `Failed` when
it cannot go on.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec

from kcluster.core import traces
from kcluster.core.traces import Trace
from kcluster.core.turn import Core, Event, Received, Send, Turn
from kcluster.errors import KclusterError, UsageError
from kcluster.model import SUPERVISOR
from kcluster.processes.roster import EXIT_REFUSED
from kcluster.wire.bus import Bound, Failed, ProcessState, Stop, Traced
from kcluster.world import platform
from kcluster.world.bus import Bus
from kcluster.world.disk import RealDisk
from kcluster.world.events import TraceLog
from kcluster.world.loop import EXIT_BUG, Driver, Sources
from kcluster.world.world import RealWorld

PARENT_POLL_S = 0.5
"""How often a process looks for its parent where the kernel does not tell."""

LAST_WORDS_MS = 200
"""How long a dying process waits for its last words to leave."""


class ServerArguments(msgspec.Struct, frozen=True):
    """All that a server process is told at its start."""

    id: int
    """Broker id, or 0 for the coordinator."""
    incarnation: int
    data_dir: str
    log_path: str
    endpoint: str
    supervisor: ProcessState
    host: str = ""
    """Where the Kafka listener binds; empty for the coordinator."""
    port: int = 0
    advertise: str = ""
    """The host that clients are told."""
    rack: str = ""
    """Empty for none."""
    options: dict[str, str] = {}
    expected_brokers: list[int] = []
    is_portable: bool = False
    """Use the portable fall-backs, as a test does."""


def enter(arguments: ServerArguments) -> None:
    """The first thing of a new process, forked or not."""
    platform.new_session()
    parent = arguments.supervisor.pid
    if not platform.die_with_parent(parent) and os.getppid() != parent:
        os._exit(EXIT_BUG)  # the supervisor was gone before the kernel could be asked
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGCHLD, signal.SIGUSR1):
        signal.signal(number, signal.SIG_DFL)
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_SETMASK, [])
    platform.raise_file_limit()


class Life:
    """One server process: makes its world, runs its core, ends.

    `is_done` is asked after each turn: the core has stopped and nothing of it is left to do.
    """

    def __init__(self, arguments: ServerArguments) -> None:
        self.arguments = arguments
        lock = platform.lock_directory(_made(arguments.data_dir))
        if lock is None:
            raise UsageError(f"{arguments.data_dir} is in use by another process")
        self._lock_fd = lock
        self.loop = asyncio.new_event_loop()
        asyncio.set_event_loop(self.loop)
        self.log = TraceLog(arguments.log_path)
        self.bus = Bus(
            arguments.id,
            arguments.incarnation,
            arguments.endpoint,
            self.loop,
            supervisor=arguments.supervisor,
        )
        self.world = RealWorld(
            arguments.data_dir,
            self.loop,
            bus=self.bus,
            log=self.log,
            disk_type=_disk_type(arguments.options),
        )
        self.world.on_traces = self._tell_traces
        self.is_clean = False
        """Ended by its own core, with everything closed."""
        self._exit_code = 0
        self._driver: Driver | None = None

    @property
    def endpoint(self) -> str:
        return self.bus.endpoint

    def say(self, text: str) -> None:
        """A line in the process's log."""
        self.log.write(self.world.clock()[1], [text])

    def run(
        self,
        core: Core,
        is_done: Callable[[], bool],
        begin: Callable[[Turn], None] | None,
        stood_still_ms: int,
        wrap: Callable[[RealWorld], Sources] | None = None,
    ) -> int:
        """Until the core is done or something fails; the exit code."""
        arguments = self.arguments
        self.tell(Bound(arguments.id, arguments.incarnation, self.endpoint))

        def after_turn() -> None:
            if is_done():
                self.is_clean = True
                self.loop.stop()

        driver = Driver(
            core,
            wrap(self.world) if wrap else self.world,
            self.loop,
            stood_still_ms=stood_still_ms,
            on_bug=self._bug,
            after_turn=after_turn,
        )
        self._driver = driver
        self.loop.add_signal_handler(signal.SIGTERM, self._stop_asked)
        self.loop.add_signal_handler(signal.SIGINT, self._stop_asked)
        driver.start(begin)
        if not platform.IS_LINUX or arguments.is_portable:
            self.loop.call_later(PARENT_POLL_S, self._look_for_parent)
        Driver.freeze()
        if not self.is_clean:
            self.loop.run_forever()
        driver.stop()
        return self._exit_code

    def close(self) -> None:
        self.world.close()
        self.log.close()

    def tell(self, message: Bound | Failed) -> None:
        self.bus.send([Send(SUPERVISOR, message)])

    def _tell_traces(self, wall_ms: int, told: Sequence[Trace]) -> None:
        """The supervisor keeps them for `kcluster events`."""
        message = Traced(wall_ms, time.monotonic_ns())
        self.bus.send([Send(SUPERVISOR, message, [traces.encode(told)])])

    def _stop_asked(self) -> None:
        """SIGTERM is a controlled shutdown, as a `Stop` of the supervisor is."""
        assert self._driver is not None
        event: Event = Received(SUPERVISOR, self.arguments.supervisor.incarnation, Stop(True))
        self._driver.post(event)

    def _bug(self, error: BaseException) -> None:
        """The catch-all: last words, and out. What was acknowledged is on disk by now; what was
        not is not to be served."""
        reason = f"{type(error).__name__}: {error}"
        self.say(f"fatal: {reason}")
        traceback.print_exception(error, file=sys.stderr)
        sys.stderr.flush()
        self.tell(Failed(self.arguments.id, self.arguments.incarnation, reason))
        self.bus.close(LAST_WORDS_MS)
        os._exit(EXIT_REFUSED if isinstance(error, UsageError) else EXIT_BUG)

    def _look_for_parent(self) -> None:
        if os.getppid() != self.arguments.supervisor.pid:
            os._exit(EXIT_BUG)
        self.loop.call_later(PARENT_POLL_S, self._look_for_parent)


def leave(run: Callable[[ServerArguments], int], arguments: ServerArguments) -> int:
    """Run a server from `enter` to its exit code, errors told in its log."""
    try:
        enter(arguments)
        return run(arguments)
    except (KclusterError, OSError) as error:
        print(f"cannot run: {error}", file=sys.stderr, flush=True)  # noqa: T201 - its log
        return EXIT_REFUSED
    except Exception:
        traceback.print_exc()
        sys.stderr.flush()
        return EXIT_BUG


def main_of(run: Callable[[ServerArguments], int]) -> None:
    """`python -m kcluster.processes.<server> <arguments as JSON>`: without a zygote."""
    arguments = msgspec.json.decode(sys.argv[1], type=ServerArguments)
    code = leave(run, arguments)
    sys.stderr.flush()
    os._exit(code)


def _disk_type(options: dict[str, str]) -> type[RealDisk]:
    """One that fails when told to, where the cluster was started for it."""
    if options.get("fault.injection.enable", "").lower() != "true":
        return RealDisk
    from kcluster.world.failpoints import FaultyDisk  # noqa: PLC0415 - for few clusters

    return FaultyDisk


def _made(directory: str) -> str:
    Path(directory).mkdir(parents=True, exist_ok=True)
    return directory
