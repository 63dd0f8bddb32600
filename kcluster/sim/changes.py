"""What is administered while a simulation runs: topics, partitions, configs, records.

Each is a life of its own, begun with the load and ended with it. Whatever may take records away
on purpose is told to the checker before it is asked for.

    topic        brief: created, written and read to its end, deleted, and again by the same name
    churn        the same with nobody to judge it, deleted whatever is going on
    partitions   one more for a topic that has readers, writers and groups
    config       min.insync.replicas, segment.ms, retention and cleanup.policy of a topic
    records      DeleteRecords of some, or of all that is committed
    quotas       of some clients, of those without their own, and of the user that all are
    reassign     partitions move to other replicas, or that is cancelled
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from random import Random
from typing import Final

from kcluster.check.deletions import Deletions
from kcluster.check.history import OK
from kcluster.core.broker.quotas.quotas import ANONYMOUS
from kcluster.core.metadata.quotas import (
    CONSUMER_BYTE_RATE,
    PRODUCER_BYTE_RATE,
    REQUEST_PERCENTAGE,
    Entity,
    entity_of,
)
from kcluster.errors import ErrorCode
from kcluster.model import TopicId, TopicPartition
from kcluster.sim.admin import (
    alter_config,
    alter_quota,
    create_topic,
    delete_records,
    delete_topic,
    grow_topic,
    reassign,
    throttle,
)
from kcluster.sim.clients import Life, Producer, SimClient, Sleep, Step
from kcluster.sim.consumer import Consumer

BRIEF: Final = "brief"
CHURN: Final = "churn"
CONFIGS: Final = {
    "segment.ms": ["100", "1000", None],
    "retention.ms": ["300", "2000", "10000", None],
    "retention.bytes": ["2000", "6000", None],
    "cleanup.policy": ["delete", "compact", "compact,delete", None],
}
"""None: back to the default."""
REPLICAS: Final = 3
QUOTAS: Final[dict[str, list[float]]] = {
    PRODUCER_BYTE_RATE: [20, 300, 5_000],
    CONSUMER_BYTE_RATE: [20, 500, 20_000],
    REQUEST_PERCENTAGE: [0.01, 0.5, 5],
}
"""From nearly nothing to hardly a hindrance."""
CANCELS: Final = 0.25
THROTTLES: Final = 0.2
RATES: Final = [500, 5_000, 1_000_000, None]
"""Bytes a second; slow as that is, what is written in a simulation gets there within seconds."""
REFUSALS: Final = {
    None, ErrorCode.NONE, ErrorCode.REQUEST_TIMED_OUT, ErrorCode.OPERATION_NOT_ATTEMPTED,
    # One that was deleted; or its broker does not know it yet.
    ErrorCode.UNKNOWN_TOPIC_OR_PARTITION,
    # A cancellation that would take copies that count; or a broker has not registered yet.
    ErrorCode.INVALID_REPLICA_ASSIGNMENT,
    ErrorCode.NO_REASSIGNMENT_IN_PROGRESS,
}  # fmt: skip
"""What may become of a reassignment that is asked for."""


class Changes:
    def __init__(
        self,
        new_client: Callable[[str], SimClient],
        deletions: Deletions,
        random: Random,
        *,
        keys: int,
        min_isr: int,
    ) -> None:
        self._new_client = new_client
        self._deletions = deletions
        self._random = random
        self._keys = keys
        self._min_isr = min_isr
        self.clients: list[SimClient] = []
        """To be stopped with the load."""
        self.readers: list[Consumer] = []
        """Of the brief topic, while there is one."""
        self.labels: dict[TopicPartition, TopicId] = {}
        """What the history calls each brief topic that there was, and its id."""
        self.brief: TopicPartition | None = None
        """The label of the one that there is."""

    def _client(self, name: str) -> SimClient:
        client = self._new_client(name)
        self.clients.append(client)
        return client

    # --- topics ---------------------------------------------------------------------------

    def come_and_go(self) -> None:
        client = self._client(BRIEF)
        client.live(self._brief(client))

    def _brief(self, client: SimClient) -> Life:
        tp = TopicPartition(BRIEF, 0)
        while not client.is_stopped:
            label = TopicPartition(f"{BRIEF}#{len(self.labels)}", 0)
            yield from create_topic(client, BRIEF, 1, REPLICAS)
            while client.topic_ids.get(BRIEF, b"") in (b"", *client.buried):
                # A broker that is cut off tells of the one before.
                yield from client.refresh(BRIEF)
                yield Sleep(20)
            self.labels[label] = client.topic_ids[BRIEF]
            self.brief = label
            if not (yield from self._live_briefly(client, tp, label)):
                return
            self.brief = None
            self.readers.clear()
            yield from delete_topic(client, BRIEF, self.labels[label])
            client.buried |= {client.topic_ids.pop(BRIEF)}
            yield Sleep(self._random.randint(0, 500))

    def _live_briefly(
        self, client: SimClient, tp: TopicPartition, label: TopicPartition
    ) -> Generator[Step, object, bool]:
        """Whether it was read to its end; else the load was over before."""
        lives = []
        for number in range(self._random.choice([1, 2])):
            writer = self._client(f"p{number}/{label}")
            writer.topic_ids, writer.buried = dict(client.topic_ids), client.buried
            producer = Producer(
                writer, tp, version=13, limit=self._random.randint(3, 40), pause_ms=(0, 100),
                keys=self._keys, label=label,
            )  # fmt: skip
            writer.live(producer.life())
            lives.append(writer)
        reader = self._new_client(f"c/{label}")
        reader.topic_ids, reader.buried = dict(client.topic_ids), client.buried
        consumer = Consumer(
            reader, tp, version=13, label=label,
            deleted=lambda tp: self._deletions.start(self.labels[label], tp.partition),
        )  # fmt: skip
        self.readers.append(consumer)
        reader.live(consumer.life())
        while any(writer.running for writer in lives):
            yield Sleep(50)
        if client.is_stopped:
            return False
        sends = [sent for sent in client.history.sends if sent.tp == label]
        last = max((sent.offset for sent in sends if sent.outcome == OK), default=-1)
        while consumer.position <= last:
            if client.is_stopped:
                return False
            yield Sleep(50)
        reader.is_stopped = True
        while reader.running:
            yield Sleep(50)
        return not client.is_stopped

    def churn(self) -> None:
        client = self._client(CHURN)

        def life() -> Life:
            while not client.is_stopped:
                yield from create_topic(client, CHURN, 2, REPLICAS)
                for index in range(2):
                    tp = TopicPartition(CHURN, index)
                    producer = Producer(
                        client, tp, acks=1, is_idempotent=False, limit=20, keys=self._keys
                    )
                    client.forget_leader(tp)
                    client.live(producer.life())
                yield Sleep(self._random.randint(100, 3000))
                yield from delete_topic(client, CHURN)

        client.live(life())

    # --- of a topic that stays --------------------------------------------------------------

    def grow(self, topic: str, count: int, after_ms: int, grown: Callable[[], None]) -> None:
        """To `count` partitions; `grown` once they are there."""
        client = self._client(f"grow {topic}")

        def life() -> Life:
            yield Sleep(after_ms)
            if client.is_stopped:
                return
            yield from grow_topic(client, topic, count)
            grown()

        client.live(life())

    def configure(self, topic: str) -> None:
        client = self._client(f"configure {topic}")
        choice = self._random

        def life() -> Life:
            while not client.is_stopped:
                yield Sleep(choice.randint(100, 3000))
                name = choice.choice(["min.insync.replicas", *CONFIGS])
                if name == "min.insync.replicas":
                    value: str | None = str(choice.randint(self._min_isr, REPLICAS))
                else:
                    value = choice.choice(CONFIGS[name])
                if name == "retention.ms" and value is not None:
                    self._deletions.may_age(topic, int(value))
                if name == "retention.bytes" and value is not None:
                    self._deletions.may_outgrow(topic, int(value))
                client.cluster.note(f"{topic}: {name}={value}")
                yield from alter_config(client, topic, name, value)
            # What is left to do is finite: nothing ages while all are waited for.
            for name in ("retention.ms", "retention.bytes", "min.insync.replicas"):
                yield from alter_config(client, topic, name, None)

        client.live(life())

    def limit(self, clients: Callable[[], list[str]]) -> None:
        """Quotas come and go; in the end there are none."""
        client = self._client("limit")
        choice = self._random

        def life() -> Life:
            given: dict[tuple[Entity, str], None] = {}
            while not client.is_stopped:
                yield Sleep(choice.randint(100, 3000))
                some_client = choice.choice(clients())
                entity = choice.choice([
                    entity_of(client_id=some_client), entity_of(client_id=some_client),
                    entity_of(client_id=None), entity_of(ANONYMOUS), entity_of(ANONYMOUS, None),
                    entity_of(None), entity_of(None, some_client),
                ])  # fmt: skip
                key = choice.choice(list(QUOTAS))
                value: float | None = choice.choice([*QUOTAS[key], None])
                given[entity, key] = None
                client.cluster.note(f"{entity}: {key}={value}")
                yield from alter_quota(client, entity, key, value)
            for entity, key in given:
                yield from alter_quota(client, entity, key, None)

        client.live(life())

    def delete_records(self, partitions: Callable[[], list[TopicPartition]]) -> None:
        client = self._client("delete records")
        choice = self._random

        def life() -> Life:
            while not client.is_stopped:
                yield Sleep(choice.randint(100, 2000))
                tp = choice.choice(partitions())
                ends = [
                    sent.offset
                    for sent in client.history.sends
                    if sent.tp == tp and sent.outcome == OK
                ]
                offset = choice.choice([-1, choice.randint(0, max(ends, default=0))])
                leader = yield from client.find_leader(tp)
                if leader < 0:
                    return
                self._deletions.ask(tp, offset)
                client.cluster.note(f"{tp}: delete records below {offset}")
                start = yield from delete_records(client, leader, tp, offset)
                if start >= 0:
                    client.cluster.note(f"{tp}: deleted below {start}")
                else:
                    client.forget_leader(tp)

        client.live(life())

    def reassign(
        self, partitions: Callable[[], list[TopicPartition]], brokers: list[int], pause_ms: int
    ) -> None:
        """`pause_ms`: at most, between two. Never to fewer than min ISR."""
        client = self._client("reassign")
        choice = self._random
        throttled: set[str] = set()

        def life() -> Life:
            while not client.is_stopped:
                yield Sleep(choice.randint(10, pause_ms))
                tp = choice.choice(partitions())
                count = choice.choice([REPLICAS, REPLICAS, REPLICAS - 1, REPLICAS + 1])
                count = min(max(count, self._min_isr), len(brokers))
                replicas = None if choice.random() < CANCELS else choice.sample(brokers, count)
                client.cluster.note(f"{tp}: reassign to {replicas}")
                error = yield from reassign(client, tp, replicas)
                client.cluster.note(f"{tp}: {error.name if error is not None else 'no answer'}")
                if error not in REFUSALS:
                    client.surprises.append(f"{tp}: reassignment to {replicas}: {error!r}")
                if choice.random() < THROTTLES:
                    rate = choice.choice(RATES)
                    client.cluster.note(f"{tp.topic}: throttle {rate}")
                    throttled.add(tp.topic)
                    yield from throttle(client, [tp.topic], rate)
            for topic in sorted(throttled):
                while not (yield from throttle(client, [topic], None)):
                    pass

        client.live(life())
