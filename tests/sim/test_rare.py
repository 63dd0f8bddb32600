"""Rare states and strikes: each has a name with a meaning, and a strike can be left out alone."""

from __future__ import annotations

from kcluster.sim.faults import KINDS
from kcluster.sim.rare import RARE_STATES
from kcluster.sim.simulation import Simulation

FAULT_MS = 4_000


def test_what_a_story_counts_is_in_the_tables() -> None:
    story = Simulation(3, fault_ms=FAULT_MS, kinds=("kill", "weather", "isolate")).run()
    assert story.is_good, story
    assert set(story.faults) <= set(KINDS)
    assert set(story.reached) <= set(RARE_STATES)
    assert story.reached["crash return"] > 0
    assert story.reached["fenced broker"] > 0


def test_a_strike_that_is_left_out_changes_nothing_that_others_are() -> None:
    whole, less = Simulation(5, fault_ms=FAULT_MS), Simulation(5, fault_ms=FAULT_MS, skipped={1})
    whole.run()
    less.run()
    assert less.faults.strikes == [each for each in whole.faults.strikes if each.number != 1]
