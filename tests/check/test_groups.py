"""Each anomaly of a group is found in a history made for it, and none in a good one."""

from __future__ import annotations

import pytest

from kcluster.check.groups import GroupHistory, find
from kcluster.model import TopicPartition

TP = TopicPartition("orders", 0)
PLACE = ("g", TP)
KNOWN = {TP: [0, 1, 2, 3, 5]}


def commit(history: GroupHistory, generation: int, offset: int, member: str = "a") -> None:
    made = history.committing(PLACE, member, generation, offset)
    made.acknowledged = history.moment()


def read(history: GroupHistory, offset: int) -> None:
    asked = history.moment()
    history.read(PLACE, "b", offset, asked)


def give(history: GroupHistory, *offsets: int) -> None:
    for offset in offsets:
        history.give(PLACE, offset)


def good() -> GroupHistory:
    history = GroupHistory()
    history.assigned("g", 1, "a", [TP])
    read(history, -1)
    give(history, 0, 1, 2)
    commit(history, 1, 3)
    history.assigned("g", 2, "b", [TP])
    read(history, 3)
    give(history, 2, 3, 5)
    commit(history, 2, 6, "b")
    read(history, 6)
    return history


def names(history: GroupHistory) -> set[str]:
    return {name for name, _ in find(history, KNOWN)}


def test_a_good_history_has_no_anomalies_and_counts_what_was_repeated() -> None:
    history = good()
    assert names(history) == set()
    assert history.repeated == 1


def share(history: GroupHistory) -> None:
    history.assigned("g", 2, "a", [TP])


def forget(history: GroupHistory) -> None:
    read(history, -1)


def go_back(history: GroupHistory) -> None:
    read(history, 3)


def invent(history: GroupHistory) -> None:
    read(history, 4)


def commit_late(history: GroupHistory) -> None:
    commit(history, 1, 6)


def skip(history: GroupHistory) -> None:
    del history.given[PLACE][1]


def commit_ahead(history: GroupHistory) -> None:
    history.given[PLACE][5] = history.moment()


@pytest.mark.parametrize(
    ("damage", "name"),
    [
        (share, "two-owners"),
        (forget, "lost-commit"),
        (go_back, "lost-commit"),
        (invent, "lost-commit"),
        (commit_late, "stale-commit"),
        (skip, "skipped-record"),
        (commit_ahead, "skipped-record"),
    ],
)
def test_an_anomaly_is_found_by_its_name(damage, name: str) -> None:  # type: ignore[no-untyped-def]
    history = good()
    damage(history)
    assert names(history) == {name}


def test_a_commit_that_nobody_knows_of_may_be_told_or_not() -> None:
    history = good()
    history.committing(PLACE, "b", 2, 5)
    read(history, 6)
    read(history, 5)
    assert names(history) == set()


def test_what_was_told_once_is_committed() -> None:
    history = good()
    history.committing(PLACE, "b", 2, 5)
    read(history, 5)
    read(history, 6)
    assert names(history) == {"lost-commit"}


def test_a_commit_that_nobody_knows_of_is_replaced_by_a_later_generation() -> None:
    history = good()
    history.committing(PLACE, "b", 2, 5)
    commit(history, 3, 6, "c")
    read(history, 5)
    assert names(history) == {"lost-commit"}


def test_a_refused_commit_is_never_told() -> None:
    history = good()
    history.committing(PLACE, "b", 2, 5).is_refused = True
    read(history, 5)
    assert names(history) == {"lost-commit"}


def test_a_group_may_set_its_offset_back() -> None:
    history = good()
    commit(history, 3, 1, "c")
    read(history, 1)
    assert names(history) == set()


def test_an_acknowledgement_that_is_heard_late_is_not_the_newest_commit() -> None:
    history = good()
    old = history.committing(PLACE, "a", 1, 4)
    commit(history, 3, 9, "b")
    old.acknowledged = history.moment()
    assert history.last_known(PLACE) == 9


def test_a_commit_that_somebody_was_told_is_known_without_its_acknowledgement() -> None:
    history = good()
    history.committing(PLACE, "b", 2, 8)
    assert history.last_known(PLACE) == 6
    read(history, 8)
    assert history.last_known(PLACE) == 8
    assert GroupHistory().last_known(PLACE) == -1


def test_what_is_told_may_be_the_older_of_two_commits_of_the_same_offset() -> None:
    """The generation of the newer one need not have outlived its coordinator."""
    history = good()
    commit(history, 1, 6, "a")
    history.committing(PLACE, "a", 69, 6)
    read(history, 6)
    commit(history, 4, 9, "b")
    assert history.last_known(PLACE) == 9


def test_what_is_told_again_after_it_was_replaced_is_the_newer_commit() -> None:
    history = good()
    commit(history, 2, 9, "a")
    history.committing(PLACE, "b", 3, 6)
    read(history, 6)
    assert history.last_known(PLACE) == 6
