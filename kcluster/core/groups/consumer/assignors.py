"""Who is to have which partition: the assignors that run at the coordinator.

    uniform   as many for each as for any other, give or take one; of those that are equally even,
              the one that moves least
    range     of each topic one run of partitions for each member, in the order of the members, so
              that equal partitions of equally large topics come together

Pure, and the same for the same arguments. Sources: KIP-848; Kafka's UniformAssignor (with its
builders for equal and unequal subscriptions) and RangeAssignor.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import msgspec

from kcluster.core.groups.consumer.member import Part
from kcluster.model import TopicId

UNIFORM: Final = "uniform"
RANGE: Final = "range"

BALANCING_ROUNDS: Final = 16
"""Of unequal subscriptions: each about halves what is uneven (Kafka's bound)."""


class Spec(msgspec.Struct, frozen=True):
    """What an assignor knows of a member."""

    topics: frozenset[TopicId]
    instance_id: str | None
    had: frozenset[Part]
    """The target until now."""


Target = dict[str, frozenset[Part]]
"""{member id: partitions}; every member is in it."""


def assign(assignor: str, members: Mapping[str, Spec], partitions: Mapping[TopicId, int]) -> Target:
    """`partitions`: how many a topic has; of topics that members subscribe to and that are."""
    if not members:
        return {}
    if assignor == RANGE:
        return _range(members, partitions)
    subscriptions = {spec.topics for spec in members.values()}
    if len(subscriptions) == 1:
        return _uniform(members, partitions)
    return _uniform_of_unequal(members, partitions)


# --- range --------------------------------------------------------------------------------


def _range(members: Mapping[str, Spec], partitions: Mapping[TopicId, int]) -> Target:
    found: dict[str, set[Part]] = {id: set() for id in members}
    # Static members first: their order outlives a restart.
    order = sorted(
        members,
        key=lambda each: (members[each].instance_id is None, members[each].instance_id or each),
    )
    for topic, count in partitions.items():
        subscribers = [id for id in order if topic in members[id].topics]
        if not subscribers:
            continue
        quota, extra = divmod(count, len(subscribers))
        begin = 0
        for index, id in enumerate(subscribers):
            end = begin + quota + (index < extra)
            found[id].update((topic, partition) for partition in range(begin, end))
            begin = end
    return {id: frozenset(parts) for id, parts in found.items()}


# --- uniform ------------------------------------------------------------------------------


def _kept(spec: Spec, partitions: Mapping[TopicId, int]) -> set[Part]:
    """What it had, still subscribes to, and still is."""
    return {
        (topic, partition)
        for topic, partition in spec.had
        if topic in spec.topics and partition < partitions.get(topic, 0)
    }


def _uniform(members: Mapping[str, Spec], partitions: Mapping[TopicId, int]) -> Target:
    """All subscribe to the same topics."""
    found = {id: _kept(spec, partitions) for id, spec in sorted(members.items())}
    quota, extra = divmod(sum(partitions.values()), len(members))
    taken: set[Part] = set()
    room: dict[str, int] = {}
    # Who has most keeps one more than the others: that moves least.
    for id in sorted(found, key=lambda each: (-len(found[each]), each)):
        # Two may have had one in the log of a coordinator that was not ours.
        mine = sorted(found[id] - taken)
        limit = quota + (extra > 0)
        extra -= extra > 0
        found[id] = set(mine[:limit])
        taken |= found[id]
        room[id] = limit - len(found[id])
    unassigned = iter(sorted(set(_all(partitions)) - taken))
    for id, count in room.items():
        found[id].update(part for _, part in zip(range(count), unassigned, strict=False))
    return {id: frozenset(parts) for id, parts in found.items()}


def _all(partitions: Mapping[TopicId, int]) -> list[Part]:
    return [(topic, index) for topic, count in partitions.items() for index in range(count)]


def _uniform_of_unequal(members: Mapping[str, Spec], partitions: Mapping[TopicId, int]) -> Target:
    subscribers = {
        topic: [id for id in sorted(members) if topic in members[id].topics] for topic in partitions
    }
    found: dict[str, set[Part]] = {}
    taken: set[Part] = set()
    for id, spec in sorted(members.items()):
        found[id] = _kept(spec, partitions) - taken
        taken |= found[id]
    # Topics with the fewest takers first: they leave the least choice.
    topics = sorted(
        (topic for topic, takers in subscribers.items() if takers),
        key=lambda topic: (-partitions[topic] / len(subscribers[topic]), topic),
    )
    for topic in topics:
        for index in range(partitions[topic]):
            if (topic, index) not in taken:
                least = min(subscribers[topic], key=lambda each: (len(found[each]), each))
                found[least].add((topic, index))
    for _ in range(BALANCING_ROUNDS):
        moved = [_even_out(topic, subscribers[topic], found) for topic in topics]
        if not any(moved):
            break
    return {id: frozenset(parts) for id, parts in found.items()}


def _even_out(topic: TopicId, subscribers: list[str], found: dict[str, set[Part]]) -> bool:
    """Move partitions of one topic from who has most to who has least; whether any was moved."""
    has_moved = False
    while True:
        givers = [id for id in subscribers if any(part[0] == topic for part in found[id])]
        if not givers:
            return has_moved
        most = max(givers, key=lambda each: (len(found[each]), each))
        least = min(subscribers, key=lambda each: (len(found[each]), each))
        if len(found[most]) - len(found[least]) <= 1:
            return has_moved
        part = max(part for part in found[most] if part[0] == topic)
        found[most].discard(part)
        found[least].add(part)
        has_moved = True
