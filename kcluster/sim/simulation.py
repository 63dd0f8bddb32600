"""One simulation from one seed: load, faults, heal, convergence, and the verdict.

    start, create topics        bounded
    fault phase                 producers, consumers, whatever `Faults` draws; invariants after
                                every turn
    heal                        everything whole again, producers stop
    converge                    bounded: leaders, full ISRs, equal logs, consumers at the end
    verdict                     anomalies of the client history, surprises of clients

`python -m kcluster.sim.simulation <seed> [--trace]` replays one and tells its story.
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from collections.abc import Container
from dataclasses import dataclass, field
from random import Random
from typing import Any

from kcluster.check.anomalies import Anomalies, find
from kcluster.check.history import History
from kcluster.core.traces import BrokerFenced, Elected, IsrRefused, LogOffline, Truncated
from kcluster.model import COORDINATOR, NO_LEADER, TopicPartition
from kcluster.sim.admin import create_topic, delete_topic
from kcluster.sim.clients import Consumer, Life, Producer, SimClient, Sleep
from kcluster.sim.cluster import SimCluster
from kcluster.sim.cores import make_broker, make_controller
from kcluster.sim.faults import KINDS, Faults
from kcluster.sim.group_clients import GROUP_SETTINGS, GroupLoad, GroupPlan
from kcluster.sim.process import Process
from kcluster.sim.scheduler import MS
from kcluster.sim.watch import Watch, record_seen
from kcluster.wire.records import Record, batches, read_records

START_BOUND_MS = 20_000
COMPACTED_SEEDS = 0.3
CONVERGE_BOUND_MS = 60_000
"""From the heal on: longer than a delivery timeout of the slowest request and a session."""

SETTINGS = {
    "min.insync.replicas": "2",
    "replica.lag.time.max.ms": "2000",
    "broker.session.timeout.ms": "1500",
    "broker.heartbeat.interval.ms": "500",
    "leader.imbalance.check.interval.seconds": "3",
    "replica.high.watermark.checkpoint.interval.ms": "1000",
    "log.flush.offset.checkpoint.interval.ms": "2000",
    **GROUP_SETTINGS,
}


@dataclass(slots=True)
class Story:
    """How a simulation went."""

    seed: int
    digest: str
    history: History
    anomalies: Anomalies
    surprises: list[str]
    steps: int
    checks: int
    simulated_ms: int
    converged_ms: int
    faults: Counter[str]
    """Strikes carried out, by kind."""
    reached: Counter[str]
    """How often each rare state was reached, by its name."""
    journal: list[str] = field(default_factory=list)

    @property
    def is_good(self) -> bool:
        return not self.anomalies and not self.surprises

    def __str__(self) -> str:
        return (
            f"seed {self.seed}: {self.history.counts()}, {self.simulated_ms} ms simulated, "
            f"converged in {self.converged_ms} ms, {self.steps} steps, {self.checks} checks, "
            f"trace {self.digest[:12]}\n{self.anomalies}\n" + "\n".join(self.surprises)
        )


def compaction_settings(random: Random, keeps_tombstones: bool) -> dict[str, str]:
    """Logs that roll and are compacted all the time."""
    return {
        "log.cleanup.policy": "compact",
        "log.segment.bytes": random.choice(["700", "2000"]),
        "log.index.interval.bytes": "100",
        "log.cleaner.backoff.ms": random.choice(["50", "300"]),
        "log.cleaner.min.cleanable.ratio": random.choice(["0", "0.3"]),
        "log.cleaner.min.compaction.lag.ms": random.choice(["0", "0", "500"]),
        "log.cleaner.delete.retention.ms": "10000000" if keeps_tombstones else "200",
        "log.cleaner.dedupe.buffer.size": random.choice(["1000", "1000000"]),
        "log.segment.delete.delay.ms": random.choice(["0", "1000"]),
    }


class Simulation:
    def __init__(
        self,
        seed: int,
        *,
        fault_ms: int = 12_000,
        kinds: tuple[str, ...] = KINDS,
        brokers: int | None = None,
        topics: dict[str, int] | None = None,
        groups: int | None = None,
        skipped: Container[int] = (),
    ) -> None:
        """`skipped`: numbers of the strikes of its faults that are left out."""
        self.seed = seed
        self.fault_ms = fault_ms
        choice = self._choice = SimCluster.stream(seed, "simulation")
        flushes = choice.random() < 0.3
        settings = dict(SETTINGS)
        if flushes:
            settings["log.flush.interval.messages"] = "1"
            kinds = (*kinds, "power", "power", "power")
        if choice.random() < 0.4:
            # Smaller than anybody may set it, so that logs roll all the time.
            settings["log.segment.bytes"] = choice.choice(["1000", "5000"])
            settings["log.index.interval.bytes"] = "100"
        min_isr = choice.choice([2, 2, 2, 1, 3])
        settings["min.insync.replicas"] = str(min_isr)
        if min_isr == 1 and not flushes:
            # What a single replica has acknowledged alone may be lost with its power.
            kinds = tuple(kind for kind in kinds if kind != "power")
        # A stream of its own, so that other seeds stay the stories that they were.
        compaction = SimCluster.stream(seed, "compaction")
        self.is_compacted = compaction.random() < COMPACTED_SEEDS
        self.keeps_tombstones = compaction.random() < 0.5
        if self.is_compacted:
            settings.update(compaction_settings(compaction, self.keeps_tombstones))
            kinds = (*kinds, "kill compactor", "kill compactor")
        self.keys = compaction.choice([3, 20, 200])
        self.cluster = SimCluster(
            seed,
            make_broker=make_broker,
            make_controller=make_controller,
            brokers=brokers or choice.choice([3, 3, 3, 4, 5]),
            settings=settings,
        )
        self.cluster.supervisor_us = choice.choice([(200, 2000), (200, 2000), (1_000, 3_000_000)])
        self.cluster.sync_us = choice.choice([(200, 3000), (200, 3000), (5_000, 80_000)])
        self.cluster.compactors.operation_us = compaction.choice([(20, 400), (1_000, 80_000)])
        self.watch = Watch(self.cluster)
        self.reached: Counter[str] = Counter()
        self.cluster.listeners.append(self._reached)
        self.history = History()
        self.topics = topics or {"orders": choice.choice([1, 2])}
        self.faults = Faults(self.cluster, kinds=kinds, anyone_loses_power=flushes, skipped=skipped)
        self.producers: list[SimClient] = []
        self.consumers: list[Consumer] = []
        self.clients: list[SimClient] = []
        chance = SimCluster.stream(seed, "groups")
        count = groups if groups is not None else chance.choice([0, 1, 1, 2])
        plans = [GroupPlan.draw(f"group-{number}", chance) for number in range(count)]
        self.groups = GroupLoad(self.cluster, plans, self.topics)
        self._groups_come_first = chance.random() < 0.8
        """Otherwise their topic is created while faults happen."""

    def run(self) -> Story:
        cluster = self.cluster
        cluster.start_all()
        admin = self._client("admin")
        for topic, partitions in self.topics.items():
            admin.live(create_topic(admin, topic, partitions, 3))
        cluster.run_until(lambda: admin.running == 0, START_BOUND_MS, "the topics are created")
        for topic, partitions in self.topics.items():
            for index in range(partitions):
                self._load(TopicPartition(topic, index))
        if self._choice.random() < 0.3:
            self._churn()
        self.groups.begin(self._member)
        if self.groups.plans:
            observer = self._client("observer")
            self.producers.append(observer)  # stopped with them
            observer.live(self.groups.observe(observer))
        if self._groups_come_first:
            cluster.run_until(lambda: self.groups.have_begun, START_BOUND_MS, "the groups begin")
        self.faults.begin()
        cluster.run(self.fault_ms)
        self.faults.heal()
        healed_ms = cluster.now_ms
        cluster.run(500)
        self.groups.settle()
        for client in self.producers:
            client.is_stopped = True
        cluster.run_until(
            lambda: not self.unconverged(), CONVERGE_BOUND_MS, self.unconverged, every_ms=20
        )
        converged_ms = cluster.now_ms - healed_ms
        auditor = self._client("auditor")
        auditor.live(self.groups.audit(auditor))
        cluster.run_until(lambda: auditor.running == 0, START_BOUND_MS, "the groups are audited")
        self._scan()
        return Story(
            self.seed,
            cluster.digest(),
            self.history,
            find(self.history),
            [surprise for client in self.clients for surprise in client.surprises],
            cluster.scheduler.steps,
            self.watch.ledger.checks,
            cluster.now_ms,
            converged_ms,
            Counter(strike.kind for strike in self.faults.strikes),
            self.reached,
            cluster.journal,
        )

    def _reached(self, process: Process, trace: Any) -> None:
        match trace:
            case Elected(source=source) if source != "isr":
                self.reached[f"elected from {source}"] += 1
            case Truncated() | IsrRefused() | BrokerFenced() | LogOffline():
                self.reached[type(trace).__name__] += 1

    # --- load -----------------------------------------------------------------------------

    def _client(self, name: str) -> SimClient:
        client = SimClient(self.cluster, name, self.history)
        self.watch.client(client)
        self.clients.append(client)
        return client

    def _member(self, name: str) -> SimClient:
        """Fetches many partitions at once, which the watch does not look into."""
        client = SimClient(self.cluster, name, self.history)
        self.clients.append(client)
        return client

    def _load(self, tp: TopicPartition) -> None:
        choice = self._choice
        for number in range(choice.choice([1, 2])):
            client = self._client(f"p{number}/{tp}")
            self.producers.append(client)
            client.live(
                Producer(
                    client,
                    tp,
                    in_flight=choice.choice([1, 5]),
                    version=choice.choice([9, 12, 13]),
                    pause_ms=choice.choice([(0, 30), (0, 300), (100, 500)]),
                    keys=self.keys if self.is_compacted else 0,
                ).life()
            )
        if choice.random() < 0.5:
            client = self._client(f"plain/{tp}")
            self.producers.append(client)
            acks = choice.choice([-1, -1, 1, 1, 0])
            producer = Producer(
                client, tp, acks=acks, is_idempotent=False, pause_ms=(20, 200), version=9,
                keys=self.keys if self.is_compacted else 0,
            )  # fmt: skip
            client.live(producer.life())
        client = self._client(f"c/{tp}")
        consumer = Consumer(client, tp, version=choice.choice([12, 12, 13, 17]))
        self.consumers.append(consumer)
        client.live(consumer.life())
        # Others come later, and read what is old by then.
        for number in range(3):
            late = Consumer(self._client(f"late{number}/{tp}"), tp, max_bytes=500)
            self.cluster.scheduler.after(
                choice.randint(0, self.fault_ms) * MS,
                lambda late=late: late.client.live(late.life()),  # type: ignore[misc]
            )

    def _churn(self) -> None:
        """A topic that comes and goes, with its own producers and nobody to judge them."""
        client = self._client("churn")
        choice = self._choice

        def life() -> Life:
            while not client.is_stopped:
                yield from create_topic(client, "churn", 2, 3)
                for index in range(2):
                    tp = TopicPartition("churn", index)
                    producer = Producer(
                        client, tp, acks=1, is_idempotent=False, limit=20,
                        keys=self.keys if self.is_compacted else 0,
                    )  # fmt: skip
                    client.forget_leader(tp)
                    client.live(producer.life())
                yield Sleep(choice.randint(100, 3000))
                yield from delete_topic(client, "churn")

        client.live(life())
        self.producers.append(client)

    # --- convergence ----------------------------------------------------------------------

    def unconverged(self) -> str:
        """What is missing to it; empty when nothing is."""
        busy = [client.name for client in self.producers if client.running]
        if busy:
            return f"producers still at it: {busy}"
        controller: Any = self.cluster.processes[COORDINATOR].core
        if controller is None:
            return "no coordinator"
        for topic, partitions in self.topics.items():
            for index in range(partitions):
                missing = self._partition_missing(controller, TopicPartition(topic, index))
                if missing:
                    return missing
        return ""

    def _partition_missing(self, controller: Any, tp: TopicPartition) -> str:
        state = controller.image.partition(tp)
        if state is None:
            return f"no {tp}"
        if state.leader == NO_LEADER or sorted(state.isr) != sorted(state.replicas):
            return f"{tp}: {state}"
        ends = set()
        for id in state.replicas:
            core: Any = self.cluster.processes[id].core
            replica = core.replicas.get(tp) if core is not None else None
            if replica is None or replica.offline:
                return f"{tp}: no replica on broker {id}"
            ends.add((replica.log.log_end_offset, replica.log.high_watermark))
        if len(ends) > 1 or len(set(next(iter(ends)))) > 1:
            return f"{tp}: (log end, high watermark) are {sorted(ends)}"
        [(end, _)] = ends
        for consumer in self.consumers:
            if consumer.tp == tp and consumer.position < end:
                return f"{consumer.client.name} is at {consumer.position} of {end}"
        return self.groups.missing(tp, end)

    def _scan(self) -> None:
        for topic, partitions in self.topics.items():
            for index in range(partitions):
                tp = TopicPartition(topic, index)
                controller: Any = self.cluster.processes[COORDINATOR].core
                state = controller.image.partition(tp)
                truth = self.watch.ledger.partition(state.topic_id, tp).compacted
                if truth is not None:
                    keys = {offset: record.key or b"" for offset, record in truth.records.items()}
                    self.history.compacted[tp] = keys
                for id in state.replicas:
                    core: Any = self.cluster.processes[id].core
                    records = scan(core.replicas[tp].log)
                    values = [(r.offset, r.value) for r in records if r.value is not None]
                    self.history.logs.setdefault(tp, {})[id] = values
                    if truth is not None:
                        left = [record_seen(record) for record in records]
                        where = f"{tp} on broker {id}"
                        truth.check_last(left, where, is_strict=self.keeps_tombstones)


def scan(log: Any) -> list[Record]:
    """Every record in a log."""
    out: list[Record] = []
    offset = log.log_start_offset
    while offset < log.log_end_offset:
        data = memoryview(log.read_bytes(offset, 1 << 20, log.log_end_offset)[0])
        for position, header in batches(data):
            out += read_records(data[position : position + header.size])
            offset = header.last_offset + 1
    return out


def replay_command(seed: int) -> str:
    return f"python -m kcluster.sim.simulation {seed} --trace"


def main() -> int:
    parser = argparse.ArgumentParser(description="replay one simulation")
    parser.add_argument("seed", type=int)
    parser.add_argument("--trace", action="store_true", help="tell every state change")
    parser.add_argument("--fault-ms", type=int, default=12_000)
    options = parser.parse_args()
    simulation = Simulation(options.seed, fault_ms=options.fault_ms)
    try:
        story = simulation.run()
    finally:
        if options.trace:
            sys.stdout.write("\n".join(simulation.cluster.journal) + "\n")
    sys.stdout.write(f"{story}\n")
    return 0 if story.is_good else 1


if __name__ == "__main__":
    sys.exit(main())
