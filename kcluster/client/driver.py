"""Runs a client core against a cluster: frames out, answers in, and the clock.

    core.exchange.outgoing --frames--> transport --answers--> core.exchange.arrived
                         '-> Negotiation: in which version

A transport knows how to reach a broker by its id and when a connection is lost; nothing else is
different between ZeroMQ and TCP. The ids of `coordinator_lane` are second connections. Everything
happens in the caller's thread, inside `step`.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from kcluster.core.client.exchange import Exchange, Outgoing
from kcluster.core.client.negotiation import CORRELATION, Negotiation
from kcluster.errors import ErrorCode, RemoteProtocolError
from kcluster.wire.frame import parse_response_header, request_frame
from kcluster.wire.message import decode
from kcluster.wire.messages.find_coordinator import FindCoordinatorResponse
from kcluster.wire.messages.metadata import MetadataResponse

CLIENT_ID = "kcluster"

STEP_MS_MAX = 500
"""A step waits no longer than this, so that Ctrl-C and deadlines are never far."""


@dataclass(frozen=True, slots=True)
class Arrived:
    """A response frame, without length prefix."""

    broker_id: int
    frame: bytes | memoryview


@dataclass(frozen=True, slots=True)
class Lost:
    """The connection to a broker is gone, with all answers that were to come."""

    broker_id: int


@runtime_checkable
class Transport(Protocol):
    @property
    def is_ours(self) -> bool:
        """Every broker is of our own release: nobody has to say which versions it serves."""
        ...

    def brokers(self) -> list[int]:
        """Ids to ask first."""
        ...

    def learn(self, broker_id: int, host: str, port: int) -> None:
        """Where a broker listens, as Metadata and FindCoordinator say."""
        ...

    def send(self, broker_id: int, frame: bytes) -> bool:
        """A request frame with its length prefix. False: this broker cannot be reached."""
        ...

    def hang_up(self, broker_id: int) -> None:
        """Close the connection to this broker; the next `send` opens another. Nothing comes of
        one that is closed."""
        ...

    def wait(self, timeout_ms: int) -> list[Arrived | Lost]: ...

    def fileno(self) -> int:
        """For an event loop: can be read when `wait(0)` has something to do."""
        ...

    def next_deadline_s(self) -> float | None:
        """For an event loop (monotonic): when `wait(0)` is due although nothing came."""
        ...

    def close(self) -> None: ...


class Core(Protocol):
    exchange: Exchange

    def tick(self, now_ms: int) -> None: ...

    def next_deadline(self) -> int | None: ...


class Driver:
    def __init__(self, core: Core, transport: Transport) -> None:
        self._core = core
        self._exchange = core.exchange
        self._transport = transport
        self._negotiation = None if transport.is_ours else Negotiation()
        self._asked: dict[tuple[int, int], Outgoing] = {}
        """By (broker id, correlation)."""

    def now_ms(self) -> int:
        return time.monotonic_ns() // 1_000_000

    def next_deadline_ms(self) -> int | None:
        """When `step` has something to do although nothing comes."""
        return self._core.next_deadline()

    def step(self, timeout_ms: int = STEP_MS_MAX) -> bool:
        """Send, wait until something comes or is due, and let the core make of it what it will.
        Whether anything came or left since the wait: with ZeroMQ a send may swallow the sign that
        something has come."""
        self._flush()
        deadline = self._core.next_deadline()
        wait_ms = min(timeout_ms, STEP_MS_MAX)
        if deadline is not None:
            wait_ms = min(wait_ms, max(0, deadline - self.now_ms()))
        events = self._transport.wait(wait_ms)
        for event in events:
            if isinstance(event, Lost):
                self._lost(event.broker_id)
            else:
                self._arrived(event)
        self._core.tick(self.now_ms())
        for broker_id in self._exchange.take_silent():
            if not self._transport.is_ours:
                self._transport.hang_up(broker_id)
                self._lost(broker_id)
        return self._flush() or bool(events)

    def _flush(self) -> bool:
        negotiation, has_sent = self._negotiation, False
        while self._exchange.outgoing:
            outgoing, self._exchange.outgoing = self._exchange.outgoing, []
            if negotiation is not None:
                outgoing = [one for each in outgoing for one in negotiation.admit(each)]
            self._send(outgoing)
            has_sent = True
        return has_sent

    def _send(self, requests: list[Outgoing]) -> None:
        unreachable: set[int] = set()
        for each in requests:
            if each.broker_id in unreachable:
                continue
            parts = request_frame(each.request, each.version, each.correlation, CLIENT_ID)
            if not self._transport.send(each.broker_id, b"".join(parts)):
                unreachable.add(each.broker_id)
            elif each.response is not None:
                self._asked[each.broker_id, each.correlation] = each
        for broker_id in unreachable:
            self._lost(broker_id)

    def _lost(self, broker_id: int) -> None:
        self._asked = {key: each for key, each in self._asked.items() if key[0] != broker_id}
        if self._negotiation is not None:
            self._negotiation.lost(broker_id)
        self._exchange.lost(broker_id, self.now_ms())

    def _arrived(self, event: Arrived) -> None:
        frame = memoryview(event.frame)
        if len(frame) < 4:
            raise RemoteProtocolError(f"broker {event.broker_id} answered with {len(frame)} bytes")
        correlation = int.from_bytes(frame[:4], "big", signed=True)
        asked = self._asked.pop((event.broker_id, correlation), None)
        if asked is None or asked.response is None:
            return
        _, position = parse_response_header(frame, asked.request.KEY, asked.version)
        if correlation == CORRELATION and self._negotiation is not None:
            released = self._negotiation.answered(event.broker_id, frame[position:])
            # Whoever has given up meanwhile has asked anew.
            self._send(
                [
                    one
                    for one in released
                    if one.correlation == CORRELATION or self._exchange.awaits(one)
                ]
            )
            return
        response = decode(asked.response, frame, asked.version, position)
        if isinstance(response, MetadataResponse):
            for broker in response.brokers:
                self._transport.learn(broker.node_id, broker.host, broker.port)
        elif isinstance(response, FindCoordinatorResponse):
            for found in response.coordinators:
                if found.error_code == ErrorCode.NONE:
                    self._transport.learn(found.node_id, found.host, found.port)
            if not response.coordinators and response.error_code == ErrorCode.NONE:
                self._transport.learn(response.node_id, response.host, response.port)
        self._exchange.arrived(correlation, response, self.now_ms())
