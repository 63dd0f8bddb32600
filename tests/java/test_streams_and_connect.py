"""Programs of the field: Kafka Streams' WordCount, Kafka Connect's file source and sink."""

from __future__ import annotations

import json
import socket
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

import pytest
from confluent_kafka import Consumer, Producer, TopicPartition

from tests.java import tools
from tests.live.conftest import LiveCluster

pytestmark = [pytest.mark.java, pytest.mark.live, pytest.mark.timeout(300)]

GROUPS = ("OffsetCommit", "OffsetFetch", "JoinGroup")
WORDS = ["the", "quick", "brown", "fox", "jumps", "over", "the", "lazy", "dog", "and", "the", "cat"]
IN_TIME_S = 90


def wait(is_true: Callable[[], object], process: subprocess.Popen[bytes], what: str) -> None:
    deadline = time.monotonic() + IN_TIME_S
    while not is_true():
        assert process.poll() is None, f"ended with {process.returncode} before: {what}"
        assert time.monotonic() < deadline, f"not in time: {what}"
        time.sleep(0.05)


@contextmanager
def running(command: list[str]) -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen(command, stdin=subprocess.PIPE)
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


class Counts:
    """The last count of each word, as the topic has them."""

    def __init__(self, bootstrap: str, topic: str) -> None:
        self._consumer = Consumer(
            {"bootstrap.servers": bootstrap, "group.id": "unused", "enable.auto.commit": False}
        )
        self._consumer.assign([TopicPartition(topic, p, 0) for p in range(3)])
        self.latest: dict[str, int] = {}

    def are(self, expected: Counter[str]) -> bool:
        for message in self._consumer.consume(500, timeout=0.2):
            assert message.error() is None, message.error()
            key, value = message.key(), message.value()
            assert key is not None and value is not None
            self.latest[key.decode()] = int.from_bytes(value, "big")
        return self.latest == expected

    def close(self) -> None:
        self._consumer.close()


def test_streams_counts_words_and_restores_its_counts_from_the_changelog(
    cluster: LiveCluster, tmp_path: Path
) -> None:
    # It trims the topic that it repartitions through, as far as it has counted.
    tools.requires(cluster.bootstrap, *GROUPS, "DeleteRecords")
    classes = tools.compiled(Path(__file__).with_name("WordCount.java"), tmp_path / "classes")
    lines, words = cluster.topic(partitions=3), cluster.topic(partitions=3)
    expected: Counter[str] = Counter()
    producer = Producer({"bootstrap.servers": cluster.bootstrap})

    def write(count: int) -> None:
        for number in range(count):
            line = [WORDS[at % len(WORDS)] for at in range(number, number + 1 + number % 7)]
            expected.update(line)
            producer.produce(lines, " ".join(line), str(number))
        assert producer.flush(30) == 0

    counts = Counts(cluster.bootstrap, words)
    for run in ("first", "second"):
        # A state folder of its own: what was counted before comes back from the cluster alone.
        write(1000)
        topics = [f"count-{lines}", lines, words]
        arguments = [cluster.bootstrap, *topics, str(tmp_path / run)]
        with running(tools.java("WordCount", *arguments, classes=classes)) as process:
            wait(lambda: counts.are(expected), process, f"all words counted, {run} run")
            process.communicate(timeout=60)
            assert process.returncode == 0
    counts.close()


TEXT = "org.apache.kafka.connect.storage.StringConverter"


def properties(file: Path, /, **values: object) -> str:
    """The path of a new properties file; a key's dots are underscores here."""
    file.write_text("".join(f"{key.replace('_', '.')}={at}\n" for key, at in values.items()))
    return str(file)


