"""Compaction in real processes: done beside the broker, read by stock clients, killed half-way."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path
from random import Random

import pytest

from kcluster.client.connect import over_tcp
from kcluster.client.consumer import Consumer
from kcluster.core.client.consumer import From, Place
from kcluster.core.log import checkpoints
from kcluster.model import TopicPartition
from kcluster.wire.records import Record
from tests.live import stock_clients
from tests.live.conftest import POLL_S, LiveCluster
from tests.live.stock_clients import Sent, StockClient
from tests.processes.conftest import wait_until

pytestmark = [pytest.mark.live, pytest.mark.timeout(180)]

CONFIGS = {
    "cleanup.policy": "compact",
    "segment.bytes": "1048576",
    "min.cleanable.dirty.ratio": "0.01",
    "file.delete.delay.ms": "100",
}
KEYS = 200
DEADLINE_S = 60
Content = dict[bytes, bytes]


@pytest.fixture(scope="module")
def compacting(live_home: Path) -> Iterator[LiveCluster]:
    """A cluster that looks for something to compact all the time."""
    cluster = LiveCluster("compacting", options={"log.cleaner.backoff.ms": "100"})
    yield cluster
    cluster.close()


@pytest.fixture
def cluster(compacting: LiveCluster) -> Iterator[LiveCluster]:
    yield compacting
    compacting.heal()


class Writing:
    """An idempotent producer of keyed records, and what they add up to."""

    def __init__(self, cluster: LiveCluster, topic: str, codec: str = "none") -> None:
        import confluent_kafka

        self.topic = topic
        self.random = Random(7)
        self.content: Content = {}
        self.count = 0
        self._producer = confluent_kafka.Producer(
            {
                "bootstrap.servers": cluster.bootstrap,
                "enable.idempotence": True,
                "compression.type": codec,
                "linger.ms": 5,
                "message.timeout.ms": 60_000,
            }
        )
        self._errors: list[object] = []

    def write(self, count: int) -> None:
        """Return when all of them are acknowledged."""
        for _ in range(count):
            key = b"key-%d" % self.random.randrange(KEYS)
            self.count += 1
            value = b"%d " % self.count + self.random.randbytes(400)
            is_tombstone = self.random.random() < 0.05
            self._producer.produce(
                self.topic,
                None if is_tombstone else value,
                key,
                partition=0,
                on_delivery=lambda error, _: self._errors.append(error) if error else None,
            )
            self._producer.poll(0)
            self.content.pop(key, None)
            if not is_tombstone:
                self.content[key] = value
        assert self._producer.flush(DEADLINE_S) == 0
        assert not self._errors


def directories(cluster: LiveCluster, topic: str) -> list[Path]:
    """Of the partition, on each broker."""
    return sorted(path for path in cluster.directory.glob(f"*/{topic}-0") if path.is_dir())


def is_compacted(directory: Path) -> bool:
    """Everything that is sealed."""
    active = max(int(path.stem) for path in directory.glob("*.log"))
    topic, _, partition = directory.name.rpartition("-")
    try:
        told = checkpoints.parse_offsets((directory.parent / checkpoints.FIRST_DIRTY).read_bytes())
    except FileNotFoundError:
        return False
    return told.get(TopicPartition(topic, int(partition))) == active


def await_compacted(cluster: LiveCluster, topic: str) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while not all(is_compacted(directory) for directory in directories(cluster, topic)):
        assert time.monotonic() < deadline, "not compacted in time"
        time.sleep(POLL_S)


def read_all(cluster: LiveCluster, topic: str, offset: int = 0) -> list[Record]:
    with Consumer(over_tcp(cluster.bootstrap)) as consumer:
        consumer.assign(topic, [0], From(Place.OFFSET, offset))
        return [consumed.record for consumed in consumer.read_to_end()]


def content_of(records: list[Record]) -> Content:
    content = {record.key or b"": record.value for record in records}
    return {key: value for key, value in content.items() if value is not None}


def compactors(cluster: LiveCluster) -> dict[int, int]:
    """{pid: broker id} of the compactors that the cluster's supervisor has."""
    supervisor = cluster.control.describe().supervisor_pid
    found: dict[int, int] = {}
    for process in Path("/proc").iterdir():
        if process.name.isdigit():
            try:
                stat = (process / "stat").read_text()
            except OSError:
                continue
            name, _, rest = stat.partition("(")[2].rpartition(")")
            if name.startswith("kc-compact-") and int(rest.split()[1]) == supervisor:
                found[int(process.name)] = int(name.removeprefix("kc-compact-"))
    return found


def catch_compactor(cluster: LiveCluster, writing: Writing) -> tuple[int, int]:
    """(pid, broker id) of one at work."""
    deadline = time.monotonic() + DEADLINE_S
    while time.monotonic() < deadline:
        writing.write(300)
        for _ in range(30):
            for pid, broker in compactors(cluster).items():
                return pid, broker
    raise AssertionError("no compactor was seen")


