"""One client's TCP connection: frames in, replies out, in one non-blocking socket.

Bytes are received into the loop's current arena. Frames that are complete there are posted as
they lie. What is left over, an incomplete frame or frames beyond the limit of requests in
flight, moves to a buffer of the connection's own, which grows as bytes arrive; the rest of
such a frame is received straight into it, and what follows it into the arena, by one call.

A reply's parts leave in order. Buffers that precede a file's bytes go with MSG_MORE, so that
header and records share packets; the records go from file to socket without passing through
this process. What would block goes on when the socket is writable; meanwhile nothing is read,
so that a client that does not take its answers cannot ask for more.
"""

from __future__ import annotations

import socket
import struct
import time
from collections import deque
from typing import TYPE_CHECKING

from kcluster.core.turn import Buffer, Part, Request, Span
from kcluster.limits import LIMITS
from kcluster.world import platform
from kcluster.world.arenas import SMALLEST_BUFFER
from kcluster.world.disk import OpenFile
from kcluster.world.muting import Muting

if TYPE_CHECKING:
    from kcluster.world.kafka_server import KafkaServer

PRODUCE = 0
"""The api key whose frames may be large."""

FLUSH_BYTES = 4 << 20
"""Written to one connection before others have their turn."""

BUFFERS_PER_SEND = 64

FIRST_BYTES = 64 << 10
"""Received at once of who may begin a large frame, while others end theirs."""

DISCARDS = 64
"""Reads of bytes that nobody wants, before a connection is closed."""

_MORE: int = getattr(socket, "MSG_MORE", 0)
_length_at = struct.Struct(">i").unpack_from
_api_key_at = struct.Struct(">h").unpack_from


class FilePart:
    """What is left of a span; holds the file, whatever becomes of its name."""

    __slots__ = ("file", "position", "size")

    def __init__(self, file: OpenFile, position: int, size: int) -> None:
        self.file = file
        self.position = position
        self.size = size


