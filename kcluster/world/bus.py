"""ZeroMQ between our processes (being written)."""

from __future__ import annotations

from asyncio import AbstractEventLoop
from collections.abc import Callable, Sequence

from kcluster.core.turn import Event, Send
from kcluster.wire.bus import ProcessState


class Bus:
    def __init__(
        self,
        id: int,
        incarnation: int,
        endpoint: str,
        loop: AbstractEventLoop,
        *,
        supervisor: ProcessState | None = None,
    ) -> None:
        """Binds `endpoint` at once; `self.endpoint` is what it became (tcp with port `*`).
        An `Announce` from `supervisor` is applied here and also given to the core."""
        self.id = id
        self.incarnation = incarnation
        self.endpoint = endpoint

    def start(self, post: Callable[[Event], None]) -> None:
        raise NotImplementedError

    def peers_changed(self, processes: list[ProcessState]) -> None:
        raise NotImplementedError

    def send(self, sends: Sequence[Send]) -> None:
        raise NotImplementedError

    def check(self) -> None:
        raise NotImplementedError

    def close(self) -> None:
        raise NotImplementedError