# --- reading --------------------------------------------------------------------------------


@pytest.mark.parametrize("codec", ["none", "zstd"])
def test_a_compacted_topic_is_the_last_value_of_each_key_to_every_client(
    cluster: LiveCluster, codec: str
) -> None:
    topic = cluster.topic(f"compacted-{codec}", configs=CONFIGS)
    writing = Writing(cluster, topic, codec)
    for _ in range(4):
        writing.write(3000)
    await_compacted(cluster, topic)
    records = read_all(cluster, topic)
    assert content_of(records) == writing.content
    assert len(records) < writing.count / 2
    assert records[-1].offset == writing.count - 1
    for client in stock_clients.ALL:
        for start in (0, 1, records[0].offset, records[len(records) // 2].offset - 1, 5000):
            check_reads(cluster, topic, client, start, records)


def check_reads(
    cluster: LiveCluster, topic: str, client: StockClient, start: int, records: list[Record]
) -> None:
    due = [record for record in records if record.offset >= start]
    got = client.read(cluster.bootstrap, topic, len(due), start)
    assert got == [Sent(r.key, r.value, (), r.timestamp) for r in due], (client.name, start)


def test_a_consumer_that_reads_on_is_not_held_up_by_compaction(cluster: LiveCluster) -> None:
    topic = cluster.topic("followed", configs=CONFIGS)
    writing = Writing(cluster, topic)
    seen: Content = {}
    with Consumer(over_tcp(cluster.bootstrap)) as consumer:
        consumer.assign(topic, [0], From(Place.OFFSET, 0))
        position = 0
        while position < 12_000:
            if position == writing.count:
                writing.write(1000)
            for consumed in consumer.poll():
                record = consumed.record
                seen.pop(record.key or b"", None)
                if record.value is not None:
                    seen[record.key or b""] = record.value
            position = consumer.positions()[TopicPartition(topic, 0)]
        assert seen == writing.content


@pytest.mark.parametrize("client", stock_clients.ALL, ids=lambda client: client.name)
def test_a_record_without_a_key_is_refused_to_every_client(
    cluster: LiveCluster, client: StockClient
) -> None:
    topic = cluster.topic(f"keyed-{client.name}", configs=CONFIGS)
    with pytest.raises(Exception):  # noqa: B017 - each has its own
        client.write(
            cluster.bootstrap,
            topic,
            [Sent(None, b"1", (), 1_700_000_000_000)],
            codec="none",
            is_idempotent=False,
        )
    assert read_all(cluster, topic) == []


# --- killing --------------------------------------------------------------------------------


def test_a_compactor_that_is_killed_is_replaced_and_nothing_is_lost(cluster: LiveCluster) -> None:
    topic = cluster.topic("compactor-killed", configs=CONFIGS)
    writing = Writing(cluster, topic)
    for _ in range(3):
        pid, _ = catch_compactor(cluster, writing)
        try:
            os.kill(pid, 9)
        except ProcessLookupError:
            continue
    await_compacted(cluster, topic)
    assert content_of(read_all(cluster, topic)) == writing.content


def test_a_broker_killed_while_it_is_compacted_takes_its_compactor_along_and_comes_back(
    cluster: LiveCluster,
) -> None:
    topic = cluster.topic("broker-killed", configs=CONFIGS)
    writing = Writing(cluster, topic)
    writing.write(3000)
    for _ in range(4):
        _, broker = catch_compactor(cluster, writing)
        cluster.kill(broker)
        writing.write(500)
        # Killed as well; but it is the last to be given a processor, to die on too.
        wait_until(lambda dead=broker: dead not in compactors(cluster).values(), "it ends")
        cluster.start(broker)
        cluster.wait_healthy()
    await_compacted(cluster, topic)
    for _ in range(3):
        # Another replica each time is what clients read.
        leader = cluster.leader(topic)
        assert content_of(read_all(cluster, topic)) == writing.content
        cluster.stop(leader)
        cluster.wait(lambda _, was=leader: cluster.leader(topic) not in (was, -1), "another leads")
        assert content_of(read_all(cluster, topic)) == writing.content
        cluster.heal()
    for directory in directories(cluster, topic):
        assert not [p for p in directory.iterdir() if p.suffix in (".cleaned", ".swap")]


def test_nothing_is_left_behind_when_the_cluster_goes_down(live_home: Path) -> None:
    made = LiveCluster("short-lived", options={"log.cleaner.backoff.ms": "100"})
    topic = made.topic("busy", configs=CONFIGS)
    pid, _ = catch_compactor(made, Writing(made, topic))
    made.close()
    comm = Path(f"/proc/{pid}/comm")
    assert not comm.exists() or not comm.read_text().startswith("kc-compact")
