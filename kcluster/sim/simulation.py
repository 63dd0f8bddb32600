"""One simulation from one seed: load, faults, heal, convergence, and the verdict.

    start, create topics        bounded
    fault phase                 producers, consumers, whatever `Faults` draws; invariants after
                                every turn
    heal                        everything whole again, producers stop
    converge                    bounded: leaders, full ISRs, equal logs, consumers at the end
    verdict                     anomalies of the client history, surprises of clients

`kcluster sim --seed N --trace` replays one and tells its story. What a seed has is drawn in
`options`; what its rare states are is in `rare`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Container
from dataclasses import dataclass, field
from typing import Any

from kcluster.check.anomalies import Anomalies, find
from kcluster.check.history import History
from kcluster.model import OFFSETS_TOPIC, TopicPartition
from kcluster.sim import options as drawing
from kcluster.sim.admin import create_topic
from kcluster.sim.changes import BRIEF, CHURN, REPLICAS, Changes
from kcluster.sim.clients import Producer, SimClient
from kcluster.sim.cluster import Birth, SimCluster
from kcluster.sim.consumer import Consumer
from kcluster.sim.consumer_group_plan import ConsumerGroupPlan
from kcluster.sim.consumer_groups import begin as begin_consumer_group
from kcluster.sim.cores import RACKS, SELECTOR, make_broker, make_controller
from kcluster.sim.faults import Faults
from kcluster.sim.group_clients import GroupLoad, GroupPlan
from kcluster.sim.options import Options
from kcluster.sim.rare import RareStates
from kcluster.sim.scheduler import MS
from kcluster.sim.verdict import Verdict
from kcluster.sim.watch import Watch

START_BOUND_MS = 20_000
CONVERGE_BOUND_MS = 60_000
"""From the heal on: longer than a delivery timeout of the slowest request and a session."""

TOPIC = "orders"


@dataclass(slots=True)
class Story:
    """How a simulation went."""

    seed: int
    options: Options
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
    """How often each rare state was reached, by its name in `RARE_STATES`."""
    journal: list[str] = field(default_factory=list)

    @property
    def is_good(self) -> bool:
        return not self.anomalies and not self.surprises

    def __str__(self) -> str:
        reached = ", ".join(f"{name} {count}" for name, count in sorted(self.reached.items()))
        return (
            f"seed {self.seed}: {self.history.counts()}, {self.simulated_ms} ms simulated, "
            f"converged in {self.converged_ms} ms, {self.steps} steps, {self.checks} checks, "
            f"trace {self.digest[:12]}\n{self.options}\nreached: {reached}\n"
            f"{self.anomalies}\n" + "\n".join(self.surprises)
        )


class Simulation:
    def __init__(
        self,
        seed: int,
        *,
        fault_ms: int = 12_000,
        kinds: tuple[str, ...] | None = None,
        brokers: int | None = None,
        topics: dict[str, int] | None = None,
        groups: int | None = None,
        consumer_groups: int | None = None,
        skipped: Container[int] = frozenset(),
    ) -> None:
        """`skipped`: numbers of the strikes of its faults that are left out. What is not given is
        drawn; but where there shall be groups of one protocol, there are none of the other."""
        self.seed = seed
        self.fault_ms = fault_ms
        self.options = options = drawing.draw(seed)
        self._choice = SimCluster.stream(seed, "load")
        self._rack_choice = SimCluster.stream(seed, "racks of consumers")
        self.cluster = cluster = SimCluster(
            seed,
            make_broker=make_broker,
            make_controller=self._make_controller,
            brokers=brokers or options.brokers,
            settings=options.settings,
        )
        cluster.supervisor_us = options.supervisor_us
        cluster.sync_us = options.sync_us
        cluster.compactors.operation_us = options.compactor_us
        cluster.network.weather = options.weather
        self.watch = Watch(cluster)
        self.rare = RareStates(cluster, self.watch)
        self.watch.answer_hooks.append(self.rare.answered)
        self.history = History()
        self.verdict = Verdict(cluster, self.watch, self.history)
        self.topics = topics or {TOPIC: options.partitions}
        self.faults = Faults(
            cluster,
            kinds=kinds or options.kinds,
            pause_ms=options.pause_ms,
            victims=options.victims,
            anyone_loses_power=options.flushes,
            skipped=skipped,
        )
        self.producers: list[SimClient] = []
        self.consumers: list[Consumer] = []
        self.clients: list[SimClient] = []
        self._is_loaded = False
        """All is sent that will be."""
        self.changes = Changes(
            self._client,
            self.watch.deletions,
            SimCluster.stream(seed, "administration"),
            keys=options.keys,
            min_isr=options.min_isr,
        )
        if options.keys:
            self.watch.keyed_topics |= {*self.topics, BRIEF}
        for topic in (*self.topics, BRIEF, CHURN):
            if options.retention_ms >= 0:
                self.watch.deletions.may_age(topic, options.retention_ms)
            if options.retention_bytes >= 0:
                self.watch.deletions.may_outgrow(topic, options.retention_bytes)
        chance = SimCluster.stream(seed, "group plans")
        if groups is None:
            groups = 0 if consumer_groups else options.groups
            if consumer_groups is None:
                consumer_groups = options.consumer_groups
        self._plans = [GroupPlan.draw(f"group-{number}", chance) for number in range(groups)]
        drawn = SimCluster.stream(seed, "consumer group plans")
        self._consumer_plans = [
            ConsumerGroupPlan.draw(f"consumers-{number}", drawn)
            for number in range(consumer_groups or 0)
        ]
        self.groups = GroupLoad(cluster, self.topics)
        self._groups_come_first = chance.random() < 0.8
        """Otherwise their topic is created while faults happen."""

    @property
    def reached(self) -> Counter[str]:
        """How often each rare state was reached, so far."""
        return self.rare.summary()

    def _make_controller(self, birth: Birth) -> Any:
        core: Any = make_controller(birth)
        if self.options.snapshot_records:
            core.log.snapshot_records = self.options.snapshot_records
            core.log.tail_records = self.options.snapshot_records
        return core

    def run(self) -> Story:
        """Raises what a broken invariant raises, and NotReached when it does not converge."""
        cluster = self.cluster
        cluster.start_all()
        admin = self._client("admin")
        for topic, partitions in self.topics.items():
            admin.live(create_topic(admin, topic, partitions, REPLICAS))
        cluster.run_until(lambda: admin.running == 0, START_BOUND_MS, "the topics are created")
        for tp in self.partitions():
            self._load(tp)
        for plan in self._plans:
            self.groups.begin(plan, self._member)
        for consumer_plan in self._consumer_plans:
            begin_consumer_group(self.groups, consumer_plan, self._member)
        if self.groups.groups:
            observer = self._client("observer")
            self.producers.append(observer)  # stopped with them
            observer.live(self.groups.observe(observer))
        if self._groups_come_first:
            cluster.run_until(lambda: self.groups.have_begun, START_BOUND_MS, "the groups begin")
        self._administer()
        self.faults.begin()
        cluster.run(self.fault_ms)
        self.faults.heal()
        healed_ms = cluster.now_ms
        cluster.run(500)
        self.groups.settle()
        self._is_loaded = True
        for client in (*self.producers, *self.changes.clients):
            client.is_stopped = True
        self._converge()
        converged_ms = cluster.now_ms - healed_ms
        while self.verdict.read_damaged():
            self._converge()
        auditor = self._client("auditor")
        auditor.live(self.groups.audit(auditor))
        cluster.run_until(lambda: auditor.running == 0, START_BOUND_MS, "the groups are audited")
        self._scan()
        return Story(
            self.seed,
            self.options,
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

    def partitions(self) -> list[TopicPartition]:
        """Of the topics that stay."""
        return [
            TopicPartition(topic, index)
            for topic, count in self.topics.items()
            for index in range(count)
        ]

    # --- load -----------------------------------------------------------------------------

    def _client(self, name: str) -> SimClient:
        client = self._member(name)
        self.watch.client(client)
        return client

    def _member(self, name: str) -> SimClient:
        """Fetches many partitions at once, which the watch does not look into."""
        client = SimClient(self.cluster, name, self.history)
        self.clients.append(client)
        return client

    def _load(self, tp: TopicPartition) -> None:
        choice, keys = self._choice, self.options.keys
        for number in range(choice.choice([1, 2])):
            client = self._client(f"p{number}/{tp}")
            self.producers.append(client)
            client.live(
                Producer(
                    client,
                    tp,
                    in_flight=choice.choice([1, 5]),
                    version=choice.choice([9, 12, 13]),
                    pause_ms=choice.choice([(5, 60), (0, 300), (100, 500)]),
                    keys=keys,
                ).life()
            )
        if choice.random() < 0.5:
            client = self._client(f"plain/{tp}")
            self.producers.append(client)
            acks = choice.choice([-1, -1, 1, 1, 0])
            producer = Producer(
                client, tp, acks=acks, is_idempotent=False, pause_ms=(20, 200), version=9, keys=keys
            )
            client.live(producer.life())
        client = self._client(f"c/{tp}")
        self._consume(Consumer(client, tp, version=choice.choice([12, 12, 13, 17])))
        # Others come later, and read what is old by then; the last one what is new.
        for number in range(4):
            max_bytes = (500, 500, 1, 500)[number]
            late = Consumer(self._client(f"late{number}/{tp}"), tp, max_bytes=max_bytes)
            late.is_from_latest = number == 3
            self.cluster.scheduler.after(
                choice.randint(0, self.fault_ms) * MS,
                lambda late=late: self._consume(late, is_waited_for=False),  # type: ignore[misc]
            )

    def _consume(self, consumer: Consumer, *, is_waited_for: bool = True) -> None:
        consumer.deleted = self._deleted
        if SELECTOR in self.options.settings:
            consumer.rack = self._rack_choice.choice(RACKS)
        if is_waited_for:
            self.consumers.append(consumer)
        consumer.client.live(consumer.life())

    def _deleted(self, tp: TopicPartition) -> int:
        topic_id = self.watch.topic_id(tp)
        return self.watch.deletions.start(topic_id, tp.partition)

    def _administer(self) -> None:
        changes, choice = self.options.changes, self._choice
        if "topic" in changes:
            self.changes.come_and_go()
        if "churn" in changes:
            self.changes.churn()
        if "reassign" in changes:
            pause_ms = SimCluster.stream(self.seed, "reassignments").choice([200, 1500, 4000])
            self.changes.reassign(self._movable, self.cluster.broker_ids, pause_ms)
        for topic, count in list(self.topics.items()):
            if "partitions" in changes:
                after_ms = choice.randint(0, self.fault_ms)
                self.changes.grow(
                    topic, count + 1, after_ms,
                    lambda topic=topic, count=count: self._grown(topic, count),  # type: ignore[misc]
                )  # fmt: skip
            if "config" in changes:
                self.changes.configure(topic)
        if "records" in changes and not self.options.is_compacted:
            self.changes.delete_records(self.partitions)
        if drawing.QUOTAS in changes:
            self.changes.limit(lambda: [client.name for client in self.clients])

    def _movable(self) -> list[TopicPartition]:
        """What may be reassigned: mostly what has readers and writers."""
        others = [TopicPartition(BRIEF, 0), TopicPartition(CHURN, 1)]
        offsets = int(self.options.settings["offsets.topic.num.partitions"])
        others += [TopicPartition(OFFSETS_TOPIC, index) for index in range(offsets)]
        return self.partitions() * (2 * len(others)) + others

    def _grown(self, topic: str, count: int) -> None:
        self.topics[topic] = count + 1
        if not self._is_loaded:
            self._load(TopicPartition(topic, count))

    # --- the end --------------------------------------------------------------------------

    def _converge(self) -> None:
        def is_converged() -> bool:
            self.verdict.restart_damaged()
            return not self.unconverged()

        self.cluster.run_until(is_converged, CONVERGE_BOUND_MS, self.unconverged, every_ms=20)

    def unconverged(self) -> str:
        """What is missing to it; empty when nothing is."""
        busy = [client for client in (*self.producers, *self.changes.clients) if client.running]
        if busy:
            return f"still at it: {[client.name for client in busy]}"
        for tp in self.partitions():
            missing = self.verdict.missing(tp, self.consumers, self.groups.missing)
            if missing:
                return missing
        if moving := self.verdict.moving():
            return moving
        if self.changes.brief is not None:
            return self.verdict.missing(TopicPartition(BRIEF, 0), self.changes.readers)
        return ""

    def _scan(self) -> None:
        labels = {tp: tp for tp in self.partitions()}
        if self.changes.brief is not None:
            labels[TopicPartition(BRIEF, 0)] = self.changes.brief
        options = self.options
        keeps = options.keeps_tombstones or not options.is_compacted
        self.verdict.scan(labels, keeps_tombstones=keeps)
        for label, topic_id in self.changes.labels.items():
            self.verdict.learn(label, topic_id)
