"""Who is to have what: even, sticky, and nobody's twice."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from kcluster.core.groups.consumer.assignors import RANGE, UNIFORM, Spec, Target, assign
from kcluster.core.groups.consumer.member import Part
from kcluster.model import TopicId

T, U = TopicId(b"t" * 16), TopicId(b"u" * 16)


def spec(*topics: TopicId, had: Target | None = None, id: str = "", instance: str = "") -> Spec:
    return Spec(frozenset(topics), instance or None, (had or {}).get(id, frozenset()))


def sizes(target: Target) -> dict[str, int]:
    return {id: len(parts) for id, parts in target.items()}


def moved(before: Target, after: Target) -> int:
    """Partitions that were somebody's and are another's now."""
    owner = {part: id for id, parts in before.items() for part in parts}
    return sum(owner.get(part, id) != id for id, parts in after.items() for part in parts)


def test_uniform_moves_no_more_than_it_must() -> None:
    topics = {T: 12}
    target = assign(UNIFORM, {id: spec(T) for id in "abc"}, topics)
    assert sizes(target) == {"a": 4, "b": 4, "c": 4}
    four = {id: spec(T, had=target, id=id) for id in "abcd"}
    after = assign(UNIFORM, four, topics)
    assert sizes(after) == {"a": 3, "b": 3, "c": 3, "d": 3}
    assert moved(target, after) == 3
    two = {id: spec(T, had=after, id=id) for id in "bd"}
    assert moved(after, assign(UNIFORM, two, topics)) == 6


def test_uniform_leaves_who_has_one_more_what_it_has() -> None:
    topics = {T: 5}
    had: Target = {"b": frozenset((T, i) for i in range(3)), "a": frozenset({(T, 3), (T, 4)})}
    again = {id: spec(T, had=had, id=id) for id in "ab"}
    assert assign(UNIFORM, again, topics) == had


def test_range_brings_equal_partitions_together() -> None:
    target = assign(RANGE, {id: spec(T, U) for id in "ab"}, {T: 3, U: 3})
    assert target["a"] == {(T, 0), (T, 1), (U, 0), (U, 1)}
    assert target["b"] == {(T, 2), (U, 2)}


def test_range_keeps_the_order_of_static_members() -> None:
    target = assign(RANGE, {"z": spec(T, instance="1"), "a": spec(T)}, {T: 2})
    assert target == {"z": {(T, 0)}, "a": {(T, 1)}}


def test_nobody_subscribes_to_anything() -> None:
    for assignor in (UNIFORM, RANGE):
        assert assign(assignor, {"a": spec()}, {}) == {"a": frozenset()}
        assert assign(assignor, {}, {}) == {}


TOPICS = [TopicId(bytes([each]) * 16) for each in range(4)]

counts = st.dictionaries(st.sampled_from(TOPICS), st.integers(1, 7))
subscriptions = st.dictionaries(
    st.sampled_from("abcdef"), st.frozensets(st.sampled_from(TOPICS)), min_size=1
)


def assigned(
    assignor: str,
    wanted: dict[str, frozenset[TopicId]],
    partitions: dict[TopicId, int],
    had: Target,
) -> Target:
    known = {
        id: Spec(frozenset(topics & partitions.keys()), None, had.get(id, frozenset()))
        for id, topics in wanted.items()
    }
    subscribed = {topic for spec in known.values() for topic in spec.topics}
    counted = {topic: count for topic, count in partitions.items() if topic in subscribed}
    target = assign(assignor, known, counted)
    assert target.keys() == wanted.keys()
    everything: list[Part] = [part for parts in target.values() for part in parts]
    assert sorted(everything) == sorted(
        (topic, index) for topic, count in counted.items() for index in range(count)
    )
    assert all(part[0] in wanted[id] for id, parts in target.items() for part in parts)
    return target


@settings(max_examples=150, deadline=None)
@given(subscriptions, counts, subscriptions, counts, st.sampled_from([UNIFORM, RANGE]))
def test_everything_has_one_owner_who_subscribes_to_it(
    first: dict[str, frozenset[TopicId]],
    partitions: dict[TopicId, int],
    second: dict[str, frozenset[TopicId]],
    later: dict[TopicId, int],
    assignor: str,
) -> None:
    target = assigned(assignor, first, partitions, {})
    assigned(assignor, second, later, target)
    same = assigned(assignor, first, partitions, target)
    if assignor == UNIFORM:
        assert moved(target, same) == 0


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.frozensets(st.sampled_from("abcdef"), min_size=1), min_size=1, max_size=4), counts
)
def test_uniform_is_even_after_whatever_came_and_went(
    rounds: list[frozenset[str]], partitions: dict[TopicId, int]
) -> None:
    target: Target = {}
    for members in rounds:
        wanted = dict.fromkeys(sorted(members), frozenset(TOPICS))
        target = assigned(UNIFORM, wanted, partitions, target)
        counted = sizes(target).values()
        assert max(counted) - min(counted) <= 1
