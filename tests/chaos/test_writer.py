from __future__ import annotations

import threading

from kcluster.chaos.ledger import FAIL, INFO, OK, Meter, Stream
from kcluster.chaos.reach import Reach
from kcluster.chaos.workload import Workload
from kcluster.chaos.writer import Writer
from kcluster.core.client.producer import Delivered, Failed, ProducerSettings
from kcluster.errors import ErrorCode
from kcluster.model import TopicPartition


class Sends:
    """A client that takes all that it is given, and says what the test has it say."""

    def __init__(self) -> None:
        self.sent: list[tuple[int | None, bytes | None]] = []

    def send(self, topic: str, value: bytes | None, key: bytes, **rest: int) -> None:
        self.sent.append((rest["partition"], value))


class Case:
    def __init__(self, partitions: int = 2, producers: int = 2, number: int = 1) -> None:
        self.workload = Workload("c0ffee00", "load", partitions, producers, 50)
        self.streams = [Stream() for _ in range(self.workload.streams)]
        self.meter = Meter(partitions)
        self.client = Sends()
        self.writer = Writer(
            number,
            Reach("nowhere"),
            self.workload,
            self.streams,
            self.meter,
            ProducerSettings(),
            rate=1000,
            sends_max=10**6,
            stops=threading.Event(),
            drain_s=1,
        )

    def send(self, count: int) -> None:
        self.writer._send(self.client, count)  # type: ignore[arg-type]

    def hear(self, *events: Delivered | Failed) -> None:
        self.writer._book(list(events))

    def outcomes(self, stream: int) -> list[int]:
        return list(self.streams[stream].outcomes)


def delivered(partition: int, base_offset: int, count: int) -> Delivered:
    return Delivered(TopicPartition("load", partition), base_offset, count)


def failed(partition: int, count: int, code: ErrorCode) -> Failed:
    return Failed("load", partition, count, code, "")


def test_a_producer_writes_to_its_own_streams_in_turns() -> None:
    case = Case()
    case.send(5)
    assert [partition for partition, _ in case.client.sent] == [0, 1, 0, 1, 0]
    assert [len(stream) for stream in case.streams] == [0, 0, 3, 2]
    assert case.client.sent[2][1] == case.workload.value(2, 1)
    assert case.meter.sent == 5


def test_events_are_about_the_oldest_sends_of_their_partition() -> None:
    case = Case()
    case.send(4)
    case.send(4)
    case.hear(delivered(0, 100, 3), failed(1, 2, ErrorCode.REQUEST_TIMED_OUT))
    case.hear(delivered(1, 50, 1), delivered(0, 110, 1))
    assert case.outcomes(2) == [OK] * 4
    assert list(case.streams[2].offsets) == [100, 101, 102, 110]
    assert case.outcomes(3) == [INFO, INFO, OK, INFO]
    assert list(case.streams[3].offsets) == [-1, -1, 50, -1]
    assert (case.meter.acknowledged, case.meter.unknown) == (5, 2)


def test_only_what_depends_on_the_record_alone_is_refused_for_certain() -> None:
    case = Case(partitions=1)
    case.send(4)
    case.hear(
        failed(0, 1, ErrorCode.MESSAGE_TOO_LARGE),
        failed(0, 1, ErrorCode.OUT_OF_ORDER_SEQUENCE_NUMBER),
        failed(0, 1, ErrorCode.NOT_ENOUGH_REPLICAS_AFTER_APPEND),
        delivered(0, -1, 1),
    )
    assert case.outcomes(1) == [FAIL, INFO, INFO, OK]
    assert (case.meter.failed, case.meter.unknown, case.meter.acknowledged) == (1, 2, 1)


def test_what_never_left_for_want_of_a_topic_has_failed() -> None:
    case = Case()
    case.send(6)
    case.hear(failed(-1, 6, ErrorCode.UNKNOWN_TOPIC_OR_PARTITION))
    assert case.outcomes(2) == case.outcomes(3) == [FAIL] * 3
    assert case.meter.failed == 6


def test_what_is_under_way_when_a_client_breaks_stays_unknown() -> None:
    case = Case()
    case.send(4)
    case.hear(delivered(0, 0, 1))
    case.writer._lose("CLIENT_BROKE")
    case.send(2)
    case.hear(delivered(0, 7, 1), delivered(1, 9, 1))
    assert case.outcomes(2) == [OK, INFO, OK]
    assert case.outcomes(3) == [INFO, INFO, OK]
    assert list(case.streams[2].offsets) == [0, -1, 7]
    assert (case.meter.unknown, case.meter.errors) == (3, {"CLIENT_BROKE": 3})
