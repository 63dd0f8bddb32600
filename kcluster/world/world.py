"""The real World: disk, bus, Kafka listener, clocks and traces of one process, put together."""

from __future__ import annotations

import time
from asyncio import AbstractEventLoop
from collections.abc import Callable, Sequence
from typing import Any

from kcluster.core.turn import DiskOperation, Event, Reply, Send, Timer, Volume
from kcluster.world.bus import Bus
from kcluster.world.disk import RealDisk
from kcluster.world.events import TraceLog
from kcluster.world.kafka_server import KafkaServer
from kcluster.world.loop import Timers, monotonic_ms


class RealWorld:
    """`World` to `run_turn`, `Files` to its core, `Sources` to the driver."""

    def __init__(
        self,
        root: str,
        loop: AbstractEventLoop,
        *,
        bus: Bus | None = None,
        log: TraceLog | None = None,
        disk_type: type[RealDisk] = RealDisk,
    ) -> None:
        """`root` is the data directory. The Kafka listener, which needs the disk, is set
        afterwards: `world.server = KafkaServer(host, port, loop, world.disk)`."""
        self.disk = disk_type(root, call_in_loop=loop.call_soon_threadsafe)
        self.bus = bus
        self.server: KafkaServer | None = None
        self.log = log
        self.on_traces: Callable[[int, Sequence[Any]], None] = _nobody_listens
        """Takes the wall clock in ms and the traces of a turn, besides the log."""
        self.timers = Timers(loop)

    def start(self, post: Callable[[Event], None]) -> None:
        self.timers.post = post
        self.disk.on_synced = post
        if self.bus is not None:
            self.bus.start(post)
        if self.server is not None:
            self.server.start(post)

    def close(self) -> None:
        """Release sockets and files; safe to call twice."""
        if self.server is not None:
            self.server.close()
        if self.bus is not None:
            self.bus.close()
        self.disk.close()

    def clock(self) -> tuple[int, int]:
        return monotonic_ms(), time.time_ns() // 1_000_000

    def read(self, path: str, position: int, size: int) -> bytes:
        return self.disk.read(path, position, size)

    def size(self, path: str) -> int:
        return self.disk.size(path)

    def list(self, directory: str) -> list[str]:
        return self.disk.list(directory)

    def volume(self) -> Volume:
        return self.disk.volume()

    def perform(self, operation: DiskOperation) -> int:
        return self.disk.perform(operation)

    def send(self, sends: Sequence[Send]) -> None:
        if self.bus is not None:
            self.bus.send(sends)

    def reply(self, replies: Sequence[Reply], closes: Sequence[int]) -> None:
        if self.server is not None:
            self.server.reply(replies, closes)

    def schedule(self, timers: Sequence[tuple[int, Timer]]) -> None:
        self.timers.schedule(timers)

    def trace(self, traces: Sequence[Any]) -> None:
        wall_ms = time.time_ns() // 1_000_000
        if self.log is not None:
            self.log.write(wall_ms, traces)
        self.on_traces(wall_ms, traces)

    def release(self) -> None:
        if self.server is not None:
            self.server.release()
        if self.bus is not None:
            self.bus.check()


def _nobody_listens(wall_ms: int, traces: Sequence[Any]) -> None:
    return
