"""A process that has imported the servers' code once and forks them from it.

    supervisor --fork--> zygote --fork--> (middle) --fork--> server
        ^                                  exits at once        |
        '------------- the orphan becomes the subreaper's ------'

It is forked from the supervisor before any ZeroMQ context or thread exists: neither survives a
fork. It then imports what only servers need, while the supervisor imports the rest. Requests
come over a socketpair, one datagram each, answered in order with the new pid. A server is
orphaned on purpose: the supervisor, a subreaper, becomes its parent, so that it reaps exit
statuses itself and the kernel takes the server along when the supervisor dies.

Where there is no subreaper, or when the zygote has died, `Spawner` starts a new interpreter.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import importlib
import os
import select
import signal
import socket
import subprocess
import sys
import time
from collections import deque
from collections.abc import Sequence
from pathlib import Path

import msgspec

from kcluster.processes.launch import server_environment
from kcluster.processes.server import ServerArguments, leave
from kcluster.world import platform

ENTRIES = {
    "coordinator": "kcluster.processes.coordinator",
    "broker": "kcluster.processes.broker",
    "compactor": "kcluster.processes.compactor",
}
"""The modules whose `run` is a process: a server, or a broker's compactor."""

REQUEST_BYTES_MAX = 1 << 16

REPARENT_POLL_S = 0.0002


class Fork(msgspec.Struct, frozen=True, tag=True):
    """Start `<entry>.run(arguments)`, its output appended to the file `log_path`."""

    entry: str
    """A module."""
    arguments: ServerArguments


class Speak(msgspec.Struct, frozen=True, tag=True):
    """Where the zygote's own complaints go from now on."""

    log_path: str


_decoder: msgspec.msgpack.Decoder[Fork | Speak] = msgspec.msgpack.Decoder(Fork | Speak)
_encode = msgspec.msgpack.Encoder().encode


class Spawner:
    """Starts server processes: from the zygote while there is one, else from the interpreter."""

    def __init__(self, zygote: socket.socket | None, *, is_portable: bool = False) -> None:
        self._zygote = zygote
        self._is_portable = is_portable
        self._answers: deque[asyncio.Future[int]] = deque()
        self._loop: asyncio.AbstractEventLoop | None = None

    @property
    def has_zygote(self) -> bool:
        return self._zygote is not None

    @classmethod
    def fork(cls, entries: Sequence[str]) -> Spawner:
        """With a zygote that imports the modules `entries`, where this system can. Call it
        before anything starts a thread."""
        if not platform.become_subreaper():
            return cls(None, is_portable=True)
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        supervisor = os.getpid()
        if os.fork() == 0:
            ours.close()
            os._exit(_zygote(theirs.detach(), supervisor, entries))
        theirs.close()
        return cls(ours)

    def start(self, loop: asyncio.AbstractEventLoop, log_path: Path) -> None:
        self._loop = loop
        if self._zygote is not None:
            self._zygote.setblocking(False)
            self._zygote.send(_encode(Speak(str(log_path))))
            loop.add_reader(self._zygote, self._answered)

    async def spawn(self, entry: str, arguments: ServerArguments) -> int:
        """The pid of a new server process, a child of this one."""
        if self._zygote is not None:
            assert self._loop is not None
            answer: asyncio.Future[int] = self._loop.create_future()
            try:
                self._zygote.send(_encode(Fork(entry, arguments)))
            except OSError:
                self._zygote_died()
            else:
                self._answers.append(answer)
                with contextlib.suppress(ConnectionError):
                    return await answer
        return self._spawn_interpreter(entry, arguments)

    def close(self) -> None:
        """The zygote ends when it hears nothing more."""
        if self._zygote is not None:
            if self._loop is not None:
                self._loop.remove_reader(self._zygote)
            self._zygote.close()
            self._zygote = None

    def _answered(self) -> None:
        assert self._zygote is not None
        try:
            answer = self._zygote.recv(64)
        except BlockingIOError:
            return
        except OSError:
            answer = b""
        if not answer:
            self._zygote_died()
            return
        self._answers.popleft().set_result(int(answer))

    def _zygote_died(self) -> None:
        self.close()
        while self._answers:
            self._answers.popleft().set_exception(ConnectionError("the zygote has died"))

    def _spawn_interpreter(self, entry: str, arguments: ServerArguments) -> int:
        if self._is_portable:
            arguments = msgspec.structs.replace(arguments, is_portable=True)
        with Path(arguments.log_path).open("ab") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", entry, msgspec.json.encode(arguments).decode()],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=server_environment(),
            )
        process.returncode = 0  # the supervisor reaps it; Popen must not
        pid: int = process.pid
        return pid


# --- in the zygote ------------------------------------------------------------------------


def _zygote(channel: int, supervisor: int, entries: Sequence[str]) -> int:
    """Serve requests until the supervisor is gone."""
    platform.name_process("kc-zygote")
    platform.new_session()
    if not platform.die_with_parent(supervisor):
        return 1
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    # Its starter waits for the end of this output: only the supervisor may hold it.
    null = os.open(os.devnull, os.O_RDWR)
    os.dup2(null, 0)
    os.dup2(null, 1)
    os.close(null)
    waiting = list(entries)
    while True:
        # A request is not kept waiting by imports that it does not need: the coordinator starts
        # while the brokers' code is still being loaded.
        while waiting and not select.select([channel], [], [], 0)[0]:
            importlib.import_module(waiting.pop(0))
        request = os.read(channel, REQUEST_BYTES_MAX)
        if not request:
            return 0
        match _decoder.decode(request):
            case Speak(log_path):
                _redirect(log_path, 2)
            case Fork() as fork:
                importlib.import_module(fork.entry)
                # What is frozen is never looked at by a collector again, and so stays shared
                # memory. Collecting first would free little and cost 20 ms.
                gc.freeze()
                pid = _fork_orphan(fork, channel, supervisor)
                os.write(channel, str(pid).encode())


def _fork_orphan(fork: Fork, channel: int, supervisor: int) -> int:
    reader, writer = os.pipe()
    middle = os.fork()
    if middle == 0:
        middle = os.getpid()
        pid = os.fork()
        if pid == 0:
            os.close(reader)
            os.close(writer)
            os.close(channel)
            os._exit(_serve(fork, supervisor, middle))
        os.write(writer, str(pid).encode())
        os._exit(0)
    os.close(writer)
    pid = int(os.read(reader, 32))
    os.close(reader)
    os.waitpid(middle, 0)
    return pid


def _serve(fork: Fork, supervisor: int, middle: int) -> int:
    """In the new server process."""
    gc.enable()
    while (parent := os.getppid()) != supervisor:
        if parent != middle:
            return 1  # orphaned to somebody else: the supervisor is gone
        time.sleep(REPARENT_POLL_S)
    _redirect(fork.arguments.log_path, 1, 2)
    os.closerange(3, 256)
    run = importlib.import_module(fork.entry).run
    code = leave(run, fork.arguments)
    sys.stdout.flush()
    sys.stderr.flush()
    return code


def _redirect(log_path: str, *descriptors: int) -> None:
    log = os.open(log_path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    for descriptor in descriptors:
        os.dup2(log, descriptor)
    os.close(log)
