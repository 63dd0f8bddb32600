"""A cluster watched as it changes: what is pushed equals what is answered when asked."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Callable

import pytest
from confluent_kafka import Producer

from kcluster.client.control import UsageError
from kcluster.client.find import watch
from kcluster.client.snapshot import ClusterSnapshot, PartitionStatus
from kcluster.client.watch import Sight, Watch
from tests.live.conftest import LiveCluster
from tests.live.test_commands import ok

pytestmark = [pytest.mark.live, pytest.mark.timeout(120)]

LOOKS = 240
"""At 50 ms each."""


def until(watching: Watch, is_true: Callable[[Sight], bool], what: str) -> Sight:
    for _ in range(LOOKS):
        sight = watching.look()
        if is_true(sight):
            return sight
    raise AssertionError(f"not seen: {what}")


def produce(cluster: LiveCluster, topic: str, count: int) -> None:
    producer = Producer({"bootstrap.servers": cluster.bootstrap, "acks": "all"})
    for _ in range(count):
        producer.produce(topic, b"value")
    assert producer.flush(30) == 0


def partition(snapshot: ClusterSnapshot, topic: str) -> PartitionStatus | None:
    return next((found for found in snapshot.partitions if found.topic == topic), None)


def figures(snapshot: ClusterSnapshot) -> list[PartitionStatus]:
    return sorted(snapshot.partitions, key=lambda each: (each.topic, each.partition))


def test_what_is_pushed_is_what_is_answered(cluster: LiveCluster, topic: str) -> None:
    cluster.wait_healthy()
    with watch(cluster.name, interval_ms=50) as watching:
        until(watching, lambda sight: partition(sight.snapshot, topic) is not None, "the topic")
        produce(cluster, topic, 3)
        until(
            watching,
            lambda sight: figures(sight.snapshot) == figures(cluster.status()),
            "the figures of a status",
        )
        told = partition(watching.look().snapshot, topic)
        assert told is not None
        assert [replica.log_end for replica in told.replicas] == [3, 3, 3]


def test_a_dead_broker_keeps_its_last_figures_and_falls_behind(
    cluster: LiveCluster, topic: str
) -> None:
    with watch(cluster.name, interval_ms=50) as watching:
        produce(cluster, topic, 2)

        def is_everywhere(sight: Sight) -> bool:
            told = partition(sight.snapshot, topic)
            return told is not None and all(replica.log_end == 2 for replica in told.replicas)

        until(watching, is_everywhere, "two records everywhere")
        victim = next(id for id in (1, 2, 3) if id != cluster.leader(topic))
        cluster.kill(victim)
        produce(cluster, topic, 1)

        def is_behind(sight: Sight) -> bool:
            told = partition(sight.snapshot, topic)
            assert told is not None
            replica = next(each for each in told.replicas if each.broker == victim)
            return (replica.role, replica.log_end, replica.lag) == ("down", 2, 1)

        until(watching, is_behind, "a lag of one record")
        cluster.start(victim)
        until(watching, is_everywhere_of(topic, 3), "three records everywhere")


def is_everywhere_of(topic: str, end: int) -> Callable[[Sight], bool]:
    def is_everywhere(sight: Sight) -> bool:
        told = partition(sight.snapshot, topic)
        return told is not None and all(
            (replica.role != "down", replica.log_end) == (True, end) for replica in told.replicas
        )

    return is_everywhere


def test_leaders_are_seen_while_there_is_no_coordinator(cluster: LiveCluster, topic: str) -> None:
    cluster.kill(0)
    try:
        with watch(cluster.name, interval_ms=50) as watching:
            sight = until(
                watching,
                lambda sight: partition(sight.snapshot, topic) is not None,
                "the image of a broker",
            )
            assert sight.snapshot.coordinator.state == "killed"
    finally:
        cluster.start(0)


def test_a_cluster_that_does_not_run_is_refused() -> None:
    with pytest.raises(UsageError) as refused:
        watch("no-such-cluster")
    assert refused.value.exit_code == 3


def test_metrics_are_printed_once_or_served(cluster: LiveCluster, topic: str) -> None:
    produce(cluster, topic, 3)
    wanted = re.compile(rf'brokertopicmetrics_messagesin_total{{broker="\d",topic="{topic}"}} 3.0')
    assert wanted.search(ok("metrics", "-c", cluster.name, "--once"))
    command = [sys.executable, "-m", "kcluster.cli.main", "metrics", "-c", cluster.name]
    with subprocess.Popen([*command, "--port", "0"], stdout=subprocess.PIPE, text=True) as serving:
        assert serving.stdout is not None
        try:
            url = serving.stdout.readline().strip()
            with urllib.request.urlopen(url, timeout=30) as response:
                assert wanted.search(response.read().decode())
        finally:
            serving.send_signal(signal.SIGINT)
        assert serving.wait(30) == 130
