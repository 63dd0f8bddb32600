"""Who may join: ids that are asked for first, static members, fencing, bounds."""

from __future__ import annotations

import pytest

from kcluster.core.groups import shard as shards
from kcluster.core.groups.joining import NEW_MEMBER_JOIN_MS
from kcluster.errors import ErrorCode
from kcluster.limits import LIMITS
from tests.core.groups.playbook import (
    Beat,
    Commit,
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
    Synced,
    Wait,
    stable,
)

MEMBER_ID_REQUIRED = ErrorCode.MEMBER_ID_REQUIRED
FENCED = ErrorCode.FENCED_INSTANCE_ID

# --- sessions and ids ---------------------------------------------------------------------


@pytest.mark.parametrize(("session_ms", "is_taken"), [(99, 0), (100, 1), (500, 1), (501, 0)])
def test_a_session_timeout_is_within_the_bounds(session_ms: int, is_taken: int) -> None:
    group = Story(min_session_timeout_ms=100, max_session_timeout_ms=500)
    group >> Join("a", session_ms=session_ms)
    answer = Joined("a", 1, "a") if is_taken else Refused("a", ErrorCode.INVALID_SESSION_TIMEOUT)
    group << answer
    assert len(group.shard.groups) == is_taken


def test_a_member_id_is_the_clients_name_and_a_number() -> None:
    group = Story()
    group >> Join("a", version=4) << Refused("a", MEMBER_ID_REQUIRED)
    assert group.ids["a"].startswith("a-")
    assert len(group.ids["a"]) == 2 + 36


def test_a_new_member_asks_twice_from_version_4_on() -> None:
    group = Story()
    group >> Join("a", version=4) << Refused("a", MEMBER_ID_REQUIRED)
    id = group.ids["a"]
    assert (group.state, list(group.group.pending)) == ("Empty", [id])
    group >> Join("a", version=4) << Joined("a", 1, leads="a")
    assert group.ids["a"] == id
    assert not group.group.pending
    # The session of the pending id is over, and nobody's.
    group >> Sync("a", {"a": b"x"}) << Synced("a", b"x")
    group >> Wait(9_000)
    group >> Beat("a") << Ok("a")
    group >> Wait(2_000)
    group >> Beat("a") << Ok("a")


def test_an_old_client_is_a_member_at_once() -> None:
    group = Story()
    group >> Join("a", version=3) << Joined("a", 1, leads="a")


def test_a_pending_member_that_does_not_come_back_is_forgotten_with_its_group() -> None:
    group = Story()
    group >> Join("a", version=4) << Refused("a", MEMBER_ID_REQUIRED)
    group >> Wait(11_000)
    assert group.shard.groups == {}
    group >> Join("a", version=4) << Refused("a", ErrorCode.UNKNOWN_MEMBER_ID)


def test_a_rebalance_waits_for_a_pending_member_until_its_session_is_over() -> None:
    group = stable("a")
    group >> Join("b", version=4) << Refused("b", MEMBER_ID_REQUIRED)
    group >> Join("a")
    assert group.state == "PreparingRebalance"
    group >> Wait(11_000) << Joined("a", 2, leads="a")


def test_a_pending_member_that_leaves_lets_the_rebalance_go_on() -> None:
    group = stable("a")
    group >> Join("b", version=4) << Refused("b", MEMBER_ID_REQUIRED)
    group >> Join("a")
    group >> Leave("b")
    group.any(Ok("b"), Joined("a", 2, leads="a")).end()


def test_an_id_that_nobody_gave_is_unknown() -> None:
    group = stable("a")
    group >> Join("b", id="b-1") << Refused("b", ErrorCode.UNKNOWN_MEMBER_ID)
    other = Story()
    other >> Join("b", id="b-1") << Refused("b", ErrorCode.UNKNOWN_MEMBER_ID)
    assert other.shard.groups == {}


