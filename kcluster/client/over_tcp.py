"""Kafka's requests over TCP, to any cluster that speaks the protocol: one connection a broker.

The bootstrap addresses stand for brokers whose ids are not known yet: they get negative ids, and
are used until Metadata has named the brokers. Requests are pipelined; answers come in order.

Nothing blocks but `wait`, and the look-up of a host's name: connecting and sending go on inside
`wait`. An event loop can watch `fileno` instead, and call `wait(0)` when that can be read.
"""

from __future__ import annotations

import contextlib
import errno
import selectors
import socket
import time
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field

from kcluster.client.driver import Arrived, Lost
from kcluster.core.client.exchange import broker_of_lane

CONNECT_S = 2.0
FRAME_BYTES_MAX = 128 << 20
RECEIVE_BYTES = 1 << 18
HEAD_BYTES = 4

Address = tuple[str, int]
"""(host, port)"""

BEGUN = frozenset({0, errno.EINPROGRESS, errno.EWOULDBLOCK})
"""What `connect_ex` says when the connection is there, or under way."""


@dataclass(slots=True)
class _Connection:
    broker_id: int
    socket: socket.socket
    others: list[tuple[int, tuple[object, ...]]]
    """(family, address) of the same host that are tried next."""
    connecting_until: float | None
    """Monotonic; None once it is connected."""
    unsent: deque[memoryview] = field(default_factory=deque)
    received: bytearray = field(default_factory=bytearray)
    """The start of a frame whose length is not known, or that is small."""
    frame: memoryview | None = None
    """A large frame on its way, and how much of it is there."""
    filled: int = 0


