"""The supervisor as its starter sees it: one request in, lines of progress out, an end.

The starter (the command line, the library, a test) holds our standard input and output, and may
be gone at any time. See `wire/control.py` for what is said.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import signal
import time
from pathlib import Path

import msgspec

from kcluster.errors import UsageError
from kcluster.processes.commands import Commands, ControlServer
from kcluster.processes.small_files import open_log
from kcluster.processes.supervisor import StartFailed, Supervisor
from kcluster.processes.workdir import (
    ClusterFile,
    Workdir,
    holder,
    locate,
    process_name,
    read_cluster,
)
from kcluster.processes.zygote import Spawner
from kcluster.wire import control as c

DEFAULT_BROKERS = 3
REQUEST_READ_BYTES = 1 << 16
STOP_TIMEOUT_MS = 30_000

LOG_LINES_SHOWN = 8
"""Of a process that died at its start."""


class Starter:
    """Whoever holds our standard output; it may be gone at any time."""

    def __init__(self) -> None:
        self._begin_ns = time.monotonic_ns()

    def tell(self, line: c.Line) -> None:
        with contextlib.suppress(OSError):
            os.write(1, msgspec.json.encode(line) + b"\n")

    def progress(self, event: str, id: int = -1, text: str = "", bootstrap: str = "") -> None:
        elapsed_ms = (time.monotonic_ns() - self._begin_ns) / 1e6
        self.tell(c.Progress(event, id, text, round(elapsed_ms, 1), bootstrap))

    def hang_up(self) -> None:
        """Who waits for the end of our output waits no longer."""
        null = os.open(os.devnull, os.O_RDWR)
        os.dup2(null, 0)
        os.dup2(null, 1)
        os.close(null)


def serve(spawner: Spawner) -> int:
    """Do what the starter asks for, until it is over; the exit code."""
    gc.freeze()
    gc.enable()
    request = b""
    while b"\n" not in request:
        data = os.read(0, REQUEST_READ_BYTES)
        if not data:
            return 0  # it was started ahead, and is not needed after all
        request += data
    # What its starter said in the same breath ("stop") is for later.
    request, _, more = request.partition(b"\n")
    up = msgspec.json.decode(request, type=c.Up)
    starter = Starter()
    try:
        workdir = _claim(up)
    except UsageError as error:
        starter.tell(_already_running(up) or c.Refused(*_said(error)))
        return error.exit_code
    return asyncio.run(_supervise(up, workdir, spawner, starter, more))


def _said(error: UsageError) -> tuple[str, str, str, int]:
    return error.what, error.why, error.hint, error.exit_code


def _claim(up: c.Up) -> Workdir:
    """The cluster's directory, made to be what was asked for."""
    workdir = Workdir.claim(
        up.name,
        Path(up.directory) if up.directory else None,
        is_ephemeral=up.is_ephemeral,
        is_fresh=up.is_fresh,
    )
    try:
        cluster = workdir.cluster
        cluster.host = up.host if up.host is not None else cluster.host
        cluster.advertise = up.advertise if up.advertise is not None else cluster.advertise
        cluster.restart = up.restart if up.restart is not None else cluster.restart
        cluster.options = up.options if up.options is not None else cluster.options
        cluster.transport = up.transport if up.transport is not None else cluster.transport
        count = up.brokers or len(cluster.seats) or DEFAULT_BROKERS
        workdir.take_seats(count, up.port, is_any_port=up.is_any_port, racks=up.racks)
        cluster.supervisor_pid = os.getpid()
        workdir.open_sockets()
    except UsageError:
        workdir.abandon()
        raise
    return workdir


def _already_running(up: c.Up) -> c.Running | None:
    """If the refusal is because the very cluster runs: what differs from what was asked for."""
    directory = locate(up.name)
    if holder(directory) is None or (up.directory and Path(up.directory) != directory):
        return None
    cluster = read_cluster(directory)
    if cluster is None:
        return None
    return c.Running(up.name, str(directory), cluster.bootstrap, _differences(up, cluster))


