"""A writer that never stops, brokers that do, and the count of what was lost.

Writer     confluent-kafka, idempotent, acks=all; remembers what was acknowledged, and when
Brokers    kill, start, pause and resume, whoever's brokers they are
audit      reads everything back: lost, duplicated, reordered
"""

from __future__ import annotations

import contextlib
import json
import socket
import subprocess
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Protocol

from confluent_kafka import Consumer, KafkaError, Message, Producer, TopicPartition

from kcluster.bench.connection import Address, Connection
from kcluster.client.connect import parse_bootstrap
from kcluster.client.control import ControlClient
from kcluster.errors import KclusterError
from kcluster.wire import control as c
from kcluster.wire.messages.api_versions import ApiVersionsRequest, ApiVersionsResponse
from kcluster.wire.messages.create_topics import (
    CreatableTopic,
    CreatableTopicConfig,
    CreateTopicsRequest,
    CreateTopicsResponse,
)
from kcluster.wire.messages.elect_leaders import (
    ElectLeadersRequest,
    ElectLeadersResponse,
    TopicPartitions,
)
from kcluster.wire.messages.find_coordinator import (
    FindCoordinatorRequest,
    FindCoordinatorResponse,
)
from kcluster.wire.messages.metadata import (
    MetadataRequest,
    MetadataRequestTopic,
    MetadataResponse,
    MetadataResponsePartition,
)

BACK_OFFS = {
    "retry.backoff.ms": 10,
    "retry.backoff.max.ms": 100,
    "reconnect.backoff.ms": 10,
    "reconnect.backoff.max.ms": 100,
    "topic.metadata.refresh.fast.interval.ms": 10,
}
"""The producer's, named because they are part of every gap."""

POLL_S = 0.01


class Brokers(Protocol):
    bootstrap: str

    def kill(self, ids: list[int]) -> int:
        """SIGKILL; CLOCK_MONOTONIC ns of the signal."""
        ...

    def start(self, ids: list[int]) -> None: ...

    def pause(self, ids: list[int]) -> int: ...

    def resume(self, ids: list[int]) -> None: ...

    def restart(self, ids: list[int]) -> None:
        """Stopped in order where there is a way to, and started again."""
        ...


@dataclass
class KclusterBrokers:
    """Ours, by the supervisor's control connection."""

    bootstrap: str
    control: ControlClient

    def kill(self, ids: list[int]) -> int:
        asked_at = time.monotonic_ns()
        done = self.control.command(c.Kill(ids))
        signals = [each.monotonic_ns for each in done.moments if each.event == "signalled"]
        return min(signals, default=asked_at)

    def start(self, ids: list[int]) -> None:
        self.control.command(c.Start(ids))

    def pause(self, ids: list[int]) -> int:
        asked_at = time.monotonic_ns()
        self.control.command(c.Pause(ids))
        return asked_at

    def resume(self, ids: list[int]) -> None:
        self.control.command(c.Resume(ids))

    def restart(self, ids: list[int]) -> None:
        self.control.command(c.Restart(ids))


@dataclass
class PeerBrokers:
    """Another cluster's, by a script that takes `kill N`, `start N`, `pause N`, `resume N`.

    The bootstrap addresses are those of broker 1, 2, ..."""

    bootstrap: str
    script: str

    def kill(self, ids: list[int]) -> int:
        """The script takes its time: the moment is when a connection to the broker broke."""
        addresses = parse_bootstrap(self.bootstrap)
        watched = [socket.create_connection(addresses[id - 1], 5) for id in ids]
        with ThreadPoolExecutor(len(watched)) as threads:
            deaths = [threads.submit(until_closed, each) for each in watched]
            self._each("kill", ids)
            return min(death.result(60) for death in deaths)

    def start(self, ids: list[int]) -> None:
        self._each("start", ids)

    def pause(self, ids: list[int]) -> int:
        return self._each("pause", ids)

    def resume(self, ids: list[int]) -> None:
        self._each("resume", ids)

    def restart(self, ids: list[int]) -> None:
        self.kill(ids)
        self.start(ids)

    def _each(self, verb: str, ids: list[int]) -> int:
        at = time.monotonic_ns()
        running = [subprocess.Popen([self.script, verb, str(id)]) for id in ids]
        for process in running:
            assert process.wait(120) == 0
        return at


