"""How much of something there was a second, of late: Kafka's arithmetic.

    samples   |----|----|----| ... |--|     each `sample_ms` long, at most `samples_max` + 1 of them
              oldest              current

The rate is the sum of the samples over the time since the oldest of them began; samples that are
missing, because nothing came before, count as empty ones. So who begins anew may have what
`samples_max` - 1 samples hold at once.

Source: Kafka's `Rate`, `SampledStat` and `QuotaUtils`.
"""

from __future__ import annotations

import math
from typing import Final

LONGEST_MS: Final = 2**31 - 1
"""What a throttle time may be on the wire."""


class _Sample:
    __slots__ = ("began_ms", "ended_ms", "value")

    def __init__(self, now_ms: int) -> None:
        self.restart(now_ms)

    def restart(self, now_ms: int) -> None:
        self.began_ms = now_ms
        self.ended_ms = now_ms
        """When something was last added."""
        self.value = 0.0


class Rate:
    """Of one client, or of all that share a quota. `limit` is per second."""

    __slots__ = ("_current", "_samples", "_samples_max", "limit", "sample_ms")

    def __init__(self, limit: float, samples_max: int, sample_ms: int) -> None:
        self.limit = limit
        self.sample_ms = sample_ms
        self._samples_max = samples_max
        self._samples: list[_Sample] = []
        self._current = -1

    @property
    def at_once(self) -> float:
        """More than this at a time is too much, whatever was before."""
        return self.limit * (self._samples_max - 1) * self.sample_ms / 1000

    def record(self, value: float, now_ms: int) -> int:
        """Add `value`; for how many ms nothing may come for the rate to be within the limit."""
        self.add(value, now_ms)
        span_ms, total = self._measure(now_ms)
        rate = total * 1000 / span_ms
        if rate <= self.limit:
            return 0
        wait_ms = (rate - self.limit) / self.limit * span_ms
        return min(math.floor(wait_ms + 0.5), LONGEST_MS)

    def is_alone(self, value: float) -> bool:
        """Nothing else counts besides this `value`, which was just recorded."""
        return sum(sample.value for sample in self._samples) <= value

    def add(self, value: float, now_ms: int) -> None:
        """Without a look at the limit. Less than 0: it was not taken after all."""
        samples = self._samples
        if not samples or now_ms - samples[self._current].began_ms >= self.sample_ms:
            self._begin_next(now_ms)
        sample = samples[self._current]
        sample.value += value
        sample.ended_ms = now_ms

    def _begin_next(self, now_ms: int) -> None:
        samples = self._samples
        # One more than counts: the oldest may reach into the time that is looked at.
        self._current = (self._current + 1) % (self._samples_max + 1)
        if self._current == len(samples):
            samples.append(_Sample(now_ms))
        else:
            samples[self._current].restart(now_ms)

    def _measure(self, now_ms: int) -> tuple[int, float]:
        """(ms, sum) of what counts."""
        expired_ms = now_ms - self._samples_max * self.sample_ms
        oldest_ms = now_ms
        total = 0.0
        for sample in self._samples:
            if sample.ended_ms <= expired_ms:
                sample.restart(now_ms)
                continue
            total += sample.value
            oldest_ms = min(oldest_ms, sample.began_ms)
        span_ms = now_ms - oldest_ms
        missing = self._samples_max - 1 - span_ms // self.sample_ms
        if missing > 0:
            span_ms += missing * self.sample_ms
        return max(span_ms, 1), total
