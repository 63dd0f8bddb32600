"""Kafka's protocol over TCP: the listener, and what all connections share.

Each connection is a non-blocking socket on the loop's `add_reader` (`connection.py`). Asyncio's
own transports were measured as fast at best, and cannot combine MSG_MORE, sendfile and reading
on. Here are the bounds that hold for all connections together: how many there are, how many
bytes of requests the process holds, and how long a client may take.

The bytes of requests are those of frames not complete yet and of requests that the core has not
handled yet: after its turn a request that waits for something holds no bytes of its frame. Beyond
the budget no socket is read, with one exception: the connection whose frame was begun first may
end it, or frames that fill the budget together would wait for each other for ever. The last part
of the budget is for connections that have no large frame half-way: so those who send the start of
one, and then nothing, do not keep small requests from being read. Frames that come slower than
anybody honest sends are cut off while memory is short.

Beyond the bound of connections the next one is closed as soon as it is accepted: its client
hears at once, where Kafka leaves it in the backlog until it gives up.
"""

from __future__ import annotations

import errno as errnos
import socket
from asyncio import AbstractEventLoop, TimerHandle
from collections.abc import Callable, Sequence

from kcluster.core.turn import Disconnected, Event, Reply
from kcluster.limits import LIMITS
from kcluster.world.arenas import Arenas, Pool
from kcluster.world.connection import Connection
from kcluster.world.disk import RealDisk
from kcluster.world.meter import Meter
from kcluster.world.rounds import Rounds

ACCEPTS_PER_WAKE = 64
BACKLOG = 1024

ACCEPT_PAUSE_S = 0.1
"""When descriptors have run out."""

SWEEP_S = 1.0
"""How often deadlines are looked at: they may be late by this much."""

RELIEF_S = 0.1
"""How often slow frames are looked for while memory is short."""

FRESH_PART = 4
"""One part in so many of the budget is for those who have no large frame half-way."""

SMALL_PART = 128
"""A frame is large that needs more than one part in so many of the budget."""


