"""ISR changes by compare-and-set: who is refused, with which code (invariants 9 and 10)."""

import pytest

from kcluster.errors import ErrorCode
from kcluster.wire import bus

from .playbook import Playbook, only


@pytest.fixture
def p() -> Playbook:
    p = Playbook()
    p.join(1, 2, 3)
    p.make_topic("t", [1, 2, 3])
    return p


def test_isr_shrinks_and_grows_as_the_leader_asks(p: Playbook) -> None:
    outcome = p.alter(1, [1, 2])
    assert (outcome.error, outcome.isr, outcome.partition_epoch) == (0, [1, 2], 1)
    outcome = p.alter(1, [1, 2, 3])
    assert (outcome.error, outcome.isr, outcome.partition_epoch) == (0, [1, 2, 3], 2)
    assert outcome.leader_epoch == 0


def test_isr_that_is_so_already_makes_no_record(p: Playbook) -> None:
    end = p.core.log.end_offset
    assert p.alter(1, [1, 2, 3]).error == 0
    assert p.core.log.end_offset == end


def test_older_leader_epoch_is_fenced(p: Playbook) -> None:
    p.die(1)
    outcome = p.alter(2, [2], leader_epoch=0)
    assert outcome.error == ErrorCode.FENCED_LEADER_EPOCH
    assert outcome.leader_epoch == 1, "the refusal tells what holds"


def test_older_partition_epoch_is_refused(p: Playbook) -> None:
    """KAFKA-8836: two changes in flight must not undo each other (KIP-497)."""
    p.alter(1, [1, 2])
    outcome = p.alter(1, [1, 3], partition_epoch=0)
    assert outcome.error == ErrorCode.INVALID_UPDATE_VERSION
    assert p.partition().isr == [1, 2]


def test_change_by_a_broker_that_does_not_lead_is_refused(p: Playbook) -> None:
    assert p.alter(2, [2, 3]).error == ErrorCode.INVALID_REQUEST


@pytest.mark.parametrize("isr", [[2, 3], [1, 1], [1, 9], []])
def test_isr_must_hold_the_leader_and_replicas_once(p: Playbook, isr: list[int]) -> None:
    assert p.alter(1, isr).error == ErrorCode.INVALID_REQUEST


def test_fenced_replica_may_not_join(p: Playbook) -> None:
    """KAFKA-13916 (KIP-841): the leader has not heard yet that the broker is fenced."""
    p.die(3)
    assert p.alter(1, [1, 2, 3]).error == ErrorCode.INELIGIBLE_REPLICA
    p.register(3)
    assert p.alter(1, [1, 2, 3]).error == ErrorCode.INELIGIBLE_REPLICA, "still fenced"


def test_replica_on_its_way_out_may_not_join_but_may_stay(p: Playbook) -> None:
    """KAFKA-14144: a broker in controlled shutdown must not get back into the ISR."""
    p.heartbeat(3, wants_shutdown=True)
    assert p.partition().isr == [1, 2]
    assert p.alter(1, [1, 2, 3]).error == ErrorCode.INELIGIBLE_REPLICA


def test_stale_broker_epoch_of_a_member_never_joins(p: Playbook) -> None:
    """KAFKA-14617, KAFKA-15221 (KIP-903): it caught up, restarted with an empty log, and the
    leader's change, made for the old incarnation, arrives only now."""
    p.alter(1, [1, 2])
    old = [p.epochs[id] for id in (1, 2, 3)]
    p.join(3)
    assert p.alter(1, [1, 2, 3], epochs=old).error == ErrorCode.INELIGIBLE_REPLICA
    assert p.alter(1, [1, 2, 3], epochs=[p.epochs[id] for id in (1, 2, 3)]).error == 0


