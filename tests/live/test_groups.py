"""Consumer groups of stock clients and of ours against real processes: what survives kills.

Short versions; ten of each and figures: `python -m tests.live.group_run`. KCLUSTER_TEST_BOOTSTRAP
and KCLUSTER_TEST_PEER_SCRIPT point them at another cluster.
"""

from __future__ import annotations

import time

import pytest

from tests.live import killing
from tests.live.group_members import PYTHON_LIBRARIES
from tests.live.group_run import Run, new_topic, quick, run_soundly
from tests.live.killing import Brokers

pytestmark = [pytest.mark.live, pytest.mark.timeout(180)]

each_library = pytest.mark.parametrize("library", [*PYTHON_LIBRARIES, "kcluster"])


@each_library
def test_a_group_skips_nothing_while_members_come_and_go_and_its_coordinator_is_killed(
    group_brokers: Brokers, library: str
) -> None:
    run_soundly(group_brokers, quick([library]))


@pytest.mark.parametrize("library", ["confluent-kafka", "kafka-python"])
def test_a_cooperative_group_goes_on_reading_what_its_members_keep(
    group_brokers: Brokers, library: str
) -> None:
    plan = quick([library], kills=0, strategy="cooperative-sticky")
    run = run_soundly(group_brokers, plan)
    # Of 12 partitions on 3 members, a fourth takes 3; the others keep theirs all the time.
    [joining, _] = [run.revoked_between(*window) for window in run.windows]
    assert len(joining) == 3, joining


def test_members_of_three_libraries_share_one_group(group_brokers: Brokers) -> None:
    run_soundly(group_brokers, quick(PYTHON_LIBRARIES, kills=1))


@each_library
def test_a_rolling_restart_of_all_brokers_does_not_rebalance_static_members(
    group_brokers: Brokers, library: str
) -> None:
    run = Run(group_brokers, quick([library], is_static=True), new_topic())
    with run.group:
        with run.writer:
            run.begin()
            before = run.shape()
            for broker in (1, 2, 3):
                group_brokers.restart([broker])
                run.await_in_sync()
                run.flow(time.monotonic_ns())
            assert run.shape() == before
        assert run.end()["is_sound"]


@each_library
def test_a_static_member_that_restarts_gets_its_partitions_back_without_a_rebalance(
    group_brokers: Brokers, library: str
) -> None:
    run = Run(group_brokers, quick([library], is_static=True), new_topic())
    with run.group:
        with run.writer:
            run.begin()
            before = run.shape()
            member = next(iter(run.group.members.values()))
            run.group.leave(member)
            run.start_member(member.name)
            run.settle()
            run.flow(time.monotonic_ns())
            after = run.shape()
        assert after.owned == before.owned
        assert after.generations == before.generations
        assert after.revocations == before.revocations
        assert run.end()["is_sound"]


def test_the_coordinator_of_a_group_is_found_through_every_broker(group_brokers: Brokers) -> None:
    found = {
        killing.coordinator_of(address, "some-group")
        for address in group_brokers.bootstrap.split(",")
    }
    assert len(found) == 1
