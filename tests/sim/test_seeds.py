"""Faults drawn from seeds: nothing acknowledged is lost, and a healed cluster converges.

`KCLUSTER_SEEDS=100:200` runs others than the usual ones.
"""

import os
import subprocess
import sys

import pytest

from kcluster.sim.simulation import Simulation
from kcluster.sim.trial import Trial

FIRST, LAST = (int(n) for n in os.environ.get("KCLUSTER_SEEDS", "1:40").split(":"))


@pytest.mark.parametrize("seed", range(FIRST, LAST + 1))
def test_a_cluster_survives_the_faults_of_a_seed(seed):
    try:
        story = Simulation(seed).run()
    except BaseException:
        print(f"\nreplay: {Trial(seed).command('--trace')}")
        raise
    assert story.is_good, f"{story}\nreplay: {Trial(seed).command('--trace')}"


@pytest.mark.parametrize("first", [1, 7, 13])
def test_the_same_seeds_are_the_same_stories_whatever_the_hash_seed(first):
    program = (
        "from kcluster.sim.simulation import Simulation;"
        f"print([Simulation(seed, fault_ms=2000).run().digest for seed in ({first}, {first + 1})])"
    )
    digests = {
        subprocess.run(
            [sys.executable, "-c", program],
            env=os.environ | {"PYTHONHASHSEED": hash_seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for hash_seed in ("0", "1", "12345")
    }
    assert len(digests) == 1
