"""Faults drawn from a seed: what breaks, when, and for how long, within the fault contract.

    fault phase       every so often a strike of one of the seed's kinds, undone after a while
    heal              all undone, weather fine, everybody started

Contract C2, C3: bytes may be lost on at most min ISR - 1 replicas. The victims of a seed are the
only brokers whose power fails or whose files are damaged; with flush.messages=1 anyone's power
does. The coordinator syncs what it promises, so its power may always fail.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Sequence
from dataclasses import dataclass
from random import Random
from typing import Final

from kcluster.model import COORDINATOR
from kcluster.sim import disk_faults
from kcluster.sim.cluster import SimCluster
from kcluster.sim.disk_faults import ON_DISKS
from kcluster.sim.network import Weather
from kcluster.sim.role_faults import ON_ROLES, RoleFaults
from kcluster.sim.scheduler import MS

KILL_COMPACTOR: Final = "kill compactor"

KINDS: Final = {
    "kill": "SIGKILL to a broker",
    "kill in turn": "SIGKILL between two operations of a turn",
    "kill pair": "SIGKILL to two processes at once",
    "coordinator": "SIGKILL to the coordinator, or its power fails",
    KILL_COMPACTOR: "SIGKILL to all compactors",
    "pause": "SIGSTOP, later SIGCONT",
    "stop": "a controlled shutdown of a broker",
    "cut": "nothing from one process reaches another; the way back is open",
    "isolate": "a broker is cut off both ways",
    "split": "two sides that do not reach each other",
    "weather": "messages are late, lost, duplicated, overtaken",
    "hang up": "connections of clients end: requests are lost, or their answers",
    "clock jump": "the wall clock of a process goes forward or back",
    **ON_DISKS,
    **ON_ROLES,
}
"""Every kind of fault there is, and what it does."""

CLOCK_JUMP_MAX_MS: Final = 25 * 60_000
"""From true time. Two clocks are then never an hour apart, which is what a broker lets the
timestamps of records be ahead of its own (`message.timestamp.after.max.ms`)."""


@dataclass(frozen=True, slots=True)
class Strike:
    """One fault of a seed's schedule. What it draws comes from a stream of its own, so that the
    others stay as they are when it is left out."""

    number: int
    """From 0, in the order of time."""
    at_ms: int
    kind: str


class Faults:
    def __init__(
        self,
        cluster: SimCluster,
        *,
        kinds: Sequence[str] = tuple(KINDS),
        pause_ms: tuple[int, int] | None = None,
        victims: int = 1,
        anyone_loses_power: bool = False,
        skipped: Container[int] = (),
    ) -> None:
        """`kinds`: each as often as it weighs. `skipped`: numbers of strikes that are drawn and
        not carried out. The weather that the network has now is what it has between faults."""
        self.cluster = cluster
        self.kinds = tuple(kinds)
        self.anyone_loses_power = anyone_loses_power
        self.random = cluster.random("faults")
        self.pause_ms = pause_ms or self.random.choice([(100, 1500), (100, 1500), (10, 300)])
        self.victims = sorted(self.random.sample(cluster.broker_ids, victims))
        self.skipped = skipped
        self.strikes: list[Strike] = []
        """Those carried out, so far."""
        self._drawn = 0
        self._weather = cluster.network.weather
        self._stopping: set[int] = set()
        self._sick: dict[int, Callable[[], None]] = {}
        """By process, what makes its disk well: it has to be started again."""
        self.is_over = False
        self._roles = RoleFaults(cluster, self._later)
        self._strikes: dict[str, Callable[[Random, int, int], None]] = {
            "kill": self._kill,
            "kill in turn": self._kill_in_turn,
            "kill pair": self._kill_pair,
            "coordinator": self._coordinator,
            KILL_COMPACTOR: self._kill_compactors,
            "pause": self._pause,
            "stop": self._stop,
            "cut": self._cut,
            "isolate": self._isolate,
            "split": self._split,
            "weather": self._change_weather,
            "hang up": self._hang_up,
            "clock jump": self._jump_clock,
        }

    def begin(self) -> None:
        self._later(self.random.randint(*self.pause_ms), self._next)

    def _later(self, delay_ms: int, action: Callable[[], None]) -> None:
        def act() -> None:
            if not self.is_over:
                action()

        self.cluster.scheduler.after(delay_ms * MS, act)

    def _next(self) -> None:
        strike = Strike(self._drawn, self.cluster.now_ms, self.random.choice(self.kinds))
        self._drawn += 1
        if strike.number not in self.skipped:
            self.strikes.append(strike)
            self.cluster.note(f"strike {strike.number}: {strike.kind}")
            self._strike(strike)
        self._later(self.random.randint(*self.pause_ms), self._next)

    def _strike(self, strike: Strike) -> None:
        random = self.cluster.random(f"strike {strike.number}")
        id = random.choice(self.cluster.broker_ids)
        back_ms = random.choice([random.randint(10, 500), random.randint(100, 5000)])
        if strike.kind in ON_DISKS:
            self._on_disk(random, id, back_ms, strike.kind)
        elif strike.kind in ON_ROLES:
            self._roles.strike(strike.kind, random, id, back_ms)
        else:
            self._strikes[strike.kind](random, id, back_ms)

    def _any(self, random: Random, id: int) -> int:
        """A broker, or now and then the coordinator."""
        return random.choice([id, id, COORDINATOR])

    # --- processes ------------------------------------------------------------------------

    def _start_later(self, back_ms: int, id: int) -> None:
        self._later(back_ms, lambda: self.cluster.start(id))

    def _kill(self, random: Random, id: int, back_ms: int) -> None:
        self.cluster.kill(id)
        self._start_later(back_ms, id)

    def _kill_in_turn(self, random: Random, id: int, back_ms: int) -> None:
        id = random.choice([id, COORDINATOR])
        self.cluster.kill_at(id, random.randint(1, 12))
        self._start_later(back_ms, id)

    def _kill_pair(self, random: Random, id: int, back_ms: int) -> None:
        for each in random.sample([COORDINATOR, *self.cluster.broker_ids], 2):
            self.cluster.kill(each)
            self._start_later(random.randint(1, back_ms), each)

    def _coordinator(self, random: Random, id: int, back_ms: int) -> None:
        lose = random.random() < 0.4
        (self.cluster.lose_power if lose else self.cluster.kill)(COORDINATOR)
        self._start_later(back_ms, COORDINATOR)

    def _kill_compactors(self, random: Random, id: int, back_ms: int) -> None:
        for each in self.cluster.broker_ids:
            self.cluster.compactors.kill(each)

    def _pause(self, random: Random, id: int, back_ms: int) -> None:
        id = self._any(random, id)
        self.cluster.pause(id)
        self._later(back_ms, lambda: self.cluster.resume(id))

    def _stop(self, random: Random, id: int, back_ms: int) -> None:
        self.cluster.stop(id)
        self._stopping.add(id)
        self._later(back_ms + 2000, lambda: self._stopped(id))

    def _stopped(self, id: int) -> None:
        """Whoever did not stop in time is killed, as the supervisor does."""
        self._stopping.discard(id)
        self.cluster.kill(id)
        self.cluster.start(id)

    # --- the network ----------------------------------------------------------------------

    def _cut_for(self, links: Sequence[tuple[int, int]], back_ms: int) -> None:
        for source, target in links:
            self.cluster.cut(source, target)

        def mend() -> None:
            self.cluster.note(f"mend {len(links)} links")
            self.cluster.network.cuts.difference_update(links)

        self._later(back_ms, mend)

    def _cut(self, random: Random, id: int, back_ms: int) -> None:
        source, target = random.sample([COORDINATOR, *self.cluster.broker_ids], 2)
        self._cut_for([(source, target)], back_ms)

    def _isolate(self, random: Random, id: int, back_ms: int) -> None:
        others = [each for each in self.cluster.processes if each != id]
        self._cut_between([id], others, back_ms)

    def _split(self, random: Random, id: int, back_ms: int) -> None:
        everybody = list(self.cluster.processes)
        side = random.sample(everybody, random.randint(2, len(everybody) - 2))
        self._cut_between(side, [each for each in everybody if each not in side], back_ms)

    def _cut_between(self, one: Sequence[int], other: Sequence[int], back_ms: int) -> None:
        pairs = [(source, target) for source in one for target in other]
        self._cut_for([*pairs, *((target, source) for source, target in pairs)], back_ms)

    def _change_weather(self, random: Random, id: int, back_ms: int) -> None:
        network = self.cluster.network
        network.weather = Weather(
            delay_us=random.choice([(100, 300), (500, 20_000)]),
            drop=random.choice([0.0, 0.02, 0.2]),
            duplicate=random.choice([0.0, 0.1]),
            reorder=random.choice([0.0, 0.1]),
            slow=random.choice([0.0, 0.02]),
        )
        if random.random() < 0.5:
            self._later(back_ms, lambda: setattr(network, "weather", self._weather))

    def _hang_up(self, random: Random, id: int, back_ms: int) -> None:
        self.cluster.connections.break_some(id, random)

    def _jump_clock(self, random: Random, id: int, back_ms: int) -> None:
        far = random.randint(-CLOCK_JUMP_MAX_MS, CLOCK_JUMP_MAX_MS)
        self.cluster.set_clock(self._any(random, id), random.choice([0, far, far // 1000]))

    # --- disks ----------------------------------------------------------------------------

    def _on_disk(self, random: Random, id: int, back_ms: int, kind: str) -> None:
        cluster = self.cluster
        undo: Callable[[], None] | None = None
        match kind:
            case disk_faults.POWER:
                self._lose_power(random, id, back_ms)
            case disk_faults.CORRUPT:
                id = random.choice(self.victims)
                cluster.kill(id)
                disk_faults.corrupt(cluster, id, random)
                self._start_later(back_ms, id)
            case "full disk":
                undo = disk_faults.fill(cluster, id, random)
            case "torn write":
                undo = disk_faults.tear(cluster, id, random)
            case "failed fsync":
                id = self._any(random, id)
                undo = disk_faults.fail(cluster, id, "sync")
            case "failed roll":
                undo = disk_faults.fail(cluster, id, "roll")
            case "failed operation":
                id = self._any(random, id)
                undo = disk_faults.fail(cluster, id, random.choice(disk_faults.OPERATIONS))
            case _:
                id = self._any(random, id)
                cluster.slow_disk(id, disk_faults.SLOW_SYNC_US)
                self._later(back_ms, lambda: cluster.slow_disk(id, None))
        if undo is not None:
            self._sick[id] = undo
            self._later(back_ms + 500, lambda: self._well(id))

    def _well(self, id: int) -> None:
        undo = self._sick.pop(id, None)
        if undo is not None:
            undo()

    def _lose_power(self, random: Random, id: int, back_ms: int) -> None:
        dark = [id if self.anyone_loses_power else random.choice(self.victims)]
        if self.anyone_loses_power and random.random() < 0.5:
            # The whole machine, as with flush.messages=1 it may.
            dark = [COORDINATOR, *self.cluster.broker_ids]
        for each in dark:
            self.cluster.lose_power(each)
            self._start_later(back_ms, each)

    # --- the end --------------------------------------------------------------------------

    def heal(self) -> None:
        cluster = self.cluster
        self.is_over = True
        cluster.heal()
        cluster.network.losses.clear()
        for id in sorted(self._stopping):
            cluster.kill(id)
        for id in sorted(self._sick):
            self._well(id)
        for id, process in cluster.processes.items():
            if process.world is not None:
                process.world.kill_at = -1
            process.disk.mend()
            cluster.slow_disk(id, None)
            cluster.set_clock(id, 0)
            cluster.resume(id)
            cluster.start(id)
