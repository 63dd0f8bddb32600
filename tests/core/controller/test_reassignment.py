"""AlterPartitionReassignments: replicas come and go, nothing that is committed goes with them."""

from __future__ import annotations

import pytest

from kcluster.core.controller import reassignment
from kcluster.core.controller.reassignment import Assignment
from kcluster.core.controller.telling import FORWARD_WAIT_MS
from kcluster.core.metadata.records import PartitionChanged
from kcluster.core.traces import ReassignmentCancelled, ReassignmentCompleted, ReassignmentStarted
from kcluster.errors import ErrorCode
from kcluster.model import SUPERVISOR
from kcluster.wire import bus
from kcluster.wire.message import encode
from kcluster.wire.messages import alter_partition_reassignments as apr

from .playbook import Playbook, only
from .test_topics import forward

MIN_2 = {"min.insync.replicas": "2"}


@pytest.fixture
def p() -> Playbook:
    """Five brokers; topic t with one partition on three of them, min.insync.replicas 2."""
    p = Playbook(brokers=5)
    p.join(1, 2, 3, 4, 5)
    p.make_topic("t", [1, 2, 3], configs=MIN_2)
    return p


def reassign(
    p: Playbook,
    replicas: list[int] | None,
    *,
    topic: str = "t",
    partition: int = 0,
    version: int = 1,
    may_change_factor: bool = True,
) -> int:
    """The error of the partition."""
    request = apr.AlterPartitionReassignmentsRequest(
        allow_replication_factor_change=may_change_factor,
        topics=[
            apr.ReassignableTopic(
                name=topic,
                partitions=[
                    apr.ReassignablePartition(partition_index=partition, replicas=replicas)
                ],
            )
        ],
    )
    response = forward(p, request, version)
    assert response.error_code == 0
    result = response.responses[0].partitions[0]
    assert bool(result.error_code) == bool(result.error_message)
    return int(result.error_code)


def test_while_it_lasts_a_partition_has_the_replicas_of_both(p: Playbook) -> None:
    before = p.partition()
    assert reassign(p, [4, 2, 3]) == 0
    state = p.partition()
    assert (state.replicas, state.adding, state.removing) == ([4, 2, 3, 1], [4], [1])
    assert (state.leader, state.isr) == (1, [2, 3, 1])
    assert state.leader_epoch == before.leader_epoch
    assert p.traced(ReassignmentStarted)[-1].target == [4, 2, 3]


def test_it_is_complete_when_all_that_are_added_are_in_sync(p: Playbook) -> None:
    reassign(p, [4, 5, 3])
    before = p.partition()
    p.alter(1, [1, 2, 3, 4])
    assert p.partition().is_reassigning
    p.alter(1, [1, 2, 3, 4, 5])
    state = p.partition()
    assert (state.replicas, state.isr) == ([4, 5, 3], [4, 5, 3])
    assert not state.is_reassigning
    assert (state.leader, state.leader_epoch) == (4, before.leader_epoch + 1)
    assert p.traced(ReassignmentCompleted)[-1].gone == [1, 2]


def test_a_leader_that_stays_gets_a_new_epoch_when_a_replica_goes(p: Playbook) -> None:
    before = p.partition()
    reassign(p, [1, 2, 4])
    p.alter(1, [1, 2, 3, 4])
    state = p.partition()
    assert (state.leader, state.replicas) == (1, [1, 2, 4])
    assert state.leader_epoch == before.leader_epoch + 1


def test_it_is_not_complete_with_fewer_than_min_isr_that_stay(p: Playbook) -> None:
    p.die(2)
    p.die(3)
    reassign(p, [4, 2, 3])
    p.alter(1, [1, 4])
    state = p.partition()
    assert state.is_reassigning, "broker 1 may hold the second copy of what is committed"
    assert state.isr == [4, 1]


def test_what_only_gets_fewer_waits_for_all_that_stay(p: Playbook) -> None:
    p.die(3)
    assert reassign(p, [2, 3]) == 0
    assert p.partition().is_reassigning
    p.join(3)
    p.alter(1, [1, 2, 3])
    assert p.partition().replicas == [2, 3]


