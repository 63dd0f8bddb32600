"""The outside of one simulated process: clock, disk, network, client connections, timers.

One `SimWorld` is one incarnation. When it ends, whatever it still had under way ends with it:
timers, syncs and replies of a dead incarnation go nowhere. It is stricter than reality where
that finds bugs: a request's frame is scribbled over once its turn is over, and the process can
be made to die between any two operations of a turn.
"""

from __future__ import annotations

import errno
from collections import deque
from collections.abc import Callable, Sequence
from random import Random
from typing import Any, Protocol

from kcluster.core.turn import (
    Append,
    Buffer,
    DiskOperation,
    Event,
    Received,
    Reply,
    Request,
    Send,
    Span,
    Sync,
    Synced,
    Timer,
    Volume,
)
from kcluster.model import SUPERVISOR
from kcluster.sim.disk import SimDisk, Syncing
from kcluster.sim.network import Frames, Network
from kcluster.sim.scheduler import MS, Scheduler, draw
from kcluster.wire import bus

WALL_START_MS = 1_750_000_000_000
"""Wall time at the start of every simulation."""


Names = list[str]


class Killed(BaseException):
    """Thrown through a turn at the point where the process dies. No Exception, so that no core
    can catch it."""


class Connections(Protocol):
    """The client side of the process's listener."""

    def reply(self, connection: int, frame: bytes) -> None:
        """A response without its length prefix."""
        ...

    def close(self, connection: int) -> None: ...

    def mute(self, connection: int, ms: int) -> None:
        """Take no requests of it for so long."""
        ...


class SimWorld:
    """`World` for one process incarnation; also the wires that lead into it."""

    def __init__(
        self,
        id: int,
        incarnation: int,
        *,
        scheduler: Scheduler,
        disk: SimDisk,
        network: Network,
        connections: Connections,
        random: Random,
        post: Callable[[Event], None],
        tell: Callable[[Any], None],
    ) -> None:
        self.id = id
        self.incarnation = incarnation
        self.scheduler = scheduler
        self.disk = disk
        self.network = network
        self.connections = connections
        self.random = random
        self.is_alive = True
        self.sync_us = (200, 3000)
        self.wall_skew_ms = 0
        """Its wall clock, relative to the true one."""
        self.known: dict[int, int] = {}
        """Newest incarnation by id, from the supervisor's announcements."""
        self.operations = 0
        self.failed_appends: list[Any] = []
        self.kill_at = -1
        """Disk operations, replies and sends of this process after which it dies; -1: never."""
        self._post = post
        self._tell = tell
        self._syncing: dict[str, deque[Sync]] = {}
        self._scribble: deque[memoryview] = deque()

    # --- Files ----------------------------------------------------------------------------

    def read(self, path: str, position: int, size: int) -> bytes:
        return self.disk.read(path, position, size)

    def size(self, path: str) -> int:
        return self.disk.size(path)

    def list(self, directory: str) -> Names:
        return self.disk.list(directory)

    def volume(self) -> Volume:
        return self.disk.volume()

    # --- World ----------------------------------------------------------------------------

    def clock(self) -> tuple[int, int]:
        now_ms = self.scheduler.now_ms
        return now_ms, WALL_START_MS + now_ms + self.wall_skew_ms

    def perform(self, operation: DiskOperation) -> int:
        self._maybe_die()
        if not isinstance(operation, Sync):
            code = self.disk.perform(operation)
            if code and isinstance(operation, Append):
                self.failed_appends.append(operation.owner)
            return code
        if self.disk.size(operation.path) < 0:
            return errno.ENOENT
        waiting = self._syncing.get(operation.path)
        if waiting is not None:
            waiting.append(operation)
        else:
            self._syncing[operation.path] = deque()
            self._start_sync(operation)
        return 0

    def _start_sync(self, sync: Sync) -> None:
        begun = self.disk.begin_sync(sync.path)
        delay_us = draw(self.random, self.sync_us)
        self.scheduler.after(delay_us, lambda: self._end_sync(sync, begun))

    def _end_sync(self, sync: Sync, begun: Syncing | int) -> None:
        if not self.is_alive:
            return
        code = 0
        if isinstance(begun, int):
            code = begun
        else:
            self.disk.end_sync(begun)
        waiting = self._syncing[sync.path]
        if waiting:
            self._start_sync(waiting.popleft())
        else:
            del self._syncing[sync.path]
        self._post(Synced(sync.path, sync.token, code))

    def send(self, sends: Sequence[Send]) -> None:
        for send in sends:
            self._maybe_die()
            target = send.target, self.known.get(send.target, 0)
            self.network.send((self.id, self.incarnation), target, send.message, send.payload)

    def reply(self, replies: Sequence[Reply], closes: Sequence[int]) -> None:
        for reply in replies:
            self._maybe_die()
            if reply.mute_ms:
                self.connections.mute(reply.connection, reply.mute_ms)
            if not reply.parts:
                # acks=0: nothing is said, the request only ends.
                continue
            if any(type(part) is Span and self.disk.size(part.path) < 0 for part in reply.parts):
                # Deleted, or moved away, in the turn that answered: the real server closes, too.
                self.connections.close(reply.connection)
                continue
            frame = b"".join(self._part(part) for part in reply.parts)
            assert int.from_bytes(frame[:4], "big") == len(frame) - 4, "a wrong length prefix"
            self.connections.reply(reply.connection, frame[4:])
        for connection in closes:
            self.connections.close(connection)

    def _part(self, part: Buffer | Span) -> bytes:
        if isinstance(part, Span):
            data = self.disk.read(part.path, part.position, part.size)
            assert len(data) == part.size, f"{part.path} ends within a span that was promised"
            return data
        return bytes(part)

    def schedule(self, timers: Sequence[tuple[int, Timer]]) -> None:
        for due_ms, timer in timers:
            self.scheduler.at(due_ms * MS, lambda timer=timer: self._ring(timer))  # type: ignore[misc]

    def _ring(self, timer: Timer) -> None:
        if self.is_alive:
            self._post(timer)

    def trace(self, traces: Sequence[Any]) -> None:
        for trace in traces:
            self._tell(trace)

    def release(self) -> None:
        for frame in self._scribble:
            frame[:] = b"\xdb" * len(frame)
        self._scribble.clear()

    # --- the wires into this process ------------------------------------------------------

    def receive(self, frames: Frames) -> Received | None:
        """The message in `frames`, or None when it is not for this incarnation."""
        envelope = bus.decode(frames.envelope)
        if not bus.accepts(envelope, self.id, self.incarnation, self.known):
            self.network.count("stale")
            return None
        if envelope.source == SUPERVISOR and isinstance(envelope.message, bus.Announce):
            for process in envelope.message.processes:
                newest = max(process.incarnation, self.known.get(process.id, 0))
                self.known[process.id] = newest
        payload = tuple(memoryview(frame) for frame in frames.payload)
        return Received(envelope.source, envelope.source_epoch, envelope.message, payload)

    def request(self, connection: int, frame: bytes) -> Request:
        view = memoryview(bytearray(frame))
        self._scribble.append(view)
        return Request(connection, view)

    def _maybe_die(self) -> None:
        self.operations += 1
        if self.operations == self.kill_at:
            raise Killed
