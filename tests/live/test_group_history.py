"""The judge of the group runs finds what it is there to find."""

from __future__ import annotations

from typing import Any

from tests.live.group_history import GroupHistory, Heard, judge, unowned_ms


def history(*lines: tuple[str, str, dict[str, Any]], partitions: int = 2) -> GroupHistory:
    return judge(told(*lines), partitions)


def told(*lines: tuple[str, str, dict[str, Any]]) -> list[Heard]:
    return [
        Heard(at, member, {"event": event, **fields})
        for at, (member, event, fields) in enumerate(lines)
    ]


def assigned(member: str, *partitions: int, generation: int = -1) -> tuple[str, str, Any]:
    return member, "assigned", {"partitions": list(partitions), "generation": generation}


def revoked(member: str, *partitions: int) -> tuple[str, str, Any]:
    return member, "revoked", {"partitions": list(partitions)}


def records(member: str, *runs: list[int]) -> tuple[str, str, Any]:
    return member, "records", {"runs": list(runs)}


def committed(member: str, **offsets: int) -> tuple[str, str, Any]:
    return member, "committed", {"offsets": {name[1:]: at for name, at in offsets.items()}}


HANDED_OVER = [
    assigned("a", 0),
    records("a", [0, 0, 9]),
    committed("a", p0=10),
    revoked("a", 0),
    assigned("b", 0),
]


def test_a_hand_over_at_the_committed_offset_is_sound() -> None:
    found = history(
        assigned("a", 0, 1, generation=1),
        records("a", [0, 0, 9], [1, 0, 4]),
        committed("a", p0=10, p1=5),
        revoked("a", 0, 1),
        assigned("a", 0, generation=2),
        assigned("b", 1, generation=2),
        records("b", [1, 5, 7]),
        records("a", [0, 10, 10]),
    )
    assert found.is_sound
    assert found.frontier == [11, 8]
    assert found.committed == [10, 5]
    assert (found.delivered, found.redelivered, found.revocations) == (19, 0, 1)
    assert found.is_shared_by(2)


def test_records_that_come_twice_are_counted_and_sound() -> None:
    found = history(records("a", [0, 0, 9]), records("b", [0, 5, 11]))
    assert found.is_sound
    assert (found.delivered, found.redelivered, found.frontier[0]) == (17, 5, 12)


def test_records_that_nobody_was_given_are_skipped() -> None:
    found = history(records("a", [0, 0, 9]), records("b", [0, 11, 12]))
    assert found.skipped == ["0: b went on at 11, given were 10"]
    assert not found.is_sound


def test_a_commit_ahead_of_all_deliveries_is_found() -> None:
    found = history(records("a", [0, 0, 9]), committed("a", p0=11))
    assert found.ahead == ["0: a committed 11, given were 10"]
    assert not found.is_sound


def test_an_owner_that_begins_below_the_acknowledged_commit_shows_a_lost_commit() -> None:
    found = history(
        *HANDED_OVER,
        records("b", [0, 8, 12]),
        records("b", [0, 8, 12]),
    )
    assert found.went_back == ["0: b began at 8, committed was 10"]
    assert not found.is_sound


def test_what_a_member_commits_that_owns_it_no_more_does_not_bind_the_owner() -> None:
    found = history(
        assigned("a", 0),
        records("a", [0, 0, 9]),
        committed("a", p0=8),
        revoked("a", 0),
        committed("a", p0=10),
        assigned("b", 0),
        records("b", [0, 8, 12]),
    )
    assert found.is_sound


def test_an_owner_goes_on_from_a_commit_that_went_below_the_one_before() -> None:
    lines = [*HANDED_OVER, committed("b", p0=6)]
    found = history(*lines, records("b", [0, 6, 12]))
    assert found.is_sound
    assert found.recommits == ["0: b committed 6 after 10"]
    assert history(*lines, records("b", [0, 5, 12])).went_back == [
        "0: b began at 5, committed was 6"
    ]


def test_an_owner_may_have_read_a_lower_commit_before_the_answer_to_it_is_heard() -> None:
    lines = [*HANDED_OVER, records("b", [0, 6, 12])]
    went_back = ["0: b began at 6, committed was 10"]

    def late(offset: int, began_ns: int) -> tuple[str, str, Any]:
        return "a", "committed", {"offsets": {"0": offset}, "began_ns": began_ns}

    assert history(*lines, late(6, began_ns=4)).is_sound
    assert history(*lines, late(7, began_ns=4)).went_back == went_back
    assert history(*lines, late(6, began_ns=6)).went_back == went_back


def test_two_owners_in_one_generation_are_found_when_generations_are_told_late_as_well() -> None:
    found = history(
        assigned("a", 0, 1, generation=3),
        assigned("b", 1),
        ("b", "generation", {"generation": 3}),
    )
    assert found.two_owners == ["1 in 3: a and b"]
    assert found.overlaps == ["1: a and b"]
    assert not found.is_sound


def test_a_commit_below_the_one_before_it_is_reported() -> None:
    found = history(records("a", [0, 0, 9]), committed("a", p0=10), committed("b", p0=8))
    assert found.recommits == ["0: b committed 8 after 10"]
    assert found.is_sound


def test_who_leaves_owns_nothing_and_was_not_rebalanced() -> None:
    found = history(assigned("a", 0, 1), ("a", "leaving", {}), ("a", "stopped", {}))
    assert found.owned == {"a": set()}
    assert found.revocations == 0


def test_lines_are_judged_in_the_order_of_their_time() -> None:
    [first, second] = told(records("a", [0, 0, 9]), records("b", [0, 10, 12]))
    assert judge([second, first], 1).is_sound


def test_the_time_without_an_owner_is_the_longest_within_bounds() -> None:
    lines = told(
        assigned("a", 0, 1),
        revoked("a", 0, 1),
        assigned("a", 0),
        assigned("b", 1),
        revoked("b", 1),
        assigned("a", 1),
    )
    for number, each in enumerate(lines):
        each.at_ns = (0, 10, 11, 15, 30, 100)[number] * 1_000_000
    assert unowned_ms(lines, 2, 5_000_000, 20_000_000) == 5
    assert unowned_ms(lines, 2, 5_000_000, 200_000_000) == 70
