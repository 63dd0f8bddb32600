"""A snapshot as Prometheus reads it, and the dashboard that shows it."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from prometheus_client.core import CollectorRegistry, Metric
from prometheus_client.exposition import generate_latest
from prometheus_client.parser import text_string_to_metric_families

from kcluster.client.metrics import families
from kcluster.client.snapshot import (
    BrokerStatus,
    ClusterSnapshot,
    CoordinatorStatus,
    PartitionStatus,
    ReplicaStatus,
    SupervisorStatus,
)
from kcluster.core.client.results import Group, GroupOffset
from kcluster.wire import telling

Samples = dict[tuple[str, tuple[tuple[str, str], ...]], float]
"""By name and labels."""

EXAMPLES = Path(__file__).parents[2] / "examples" / "metrics"

FETCH_TIMES = telling.RequestTimes(1, 4, 7_000, [1, 2, *[0] * 10, 1])

SNAPSHOT = ClusterSnapshot(
    1, "dev", "degraded", ["broker 2 is killed"], "id", "127.0.0.1:19092", "/data",
    SupervisorStatus(10, 1000, 20),
    CoordinatorStatus(11, "running", "/data/coordinator", 5, 1, 2000, 30, 1),
    [
        BrokerStatus(
            1, 12, "running", "127.0.0.1", 19092, "/data/broker-1", False, 2, 3, 3000, 4500, 1,
            leads=1, replicas=1, max_lag=0,
            counters=telling.Counters(
                telling.Traffic(100, 50, 7), {"orders": telling.Traffic(100, 50, 7)},
                [FETCH_TIMES], 3, telling.Throttled(2, 1500),
            ),
        ),
        BrokerStatus(2, None, "killed", "127.0.0.1", 19093, "/data/broker-2", True, replicas=1),
    ],
    [
        PartitionStatus(
            "orders", 0, 1, 4, [1], [], [
                ReplicaStatus(1, "leader", 0, 7, 7, 0, 100, [(0, 60), (5, 40)]),
                ReplicaStatus(2, "down", 0, 5, 5, 2, 60, [(0, 60)]),
            ]
        ),
        PartitionStatus("orders", 1, -1, 2, [], [2], [ReplicaStatus(2, "down")]),
    ],
    events={"IsrShrunk": 2, "Elected": 3},
)  # fmt: skip

GROUPS = [
    Group(
        "billing", "Stable", "consumer", "range", 1, [],
        [
            GroupOffset("orders", 0, 4, 0, 7, 3, None, None, None),
            GroupOffset("orders", 1, None, None, None, None, None, None, None),
        ],
    )
]  # fmt: skip


class Fixed:
    def collect(self) -> list[Metric]:
        return list(families(SNAPSHOT, GROUPS))


@pytest.fixture(scope="module")
def samples() -> Samples:
    registry = CollectorRegistry()
    registry.register(Fixed())
    text = generate_latest(registry).decode()
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


@pytest.mark.parametrize(
    ("name", "labels", "value"),
    [
        ("kafka_brokers", {}, 1),
        ("kafka_controller_kafkacontroller_offlinepartitionscount", {}, 1),
        ("kafka_controller_kafkacontroller_activecontrollercount", {}, 1),
        ("kafka_server_replicamanager_underreplicatedpartitions", {"broker": "1"}, 1),
        ("kafka_server_replicamanager_isrshrinks_total", {}, 2),
        ("kafka_server_replicamanager_isrexpands_total", {}, 0),
        (
            "kafka_server_brokertopicmetrics_messagesin_total",
            {"broker": "1", "topic": "orders"},
            7,
        ),
        ("kafka_log_log_size", {"broker": "2", "topic": "orders", "partition": "0"}, 60),
        (
            "kafka_server_fetcherlagmetrics_consumerlag",
            {"broker": "2", "topic": "orders", "partition": "0"},
            2,
        ),
        ("kafka_topic_partition_leader", {"topic": "orders", "partition": "1"}, -1),
        (
            "kafka_consumergroup_lag",
            {"consumergroup": "billing", "topic": "orders", "partition": "0"},
            3,
        ),
        ("kcluster_process_up", {"process": "broker-2"}, 0),
        ("kcluster_process_cpu_seconds_total", {"process": "broker-1"}, 4.5),
        ("kcluster_throttled_requests_total", {"broker": "1"}, 2),
        ("kcluster_throttle_seconds_total", {"broker": "1"}, 1.5),
        ("kcluster_health", {"health": "degraded"}, 1),
    ],
)
def test_a_figure_has_the_name_that_users_of_kafka_know(
    samples: Samples,
    name: str,
    labels: dict[str, str],
    value: float,
) -> None:
    assert samples[name, tuple(sorted(labels.items()))] == value


def test_request_times_are_a_cumulative_histogram_in_seconds(
    samples: Samples,
) -> None:
    name = "kafka_network_requestmetrics_totaltime_seconds"
    place = (("broker", "1"), ("request", "Fetch"))
    buckets = {
        dict(labels)["le"]: value for (each, labels), value in samples.items()
        if each == f"{name}_bucket"
    }  # fmt: skip
    assert (buckets["0.0005"], buckets["0.001"], buckets["5.0"], buckets["+Inf"]) == (1, 3, 3, 4)
    assert samples[f"{name}_sum", place] == 0.007
    assert samples[f"{name}_count", place] == 4


def test_what_is_not_known_is_left_out(
    samples: Samples,
) -> None:
    told = {(name, labels) for name, labels in samples if ("partition", "1") in labels}
    assert {name for name, _ in told} == {
        "kafka_topic_partition_leader",
        "kafka_topic_partition_in_sync_replica",
        "kafka_topic_partition_replicas",
    }


def test_the_dashboard_asks_for_nothing_that_is_not_there(
    samples: Samples,
) -> None:
    known = {name for name, _ in samples}
    panels = json.loads((EXAMPLES / "grafana.json").read_text("utf-8"))["panels"]
    asked = {
        name
        for panel in panels
        for target in panel["targets"]
        for name in re.findall(r"k(?:afka|cluster)_[a-z_]+", target["expr"])
    }
    assert len(asked) > 12
    assert asked <= known
