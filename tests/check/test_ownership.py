"""Two holders of one partition are found, and none where the first was only slow to hear."""

from __future__ import annotations

from kcluster.check.groups import GroupHistory, find
from kcluster.model import TopicPartition

TP = TopicPartition("orders", 0)
PLACE = ("g", TP)


class Told:
    """A history, heartbeat by heartbeat: each is asked and answered before the next."""

    def __init__(self) -> None:
        self.history = GroupHistory()

    def beat(self, member: str, *, gives: bool = False, claims: bool = False) -> Told:
        asked, answered = self.history.moment(), self.history.moment()
        if claims:
            self.history.ownership.claimed(PLACE, member, asked, answered)
        if gives:
            self.history.ownership.given(PLACE, member, asked, answered)
        return self

    def lets_go(self, member: str) -> Told:
        self.history.ownership.let_go(PLACE, member)
        return self

    @property
    def names(self) -> set[str]:
        return {name for name, _ in find(self.history, {})}


def owned_by_a() -> Told:
    return Told().beat("a", gives=True).beat("a", claims=True)


def test_a_partition_that_is_given_while_its_holder_has_it_has_two() -> None:
    assert owned_by_a().beat("b", gives=True).beat("a", claims=True).names == {"two-holders"}


def test_a_partition_that_was_let_go_has_one() -> None:
    told = owned_by_a().lets_go("a").beat("a").beat("b", gives=True).beat("b", claims=True)
    assert told.names == set()
    assert told.lets_go("b").beat("a", gives=True).beat("a", claims=True).names == set()


def test_a_holder_that_was_taken_out_is_not_answered_any_more() -> None:
    assert owned_by_a().beat("b", gives=True).beat("b", claims=True).names == set()


def test_what_was_given_late_is_not_held_from_before() -> None:
    """Its answer may have been under way for long."""
    told = Told().beat("b", gives=True).beat("a", gives=True).beat("a", claims=True)
    assert told.beat("a", claims=True).names == set()
