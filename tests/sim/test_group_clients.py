"""Groups in the simulated world: nothing committed is lost."""

import os
import subprocess
import sys

import pytest

from kcluster.sim.simulation import Simulation


@pytest.mark.parametrize("seed", range(1, 9))
def test_groups_survive_the_faults_of_a_seed(seed):
    simulation = Simulation(seed, groups=2)
    try:
        story = simulation.run()
    except BaseException:
        print(f"\nreplay: Simulation({seed}, groups=2).run()")
        raise
    assert story.is_good, story
    groups = story.history.groups
    assert {group for group, _, _ in groups.owners} == {"group-0", "group-1"}
    assert any(commit.acknowledged for commits in groups.commits.values() for commit in commits)
    # Whoever asks at the end is told that everything is done.
    for (_, tp), reads in groups.reads.items():
        log = next(iter(story.history.logs[tp].values()))
        if log and log[-1][0] >= story.history.deleted.get(tp, 0):
            # Compaction or retention may have taken the last records.
            assert reads[-1].who == "auditor"
            assert reads[-1].offset >= log[-1][0] + 1


def test_the_same_seed_is_the_same_story_of_groups_whatever_the_hash_seed():
    program = (
        "from kcluster.sim.simulation import Simulation;"
        "print(Simulation(3, fault_ms=3000, groups=2).run().digest)"
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
