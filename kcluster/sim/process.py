"""One server process of a simulated cluster: an address, a disk, and an incarnation at a time.

    stopped --start--> running <--pause, resume--> paused        kill: from both to stopped

Everything that arrives waits in the inbox until the next wake-up, which takes all of it in one
turn, as the real loop does. A paused process keeps its inbox; when it goes on after a gap longer
than a session timeout it is told of that first (`StoodStill`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import msgspec

from kcluster.core.turn import Core, DiskOperation, Event, StoodStill, Timer, Turn, run_turn
from kcluster.errors import DiskError
from kcluster.sim.disk import SimDisk
from kcluster.sim.network import Frames
from kcluster.sim.scheduler import MS, Scheduler, draw
from kcluster.sim.world import WALL_START_MS, Killed, SimWorld

WAKE_UP_US = (10, 200)
"""From the first arrival to the turn that takes it."""

STARTING = "starting"
RUNNING = "running"
PAUSED = "paused"
STOPPED = "stopped"
KILLED = "killed"
FAILED = "failed"


class FromClient(msgspec.Struct, frozen=True, gc=False):
    """A request frame in the inbox: made a `Request` when its turn comes."""

    connection: int
    frame: bytes


Arrival = Event | Frames | FromClient

Asked = tuple[int, int]
"""A request: (connection, correlation id)."""


def asked(connection: int, request: bytes) -> Asked:
    """Of a frame without its length prefix."""
    return connection, int.from_bytes(request[4:8], "big")


class _First:
    """A core with `begin` in place of `handle`, where it has one."""

    def __init__(self, core: Core) -> None:
        self.core = core

    def handle(self, event: Event, turn: Turn) -> None:
        begin = getattr(self.core, "begin", None)
        if begin is not None:
            begin(turn)

    def settle(self, turn: Turn) -> None:
        self.core.settle(turn)

    def disk_failed(self, turn: Turn, operation: DiskOperation, errno: int) -> None:
        self.core.disk_failed(turn, operation, errno)


@dataclass(slots=True)
class Process:
    id: int
    scheduler: Scheduler
    disk: SimDisk
    watch: Callable[[Process, list[Event]], None]
    """Called after every turn, with what it took."""
    ended: Callable[[Process, str], None]
    """Called when it has died of itself, with the reason."""
    session_timeout_ms: int
    state: str = STOPPED
    incarnation: int = 0
    restart: str = "clean"
    """How the logs survived the last end: clean, crash or lossy."""
    core: Core | None = None
    world: SimWorld | None = None
    sync_us: tuple[int, int] | None = None
    """How long its disk takes for an fsync, when not what all disks take."""
    wall_skew_ms: int = 0
    was_damaged: bool = False
    """Some of its files were, while it was down."""
    inbox: list[Arrival] = field(default_factory=list)
    turns: int = 0
    died_in_turn: bool = False
    """Killed in the middle of its last turn: what it holds was never settled."""
    asked_since_gap: set[Asked] = field(default_factory=set)
    """What it has taken since it last went on after a gap longer than a session."""
    _turn: Turn = field(default_factory=Turn)
    _is_armed: bool = False
    _is_first: bool = True
    _paused_us: int = 0

    @property
    def wall_ms(self) -> int:
        """What its wall clock says."""
        return WALL_START_MS + self.scheduler.now_ms + self.wall_skew_ms

    @property
    def is_alive(self) -> bool:
        return self.state in (STARTING, RUNNING, PAUSED)

    def begin(self, incarnation: int, world: SimWorld, core: Core) -> None:
        assert not self.is_alive, f"process {self.id} runs already"
        self.incarnation = incarnation
        self.world = world
        self.core = core
        self.state = STARTING
        self.asked_since_gap.clear()
        self.inbox.clear()
        self._turn = Turn()
        self._is_armed = False
        self._is_first = True
        self.died_in_turn = False

    def first_turn(self) -> None:
        """Without events: a core loads what its disk has."""
        incarnation = self.incarnation
        self._is_armed = True
        self.scheduler.after(1, lambda: self._wake_up(incarnation))

    def post(self, arrival: Arrival) -> None:
        """It has arrived at the process; its next turn takes it."""
        if not self.is_alive:
            return
        self.inbox.append(arrival)
        self._arm()

    def _arm(self) -> None:
        if self._is_armed or self.state == PAUSED or not self.inbox:
            return
        assert self.world is not None
        self._is_armed = True
        incarnation = self.incarnation
        delay_us = draw(self.world.random, WAKE_UP_US)
        self.scheduler.after(delay_us, lambda: self._wake_up(incarnation))

    def _wake_up(self, incarnation: int) -> None:
        if incarnation != self.incarnation or not self.is_alive:
            return
        self._is_armed = False
        if self.state == PAUSED:
            return
        arrivals, self.inbox = self.inbox, []
        events: list[Event] = []
        for arrival in arrivals:
            event = self._event(arrival)
            if event is not None:
                events.append(event)
        if self._is_first:
            # A turn of its own before everything else: a core opens its logs and speaks first.
            self._is_first = False
            self.run([])
        if events and self.is_alive:
            self.run(events)

    def _event(self, arrival: Arrival) -> Event | None:
        assert self.world is not None
        if isinstance(arrival, Frames):
            return self.world.receive(arrival)
        if isinstance(arrival, FromClient):
            self.asked_since_gap.add(asked(arrival.connection, arrival.frame))
            return self.world.request(arrival.connection, arrival.frame)
        return arrival

    def run(self, events: list[Event]) -> None:
        """One turn. A core that gives up (`DiskError`) takes its process along, as the driver of
        a real one would; any other exception is a bug and goes up."""
        assert self.core is not None and self.world is not None
        self.turns += 1
        try:
            if events:
                run_turn(self.core, events, self._turn, self.world)
            else:
                run_turn(_First(self.core), [Timer()], self._turn, self.world)
        except Killed:
            self.died_in_turn = True
            self.watch(self, events)
            self.ended(self, KILLED)
            return
        except DiskError as error:
            self.world.trace(self._turn.traces)
            self.ended(self, f"{FAILED}: {error}")
            return
        self.watch(self, events)
        if getattr(self.core, "has_stopped", False):
            self.ended(self, STOPPED)

    def pause(self) -> None:
        if self.state in (STARTING, RUNNING):
            self.state = PAUSED
            self._paused_us = self.scheduler.now_us

    def resume(self) -> None:
        if self.state != PAUSED:
            return
        self.state = RUNNING
        gap_ms = (self.scheduler.now_us - self._paused_us) // MS
        if gap_ms > self.session_timeout_ms:
            self.inbox.insert(0, StoodStill(gap_ms))
            self.asked_since_gap.clear()
        self._arm()

    def end(self, state: str, restart: str) -> None:
        """It is gone, with all it had under way. `restart` is what its successor is told."""
        if self.world is not None:
            self.world.is_alive = False
        self.state = state
        self.restart = restart
        self.core = None
        self.inbox.clear()

    @property
    def failed_appends(self) -> list[Any]:
        """Owners of appends of this incarnation that ended in an error."""
        return self.world.failed_appends if self.world is not None else []

    def see(self, name: str) -> Any:
        """An attribute of the core, for whoever watches; None when it does not run."""
        return getattr(self.core, name, None) if self.core is not None else None
