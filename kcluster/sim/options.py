"""What a seed has: swarm testing's draw of a cluster, its load, and the faults that exist in it.

Each seed leaves much out, so that what remains meets often: one seed has a single kind of fault,
another nearly all. Every part is drawn from a stream of its own. Faults stay within the fault
contract: what loses acknowledged bytes (power loss, corruption) strikes at most min ISR - 1
brokers, the victims; with flush.messages=1 anybody may lose power.

Source: Groce et al., "Swarm Testing" (ISSTA 2012).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from random import Random
from typing import Final

from kcluster.config import RACK_AWARE_SELECTOR
from kcluster.sim.cluster import SimCluster
from kcluster.sim.cores import SELECTOR
from kcluster.sim.disk_faults import CORRUPT, POWER
from kcluster.sim.faults import KILL_COMPACTOR, KINDS
from kcluster.sim.group_clients import GROUP_SETTINGS
from kcluster.sim.network import Weather
from kcluster.sim.role_faults import ON_ROLES

SETTINGS: Final = {
    "min.insync.replicas": "2",
    "replica.lag.time.max.ms": "2000",
    "broker.session.timeout.ms": "1500",
    "broker.heartbeat.interval.ms": "500",
    "leader.imbalance.check.interval.seconds": "3",
    "replica.high.watermark.checkpoint.interval.ms": "1000",
    "log.flush.offset.checkpoint.interval.ms": "2000",
    "log.retention.check.interval.ms": "300",
    "offsets.topic.num.partitions": "4",
    **GROUP_SETTINGS,
}

CHANGES: Final = {
    "topic": "a judged topic comes, is read to its end, is deleted, and comes back",
    "partitions": "a partition is added",
    "config": "min.insync.replicas, segment.ms, retention and cleanup.policy change",
    "records": "DeleteRecords",
    "churn": "a topic comes and goes whatever is going on in it",
    "reassign": "partitions move to other replicas, or that is cancelled",
}
"""What may be administered while faults happen."""

QUOTAS: Final = "quotas"
"""Quotas of clients and of their user come and go; a change as well, drawn for itself."""

QUOTA_SEEDS: Final = 0.15
RACK_SEEDS: Final = 0.2
"""Brokers stand in racks, and consumers read from followers in theirs."""
COMPACTED_SEEDS: Final = 0.3
RETENTION_SEEDS: Final = 0.2
KEEPS_TOMBSTONES_MS: Final = 10_000_000
SHORT_PAUSES_MS: Final = (10, 300)


@dataclass(frozen=True, slots=True)
class Options:
    brokers: int
    partitions: int
    min_isr: int
    """The lowest that min.insync.replicas ever is."""
    flushes: bool
    """flush.messages=1."""
    faults: dict[str, int]
    """Weight by kind; kinds that do not exist in this seed are missing."""
    pause_ms: tuple[int, int]
    """Between two faults."""
    victims: int
    """Brokers that may lose bytes."""
    weather: Weather
    """What the network is like when no fault has changed it."""
    sync_us: tuple[int, int]
    supervisor_us: tuple[int, int]
    compactor_us: tuple[int, int]
    groups: int
    consumer_groups: int
    """Groups of the consumer protocol, besides."""
    keys: int
    """How many keys the records have; 0: none."""
    is_compacted: bool
    keeps_tombstones: bool
    retention_ms: int
    """-1: for ever; so is what has a size of -1."""
    retention_bytes: int
    changes: tuple[str, ...]
    snapshot_records: int
    """Metadata records between two snapshots; 0: never."""
    settings: dict[str, str] = field(default_factory=dict)

    @property
    def kinds(self) -> tuple[str, ...]:
        """Each as often as it weighs."""
        return tuple(kind for kind, weight in self.faults.items() for _ in range(weight))

    def __str__(self) -> str:
        changed = [
            f"{name}={value}"
            for name, value in self.settings.items()
            if SETTINGS.get(name) != value and name != "min.insync.replicas"
        ]
        faults = [f"{kind} x{weight}" for kind, weight in self.faults.items()]
        weather, calm = self.weather, Weather()
        parts = [
            f"{self.brokers} brokers, {self.partitions} partitions, min ISR {self.min_isr}",
            f"a fault every {self.pause_ms[0]}-{self.pause_ms[1]} ms: {', '.join(faults)}",
            f"{self.victims} victims" if {POWER, CORRUPT} & set(self.faults) else "",
            f"weather {_weather_line(weather)}" if weather != calm else "",
            f"fsync {self.sync_us[0]}-{self.sync_us[1]} us",
            f"supervisor {self.supervisor_us[0]}-{self.supervisor_us[1]} us",
            f"{self.groups} groups" if self.groups else "",
            f"{self.consumer_groups} groups of consumers" if self.consumer_groups else "",
            f"{self.keys} keys" if self.keys else "",
            f"changes: {', '.join(self.changes)}" if self.changes else "",
            f"a snapshot every {self.snapshot_records}" if self.snapshot_records else "",
            " ".join(changed),
        ]
        return "; ".join(part for part in parts if part)


def _weather_line(weather: Weather) -> str:
    rates = {
        "drop": weather.drop,
        "duplicate": weather.duplicate,
        "reorder": weather.reorder,
        "slow": weather.slow,
    }
    told = [f"{name} {rate}" for name, rate in rates.items() if rate]
    return " ".join([f"{weather.delay_us[0]}-{weather.delay_us[1]} us", *told])


def draw(seed: int) -> Options:
    """The options of a seed."""
    choice = SimCluster.stream(seed, "options")
    settings = dict(SETTINGS)
    flushes = choice.random() < 0.3
    if flushes:
        settings["log.flush.interval.messages"] = "1"
    if choice.random() < 0.4:
        # Smaller than anybody may set it, so that logs roll all the time.
        settings["log.segment.bytes"] = choice.choice(["1000", "5000"])
        settings["log.index.interval.bytes"] = "100"
    min_isr = choice.choice([2, 2, 2, 1, 3])
    settings["min.insync.replicas"] = str(min_isr)
    compaction = SimCluster.stream(seed, "compaction")
    is_compacted = compaction.random() < COMPACTED_SEEDS
    keeps_tombstones = compaction.random() < 0.5
    keys = compaction.choice([3, 20, 200])
    compactor_us = compaction.choice([(20, 400), (1_000, 80_000)])
    if is_compacted:
        settings.update(_compaction(compaction, keeps_tombstones))
    retention = SimCluster.stream(seed, "retention")
    retention_ms, retention_bytes = -1, -1
    if not is_compacted and retention.random() < RETENTION_SEEDS:
        retention_ms = retention.choice([-1, 500, 3_000])
        retention_bytes = retention.choice([-1, 1_500, 6_000])
        settings["log.retention.ms"] = str(retention_ms)
        settings["log.retention.bytes"] = str(retention_bytes)
        settings["log.segment.bytes"] = retention.choice(["1000", "5000"])
        settings["log.segment.delete.delay.ms"] = retention.choice(["0", "1000"])
    changes = _changes(SimCluster.stream(seed, "changes"))
    if SimCluster.stream(seed, "client quotas").random() < QUOTA_SEEDS:
        changes = (*changes, QUOTAS)
    if "config" in changes:
        settings["log.segment.delete.delay.ms"] = "1000"
        # A change may lower it; what is lost within the contract goes by the lowest.
        min_isr = min(min_isr, 2)
    if SimCluster.stream(seed, "replica selector").random() < RACK_SEEDS:
        settings[SELECTOR] = RACK_AWARE_SELECTOR
    faults = _faults(SimCluster.stream(seed, "kinds"), min_isr, flushes, is_compacted)
    faults = _with_roles(SimCluster.stream(seed, "kinds of roles"), faults)
    brokers = choice.choice([3, 3, 3, 4, 5])
    if "reassign" in changes:
        # With somewhere to go.
        brokers = max(brokers, SimCluster.stream(seed, "reassignment").choice([4, 5]))
    return Options(
        brokers=brokers,
        partitions=choice.choice([1, 2]),
        min_isr=min_isr,
        flushes=flushes,
        faults=faults,
        pause_ms=choice.choice([(100, 1500), (100, 1500), SHORT_PAUSES_MS, (500, 4000)]),
        victims=max(min_isr - 1, 1),
        weather=_weather(choice),
        sync_us=choice.choice([(200, 3000), (200, 3000), (5_000, 80_000)]),
        supervisor_us=choice.choice([(200, 2000), (200, 2000), (1_000, 3_000_000)]),
        compactor_us=compactor_us,
        groups=SimCluster.stream(seed, "groups").choice([0, 1, 1, 2]),
        consumer_groups=SimCluster.stream(seed, "consumer groups").choice([0, 0, 0, 1]),
        keys=keys if is_compacted or "config" in changes else 0,
        is_compacted=is_compacted,
        keeps_tombstones=keeps_tombstones,
        retention_ms=retention_ms,
        retention_bytes=retention_bytes,
        changes=changes,
        snapshot_records=choice.choice([0, 20, 100]),
        settings=settings,
    )


def _compaction(random: Random, keeps_tombstones: bool) -> dict[str, str]:
    """Logs that roll and are compacted all the time."""
    return {
        "log.cleanup.policy": "compact",
        "log.segment.bytes": random.choice(["700", "2000"]),
        "log.index.interval.bytes": "100",
        "log.cleaner.backoff.ms": random.choice(["50", "300"]),
        "log.cleaner.min.cleanable.ratio": random.choice(["0", "0.3"]),
        "log.cleaner.min.compaction.lag.ms": random.choice(["0", "0", "500"]),
        "log.cleaner.delete.retention.ms": str(KEEPS_TOMBSTONES_MS) if keeps_tombstones else "200",
        "log.cleaner.dedupe.buffer.size": random.choice(["1000", "1000000"]),
        "log.segment.delete.delay.ms": random.choice(["0", "1000"]),
    }


def _changes(random: Random) -> tuple[str, ...]:
    """None in a third of all seeds."""
    rate = random.choice([0.0, 0.25, 0.6])
    return tuple(change for change in CHANGES if random.random() < rate)


def _faults(random: Random, min_isr: int, flushes: bool, is_compacted: bool) -> dict[str, int]:
    allowed = [
        kind
        for kind in KINDS
        if kind not in ON_ROLES
        and not (kind == POWER and min_isr == 1 and not flushes)
        and not (kind == CORRUPT and min_isr == 1)
        and not (kind == KILL_COMPACTOR and not is_compacted)
    ]
    rate = random.choice([0.0, 0.2, 0.4, 0.4, 0.9])
    kinds = [kind for kind in allowed if random.random() < rate]
    if not kinds:
        kinds = [random.choice(allowed)]
    return {kind: random.choice([1, 1, 2, 4]) for kind in kinds}


def _with_roles(random: Random, faults: dict[str, int]) -> dict[str, int]:
    """Beside the others, in their place, or not at all. What seeds have of the others is the same
    as without them."""
    way = random.choice(["none", "none", "beside", "beside", "instead"])
    if way == "none":
        return faults
    rate = random.choice([0.2, 0.4, 0.9])
    if len(faults) > (len(KINDS) - len(ON_ROLES)) / 2:
        # Some seeds have nearly all.
        way, rate = "beside", 0.9
    kinds = [kind for kind in ON_ROLES if random.random() < rate]
    if not kinds:
        kinds = [random.choice(list(ON_ROLES))]
    drawn = {kind: random.choice([1, 1, 2, 4]) for kind in kinds}
    return drawn if way == "instead" else {**faults, **drawn}


def _weather(random: Random) -> Weather:
    """Mostly fine."""
    if random.random() < 0.7:
        return Weather()
    return Weather(
        delay_us=random.choice([(100, 300), (500, 20_000)]),
        drop=random.choice([0.0, 0.01]),
        duplicate=random.choice([0.0, 0.05]),
        reorder=random.choice([0.0, 0.05]),
        slow=random.choice([0.0, 0.01]),
    )
