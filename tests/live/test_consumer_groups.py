"""Groups of the consumer protocol (KIP-848) of a stock client and of ours, against real processes.

What classic groups are put through (`test_groups`), and the way from one protocol to the other
and back while members read.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest

from kcluster.client import Admin
from tests.live.conftest import CONSUMER_GROUP_OPTIONS, LiveCluster
from tests.live.group_members import CLASSIC, CONSUMER, Member
from tests.live.group_run import Run, new_topic, quick, run_soundly
from tests.live.killing import Brokers, KclusterBrokers

pytestmark = [pytest.mark.live, pytest.mark.timeout(180)]

LIBRARY = "confluent-kafka"


@pytest.mark.parametrize("library", [LIBRARY, "kcluster"])
def test_a_group_skips_nothing_while_members_come_and_go_and_its_coordinator_is_killed(
    group_brokers: Brokers, library: str
) -> None:
    run = run_soundly(group_brokers, quick([library], protocol=CONSUMER))
    # Of 12 partitions on 3 members, a fourth takes 3; the others keep theirs all the time.
    [joining, _] = [run.revoked_between(*window) for window in run.windows]
    assert len(joining) == 3, joining


def test_a_group_by_range(group_brokers: Brokers) -> None:
    run_soundly(group_brokers, quick([LIBRARY], kills=1, protocol=CONSUMER, strategy="range"))


def test_a_rolling_restart_of_all_brokers_rebalances_nobody(group_brokers: Brokers) -> None:
    run = Run(group_brokers, quick([LIBRARY], protocol=CONSUMER), new_topic())
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


def test_a_static_member_that_restarts_gets_its_partitions_back_without_a_rebalance(
    group_brokers: Brokers,
) -> None:
    run = Run(group_brokers, quick([LIBRARY], is_static=True, protocol=CONSUMER), new_topic())
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
        assert after.revocations == before.revocations
        assert run.end()["is_sound"]


def test_a_live_group_goes_to_the_consumer_protocol_and_back(
    own_cluster: Callable[..., LiveCluster],
) -> None:
    # librdkafka reads from the beginning when the coordinator moves while it asks for offsets,
    # as it may in the shared cluster long after a broker has come back.
    cluster = own_cluster("conversion", options=CONSUMER_GROUP_OPTIONS)
    brokers = KclusterBrokers(cluster.bootstrap, cluster.control)
    run = Run(brokers, quick([LIBRARY], strategy="range"), new_topic())
    admin = Admin(cluster.bootstrap)

    def type_of_group() -> str:
        return admin.describe_group(run.group.name).type

    def replace(old: Member, protocol: str) -> None:
        run.group.start(LIBRARY, protocol=protocol)
        run.settle()
        run.group.leave(old)
        run.settle()
        run.flow(time.monotonic_ns())

    with admin, run.group:
        with run.writer:
            run.begin()
            assert type_of_group() == CLASSIC
            for protocol in (CONSUMER, CLASSIC):
                for member in list(run.group.members.values()):
                    replace(member, protocol)
                    if protocol == CONSUMER:
                        assert type_of_group() == CONSUMER
            assert type_of_group() == CLASSIC
        report = run.end()
    assert report["is_sound"], report
