"""Kafka's requests over TCP, to any cluster that speaks the protocol: one connection a broker.

The bootstrap addresses stand for brokers whose ids are not known yet: they get negative ids, and
are used until Metadata has named the brokers. Requests are pipelined; answers come in order.
"""

from __future__ import annotations

import contextlib
import select
import socket
from dataclasses import dataclass, field

from kcluster.client.driver import Arrived, Lost
from kcluster.core.client.exchange import broker_of_lane

CONNECT_S = 2.0
FRAME_BYTES_MAX = 128 << 20
RECEIVE_BYTES = 1 << 20
SEND_S = 10.0


@dataclass(slots=True)
class _Connection:
    broker_id: int
    socket: socket.socket
    received: bytearray = field(default_factory=bytearray)


class TcpTransport:
    def __init__(self, bootstrap: list[tuple[str, int]]) -> None:
        self._addresses = {-1 - i: address for i, address in enumerate(bootstrap)}
        self._open: dict[int, _Connection] = {}
        self._by_descriptor: dict[int, _Connection] = {}
        self._poll = select.poll()

    def brokers(self) -> list[int]:
        return sorted(self._addresses, reverse=True)

    def learn(self, broker_id: int, host: str, port: int) -> None:
        if self._addresses.get(broker_id) != (host, port):
            self._addresses[broker_id] = (host, port)

    def send(self, broker_id: int, frame: bytes) -> bool:
        connection = self._open.get(broker_id) or self._connect(broker_id)
        if connection is None:
            return False
        try:
            connection.socket.sendall(frame)
        except OSError:
            self._hang_up(connection)
            return False
        return True

    def wait(self, timeout_ms: int) -> list[Arrived | Lost]:
        events: list[Arrived | Lost] = []
        for descriptor, _ in self._poll.poll(timeout_ms):
            connection = self._by_descriptor[descriptor]
            try:
                chunk = connection.socket.recv(RECEIVE_BYTES)
            except OSError:
                chunk = b""
            if not chunk:
                self._hang_up(connection)
                events.append(Lost(connection.broker_id))
                continue
            connection.received += chunk
            events += self._frames(connection)
        return events

    def close(self) -> None:
        for connection in list(self._open.values()):
            self._hang_up(connection)

    def _frames(self, connection: _Connection) -> list[Arrived | Lost]:
        frames: list[Arrived | Lost] = []
        received, position = connection.received, 0
        while len(received) - position >= 4:
            size = int.from_bytes(received[position : position + 4], "big")
            if size > FRAME_BYTES_MAX:
                self._hang_up(connection)
                return [*frames, Lost(connection.broker_id)]
            if len(received) - position - 4 < size:
                break
            end = position + 4 + size
            frames.append(Arrived(connection.broker_id, bytes(received[position + 4 : end])))
            position = end
        del received[:position]
        return frames

    def _connect(self, broker_id: int) -> _Connection | None:
        address = self._addresses.get(broker_of_lane(broker_id))
        if address is None:
            return None
        try:
            opened = socket.create_connection(address, CONNECT_S)
        except OSError:
            return None
        opened.settimeout(SEND_S)
        opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection = _Connection(broker_id, opened)
        self._open[broker_id] = self._by_descriptor[opened.fileno()] = connection
        self._poll.register(opened, select.POLLIN)
        return connection

    def _hang_up(self, connection: _Connection) -> None:
        self._open.pop(connection.broker_id, None)
        descriptor = connection.socket.fileno()
        if self._by_descriptor.pop(descriptor, None) is not None:
            self._poll.unregister(descriptor)
        with contextlib.suppress(OSError):
            connection.socket.close()
