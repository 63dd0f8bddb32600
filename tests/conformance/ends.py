"""Two ends of one line: processes 1 and 2, known to each other, on real sockets or simulated."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from pathlib import Path
from random import Random
from typing import Any, Protocol

from kcluster.core.turn import DiskOperation, Received, Send, Timer
from kcluster.sim.disk import SimDisk
from kcluster.sim.network import Frames, Network
from kcluster.sim.scheduler import MS, Scheduler
from kcluster.sim.world import SimWorld
from kcluster.wire.bus import Ack, Announce, Envelope, Message, ProcessState
from kcluster.world.bus import Bus
from kcluster.world.world import RealWorld

PATIENCE_S = 20
STEPS_MAX = 1_000_000
SUPERVISOR = -1


class Ends(Protocol):
    received: dict[int, list[Any]]
    """Events by process id."""

    def send(self, source: int, sends: Sequence[Send]) -> None: ...

    def send_envelope(self, envelope: Envelope) -> None:
        """As the source it names, whatever that source really is by now."""
        ...

    def announce(self, incarnation_of_2: int) -> None:
        """Process 1 hears from the supervisor which incarnation of 2 lives."""
        ...

    def perform(self, id: int, operation: DiskOperation) -> int: ...

    def schedule(self, id: int, timers: Sequence[tuple[int, Timer]]) -> None: ...

    def now_ms(self, id: int) -> int: ...

    def run_until(self, claim: Callable[[], bool]) -> None: ...

    def settle(self) -> None:
        """All that is under way arrives, so that what has not come by then never will."""
        ...

    def close(self) -> None: ...


class RealEnds:
    def __init__(self, directory: Path) -> None:
        self._loop = asyncio.new_event_loop()
        self.received: dict[int, list[Any]] = {1: [], 2: [], 3: []}
        self._worlds: dict[int, RealWorld] = {}
        self._buses: dict[int, Bus] = {}
        for id, incarnation in ((SUPERVISOR, 1), (1, 11), (2, 22), (3, 1)):
            endpoint = f"ipc://{directory}/{id}"
            supervisor = None if id == SUPERVISOR else self._state(SUPERVISOR, 1)
            bus = Bus(id, incarnation, endpoint, self._loop, supervisor=supervisor)
            self._buses[id] = bus
            world = self._worlds[id] = RealWorld(str(directory / f"d{id}"), self._loop, bus=bus)
            world.start(self.received.setdefault(id, []).append)
        everybody = [self._state(1, 11), self._state(2, 22)]
        for id in (SUPERVISOR, 1, 2, 3):
            self._buses[id].peers_changed(everybody)
        self._strangers = 0
        # Until both are connected: a liar that introduces itself as 2 would otherwise be taken
        # over by the real one.
        for id in (2, SUPERVISOR):
            self.send(id, [Send(1, Ack([]))])
        self.run_until(lambda: len(self.received[1]) == 2)
        self.received[1].clear()

    def _state(self, id: int, incarnation: int) -> ProcessState:
        endpoint = self._buses[id].endpoint
        return ProcessState(id, incarnation, endpoint, 0, "running")

    def send(self, source: int, sends: Sequence[Send]) -> None:
        self._worlds[source].send(sends)
        self._worlds[source].release()

    def send_envelope(self, envelope: Envelope) -> None:
        self._strangers += 1
        liar = Bus(
            envelope.source,
            envelope.source_epoch,
            f"{self._buses[1].endpoint}.{self._strangers}",
            self._loop,
        )
        self._buses[100 + self._strangers] = liar
        target = self._buses[envelope.target]
        liar.peers_changed(
            [ProcessState(envelope.target, envelope.target_epoch, target.endpoint, 0, "running")]
        )
        liar.send([Send(envelope.target, envelope.message)])

    def announce(self, incarnation_of_2: int) -> None:
        told = Announce([self._state(1, 11), self._state(2, incarnation_of_2)])
        before = len(self.received[1])
        self._buses[SUPERVISOR].send([Send(1, told)])
        self.run_until(lambda: len(self.received[1]) > before)

    def perform(self, id: int, operation: DiskOperation) -> int:
        return self._worlds[id].perform(operation)

    def schedule(self, id: int, timers: Sequence[tuple[int, Timer]]) -> None:
        self._worlds[id].schedule(timers)

    def now_ms(self, id: int) -> int:
        return self._worlds[id].clock()[0]

    def run_until(self, claim: Callable[[], bool]) -> None:
        deadline = self._loop.time() + PATIENCE_S
        while not claim():
            assert self._loop.time() < deadline, "the claim never came true"
            self._loop.call_later(0.0005, self._loop.stop)
            self._loop.run_forever()

    def settle(self) -> None:
        """Every end that may have sent says one thing more; all have one thing to come. A message
        that was refused is counted, so nothing has to be waited for in time."""
        liars = [bus for id, bus in self._buses.items() if id > 100]
        counts = self._buses[1].counts
        self.run_until(lambda: counts.misdirected + counts.stale >= len(liars))

    def close(self) -> None:
        for world in self._worlds.values():
            world.close()
        for bus in self._buses.values():
            bus.close()
        self._loop.close()


class SimEnds:
    def __init__(self) -> None:
        self._scheduler = Scheduler()
        self.received: dict[int, list[Any]] = {1: [], 2: [], 3: []}
        self._worlds: dict[int, SimWorld] = {}
        self._network = Network(self._scheduler, Random(1), self._deliver)
        nobody: Any = None
        for id, incarnation in ((SUPERVISOR, 1), (1, 11), (2, 22), (3, 1)):
            self._worlds[id] = SimWorld(
                id,
                incarnation,
                scheduler=self._scheduler,
                disk=SimDisk(),
                network=self._network,
                connections=nobody,
                random=Random(id),
                post=self.received.setdefault(id, []).append,
                tell=lambda trace: None,
            )
            self._worlds[id].known = {1: 11, 2: 22}

    def _deliver(self, id: int, frames: Frames) -> bool:
        event: Received | None = self._worlds[id].receive(frames)
        if event is not None:
            self.received[id].append(event)
        return True

    def send(self, source: int, sends: Sequence[Send]) -> None:
        self._worlds[source].send(sends)

    def send_envelope(self, envelope: Envelope) -> None:
        source = envelope.source, envelope.source_epoch
        target = envelope.target, envelope.target_epoch
        self._network.send(source, target, envelope.message)

    def announce(self, incarnation_of_2: int) -> None:
        message: Message = Announce(
            [
                ProcessState(1, 11, "", 0, "running"),
                ProcessState(2, incarnation_of_2, "", 0, "running"),
            ]
        )
        before = len(self.received[1])
        self._worlds[SUPERVISOR].send([Send(1, message)])
        self.run_until(lambda: len(self.received[1]) > before)

    def perform(self, id: int, operation: DiskOperation) -> int:
        return self._worlds[id].perform(operation)

    def schedule(self, id: int, timers: Sequence[tuple[int, Timer]]) -> None:
        self._worlds[id].schedule(timers)

    def now_ms(self, id: int) -> int:
        return self._worlds[id].clock()[0]

    def run_until(self, claim: Callable[[], bool]) -> None:
        limit = self._scheduler.now_us + 1000 * PATIENCE_S * MS
        while not claim():
            assert self._scheduler.now_us < limit, "the claim never came true"
            self._scheduler.run(self._scheduler.now_us + MS // 10, STEPS_MAX)

    def settle(self) -> None:
        self._scheduler.run(self._scheduler.now_us + 1000 * MS, STEPS_MAX)

    def close(self) -> None:
        return
