"""Apache Kafka's tools that read and change consumer groups."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from confluent_kafka import Consumer, Producer, TopicPartition

from tests.java import tools
from tests.live.conftest import LiveCluster
from tests.live.test_compaction import await_compacted, directories

pytestmark = [pytest.mark.java, pytest.mark.live, pytest.mark.timeout(300)]

GROUPS = ("OffsetCommit", "OffsetFetch", "JoinGroup", "DescribeGroups", "ListGroups")
RECORDS = 300
OFFSETS_TOPIC = "__consumer_offsets"
PARTITIONS, COMMITS = 12, 100


class Group:
    """A group that has read a topic of three partitions to its end, 100 records each."""

    def __init__(self, cluster: LiveCluster) -> None:
        self.bootstrap = cluster.bootstrap
        self.topic = cluster.topic(partitions=3)
        self.name = f"readers-of-{self.topic}"
        producer = Producer({"bootstrap.servers": self.bootstrap})
        for number in range(RECORDS):
            producer.produce(self.topic, str(number), partition=number % 3)
        assert producer.flush(30) == 0
        read = [*self.at, "--topic", self.topic, "--group", self.name, "--from-beginning"]
        out = tools.run("consumer.ConsoleConsumer", *read, "--max-messages", str(RECORDS))
        assert sorted(map(int, out.split())) == list(range(RECORDS))

    @property
    def at(self) -> list[str]:
        return ["--bootstrap-server", self.bootstrap]

    def command(self, *arguments: str) -> str:
        named = ["--group", self.name]
        return tools.run("consumer.group.ConsumerGroupCommand", *self.at, *arguments, *named)

    def refused(self, *arguments: str) -> str:
        named = ["--group", self.name]
        return tools.refusal("consumer.group.ConsumerGroupCommand", *self.at, *arguments, *named)

    def names(self) -> list[str]:
        return tools.run("consumer.group.ConsumerGroupCommand", *self.at, "--list").split()

    def offsets(self) -> dict[int, str]:
        """By partition, as `--describe` shows them: "-" where there is none."""
        row = rf"{self.name}\s+{self.topic}\s+(\d)\s+(\d+|-)\s"
        return {int(p): offset for p, offset in re.findall(row, self.command("--describe"))}

    def reset(self, *how: str) -> dict[int, int]:
        """By partition, what the tool says is new."""
        out = self.command("--reset-offsets", *how)
        return {int(p): int(o) for p, o in re.findall(rf"{self.topic}\s+(\d)\s+(\d+)", out)}

    @contextmanager
    def member(self, client_id: str) -> Iterator[None]:
        """A member of librdkafka's that owns all three partitions."""
        config = {"bootstrap.servers": self.bootstrap, "group.id": self.name}
        consumer = Consumer({**config, "client.id": client_id, "enable.auto.commit": False})
        assigned, over = threading.Event(), threading.Event()

        def poll() -> None:
            while not over.is_set():
                consumer.poll(0.05)

        consumer.subscribe([self.topic], on_assign=lambda *_: assigned.set())
        thread = threading.Thread(target=poll)
        thread.start()
        try:
            assert assigned.wait(30), "no assignment"
            yield
        finally:
            over.set()
            thread.join()
            consumer.close()


@pytest.fixture
def group(cluster: LiveCluster) -> Group:
    tools.requires(cluster.bootstrap, *GROUPS)
    return Group(cluster)


def test_a_group_without_members_is_listed_and_described(group: Group) -> None:
    assert group.name in group.names()
    assert group.offsets() == {0: "100", 1: "100", 2: "100"}
    assert re.search(r"Empty\s+0", group.command("--describe", "--state"))


def test_members_are_described_and_keep_offsets_from_being_reset(
    cluster: LiveCluster, group: Group
) -> None:
    tools.requires(cluster.bootstrap, "DeleteGroups")
    with group.member("described"):
        members = group.command("--describe", "--members", "--verbose")
        assert re.search(rf"/127\.0\.0\.1\s+described\s+3\s+.*{group.topic}", members)
        assert re.search(r"range\s.*Stable\s+1", group.command("--describe", "--state"))
        reset = ["--reset-offsets", "--to-earliest", "--topic", group.topic, "--execute"]
        assert "inactive" in group.refused(*reset)
        assert "not empty" in group.refused("--delete")


