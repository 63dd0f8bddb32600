"""Who held which partition when, of groups whose coordinator assigns (KIP-848).

    two-holders    a partition was given to a member while another held it, whose next heartbeat
                   that says so was answered as if all were well

A member holds a partition from the answer that gives it until it lets go of it, leaves or dies.
That its former holder still reads it is no anomaly by itself: one that was taken out may not have
heard of it. So it takes three heartbeats, one after another: of the holder, answered; of another,
answered with the partition; of the holder again, which says that it owns it, and is answered.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from kcluster.model import TopicPartition

Place = tuple[str, TopicPartition]
"""Of a group."""


@dataclass(slots=True)
class Hold:
    member: str
    since: int
    """Moment of the answer, as all that follow."""
    claims: list[tuple[int, int]] = field(default_factory=list)
    """(asked, answered) of heartbeats that said so and were taken."""


@dataclass(frozen=True, slots=True)
class Gift:
    """An answer that gave a partition to a member that did not hold it."""

    member: str
    asked: int
    answered: int


@dataclass(slots=True)
class Ownership:
    holds: dict[Place, list[Hold]] = field(default_factory=dict)
    gifts: dict[Place, list[Gift]] = field(default_factory=dict)
    _held: dict[tuple[Place, str], Hold] = field(default_factory=dict)

    def given(self, place: Place, member: str, asked: int, answered: int) -> None:
        hold = self._held[place, member] = Hold(member, answered)
        self.holds.setdefault(place, []).append(hold)
        self.gifts.setdefault(place, []).append(Gift(member, asked, answered))

    def claimed(self, place: Place, member: str, asked: int, answered: int) -> None:
        """A heartbeat that said that it holds it was taken."""
        hold = self._held.get((place, member))
        if hold is not None and hold.since <= asked:
            hold.claims.append((asked, answered))

    def let_go(self, place: Place, member: str) -> None:
        self._held.pop((place, member), None)


def find(ownership: Ownership) -> Iterator[tuple[str, str]]:
    """(name, example)"""
    for place, holds in sorted(ownership.holds.items()):
        gifts = ownership.gifts.get(place, ())
        for hold in holds:
            if len(hold.claims) < 2:
                continue
            first_answered, last_asked = hold.claims[0][1], hold.claims[-1][0]
            for gift in gifts:
                if (
                    gift.member != hold.member
                    and first_answered < gift.asked
                    and gift.answered < last_asked
                ):
                    yield "two-holders", f"{place[0]} {place[1]}: {hold.member} and {gift.member}"
                    break
