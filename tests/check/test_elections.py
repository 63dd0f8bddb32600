"""What the controller must not do is found in the smallest turn that does it."""

import pytest

from kcluster.check.elections import CREATE_WAIT_MS, Elections, Wish
from kcluster.check.seen import InvariantViolated
from kcluster.core.metadata.records import PartitionChanged
from kcluster.model import TopicPartition

TP = TopicPartition("orders", 0)


def state(isr, *, leader=1, leader_epoch=3, partition_epoch=5, elr=(), recovering=False):
    return PartitionChanged(
        bytes(16), 0, [1, 2, 3], list(isr), leader, leader_epoch, partition_epoch, list(elr),
        recovering=recovering,
    )  # fmt: skip


def broken(number, action, *arguments):
    with pytest.raises(InvariantViolated) as caught:
        action(*arguments)
    assert caught.value.number == number, caught.value


def test_a_wish_of_an_older_epoch_that_is_granted():
    before, after = state([1, 2]), state([1, 2, 3], partition_epoch=6)
    wish = Wish([1, 2, 3], [10, 20, 30], 3, 5)
    epochs = {1: 10, 2: 20, 3: 30}
    Elections().granted(TP, wish, before, after, epochs)
    for stale in (Wish([1, 2, 3], [10, 20, 30], 3, 4), Wish([1, 2, 3], [10, 20, 30], 2, 5)):
        broken(9, Elections().granted, TP, stale, before, after, epochs)
        # A refusal is what should be.
        Elections().granted(TP, stale, before, before, epochs)


def test_a_former_incarnation_that_joins_an_isr():
    before, after = state([1, 2]), state([1, 2, 3], partition_epoch=6)
    wish = Wish([1, 2, 3], [10, 20, 30], 3, 5)
    broken(10, Elections().granted, TP, wish, before, after, {1: 10, 2: 20, 3: 31})


def test_a_proposal_by_the_position_of_a_former_incarnation():
    elections = Elections(incarnations={(3, 30): 7})
    elections.proposed(TP, 3, 30, 7)
    broken(10, elections.proposed, TP, 3, 30, 6)


def test_a_lossy_restart_that_keeps_a_place():
    key = (bytes(16), 0)
    for place in (state([1, 3]), state([1], elr=[3])):
        broken(11, Elections().registered, 3, set(), {TP: place})
        Elections().registered(3, {key}, {TP: place})
    Elections().registered(3, set(), {TP: state([1, 2])})
    Elections().registered(3, set(), {TP: state([3], leader=3, recovering=True)})


def test_a_broker_that_is_let_go_while_another_could_lead():
    broken("rule 8", Elections().leaving, 1, {TP: state([1, 2])}, lambda *_: True)
    Elections().leaving(1, {TP: state([1, 2])}, lambda *_: False)
    Elections().leaving(2, {TP: state([1, 2])}, lambda *_: True)


def test_a_topic_that_is_answered_before_all_know_it():
    elections = Elections()
    elections.alive({"orders": None}, frozenset({1, 2, 3}), 100)
    broken("rule 10", elections.create_answered, "orders", {1, 2}, 200)
    elections.create_answered("orders", {1, 2, 3}, 200)
    elections.create_answered("orders", {1, 2}, 100 + CREATE_WAIT_MS)
    # Who was fenced meanwhile need not be waited for, also when it is back.
    elections.alive({"orders": None}, frozenset({1, 2}), 200)
    elections.alive({"orders": None}, frozenset({1, 2, 3}), 300)
    elections.create_answered("orders", {1, 2}, 400)


def test_a_deleted_partition_is_not_judged_by_what_it_was_before() -> None:
    elections, tp, key = Elections(), TopicPartition("t", 0), (b"t" * 16, 0)
    elections.committed({key: 3})
    elections.believed(tp, key, 3)
    with pytest.raises(InvariantViolated, match="only what is durable is told"):
        elections.believed(tp, key, 4)
    elections.committed({})
    elections.believed(tp, key, 4)
