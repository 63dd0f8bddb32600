"""Groups of the consumer protocol in the simulated world: one holder at a time, nothing lost."""

import pytest

from kcluster.sim.simulation import Simulation


@pytest.mark.parametrize("seed", range(1, 7))
def test_groups_of_the_consumer_protocol_survive_the_faults_of_a_seed(seed):
    simulation = Simulation(seed, consumer_groups=2)
    try:
        story = simulation.run()
    except BaseException:
        print(f"\nreplay: Simulation({seed}, consumer_groups=2).run()")
        raise
    assert story.is_good, story
    groups = story.history.groups
    assert {group for group, _, _ in groups.owners} == {"consumers-0", "consumers-1"}
    assert any(commit.acknowledged for commits in groups.commits.values() for commit in commits)
    assert any(hold.claims for holds in groups.ownership.holds.values() for hold in holds)


def test_seeds_have_groups_of_either_protocol_both_and_none():
    drawn = [Simulation(seed).options for seed in range(1, 60)]
    assert {(bool(each.groups), bool(each.consumer_groups)) for each in drawn} == {
        (False, False), (False, True), (True, False), (True, True),
    }  # fmt: skip
