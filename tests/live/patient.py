"""A cluster that is hurt over and over again, and all that was ever acknowledged in it."""

from __future__ import annotations

import itertools
from pathlib import Path

from kcluster.client.connect import over_tcp
from kcluster.client.consumer import Consumer
from kcluster.client.control import BusClient
from kcluster.client.producer import Producer
from kcluster.client.requests import any_broker
from kcluster.core.client.producer import Failed, ProducerSettings
from kcluster.wire.messages import elect_leaders
from tests.live.conftest import LiveCluster

SEGMENT_BYTES = 1 << 20
VALUE_BYTES = 30_000
IN_TIME_S = 20


class Patient:
    """A cluster, its topic, and all that was ever acknowledged."""

    def __init__(
        self,
        name: str,
        *,
        configs: dict[str, str] | None = None,
        options: dict[str, str] | None = None,
    ) -> None:
        still = {"auto.leader.rebalance.enable": "false"}
        self.cluster = LiveCluster(name, options=still | (options or {}))
        self.topic = self.cluster.topic(
            "patient",
            configs={
                "segment.bytes": str(SEGMENT_BYTES), "min.insync.replicas": "2", **(configs or {}),
            },
        )  # fmt: skip
        [self.victim, *_] = self.replicas()
        self.acknowledged: list[bytes] = []
        self._numbers = itertools.count()
        self.write(100)

    def write(self, count: int) -> None:
        """Return when all are acknowledged by all in sync."""
        values = [b"%09d" % next(self._numbers) * (VALUE_BYTES // 9) for _ in range(count)]
        settings = ProducerSettings(batch_bytes=VALUE_BYTES * 2)
        with Producer(over_tcp(self.cluster.bootstrap), settings) as producer:
            for value in values:
                producer.send(self.topic, value, partition=0)
            assert producer.flush(IN_TIME_S)
            assert not [event for event in producer.take() if isinstance(event, Failed)]
        self.acknowledged += values

    def fill_active(self) -> None:
        """So that its active segment has some batches, and room for the next ones."""
        while not SEGMENT_BYTES // 3 < max(self.segments()).stat().st_size < SEGMENT_BYTES // 2:
            self.write(1)

    def segments(self) -> list[Path]:
        return sorted(self.directory(self.victim).glob("*.log"))

    def read(self) -> list[bytes | None]:
        with Consumer(over_tcp(self.cluster.bootstrap)) as consumer:
            consumer.assign(self.topic, [0])
            return [consumed.record.value for consumed in consumer.read_to_end()]

    def replicas(self) -> list[int]:
        [found] = [p for p in self.cluster.status().partitions if p.topic == self.topic]
        return [replica.broker for replica in found.replicas]

    def directory(self, broker: int) -> Path:
        return self.cluster.directory / f"broker-{broker}" / f"{self.topic}-0"

    def lead(self) -> None:
        """Have the victim lead, where it was not refused for good reason."""
        with BusClient() as servers:
            broker = any_broker(self.cluster.states(), servers, self.cluster.name)
            broker.request(
                elect_leaders.ElectLeadersRequest(
                    election_type=0,
                    topic_partitions=[
                        elect_leaders.TopicPartitions(topic=self.topic, partitions=[0])
                    ],
                    timeout_ms=5000,
                )
            )
        self.cluster.wait(
            lambda _: self.cluster.leader(self.topic) == self.victim, "the victim leads"
        )

    def assert_replicas_agree(self) -> None:
        def content(broker: int) -> bytes:
            return b"".join(p.read_bytes() for p in sorted(self.directory(broker).glob("*.log")))

        wanted = content(self.victim)
        for broker in (1, 2, 3):
            assert content(broker) == wanted, f"broker {broker} differs from {self.victim}"


def log_of(cluster: LiveCluster, broker: int) -> str:
    return (cluster.directory / "logs" / f"broker-{broker}.log").read_text()