def test_a_new_member_that_waits_for_its_first_answer_is_not_kept_for_ever() -> None:
    # It cannot be heard to be silent: its client may be gone (its rebalance may take long).
    group = stable("a")
    group >> Join("b", rebalance_ms=10 * NEW_MEMBER_JOIN_MS)
    for _ in range(NEW_MEMBER_JOIN_MS // 5_000 + 5):
        group >> Beat("a")
        group.any(Refused("a", ErrorCode.REBALANCE_IN_PROGRESS))
        group >> Wait(5_000)
        if group.heard:
            break
    group << Refused("b", ErrorCode.UNKNOWN_MEMBER_ID)
    group >> Join("a") << Joined("a", 2, leads="a")


# --- bounds -------------------------------------------------------------------------------


def test_a_full_group_takes_no_new_member_and_keeps_its_own() -> None:
    group = stable("a", "b", max_size=2)
    full = ErrorCode.GROUP_MAX_SIZE_REACHED
    group >> Join("c") << Refused("c", full)
    group >> Join("c", version=4) << Refused("c", full)
    group >> Join("c", instance="three") << Refused("c", full)
    group >> Join("b") << Joined("b", 2)
    assert group.state == "Stable"


def test_a_static_member_of_a_full_group_comes_back() -> None:
    group = Story(max_size=1)
    group >> Join("a", instance="one") << Joined("a", 1, leads="a")
    group >> Sync("a", {"a": b"x"}) << Synced("a", b"x")
    group >> Join("b", instance="one", version=9) << Joined("b", 1, leads="b", skip=True)


def test_while_a_group_rebalances_those_count_that_have_joined() -> None:
    group = stable("a", "b", max_size=2)
    group >> Join("a")
    # `b` has not come yet, and its place is not kept for it.
    group >> Join("c")
    group >> Join("b")
    group.any(
        Refused("b", ErrorCode.GROUP_MAX_SIZE_REACHED), Joined("a", 3, "a,c"), Joined("c", 3)
    ).end()


def test_of_a_group_above_a_lowered_bound_the_last_to_rejoin_are_out() -> None:
    group = stable("a", "b", "c")
    group.settings = shards.GroupSettings(max_size=2)
    group >> FailOver()
    assert group.state == "PreparingRebalance"
    group >> Join("c")
    group >> Join("b")
    group >> Join("a")
    full = Refused("a", ErrorCode.GROUP_MAX_SIZE_REACHED)
    group.any(full, Joined("b", 3, "b,c"), Joined("c", 3)).end()


def test_a_pending_member_of_a_group_that_filled_up_is_refused() -> None:
    group = Story(max_size=1)
    group >> Join("a", version=4) << Refused("a", MEMBER_ID_REQUIRED)
    group >> Join("b", version=4) << Refused("b", MEMBER_ID_REQUIRED)
    group >> Join("a", version=4)
    group >> Join("b", version=4)
    group.any(Refused("b", ErrorCode.GROUP_MAX_SIZE_REACHED), Joined("a", 1, leads="a")).end()


def test_there_are_only_so_many_groups(monkeypatch: pytest.MonkeyPatch) -> None:
    import msgspec

    bounded = msgspec.structs.replace(LIMITS, groups_per_shard=1)
    monkeypatch.setattr(shards, "LIMITS", bounded)
    group = stable("a")
    group.id = "h"
    group >> Join("b") << Refused("b", ErrorCode.COORDINATOR_NOT_AVAILABLE)
    group >> Commit(offset=1) << Refused("", ErrorCode.COORDINATOR_NOT_AVAILABLE)
    # What is there already is loaded all the same.
    group.journal.records += Story_of_another_group()
    group.id = "g"
    group >> FailOver()
    assert sorted(group.shard.groups) == ["g", "h"]


def Story_of_another_group() -> list[object]:  # noqa: N802 - reads as what it gives
    other = stable("z", id="h")
    return list(other.journal.records)


# --- static members -----------------------------------------------------------------------


def static(**settings: int) -> Story:
    """`a` is instance one and leads, `b` is instance two."""
    group = Story(**settings)
    group >> Join("a", instance="one") << Joined("a", 1, leads="a")
    group >> Join("b", instance="two")
    group >> Join("a", instance="one")
    group.any(Joined("a", 2, "a,b"), Joined("b", 2)).end()
    group >> Sync("b")
    group >> Sync("a", {"a": b"1", "b": b"2"}) << Synced("a", b"1") << Synced("b", b"2")
    return group


def test_a_static_member_needs_not_ask_twice() -> None:
    group = Story()
    group >> Join("a", instance="one", version=9) << Joined("a", 1, leads="a")
    assert group.ids["a"].startswith("one-")
    [member] = group.answers["a"].members
    assert member.group_instance_id == "one"


def test_a_static_member_gets_its_place_and_partitions_back_without_a_rebalance() -> None:
    group = static()
    group >> Join("c", instance="two", version=9) << Joined("c", 2)
    group >> Sync("c") << Synced("c", b"2")
    assert list(group.group.members) == [group.ids["a"], group.ids["c"]]
    assert group.state == "Stable"


def test_a_leader_that_comes_back_learns_that_there_is_nothing_to_assign() -> None:
    group = static()
    group >> Join("c", instance="one", version=9) << Joined("c", 2, leads="c,b", skip=True)
    group >> Sync("c") << Synced("c", b"1")
    assert group.group.leader == group.ids["c"]


def test_before_version_9_its_former_self_is_named_as_the_leader() -> None:
    group = static()
    former = group.ids["a"]
    group >> Join("c", instance="one", version=8) << Joined("c", 2)
    assert group.answers["c"].leader == former
    assert group.answers["c"].member_id == group.group.leader
    # It syncs as a follower, and leads the next rebalance.
    group >> Sync("c") << Synced("c", b"1")
    group >> Join("b", instance="two", topics=["payments"])
    group >> Join("c", instance="one")
    group.any(Joined("b", 3), Joined("c", 3, "c,b")).end()


def test_who_holds_the_old_id_is_fenced_everywhere() -> None:
    group = static()
    old = group.ids["b"]
    group >> Join("c", instance="two", version=9) << Joined("c", 2)
    group >> Join("b", instance="two", id=old) << Refused("b", FENCED)
    group >> Sync("b", id=old) << Refused("b", FENCED)
    group >> Beat("b", id=old) << Refused("b", FENCED)
    group >> Commit("b", 5, id=old) << Refused("b", FENCED)
    group >> Leave("b", id=old) << Refused("b", FENCED)
    assert group.state == "Stable"
    # Without its instance it is simply unknown.
    group.instances["b"] = None
    group >> Beat("b", id=old) << Refused("b", ErrorCode.UNKNOWN_MEMBER_ID)


def test_an_instance_that_nobody_is_is_unknown_everywhere() -> None:
    group = static()
    unknown = Refused("a", ErrorCode.UNKNOWN_MEMBER_ID)
    for ask in (
        Join("a", instance="none"),
        Sync("a", instance="none"),
        Beat("a", instance="none"),
        Commit("a", 1, instance="none"),
        Leave("a", instance="none"),
    ):
        group >> ask << unknown
        group.instances["a"] = "one"


def test_the_replacement_of_a_static_member_survives_a_fail_over() -> None:
    group = static()
    group >> Join("c", instance="two", version=9) << Joined("c", 2)
    group >> FailOver()
    group >> Beat("c") << Ok("c")
    group >> Beat("b") << Refused("b", FENCED)
    group >> Sync("c") << Synced("c", b"2")


def test_a_static_member_that_comes_back_is_answered_when_that_is_committed() -> None:
    group = static()
    group.replicates = False
    group >> Join("c", instance="two", version=9)
    group >> Beat("b") << Refused("b", FENCED)
    group >> Replicate() << Joined("c", 2)


def test_a_new_static_member_that_is_started_again_while_it_waits_is_not_silent() -> None:
    group = stable("a")
    group >> Join("b", instance="two")
    group >> Join("c", instance="two") << Refused("b", FENCED)
    for _ in range(4):
        group >> Beat("a") << Refused("a", ErrorCode.REBALANCE_IN_PROGRESS)
        group >> Wait(5_000)
    group >> Join("a")
    group.any(Joined("a", 2, "a,c"), Joined("c", 2)).end()


def test_a_static_member_that_a_rebalance_overtakes_has_joined_it() -> None:
    group = static()
    group.replicates = False
    group >> Join("c", instance="two", version=9)
    group >> Join("d")
    group >> Join("a", instance="one")
    group.any(Joined("a", 3, "a,c,d"), Joined("c", 3), Joined("d", 3)).end()
    group >> Replicate()


def test_a_static_member_that_another_overtakes_is_fenced() -> None:
    group = static()
    group.replicates = False
    group >> Join("c", instance="two", version=9)
    group >> Join("d", instance="two", version=9) << Refused("c", FENCED)
    group >> Replicate() << Joined("d", 2)


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (ErrorCode.NOT_ENOUGH_REPLICAS, ErrorCode.COORDINATOR_NOT_AVAILABLE),
        (ErrorCode.NOT_LEADER_OR_FOLLOWER, ErrorCode.NOT_COORDINATOR),
        (ErrorCode.MESSAGE_TOO_LARGE, ErrorCode.UNKNOWN_SERVER_ERROR),
    ],
)
def test_a_static_member_whose_return_is_not_written_tries_again(
    error: ErrorCode, told: ErrorCode
) -> None:
    group = static()
    group >> Fail(error)
    group >> Join("c", instance="two", version=9) << Refused("c", told)
    # What is not in the log has not happened.
    group >> Beat("b") << Ok("b")
    assert group.group.members[group.ids["b"]].client_id == "b"
    group >> Join("c", instance="two", version=9) << Joined("c", 2)
    group >> Sync("c") << Synced("c", b"2")


