"""Bugs of the product that seeds have found, each as the shortest story that shows it."""

from __future__ import annotations

from typing import Any

from kcluster.check.history import History
from kcluster.model import COORDINATOR, TopicPartition
from kcluster.sim.admin import create_topic
from kcluster.sim.clients import Producer, SimClient
from kcluster.sim.cluster import SimCluster
from kcluster.sim.cores import make_broker, make_controller

ORDERS = TopicPartition("orders", 0)


def cluster_with(settings: dict[str, str], configs: dict[str, str]) -> tuple[SimCluster, SimClient]:
    """Three brokers and a topic."""
    cluster = SimCluster(
        "regression", make_broker=make_broker, make_controller=make_controller, settings=settings
    )
    cluster.start_all()
    client = SimClient(cluster, "client", History())
    client.live(create_topic(client, "orders", 1, 3, configs=configs))
    cluster.run_until(lambda: not client.running, 10_000, "the topic is created")
    return cluster, client


def test_a_broker_that_does_not_know_its_topics_configs_yet_deletes_nothing() -> None:
    cluster, client = cluster_with(
        {
            "log.retention.ms": "500",
            "log.retention.check.interval.ms": "100",
            "replica.high.watermark.checkpoint.interval.ms": "100",
        },
        {"retention.ms": "-1"},
    )
    client.live(Producer(client, ORDERS, limit=5).life())
    cluster.run_until(lambda: not client.running, 10_000, "five records are written")
    cluster.run(500)  # What is committed is told to the followers, and to the checkpoint.
    cluster.kill(COORDINATOR)
    cluster.kill(1)
    cluster.start(1)
    cluster.run(3_000)
    core: Any = cluster.processes[1].core
    assert core.replicas[ORDERS].log.log_end_offset == 5
    assert core.replicas[ORDERS].log.log_start_offset == 0
