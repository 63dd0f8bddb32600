"""Offsets: who may commit, when they are shown, and how they go."""

from __future__ import annotations

import pytest

from kcluster.core.groups import commits
from kcluster.core.groups.shard import TOMBSTONES
from kcluster.errors import ApiError, ErrorCode
from tests.core.groups.playbook import (
    PLACE,
    Beat,
    Commit,
    Delete,
    Fail,
    FailOver,
    Join,
    Joined,
    Leave,
    Ok,
    Refused,
    Replicate,
    Story,
    Sync,
    Wait,
    stable,
)

UNKNOWN = ErrorCode.UNKNOWN_MEMBER_ID
OTHER = ("orders", 1)

# --- who may commit -----------------------------------------------------------------------


def test_a_consumer_that_assigns_for_itself_makes_a_group_by_its_commit() -> None:
    group = Story()
    group >> Commit(offset=5) << Ok("")
    assert (group.state, group.group.protocol_type, group.offset()) == ("Empty", "", 5)


def test_a_commit_that_names_a_generation_makes_no_group() -> None:
    group = Story()
    group >> Commit("a", 5, generation=0, id="x") << Refused("a", ErrorCode.ILLEGAL_GENERATION)
    assert group.shard.groups == {}


def test_a_member_commits_in_its_generation_only() -> None:
    group = stable("a")
    old = ErrorCode.ILLEGAL_GENERATION
    generation = group.generations["a"]
    group >> Commit("a", 5, generation=generation - 1) << Refused("a", old)
    group >> Commit("a", 5, generation=generation + 1) << Refused("a", old)
    group >> Commit("a", 5, generation=-1) << Refused("a", old)
    group >> Commit("a", 5) << Ok("a")


@pytest.mark.parametrize(("id", "generation"), [("", -1), ("", 1), ("nobody", 1), ("nobody", -1)])
def test_while_a_group_has_members_only_they_commit(id: str, generation: int) -> None:
    group = stable("a")
    group >> Commit("x", 5, id=id, generation=generation) << Refused("x", UNKNOWN)


def test_in_a_group_that_keeps_only_offsets_nobody_is_a_member() -> None:
    group = Story()
    group >> Commit(offset=5) << Ok("")
    group >> Commit("a", 6, id="a-1", generation=1) << Refused("a", UNKNOWN)
    group >> Commit("a", 6, id="a-1", generation=-1) << Ok("a")


def test_an_administrator_resets_the_offsets_of_a_group_when_its_members_are_gone() -> None:
    group = stable("a")
    group >> Commit("a", 5) << Ok("a")
    group >> Commit(offset=0) << Refused("", UNKNOWN)
    group >> Leave("a") << Ok("a")
    group >> Commit(offset=0) << Ok("")
    assert group.offset() == 0


def test_a_request_for_nothing_is_checked_and_answered() -> None:
    group = stable("a")
    told: list[ErrorCode] = []
    id = group.ids["a"]
    done = lambda turn, error: told.append(error)  # noqa: E731
    commits.commit(group.shard, "g", id, None, 1, {}, group.turn, done)
    assert told == [ErrorCode.NONE]
    with pytest.raises(ApiError):
        commits.commit(group.shard, "g", id, None, 9, {}, group.turn, done)
    # Nor does it make a group.
    commits.commit(group.shard, "h", "", None, -1, {}, group.turn, done)
    assert list(group.shard.groups) == ["g"]


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (ErrorCode.NOT_ENOUGH_REPLICAS, ErrorCode.COORDINATOR_NOT_AVAILABLE),
        (ErrorCode.KAFKA_STORAGE_ERROR, ErrorCode.NOT_COORDINATOR),
        (ErrorCode.MESSAGE_TOO_LARGE, ErrorCode.UNKNOWN_SERVER_ERROR),
    ],
)
def test_a_commit_that_cannot_be_written_leaves_nothing(error: ErrorCode, told: ErrorCode) -> None:
    group = Story()
    group >> Fail(error)
    group >> Commit(offset=5) << Refused("", told)
    assert group.shard.groups == {}


# --- what is shown ------------------------------------------------------------------------


def test_an_offset_is_shown_and_answered_once_it_is_committed() -> None:
    group = Story(replicates=False)
    group >> Commit(offset=5)
    assert group.offset() is None
    group >> Replicate() << Ok("")
    assert group.offset() == 5
    group >> Commit(offset=6)
    group >> Commit(offset=7)
    assert (group.offset(), group.offsets()) == (5, {PLACE: 5})
    group >> Replicate(1) << Ok("")
    assert group.offset() == 6
    group >> Replicate(1) << Ok("")
    assert group.offset() == 7


def test_a_commit_that_is_not_committed_in_time_may_still_be() -> None:
    group = Story(replicates=False)
    group >> Commit(offset=5)
    group >> Wait(6_000) << Refused("", ErrorCode.COORDINATOR_NOT_AVAILABLE)
    assert group.offset() is None
    group >> Replicate()
    assert group.offset() == 5


def test_commits_under_way_when_the_leadership_ends_are_refused() -> None:
    group = Story(replicates=False)
    group >> Commit(offset=5)
    group >> Replicate() << Ok("")
    group >> Commit(offset=6)
    group >> FailOver(lost=1)
    group << Refused("", ErrorCode.NOT_COORDINATOR)
    group >> Replicate()
    assert group.offset() == 5


def test_what_the_next_leader_has_it_commits() -> None:
    group = Story(replicates=False)
    group >> Commit(offset=6)
    group >> FailOver()
    group << Refused("", ErrorCode.NOT_COORDINATOR)
    assert group.offset() is None
    group >> Replicate()
    assert group.offset() == 6


