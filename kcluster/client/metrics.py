"""A snapshot as Prometheus metrics.

Names are those of Apache Kafka's MBeans as the JMX exporter's example rules write them
(`kafka_server_brokertopicmetrics_bytesin_total`), of kafka_exporter for what groups lag
(`kafka_consumergroup_lag`), and begin with `kcluster_` for what only we have. Kafka's brokers are
scraped one by one; here one endpoint speaks for all, so each sample names its broker.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)

from kcluster.client.snapshot import BrokerStatus, ClusterSnapshot
from kcluster.core.client.results import Group
from kcluster.wire.apis import APIS
from kcluster.wire.telling import REQUEST_BOUNDS_MS, Counters, RequestTimes

EVENTS = {
    "IsrShrunk": ("kafka_server_replicamanager_isrshrinks", "ISRs that lost a replica"),
    "IsrExpanded": ("kafka_server_replicamanager_isrexpands", "ISRs that took a replica back"),
    "Elected": (
        "kafka_controller_controllerstats_leaderelections",
        "Elections; first leaders, and those that found nobody, included",
    ),
}


def families(snapshot: ClusterSnapshot, groups: Iterable[Group]) -> Iterator[Metric]:
    yield from _cluster(snapshot)
    yield from _events(snapshot)
    yield from _processes(snapshot)
    yield from _brokers(snapshot)
    yield from _topics(snapshot)
    yield from _requests(snapshot)
    yield from _throttled(snapshot)
    yield from _replicas(snapshot)
    yield from _groups(groups)


def _cluster(snapshot: ClusterSnapshot) -> Iterator[Metric]:
    partitions = snapshot.partitions
    for name, text, value in (
        ("kafka_brokers", "Brokers that run and are not fenced", _alive(snapshot)),
        (
            "kafka_controller_kafkacontroller_activecontrollercount",
            "1 while the coordinator runs",
            snapshot.coordinator.state == "running",
        ),
        (
            "kafka_controller_kafkacontroller_offlinepartitionscount",
            "Partitions without a leader",
            sum(partition.is_offline for partition in partitions),
        ),
        (
            "kafka_controller_kafkacontroller_globalpartitioncount",
            "Partitions of all topics",
            len(partitions),
        ),
        ("kcluster_up_seconds", "Since the supervisor started", snapshot.up_ms / 1000),
    ):
        yield GaugeMetricFamily(name, text, value=float(value))
    health = GaugeMetricFamily("kcluster_health", "1 for the one that it is", labels=["health"])
    for word in ("ok", "degraded", "unavailable"):
        health.add_metric([word], float(snapshot.health == word))
    yield health


def _alive(snapshot: ClusterSnapshot) -> int:
    return sum(b.state == "running" and b.is_fenced is False for b in snapshot.brokers)


def _events(snapshot: ClusterSnapshot) -> Iterator[Metric]:
    for event, (name, text) in EVENTS.items():
        yield CounterMetricFamily(name, text, value=snapshot.events.get(event, 0))
    every = CounterMetricFamily(
        "kcluster_events", "Events since the supervisor started", labels=["event"]
    )
    for event, count in sorted(snapshot.events.items()):
        every.add_metric([event], count)
    yield every


def _processes(snapshot: ClusterSnapshot) -> Iterator[Metric]:
    up = GaugeMetricFamily("kcluster_process_up", "1 while it runs", labels=["process"])
    memory = GaugeMetricFamily(
        "kcluster_process_resident_memory_bytes", "Of each process", labels=["process"]
    )
    cpu = CounterMetricFamily(
        "kcluster_process_cpu_seconds", "User and system time, of this pid", labels=["process"]
    )
    starts = CounterMetricFamily("kcluster_process_starts", "Of each seat", labels=["process"])
    coordinator, supervisor = snapshot.coordinator, snapshot.supervisor
    rows = [
        ("supervisor", "running", supervisor.rss, supervisor.cpu_ms, 1),
        ("coordinator", coordinator.state, coordinator.rss, coordinator.cpu_ms, coordinator.starts),
        *((f"broker-{b.id}", b.state, b.rss, b.cpu_ms, b.starts) for b in snapshot.brokers),
    ]
    for name, state, rss, cpu_ms, started in rows:
        up.add_metric([name], float(state == "running"))
        starts.add_metric([name], started)
        if rss:
            memory.add_metric([name], rss)
            cpu.add_metric([name], cpu_ms / 1000)
    yield from (up, memory, cpu, starts)


def _brokers(snapshot: ClusterSnapshot) -> Iterator[Metric]:
    gauges = {
        name: GaugeMetricFamily(f"kafka_{name}", text, labels=["broker"])
        for name, text in (
            ("server_replicamanager_leadercount", "Partitions that it leads"),
            ("server_replicamanager_partitioncount", "Replicas that it has"),
            (
                "server_replicamanager_underreplicatedpartitions",
                "Partitions that it leads with fewer in-sync replicas than assigned",
            ),
            ("server_replicafetchermanager_maxlag", "Records that its worst replica lacks"),
            ("server_socketservermetrics_connection_count", "Open TCP connections of clients"),
        )
    }
    under = [partition.leader for partition in snapshot.partitions if partition.is_under_replicated]
    for broker in snapshot.brokers:
        for name, value in (
            ("server_replicamanager_leadercount", broker.leads),
            ("server_replicamanager_partitioncount", broker.replicas),
            ("server_replicamanager_underreplicatedpartitions", under.count(broker.id)),
            ("server_replicafetchermanager_maxlag", broker.max_lag),
            (
                "server_socketservermetrics_connection_count",
                broker.counters.connections if broker.counters else None,
            ),
        ):
            if value is not None:
                gauges[name].add_metric([str(broker.id)], value)
    yield from gauges.values()


def _topics(snapshot: ClusterSnapshot) -> Iterator[Metric]:
    for field, name, text in (
        ("bytes_in", "bytesin", "Record batches that clients wrote"),
        ("bytes_out", "bytesout", "Record batches that clients read"),
        ("records_in", "messagesin", "Records that clients wrote"),
    ):
        family = CounterMetricFamily(
            f"kafka_server_brokertopicmetrics_{name}", text, labels=["broker", "topic"]
        )
        for broker, counters in _counted(snapshot):
            for topic, traffic in sorted(counters.topics.items()):
                family.add_metric([str(broker.id), topic], getattr(traffic, field))
        yield family


def _requests(snapshot: ClusterSnapshot) -> Iterator[Metric]:
    family = HistogramMetricFamily(
        "kafka_network_requestmetrics_totaltime_seconds",
        "Requests over TCP, from the last byte to the answer; time in purgatory included",
        labels=["broker", "request"],
    )
    for broker, counters in _counted(snapshot):
        for times in counters.requests:
            name = APIS[times.api].name if times.api in APIS else str(times.api)
            family.add_metric(
                [str(broker.id), name], buckets=_cumulative(times), sum_value=times.total_us / 1e6
            )
    yield family


def _throttled(snapshot: ClusterSnapshot) -> Iterator[Metric]:
    requests = CounterMetricFamily(
        "kcluster_throttled_requests",
        "Answers that told clients over their quotas to wait",
        labels=["broker"],
    )
    told = CounterMetricFamily(
        "kcluster_throttle_seconds", "For how long they were told to wait", labels=["broker"]
    )
    for broker, counters in _counted(snapshot):
        requests.add_metric([str(broker.id)], counters.throttled.requests)
        told.add_metric([str(broker.id)], counters.throttled.total_ms / 1000)
    yield from (requests, told)


def _cumulative(times: RequestTimes) -> list[tuple[str, float]]:
    buckets, count = [], 0
    for bound_ms, within in zip((*REQUEST_BOUNDS_MS, None), times.buckets, strict=True):
        count += within
        buckets.append(("+Inf" if bound_ms is None else str(bound_ms / 1000), float(count)))
    return buckets


def _replicas(snapshot: ClusterSnapshot) -> Iterator[Metric]:
    leader = GaugeMetricFamily(
        "kafka_topic_partition_leader", "Broker id, -1 for none", labels=["topic", "partition"]
    )
    in_sync = GaugeMetricFamily(
        "kafka_topic_partition_in_sync_replica", "Size of the ISR", labels=["topic", "partition"]
    )
    assigned = GaugeMetricFamily(
        "kafka_topic_partition_replicas", "Replicas assigned", labels=["topic", "partition"]
    )
    labels = ["broker", "topic", "partition"]
    replica_gauges = {
        "size": GaugeMetricFamily("kafka_log_log_size", "Bytes", labels=labels),
        "segments": GaugeMetricFamily("kafka_log_log_numlogsegments", "Segments", labels=labels),
        "log_start": GaugeMetricFamily("kafka_log_log_logstartoffset", "Inclusive", labels=labels),
        "log_end": GaugeMetricFamily("kafka_log_log_logendoffset", "Exclusive", labels=labels),
        "lag": GaugeMetricFamily(
            "kafka_server_fetcherlagmetrics_consumerlag",
            "Records that this replica lacks of its leader's",
            labels=labels,
        ),
    }
    for partition in snapshot.partitions:
        place = [partition.topic, str(partition.partition)]
        leader.add_metric(place, partition.leader)
        in_sync.add_metric(place, len(partition.isr))
        assigned.add_metric(place, len(partition.replicas))
        for replica in partition.replicas:
            values = {
                "size": replica.size,
                "segments": len(replica.segments) if replica.size is not None else None,
                "log_start": replica.log_start,
                "log_end": replica.log_end,
                "lag": replica.lag,
            }
            for name, value in values.items():
                if value is not None:
                    replica_gauges[name].add_metric([str(replica.broker), *place], value)
    yield from (leader, in_sync, assigned, *replica_gauges.values())


def _groups(groups: Iterable[Group]) -> Iterator[Metric]:
    labels = ["consumergroup", "topic", "partition"]
    lag = GaugeMetricFamily(
        "kafka_consumergroup_lag", "Records behind what is committed", labels=labels
    )
    committed = GaugeMetricFamily(
        "kafka_consumergroup_current_offset", "What is committed", labels=labels
    )
    members = GaugeMetricFamily(
        "kafka_consumergroup_members", "Members of each group", labels=["consumergroup"]
    )
    for group in groups:
        members.add_metric([group.group], len(group.members))
        for partition in group.partitions:
            place = [group.group, partition.topic, str(partition.partition)]
            if partition.lag is not None:
                lag.add_metric(place, partition.lag)
            if partition.committed is not None:
                committed.add_metric(place, partition.committed)
    yield from (lag, committed, members)


def _counted(snapshot: ClusterSnapshot) -> Iterator[tuple[BrokerStatus, Counters]]:
    for broker in snapshot.brokers:
        if broker.counters is not None:
            yield broker, broker.counters
