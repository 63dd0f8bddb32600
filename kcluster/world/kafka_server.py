"""Kafka's protocol over TCP (being written)."""

from __future__ import annotations

from asyncio import AbstractEventLoop
from collections.abc import Callable, Sequence

from kcluster.core.turn import Event, Reply
from kcluster.world.disk import RealDisk


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
    ) -> None:
        """Binds at once (port 0: a free one, then in `self.port`); accepts from `start` on."""
        self.host = host
        self.port = port
        self.connections_max = connections_max

    def start(self, post: Callable[[Event], None]) -> None:
        raise NotImplementedError

    def reply(self, replies: Sequence[Reply], closes: Sequence[int]) -> None:
        raise NotImplementedError

    def release(self) -> None:
        raise NotImplementedError

    def close(self) -> None:
        raise NotImplementedError
