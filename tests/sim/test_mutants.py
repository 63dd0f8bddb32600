"""Each historical bug, put back, is caught: else a simulation that finds nothing says nothing.

The quick ones always; `KCLUSTER_MUTANTS=1` tries all of them on more seeds.
"""

import os

import pytest

from kcluster.check.invariants import InvariantViolated
from kcluster.sim.cluster import NotReached
from kcluster.sim.mutants import MUTANTS, Mutant
from kcluster.sim.simulation import Simulation

IS_THOROUGH = bool(os.environ.get("KCLUSTER_MUTANTS"))
QUICK_SEEDS = 30
THOROUGH_SEEDS = 60


def is_caught(mutant: Mutant, seed: int) -> bool:
    with mutant.applied():
        try:
            return not Simulation(seed).run().is_good
        except (InvariantViolated, NotReached):
            return True


@pytest.mark.timeout(300)
@pytest.mark.parametrize("mutant", MUTANTS.values(), ids=lambda mutant: mutant.name)
def test_a_mutant_is_caught(mutant):
    if not IS_THOROUGH and not mutant.is_quick:
        pytest.skip("takes many seeds")
    seeds = range(1, THOROUGH_SEEDS if IS_THOROUGH else QUICK_SEEDS)
    if not any(is_caught(mutant, seed) for seed in seeds):
        if mutant.is_known_to_escape:
            pytest.xfail("no seed is known to catch it")
        pytest.fail(f"not caught by seeds {seeds}")
