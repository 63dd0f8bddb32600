"""How long requests took, by API: from a frame's last byte to its answer, waiting included."""

from __future__ import annotations

from bisect import bisect_left
from typing import Final

from kcluster.wire.telling import REQUEST_BOUNDS_MS, RequestTimes

_BOUNDS_NS: Final = [int(bound * 1_000_000) for bound in REQUEST_BOUNDS_MS]


class Meter:
    def __init__(self) -> None:
        self._by_api: dict[int, list[int]] = {}
        """Total in ns, then how many within each bound, and beyond the last."""

    def answered(self, api: int, took_ns: int) -> None:
        counts = self._by_api.get(api)
        if counts is None:
            counts = self._by_api[api] = [0] * (len(_BOUNDS_NS) + 2)
        counts[0] += took_ns
        counts[bisect_left(_BOUNDS_NS, took_ns) + 1] += 1

    def read(self) -> list[RequestTimes]:
        """Of APIs that were asked for, by their keys."""
        return [
            RequestTimes(api, sum(buckets), total_ns // 1000, buckets)
            for api, (total_ns, *buckets) in sorted(self._by_api.items())
        ]