def test_offsets_are_reset_in_each_way(group: Group, tmp_path: Path) -> None:
    topic = ["--topic", group.topic]
    first, fifth, last = (dict.fromkeys(range(3), at) for at in (0, 5, 100))
    assert group.reset(*topic, "--to-earliest", "--dry-run") == first
    assert group.offsets()[0] == "100"
    assert group.reset(*topic, "--to-earliest", "--execute") == first
    assert group.offsets()[0] == "0"
    assert group.reset(*topic, "--shift-by", "5", "--execute") == fifth
    assert group.reset("--topic", f"{group.topic}:1", "--to-offset", "42", "--execute") == {1: 42}
    assert group.offsets() == {0: "5", 1: "42", 2: "5"}
    assert group.reset(*topic, "--to-datetime", "2020-01-01T00:00:00.000", "--execute") == first
    assert group.reset(*topic, "--by-duration", "PT1H", "--execute") == first
    plan = tmp_path / "plan.csv"
    plan.write_text(f"{group.topic},2,7\n")
    assert group.reset("--from-file", str(plan), "--execute") == {2: 7}
    assert group.reset("--all-topics", "--to-latest", "--execute") == last


def test_offsets_and_the_group_itself_are_deleted(cluster: LiveCluster, group: Group) -> None:
    tools.requires(cluster.bootstrap, "OffsetDelete", "DeleteGroups")
    out = group.command("--delete-offsets", "--topic", f"{group.topic}:1")
    assert re.search(rf"{group.topic}\s+1\s+Successful", out)
    assert group.offsets().get(1, "-") == "-"
    assert "successful" in group.command("--delete")
    assert group.name not in group.names()


def test_consumer_performance_reads_every_record(cluster: LiveCluster, group: Group) -> None:
    wanted = ["--topic", group.topic, "--num-records", str(RECORDS)]
    out = tools.run("ConsumerPerformance", *group.at, *wanted)
    last = out.strip().splitlines()[-1].split(", ")
    assert int(last[4]) >= RECORDS, out


def test_dump_log_segments_decodes_the_offsets_of_a_group(
    cluster: LiveCluster, group: Group
) -> None:
    found = sorted(Path(cluster.directory).glob("broker-*/*/*.log"))
    files = [f for f in found if f.parent.name.startswith("__consumer_offsets-")]
    names = ",".join(str(file) for file in files if file.stat().st_size)
    out = tools.run("DumpLogSegments", "--offsets-decoder", "--files", names)
    assert re.search(rf'"group":"{group.name}".*"topic":"{group.topic}".*"offset":100', out)
    assert re.search(rf'"group":"{group.name}".*"protocolType":"consumer"', out)


def test_dump_log_segments_decodes_what_compaction_left_of_the_offsets(
    live_home: Path,
) -> None:
    """Many commits of a dozen partitions, in segments as small as may be; the compacted ones keep
    one of each partition at most, and the last of all is what was committed last."""
    options = {
        "offsets.topic.num.partitions": "1",
        "offsets.topic.segment.bytes": "1048576",
        "log.cleaner.backoff.ms": "100",
        "log.cleaner.min.cleanable.ratio": "0.01",
    }
    cluster = LiveCluster("offsets", options=options)
    try:
        topic = cluster.topic(partitions=PARTITIONS)
        commit_many(cluster.bootstrap, "tracker", topic)
        await_compacted(cluster, OFFSETS_TOPIC)
        for directory in directories(cluster, OFFSETS_TOPIC):
            *sealed, active = sorted(directory.glob("*.log"))
            assert sealed
            files = ",".join(map(str, sealed))
            out = tools.run("DumpLogSegments", "--offsets-decoder", "--files", files)
            assert not re.search("(?i)mismatch|corrupt|could not|exception", out)
            kept = [partition for partition, _ in decoded(out, "tracker", topic)]
            assert len(kept) == len(set(kept)) <= PARTITIONS
            out += tools.run("DumpLogSegments", "--offsets-decoder", "--files", str(active))
            last = dict(decoded(out, "tracker", topic))
            assert last == dict.fromkeys(range(PARTITIONS), COMMITS)
    finally:
        cluster.close()


def commit_many(bootstrap: str, group: str, topic: str) -> None:
    """Offsets 1 to COMMITS, each with metadata as long as may be."""
    consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": group})
    for offset in range(1, COMMITS + 1):
        places = [
            TopicPartition(topic, partition, offset, "m" * 4000) for partition in range(PARTITIONS)
        ]
        done = consumer.commit(offsets=places, asynchronous=False)
        assert all(place.error is None for place in done)
    consumer.close()


def decoded(out: str, group: str, topic: str) -> list[tuple[int, int]]:
    """(partition, offset) of each commit in a dump, in its order."""
    found = rf'"group":"{group}","topic":"{topic}","partition":(\d+).*?"offset":(\d+)'
    return [(int(partition), int(offset)) for partition, offset in re.findall(found, out)]
