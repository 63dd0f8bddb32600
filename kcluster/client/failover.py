"""Kill, and follow what that causes, by the events of the supervisor.

image before --> kill --> events --> Timeline --> until the stage that is waited for
                            ^
a hole in them, or time is over: the image is looked at, once each
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

from kcluster.client.control import BusClient, ControlClient
from kcluster.client.snapshot import read_image
from kcluster.client.timeline import STAGES, Timeline
from kcluster.core.metadata.image import ClusterImage
from kcluster.wire import bus
from kcluster.wire import control as c
from kcluster.wire.events import ClusterEvent

PATIENCE_MS = 200
"""How often it is looked whether time is over, while no events come."""


class Failover:
    """Any number of kills, one after another."""

    def __init__(
        self,
        control: ControlClient,
        follower: ControlClient,
        servers: BusClient,
        is_over: Callable[[], bool] = lambda: False,
    ) -> None:
        """`follower`: of the same supervisor, and nobody else's. `is_over`: whether whoever
        waits has had enough."""
        self._control = control
        self._servers = servers
        self._is_over = is_over
        self._events = follower.follow(-1, PATIENCE_MS)
        self._last_seq = -1
        next(self._events)

    def kill(self, command: c.Kill, until: str, timeout_ms: int) -> Timeline:
        """Returns once `until` is reached, one of STAGES or "none", or when time is over, which
        the timeline tells. UsageError when the kill is refused."""
        image = self._look()[0] if until in STAGES else None
        timeline = Timeline(command.ids, image)
        timeline.sent(self._control.command(command).moments)
        if until not in STAGES:
            return timeline
        deadline = time.monotonic() + timeout_ms / 1000
        for events, is_whole in self._news():
            timeline.heard(events)
            is_late = time.monotonic() > deadline
            if not timeline.is_reached(until) and (is_late or not is_whole):
                timeline.seen(*self._look(), time.monotonic_ns())
            if is_late or self._is_over() or timeline.is_reached(until):
                break
        return timeline

    def idle(self, until_s: float) -> None:
        """Until then (monotonic) nothing is of interest; who follows has to go on reading."""
        for _ in self._news():
            if time.monotonic() >= until_s or self._is_over():
                return

    def _news(self) -> Iterator[tuple[list[ClusterEvent], bool]]:
        """(events, whether none are missing before them)."""
        yield [], True
        for events in self._events:
            is_whole = not events or self._last_seq < 0 or events[0].seq == self._last_seq + 1
            if events:
                self._last_seq = events[-1].seq
            yield events, is_whole

    def _look(self) -> tuple[ClusterImage | None, list[bus.ProcessState]]:
        states = self._control.states()
        return read_image(self._servers, states), states