def test_connect_carries_lines_from_a_file_into_another(
    cluster: LiveCluster, tmp_path: Path
) -> None:
    tools.requires(cluster.bootstrap, *GROUPS)
    topic = cluster.topic()
    source, sink = tmp_path / "source.txt", tmp_path / "sink.txt"
    worker = properties(
        tmp_path / "worker",
        bootstrap_servers=cluster.bootstrap,
        key_converter=TEXT,
        value_converter=TEXT,
        offset_storage_file_filename=tmp_path / "offsets",
        offset_flush_interval_ms=500,
        listeners="http://127.0.0.1:0",
    )
    reads = properties(
        tmp_path / "reads",
        name="reads",
        connector_class="FileStreamSource",
        file=source,
        topic=topic,
    )
    writes = properties(
        tmp_path / "writes",
        name=topic,
        connector_class="FileStreamSink",
        file=sink,
        topics=topic,
    )
    main = "org.apache.kafka.connect.cli.ConnectStandalone"
    for _ in range(2):
        # The second worker goes on where the first one committed.
        with source.open("a") as file:
            file.writelines(f"line {number}\n" for number in range(500))
        with running(tools.java(main, worker, reads, writes, heap="384M")) as process:
            wait(
                lambda: sink.exists() and sink.read_text() == source.read_text(),
                process,
                "all lines in the sink's file",
            )
            process.terminate()
            process.wait(60)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def ask(port: int, path: str, body: object = None) -> Any:
    """What a Connect worker answers; None while it is not there, or still rebalances."""
    data = None if body is None else json.dumps(body).encode()
    request = Request(f"http://127.0.0.1:{port}{path}", data, {"Content-Type": "application/json"})
    try:
        with urlopen(request, timeout=10) as response:
            return json.load(response)
    except OSError:
        return None


def test_connect_workers_are_a_group_and_share_their_tasks(
    cluster: LiveCluster, tmp_path: Path
) -> None:
    tools.requires(cluster.bootstrap, *GROUPS)
    topic = cluster.topic()
    source, sink = tmp_path / "source.txt", tmp_path / "sink.txt"
    ports = free_port(), free_port()
    commands = []
    for port in ports:
        worker = properties(
            tmp_path / f"worker-{port}",
            bootstrap_servers=cluster.bootstrap,
            key_converter=TEXT,
            value_converter=TEXT,
            group_id=f"workers-{topic}",
            # Compacted topics, which the workers create and insist on.
            config_storage_topic=f"configs-{topic}",
            offset_storage_topic=f"offsets-{topic}",
            status_storage_topic=f"statuses-{topic}",
            offset_storage_partitions=3,
            offset_flush_interval_ms=500,
            listeners=f"http://127.0.0.1:{port}",
        )
        main = "org.apache.kafka.connect.cli.ConnectDistributed"
        commands.append(tools.java(main, worker, heap="384M"))

    def write(*numbers: int) -> None:
        with source.open("a") as file:
            file.writelines(f"line {number}\n" for number in numbers)

    def is_carried() -> bool:
        # At least once: a rebalance may have some lines again.
        return sink.exists() and set(sink.read_text().split("\n")) == set(
            source.read_text().split("\n")
        )

    def workers(port: int) -> set[str]:
        """Those that run a task, as this one knows."""
        found = (ask(port, f"/connectors/{name}/status") for name in ("reads", "writes"))
        return {task["worker_id"] for status in found if status for task in status["tasks"]}

    reads = {"connector.class": "FileStreamSource", "file": str(source), "topic": topic}
    writes = {"connector.class": "FileStreamSink", "file": str(sink), "topics": topic}
    write(*range(500))
    with running(commands[0]) as first:
        for name, config in (("reads", reads), ("writes", writes)):
            make = partial(ask, ports[0], "/connectors", {"name": name, "config": config})
            wait(make, first, f"{name} made")
        wait(is_carried, first, "all lines in the sink's file")
        with running(commands[1]) as second:
            wait(lambda: len(workers(ports[1])) == 2, second, "tasks shared by both workers")
            write(*range(500, 700))
            wait(is_carried, second, "all lines in the sink's file")