class TcpTransport:
    is_ours = False
    """Whether every broker is of our own release, so that nobody has to say what it serves."""

    def __init__(self, bootstrap: Iterable[Address]) -> None:
        self._addresses = {-1 - i: address for i, address in enumerate(bootstrap)}
        self._open: dict[int, _Connection] = {}
        self._selector = selectors.DefaultSelector()
        self._connecting = 0
        self._lost: list[Arrived | Lost] = []
        self._chunk = bytearray(RECEIVE_BYTES)

    def brokers(self) -> list[int]:
        return sorted(self._addresses, reverse=True)

    def learn(self, broker_id: int, host: str, port: int) -> None:
        if self._addresses.get(broker_id) != (host, port):
            self._addresses[broker_id] = (host, port)

    def fileno(self) -> int:
        """Can be read when `wait(0)` has something to do. Raises AttributeError where the system
        has no such thing (neither epoll nor kqueue)."""
        number: int = self._selector.fileno()
        return number

    def next_deadline_s(self) -> float | None:
        """Monotonic: when `wait` has to be called although nothing comes."""
        if not self._connecting:
            return None
        return min(
            each.connecting_until
            for each in self._open.values()
            if each.connecting_until is not None
        )

    def reach(self, timeout_s: float = CONNECT_S) -> bool:
        """Whether any of the bootstrap addresses takes a connection; waits for that."""
        deadline = time.monotonic() + timeout_s
        for broker_id in self.brokers():
            self._connect(broker_id)
        while self._connecting and time.monotonic() < deadline:
            if any(each.connecting_until is None for each in self._open.values()):
                break
            self._lost += self.wait(int(timeout_s * 1000))
        self._lost = []
        return any(each.connecting_until is None for each in self._open.values())

    def send(self, broker_id: int, frame: bytes) -> bool:
        connection = self._open.get(broker_id) or self._connect(broker_id)
        if connection is None:
            return False
        if connection.unsent or connection.connecting_until is not None:
            connection.unsent.append(memoryview(frame))
            return True
        try:
            sent = connection.socket.send(frame)
        except BlockingIOError:
            sent = 0
        except OSError:
            self._hang_up(connection)
            return False
        if sent < len(frame):
            connection.unsent.append(memoryview(frame)[sent:])
            self._watch(connection)
        return True

    def hang_up(self, broker_id: int) -> None:
        connection = self._open.get(broker_id)
        if connection is not None:
            self._hang_up(connection)

    def wait(self, timeout_ms: int) -> list[Arrived | Lost]:
        events, self._lost = self._lost, []
        timeout_s = 0.0 if events else timeout_ms / 1000
        due = self.next_deadline_s()
        if due is not None:
            timeout_s = max(0.0, min(timeout_s, due - time.monotonic()))
        for key, mask in self._selector.select(timeout_s):
            connection: _Connection = key.data
            if mask & selectors.EVENT_WRITE:
                self._write(connection)
            if mask & selectors.EVENT_READ:
                self._read(connection, events)
        if due is not None:
            now = time.monotonic()
            for connection in list(self._open.values()):
                if connection.connecting_until is not None and now >= connection.connecting_until:
                    self._refused(connection)
        if self._lost:
            events += self._lost
            self._lost = []
        return events

    def close(self) -> None:
        for connection in list(self._open.values()):
            self._hang_up(connection)
        self._selector.close()

    # --- connecting

    def _connect(self, broker_id: int) -> _Connection | None:
        address = self._addresses.get(broker_of_lane(broker_id))
        if address is None:
            return None
        try:
            found = socket.getaddrinfo(*address, type=socket.SOCK_STREAM)
        except OSError:
            return None
        return self._try(broker_id, [(each[0], each[4]) for each in found], deque())

    def _try(
        self,
        broker_id: int,
        places: list[tuple[int, tuple[object, ...]]],
        unsent: deque[memoryview],
    ) -> _Connection | None:
        """To the first of these that does not refuse at once."""
        for number, (family, address) in enumerate(places):
            opened = socket.socket(family, socket.SOCK_STREAM)
            opened.setblocking(False)
            opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if opened.connect_ex(address) in BEGUN:
                until = time.monotonic() + CONNECT_S
                connection = _Connection(broker_id, opened, places[number + 1 :], until, unsent)
                self._open[broker_id] = connection
                self._connecting += 1
                self._selector.register(opened, selectors.EVENT_WRITE, connection)
                return connection
            opened.close()
        return None

    def _refused(self, connection: _Connection) -> None:
        """Nobody takes the connection there: the host's next address, or the broker is lost."""
        unsent = connection.unsent
        self._hang_up(connection)
        if self._try(connection.broker_id, connection.others, unsent) is None:
            self._lost.append(Lost(connection.broker_id))

    def _hang_up(self, connection: _Connection) -> None:
        if self._open.get(connection.broker_id) is not connection:
            return
        del self._open[connection.broker_id]
        if connection.connecting_until is not None:
            self._connecting -= 1
        with contextlib.suppress(OSError, KeyError, ValueError):
            self._selector.unregister(connection.socket)
        with contextlib.suppress(OSError):
            connection.socket.close()

    def _break(self, connection: _Connection) -> None:
        self._hang_up(connection)
        self._lost.append(Lost(connection.broker_id))

    def _watch(self, connection: _Connection) -> None:
        wanted = selectors.EVENT_READ
        if connection.unsent:
            wanted |= selectors.EVENT_WRITE
        self._selector.modify(connection.socket, wanted, connection)

    # --- bytes

    def _write(self, connection: _Connection) -> None:
        """It is connected, or was refused; or it takes more."""
        if connection.connecting_until is not None:
            if connection.socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
                self._refused(connection)
                return
            connection.connecting_until = None
            self._connecting -= 1
        unsent = connection.unsent
        while unsent:
            try:
                sent = connection.socket.send(unsent[0])
            except BlockingIOError:
                break
            except OSError:
                self._break(connection)
                return
            if sent < len(unsent[0]):
                unsent[0] = unsent[0][sent:]
                break
            unsent.popleft()
        self._watch(connection)

    def _read(self, connection: _Connection, events: list[Arrived | Lost]) -> None:
        frame = connection.frame
        try:
            if frame is not None:
                count = connection.socket.recv_into(frame[connection.filled :])
            else:
                count = connection.socket.recv_into(self._chunk)
        except BlockingIOError:
            return
        except OSError:
            count = 0
        if not count:
            self._break(connection)
        elif frame is None:
            connection.received += memoryview(self._chunk)[:count]
            self._cut(connection, events)
        else:
            connection.filled += count
            if connection.filled == len(frame):
                events.append(Arrived(connection.broker_id, frame))
                connection.frame = None

    def _cut(self, connection: _Connection, events: list[Arrived | Lost]) -> None:
        """Whole frames out of what was received; a large one that is not gets its own room."""
        received, position = connection.received, 0
        while len(received) - position >= HEAD_BYTES:
            begin = position + HEAD_BYTES
            size = int.from_bytes(received[position:begin], "big", signed=True)
            if not 0 < size <= FRAME_BYTES_MAX:
                self._break(connection)
                return
            have = len(received) - begin
            if have < size:
                if size > RECEIVE_BYTES:
                    room = bytearray(size)
                    room[:have] = memoryview(received)[begin:]
                    connection.frame, connection.filled = memoryview(room), have
                    position = len(received)
                break
            position = begin + size
            events.append(Arrived(connection.broker_id, bytes(received[begin:position])))
        connection.received = received[position:]
