"""A whole cluster from one seed: processes, network, disks, a supervisor, and who watches them.

    SimCluster(seed)
      scheduler     one heap, one clock
      network       bus messages between processes          weather, cuts
      processes     0 the coordinator, 1.. the brokers      kill, pause, power loss
      listeners     client connections, FIFO while the process lives
      watchers      told after every turn of every process

The supervisor here is a stub: it gives incarnations, announces who is where, and tells of
deaths. Its own messages are delayed but not lost, as a local socket to a parent is.

Everything is drawn from `Random`s seeded by name, so that more draws in one part do not shift
the others; the same seed gives the same trace, whatever PYTHONHASHSEED is.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from random import Random
from typing import Any, Protocol

from kcluster.core.turn import Core, Disconnected, Event, Files
from kcluster.model import COORDINATOR, SUPERVISOR
from kcluster.sim.compactors import Compactors
from kcluster.sim.disk import SimDisk
from kcluster.sim.network import Frames, Network
from kcluster.sim.process import (
    FAILED,
    KILLED,
    PAUSED,
    RUNNING,
    STARTING,
    STOPPED,
    FromClient,
    Process,
)
from kcluster.sim.scheduler import MS, Scheduler, draw
from kcluster.sim.world import SimWorld
from kcluster.wire import bus

SUPERVISOR_INCARNATION = 1
CLIENT_DELAY_US = (50, 200)


@dataclass(frozen=True, slots=True)
class Birth:
    """What a core is made of."""

    id: int
    incarnation: int
    files: Files
    random: Random
    restart: str
    """clean, crash or lossy."""
    settings: dict[str, str]
    brokers: int
    endpoint: str


Make = Callable[[Birth], Core]


class ClientEnd(Protocol):
    """The client's side of a connection."""

    def replied(self, connection: int, frame: bytes) -> None: ...

    def sees_leaving(self, connection: int, frame: bytes) -> None:
        """As the reply leaves the broker; called once the turn that made it is over."""
        ...

    def closed(self, connection: int) -> None: ...


class StepLimit(AssertionError):
    """The simulation did more than it may: something talks without end."""


class NotReached(AssertionError):
    """A condition did not come true within its bound."""