def test_what_only_gets_fewer_is_complete_at_once_when_all_are_in_sync(p: Playbook) -> None:
    reassign(p, [3, 2])
    state = p.partition()
    assert (state.replicas, state.isr, state.leader) == ([3, 2], [3, 2], 3)


def test_another_order_changes_the_preferred_leader_only(p: Playbook) -> None:
    before = p.partition()
    reassign(p, [3, 1, 2])
    state = p.partition()
    assert (state.replicas, state.leader) == ([3, 1, 2], 1)
    assert state.leader_epoch == before.leader_epoch


def test_the_same_request_again_changes_nothing(p: Playbook) -> None:
    reassign(p, [4, 2, 3])
    before = p.partition()
    assert reassign(p, [4, 2, 3]) == 0
    assert p.partition() is before


def test_another_target_keeps_what_is_still_being_added(p: Playbook) -> None:
    reassign(p, [4, 2, 3])
    reassign(p, [4, 5, 3])
    state = p.partition()
    assert (state.replicas, state.adding, state.removing) == ([4, 5, 3, 1, 2], [4, 5], [1, 2])


def test_cancelling_goes_back_to_what_was(p: Playbook) -> None:
    reassign(p, [4, 2, 3])
    p.alter(1, [1, 2])
    before = p.partition()
    assert reassign(p, None) == 0
    state = p.partition()
    assert sorted(state.replicas) == [1, 2, 3]
    assert (state.leader, state.isr, state.is_reassigning) == (1, [2, 1], False)
    assert state.leader_epoch == before.leader_epoch + 1, "broker 4 may come again"
    assert p.traced(ReassignmentCancelled)[-1].gone == [4]


def test_cancelling_takes_the_lead_from_a_replica_that_goes(p: Playbook) -> None:
    reassign(p, [4, 5, 3])
    p.alter(1, [1, 2, 3, 4])
    p.die(1)
    p.die(2)
    assert p.partition().leader == 4
    p.join(1)
    p.alter(4, [1, 3, 4])
    assert reassign(p, None) == 0
    state = p.partition()
    assert (sorted(state.isr), state.leader) == ([1, 3], 3)


def test_cancelling_is_refused_where_it_would_take_a_copy_that_counts(p: Playbook) -> None:
    reassign(p, [4, 5, 3])
    p.alter(1, [1, 2, 3, 4])
    for id in (2, 3):
        p.die(id)
    assert p.partition().isr == [4, 1]
    assert reassign(p, None) == ErrorCode.INVALID_REPLICA_ASSIGNMENT
    p.die(4)
    assert p.partition().elr == [4]
    assert reassign(p, None) == ErrorCode.INVALID_REPLICA_ASSIGNMENT
    assert p.partition().is_reassigning


def test_nothing_is_lost_by_cancelling_what_was_never_in_sync(p: Playbook) -> None:
    reassign(p, [4, 5, 3])
    p.die(2)
    p.die(3)
    assert reassign(p, None) == 0
    assert (p.partition().isr, p.partition().elr) == ([1], [3])


def test_it_waits_for_one_that_can_lead(p: Playbook) -> None:
    reassign(p, [4, 2])
    p.die(2)
    topic_id = p.partition().topic_id
    p.receive(4, bus.LogDirFailed(p.epochs[4], [(topic_id, 0)]))
    state = p.partition()
    assert (state.is_reassigning, state.leader) == (True, 1)


def test_a_replica_that_comes_again_has_another_log_than_the_one_that_failed(p: Playbook) -> None:
    topic_id = p.partition().topic_id
    p.receive(3, bus.LogDirFailed(p.epochs[3], [(topic_id, 0)]))
    reassign(p, [1, 2, 4])
    p.alter(1, [1, 2, 4])
    assert p.partition().replicas == [1, 2, 4]
    reassign(p, [1, 2, 3])
    assert p.alter(1, [1, 2, 3, 4]).error == 0
    assert p.partition().replicas == [1, 2, 3]