def until_closed(connection: socket.socket) -> int:
    """CLOCK_MONOTONIC ns of the moment when the other end is gone."""
    with connection:
        connection.settimeout(60)
        with contextlib.suppress(ConnectionError):
            said = connection.recv(1)
            assert not said, "nothing was asked"
        return time.monotonic_ns()


# --- looking --------------------------------------------------------------------------------


def partitions_of(bootstrap: str, topic: str) -> list[MetadataResponsePartition]:
    """As the first broker says that answers; empty when none does or the topic is not there."""
    for address in parse_bootstrap(bootstrap):
        try:
            with Connection(address) as connection:
                answer = connection.ask(
                    MetadataRequest(
                        topics=[MetadataRequestTopic(name=topic)],
                        allow_auto_topic_creation=False,
                    ),
                    MetadataResponse,
                )
        except (KclusterError, OSError):
            continue
        return answer.topics[0].partitions
    return []


def await_in_sync(bootstrap: str, topic: str, replicas: int, timeout_s: float = 60) -> None:
    """Until every partition is led and has so many in-sync replicas."""
    deadline = time.monotonic() + timeout_s
    while True:
        partitions = partitions_of(bootstrap, topic)
        if partitions and all(
            p.leader_id >= 0 and len(p.isr_nodes) >= replicas for p in partitions
        ):
            return
        states = [(p.partition_index, p.leader_id, p.isr_nodes) for p in partitions]
        assert time.monotonic() < deadline, f"{topic} is not in sync: {states}"
        time.sleep(POLL_S)


def await_isr(bootstrap: str, topic: str, isr: set[int], timeout_s: float = 30) -> None:
    """Until the in-sync replicas of partition 0 are these."""
    deadline = time.monotonic() + timeout_s
    while (found := set(partitions_of(bootstrap, topic)[0].isr_nodes)) != isr:
        assert time.monotonic() < deadline, f"the ISR of {topic}-0 is {found}"
        time.sleep(POLL_S)


def await_leader(
    bootstrap: str, topic: str, is_wanted: Callable[[int], bool], timeout_s: float = 30
) -> None:
    """Until partition 0 has a leader that is wanted."""
    deadline = time.monotonic() + timeout_s
    while not is_wanted(leader := leader_of(bootstrap, topic)):
        assert time.monotonic() < deadline, f"{topic}-0 is led by {leader}"
        time.sleep(POLL_S)


def leader_of(bootstrap: str, topic: str, partition: int = 0) -> int:
    for described in partitions_of(bootstrap, topic):
        if described.partition_index == partition:
            return described.leader_id
    return -1


GROUP_APIS = {8, 9, 10, 11, 12, 13, 14}
"""OffsetCommit, OffsetFetch, FindCoordinator, JoinGroup, Heartbeat, LeaveGroup, SyncGroup"""


def has_groups(bootstrap: str) -> bool:
    with Connection(parse_bootstrap(bootstrap)[0]) as connection:
        asked = ApiVersionsRequest(client_software_name="kcluster", client_software_version="1")
        served = connection.ask(asked, ApiVersionsResponse, 3).api_keys
    return {api.api_key for api in served} >= GROUP_APIS


def coordinator_of(bootstrap: str, group: str, timeout_s: float = 30) -> int:
    """The id of the broker that coordinates the group, as soon as one says so."""
    deadline = time.monotonic() + timeout_s
    answer: object = None
    while time.monotonic() < deadline:
        for address in parse_bootstrap(bootstrap):
            try:
                with Connection(address) as connection:
                    asked = FindCoordinatorRequest(key=group, coordinator_keys=[group])
                    answer = connection.ask(asked, FindCoordinatorResponse)
            except (KclusterError, OSError) as error:
                answer = error
                continue
            # From version 4 on there is a list, before that one answer.
            [found] = answer.coordinators or [answer]
            if found.error_code == 0:
                return found.node_id
        time.sleep(POLL_S)
    raise AssertionError(f"nobody coordinates {group}: {answer}")


