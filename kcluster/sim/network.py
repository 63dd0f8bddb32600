"""Queues between processes, as unreliable as ZeroMQ's: delay, drop, duplicate, reorder, cut.

    send --encode--> link (source, target): faults drawn --> inbox of whoever has the address

A message in flight belongs to an address, not to an incarnation: what was queued for the dead
reaches their successor, which drops it by the envelope's epochs (`wire.bus.accepts`). Frames
are bytes from here on, so that no two processes ever share an object. Without faults a link is
first in, first out.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from random import Random

import msgspec

from kcluster.core.turn import Buffer
from kcluster.sim.scheduler import Scheduler, draw
from kcluster.wire import bus

HELD_MESSAGES_MAX = 1000
"""Waiting for an address with nobody behind it; the oldest go, as at a full ZeroMQ socket."""


class Frames(msgspec.Struct, frozen=True):
    """One message on the wire."""

    envelope: bytes
    payload: tuple[bytes, ...]


@dataclass(slots=True)
class Weather:
    """What happens to messages; rates from 0 to 1, times in microseconds."""

    delay_us: tuple[int, int] = (100, 300)
    drop: float = 0.0
    duplicate: float = 0.0
    reorder: float = 0.0
    """Messages that may overtake, by being late."""
    late_us: int = 50_000
    """How late at most a message is that others overtake."""
    slow: float = 0.0
    """Messages that hold up all behind them."""
    slow_us: int = 500_000


@dataclass(frozen=True, slots=True, eq=False)
class Loss:
    """Messages of some kinds do not come through from one process to another, or come late."""

    kinds: tuple[str, ...]
    """Names of classes in `wire.bus`."""
    source: int | None
    """None: whoever."""
    target: int | None
    late_us: tuple[int, int] | None = None
    """How late they are, and overtaken; None: lost."""

    def hits(self, source: int, target: int, message: bus.Message) -> bool:
        return (
            self.source in (None, source)
            and self.target in (None, target)
            and type(message).__name__ in self.kinds
        )

    def __str__(self) -> str:
        fate = "lost" if self.late_us is None else f"up to {self.late_us[1]} us late"
        source, target = ("*" if end is None else end for end in (self.source, self.target))
        return f"{fate}: {', '.join(self.kinds)} {source} -> {target}"


Deliver = Callable[[int, Frames], bool]
"""To the process at an address: False when nobody is there."""


@dataclass(slots=True)
class Network:
    scheduler: Scheduler
    random: Random
    deliver: Deliver
    weather: Weather = field(default_factory=Weather)
    cuts: set[tuple[int, int]] = field(default_factory=set)
    """(source, target): what goes there is lost; the way back is a cut of its own."""
    losses: list[Loss] = field(default_factory=list)
    """Kinds of messages that do not come through as others do."""
    counts: dict[str, int] = field(default_factory=dict)
    """Messages by fate."""
    senders: list[Callable[[int, int, bus.Message], None]] = field(default_factory=list)
    """Told (source, target, message) of everything that is sent."""
    _last_us: dict[tuple[int, int], int] = field(default_factory=dict)
    _held: dict[int, list[tuple[int, Frames]]] = field(default_factory=dict)

    def send(
        self,
        source: tuple[int, int],
        target: tuple[int, int],
        message: bus.Message,
        payload: Sequence[Buffer] = (),
    ) -> None:
        """From and to (id, incarnation), 0 for an incarnation that is not known."""
        self.count("sent")
        for told in self.senders:
            told(source[0], target[0], message)
        weather, random = self.weather, self.random
        link = source[0], target[0]
        if link in self.cuts or random.random() < weather.drop:
            self.count("dropped")
            return
        extra_us = 0
        for loss in self.losses:
            if loss.hits(link[0], link[1], message):
                if loss.late_us is None:
                    self.count("dropped")
                    return
                extra_us = random.randint(*loss.late_us)
        envelope = bus.encode(bus.Envelope(*source, *target, message))
        frames = Frames(envelope, tuple(bytes(frame) for frame in payload))
        copies = 1
        if random.random() < weather.duplicate:
            self.count("duplicated")
            copies = 2
        for copy in range(copies):
            self._fly(link, frames, is_copy=copy > 0, extra_us=extra_us)

    def _fly(
        self, link: tuple[int, int], frames: Frames, *, is_copy: bool, extra_us: int = 0
    ) -> None:
        """`extra_us`: by how much it is late already; then others overtake."""
        weather, random = self.weather, self.random
        arrival = self.scheduler.now_us + extra_us + draw(random, weather.delay_us)
        if extra_us:
            self.count("late")
        elif is_copy or random.random() < weather.reorder:
            arrival += random.randint(0, weather.late_us)
            self.count("late")
        else:
            if random.random() < weather.slow:
                arrival += random.randint(0, weather.slow_us)
            arrival = max(arrival, self._last_us.get(link, 0))
            self._last_us[link] = arrival
        self.scheduler.at(arrival, lambda: self._arrive(link, frames))

    def _arrive(self, link: tuple[int, int], frames: Frames) -> None:
        if link in self.cuts:
            self.count("dropped")
            return
        if self.deliver(link[1], frames):
            self.count("delivered")
            return
        held = self._held.setdefault(link[1], [])
        held.append((link[0], frames))
        del held[:-HELD_MESSAGES_MAX]

    def opened(self, id: int) -> None:
        """A process has taken the address: it gets what waited there."""
        for source, frames in self._held.pop(id, []):
            self.count("inherited")
            self._fly((source, id), frames, is_copy=False)

    def count(self, fate: str) -> None:
        self.counts[fate] = self.counts.get(fate, 0) + 1