@pytest.mark.parametrize(
    ("replicas", "error"),
    [
        ([], ErrorCode.INVALID_REPLICA_ASSIGNMENT),
        ([1, 1], ErrorCode.INVALID_REPLICA_ASSIGNMENT),
        ([1, 9], ErrorCode.INVALID_REPLICA_ASSIGNMENT),
        ([-1], ErrorCode.INVALID_REPLICA_ASSIGNMENT),
        (None, ErrorCode.NO_REASSIGNMENT_IN_PROGRESS),
    ],
)
def test_what_cannot_be_is_refused(p: Playbook, replicas: list[int] | None, error: int) -> None:
    before = p.partition()
    assert reassign(p, replicas) == error
    assert p.partition() is before


def test_partitions_that_are_not_there_are_unknown(p: Playbook) -> None:
    assert reassign(p, [1], topic="no") == ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
    assert reassign(p, [1], partition=7) == ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
    assert reassign(p, None, partition=-1) == ErrorCode.UNKNOWN_TOPIC_OR_PARTITION


def test_the_replication_factor_changes_unless_that_is_forbidden(p: Playbook) -> None:
    forbidden = reassign(p, [1, 2], may_change_factor=False)
    assert forbidden == ErrorCode.INVALID_REPLICATION_FACTOR
    assert reassign(p, [1, 2, 3, 4]) == 0
    assert reassign(p, [5, 2, 3, 4], may_change_factor=False) == 0
    assert reassign(p, [1, 2], version=0) == 0


def test_brokers_that_do_not_run_may_be_named(p: Playbook) -> None:
    p.die(4)
    assert reassign(p, [4, 2, 3]) == 0
    p.join(4)
    p.alter(1, [1, 2, 3, 4])
    assert p.partition().replicas == [4, 2, 3]


def test_it_survives_the_controller(p: Playbook) -> None:
    reassign(p, [4, 2, 3])
    after = Playbook(brokers=5, disk=p.disk, incarnation=2)
    assert after.partition() == p.partition()
    assert after.partition().adding == [4]


def test_no_reassignment_begins_while_the_cluster_goes_down(p: Playbook) -> None:
    p.receive(SUPERVISOR, bus.Freeze())
    start = len(p.sent)
    request = apr.AlterPartitionReassignmentsRequest(topics=[])
    p.receive(1, bus.Forward(3, request.KEY, 1, "test", 1000), payload=[encode(request, 1)])
    p.pass_time(FORWARD_WAIT_MS)
    answer = only(p.sent[start:], bus.Forwarded)
    assert answer.error == ErrorCode.OPERATION_NOT_ATTEMPTED


# --- the rules alone --------------------------------------------------------------------------


def _state(**fields: object) -> PartitionChanged:
    given = {
        "topic_id": b"t", "partition": 0, "replicas": [1, 2, 3], "isr": [1, 2, 3], "leader": 1,
        "leader_epoch": 0, "partition_epoch": 0,
    }  # fmt: skip
    return PartitionChanged(**(given | fields))  # type: ignore[arg-type]


def test_a_move_to_all_others_ends_with_them() -> None:
    assignment = reassignment.towards(_state(), [4, 5, 6])
    assert assignment == Assignment([4, 5, 6, 1, 2, 3], [4, 5, 6], [1, 2, 3])
    assert reassignment.completed(assignment, [1, 2, 3, 4, 5], 1) is None
    done = reassignment.completed(assignment, [1, 4, 5, 6], 1)
    assert done == (Assignment([4, 5, 6], [], []), [4, 5, 6])


def test_min_isr_above_the_replication_factor_asks_for_all() -> None:
    assignment = reassignment.towards(_state(replicas=[1], isr=[1]), [2])
    assert reassignment.completed(assignment, [1], 3) is None
    assert reassignment.completed(assignment, [1, 2], 3) is not None