def elect_preferred_leaders(bootstrap: str, topic: str, partitions: int) -> None:
    wanted = [TopicPartitions(topic=topic, partitions=list(range(partitions)))]
    with Connection(parse_bootstrap(bootstrap)[0]) as connection:
        request = ElectLeadersRequest(election_type=0, topic_partitions=wanted, timeout_ms=15_000)
        answer = connection.ask(request, ElectLeadersResponse)
    assert answer.error_code == 0, answer


def create_topic(
    bootstrap: str, topic: str, partitions: int = 1, replicas: int = -1, **configs: str
) -> None:
    addresses: list[Address] = parse_bootstrap(bootstrap)
    with Connection(addresses[0]) as connection:
        answer = connection.ask(
            CreateTopicsRequest(
                topics=[
                    CreatableTopic(
                        name=topic,
                        num_partitions=partitions,
                        replication_factor=replicas,
                        assignments=[],
                        configs=[
                            CreatableTopicConfig(name=name.replace("_", "."), value=value)
                            for name, value in configs.items()
                        ],
                    )
                ],
                timeout_ms=15_000,
            ),
            CreateTopicsResponse,
        )
    [created] = answer.topics
    assert created.error_code == 0, (created.error_code, created.error_message)


# --- writing --------------------------------------------------------------------------------


class Writer:
    """Numbers from 0 up, under `keys` keys, at a steady rate, in a thread of its own."""

    def __init__(
        self,
        bootstrap: str,
        topic: str,
        *,
        keys: int = 8,
        rate: float = 2000,
        partitions: int = 0,
        **config: object,
    ) -> None:
        """With `partitions`, number n goes to n % partitions, and each has a key of its own."""
        self.topic = topic
        self.keys = partitions or keys
        self.partitions = partitions
        self.acknowledged: dict[int, tuple[int, int, int]] = {}
        """number -> (monotonic ns, partition, offset or -1 where it is not told)"""
        self.times_ns: list[int] = []
        """Of all acknowledgements, in order."""
        self.failures: list[str] = []
        self.sent = 0
        self._rate = rate
        self._stops = threading.Event()
        self._some = threading.Condition()
        self._producer = Producer(
            {
                "bootstrap.servers": bootstrap,
                "enable.idempotence": True,
                "acks": "all",
                "linger.ms": 0,
                "message.timeout.ms": 120_000,
                "log_level": 0,
                **BACK_OFFS,
                **config,
            }
        )
        self._thread = threading.Thread(target=self._run, name="writer", daemon=True)

    def __enter__(self) -> Writer:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self, timeout_s: float = 130) -> None:
        """Send no more, and wait until everything is acknowledged or has failed."""
        if not self._stops.is_set():
            self._stops.set()
            self._thread.join(timeout_s)
            assert not self._thread.is_alive(), "the producer never came to an end"

    def await_acknowledgements(self, more: int, timeout_s: float = 60) -> None:
        """Until `more` have come than there are now."""
        wanted = len(self.times_ns) + more
        with self._some:
            assert self._some.wait_for(lambda: len(self.times_ns) >= wanted, timeout_s), (
                f"{wanted - len(self.times_ns)} acknowledgements did not come in {timeout_s} s;"
                f" failures: {self.failures[:3]}"
            )

    def gap_ms(self, at_ns: int) -> float:
        """The pause that something at `at_ns` made: the longest between two acknowledgements of
        which the second came after it and the first not more than a second after it."""
        pairs = zip(self.times_ns, self.times_ns[1:], strict=False)
        gaps = [b - a for a, b in pairs if b > at_ns and a < at_ns + 1_000_000_000]
        return max(gaps, default=0) / 1e6

    def _run(self) -> None:
        began = time.monotonic()
        while not self._stops.is_set():
            due = int((time.monotonic() - began) * self._rate)
            # After a pause the writer goes on at its pace: it does not make up for it.
            if due > self.sent + 1000:
                began = time.monotonic() - self.sent / self._rate
                continue
            while self.sent < due:
                self._send()
            self._producer.poll(0.001)
        self._producer.flush(125)

    def _send(self) -> None:
        number = self.sent
        key = b"key-%d" % (number % self.keys)
        partition = number % self.partitions if self.partitions else -1
        try:
            self._producer.produce(
                self.topic, b"%d" % number, key, partition, on_delivery=self._delivered
            )
        except BufferError:
            self._producer.poll(0.05)
            return
        self.sent += 1

    def _delivered(self, error: KafkaError | None, message: Message) -> None:
        if error is not None:
            self.failures.append(str(error))
            return
        now = time.monotonic_ns()
        number = int(message.value())
        offset = message.offset()
        # None where a duplicate was acknowledged.
        self.acknowledged[number] = (now, message.partition(), -1 if offset is None else offset)
        with self._some:
            self.times_ns.append(now)
            self._some.notify_all()


