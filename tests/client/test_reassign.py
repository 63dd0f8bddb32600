"""Plans of who shall hold what: as little is moved as can be."""

from __future__ import annotations

from collections import Counter

import pytest

from kcluster.client.reassign import (
    Move,
    TooFewBrokers,
    balance,
    from_json,
    moves,
    throttled,
    to_brokers,
    to_json,
)
from kcluster.errors import UsageError
from kcluster.model import TopicPartition

ORDERS = [TopicPartition("orders", index) for index in range(6)]


def orders(*replicas: list[int]) -> dict[TopicPartition, list[int]]:
    return dict(zip(ORDERS, replicas, strict=False))


def test_who_is_where_it_shall_be_stays() -> None:
    there = orders([1, 2, 3], [2, 3, 1])
    assert moves(there, to_brokers(there, there, [1, 2, 3])) == []


def test_a_new_replica_takes_the_place_of_the_one_that_goes() -> None:
    there = orders([1, 2, 3], [2, 1, 3])
    assert to_brokers(there, there, [2, 3, 4]) == orders([4, 2, 3], [2, 4, 3])


def test_new_replicas_go_to_who_has_the_fewest() -> None:
    there = orders([1, 2], [1, 2], [1, 3], [1, 3])
    wanted = to_brokers(there, there, [2, 3, 4, 5])
    load = Counter(id for ids in wanted.values() for id in ids)
    assert load == {2: 2, 3: 2, 4: 2, 5: 2}


def test_the_replication_factor_grows_and_shrinks() -> None:
    there = orders([1, 2])
    assert to_brokers(there, there, [1, 2, 3], 3) == orders([1, 2, 3])
    assert to_brokers(there, there, [1, 2, 3], 1) == orders([1])
    assert to_brokers(there, there, [2, 3], 1) == orders([2])


def test_no_broker_takes_two_replicas() -> None:
    there = orders([1, 2, 3])
    with pytest.raises(TooFewBrokers, match="orders-0 cannot have 3 replicas on 2 brokers"):
        to_brokers(there, there, [1, 2])


def test_balance_moves_no_more_than_it_has_to() -> None:
    there = orders([1, 2, 3], [2, 3, 1], [3, 1, 2], [1, 2, 3], [2, 3, 1], [3, 1, 2])
    wanted = balance(there, [1, 2, 3, 4], {})
    load = Counter(id for ids in wanted.values() for id in ids)
    assert max(load.values()) - min(load.values()) <= 1
    assert sum(load.values()) == 18
    leads = Counter(ids[0] for ids in wanted.values())
    assert max(leads.values()) - min(leads[id] for id in (1, 2, 3, 4)) <= 1
    copied = sum(len(move.adding) for move in moves(there, wanted))
    assert copied == 4, "what broker 4 has in the end"
    assert all(len({*ids}) == 3 for ids in wanted.values())


def test_balance_moves_small_partitions_first() -> None:
    there = orders([1], [1], [1])
    sizes = dict(zip(ORDERS, [100, 1, 50], strict=False))
    assert balance(there, [1, 2], sizes) == orders([1], [2], [1])


def test_what_is_balanced_stays() -> None:
    there = orders([1, 2], [2, 1])
    assert balance(there, [1, 2], {}) == there


def test_a_broker_that_is_gone_keeps_its_replicas() -> None:
    there = orders([9, 1], [1, 9])
    assert balance(there, [1, 2], {}) == orders([9, 2], [1, 9])


def test_the_format_of_kafkas_own_tool_is_read_and_written() -> None:
    text = b'{"version":1,"partitions":[{"topic":"orders","partition":0,"replicas":[3,1],'
    text += b'"log_dirs":["any","any"]}]}'
    assert from_json(text, "plan.json") == orders([3, 1])
    assert from_json(to_json(orders([3, 1])), "plan.json") == orders([3, 1])


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"[]",
        b"{}",
        b"\xff",
        b'{"partitions":[{"topic":"orders","partition":"0","replicas":[1]}]}',
        b'{"partitions":[{"topic":"a","partition":0,"replicas":[1]},'
        b'{"topic":"a","partition":0,"replicas":[2]}]}',
    ],
)
def test_what_is_none_is_refused(text: bytes) -> None:
    with pytest.raises(UsageError) as refused:
        from_json(text, "plan.json")
    assert "plan.json" in refused.value.what


def test_leaders_are_throttled_for_those_that_are_added() -> None:
    plan = [Move("orders", 0, [1, 2], [1, 3]), Move("orders", 1, [2, 1], [2, 3])]
    assert throttled(plan) == {"orders": ("0:1,0:2,1:2,1:1", "0:3,1:3")}
