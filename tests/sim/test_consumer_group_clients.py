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


def test_members_that_run_our_own_client_hold_partitions_beside_others():
    story = Simulation(36, consumer_groups=1).run()
    assert story.is_good, story
    holds = [hold for each in story.history.groups.ownership.holds.values() for hold in each]
    assert {"ours" in hold.member for hold in holds if len(hold.claims) > 1} == {True, False}


def test_a_member_that_was_taken_out_brings_back_no_offsets_of_its_former_life():
    # A classic one: it stands still, is replaced, and joins again with what it had.
    story = Simulation(1039, consumer_groups=2).run()
    assert story.is_good, story
