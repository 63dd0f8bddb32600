"""Kafka's requests to brokers over ZeroMQ, one frame in one message: how our own commands talk.

    DEALER for each incarnation of a broker  ->  its inbox     where it is, the supervisor says
    monitor of each DEALER                                     that it is gone, the kernel says

Nothing tells a DEALER that its peer died, so its monitor is listened to: after a disconnect the
supervisor is asked who is where, and what was asked of the dead is reported as lost.
"""

from __future__ import annotations

import contextlib
import selectors
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import zmq
from zmq.utils.monitor import recv_monitor_message

from kcluster.client.driver import Arrived, Lost
from kcluster.core.client.exchange import broker_of_lane
from kcluster.limits import LIMITS
from kcluster.wire import bus

LOOK_AGAIN_MS = 50
"""The supervisor is asked for news of a missing broker no more often than this."""

HEAD_BYTES = 4
"""The length prefix, which a message on the bus does not have."""


@dataclass(slots=True)
class _Broker:
    id: int
    """Of the connection: a broker has a second one, its coordinator lane."""
    process: bus.ProcessState
    socket: zmq.Socket[bytes]
    monitor: zmq.Socket[bytes]


class BusTransport:
    is_ours = True

    def __init__(
        self,
        processes: Callable[[], Sequence[bus.ProcessState]],
        on_close: Callable[[], None] = lambda: None,
    ) -> None:
        """`processes` asks the supervisor who is where."""
        self._processes = processes
        self._on_close = on_close
        self._context: zmq.Context[Any] = zmq.Context()
        self._poller = zmq.Poller()
        self._known: dict[int, bus.ProcessState] = {}
        self._open: dict[int, _Broker] = {}
        self._by_socket: dict[zmq.Socket[bytes], _Broker] = {}
        self._lost: list[Arrived | Lost] = []
        self._looked_at = 0.0
        self._descriptors: selectors.BaseSelector | None = None
        """Those of the sockets together, once an event loop wants to watch them."""
        self._look()

    def brokers(self) -> list[int]:
        return sorted(self._known)

    def learn(self, broker_id: int, host: str, port: int) -> None:
        """Not needed: the supervisor knows."""

    def send(self, broker_id: int, frame: bytes) -> bool:
        broker = self._open.get(broker_id) or self._connect(broker_id)
        if broker is None:
            return False
        process = broker.process
        envelope = bus.Envelope(0, 0, process.id, process.incarnation, bus.KafkaRequest())
        try:
            broker.socket.send_multipart(
                [bus.encode(envelope), memoryview(frame)[HEAD_BYTES:]], zmq.DONTWAIT
            )
        except zmq.Again:
            return False
        return True

    def hang_up(self, broker_id: int) -> None:
        """Not needed: no answer waits behind another."""

    def wait(self, timeout_ms: int) -> list[Arrived | Lost]:
        events, self._lost = self._lost, []
        for socket, _ in self._poller.poll(0 if events else timeout_ms):
            broker = self._by_socket.get(socket)
            if broker is None:
                continue
            if socket is broker.monitor:
                recv_monitor_message(socket)
                self._hang_up(broker)
                events.append(Lost(broker.id))
                continue
            while socket.get(zmq.EVENTS) & zmq.POLLIN:
                _, *payload = socket.recv_multipart()
                events.append(Arrived(broker.id, b"".join(payload)))
        return events

    def fileno(self) -> int:
        """Can be read when something may have come; `wait(0)` until it returns nothing says
        whether it has, since ZeroMQ's own descriptors tell of a change only once."""
        if self._descriptors is None:
            self._descriptors = selectors.DefaultSelector()
            for socket in self._by_socket:
                self._descriptors.register(_descriptor(socket), selectors.EVENT_READ)
        number: int = self._descriptors.fileno()  # type: ignore[attr-defined]
        return number

    def next_deadline_s(self) -> float | None:
        return None

    def close(self) -> None:
        for broker in list(self._open.values()):
            self._hang_up(broker)
        if self._descriptors is not None:
            self._descriptors.close()
        self._context.destroy(linger=0)
        self._on_close()

    # --- who is where

    def _look(self) -> None:
        now = time.monotonic()
        if now - self._looked_at < LOOK_AGAIN_MS / 1000:
            return
        self._known = {
            process.id: process
            for process in self._processes()
            if process.id > 0 and process.endpoint and process.state in ("running", "paused")
        }
        self._looked_at = time.monotonic()

    def _connect(self, broker_id: int) -> _Broker | None:
        process = self._known.get(broker_of_lane(broker_id))
        if process is None:
            self._look()
            process = self._known.get(broker_of_lane(broker_id))
            if process is None:
                return None
        socket = self._context.socket(zmq.DEALER)
        socket.setsockopt(zmq.LINGER, 0)
        socket.setsockopt(zmq.MAXMSGSIZE, LIMITS.bus_message_bytes)
        socket.setsockopt(zmq.SNDHWM, LIMITS.send_queue_max)
        monitor = socket.get_monitor_socket(zmq.EVENT_DISCONNECTED | zmq.EVENT_CONNECT_RETRIED)
        socket.connect(process.endpoint)
        broker = _Broker(broker_id, process, socket, monitor)
        self._open[broker_id] = broker
        for each in (socket, monitor):
            self._by_socket[each] = broker
            self._poller.register(each, zmq.POLLIN)
            if self._descriptors is not None:
                self._descriptors.register(_descriptor(each), selectors.EVENT_READ)
        return broker

    def _hang_up(self, broker: _Broker) -> None:
        """The incarnation is gone, or its endpoint is: its successor has another."""
        self._known.pop(broker.process.id, None)
        self._open.pop(broker.id, None)
        for each in (broker.socket, broker.monitor):
            self._by_socket.pop(each, None)
            self._poller.unregister(each)
            if self._descriptors is not None:
                with contextlib.suppress(KeyError, ValueError, OSError):
                    self._descriptors.unregister(_descriptor(each))
        broker.socket.disable_monitor()
        broker.monitor.close(linger=0)
        broker.socket.close(linger=0)


def _descriptor(socket: zmq.Socket[bytes]) -> int:
    number = socket.get(zmq.FD)
    assert isinstance(number, int)
    return number