def test_a_static_member_whose_return_is_not_committed_in_time_is_told_so() -> None:
    group = static()
    group.replicates = False
    group >> Join("c", instance="two", version=9)
    group >> Wait(6_000) << Refused("c", ErrorCode.COORDINATOR_NOT_AVAILABLE)
    assert group.answers["c"].generation_id == -1
    group >> Replicate()


def test_a_static_member_with_other_protocols_rebalances_when_another_is_chosen() -> None:
    group = Story()
    group >> Join("a", instance="one", protocols=("range", "sticky")) << Joined("a", 1, "a")
    group >> Sync("a", {"a": b"1"}) << Synced("a", b"1")
    group >> Join("b", instance="one", protocols=("range", "other"), version=9)
    group << Joined("b", 1, leads="b", skip=True)
    group >> Join("c", instance="one", protocols=("other", "range"), version=9)
    group << Joined("c", 2, leads="c")
    assert group.answers["c"].protocol_name == "other"
    group >> Sync("b") << Refused("b", FENCED)


def test_a_static_member_that_comes_back_in_a_rebalance_has_joined() -> None:
    group = static()
    group >> Join("d")
    group >> Join("b", instance="two")
    group >> Join("c", instance="two")
    group << Refused("b", FENCED)
    group >> Join("a", instance="one")
    group.any(Joined("a", 3, "a,c,d"), Joined("c", 3), Joined("d", 3)).end()


