"""Request times: counted by API and by bound."""

from __future__ import annotations

from kcluster.wire.telling import REQUEST_BOUNDS_MS, RequestTimes
from kcluster.world.meter import Meter


def test_times_are_counted_within_their_bounds() -> None:
    meter = Meter()
    assert meter.read() == []
    for took_us in (1, 500, 501, 2_500, 6_000_000):
        meter.answered(1, took_us * 1000)
    meter.answered(0, 3_000_000)
    buckets = [0] * (len(REQUEST_BOUNDS_MS) + 1)
    assert meter.read() == [
        RequestTimes(0, 1, 3_000, [0, 0, 0, 1, *buckets[4:]]),
        RequestTimes(1, 5, 6_003_502, [2, 1, 1, *buckets[3:-1], 1]),
    ]