class Connection:
    __slots__ = (
        "_begun",
        "_buffer",
        "_end",
        "_fd",
        "_has_framed",
        "_is_reading",
        "_is_writing",
        "_muting",
        "_out",
        "_paused_at",
        "_round",
        "_server",
        "_since",
        "_socket",
        "_start",
        "_view",
        "deadline",
        "host",
        "id",
        "in_flight",
        "is_closed",
        "is_closing",
        "is_paused",
        "needs",
        "out_bytes",
    )

    def __init__(
        self, id: int, sock: socket.socket, host: str, server: KafkaServer, now: float
    ) -> None:
        self.id = id
        self.host = host
        """Address of the client."""
        self._socket = sock
        self._fd = sock.fileno()
        self._server = server
        self._buffer: bytearray | None = None
        """Holds an incomplete frame, or frames that wait for earlier ones to be answered, from
        `_start` (exclusive end `_end`). An incomplete frame always starts at 0."""
        self._view = memoryview(b"")
        self._start = 0
        self._end = 0
        self.needs = 0
        """Size of the incomplete frame with its prefix; 0 while that is not known."""
        self.in_flight: deque[int] = deque()
        """Of the requests posted and not answered, in order: sizes of those that the core has not
        handled yet, and 0 for those that wait for something."""
        self._begun: deque[tuple[int, int]] = deque()
        """(api key, when it was there in ns) of each request in flight."""
        self._out: deque[Buffer | FilePart] = deque()
        self.out_bytes = 0
        """Of the buffers in `_out`; what lies in files costs no memory."""
        self._has_framed = False
        self._since = now
        """When its incomplete frame began; later by the time for which it was paused."""
        self._round = 0
        """The last in which it read of a large frame."""
        self._paused_at = now
        self.deadline = now + LIMITS.first_frame_ms / 1000
        """Of the loop's clock: what is awaited of the client must have come by then."""
        self._is_reading = False
        self._is_writing = False
        self._muting: Muting | None = None
        self.is_paused = False
        """Not read because the process holds too many bytes of requests."""
        self.is_closing = False
        self.is_closed = False
        self.look()

    @property
    def is_incomplete(self) -> bool:
        """Has begun a frame, and nothing but its client's next bytes can end it."""
        return self._buffer is not None and not self._is_full

    @property
    def _is_full(self) -> bool:
        in_flight = len(self.in_flight)
        return in_flight >= LIMITS.requests_in_flight or (
            self._muting is not None and self._muting.takes_none(in_flight)
        )

    def mute(self, seconds: float) -> None:
        """Take no requests for so long; answers leave. A frame that has begun may wait as well."""
        self._muting = self._muting or Muting(self._server.loop, self.resume)
        self._muting.begin(seconds)
        if self._server.incomplete.pop(self.id, None) is not None:
            self.deadline = self._server.loop.time() + self._server.idle_s

    # --- in -------------------------------------------------------------------------------

    def look(self) -> None:
        """Read again if nothing is against it. What is against it is mostly over by the end of
        the turn, so that reading stops only when bytes come meanwhile (`_readable`)."""
        if not self._is_reading and self._may_read:
            self._is_reading = True
            self._server.loop.add_reader(self._fd, self._readable)

    @property
    def _may_read(self) -> bool:
        return not (self.is_closing or self.is_paused or self._out or self._is_full)

    def pause(self, now: float) -> None:
        self.is_paused = True
        self._paused_at = now
        self.stop_reading()

    def unpause(self, now: float) -> None:
        """Its client could not go on meanwhile, so its time begins where it stood."""
        self.is_paused = False
        self.deadline += now - self._paused_at
        self._since += now - self._paused_at
        self.resume()

    def is_slow(self, now: float) -> bool:
        """Whether too little of its incomplete frame has come for the time that it had."""
        if not self.is_incomplete:
            return False
        had_s = (self._paused_at if self.is_paused else now) - self._since
        return (
            had_s * 1000 >= LIMITS.slow_frame_ms
            and self._end < had_s * LIMITS.slow_frame_bytes_per_s
        )

    def stop_reading(self) -> None:
        if self._is_reading:
            self._is_reading = False
            self._server.loop.remove_reader(self._fd)

    def _readable(self) -> None:
        if not self._may_read:
            self.stop_reading()
            return
        server = self._server
        if server.is_over_budget(self):
            server.pause(self)
            return
        if self._buffer is not None and server.is_large(self.needs):
            if not server.rounds.admits(self._round):
                return
            self._round = server.rounds.number
        arenas = server.arenas
        arenas.make_room()
        missing = 0
        try:
            if self._buffer is None:
                most = FIRST_BYTES if server.rounds.is_spent else len(arenas.view)
                size = self._socket.recv_into(arenas.view[arenas.end : arenas.end + most])
            else:
                missing = self.needs - self._end
                if 0 < missing <= len(self._buffer) - self._end:
                    own = self._view[self._end : self._end + missing]
                    size = self._socket.recvmsg_into([own, arenas.view[arenas.end :]])[0]
                else:
                    missing = len(self._buffer) - self._end
                    size = self._socket.recv_into(self._view[self._end :])
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            self.close()
            return
        if not size:
            self.close()
            return
        if self._buffer is not None:
            mine = min(size, missing)
            server.rounds.spend(mine)
            self._end += mine
            server.queued_bytes += mine
            size -= mine
            self._parse_own()
            if self.is_closed:
                return
        if size:
            start = arenas.end
            end = start + size
            position = self._parse(arenas.data, arenas.view, start, end)
            arenas.end = position
            if position < end and not self.is_closed:
                self._keep(arenas.view[position:end])

    def resume(self) -> None:
        """A request was answered, or memory became free: go on with what waits."""
        if self._buffer is not None and not self._is_full and not self.is_closing:
            self._parse_own()
        self.look()

    def _parse_own(self) -> None:
        buffer = self._buffer
        assert buffer is not None, "a frame's bytes came for a buffer that is gone"
        before = self._start
        position = self._parse(buffer, self._view, before, self._end)
        if self.is_closed:
            return
        self._start = position
        self._server.queued_bytes -= position - before
        if position > before:
            # What was incomplete has ended.
            self._server.incomplete.pop(self.id, None)
        if position == self._end:
            self._drop_buffer()
        elif not self._is_full:
            if position or self._end == len(buffer):
                # The front belongs to frames that were posted, or there is no room left.
                rest = self._view[position : self._end]
                self._drop_buffer()
                self._keep(rest)
            else:
                self._await_rest()

    def _parse(self, data: bytearray, view: memoryview, position: int, end: int) -> int:
        """Post the frames from `position`; returns where the first that is not posted begins."""
        server = self._server
        first = position
        self.needs = 0
        while end - position >= 4 and not self.is_closing:
            length = _length_at(data, position)[0]
            if not 0 < length <= server.request_bytes_max:
                self.close()
                return end
            if (
                length > LIMITS.other_request_bytes
                and end - position >= 6
                and _api_key_at(data, position + 4)[0] != PRODUCE
            ):
                self.close()
                return end
            following = position + 4 + length
            if following > end:
                self.needs = 4 + length
                break
            if self._is_full:
                break
            server.post(Request(self.id, view[position + 4 : following], self.host))
            self.in_flight.append(length)
            api = _api_key_at(data, position + 4)[0] if length >= 2 else -1
            self._begun.append((api, time.perf_counter_ns()))
            server.queued_bytes += length
            position = following
        if position > first:
            server.posted(self)
            self._has_framed = True
            self.deadline = server.loop.time() + server.idle_s
        return position

    def _keep(self, rest: memoryview) -> None:
        """Copy `rest` to the start of a buffer of our own."""
        size = len(rest)
        server = self._server
        self._buffer = server.pool.take(max(self.needs, size), size)
        server.rounds.spend(len(self._buffer))
        self._view = memoryview(self._buffer)
        self._view[:size] = rest
        self._start = 0
        self._end = size
        server.queued_bytes += size
        if not self._is_full:
            self._await_rest()

    def _await_rest(self) -> None:
        """A frame has begun, now or with earlier bytes: from then on its time runs."""
        server = self._server
        if self.id not in server.incomplete:
            server.incomplete[self.id] = self
            self._since = server.loop.time()
            if self._has_framed:
                self.deadline = server.loop.time() + LIMITS.frame_ms / 1000

    def _drop_buffer(self) -> None:
        if self._buffer is not None:
            self._server.queued_bytes -= self._end - self._start
            self._server.pool.give(self._buffer)
            self._buffer = None
            self._view = memoryview(b"")
            self._start = self._end = 0

    def handled(self) -> None:
        """What the core did not answer at once waits without its frame."""
        waiting = len(self.in_flight)
        if waiting:
            self._server.queued_bytes -= sum(self.in_flight)
            self.in_flight = deque([0] * waiting)

    # --- out ------------------------------------------------------------------------------

    def answer(self, parts: list[Part]) -> None:
        """Queue the answer to the oldest request in flight; `flush` sends."""
        if self.in_flight:
            self._server.queued_bytes -= self.in_flight.popleft()
            api, begun_ns = self._begun.popleft()
            self._server.meter.answered(api, time.perf_counter_ns() - begun_ns)
        for part in parts:
            if type(part) is Span:
                try:
                    file = self._server.disk.open(part.path)
                except OSError:
                    self.close()
                    return
                self._out.append(FilePart(file, part.position, part.size))
            elif part:
                self._out.append(part)  # type: ignore[arg-type]
                size = len(part)  # type: ignore[arg-type]
                self.out_bytes += size
                self._server.reply_bytes += size

    def flush(self) -> None:
        if self._is_writing or self.is_closed:
            # The rest leaves when the socket takes it.
            if self.out_bytes > LIMITS.reply_queue_bytes:
                self.close()
            return
        self._write()
        if not self.is_closed:
            self.resume()

    def _writable(self) -> None:
        self._write()
        if not self.is_closed and not self._out:
            self.resume()

    def _write(self) -> None:
        out = self._out
        budget = FLUSH_BYTES
        try:
            while out and budget > 0:
                part = out[0]
                if type(part) is FilePart:
                    size = platform.send_file(
                        self._fd, part.file.fd, part.position, min(part.size, budget)
                    )
                    if not size:
                        # The file is shorter than was promised in the header.
                        self.close()
                        return
                    part.position += size
                    part.size -= size
                    if not part.size:
                        out.popleft()
                else:
                    size = self._send_buffers()
                budget -= size
        except (BlockingIOError, InterruptedError):
            pass
        except OSError:
            self.close()
            return
        if budget != FLUSH_BYTES and not self.is_incomplete:
            self.deadline = self._server.loop.time() + self._server.idle_s
        if out:
            if self.out_bytes > LIMITS.reply_queue_bytes:
                self.close()
            elif not self._is_writing:
                self._is_writing = True
                self._server.loop.add_writer(self._fd, self._writable)
            return
        if self._is_writing:
            self._is_writing = False
            self._server.loop.remove_writer(self._fd)
        if self.is_closing:
            self._discard()
            self.close()

    def _send_buffers(self) -> int:
        """One send of the buffers in front, with MSG_MORE if a file comes next."""
        out = self._out
        if len(out) == 1:
            sent = self._socket.send(out[0])  # type: ignore[arg-type]
        else:
            buffers: list[Buffer] = []
            flags = 0
            for part in out:
                if type(part) is FilePart:
                    flags = _MORE
                    break
                if len(buffers) == BUFFERS_PER_SEND:
                    break
                buffers.append(part)  # type: ignore[arg-type]
            sent = self._socket.sendmsg(buffers, (), flags)
        self.out_bytes -= sent
        self._server.reply_bytes -= sent
        left = sent
        while left:
            size = len(out[0])  # type: ignore[arg-type]
            if left < size:
                out[0] = memoryview(out[0])[left:]  # type: ignore[arg-type]
                break
            out.popleft()
            left -= size
        return sent

    # --- the end --------------------------------------------------------------------------

    def close_when_sent(self) -> None:
        """Take no more requests; be gone when the replies have left."""
        self.is_closing = True
        if self._out and not self.is_closed:
            self.stop_reading()
        else:
            self._discard()
            self.close()

    def _discard(self) -> None:
        """Closing a socket with bytes that were not read resets the connection, and a reset takes
        away what the client has not read yet: so read them."""
        waste = bytearray(SMALLEST_BUFFER)
        try:
            for _ in range(DISCARDS):
                if not self._socket.recv_into(waste):
                    return
        except OSError:
            return

    def close(self) -> None:
        """At once. The core hears of it."""
        if self.is_closed:
            return
        self.is_closed = self.is_closing = True
        self.stop_reading()
        if self._is_writing:
            self._server.loop.remove_writer(self._fd)
        self._drop_buffer()
        self._server.incomplete.pop(self.id, None)
        self._server.queued_bytes -= sum(self.in_flight)
        self.in_flight.clear()
        self._out.clear()
        self._server.reply_bytes -= self.out_bytes
        self.out_bytes = 0
        self._socket.close()
        self._server.closed(self)

    def expire(self, now: float) -> None:
        """The deadline has passed: forgive it if the wait is ours, else close."""
        if self.is_paused and not self._out:
            return
        if self.in_flight and not self.is_incomplete and not self._out:
            self.deadline = now + self._server.idle_s
        else:
            self.close()