def test_stale_broker_epoch_of_the_sender_is_refused_as_a_whole(p: Playbook) -> None:
    """KAFKA-7235 (KIP-380): what a dead incarnation of the leader sent decides nothing."""
    assert p.alter(1, [1], broker_epoch=p.epochs[1] - 1).error == ErrorCode.STALE_BROKER_EPOCH
    change = bus.IsrChange(p.partition().topic_id, 0, 0, 0, [1], [p.epochs[1]])
    sent = p.receive(1, bus.AlterPartition(p.epochs[1], 1, [change]), epoch=99)
    assert only(sent, bus.PartitionAltered).error == ErrorCode.STALE_BROKER_EPOCH
    assert p.partition().isr == [1, 2, 3]


def test_unknown_topic_and_partition_have_codes_of_their_own(p: Playbook) -> None:
    assert p.alter(1, [1], topic_id=bytes(16)).error == ErrorCode.UNKNOWN_TOPIC_ID
    change = bus.IsrChange(p.partition().topic_id, 7, 0, 0, [1], [p.epochs[1]])
    answer = only(p.receive(1, bus.AlterPartition(p.epochs[1], 2, [change])), bus.PartitionAltered)
    assert answer.outcomes[0].error == ErrorCode.UNKNOWN_TOPIC_OR_PARTITION


def test_change_is_answered_only_when_it_is_durable(p: Playbook) -> None:
    p.holds_syncs = True
    state = p.partition()
    change = bus.IsrChange(state.topic_id, 0, 0, 0, [1, 2], [p.epochs[1], p.epochs[2]])
    assert p.receive(1, bus.AlterPartition(p.epochs[1], 1, [change])) == []
    start = len(p.sent)
    p.sync()
    sent = p.sent[start:]
    kinds = [type(send.message).__name__ for send in sent if send.target == 1]
    assert kinds == ["MetadataDelta", "PartitionAltered"]


def test_next_change_sees_one_that_is_not_durable_yet(p: Playbook) -> None:
    p.holds_syncs = True
    state = p.partition()
    epochs = [p.epochs[1], p.epochs[2]]
    for request in (1, 2):
        change = bus.IsrChange(state.topic_id, 0, 0, 0, [1, request + 1], epochs)
        p.receive(1, bus.AlterPartition(p.epochs[1], request, [change]))
    p.holds_syncs = False
    p.sync()
    p.run()
    answers = [send.message for send in p.sent if isinstance(send.message, bus.PartitionAltered)]
    assert [answer.outcomes[0].error for answer in answers] == [
        0,
        ErrorCode.INVALID_UPDATE_VERSION,
    ]


def test_late_copy_of_a_refused_change_is_not_granted(p: Playbook) -> None:
    """The leader rolled back on the refusal: granted now, the ISR would have a member for whom
    the high watermark does not wait (invariant 4)."""
    p.alter(1, [1, 2])
    p.register(3)
    epochs = [p.epochs[id] for id in (1, 2, 3)]
    assert p.alter(1, [1, 2, 3], epochs=epochs, request=7).error == ErrorCode.INELIGIBLE_REPLICA
    p.heartbeat(3)
    state = p.partition()
    change = bus.IsrChange(
        state.topic_id, 0, state.leader_epoch, state.partition_epoch, [1, 2, 3], epochs
    )
    sent = p.receive(1, bus.AlterPartition(p.epochs[1], 7, [change]))
    assert not sent
    assert p.partition().isr == [1, 2]
    assert p.alter(1, [1, 2, 3]).error == 0, "asked for anew it is granted"


def test_who_leaves_is_not_eligible_when_its_leader_goes_by_a_lower_min_isr(p: Playbook) -> None:
    """The leader has not heard of the new one, and moves its high watermark alone."""
    p.make_topic("u", [1, 2, 3], configs={"min.insync.replicas": "2"})
    p.heartbeats()
    assert p.alter(1, [1], topic="u", min_isr=1).error == 0
    assert (p.partition("u").isr, p.partition("u").elr) == ([1], [])


def test_who_leaves_is_eligible_when_both_go_by_the_same_min_isr(p: Playbook) -> None:
    p.make_topic("u", [1, 2, 3], configs={"min.insync.replicas": "2"})
    p.heartbeats()
    assert p.alter(1, [1], topic="u", min_isr=2).error == 0
    assert (p.partition("u").isr, p.partition("u").elr) == ([1], [2, 3])
