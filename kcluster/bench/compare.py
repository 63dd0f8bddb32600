"""Rounds of one load against one cluster, or against two in turns.

Each cluster gets a topic of its own, a warm-up that does not count, and as many rounds as the
others: A B A B ..., so that what a machine does meanwhile hits both alike. Figures are medians
over the rounds; the spread is (highest - lowest) / median.
"""

from __future__ import annotations

import os
import statistics
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any, Final

from kcluster.bench import produce, topic
from kcluster.bench.connection import Address, Connection, connect_any
from kcluster.bench.produce import Lanes, Load, Round

SCHEMA: Final = 1

FILE_DELETE_DELAY_MS: Final = "1000"
"""Gigabytes of a benchmark should not lie about for Kafka's minute."""


@dataclass(frozen=True, slots=True)
class Target:
    name: str
    addresses: list[Address]


@dataclass(frozen=True, slots=True)
class Plan:
    load: Load
    replication_factor: int = -1
    min_insync_replicas: int | None = None
    warm_up_s: float = 1.0
    rounds: int = 5
    keep_topic: bool = False


@dataclass(frozen=True, slots=True)
class Outcome:
    """Of one target."""

    target: Target
    rounds: list[Round]
    batch_bytes: int
    records_in_batch: int

    def median(self, figure: Callable[[Round], float]) -> float:
        return statistics.median(map(figure, self.rounds))

    def spread(self, figure: Callable[[Round], float]) -> float:
        values = [figure(each) for each in self.rounds]
        return (max(values) - min(values)) / statistics.median(values)


def mb_per_s(each: Round) -> float:
    return each.mb_per_s


def run(
    targets: list[Target], plan: Plan, progress: Callable[[str, Round], None] | None = None
) -> list[Outcome]:
    """One outcome for each target. Raises UsageError or ApiError when a cluster cannot take it."""
    batches, records = produce.build(plan.load)
    name = f"kcluster-bench-{os.getpid()}"
    outcomes = [Outcome(target, [], len(batches[0]), records) for target in targets]
    controls: list[Connection] = []
    lanes: list[Lanes] = []
    created: list[Connection] = []
    try:
        for target in targets:
            control = connect_any(target.addresses)
            controls.append(control)
            topic.create(
                control, name, plan.load.partitions, plan.replication_factor, _configs(plan)
            )
            created.append(control)
            where = topic.leaders(control, name, plan.load.partitions)
            lanes.append(Lanes(plan.load, name, where, batches))
        for each in lanes:
            if plan.warm_up_s > 0:
                each.run(plan.warm_up_s, plan.load.round_bytes, records)
        for _ in range(plan.rounds):
            for outcome, each in zip(outcomes, lanes, strict=True):
                done = each.run(plan.load.round_s, plan.load.round_bytes, records)
                outcome.rounds.append(done)
                if progress is not None:
                    progress(outcome.target.name, done)
    finally:
        for each in lanes:
            each.close()
        if not plan.keep_topic:
            for control in created:
                topic.delete(control, name)
        for control in controls:
            control.close()
    return outcomes


def _configs(plan: Plan) -> dict[str, str]:
    configs = {
        "file.delete.delay.ms": FILE_DELETE_DELAY_MS,
        "max.message.bytes": str(max(1_048_588, plan.load.batch_bytes * 2)),
    }
    if plan.min_insync_replicas is not None:
        configs["min.insync.replicas"] = str(plan.min_insync_replicas)
    return configs


def ratio(outcomes: list[Outcome]) -> float:
    """How many times the MB/s of the second the first has."""
    first, second = outcomes
    return first.median(mb_per_s) / second.median(mb_per_s)


def as_json(plan: Plan, outcomes: list[Outcome]) -> dict[str, Any]:
    return {
        "schema": SCHEMA,
        "load": asdict(plan.load),
        "replication_factor": plan.replication_factor,
        "min_insync_replicas": plan.min_insync_replicas,
        "results": [
            {
                "target": outcome.target.name,
                "batch_bytes": outcome.batch_bytes,
                "records_in_batch": outcome.records_in_batch,
                "mb_per_s": round(outcome.median(mb_per_s), 2),
                "spread": round(outcome.spread(mb_per_s), 3),
                "records_per_s": round(outcome.median(lambda each: each.records_per_s)),
                "latency_p50_us": round(outcome.median(lambda each: each.latency_p50_us), 1),
                "latency_p99_us": round(outcome.median(lambda each: each.latency_p99_us), 1),
                "rounds": [
                    {"mb_per_s": round(each.mb_per_s, 2), **_rounded(asdict(each))}
                    for each in outcome.rounds
                ],
            }
            for outcome in outcomes
        ],
        **({"ratio": round(ratio(outcomes), 3)} if len(outcomes) == 2 else {}),
    }


def _rounded(figures: dict[str, Any]) -> dict[str, Any]:
    return {
        name: round(value, 4) if isinstance(value, float) else value
        for name, value in figures.items()
    }