def test_a_static_member_that_comes_back_before_the_assignment_begins_the_rebalance_anew() -> None:
    group = static()
    group >> Join("a", instance="one")
    group >> Join("b", instance="two")
    group.any(Joined("a", 3, "a,b"), Joined("b", 3)).end()
    group >> Sync("b")
    # The leader was told the old id, and would assign to it.
    group >> Join("c", instance="two")
    group << Refused("b", FENCED)
    group >> Sync("a", {"a": b"1", "b": b"2"}) << Refused("a", ErrorCode.REBALANCE_IN_PROGRESS)
    group >> Join("a", instance="one")
    group.any(Joined("a", 4, "a,c"), Joined("c", 4)).end()


def test_of_an_empty_group_a_static_member_is_new() -> None:
    group = static()
    group >> Leave("a") << Ok("a")
    group >> Leave("b") << Ok("b")
    assert group.state == "Empty"
    group >> Join("c", instance="two", version=9) << Joined("c", 4, leads="c")


def test_a_returned_member_is_described_as_it_is_now() -> None:
    group = static()
    group >> Join("c", instance="two", session_ms=7_000, rebalance_ms=8_000) << Joined("c", 2)
    member = group.group.members[group.ids["c"]]
    assert (member.client_id, member.session_timeout_ms, member.rebalance_timeout_ms) == (
        "c",
        7_000,
        8_000,
    )


def test_version_0_has_the_session_timeout_for_the_rebalance() -> None:
    group = Story()
    group >> Join("a", version=0, rebalance_ms=-1) << Joined("a", 1, leads="a")
    assert group.group.rebalance_timeout_ms == 10_000
