"""Quotas in the simulation: who is over one waits, and nothing else becomes of it."""

from __future__ import annotations

from kcluster.sim.options import QUOTAS, draw
from kcluster.sim.simulation import Simulation

THROTTLING_SEED = 13


def test_throttled_clients_come_to_their_end_and_the_cluster_converges() -> None:
    assert QUOTAS in draw(THROTTLING_SEED).changes
    story = Simulation(THROTTLING_SEED, fault_ms=8_000).run()
    assert story.is_good, story
    assert story.reached["client throttled"] > 0
    assert story.reached["fetch withheld"] > 0


def test_some_seeds_have_quotas_and_most_have_none() -> None:
    count = sum(QUOTAS in draw(seed).changes for seed in range(1, 1001))
    assert 100 < count < 250
