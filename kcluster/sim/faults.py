"""Faults drawn from a seed: what breaks, when, and for how long, within the fault contract.

    fault phase       every so often something of `KINDS`, undone after a while
    heal              all undone, weather fine, everybody started

Contract C2: unsynced bytes may be lost on at most min ISR - 1 replicas at once. One broker of a
seed, the victim, is the only one whose power fails; with flush.messages=1 anyone's does. The
coordinator syncs what it promises, so its power may always fail.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Container
from dataclasses import dataclass
from random import Random

from kcluster.model import COORDINATOR
from kcluster.sim.cluster import SimCluster
from kcluster.sim.network import Weather
from kcluster.sim.scheduler import MS

KINDS = (
    "kill", "kill", "kill in turn", "kill in turn", "pause", "pause", "cut", "cut", "isolate",
    "weather", "weather", "power", "coordinator", "stop", "full disk", "torn write",
)  # fmt: skip


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
        kinds: tuple[str, ...] = KINDS,
        pause_ms: tuple[int, int] | None = None,
        anyone_loses_power: bool = False,
        skipped: Container[int] = (),
    ) -> None:
        """`skipped`: numbers of strikes that are drawn and not carried out."""
        self.cluster = cluster
        self.kinds = kinds
        self.anyone_loses_power = anyone_loses_power
        self.random = cluster.random("faults")
        self.pause_ms = pause_ms or self.random.choice([(100, 1500), (100, 1500), (10, 300)])
        self.victim = self.random.choice(cluster.broker_ids)
        self.skipped = skipped
        self.strikes: list[Strike] = []
        """Those carried out, so far."""
        self._drawn = 0
        self.stopping: set[int] = set()
        self.sick: set[int] = set()
        """Brokers that may have taken a log offline: only a restart brings it back."""
        self.is_over = False

    def begin(self) -> None:
        self._later(self.random.randint(*self.pause_ms), self._next)

    def _later(self, delay_ms: int, action: Callable[[], None]) -> None:
        def act() -> None:
            if not self.is_over:
                action()

        self.cluster.scheduler.after(delay_ms * MS, act)

    def _next(self) -> None:
        number = self._drawn
        self._drawn += 1
        strike = Strike(number, self.cluster.now_ms, self.random.choice(self.kinds))
        if number not in self.skipped:
            self.strikes.append(strike)
            self._strike(strike.kind, self.cluster.random(f"strike {number}"))
        self._later(self.random.randint(*self.pause_ms), self._next)

    def _strike(self, kind: str, random: Random) -> None:
        cluster = self.cluster
        id = random.choice(cluster.broker_ids)
        back_ms = random.choice([random.randint(10, 500), random.randint(100, 5000)])
        match kind:
            case "kill":
                cluster.kill(id)
                self._later(back_ms, lambda: cluster.start(id))
            case "kill in turn":
                id = random.choice([id, COORDINATOR])
                cluster.kill_at(id, random.randint(1, 12))
                self._later(back_ms, lambda: cluster.start(id))
            case "coordinator":
                lose = random.random() < 0.4
                (cluster.lose_power if lose else cluster.kill)(COORDINATOR)
                self._later(back_ms, lambda: cluster.start(COORDINATOR))
            case "kill compactor":
                for id in cluster.broker_ids:
                    cluster.compactors.kill(id)
            case "pause":
                id = random.choice([id, id, COORDINATOR])
                cluster.pause(id)
                self._later(back_ms, lambda: cluster.resume(id))
            case "cut":
                source, target = random.sample([COORDINATOR, *cluster.broker_ids], 2)
                cluster.cut(source, target)
                self._later(back_ms, lambda: cluster.network.cuts.discard((source, target)))
            case "isolate":
                cluster.isolate(id)
                self._later(back_ms, cluster.heal)
            case "weather":
                cluster.note("weather")
                cluster.network.weather = Weather(
                    delay_us=random.choice([(100, 300), (500, 20_000)]),
                    drop=random.choice([0.0, 0.02, 0.2]),
                    duplicate=random.choice([0.0, 0.1]),
                    reorder=random.choice([0.0, 0.1]),
                    slow=random.choice([0.0, 0.02]),
                )
            case "power":
                dark = [id if self.anyone_loses_power else self.victim]
                if self.anyone_loses_power and random.random() < 0.5:
                    # The whole machine, as with flush.messages=1 it may.
                    dark = [COORDINATOR, *cluster.broker_ids]
                for id in dark:
                    cluster.lose_power(id)
                    self._later(back_ms, lambda dead=id: cluster.start(dead))  # type: ignore[misc]
            case "stop":
                cluster.stop(id)
                self.stopping.add(id)
                self._later(back_ms + 2000, lambda: self._stopped(id))
            case "torn write":
                disk = cluster.processes[id].disk
                logs = sorted(path for path in disk.files if path.endswith(".log"))
                if not logs:
                    return
                path = random.choice(logs)
                cluster.note(f"torn write {id} {path}")
                self.sick.add(id)
                disk.short_next[path] = random.choice([0, 10, 70]), errno.EIO

                def replaced() -> None:
                    disk.short_next.clear()
                    cluster.kill(id)
                    cluster.start(id)

                self._later(back_ms + 500, replaced)
            case "corrupt":
                # C3: done while the broker is down, and always to the same one.
                id = self.victim
                cluster.kill(id)
                self._damage(id, random)
                self._later(back_ms, lambda: cluster.start(id))
            case "full disk":
                disk = cluster.processes[id].disk
                cluster.note(f"full disk {id}")
                disk.capacity_bytes = disk.used_bytes() + random.randint(0, 400)

                def emptied() -> None:
                    disk.capacity_bytes = -1
                    cluster.kill(id)
                    cluster.start(id)

                self._later(back_ms, emptied)

    def _stopped(self, id: int) -> None:
        """Whoever did not stop in time is killed, as the supervisor does."""
        self.stopping.discard(id)
        self.cluster.kill(id)
        self.cluster.start(id)

    def _damage(self, id: int, random: Random) -> None:
        """Flip a bit of a file below a partition's directory, or cut the file."""
        disk = self.cluster.processes[id].disk
        paths = sorted(path for path in disk.files if "/" in path and disk.size(path) > 0)
        if not paths:
            return
        path = random.choice(paths)
        file = disk.files[path]
        at = random.randrange(len(file.data))
        if random.random() < 0.5:
            file.data[at] ^= 1 << random.randrange(8)
        else:
            del file.data[at:]
        file.stable = min(file.stable, at)
        self.cluster.note(f"corrupt {id} {path} at {at}")

    def heal(self) -> None:
        cluster = self.cluster
        self.is_over = True
        cluster.heal()
        for id in sorted(self.stopping):
            cluster.kill(id)
        for id, process in cluster.processes.items():
            if process.disk.capacity_bytes >= 0 or id in self.sick:
                process.disk.capacity_bytes = -1
                process.disk.short_next.clear()
                cluster.kill(id)
            if process.world is not None:
                process.world.kill_at = -1
            cluster.resume(id)
            cluster.start(id)
