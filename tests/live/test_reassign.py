"""Partitions that move while they are written and read, and while brokers are killed."""

from __future__ import annotations

import contextlib
import json
import random
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from kafka import KafkaAdminClient
from kafka.structs import TopicPartition

from kcluster.chaos.load import Load
from kcluster.errors import UsageError
from tests.live import killing
from tests.live.conftest import LiveCluster
from tests.live.load_kills import await_acknowledgements, kill_any
from tests.live.test_load import load

pytestmark = [pytest.mark.live, pytest.mark.timeout(300)]


@pytest.fixture(scope="module")
def wide_cluster(live_home: Path) -> Iterator[LiveCluster]:
    cluster = LiveCluster("moving", brokers=4)
    yield cluster
    cluster.close()


@pytest.fixture
def four(wide_cluster: LiveCluster) -> Iterator[LiveCluster]:
    """Four brokers, and five while a test has added one."""
    yield wide_cluster
    wide_cluster.heal()


def begin(cluster: LiveCluster, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "kcluster.cli.main", *arguments, "-c", cluster.name],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def run(cluster: LiveCluster, *arguments: str) -> tuple[int, str, str]:
    """Exit code, output, and what is said beside it."""
    process = begin(cluster, *arguments)
    out, err = process.communicate(timeout=120)
    return process.returncode, out, err


def replicas(cluster: LiveCluster, topic: str) -> dict[int, list[int]]:
    return {
        found.partition: [replica.broker for replica in found.replicas]
        for found in cluster.status().partitions
        if found.topic == topic
    }


def judged(made: Load) -> None:
    made.finish()
    report = made.judge()
    assert (report.verdict, report.lost, report.anomalies) == ("ok", 0, {}), report


def kill_while(process: subprocess.Popen[str], cluster: LiveCluster, seed: int) -> int:
    """How many were killed before it ended."""
    chance = random.Random(seed)
    kills = 0
    while process.poll() is None:
        with contextlib.suppress(UsageError):  # it died of itself in this moment
            kills += kill_any(cluster.control, chance) >= 0
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(timeout=chance.uniform(0.3, 1.0))
    return kills


def test_reassign_under_load_with_kills_loses_nothing(four: LiveCluster) -> None:
    made = load(four, "moving-load")
    kills = 0
    for seed, brokers in enumerate(["2,3,4", "1,3,4", "1,2,4"]):
        moving = begin(four, "reassign", "moving-load", "--to", brokers, "--wait")
        kills += kill_while(moving, four, seed)
        out, err = moving.communicate()
        assert moving.returncode == 0, err + out
        wanted = sorted(map(int, brokers.split(",")))
        assert all(sorted(ids) == wanted for ids in replicas(four, "moving-load").values())
        four.heal()
        await_acknowledgements(made, 200)
    assert kills > 0
    judged(made)
    code, _, _ = run(four, "topic", "delete", "moving-load")
    assert code == 0


def test_a_broker_is_added_and_removed_under_load_with_kills(four: LiveCluster) -> None:
    made = load(four, "removed-load")
    _, _, said = run(four, "add-broker")
    assert "kcluster reassign --balance" in said
    new = max(state.id for state in four.states())
    code, _, err = run(four, "reassign", "--balance", "--wait")
    assert code == 0, err
    held = [id for ids in replicas(four, "removed-load").values() for id in ids]
    assert new in held or sum(broker.replicas for broker in four.status().brokers) > 0
    run(four, "reassign", "removed-load", "--to", f"{new},1,2", "--wait")
    assert all(new in ids for ids in replicas(four, "removed-load").values())
    data = four.directory / f"broker-{new}"
    leaving = begin(four, "remove-broker", str(new))
    kill_while(leaving, four, 7)
    out, err = leaving.communicate()
    assert leaving.returncode == 0, err + out
    assert new not in [state.id for state in four.states()]
    assert new not in [broker.id for broker in four.status().brokers]
    assert not data.exists()
    four.heal()
    await_acknowledgements(made, 200)
    judged(made)
    run(four, "topic", "delete", "removed-load")


