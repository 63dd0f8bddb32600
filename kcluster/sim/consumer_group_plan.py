"""What a seed draws of a group of the consumer protocol."""

from __future__ import annotations

from dataclasses import dataclass
from random import Random

from kcluster.core.client.assignors import COOPERATIVE_STICKY, RANGE
from kcluster.core.groups.consumer.assignors import RANGE as RANGE_OF_TOPICS
from kcluster.core.groups.consumer.assignors import UNIFORM


@dataclass(frozen=True, slots=True)
class ConsumerGroupPlan:
    """One group: what a seed draws."""

    group: str
    members: int
    static: int
    """Of these, how many are static."""
    classic: int
    """Members of the classic protocol, besides."""
    classic_assignor: str
    assignor: str | None
    has_pattern: bool
    """Its members subscribe by regular expression."""
    restless: float
    ours: int
    """Members of the consumer protocol that run the core of kcluster's own client, besides."""

    @staticmethod
    def draw(group: str, choice: Random) -> ConsumerGroupPlan:
        return ConsumerGroupPlan(
            group,
            choice.choice([1, 2, 2, 3]),
            choice.choice([0, 0, 1]),
            choice.choice([0, 0, 1, 2]),
            choice.choice([RANGE, COOPERATIVE_STICKY]),
            choice.choice([None, UNIFORM, RANGE_OF_TOPICS]),
            choice.random() < 0.25,
            choice.choice([0.02, 0.05, 0.1]),
            choice.choice([0, 0, 1, 2]),
        )