class KafkaServer:
    def __init__(
        self,
        host: str,
        port: int,
        loop: AbstractEventLoop,
        disk: RealDisk,
        *,
        request_bytes_max: int = 104_857_600,
        queued_bytes_max: int = 268_435_456,
        connections_max: int = 4000,
        idle_ms: int = 600_000,
        say: Callable[[str], None] | None = None,
    ) -> None:
        """Binds at once (port 0: a free one, then in `self.port`; OSError when it is taken);
        accepts from `start` on. Spans of replies are files of `disk`. The limits are Kafka's
        `socket.request.max.bytes`, `queued.max.request.bytes`, `max.connections` (which may be
        changed at any time) and `connections.max.idle.ms`. `say` takes lines for the log."""
        self.loop = loop
        self.disk = disk
        self.request_bytes_max = request_bytes_max
        self.queued_bytes_max = queued_bytes_max
        self.connections_max = connections_max
        self.idle_s = idle_ms / 1000
        self.post: Callable[[Event], None] = _not_started
        self.pool = Pool()
        self.arenas = Arenas(self.pool)
        self.rounds = Rounds(loop)
        self.meter = Meter()
        self.connections: dict[int, Connection] = {}
        self.incomplete: dict[int, Connection] = {}
        """Those that have begun a frame, the longest waiting first."""
        self.queued_bytes = 0
        self.reply_bytes = 0
        """In memory, not taken by their readers yet."""
        self.refused = 0
        """Connections closed because there were too many."""
        self.cut_off = 0
        """Closed because their frames, or their reading, were too slow for the memory they took."""
        self._told = (0, 0)
        self._say = say
        self._unhandled: dict[int, Connection] = {}
        """Have posted requests in this turn."""
        self._relief_handle: TimerHandle | None = None
        self._paused: dict[int, Connection] = {}
        self._last_id = 0
        self._is_accepting = False
        self._accept_handle: TimerHandle | None = None
        self._sweep_handle: TimerHandle | None = None
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self._listener = socket.create_server((host, port), family=family, backlog=BACKLOG)
        self._listener.setblocking(False)
        self.host = host
        self.port: int = self._listener.getsockname()[1]

    def start(self, post: Callable[[Event], None]) -> None:
        self.post = post
        self._look()
        self._sweep_handle = self.loop.call_later(SWEEP_S, self._sweep)

    # --- World ----------------------------------------------------------------------------

    def reply(self, replies: Sequence[Reply], closes: Sequence[int]) -> None:
        """Each reply ends the oldest request in flight of its connection."""
        touched: dict[int, Connection] = {}
        for reply in replies:
            connection = self.connections.get(reply.connection)
            if connection is not None:
                connection.answer(reply.parts)
                if reply.mute_ms:
                    connection.mute(reply.mute_ms / 1000)
                touched[reply.connection] = connection
        for connection in touched.values():
            connection.flush()
        if self.reply_bytes > LIMITS.all_replies_bytes:
            self._cut_off_readers()
        for id in closes:
            connection = self.connections.get(id)
            if connection is not None:
                connection.close_when_sent()
        if self._paused:
            self._unpause()

    def release(self) -> None:
        """The core has handled what was posted: what it still waits with holds no frame."""
        self.arenas.release()
        if self._unhandled:
            for connection in self._unhandled.values():
                connection.handled()
            self._unhandled.clear()
            if self._paused:
                self._unpause()

    # --- connections ----------------------------------------------------------------------

    def is_large(self, frame_bytes: int) -> bool:
        return frame_bytes > self.queued_bytes_max // SMALL_PART

    def is_over_budget(self, connection: Connection) -> bool:
        budget = self.queued_bytes_max
        if connection.is_incomplete and self.is_large(connection.needs):
            budget -= budget // FRESH_PART
        if self.queued_bytes < budget:
            return False
        return connection is not next(iter(self.incomplete.values()), None)

    def pause(self, connection: Connection) -> None:
        connection.pause(self.loop.time())
        self._paused[connection.id] = connection
        if self._relief_handle is None:
            self._relief_handle = self.loop.call_later(RELIEF_S, self._relieve)

    def posted(self, connection: Connection) -> None:
        self._unhandled[connection.id] = connection

    def closed(self, connection: Connection) -> None:
        del self.connections[connection.id]
        self._paused.pop(connection.id, None)
        self._unhandled.pop(connection.id, None)
        self.post(Disconnected(connection.id))
        if self._paused:
            self._unpause()

    def _unpause(self) -> None:
        for connection in list(self._paused.values()):
            if connection.id in self._paused and not self.is_over_budget(connection):
                del self._paused[connection.id]
                connection.unpause(self.loop.time())

    def _relieve(self) -> None:
        """Cut off all slow frames: to make room for one at a time would have the others wait."""
        self._relief_handle = None
        now = self.loop.time()
        for connection in list(self.incomplete.values()):
            if connection.is_slow(now):
                self.cut_off += 1
                connection.close()
        self._unpause()
        if self._paused:
            self._relief_handle = self.loop.call_later(RELIEF_S, self._relieve)

    def _cut_off_readers(self) -> None:
        by_size = sorted(self.connections.values(), key=lambda each: each.out_bytes)
        while self.reply_bytes > LIMITS.all_replies_bytes and by_size:
            self.cut_off += 1
            by_size.pop().close()

    def _look(self) -> None:
        """Accept, or stop accepting."""
        wanted = (
            self._listener.fileno() >= 0
            and self.post is not _not_started
            and self._accept_handle is None
        )
        if wanted != self._is_accepting:
            self._is_accepting = wanted
            if wanted:
                self.loop.add_reader(self._listener.fileno(), self._accept)
            else:
                self.loop.remove_reader(self._listener.fileno())

    def _accept(self) -> None:
        for _ in range(ACCEPTS_PER_WAKE):
            try:
                accepted, address = self._listener.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                break
            except OSError as error:
                if error.errno in (errnos.EMFILE, errnos.ENFILE, errnos.ENOBUFS, errnos.ENOMEM):
                    # The listener stays readable: without a pause the loop would spin on it.
                    self._accept_handle = self.loop.call_later(ACCEPT_PAUSE_S, self._accept_again)
                break
            if len(self.connections) >= self.connections_max:
                self.refused += 1
                accepted.close()
                continue
            accepted.setblocking(False)
            accepted.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._last_id += 1
            connection = Connection(self._last_id, accepted, address[0], self, self.loop.time())
            self.connections[connection.id] = connection
        self._look()

    def _accept_again(self) -> None:
        self._accept_handle = None
        self._look()

    def _sweep(self) -> None:
        now = self.loop.time()
        for connection in list(self.connections.values()):
            if connection.deadline < now:
                connection.expire(now)
        if self._say is not None and (self.refused, self.cut_off) != self._told:
            refused, cut_off = self.refused - self._told[0], self.cut_off - self._told[1]
            self._told = self.refused, self.cut_off
            self._say(
                f"connections: {refused} refused (max.connections is {self.connections_max}), "
                f"{cut_off} cut off as too slow for the memory they took"
            )
        self._sweep_handle = self.loop.call_later(SWEEP_S, self._sweep)

    # --- the end --------------------------------------------------------------------------

    def stop_accepting(self) -> None:
        """Close the listener; connections stay."""
        if self._is_accepting:
            self.loop.remove_reader(self._listener.fileno())
            self._is_accepting = False
        if self._accept_handle is not None:
            self._accept_handle.cancel()
            self._accept_handle = None
        self._listener.close()

    def close(self) -> None:
        """Close everything at once; the core hears nothing. Safe to call twice."""
        self.stop_accepting()
        if self._sweep_handle is not None:
            self._sweep_handle.cancel()
        if self._relief_handle is not None:
            self._relief_handle.cancel()
        self.post = _ignore
        for connection in list(self.connections.values()):
            connection.close()


def _not_started(event: Event) -> None:
    raise AssertionError("an event came before the server was started")


def _ignore(event: Event) -> None:
    return