def test_remove_broker_says_why_it_cannot(cluster: LiveCluster) -> None:
    topic = cluster.topic(replicas=3)
    code, out, err = run(cluster, "remove-broker", "3")
    lines = err.splitlines()
    assert (code, out, len(lines)) == (1, "", 3)
    assert lines[0].startswith("error: broker 3 cannot be removed: ")
    assert lines[2].startswith("try: kcluster add-broker")
    assert run(cluster, "remove-broker", "9")[0] == 4
    assert run(cluster, "remove-broker", "1,2")[0] == 2
    run(cluster, "topic", "delete", topic)


def test_a_plan_is_shown_carried_out_followed_and_cancelled(four: LiveCluster) -> None:
    topic = four.topic(partitions=2, replicas=2)
    made = load(four, topic, readers=0)
    before = replicas(four, topic)
    file = four.directory / "plan.json"
    code, out, _ = run(four, "reassign", topic, "--replicas", "3", "-n", "-o", "json")
    assert code == 0
    assert replicas(four, topic) == before, "nothing is done yet"
    file.write_text(out)
    code, _, err = run(four, "reassign", "-f", str(file), "--throttle", "10K")
    assert code == 0, err
    assert "the throttle stays until kcluster reassign --wait" in err
    _, out, _ = run(four, "reassign", "--status", "-o", "json")
    assert json.loads(out)["throttled"]
    ongoing = json.loads(out)["partitions"]
    assert {(each["topic"], each["partition"]) for each in ongoing} == {(topic, 0), (topic, 1)}
    assert all(len(each["adding"]) == 1 for each in ongoing)
    assert "+" in run(four, "topic", "describe", topic)[1]
    assert four.status().is_healthy, "what is being added is not missing"
    code, _, err = run(four, "reassign", topic, "--cancel")
    assert code == 0, err
    assert {i: sorted(ids) for i, ids in replicas(four, topic).items()} == {
        i: sorted(ids) for i, ids in before.items()
    }
    assert "throttled" not in run(four, "topic", "describe", topic)[1]
    code, _, err = run(four, "reassign", topic, "--replicas", "3", "--wait")
    assert code == 0, err
    assert all(len(ids) == 3 for ids in replicas(four, topic).values())
    judged(made)
    _, why, _ = run(four, "why", f"{topic}-0")
    assert "asked for: by a reassignment" in why
    assert "reassignment cancelled" in why
    assert "reassignment complete" in why
    run(four, "topic", "delete", topic)


def test_kafka_python_moves_a_replica(four: LiveCluster) -> None:
    topic = four.topic(replicas=3)
    tp = TopicPartition(topic, 0)
    [before] = replicas(four, topic).values()
    [other] = {1, 2, 3, 4} - {*before}
    admin = KafkaAdminClient(bootstrap_servers=four.bootstrap.split(","))
    try:
        admin.alter_partition_reassignments({tp: [other, *before[1:]]})
        killing.await_in_sync(four.bootstrap, topic, 3, 30)
        four.wait(lambda status: not any(p.is_reassigning for p in status.partitions), "moved")
        assert replicas(four, topic) == {0: [other, *before[1:]]}
        assert not admin.list_partition_reassignments()
    finally:
        admin.close()
    run(four, "topic", "delete", topic)


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        ([], 2),
        (["--to", "1,2", "--cancel"], 2),
        (["--to", "x"], 2),
        (["--to", "9"], 4),
        (["nowhere", "--to", "1"], 4),
        (["--balance", "--throttle", "fast"], 2),
        (["-f", "/nowhere/plan.json"], 2),
    ],
)
def test_nonsense_is_refused_in_three_lines(
    cluster: LiveCluster, arguments: list[str], code: int
) -> None:
    found, out, err = run(cluster, "reassign", *arguments)
    assert (found, out, len(err.splitlines())) == (code, "", 3), err
