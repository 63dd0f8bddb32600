from __future__ import annotations

import contextlib
import json
import random
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from kcluster.chaos.load import Load, LoadPlan
from kcluster.chaos.reach import Reach
from kcluster.chaos.report import Report
from kcluster.errors import UsageError
from kcluster.wire.records import Record, batches, build_batch, read_records
from tests.live import killing
from tests.live.conftest import LiveCluster
from tests.live.load_kills import await_acknowledgements, kill_any, kill_with_followers_asleep

pytestmark = [pytest.mark.live, pytest.mark.timeout(240)]

Change = Callable[[list[Record]], list[Record]]


def load(cluster: LiveCluster, topic: str, **plan: object) -> Load:
    """One that writes until it is told to stop, and has written something."""
    wanted = {"partitions": 2, "rate": 2000.0, "duration_s": None, "settle_s": 60.0, **plan}
    made = Load(LoadPlan(topic=topic, **wanted), Reach(cluster.name))  # type: ignore[arg-type]
    made.prepare()
    made.start()
    await_acknowledgements(made, 500)
    return made


def written(cluster: LiveCluster, topic: str) -> Load:
    """A load that is over, and not judged yet."""
    made = load(cluster, topic, partitions=1, readers=0)
    made.finish()
    return made


@contextlib.contextmanager
def planted(load: Load, cluster: LiveCluster, brokers: list[int], change: Change) -> Iterator[None]:
    """The fourth batch of partition 0 holds other records on these brokers, under a CRC that
    holds; afterwards it is as it was, since brokers run on these files."""
    before: dict[Path, bytes] = {}
    try:
        for broker in brokers:
            directory = cluster.directory / f"broker-{broker}" / f"{load.plan.topic}-0"
            [path] = directory.glob("*.log")
            before[path] = content = path.read_bytes()
            position, header = list(batches(content))[3]
            other = build_batch(
                change(read_records(content, position)),
                base_offset=header.base_offset,
                leader_epoch=header.leader_epoch,
                producer_id=header.producer_id,
                producer_epoch=header.producer_epoch,
                base_sequence=header.base_sequence,
            )
            assert len(other) == header.size
            path.write_bytes(content[:position] + other + content[position + header.size :])
        yield
    finally:
        for path, content in before.items():
            path.write_bytes(content)


def found(report: Report) -> dict[str, int]:
    return {name: anomaly.count for name, anomaly in report.anomalies.items()}


