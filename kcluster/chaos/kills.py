"""Kills in a row: each is followed until its stage is reached, then comes the next.

choose --> kill --> follow --> rest of the interval --> choose ...
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import msgspec

from kcluster.client.failover import Failover
from kcluster.client.timeline import Timeline
from kcluster.wire import control as c

STEPS = ("detected", "elected", "first_write", "recovered")
"""What is told of each kill, and summed up."""


@dataclass(frozen=True, slots=True)
class KillPlan:
    signal: int = 9
    restart_after_ms: int | None = None
    until: str = "none"
    """none, or one of the stages of a timeline."""
    timeout_ms: int = 30_000
    times: int = 1
    interval_ms: int = 5_000
    """From one kill to the next, at least."""


class Spread(msgspec.Struct, frozen=True):
    """Of the kills in which it was seen."""

    kills: int
    p50_ms: float
    worst_ms: float


def run(
    plan: KillPlan,
    failover: Failover,
    choose: Callable[[], list[int]],
    is_over: Callable[[], bool] = lambda: False,
) -> Iterator[Timeline]:
    """A timeline for each, as it ends. The last one is that of a kill that did not come to its
    stage in time, if there is one."""
    for number in range(plan.times):
        if is_over():
            return
        begun = time.monotonic()
        command = c.Kill(choose(), plan.signal, plan.restart_after_ms, plan.timeout_ms)
        timeline = failover.kill(command, plan.until, plan.timeout_ms)
        yield timeline
        if not is_finished(timeline, plan.until) or number + 1 == plan.times:
            return
        failover.idle(begun + plan.interval_ms / 1000)


def is_finished(timeline: Timeline, until: str) -> bool:
    return until == "none" or timeline.is_reached(until)


def moment_ms(timeline: Timeline, step: str) -> float | None:
    """When all victims had come to it; of a first write, the first. None: not seen."""
    found = [each.ms for each in timeline.steps() if each.event == step]
    if step == "first_write":
        return min(found, default=None)
    return max(found) if len(found) == len(timeline.victims) else None


def spreads(timelines: Sequence[Timeline]) -> dict[str, Spread]:
    found = {}
    for step in STEPS:
        seen = [ms for each in timelines if (ms := moment_ms(each, step)) is not None]
        if seen:
            found[step] = Spread(len(seen), round(statistics.median(seen), 1), max(seen))
    return found
