"""Who reads what: the leader of a group spreads the partitions over the members.

    range                of each topic a run of partitions, the first members one more    eager
    cooperative-sticky   as even as can be, and as it was                            cooperative

Eager: every member gives up all it has before it joins. Cooperative (KIP-429): members keep what
they have; what shall move is taken from its owner in one generation, by leaving it unassigned,
and given to the next in the following one.

Both are what Java's assignors of these names decide for members without racks (range) or up to
which of several equal assignments it is (sticky): members of other client libraries may lead or
follow.

Sources: KIP-54, KIP-429, KIP-792.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from kcluster.model import TopicPartition
from kcluster.wire.consumer_protocol import Subscription

Members = Mapping[str, Subscription]
"""By member id, in the order in which they are served."""

Assignment = dict[str, list[TopicPartition]]

RANGE: Final = "range"
COOPERATIVE_STICKY: Final = "cooperative-sticky"


def assign_ranges(members: Members, counts: Mapping[str, int]) -> Assignment:
    """`counts`: partitions of each topic; a topic that is not in it does not exist."""
    assignment: Assignment = {member: [] for member in members}
    for topic in sorted({topic for each in members.values() for topic in each.topics}):
        readers = [member for member, each in members.items() if topic in each.topics]
        share, more = divmod(counts.get(topic, 0), len(readers))
        first = 0
        for place, member in enumerate(readers):
            end = first + share + (place < more)
            assignment[member] += [TopicPartition(topic, index) for index in range(first, end)]
            first = end
    return assignment


def assign_sticky(members: Members, counts: Mapping[str, int]) -> Assignment:
    """With what is to move between members left out: its owner gives it up first."""
    owners = _owners(members, counts)
    wanted = _balanced(members, counts, owners)
    return {
        member: sorted(tp for tp in partitions if owners.get(tp, member) == member)
        for member, partitions in wanted.items()
    }


def _owners(members: Members, counts: Mapping[str, int]) -> dict[TopicPartition, str]:
    """Who holds what, by the newest generation that says so. Two claims of one generation: it is
    nobody's, since both must give it up."""
    claims: dict[TopicPartition, list[tuple[int, str]]] = {}
    for member, subscription in sorted(members.items()):
        for tp in subscription.owned:
            if tp.topic in subscription.topics and tp.partition < counts.get(tp.topic, 0):
                claims.setdefault(tp, []).append((subscription.generation, member))
    owners = {}
    for tp, claimed in claims.items():
        newest = max(generation for generation, _ in claimed)
        named = [member for generation, member in claimed if generation == newest]
        if len(named) == 1:
            owners[tp] = named[0]
    return owners


def _balanced(
    members: Members, counts: Mapping[str, int], owners: Mapping[TopicPartition, str]
) -> dict[str, set[TopicPartition]]:
    """Everything placed; then from the fullest to the emptiest that may have it, while that
    makes them more even."""
    readers = {
        topic: [member for member in sorted(members) if topic in members[member].topics]
        for topic in sorted({topic for each in members.values() for topic in each.topics})
    }
    placed: dict[str, set[TopicPartition]] = {member: set() for member in sorted(members)}
    homeless = []
    for topic in readers:
        for index in range(counts.get(topic, 0)):
            tp = TopicPartition(topic, index)
            if tp in owners:
                placed[owners[tp]].add(tp)
            else:
                homeless.append(tp)

    def load(member: str) -> tuple[int, str]:
        return len(placed[member]), member

    for tp in homeless:
        placed[min(readers[tp.topic], key=load)].add(tp)
    # Each move lowers the sum of the squares of the loads, so that this ends.
    moved = True
    while moved:
        moved = False
        for giver in sorted(members, key=load, reverse=True):
            for tp in sorted(placed[giver], reverse=True):
                taker = min(readers[tp.topic], key=load)
                if len(placed[giver]) - len(placed[taker]) > 1:
                    placed[giver].remove(tp)
                    placed[taker].add(tp)
                    moved = True
    return placed


ASSIGNORS: Final[dict[str, Callable[[Members, Mapping[str, int]], Assignment]]] = {
    RANGE: assign_ranges,
    COOPERATIVE_STICKY: assign_sticky,
}
"""By the name of the protocol in JoinGroup."""
