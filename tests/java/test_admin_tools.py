"""Apache Kafka's own tools of administration against real processes."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from tests.java import tools
from tests.live.conftest import LiveCluster
from tests.live.test_administration import write

pytestmark = [pytest.mark.java, pytest.mark.live, pytest.mark.timeout(300)]


def run(tool: str, cluster: LiveCluster, *arguments: str) -> str:
    return tools.run(tool, "--bootstrap-server", cluster.bootstrap, *arguments)


def test_metadata_quorum_command_prints_the_coordinator_and_its_observers(
    cluster: LiveCluster,
) -> None:
    status = run("MetadataQuorumCommand", cluster, "describe", "--status")
    assert re.search(r"LeaderId: +0\n", status)
    assert re.search(r"CurrentVoters: +\[\{\"id\": 0\}\]", status)
    assert re.search(r"CurrentObservers: +\[\{\"id\": 1\}, \{\"id\": 2\}, \{\"id\": 3\}\]", status)
    replication = run("MetadataQuorumCommand", cluster, "describe", "--replication")
    assert len(re.findall(r"\bObserver\b", replication)) == 3


def test_log_dirs_command_finds_every_replica(cluster: LiveCluster, topic: str) -> None:
    write(cluster, topic, 3)
    out = run("LogDirsCommand", cluster, "--describe", "--topic-list", topic)
    found = json.loads(next(line for line in out.splitlines() if line.startswith("{")))
    assert [broker["broker"] for broker in found["brokers"]] == [1, 2, 3]
    for broker in found["brokers"]:
        [directory] = broker["logDirs"]
        [part] = directory["partitions"]
        assert (part["partition"], part["offsetLag"]) == (f"{topic}-0", 0)
        assert part["size"] > 0


def test_delete_records_command_and_get_offset_shell(
    cluster: LiveCluster, topic: str, tmp_path: Path
) -> None:
    write(cluster, topic)
    wanted = tmp_path / "offsets.json"
    part = {"topic": topic, "partition": 0, "offset": 7}
    wanted.write_text(json.dumps({"partitions": [part], "version": 1}))
    out = run("DeleteRecordsCommand", cluster, "--offset-json-file", str(wanted))
    assert re.search(r"low_watermark: 7\b", out)
    places = {"earliest": 7, "latest": 10}
    for place, offset in places.items():
        out = run("GetOffsetShell", cluster, "--topic", topic, "--time", place)
        assert f"{topic}:0:{offset}" in out.split()


def test_leader_election_command_gives_partitions_back(cluster: LiveCluster, topic: str) -> None:
    preferred = cluster.leader(topic)
    cluster.stop(preferred)
    cluster.start(preferred)
    cluster.wait_healthy()
    run("LeaderElectionCommand", cluster, "--election-type", "preferred", "--all-topic-partitions")
    assert cluster.leader(topic) == preferred


def test_transactions_command_describes_idempotent_producers(
    cluster: LiveCluster, topic: str
) -> None:
    write(cluster, topic, 3, **{"enable.idempotence": True})
    tp = ["--topic", topic, "--partition", "0"]
    out = run("TransactionsCommand", cluster, "describe-producers", *tp)
    assert re.search(r"^\d+\s+0\s+-1\s+2\s", out, re.MULTILINE), out