def test_a_deletion_is_shown_once_it_is_committed() -> None:
    group = Story(replicates=False)
    group >> Commit(offset=5)
    group >> Replicate() << Ok("")
    group >> Delete([PLACE])
    assert group.offset() == 5
    group >> Commit(offset=7)
    assert group.offset() == 5
    group >> Replicate(1) << Ok("")
    assert group.offset() is None
    group >> Replicate() << Ok("")
    assert group.offset() == 7


def test_a_deleted_group_is_shown_until_that_is_committed() -> None:
    group = Story(replicates=False)
    group >> Commit(offset=5)
    group >> Replicate() << Ok("")
    group >> Delete()
    assert group.offset() == 5
    # For what is decided next it is gone.
    group >> Delete() << Refused("", ErrorCode.GROUP_ID_NOT_FOUND)
    group >> Delete([PLACE]) << Refused("", ErrorCode.GROUP_ID_NOT_FOUND)
    group >> Commit("a", 9, id="a", generation=3) << Refused("a", ErrorCode.ILLEGAL_GENERATION)
    assert group.offset() == 5
    group >> Replicate() << Ok("")
    assert group.offset() is None
    assert group.shard.groups == {}


def test_a_deletion_that_is_lost_never_was() -> None:
    group = Story(replicates=False)
    group >> Commit(offset=5)
    group >> Replicate() << Ok("")
    group >> Delete()
    assert group.offset() == 5
    group >> FailOver(lost=2)
    group << Refused("", ErrorCode.NOT_COORDINATOR)
    group >> Replicate()
    assert group.offset() == 5


def test_a_group_is_deleted_as_a_whole_or_not_at_all() -> None:
    group = Story()
    group >> Commit(offset=5) << Ok("")
    group >> Fail()
    group >> Delete() << Refused("", ErrorCode.COORDINATOR_NOT_AVAILABLE)
    assert group.offset() == 5
    group >> Delete() << Ok("")
    assert group.offset() is None


def test_a_group_that_is_made_anew_while_its_deletion_is_under_way() -> None:
    group = Story(replicates=False)
    group >> Commit(offset=5)
    group >> Replicate() << Ok("")
    group >> Delete()
    group >> Commit(offset=1, place=OTHER)
    assert group.offsets() == {PLACE: 5}
    group >> Replicate()
    group.any(Ok(""), Ok("")).end()
    assert group.offsets() == {OTHER: 1}
    group >> FailOver()
    group >> Replicate()
    assert group.offsets() == {OTHER: 1}


def test_a_slot_holds_no_more_than_what_is_under_way() -> None:
    # Nobody reads the offsets of most groups.
    group = Story()
    for offset in range(100):
        group >> Commit(offset=offset) << Ok("")
    [slot] = group.group.offsets._slots.values()
    assert len(slot) <= 2
    group >> FailOver()
    [slot] = group.group.offsets._slots.values()
    assert [entry.offset for entry in slot] == [99]


# --- deletion of offsets ------------------------------------------------------------------


def test_offsets_of_topics_that_a_member_subscribes_to_stay() -> None:
    group = stable("a")
    group >> Commit("a", 5) << Ok("a")
    group >> Commit("a", 6, ("payments", 0)) << Ok("a")
    group >> Delete([PLACE]) << Refused("", ErrorCode.GROUP_SUBSCRIBED_TO_TOPIC)
    group >> Delete([("payments", 0)]) << Ok("")
    assert group.offsets() == {PLACE: 5}


def test_of_a_group_that_does_not_tell_what_it_subscribes_to_nothing_is_deleted() -> None:
    group = Story()
    group >> Join("a", type="connect") << Joined("a", 1, leads="a")
    group >> Delete([PLACE]) << Refused("", ErrorCode.NON_EMPTY_GROUP)
    group >> Leave("a") << Ok("a")
    group >> Delete([PLACE]) << Ok("")


def test_offsets_that_are_not_there_are_deleted_without_a_record() -> None:
    group = Story()
    group >> Delete([PLACE]) << Refused("", ErrorCode.GROUP_ID_NOT_FOUND)
    group >> Commit(offset=5) << Ok("")
    end = group.journal.log_end_offset
    group >> Delete([OTHER, OTHER]) << Ok("")
    assert group.journal.log_end_offset == end
    group >> Delete([PLACE, PLACE]) << Ok("")
    assert group.journal.log_end_offset == end + 1


def test_a_group_whose_last_offset_is_deleted_is_none_any_more() -> None:
    group = Story()
    group >> Commit(offset=5) << Ok("")
    group >> Delete([PLACE]) << Ok("")
    assert group.shard.find("g") is None
    group >> Delete() << Refused("", ErrorCode.GROUP_ID_NOT_FOUND)


def test_very_many_offsets_are_deleted_by_more_than_one_batch() -> None:
    group = Story()
    count = 2 * TOMBSTONES + 1
    for index in range(count):
        group >> Commit(offset=1, place=("orders", index)) << Ok("")
    group >> Delete() << Ok("")
    assert group.offsets() == {}
    assert group.journal.log_end_offset == 2 * count + 1
    group >> FailOver()
    assert group.shard.groups == {}


def test_a_member_that_fell_silent_does_not_commit() -> None:
    group = stable("a", "b")
    group >> Wait(8_000)
    group >> Beat("b") << Ok("b")
    group >> Wait(4_000)
    group >> Commit("a", 5) << Refused("a", UNKNOWN)
    group >> Sync("b") << Refused("b", ErrorCode.REBALANCE_IN_PROGRESS)
