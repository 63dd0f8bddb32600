from __future__ import annotations

import pytest

from kcluster.chaos.ledger import FAIL, INFO, OK, Latencies, Meter, Stream

MS = 1_000_000


def test_a_send_is_unknown_until_it_is_settled() -> None:
    stream = Stream()
    assert [stream.send() for _ in range(5)] == [0, 1, 2, 3, 4]
    stream.settle(1, 2, OK, 70)
    stream.settle(3, 1, FAIL)
    assert list(stream.outcomes) == [INFO, OK, OK, FAIL, INFO]
    assert list(stream.offsets) == [-1, 70, 71, -1, -1]


def test_a_million_sends_take_nine_bytes_each() -> None:
    stream = Stream()
    for _ in range(1_000_000):
        stream.send()
    stream.settle(0, 1_000_000, OK, 0)
    size = stream.outcomes.__sizeof__() + stream.offsets.__sizeof__()
    assert size < 9_000_000 * 1.2
    assert len(stream) == 1_000_000


def test_percentiles_are_those_of_the_times_to_two_percent() -> None:
    latencies = Latencies()
    assert latencies.percentile(0.5) is None
    for ms in range(1, 1001):
        latencies.add(ms * MS)
    assert latencies.percentile(0.5) == pytest.approx(500, rel=0.03)
    assert latencies.percentile(0.99) == pytest.approx(990, rel=0.03)
    latencies.add(10**15, 10**6)
    assert latencies.percentile(0.99) is not None


def test_the_gap_is_the_longest_time_in_which_something_waited_and_nothing_came() -> None:
    meter = Meter(2)
    meter.acknowledge(0, [(0, 1)], 5 * MS)
    assert meter.longest_gap_ns == 5 * MS
    # Nothing was sent for a second: that is no gap.
    meter.acknowledge(0, [(1000 * MS, 1)], 1003 * MS)
    assert meter.longest_gap_ns == 5 * MS
    # One partition stands still while the other goes on.
    for at in range(1010, 1100, 3):
        meter.acknowledge(1, [((at - 2) * MS, 1)], at * MS)
    meter.acknowledge(0, [(1004 * MS, 3)], 1100 * MS)
    assert meter.longest_gap_ns == 5 * MS
    assert meter.longest_partition_gap_ns == 96 * MS
    assert meter.gap_ns(2000 * MS) == 900 * MS


def test_what_never_came_is_a_gap_as_well() -> None:
    meter = Meter(1)
    meter.acknowledge(0, [(0, 1)], 5 * MS)
    meter.waited(0, 6 * MS, 1000 * MS)
    assert meter.longest_gap_ns == 994 * MS


def test_what_is_given_up_is_failed_or_unknown_by_its_error() -> None:
    meter = Meter(1)
    meter.sending(10)
    meter.give_up(4, "REQUEST_TIMED_OUT", is_refused=False)
    meter.give_up(2, "MESSAGE_TOO_LARGE", is_refused=True)
    meter.give_up(1, "REQUEST_TIMED_OUT", is_refused=False)
    assert (meter.failed, meter.unknown) == (2, 5)
    assert meter.errors == {"REQUEST_TIMED_OUT": 5, "MESSAGE_TOO_LARGE": 2}


def test_recent_latencies_are_those_since_the_last_look() -> None:
    meter = Meter(1)
    meter.acknowledge(0, [(0, 3)], MS)
    assert meter.take_recent().count == 3
    meter.acknowledge(0, [(0, 2), (MS, 1)], 2 * MS)
    assert (meter.take_recent().count, meter.take_recent().count) == (3, 0)
    assert meter.latencies.count == 6
