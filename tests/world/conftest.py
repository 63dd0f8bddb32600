"""Loops, worlds and a core that writes down what it is told."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from kcluster.core.turn import DiskOperation, Event, Request, Turn
from kcluster.world.kafka_server import KafkaServer
from kcluster.world.loop import Driver
from kcluster.world.world import RealWorld

PATIENCE_S = 20


class Recorder:
    """A core that keeps every event, and calls `on_event(event, turn)` for each."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.on_event: Callable[[Any, Turn], None] = lambda event, turn: None
        self.on_settle: Callable[[Turn], None] = lambda turn: None
        self.turns: list[int] = []
        """Events of each turn."""
        self._before = 0

    def handle(self, event: Event, turn: Turn) -> None:
        if isinstance(event, Request):
            # The frame is only lent for this turn.
            self.events.append(Request(event.connection, memoryview(bytes(event.frame))))
        else:
            self.events.append(event)
        self.on_event(event, turn)

    def settle(self, turn: Turn) -> None:
        if len(self.events) > self._before:
            self.turns.append(len(self.events) - self._before)
            self._before = len(self.events)
        self.on_settle(turn)

    def disk_failed(self, turn: Turn, operation: DiskOperation, errno: int) -> None:
        raise AssertionError(f"{operation}: {errno}")

    def frames(self) -> list[bytes]:
        return [bytes(event.frame) for event in self.events if isinstance(event, Request)]

    def of(self, kind: type) -> list[Any]:
        return [event for event in self.events if isinstance(event, kind)]


class House:
    """One loop with a recorder on a real world; the test runs the loop until a claim holds."""

    def __init__(self, loop: asyncio.AbstractEventLoop, root: Path) -> None:
        self.loop = loop
        self.core = Recorder()
        self.world = RealWorld(str(root), loop)
        self.driver = Driver(self.core, self.world, loop, on_bug=self._bug)
        self.bug: BaseException | None = None
        self.clients: list[socket.socket] = []

    def serve(self, **limits: int) -> KafkaServer:
        server = KafkaServer("127.0.0.1", 0, self.loop, self.world.disk, **limits)
        self.world.server = server
        self.driver.start()
        return server

    def connect(self) -> socket.socket:
        """A client socket that does not block the loop it is tested against."""
        assert self.world.server is not None
        client = socket.create_connection(("127.0.0.1", self.world.server.port), PATIENCE_S)
        client.setblocking(False)
        self.clients.append(client)
        return client

    def run_until(self, claim: Callable[[], bool]) -> None:
        """Run the loop until `claim` holds; looked at in every round."""
        deadline = self.loop.time() + PATIENCE_S

        def look() -> None:
            if self.bug is not None or claim():
                self.loop.stop()
                return
            if self.loop.time() > deadline:
                self.bug = TimeoutError("the claim never came true")
                self.loop.stop()
                return
            self.loop.call_later(0.0005, look)

        self.loop.call_soon(look)
        self.loop.run_forever()
        if self.bug is not None:
            raise self.bug

    def read(self, client: socket.socket, size: int) -> bytes:
        """Exactly `size` bytes, or fewer when the connection ends."""
        data = bytearray()
        ended = False

        def look() -> bool:
            nonlocal ended
            try:
                while len(data) < size:
                    chunk = client.recv(min(size - len(data), 1 << 20))
                    if not chunk:
                        ended = True
                        break
                    data.extend(chunk)
            except BlockingIOError:
                pass
            except ConnectionError:
                ended = True
            return ended or len(data) >= size

        self.run_until(look)
        return bytes(data)

    def is_closed(self, client: socket.socket) -> bool:
        """Waits for the other side to close; False if bytes come instead."""
        return self.read(client, 1) == b""

    def write(self, client: socket.socket, data: bytes) -> None:
        """All of it, as fast as the other side reads."""
        rest = memoryview(data)

        def look() -> bool:
            nonlocal rest
            try:
                while rest:
                    rest = rest[client.send(rest) :]
            except BlockingIOError:
                pass
            return not rest

        self.run_until(look)

    def _bug(self, error: BaseException) -> None:
        self.bug = error
        self.loop.stop()

    def close(self) -> None:
        for client in self.clients:
            client.close()
        self.driver.stop()
        self.world.close()


@pytest.fixture
def loop() -> Iterator[asyncio.AbstractEventLoop]:
    loop = asyncio.new_event_loop()
    yield loop
    loop.close()


@pytest.fixture
def house(loop: asyncio.AbstractEventLoop, tmp_path: Path) -> Iterator[House]:
    house = House(loop, tmp_path / "data")
    yield house
    house.close()
