"""Rates from counters that only rise: what one process did in each of the last seconds."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

from kcluster.client.snapshot import BrokerStatus, CoordinatorStatus

SAMPLES_MAX = 60
STEP_MS = 1_000
"""CPU and rates are told once a second: a sight between tells nothing about them."""

CPU_STEPS = 3
"""The supervisor tells CPU times at its own beat; over three seconds the two beats agree."""


@dataclass(slots=True)
class Traffic:
    """Bytes per second of one process, a sample each second; the last one is the newest."""

    bytes_in: deque[float] = field(default_factory=lambda: deque(maxlen=SAMPLES_MAX))
    bytes_out: deque[float] = field(default_factory=lambda: deque(maxlen=SAMPLES_MAX))
    is_alive: deque[bool] = field(default_factory=lambda: deque(maxlen=SAMPLES_MAX))
    """Whether it served in that second: no bytes of a dead one is something else."""
    cpu: float | None = None
    """Of one core, 0.06 for 6 %; None while it is not known."""
    _incarnation: int = -1
    _at_ms: int = 0
    _in: int = 0
    _out: int = 0
    _cpu: deque[tuple[int, int]] = field(default_factory=lambda: deque(maxlen=CPU_STEPS + 1))

    @property
    def rate_in(self) -> float:
        return self.bytes_in[-1] if self.bytes_in else 0.0

    @property
    def rate_out(self) -> float:
        return self.bytes_out[-1] if self.bytes_out else 0.0

    def take(self, status: BrokerStatus | CoordinatorStatus, at_ms: int) -> None:
        counters = status.counters if isinstance(status, BrokerStatus) else None
        traffic = counters.traffic if counters is not None else None
        if status.incarnation != self._incarnation:
            self._incarnation, self._in, self._out = status.incarnation, 0, 0
            if self._at_ms == 0 and traffic is not None:
                self._in, self._out = traffic.bytes_in, traffic.bytes_out
            self._at_ms = self._at_ms or at_ms
            self._cpu.clear()
            self.cpu = None
        passed_ms = at_ms - self._at_ms
        if passed_ms < STEP_MS:
            return
        self._at_ms = at_ms
        rate_in = rate_out = 0.0
        if traffic is not None:
            rate_in = max(0, traffic.bytes_in - self._in) * 1000 / passed_ms
            rate_out = max(0, traffic.bytes_out - self._out) * 1000 / passed_ms
            self._in, self._out = traffic.bytes_in, traffic.bytes_out
        self.bytes_in.append(rate_in)
        self.bytes_out.append(rate_out)
        self.is_alive.append(status.state == "running")
        if not status.pid:
            self._cpu.clear()
            self.cpu = None
            return
        self._cpu.append((at_ms, status.cpu_ms))
        (then_ms, before), (now_ms, now) = self._cpu[0], self._cpu[-1]
        self.cpu = max(0, now - before) / (now_ms - then_ms) if now_ms > then_ms else None
