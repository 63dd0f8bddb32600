"""Who gets what: as Java's assignors decide it."""

from __future__ import annotations

import random

import pytest

from kcluster.core.client.assignors import assign_ranges, assign_sticky
from kcluster.model import TopicPartition
from kcluster.wire.consumer_protocol import Subscription


def tps(text: str) -> list[TopicPartition]:
    """ "a0 a1 b0" """
    return [TopicPartition(word[0], int(word[1:])) for word in text.split()]


def member(topics: str, owned: str = "", generation: int = -1) -> Subscription:
    return Subscription(list(topics), tps(owned), generation)


def test_ranges_give_the_first_members_one_more() -> None:
    assignment = assign_ranges({"x": member("a"), "y": member("a"), "z": member("a")}, {"a": 7})
    assert assignment == {"x": tps("a0 a1 a2"), "y": tps("a3 a4"), "z": tps("a5 a6")}


def test_ranges_are_of_each_topic_and_of_those_who_want_it() -> None:
    assignment = assign_ranges(
        {"x": member("ab"), "y": member("b"), "z": member("abc")}, {"a": 3, "b": 3}
    )
    assert assignment == {"x": tps("a0 a1 b0"), "y": tps("b1"), "z": tps("a2 b2")}


def test_a_member_more_than_there_are_partitions_gets_nothing() -> None:
    for assign in (assign_ranges, assign_sticky):
        assignment = assign({"x": member("a"), "y": member("a")}, {"a": 1})
        assert sorted(map(len, assignment.values())) == [0, 1]


def test_sticky_leaves_with_everybody_what_they_have() -> None:
    members = {"x": member("a", "a1 a3", 4), "y": member("a", "a0 a2", 4)}
    assert assign_sticky(members, {"a": 4}) == {"x": tps("a1 a3"), "y": tps("a0 a2")}


def test_sticky_gives_to_a_new_member_only_what_is_given_up_before() -> None:
    members = {"x": member("a", "a0 a1 a2 a3", 4), "y": member("a")}
    first = assign_sticky(members, {"a": 4})
    assert len(first["x"]) == 2
    assert first["y"] == []
    kept = " ".join(f"a{tp.partition}" for tp in first["x"])
    second = assign_sticky({"x": member("a", kept, 5), "y": member("a", "", 5)}, {"a": 4})
    assert second["x"] == first["x"]
    assert set(second["y"]) == set(tps("a0 a1 a2 a3")) - set(first["x"])


def test_a_claim_of_an_older_generation_does_not_count() -> None:
    members = {"x": member("a", "a0", 3), "y": member("a", "a0", 4), "z": member("a")}
    assignment = assign_sticky(members, {"a": 3})
    assert TopicPartition("a", 0) in assignment["y"]
    assert all(len(partitions) == 1 for partitions in assignment.values())


def test_what_nobody_subscribes_to_any_more_is_nobodys() -> None:
    assignment = assign_sticky({"x": member("b", "a0 b0", 3)}, {"a": 1, "b": 1})
    assert assignment == {"x": tps("b0")}


@pytest.mark.parametrize("seed", range(200))
def test_any_group_comes_to_rest_even_and_with_one_owner_each(seed: int) -> None:
    chance = random.Random(seed)
    counts = {topic: chance.randint(0, 9) for topic in "abc"}
    members = {
        f"m{n}": member("".join(t for t in "abc" if chance.random() < 0.8) or "a")
        for n in range(chance.randint(1, 5))
    }
    for generation in range(1, 40):
        assignment = assign_sticky(members, counts)
        given = [tp for partitions in assignment.values() for tp in partitions]
        assert len(given) == len(set(given))
        before = {id: set(each.owned) for id, each in members.items()}
        for id, partitions in assignment.items():
            for other, owned in before.items():
                assert other == id or not owned & set(partitions), "taken before it was given up"
        members = {
            id: Subscription(each.topics, assignment[id], generation)
            for id, each in members.items()
        }
        if all(before[id] == set(assignment[id]) for id in members):
            break
    else:
        raise AssertionError("it never comes to rest")
    wanted = {topic for each in members.values() for topic in each.topics}
    assert set(given) == {TopicPartition(t, i) for t in wanted for i in range(counts[t])}
    for id, one in members.items():
        for other in members.values():
            # Nobody could take from a member that has two more.
            shared = [tp for tp in one.owned if tp.topic in other.topics]
            assert len(one.owned) - len(other.owned) <= 1 or not shared, id
