"""Consumer groups as a person uses them: our own commands, and the page-view example."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import confluent_kafka
import pytest

from kcluster.client.connect import over_bus, over_tcp
from kcluster.client.consumer import Consumer
from kcluster.client.producer import Producer
from kcluster.core.client.assignors import COOPERATIVE_STICKY, RANGE
from kcluster.core.client.membership import MembershipSettings
from tests.live.conftest import LiveCluster
from tests.live.test_commands import kcluster, ok

pytestmark = [pytest.mark.live, pytest.mark.timeout(180)]

EXAMPLE = Path(__file__).parents[2] / "examples" / "page_views"

PATIENCE_S = 60

Start = Callable[..., subprocess.Popen[str]]


@pytest.fixture
def start() -> Iterator[Start]:
    """Programs that are gone at the end, however the test ends."""
    started: list[subprocess.Popen[str]] = []

    def run(*words: object) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, *map(str, words)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        started.append(process)
        return process

    yield run
    for process in started:
        if process.poll() is None:
            process.kill()
        process.communicate()


def fill(cluster: LiveCluster, topic: str, numbers: range) -> None:
    with Producer(over_bus(cluster.control)) as producer:
        for number in numbers:
            producer.send(topic, b"%d" % number, key=b"%d" % number)


def described(group: str) -> dict[str, object]:
    found: dict[str, object] = json.loads(
        ok("group", "describe", group, "-c", "live", "-o", "json")
    )["groups"][0]
    return found


def wait_for_group(group: str, is_so: Callable[[dict[str, object]], bool], what: str) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while True:
        done = kcluster("group", "describe", group, "-c", "live", "-o", "json")
        found = json.loads(done.stdout)["groups"][0] if done.returncode == 0 else {}
        if found and is_so(found):
            return
        assert time.monotonic() < deadline, f"not in time: {what}; {found or done.stderr}"
        time.sleep(0.05)


def has_read_all(found: dict[str, object]) -> bool:
    partitions: list[dict[str, int | None]] = found["partitions"]  # type: ignore[assignment]
    return bool(partitions) and all(
        p["lag"] == 0 and (p["committed"] or 0) >= (p["log_end"] or 0) for p in partitions
    )


def test_a_group_goes_on_where_it_was(cluster: LiveCluster) -> None:
    topic, group = cluster.topic(partitions=3), "goes-on"
    fill(cluster, topic, range(100))
    words = ("consume", topic, "-g", group, "--from", "start", "-c", "live")
    first = ok(*words, "-n", "30").split()
    second = ok(*words, "-e").split()
    assert len(first) == 30
    assert sorted(map(int, first + second)) == list(range(100))
    assert ok(*words, "-e") == ""
    found = described(group)
    assert found["state"] == "Empty"
    assert has_read_all(found)
    assert {"topic", "partition", "committed", "log_start", "log_end", "lag", "member", "host",
            "client_id"} == set(found["partitions"][0])  # type: ignore[index]  # fmt: skip


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_commits_what_was_printed_and_leaves(
    cluster: LiveCluster, start: Start, how: signal.Signals
) -> None:
    topic, group = cluster.topic(partitions=2), f"signal-{how.name}"
    fill(cluster, topic, range(50))
    process = start(
        "-m", "kcluster.cli.main", "consume", topic, "-g", group, "--from", "start", "-c", "live"
    )
    assert process.stdout is not None
    printed = [int(process.stdout.readline()) for _ in range(50)]
    process.send_signal(how)
    rest, errors = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 128 + how, errors
    assert rest == ""
    assert sorted(printed) == list(range(50))
    found = described(group)
    assert (found["state"], found["members"]) == ("Empty", [])
    assert has_read_all(found)


def test_groups_are_listed_described_reset_and_deleted(cluster: LiveCluster, start: Start) -> None:
    topic, group = cluster.topic(partitions=3), "told-of"
    fill(cluster, topic, range(60))
    process = start(
        "-m", "kcluster.cli.main", "consume", topic, "-g", group, "--from", "start", "-c", "live"
    )
    wait_for_group(group, has_read_all, "everything is committed")
    [row] = [
        row for row in json.loads(ok("groups", "-c", "live", "-o", "json"))["groups"]
        if row["group"] == group
    ]  # fmt: skip
    assert row | {"coordinator": 0} == {
        "group": group, "state": "Stable", "protocol": "range", "members": 1, "coordinator": 0,
        "protocol_type": "consumer", "type": "classic", "epoch": None, "assignment_epoch": None,
    }  # fmt: skip
    [member] = json.loads(ok("group", "members", group, "-c", "live", "-o", "json"))["members"]
    assert [p["partition"] for p in member["partitions"]] == [0, 1, 2]
    assert f"{topic} 0-2" in ok("group", "members", group, "-c", "live")
    for words in (("reset", group, "--to", "earliest"), ("delete", group)):
        refused = kcluster("group", *words, "-c", "live")
        assert refused.returncode == 1
        assert "end them first" in refused.stderr
        assert len(refused.stderr.splitlines()) == 3
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=PATIENCE_S)

    def offsets() -> list[int]:
        return [p["committed"] for p in described(group)["partitions"]]  # type: ignore[attr-defined]

    ends = offsets()
    ok("group", "reset", group, "--to", "earliest", "--dry-run", "-c", "live")
    assert offsets() == ends
    ok("group", "reset", group, "--to", "earliest", "--topic", f"{topic}:0,2", "-c", "live")
    assert offsets() == [0, ends[1], 0]
    ok("group", "reset", group, "--shift", "5", "-c", "live")
    assert offsets() == [5, ends[1], 5]
    ok("group", "reset", group, "--to", "@-1h", "-c", "live")
    assert offsets() == [0, 0, 0]
    ok("group", "reset", group, "--to", "1000000", "-c", "live")
    assert offsets() == ends
    again = ("consume", topic, "-g", group, "-e", "-c", "live")
    ok("group", "reset", group, "--shift", "-1", "-c", "live")
    assert len(ok(*again).split()) == 3
    deleted = json.loads(ok("group", "delete", group, "-c", "live", "-o", "json"))
    assert deleted == {"schema": 1, "deleted": [group]}
    for words in (("describe", group), ("members", group), ("delete", group),
                  ("reset", group, "--to", "latest")):  # fmt: skip
        missing = kcluster("group", *words, "-c", "live")
        assert missing.returncode == 4, words
        assert f"there is no group {group}" in missing.stderr


def test_groups_of_the_consumer_protocol_are_shown_with_their_epochs(cluster: LiveCluster) -> None:
    topic, group = cluster.topic(partitions=3), "of-consumers"
    fill(cluster, topic, range(60))
    consumer = confluent_kafka.Consumer(
        {
            "bootstrap.servers": cluster.bootstrap,
            "group.id": group,
            "group.protocol": "consumer",
            "client.id": "stock",
            "auto.offset.reset": "earliest",
            "log_level": 0,
        }
    )
    consumer.subscribe([topic])
    try:
        read = 0
        while read < 60:
            read += len(consumer.consume(60, 1))
        consumer.commit(asynchronous=False)
        groups = json.loads(ok("groups", "-c", "live", "-o", "json"))["groups"]
        [row] = [row for row in groups if row["group"] == group]
        assert (row["type"], row["protocol"], row["state"]) == ("consumer", "uniform", "Stable")
        assert row["epoch"] == row["assignment_epoch"] == 1
        told = json.loads(ok("group", "members", group, "-c", "live", "-o", "json"))
        [member] = told["members"]
        assert (member["epoch"], member["protocol"], member["client_id"]) == (
            1, "consumer", "stock",
        )  # fmt: skip
        assert member["target"] == member["partitions"]
        assert f"{topic} 0-2" in ok("group", "members", group, "-c", "live")
        assert "uniform  epoch 1  members 1" in ok("group", "describe", group, "-c", "live")
        assert has_read_all(described(group))
        refused = kcluster("group", "delete", group, "-c", "live")
        assert (refused.returncode, len(refused.stderr.splitlines())) == (1, 3)
    finally:
        consumer.close()
    ok("group", "reset", group, "--to", "earliest", "-c", "live")
    assert [p["committed"] for p in described(group)["partitions"]] == [0, 0, 0]  # type: ignore[attr-defined]
    ok("group", "delete", group, "-c", "live")
    assert kcluster("group", "describe", group, "-c", "live").returncode == 4


@pytest.mark.parametrize("assignor", [RANGE, COOPERATIVE_STICKY])
@pytest.mark.parametrize("over", ["zeromq", "tcp"])
def test_members_share_a_topic_while_their_coordinator_is_killed(
    cluster: LiveCluster, over: str, assignor: str
) -> None:
    topic, group = cluster.topic(partitions=6), f"killed-{over}-{assignor}"
    fill(cluster, topic, range(300))

    def member() -> Consumer:
        reach = over_bus(cluster.control) if over == "zeromq" else over_tcp(cluster.bootstrap)
        return Consumer(
            reach,
            [topic],
            group=group,
            auto_commit=False,
            membership=MembershipSettings(session_ms=6_000, assignor=assignor),
        )

    members = [member(), member()]
    seen: list[int] = []

    def work_until(is_so: Callable[[], bool], what: str) -> None:
        deadline = time.monotonic() + PATIENCE_S
        while not is_so():
            assert time.monotonic() < deadline, f"not in time: {what}"
            for each in members:
                taken = each.poll(20)
                seen.extend(int(consumed.record.value or b"") for consumed in taken)
                each.done(taken)

    try:
        work_until(
            lambda: (
                [len(each.assignment) for each in members] == [3, 3]
                and set(seen) == set(range(300))
            ),
            "both read",
        )
        victim = next(
            row["coordinator"]
            for row in json.loads(ok("groups", "-c", "live", "-o", "json"))["groups"]
            if row["group"] == group
        )
        cluster.kill(victim)
        fill(cluster, topic, range(300, 600))
        work_until(lambda: set(seen) == set(range(600)), "everything is read")
    finally:
        for each in members:
            each.close()
    found = described(group)
    assert found["state"] == "Empty"
    assert has_read_all(found)
    assert found["coordinator"] != victim


@pytest.mark.parametrize("assignor", [RANGE, COOPERATIVE_STICKY])
def test_our_members_lead_and_follow_those_of_a_stock_client(
    cluster: LiveCluster, assignor: str
) -> None:
    topic, group = cluster.topic(partitions=5), f"mixed-{assignor}"
    fill(cluster, topic, range(200))
    settings = {
        "bootstrap.servers": cluster.bootstrap,
        "group.id": group,
        "auto.offset.reset": "earliest",
        "partition.assignment.strategy": assignor,
        "session.timeout.ms": 6000,
        "heartbeat.interval.ms": 500,
        "enable.auto.commit": False,
    }
    seen: list[int] = []
    stock: confluent_kafka.Consumer | None = None
    ours: Consumer | None = None

    def work_until(is_so: Callable[[], bool], what: str) -> None:
        deadline = time.monotonic() + PATIENCE_S
        while not is_so():
            assert time.monotonic() < deadline, f"not in time: {what}"
            if ours is not None:
                taken = ours.poll(20)
                seen.extend(int(consumed.record.value or b"") for consumed in taken)
                ours.done(taken)
            if stock is not None:
                for message in stock.consume(100, 0.02):
                    assert message.error() is None, message.error()
                    seen.append(int(message.value()))
                    stock.commit(message, asynchronous=True)

    def counts() -> tuple[int, int]:
        return (
            len(ours.assignment) if ours is not None else 0,
            len(stock.assignment()) if stock is not None else 0,
        )

    try:
        stock = confluent_kafka.Consumer(settings)
        stock.subscribe([topic])
        work_until(lambda: counts() == (0, 5), "the stock client has all")
        ours = Consumer(
            over_tcp(cluster.bootstrap),
            [topic],
            group=group,
            auto_commit=False,
            membership=MembershipSettings(session_ms=6_000, assignor=assignor),
        )
        work_until(lambda: sorted(counts()) == [2, 3], "they share, the stock client leads")
        stock.close()
        stock = None
        work_until(lambda: counts() == (5, 0), "ours has all")
        stock = confluent_kafka.Consumer(settings)
        stock.subscribe([topic])
        work_until(lambda: sorted(counts()) == [2, 3], "they share, ours leads")
        fill(cluster, topic, range(200, 400))
        work_until(lambda: set(seen) == set(range(400)), "everything is read")
    finally:
        if ours is not None:
            ours.close()
        if stock is not None:
            stock.close()


def test_a_group_that_assigns_in_another_way_is_told_of(cluster: LiveCluster, start: Start) -> None:
    topic, group = cluster.topic(partitions=1), "another-way"
    with Consumer(
        over_bus(cluster.control),
        [topic],
        group=group,
        auto_commit=False,
        membership=MembershipSettings(assignor=COOPERATIVE_STICKY),
    ) as member:
        deadline = time.monotonic() + PATIENCE_S
        while not member.assignment:
            assert time.monotonic() < deadline
            member.poll(20)
        done = kcluster("consume", topic, "-g", group, "-e", "-c", "live")
    assert done.returncode == 1
    assert done.stderr.splitlines() == [
        f"error: group {group} assigns partitions in a way that is not range",
        "INCONSISTENT_GROUP_PROTOCOL",
        f"try: kcluster group describe {group} -c live",
    ]


def test_the_page_views_example_shares_its_counting_while_the_coordinator_is_killed(
    cluster: LiveCluster, start: Start, tmp_path: Path
) -> None:
    count, group = "6000", "page-views-counts"
    reach = ("--bootstrap", cluster.bootstrap)
    producer = start(EXAMPLE / "producer.py", *reach, "--count", count, "--rate", "1500")
    assert producer.stdout is not None
    producer.stdout.readline()
    record = ("--record", tmp_path / "seen")
    consumers = [start(EXAMPLE / "consumer.py", *reach, *record) for _ in range(2)]
    wait_for_group(
        group,
        lambda found: found["state"] == "Stable" and len(found["members"]) == 2,  # type: ignore[arg-type]
        "both are members",
    )
    coordinator = described(group)["coordinator"]
    assert isinstance(coordinator, int)
    cluster.kill(coordinator)
    written, errors = producer.communicate(timeout=PATIENCE_S)
    assert producer.returncode == 0, written + errors
    assert "acknowledged 6,000  failed 0" in written
    wait_for_group(group, has_read_all, "everything is counted")
    for consumer in consumers:
        consumer.send_signal(signal.SIGINT)
    for consumer in consumers:
        read, errors = consumer.communicate(timeout=PATIENCE_S)
        assert consumer.returncode == 0, read + errors
    assert described(group)["state"] == "Empty"
    judged = start(EXAMPLE / "judge.py", tmp_path / "seen")
    verdict, errors = judged.communicate(timeout=PATIENCE_S)
    assert judged.returncode == 0, verdict + errors
    assert "6,000 events" in verdict
    assert "by 2 members" in verdict
    assert "nothing is missing" in verdict