class SimCluster:
    def __init__(
        self,
        seed: int | str,
        *,
        make_broker: Make,
        make_controller: Make,
        brokers: int = 3,
        settings: dict[str, str] | None = None,
        steps_max: int = 3_000_000,
    ) -> None:
        self.seed = seed
        self.settings = dict(settings or {})
        self.broker_ids = list(range(1, brokers + 1))
        self.scheduler = Scheduler()
        self.network = Network(self.scheduler, self.random("network"), self._arrive)
        self.make = {COORDINATOR: make_controller, **dict.fromkeys(self.broker_ids, make_broker)}
        self.watchers: list[Callable[[Process, list[Event]], None]] = []
        self.listeners: list[Callable[[Process, Any], None]] = []
        """Told of every trace."""
        self.starting_hooks: list[Callable[[Process], None]] = []
        """Told of a process before its first turn."""
        self.ending_hooks: list[Callable[[Process, str], None]] = []
        """Told of an end while the core can still be looked at."""
        self.ended_hooks: list[Callable[[Process, str], None]] = []
        self.processes: dict[int, Process] = {}
        for id in (COORDINATOR, *self.broker_ids):
            self.processes[id] = Process(
                id, self.scheduler, SimDisk(), self._turned, self._ended, self.session_timeout_ms
            )
        self.connections = Connections(self)
        self.compactors = Compactors(self.scheduler, self.random, self.note, self._supervise)
        self.ready: set[tuple[int, int]] = set()
        """(id, incarnation) of processes that said so."""
        self.journal: list[str] = []
        """One line for each trace and each operation: what the hash is of."""
        self.steps_max = steps_max
        self._incarnations = 0
        self.sync_us = (200, 3000)
        """How long the disks take for an fsync."""
        self.supervisor_us = (200, 2000)
        """How late what the supervisor says is."""
        self._random_supervisor = self.random("supervisor")
        self._supervisor_last_us: dict[int, int] = {}

    @property
    def session_timeout_ms(self) -> int:
        return int(self.settings.get("broker.session.timeout.ms", "3000"))

    @property
    def now_ms(self) -> int:
        return self.scheduler.now_ms

    def random(self, name: str) -> Random:
        return self.stream(self.seed, name)

    @staticmethod
    def stream(seed: int | str, name: str) -> Random:
        """A stream of its own for each purpose."""
        return Random(f"{seed}/{name}")

    # --- time -----------------------------------------------------------------------------

    def run(self, duration_ms: int) -> None:
        until_us = self.scheduler.now_us + duration_ms * MS
        if not self.scheduler.run(until_us, self.steps_max):
            raise StepLimit(f"seed {self.seed}: more than {self.steps_max} steps")

    def run_until(
        self,
        condition: Callable[[], bool],
        bound_ms: int,
        what: str | Callable[[], str] = "",
        *,
        every_ms: int = 10,
    ) -> None:
        """Raises NotReached when it is not so within `bound_ms` of simulated time."""
        end_us = self.scheduler.now_us + bound_ms * MS
        while not condition():
            if self.scheduler.now_us >= end_us:
                missing = what if isinstance(what, str) else what()
                raise NotReached(f"seed {self.seed}: not within {bound_ms} ms: {missing}")
            self.run(every_ms)

    # --- operations -----------------------------------------------------------------------

    def start_all(self) -> None:
        for id in self.processes:
            self.start(id)

    def start(self, id: int) -> None:
        process = self.processes[id]
        if process.is_alive:
            return
        self._incarnations += 1
        incarnation = self._incarnations
        self.note(f"start {id} incarnation {incarnation} {process.restart}")
        world = SimWorld(
            id,
            incarnation,
            scheduler=self.scheduler,
            disk=process.disk,
            network=self.network,
            connections=self.connections,
            random=self.random(f"world {id} {incarnation}"),
            post=process.post,
            tell=lambda trace: self._traced(process, trace),
        )
        world.sync_us = process.sync_us or self.sync_us
        world.wall_skew_ms = process.wall_skew_ms
        birth = Birth(
            id,
            incarnation,
            process.disk,
            self.random(f"core {id} {incarnation}"),
            process.restart,
            self.settings,
            len(self.broker_ids),
            _endpoint(id, incarnation),
        )
        process.begin(incarnation, world, self.make[id](birth))
        for hook in self.starting_hooks:
            hook(process)
        process.first_turn()
        self.announce()
        self.network.opened(id)

    def kill(self, id: int) -> None:
        """SIGKILL: what was handed to write(2) stays."""
        process = self.processes[id]
        if process.is_alive:
            self.note(f"kill {id}")
            self._ended(process, KILLED)

    def kill_at(self, id: int, operations: int) -> None:
        """SIGKILL in the middle of a turn: before the n-th disk operation, send or reply from
        now on."""
        world = self.processes[id].world
        if world is not None and self.processes[id].is_alive:
            world.kill_at = world.operations + operations

    def lose_power(self, id: int) -> None:
        """The process ends and unsynced bytes of its disk are lost: its boot id is a new one."""
        process = self.processes[id]
        self.note(f"lose power {id}")
        if process.is_alive:
            self._ended(process, KILLED)
        process.disk.lose_power(self.random(f"power {id} {self.scheduler.now_us}"))
        process.restart = "lossy"

    def pause(self, id: int) -> None:
        self.note(f"pause {id}")
        self.processes[id].pause()
        self.announce()

    def resume(self, id: int) -> None:
        self.note(f"resume {id}")
        self.processes[id].resume()
        self.announce()

    def slow_disk(self, id: int, sync_us: tuple[int, int] | None) -> None:
        """How long an fsync takes there; None: as long as on all disks."""
        process = self.processes[id]
        if sync_us != process.sync_us:
            self.note(f"disk of {id}: fsync {sync_us or self.sync_us} us")
        process.sync_us = sync_us
        if process.world is not None:
            process.world.sync_us = sync_us or self.sync_us

    def set_clock(self, id: int, skew_ms: int) -> None:
        """Its wall clock, relative to the true one. The monotonic one cannot be set."""
        process = self.processes[id]
        if skew_ms != process.wall_skew_ms:
            self.note(f"clock of {id}: {skew_ms} ms")
        process.wall_skew_ms = skew_ms
        if process.world is not None:
            process.world.wall_skew_ms = skew_ms

    def stop(self, id: int, *, controlled: bool = True) -> None:
        self.note(f"stop {id}")
        self._supervise(id, bus.Stop(controlled))

    def freeze(self) -> None:
        """The cluster is going down: what `down` says first."""
        self.note("freeze")
        for id in self.processes:
            self._supervise(id, bus.Freeze())

    def cut(self, source: int, target: int) -> None:
        self.note(f"cut {source} -> {target}")
        self.network.cuts.add((source, target))

    def isolate(self, id: int) -> None:
        """Cut off from all other processes, both ways."""
        for other in self.processes:
            if other != id:
                self.cut(id, other)
                self.cut(other, id)

    def heal(self) -> None:
        """The network is whole again and its weather fine."""
        self.note("heal")
        self.network.cuts.clear()
        self.network.weather = type(self.network.weather)()

    def note(self, line: str) -> None:
        self.journal.append(f"{self.now_ms:>7} {line}")

    def digest(self) -> str:
        return hashlib.sha256("\n".join(self.journal).encode()).hexdigest()

    # --- the supervisor -------------------------------------------------------------------

    def announce(self) -> None:
        states = [
            bus.ProcessState(
                process.id,
                process.incarnation,
                _endpoint(process.id, process.incarnation),
                1000 + process.incarnation,
                process.state if process.state != PAUSED else "paused",
            )
            for process in self.processes.values()
            if process.incarnation
        ]
        for id in self.processes:
            self._supervise(id, bus.Announce(states))

    def _supervise(self, target: int, message: bus.Message) -> None:
        """To a process: late, but in order and not lost while it lives."""
        process = self.processes[target]
        if not process.is_alive:
            return
        envelope = bus.Envelope(
            SUPERVISOR, SUPERVISOR_INCARNATION, target, process.incarnation, message
        )
        frames = Frames(bus.encode(envelope), ())
        arrival = self.scheduler.now_us + draw(self._random_supervisor, self.supervisor_us)
        arrival = max(arrival, self._supervisor_last_us.get(target, 0))
        self._supervisor_last_us[target] = arrival
        self.scheduler.at(arrival, lambda: process.post(frames))

    def _ended(self, process: Process, reason: str) -> None:
        id, incarnation = process.id, process.incarnation
        state = STOPPED if reason == STOPPED else FAILED if reason.startswith(FAILED) else KILLED
        self.note(f"ended {id} incarnation {incarnation}: {reason}")
        restart = "clean" if reason == STOPPED else "crash"
        if process.restart == "lossy" and (id, incarnation) not in self.ready:
            # Nobody has heard yet that its logs lost their end: the next one must still say so.
            restart = "lossy"
        for hook in self.ending_hooks:
            hook(process, reason)
        process.end(state, restart)
        self.compactors.reap(id)
        self.connections.ended(id, incarnation)
        for hook in self.ended_hooks:
            hook(process, reason)
        self.announce()
        for other in self.processes:
            self._supervise(other, bus.Died(id, incarnation))

    def _arrive(self, target: int, frames: Frames) -> bool:
        """The network hands over what has come to an address."""
        if target == SUPERVISOR:
            self._told(bus.decode(frames.envelope))
            return True
        process = self.processes[target]
        process.post(frames)
        return process.is_alive

    def _told(self, envelope: bus.Envelope) -> None:
        if isinstance(envelope.message, bus.Ready):
            process = self.processes[envelope.source]
            self.ready.add((envelope.source, envelope.source_epoch))
            if process.incarnation == envelope.source_epoch and process.state == STARTING:
                process.state = RUNNING
                self.announce()
        elif isinstance(envelope.message, bus.StartCompaction):
            process = self.processes[envelope.source]
            if process.incarnation == envelope.source_epoch and process.is_alive:
                self.compactors.start(process, envelope.message.number)
        elif isinstance(envelope.message, bus.Failed):
            self.note(f"failed {envelope.source}: {envelope.message.reason}")

    # --- watching -------------------------------------------------------------------------

    def _turned(self, process: Process, events: list[Event]) -> None:
        for watcher in self.watchers:
            watcher(process, events)
        self.connections.turn_is_over()

    def _traced(self, process: Process, trace: Any) -> None:
        self.note(f"{process.id} {trace}")
        for listener in self.listeners:
            listener(process, trace)

    def alive(self) -> Iterable[Process]:
        return (process for process in self.processes.values() if process.is_alive)


