"""Damaged files under real brokers: found, never served, repaired from a peer, nothing lost.

The whole table runs on one cluster and one topic. Each case stops the broker that is preferred
to lead, damages one file of it, writes on meanwhile, starts it, and has it lead: then everything
that was ever acknowledged is read through it, or through whoever takes over, and all replicas
hold the same bytes.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path

import pytest

from kcluster.client.connect import over_tcp
from kcluster.client.consumer import Consumer
from kcluster.client.control import BusClient
from kcluster.client.producer import Producer
from kcluster.client.requests import any_broker
from kcluster.client.status import ClusterStatus
from kcluster.core.client.producer import Failed, ProducerSettings
from kcluster.wire.messages import elect_leaders
from tests.live import damage
from tests.live.conftest import LiveCluster
from tests.live.damage import ATLAS, Case

pytestmark = [pytest.mark.live, pytest.mark.timeout(180)]

TOPIC = "damaged"
SEGMENT_BYTES = 1 << 20
VALUE_BYTES = 30_000
IN_TIME_S = 20


class Patient:
    """A cluster, its topic, and all that was ever acknowledged."""

    def __init__(self) -> None:
        self.cluster = LiveCluster("damage", options={"auto.leader.rebalance.enable": "false"})
        self.cluster.topic(
            TOPIC,
            configs={"segment.bytes": str(SEGMENT_BYTES), "min.insync.replicas": "2"},
        )
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
                producer.send(TOPIC, value, partition=0)
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
            consumer.assign(TOPIC, [0])
            return [consumed.record.value for consumed in consumer.read_to_end()]

    def replicas(self) -> list[int]:
        [found] = [p for p in self.cluster.status().partitions if p.topic == TOPIC]
        return [replica.broker for replica in found.replicas]

    def directory(self, broker: int) -> Path:
        return self.cluster.directory / f"broker-{broker}" / f"{TOPIC}-0"

    def lead(self) -> None:
        """Have the victim lead, where it was not refused for good reason."""
        with BusClient() as servers:
            broker = any_broker(self.cluster.states(), servers, self.cluster.name)
            broker.request(
                elect_leaders.ElectLeadersRequest(
                    election_type=0,
                    topic_partitions=[elect_leaders.TopicPartitions(topic=TOPIC, partitions=[0])],
                    timeout_ms=5000,
                )
            )
        self.cluster.wait(lambda _: self.cluster.leader(TOPIC) == self.victim, "the victim leads")

    def assert_replicas_agree(self) -> None:
        def content(broker: int) -> bytes:
            return b"".join(p.read_bytes() for p in sorted(self.directory(broker).glob("*.log")))

        wanted = content(self.victim)
        for broker in (1, 2, 3):
            assert content(broker) == wanted, f"broker {broker} differs from {self.victim}"


@pytest.fixture(scope="module")
def patient(live_home: Path) -> Iterator[Patient]:
    made = Patient()
    yield made
    made.cluster.close()


def log_of(cluster: LiveCluster, broker: int) -> str:
    return (cluster.directory / "logs" / f"broker-{broker}.log").read_text()


@pytest.mark.parametrize("case", ATLAS, ids=lambda case: case.name)
def test_a_damaged_file_costs_nothing_that_was_acknowledged(patient: Patient, case: Case) -> None:
    cluster, victim = patient.cluster, patient.victim
    patient.fill_active()
    if case.file in damage.CHECKPOINTS:
        # Written by now, whatever the case before did to it.
        cluster.stop(victim)
        cluster.start(victim)
        cluster.wait_healthy()
    said_before = len(log_of(cluster, victim))
    (cluster.kill if case.is_killed else cluster.stop)(victim)
    before = patient.directory(victim)
    kept = {path.name for path in before.parent.iterdir() if path.is_dir()}
    case.damage(damage.target(before, case.file))
    patient.write(2)
    cluster.start(victim)
    status = cluster.wait_healthy()
    if case.found == "served":
        patient.lead()
        assert patient.read() == patient.acknowledged
        status = cluster.wait(lambda now: not now.is_healthy, "the damage is found")
        assert any("logs failed" in problem for problem in status.problems)
        assert cluster.leader(TOPIC) != victim
        patient.write(1)
        cluster.stop(victim)
        cluster.start(victim)
        status = cluster.wait_healthy()
    if case.said:
        assert case.said in log_of(cluster, victim)[said_before:]
        assert any(case.said in notice for notice in status.notices), status.notices
    assert not status_lacks_records(status)
    patient.lead()
    assert patient.read() == patient.acknowledged
    patient.assert_replicas_agree()
    assert {name.partition(".")[0] for name in kept} <= {
        path.name.partition(".")[0] for path in before.parent.iterdir()
    }, "something was deleted"


def status_lacks_records(status: ClusterStatus) -> bool:
    return any(partition.may_lack_records for partition in status.partitions)