# --- reading back ---------------------------------------------------------------------------


@dataclass
class Audit:
    lost: list[int] = field(default_factory=list)
    duplicated: list[int] = field(default_factory=list)
    reordered: list[int] = field(default_factory=list)
    misplaced: list[int] = field(default_factory=list)
    """Not at the offset that was acknowledged."""
    read: int = 0

    @property
    def is_clean(self) -> bool:
        return not (self.lost or self.duplicated or self.reordered or self.misplaced)

    def __str__(self) -> str:
        return json.dumps(
            {
                name: len(numbers) if isinstance(numbers, list) else numbers
                for name, numbers in vars(self).items()
            }
        )


def read_all(bootstrap: str, topic: str, timeout_s: float = 60) -> list[Message]:
    """All records up to the high watermarks of now, each partition in order."""
    consumer = Consumer(
        {
            "bootstrap.servers": bootstrap,
            "group.id": "audit",
            "enable.auto.commit": False,
            "log_level": 0,
            **{k: v for k, v in BACK_OFFS.items() if not k.startswith("retry")},
        }
    )
    try:
        partitions = [p.partition_index for p in partitions_of(bootstrap, topic)]
        ends = {
            p: consumer.get_watermark_offsets(TopicPartition(topic, p), timeout=30)
            for p in partitions
        }
        left = {p: high for p, (low, high) in ends.items() if high > low}
        consumer.assign([TopicPartition(topic, p, ends[p][0]) for p in left])
        messages: list[Message] = []
        deadline = time.monotonic() + timeout_s
        while left:
            assert time.monotonic() < deadline, f"{topic} was not read to its end: {left}"
            for message in consumer.consume(10_000, 0.2):
                if message.error() is None:
                    messages.append(message)
                    if message.offset() + 1 >= left.get(message.partition(), 1 << 62):
                        del left[message.partition()]
        return messages
    finally:
        consumer.close()


def audit(bootstrap: str, writer: Writer) -> Audit:
    out = Audit()
    seen: dict[int, tuple[int, int]] = {}
    last: dict[bytes, int] = {}
    for message in read_all(bootstrap, writer.topic):
        number = int(message.value())
        out.read += 1
        if number in seen:
            out.duplicated.append(number)
            continue
        seen[number] = (message.partition(), message.offset())
        key = message.key()
        if number < last.get(key, -1):
            out.reordered.append(number)
        last[key] = number
    for number, (_, partition, offset) in writer.acknowledged.items():
        if number not in seen:
            out.lost.append(number)
        elif offset >= 0 and seen[number] != (partition, offset):
            # A duplicate may be acknowledged without its offset.
            out.misplaced.append(number)
    return out