@dataclass(slots=True)
class _Connection:
    id: int
    process: Process
    incarnation: int
    client: ClientEnd
    to_broker_us: int = 0
    """When the last request arrives there; what comes later is not read before."""
    to_client_us: int = 0
    is_open: bool = True
    is_broken: bool = False
    """What is on its way to the client is lost."""


class Connections:
    """Client connections to all brokers: ordered both ways, gone with the incarnation."""

    def __init__(self, cluster: SimCluster) -> None:
        self._cluster = cluster
        self._open: dict[int, _Connection] = {}
        self._next = 1
        self._random = cluster.random("connections")
        self._left: list[tuple[ClientEnd, int, bytes]] = []

    def connect(self, id: int, client: ClientEnd) -> int | None:
        """None when it is refused: nobody listens there."""
        process = self._cluster.processes.get(id)
        if process is None or not process.is_alive:
            return None
        number = self._next
        self._next += 1
        self._open[number] = _Connection(number, process, process.incarnation, client)
        return number

    def request(self, connection: int, frame: bytes) -> None:
        link = self._open.get(connection)
        if link is None or not link.is_open:
            return
        arrival = self._cluster.scheduler.now_us + draw(self._random, CLIENT_DELAY_US)
        link.to_broker_us = arrival = max(arrival, link.to_broker_us)

        def arrive() -> None:
            if link.is_open and link.process.incarnation == link.incarnation:
                link.process.post(FromClient(connection, frame))

        self._cluster.scheduler.at(arrival, arrive)

    def hang_up(self, connection: int) -> None:
        """By the client."""
        link = self._open.pop(connection, None)
        if link is not None and link.is_open:
            link.is_open = False
            if link.process.incarnation == link.incarnation:
                link.process.post(Disconnected(connection))

    def break_some(self, id: int, random: Random) -> None:
        """Some connections of a broker end for both sides: what is on its way is lost."""
        for link in list(self._open.values()):
            if link.process.id == id and link.is_open and random.random() < 0.5:
                if link.process.incarnation == link.incarnation:
                    link.process.post(Disconnected(link.id))
                link.is_broken = True
                self.close(link.id)

    def turn_is_over(self) -> None:
        left, self._left = self._left, []
        for client, connection, frame in left:
            client.sees_leaving(connection, frame)

    def reply(self, connection: int, frame: bytes) -> None:
        link = self._open.get(connection)
        if link is None or not link.is_open:
            return
        self._left.append((link.client, connection, frame))

        def arrive() -> None:
            if not link.is_broken:
                link.client.replied(connection, frame)

        self._later(link, arrive)

    def mute(self, connection: int, ms: int) -> None:
        link = self._open.get(connection)
        if link is not None:
            until_us = self._cluster.scheduler.now_us + ms * MS
            link.to_broker_us = max(link.to_broker_us, until_us)

    def close(self, connection: int) -> None:
        link = self._open.pop(connection, None)
        if link is not None and link.is_open:
            link.is_open = False
            self._later(link, lambda: link.client.closed(connection))

    def ended(self, id: int, incarnation: int) -> None:
        for link in list(self._open.values()):
            if link.process.id == id and link.incarnation == incarnation:
                self.close(link.id)

    def _later(self, link: _Connection, action: Callable[[], None]) -> None:
        arrival = self._cluster.scheduler.now_us + draw(self._random, CLIENT_DELAY_US)
        link.to_client_us = arrival = max(arrival, link.to_client_us)
        self._cluster.scheduler.at(arrival, action)


def _endpoint(id: int, incarnation: int) -> str:
    return f"sim://{id}/{incarnation}"