def _differences(up: c.Up, cluster: ClusterFile) -> list[str]:
    pairs: list[tuple[str, object, object]] = [
        ("brokers", up.brokers, len(cluster.seats)),
        ("port", up.port, cluster.seats[0].port if cluster.seats else None),
        ("host", up.host, cluster.host),
        ("advertise", up.advertise, cluster.advertise),
        ("restart", up.restart, cluster.restart),
        ("transport", up.transport, cluster.transport),
        ("racks", _racks(up), ",".join(seat.rack for seat in cluster.seats)),
        ("ephemeral", up.is_ephemeral or None, cluster.is_ephemeral),
        ("fresh", up.is_fresh or None, False),
    ]
    for key, value in (up.options or {}).items():
        pairs.append((f"-X {key}", value, cluster.options.get(key)))
    return [
        f"{name}: asked for {_shown(asked)}, running with {_shown(has)}"
        for name, asked, has in pairs
        if asked is not None and asked != has
    ]


def _racks(up: c.Up) -> str | None:
    """Of each broker, as they were asked for."""
    if up.racks is None or up.brokers is None:
        return None if up.racks is None else ",".join(up.racks)
    return ",".join(up.racks[index % len(up.racks)] for index in range(up.brokers))


def _shown(value: object) -> str:
    return "the default" if value is None else str(value)


async def _supervise(
    up: c.Up, workdir: Workdir, spawner: Spawner, starter: Starter, more: bytes
) -> int:
    loop = asyncio.get_running_loop()
    log = open_log(workdir.log_path(-1))
    os.dup2(log, 2)
    os.close(log)
    os.chdir(workdir.directory)
    cluster = workdir.cluster
    spawner.start(loop, workdir.log_path(-1))
    supervisor = Supervisor(workdir, spawner, loop)
    cluster.control_endpoint = workdir.control_endpoint()
    commands = Commands(supervisor)
    control = ControlServer(cluster.control_endpoint, commands, loop)
    workdir.save()
    stops = _Stops(supervisor, commands, loop)
    stops.listen(has_leash=not up.is_detached)
    supervisor.on_ready = lambda process: starter.progress(
        "ready", process.id, f"pid {process.pid}"
    )
    exit_code = 0
    starting = asyncio.ensure_future(supervisor.up(up.timeout_ms))
    stops.starting = starting
    stops.hear(more)
    try:
        await starting
        starter.progress("up", text=str(workdir.directory), bootstrap=cluster.bootstrap)
    except StartFailed as failed:
        exit_code = 1
        starter.tell(_start_refusal(failed, workdir))
        await supervisor.down(0, is_forced=True)
        commands.ended.set()
    except asyncio.CancelledError:
        pass  # asked to stop before it was up: `stops` sees to that
    if up.is_detached:
        starter.hang_up()
    await commands.ended.wait()
    starter.progress("stopped")
    control.close()
    supervisor.close()
    workdir.release()
    return exit_code


def _start_refusal(failed: StartFailed, workdir: Workdir) -> c.Refused:
    name = process_name(failed.process.id)
    path = workdir.log_path(failed.process.id)
    lines = []
    with contextlib.suppress(OSError):
        lines = path.read_text("utf-8", "replace").splitlines()[-LOG_LINES_SHOWN:]
    why = "\n".join([failed.reason, *(f"  | {line}" for line in lines)])
    return c.Refused(f"{name} did not start", why, f"less {path}")


class _Stops:
    """Who may end this cluster: signals, and the starter of one in the foreground."""

    def __init__(
        self, supervisor: Supervisor, commands: Commands, loop: asyncio.AbstractEventLoop
    ) -> None:
        self._supervisor = supervisor
        self._commands = commands
        self._loop = loop
        self._asked = 0
        self._unread = b""
        self.starting: asyncio.Future[None] | None = None

    def listen(self, *, has_leash: bool) -> None:
        for number in (signal.SIGTERM, signal.SIGINT):
            self._loop.add_signal_handler(number, self._stop)
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        signal.signal(signal.SIGPIPE, signal.SIG_IGN)
        if has_leash:
            self._loop.add_reader(0, self._pulled)

    def _pulled(self) -> None:
        data = os.read(0, 256)
        if not data:
            self._loop.remove_reader(0)
            self._stop()
            return
        self.hear(data)

    def hear(self, data: bytes) -> None:
        *lines, self._unread = (self._unread + data).split(b"\n")
        for line in lines:
            if line == b"kill":
                self._asked += 1
            if line in (b"stop", b"kill"):
                self._stop()

    def _stop(self) -> None:
        """First: cleanly. Again: at once."""
        self._asked += 1
        if self.starting is not None:
            self.starting.cancel()
        self._supervisor.spawn(self._end(is_forced=self._asked > 1))

    async def _end(self, *, is_forced: bool) -> None:
        await self._supervisor.down(STOP_TIMEOUT_MS, is_forced=is_forced)
        self._commands.ended.set()