def kcluster(*arguments: str) -> tuple[int, str]:
    done = subprocess.run(
        [sys.executable, "-m", "kcluster.cli.main", *arguments],
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode, done.stdout


# --- nothing wrong --------------------------------------------------------------------------


def test_a_load_on_a_sound_cluster_finds_everything_on_every_replica(cluster: LiveCluster) -> None:
    code, text = kcluster(
        "load", "-c", cluster.name, "-t", "load-sound", "--duration", "2s", "--rate", "2000",
        "--producers", "2", "-g", "load-readers", "-o", "json",
    )  # fmt: skip
    report = json.loads(text)
    assert (code, report["schema"], report["verdict"], report["anomalies"]) == (0, 1, "ok", {})
    assert report["acknowledged"] == report["sent"] > 2000
    assert (report["unknown"], report["lost"], report["notes"]) == (0, 0, [])
    assert report["polled"] >= report["sent"]
    assert 0 < report["p50_ms"] <= report["p99_ms"]
    assert len(report["replicas"]) == 18
    for partition in range(6):
        ends = {
            (replica["records"], replica["end_offset"])
            for replica in report["replicas"]
            if replica["partition"] == partition
        }
        assert len(ends) == 1, ends
    scanned = sum(replica["records"] for replica in report["replicas"])
    assert scanned == 3 * report["sent"]


def test_by_address_replicas_are_read_from_their_own_brokers(
    cluster: LiveCluster, topic: str
) -> None:
    code, text = kcluster(
        "load", "-b", cluster.bootstrap, "-t", topic, "--duration", "1s", "-o", "json"
    )
    report = json.loads(text)
    assert (code, report["verdict"]) == (0, "ok")
    per_partition = Counter(replica["partition"] for replica in report["replicas"])
    assert set(per_partition.values()) == {3}
    assert all(replica["records"] > 0 for replica in report["replicas"])
    assert report["notes"] == []


def test_with_acks_0_nothing_is_acknowledged(cluster: LiveCluster, topic: str) -> None:
    code, text = kcluster(
        "load", "-c", cluster.name, "-t", topic, "--duration", "1s", "--acks", "0", "-o", "json"
    )
    report = json.loads(text)
    assert (code, report["verdict"], report["acknowledged"], report["p50_ms"]) == (0, "ok", 0, None)
    assert report["unknown"] == report["sent"] == report["unknown_written"] + report["sent"] > 500
    assert {replica["records"] for replica in report["replicas"]} == {report["sent"]}


# --- something planted ----------------------------------------------------------------------


def test_a_loss_that_was_planted_in_every_replica_is_found(
    cluster: LiveCluster, topic: str
) -> None:
    made = written(cluster, topic)

    def lose(records: list[Record]) -> list[Record]:
        records[0].value = b"-" * len(records[0].value or b"")
        return records

    with planted(made, cluster, [1, 2, 3], lose):
        report = made.judge()
    assert (report.verdict, report.exit_code, report.lost) == ("violated", 11, 1)
    assert found(report) == {"lost-write": 1}
    assert "on brokers 1, 2, 3" in report.anomalies["lost-write"].examples[0]
    assert made.judge().verdict == "ok"


def test_divergence_that_was_planted_in_one_replica_is_found(
    cluster: LiveCluster, topic: str
) -> None:
    made = written(cluster, topic)

    def diverge(records: list[Record]) -> list[Record]:
        records[0].timestamp += 1
        return [*records[:1], *records[1:]]

    with planted(made, cluster, [2], diverge):
        report = made.judge()
    assert (report.verdict, found(report)) == ("violated", {"diverged-logs": 1})
    assert "brokers 1 and 2" in report.anomalies["diverged-logs"].examples[0]
    assert made.judge().verdict == "ok"


def test_a_replica_that_was_cut_short_is_found(cluster: LiveCluster, topic: str) -> None:
    made = written(cluster, topic)
    [path] = (cluster.directory / "broker-3" / f"{topic}-0").glob("*.log")
    content = path.read_bytes()
    *_, (last, header) = batches(content)
    try:
        with path.open("r+b") as file:
            file.truncate(last)
        report = made.judge()
    finally:
        path.write_bytes(content)
    assert (report.verdict, report.exit_code) == ("violated", 11)
    assert report.lost == header.record_count
    assert found(report) == {"lost-write": report.lost, "diverged-logs": 1}
    assert "on broker 3" in report.anomalies["lost-write"].examples[0]


def test_a_duplicate_that_was_planted_is_found(cluster: LiveCluster, topic: str) -> None:
    made = written(cluster, topic)
    first = made.workload.value(0, 0)

    def repeat(records: list[Record]) -> list[Record]:
        records[0].value = first
        return records

    with planted(made, cluster, [1, 2, 3], repeat):
        report = made.judge()
    assert (report.verdict, report.duplicated) == ("violated", 1)
    assert found(report) == {"duplicate": 1, "lost-write": 1}


def test_a_reordering_that_was_planted_is_found(cluster: LiveCluster, topic: str) -> None:
    made = written(cluster, topic)
    swapped: list[int] = []

    def swap(records: list[Record]) -> list[Record]:
        one, other = records[0], records[-1]
        one.value, other.value = other.value, one.value
        swapped.append(len(records))
        return records

    with planted(made, cluster, [1, 2, 3], swap):
        report = made.judge()
    assert swapped[0] > 1
    assert (report.verdict, report.lost) == ("violated", 0)
    assert report.reordered == swapped[0] - 1
    # They do not stand where they were acknowledged, either.
    assert found(report) == {"reordering": report.reordered, "inconsistent-offsets": 2}


# --- something broken -----------------------------------------------------------------------


def test_acks_all_loses_nothing_while_any_process_is_killed(
    cluster: LiveCluster, topic: str
) -> None:
    made = load(cluster, topic, partitions=6, producers=2)
    chance = random.Random(5)
    killed: Counter[int] = Counter()
    while killed.total() < 8 or 0 not in killed:
        await_acknowledgements(made, chance.randint(100, 1000))
        with contextlib.suppress(UsageError):  # it has just been killed
            victim = kill_any(cluster.control, chance)
            killed[victim] += victim >= 0
    cluster.wait_healthy()
    await_acknowledgements(made, 500)
    made.finish()
    report = made.judge()
    assert report.verdict == "ok", report
    assert (report.lost, report.duplicated, report.reordered) == (0, 0, 0)
    assert report.acknowledged > 1000
    assert report.longest_gap_ms is not None
    assert all(replica.is_in_sync for replica in report.replicas)


def test_acks_1_loses_what_only_a_killed_leader_had(cluster: LiveCluster, topic: str) -> None:
    made = load(cluster, topic, acks=1, rate=4000.0, size=1000)
    killed = kill_with_followers_asleep(cluster.control, cluster.bootstrap, topic)
    killing.await_in_sync(cluster.bootstrap, topic, 3)
    await_acknowledgements(made, 500)
    made.finish()
    report = made.judge()
    assert killed > 0
    assert (report.verdict, report.exit_code) == ("lost", 11)
    assert report.lost > 100
    assert found(report) == {"lost-write": report.lost}
    assert not report.anomalies["lost-write"].is_promised


def test_a_load_whose_whole_cluster_dies_is_judged_by_what_it_left(
    cluster: LiveCluster, topic: str
) -> None:
    made = load(cluster, topic, settle_s=0.5)
    cluster.kill(0, 1, 2, 3)
    made.finish()
    report = made.judge()
    assert (report.verdict, report.exit_code) == ("incomplete", 10), report
    assert "no broker could be reached in 0.5 s" in report.notes
    assert report.unknown > 0
    assert [replica.is_in_sync for replica in report.replicas] == [False] * 3


def test_a_replica_that_stays_away_is_said(cluster: LiveCluster, topic: str) -> None:
    made = load(cluster, topic, settle_s=0.2)
    cluster.kill(3)
    killing.await_isr(cluster.bootstrap, topic, {1, 2})
    await_acknowledgements(made, 500)
    made.finish()
    report = made.judge()
    assert (report.verdict, report.exit_code, report.lost) == ("incomplete", 10, 0)
    assert any("ISR [1, 2] of [1, 2, 3]" in note for note in report.notes), report.notes
    assert [replica.is_in_sync for replica in report.replicas] == [True, True, False]
