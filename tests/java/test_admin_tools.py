"""Apache Kafka's tools that look at a cluster and administrate it."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from confluent_kafka import Producer

from tests.java import tools
from tests.live.conftest import LiveCluster
from tests.live.test_administration import write

pytestmark = [pytest.mark.java, pytest.mark.live, pytest.mark.timeout(300)]


def fill(cluster: LiveCluster, *, records: int = 200, partitions: int = 2) -> str:
    """A new topic with as many records in each partition."""
    topic = cluster.topic(partitions=partitions)
    producer = Producer({"bootstrap.servers": cluster.bootstrap})
    for number in range(records):
        producer.produce(topic, str(number), partition=number % partitions)
    assert producer.flush(30) == 0
    return topic


def command(cluster: LiveCluster, tool: str, *arguments: str) -> str:
    return tools.run(tool, "--bootstrap-server", cluster.bootstrap, *arguments)


def test_get_offset_shell_finds_offsets_by_name_and_by_time(cluster: LiveCluster) -> None:
    topic = fill(cluster)

    def offsets(time: str) -> list[str]:
        out = command(cluster, "GetOffsetShell", "--topic-partitions", topic, "--time", time)
        return sorted(line for line in out.splitlines() if line.startswith(topic))

    assert offsets("latest") == [f"{topic}:0:100", f"{topic}:1:100"]
    assert offsets("earliest") == [f"{topic}:0:0", f"{topic}:1:0"]
    assert offsets("1577836800000") == [f"{topic}:0:0", f"{topic}:1:0"]
    assert len(offsets("max-timestamp")) == 2


def test_end_to_end_latency_sends_and_receives_each_record(
    cluster: LiveCluster, topic: str
) -> None:
    tools.requires(cluster.bootstrap, "OffsetCommit", "OffsetFetch")
    shape = ["--num-records", "200", "--producer-acks", "all", "--record-size", "100"]
    out = command(cluster, "EndToEndLatency", "--topic", topic, *shape)
    assert re.search(r"Avg latency: [\d.]+ ms", out)


def test_log_dirs_command_sees_every_replica_and_its_size(cluster: LiveCluster) -> None:
    tools.requires(cluster.bootstrap, "DescribeLogDirs")
    topic = fill(cluster)
    out = command(cluster, "LogDirsCommand", "--describe", "--topic-list", topic)
    described = json.loads(next(line for line in out.splitlines() if line.startswith("{")))
    assert sorted(broker["broker"] for broker in described["brokers"]) == [1, 2, 3]
    for broker in described["brokers"]:
        found = [each for folder in broker["logDirs"] for each in folder["partitions"]]
        assert {each["partition"] for each in found} == {f"{topic}-0", f"{topic}-1"}
        assert all(each["size"] > 0 and not each["isFuture"] for each in found)


def test_leader_election_command_gives_a_leadership_back(cluster: LiveCluster) -> None:
    tools.requires(cluster.bootstrap, "ElectLeaders")
    topic = fill(cluster)
    preferred = cluster.leader(topic)
    cluster.stop(preferred)
    cluster.start(preferred)
    cluster.wait_healthy()
    one = ["--election-type", "preferred", "--topic", topic, "--partition", "0"]
    assert re.search("(?i)success|valid replica", command(cluster, "LeaderElectionCommand", *one))
    assert cluster.leader(topic) == preferred
    every = ["--election-type", "preferred", "--all-topic-partitions"]
    command(cluster, "LeaderElectionCommand", *every)


def test_config_command_alters_and_describes_a_topic(cluster: LiveCluster, topic: str) -> None:
    def config(*arguments: str) -> str:
        named = ["--entity-type", "topics", "--entity-name", topic]
        return command(cluster, "kafka.admin.ConfigCommand", *arguments, *named)

    config("--alter", "--add-config", "retention.ms=700000,max.message.bytes=2000000")
    assert {"retention.ms=700000", "max.message.bytes=2000000"} <= set(config("--describe").split())
    config("--alter", "--delete-config", "max.message.bytes")
    assert "max.message.bytes" not in config("--describe")
    assert "max.message.bytes=1048588" in config("--describe", "--all")


def test_config_command_alters_and_describes_all_brokers(cluster: LiveCluster) -> None:
    def config(*arguments: str) -> str:
        named = ["--entity-type", "brokers", "--entity-default"]
        return command(cluster, "kafka.admin.ConfigCommand", *arguments, *named)

    config("--alter", "--add-config", "log.retention.ms=86400000")
    assert "log.retention.ms=86400000" in config("--describe")
    config("--alter", "--delete-config", "log.retention.ms")
    assert "log.retention.ms" not in config("--describe")


def test_delete_records_command_trims_and_refuses_what_is_not_there(
    cluster: LiveCluster, tmp_path: Path
) -> None:
    tools.requires(cluster.bootstrap, "DeleteRecords")
    topic = fill(cluster)
    file = tmp_path / "trim.json"

    def trim(**offsets: int) -> str:
        wanted = [
            {"topic": topic, "partition": int(partition[1:]), "offset": offset}
            for partition, offset in offsets.items()
        ]
        file.write_text(json.dumps({"partitions": wanted, "version": 1}))
        at = ["--bootstrap-server", cluster.bootstrap, "--offset-json-file", str(file)]
        return tools.refusal("DeleteRecordsCommand", *at)

    out = trim(p0=10, p1=-1)
    assert re.search(rf"{topic}-0\s+low_watermark: 10", out)
    assert re.search(rf"{topic}-1\s+low_watermark: 100", out)
    named = ["--topic-partitions", f"{topic}:0", "--time", "earliest"]
    assert f"{topic}:0:10" in command(cluster, "GetOffsetShell", *named)
    assert "OFFSET_OUT_OF_RANGE" in trim(p0=10**9)


def test_metadata_quorum_command_prints_the_coordinator_and_its_observers(
    cluster: LiveCluster,
) -> None:
    status = command(cluster, "MetadataQuorumCommand", "describe", "--status")
    assert re.search(r"LeaderId: +0\n", status)
    assert re.search(r"CurrentVoters: +\[\{\"id\": 0\}\]", status)
    assert re.search(r"CurrentObservers: +\[\{\"id\": 1\}, \{\"id\": 2\}, \{\"id\": 3\}\]", status)
    replication = command(cluster, "MetadataQuorumCommand", "describe", "--replication")
    assert len(re.findall(r"\bObserver\b", replication)) == 3


def test_transactions_command_describes_idempotent_producers(
    cluster: LiveCluster, topic: str
) -> None:
    write(cluster, topic, 3, **{"enable.idempotence": True})
    tp = ["--topic", topic, "--partition", "0"]
    out = command(cluster, "TransactionsCommand", "describe-producers", *tp)
    assert re.search(r"^\d+\s+0\s+-1\s+2\s", out, re.MULTILINE), out


def test_reassign_partitions_command_lists_no_reassignment(cluster: LiveCluster) -> None:
    out = command(cluster, "reassign.ReassignPartitionsCommand", "--list")
    assert "No partition reassignments found" in out


def test_config_command_sets_shows_and_removes_quotas(cluster: LiveCluster) -> None:
    tools.requires(cluster.bootstrap, "DescribeClientQuotas", "AlterClientQuotas")

    def configs(*arguments: str) -> str:
        return command(cluster, "kafka.admin.ConfigCommand", *arguments)

    app = ["--entity-type", "clients", "--entity-name", "java-app"]
    pair = ["--entity-type", "users", "--entity-default", "--entity-type", "clients",
            "--entity-default"]  # fmt: skip
    rates = "producer_byte_rate=1048576,consumer_byte_rate=2097152,request_percentage=12.5"
    configs("--alter", *app, "--add-config", rates)
    configs("--alter", *pair, "--add-config", "producer_byte_rate=77")
    told = configs("--describe", *app)
    assert "producer_byte_rate=1048576.0" in told
    assert "request_percentage=12.5" in told
    assert "producer_byte_rate=77.0" in configs("--describe", *pair)
    refused = tools.refusal(
        "kafka.admin.ConfigCommand", "--bootstrap-server", cluster.bootstrap, "--alter", *app,
        "--add-config", "controller_mutation_rate=5",
    )  # fmt: skip
    assert "controller_mutation_rate is refused" in refused
    keys = "producer_byte_rate,consumer_byte_rate,request_percentage"
    configs("--alter", *app, "--delete-config", keys)
    configs("--alter", *pair, "--delete-config", "producer_byte_rate")
    assert "java-app" not in configs("--describe", "--entity-type", "clients")


def test_reassign_partitions_command_moves_replicas_and_lists_them(
    cluster: LiveCluster, tmp_path: Path
) -> None:
    tools.requires(cluster.bootstrap, "AlterPartitionReassignments")
    topic = cluster.topic(partitions=2, replicas=2)
    write(cluster, topic, 500)
    spare = {
        p.partition: ({1, 2, 3} - {r.broker for r in p.replicas}).pop()
        for p in cluster.status().partitions
        if p.topic == topic
    }
    plan = [
        {"topic": topic, "partition": index, "replicas": [id, id % 3 + 1]}
        for index, id in spare.items()
    ]
    file = tmp_path / "plan.json"
    file.write_text(json.dumps({"version": 1, "partitions": plan}))

    def reassign(*arguments: str) -> str:
        return command(cluster, "reassign.ReassignPartitionsCommand", *arguments)

    throttle = ("--throttle", "10000000")
    out = reassign("--reassignment-json-file", str(file), "--execute", *throttle)
    assert "Successfully started partition reassignments" in out
    cluster.wait(lambda status: not any(p.is_reassigning for p in status.partitions), "moved")
    out = reassign("--reassignment-json-file", str(file), "--verify")
    assert out.count("is completed") == 2
    assert "Clearing broker-level throttles" in out
    assert "No partition reassignments found" in reassign("--list")
    found = {p.partition: p for p in cluster.status().partitions if p.topic == topic}
    for each in plan:
        replicas = found[each["partition"]].replicas
        assert [replica.broker for replica in replicas] == each["replicas"]


def test_reassign_partitions_command_cancels(cluster: LiveCluster, tmp_path: Path) -> None:
    tools.requires(cluster.bootstrap, "AlterPartitionReassignments")
    topic = cluster.topic(replicas=2)
    write(cluster, topic, 500)
    [before] = [p for p in cluster.status().partitions if p.topic == topic]
    have = [replica.broker for replica in before.replicas]
    plan = {"topic": topic, "partition": 0, "replicas": [1, 2, 3]}
    file = tmp_path / "plan.json"
    file.write_text(json.dumps({"version": 1, "partitions": [plan]}))

    def reassign(*arguments: str) -> str:
        given = ("--reassignment-json-file", str(file), *arguments)
        return command(cluster, "reassign.ReassignPartitionsCommand", *given)

    reassign("--execute", "--throttle", "1")
    assert "Successfully cancelled" in reassign("--cancel")
    [after] = [p for p in cluster.status().partitions if p.topic == topic]
    assert sorted(replica.broker for replica in after.replicas) == sorted(have)
