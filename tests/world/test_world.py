"""A core on the whole real world: what comes in is written, synced, answered and told."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

from kcluster.core.traces import Warned
from kcluster.core.turn import Request, Span, Sync, Synced, Turn
from kcluster.world.events import TraceLog

PATH = "t-0/0.log"


class Store:
    """Appends each frame, syncs, and answers with the bytes from the file once they are durable."""

    def __init__(self) -> None:
        self.end = 0
        self.waiting: list[tuple[int, int, int]] = []
        self.written_to = 0

    def handle(self, event: Any, turn: Turn) -> None:
        if isinstance(event, Request):
            size = len(event.frame)
            turn.append(PATH, self.end, self, event.frame)
            self.waiting.append((event.connection, self.end, size))
            self.end += size
            turn.disk.append(Sync(PATH, self.end))
        elif isinstance(event, Synced):
            assert event.token <= self.written_to, "durable before it was written"
            while self.waiting and self.waiting[0][1] < event.token:
                connection, position, size = self.waiting.pop(0)
                turn.reply(connection, [struct.pack(">i", size), Span(PATH, position, size)])
            turn.trace(Warned(f"durable to {event.token}"))

    def settle(self, turn: Turn) -> None:
        return

    def written(self, turn: Turn, append: Any) -> None:
        self.written_to = append.position + append.size

    def write_failed(self, turn: Turn, append: Any, errno: int) -> None:
        raise AssertionError(errno)

    def disk_failed(self, turn: Turn, operation: Any, errno: int) -> None:
        raise AssertionError(errno)


def test_what_is_answered_is_written_and_durable(house: Any, tmp_path: Path) -> None:
    store = Store()
    house.driver._core = store
    house.world.log = TraceLog(tmp_path / "log")
    house.serve()
    clients = [house.connect() for _ in range(3)]
    frames = [struct.pack(">ih", 50_002, 0) + bytes([n]) * 50_000 for n in range(9)]
    for n, frame in enumerate(frames):
        house.write(clients[n % 3], frame)
    for n, frame in enumerate(frames):
        assert house.read(clients[n % 3], len(frame)) == frame
    assert house.world.size(PATH) == 9 * 50_002
    lines = (tmp_path / "log").read_text().splitlines()
    assert lines[-1].endswith(f"Warned(text='durable to {9 * 50_002}')")
    house.world.close()
    house.world.log.close()
