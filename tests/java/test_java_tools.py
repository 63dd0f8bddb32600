"""Apache Kafka's own command line tools against real processes, and over the files they left."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from tests.java import tools
from tests.live import killing
from tests.live.conftest import LiveCluster
from tests.live.killing import KclusterBrokers, Writer

pytestmark = [pytest.mark.java, pytest.mark.live, pytest.mark.timeout(300)]

COMPLAINTS = ("mismatch", "out of order", "non-consecutive", "corrupt", "could not be", "exception")


def test_topic_command_creates_lists_describes_alters_and_deletes(cluster: LiveCluster) -> None:
    def command(*arguments: str) -> str:
        return tools.run("TopicCommand", "--bootstrap-server", cluster.bootstrap, *arguments)

    named = ["--topic", "by-topic-command"]
    shape = ["--partitions", "3", "--replication-factor", "3", "--config", "retention.ms=60000"]
    assert "Created topic" in command("--create", *named, *shape)
    assert "by-topic-command" in command("--list").split()
    described = command("--describe", *named)
    assert "PartitionCount: 3" in described
    assert "ReplicationFactor: 3" in described
    assert "retention.ms=60000" in described
    assert len(re.findall(r"Isr: [\d,]{5}", described)) == 3
    command("--alter", *named, "--partitions", "5")
    assert "PartitionCount: 5" in command("--describe", *named)
    command("--delete", *named)
    assert "by-topic-command" not in command("--list").split()


@pytest.mark.parametrize("codec", ["none", "gzip", "snappy", "lz4", "zstd"])
def test_producer_performance_writes_in_every_codec(
    cluster: LiveCluster, topic: str, codec: str
) -> None:
    shape = ["--topic", topic, "--num-records", "20000", "--record-size", "100"]
    config = ["acks=all", f"compression.type={codec}", f"bootstrap.servers={cluster.bootstrap}"]
    out = tools.run(
        "ProducerPerformance", *shape, "--throughput", "-1", "--command-property", *config
    )
    assert "20000 records sent" in out
    assert len(killing.read_all(cluster.bootstrap, topic)) == 20_000


def test_verifiable_producer_is_acknowledged_for_every_record(
    cluster: LiveCluster, topic: str
) -> None:
    shape = ["--bootstrap-server", cluster.bootstrap, "--topic", topic]
    out = tools.run("VerifiableProducer", *shape, "--max-messages", "5000", "--throughput", "2000")
    lines = [json.loads(line) for line in out.splitlines() if line.startswith("{")]
    acknowledged = [line for line in lines if line["name"] == "producer_send_success"]
    assert len(acknowledged) == 5000
    assert not [line for line in lines if line["name"] == "producer_send_error"]
    values = sorted(int(m.value()) for m in killing.read_all(cluster.bootstrap, topic))
    assert values == list(range(5000))


def test_dump_log_segments_finds_nothing_wrong_in_any_file_of_the_cluster(
    cluster: LiveCluster,
) -> None:
    """After rolls, kills and truncation, while the brokers go on writing elsewhere."""
    topic = cluster.topic(
        partitions=2, configs={"segment.bytes": "1048576", "index.interval.bytes": "1024"}
    )
    brokers = KclusterBrokers(cluster.bootstrap, cluster.control)
    with Writer(cluster.bootstrap, topic, rate=5000, **{"compression.type": "lz4"}) as writer:
        for _ in range(2):
            writer.await_acknowledgements(5000)
            leader = killing.leader_of(cluster.bootstrap, topic)
            brokers.kill([leader])
            writer.await_acknowledgements(1000)
            brokers.start([leader])
            killing.await_in_sync(cluster.bootstrap, topic, 3)
    assert killing.audit(cluster.bootstrap, writer).is_clean
    cluster.wait_healthy()
    brokers.kill([1, 2, 3])
    data = sorted(Path(cluster.directory).glob("broker-*/*/*"))
    files = [file for file in data if file.suffix in (".log", ".index", ".timeindex")]
    assert len([file for file in files if file.suffix == ".log"]) >= 6
    names = ",".join(map(str, files))
    out = tools.run("DumpLogSegments", "--deep-iteration", "--files", names)
    brokers.start([1, 2, 3])
    wrong = [line for line in out.splitlines() if any(c in line.lower() for c in COMPLAINTS)]
    assert not wrong, wrong[:10]
