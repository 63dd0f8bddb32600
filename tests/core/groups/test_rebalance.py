"""What moves a group: timeouts of join and sync, sessions, leaving, the initial delay, and an
assignment that is not committed."""

from __future__ import annotations

import pytest

from kcluster.core.broker.handlers import leave_group
from kcluster.core.groups.group import ASKED_MAX
from kcluster.errors import ErrorCode
from kcluster.wire.messages.leave_group import MemberIdentity
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

UNKNOWN = ErrorCode.UNKNOWN_MEMBER_ID
REBALANCE = ErrorCode.REBALANCE_IN_PROGRESS
FOREVER_MS = 1_700_000


def sleepy(*names: str, static: bool = False, rebalance_ms: int = 20_000) -> Story:
    """A stable group whose sessions last longer than its rebalances."""
    group = Story()
    options = {"session_ms": FOREVER_MS, "rebalance_ms": rebalance_ms}
    for name in (*names, names[0]):
        group >> Join(name, instance=f"i-{name}" if static else None, **options)
        group.forget()
    for name in reversed(names):
        group >> Sync(name, {each: each.encode() for each in names} if name == names[0] else {})
        group.forget()
    assert group.state == "Stable"
    return group


# --- the join phase -----------------------------------------------------------------------


def test_who_did_not_rejoin_in_time_is_out() -> None:
    group = sleepy("a", "b")
    group >> Join("c", session_ms=FOREVER_MS, rebalance_ms=20_000)
    group >> Join("b", session_ms=FOREVER_MS, rebalance_ms=20_000)
    group >> Wait(19_000)
    group >> Wait(2_000)
    group.any(Joined("b", 3, "b,c"), Joined("c", 3)).end()
    group >> Beat("a") << Refused("a", UNKNOWN)


def test_a_rebalance_lasts_as_long_as_its_most_patient_member_asks_for() -> None:
    group = sleepy("a", "b", rebalance_ms=5_000)
    group >> Join("c", session_ms=FOREVER_MS, rebalance_ms=50_000)
    group >> Wait(49_000)
    group >> Wait(3_000) << Joined("c", 3, leads="c")


def test_a_static_member_that_is_away_keeps_its_place_in_the_next_generation() -> None:
    group = sleepy("a", "b", static=True)
    group >> Join("c", session_ms=FOREVER_MS, rebalance_ms=20_000)
    group >> Join("a", instance="i-a", session_ms=FOREVER_MS, rebalance_ms=20_000)
    group >> Wait(21_000)
    group.any(Joined("a", 3, "a,b,c"), Joined("c", 3)).end()
    # It may even get partitions; it hears so when it comes back.
    group >> Join("d", instance="i-b")
    assert group.state == "PreparingRebalance"


def test_a_leader_that_is_away_is_followed_by_one_that_has_joined() -> None:
    group = sleepy("a", "b", static=True)
    assert group.group.leader == group.ids["a"]
    group >> Join("c", session_ms=FOREVER_MS, rebalance_ms=20_000)
    group >> Join("b", instance="i-b", session_ms=FOREVER_MS, rebalance_ms=20_000)
    group >> Wait(21_000)
    group.any(Joined("b", 3, "a,b,c"), Joined("c", 3)).end()


def test_when_only_static_members_that_are_away_are_left_the_rebalance_waits_for_them() -> None:
    group = sleepy("a", "b", static=True)
    group >> Join("c", version=4) << Refused("c", ErrorCode.MEMBER_ID_REQUIRED)
    group >> Join("c", session_ms=FOREVER_MS, rebalance_ms=20_000)
    group >> Leave("c")
    group.any(Ok("c"), Refused("c", UNKNOWN)).end()
    group >> Wait(21_000)
    group >> Wait(21_000)
    assert group.state == "PreparingRebalance"
    group >> Join("b", instance="i-b", session_ms=FOREVER_MS, rebalance_ms=20_000)
    group >> Wait(21_000) << Joined("b", 3, leads="a,b")


def test_a_leader_that_leaves_is_followed_by_the_next() -> None:
    group = stable("a", "b", "c")
    group >> Leave("a") << Ok("a")
    group >> Join("c")
    group >> Join("b")
    group.any(Joined("b", 3, "b,c"), Joined("c", 3)).end()


def test_a_member_that_joins_again_while_it_waits_is_answered_each_time() -> None:
    # On one connection, as KafkaJS does: it waits for all of these answers, under one id.
    group = stable("a", "b")
    group >> Join("a")
    group >> Join("a")
    group >> Join("b")
    group.any(Joined("a", 3, "a,b"), Joined("a", 3, "a,b"), Joined("b", 3)).end()


def test_too_many_questions_of_a_member_are_answered_before_the_rebalance_is_over() -> None:
    group = stable("a", "b")
    for _ in range(ASKED_MAX):
        group >> Join("a")
    group >> Join("a")
    group.any(*[Refused("a", REBALANCE)] * ASKED_MAX)
    group >> Join("b")
    group.any(Joined("a", 3, "a,b"), Joined("b", 3)).end()
    for _ in range(ASKED_MAX):
        group >> Sync("b")
    group >> Sync("b")
    group.any(*[Refused("b", REBALANCE)] * ASKED_MAX).end()


# --- the initial delay --------------------------------------------------------------------


def test_without_an_initial_delay_the_first_member_is_served_at_once() -> None:
    group = Story()
    group >> Join("a") << Joined("a", 1, leads="a")


def test_an_empty_group_waits_for_late_comers_as_long_as_they_come() -> None:
    group = Story(initial_rebalance_delay_ms=3_000)
    group >> Join("a")
    group >> Wait(2_000)
    group >> Join("b")
    # `b` has come within the first wait, so there is another one.
    group >> Wait(3_000)
    group >> Join("c")
    group >> Wait(3_000)
    group >> Wait(3_500)
    group.any(Joined("a", 1, "a,b,c"), Joined("b", 1), Joined("c", 1)).end()


def test_late_comers_do_not_hold_a_group_back_for_ever() -> None:
    group = Story(initial_rebalance_delay_ms=3_000)
    names = [f"m{number}" for number in range(20)]
    for name in names:
        group >> Join(name, rebalance_ms=10_000)
        group >> Wait(1_000)
        if group.heard:
            break
    told = [each.name for each in group.forget_all()]
    assert 9 <= len(told) <= 12
    assert sorted(told) == sorted(names[: len(told)])


def test_a_group_that_was_in_use_does_not_wait_initially() -> None:
    group = stable("a", initial_rebalance_delay_ms=0)
    group.shard.settings = Story(initial_rebalance_delay_ms=3_000).settings
    group >> Join("b")
    group >> Join("a")
    group.any(Joined("a", 2, "a,b"), Joined("b", 2)).end()


def test_who_leaves_while_an_empty_group_waits_is_not_waited_for() -> None:
    group = Story(initial_rebalance_delay_ms=3_000)
    group >> Join("a", version=4) << Refused("a", ErrorCode.MEMBER_ID_REQUIRED)
    group >> Join("a", version=4)
    group >> Leave("a")
    group.any(Ok("a"), Refused("a", UNKNOWN)).end()
    group >> Wait(4_000)
    assert (group.state, group.group.members) == ("Empty", {})


# --- the sync phase -----------------------------------------------------------------------


def test_who_does_not_sync_in_time_is_out() -> None:
    group = sleepy("a", "b", "c")
    group >> Join("a", session_ms=FOREVER_MS, rebalance_ms=20_000)
    for name in ("b", "c"):
        group >> Join(name, session_ms=FOREVER_MS, rebalance_ms=20_000)
    group.forget()
    group >> Sync("a", {"a": b"1"}) << Synced("a", b"1")
    group >> Sync("b") << Synced("b", b"")
    group >> Wait(21_000)
    assert group.state == "PreparingRebalance"
    group >> Beat("c") << Refused("c", UNKNOWN)
    group >> Beat("b") << Refused("b", REBALANCE)


def test_a_leader_that_does_not_sync_in_time_is_followed_by_another() -> None:
    group = sleepy("a", "b")
    group >> Join("a", session_ms=FOREVER_MS, rebalance_ms=20_000)
    group >> Join("b", session_ms=FOREVER_MS, rebalance_ms=20_000)
    group.forget()
    group >> Sync("b")
    group >> Wait(21_000) << Refused("b", REBALANCE)
    group >> Join("b", session_ms=FOREVER_MS) << Joined("b", 4, leads="b")


def test_when_all_have_synced_time_does_not_matter() -> None:
    group = sleepy("a", "b")
    group >> Wait(30_000)
    assert group.state == "Stable"


def test_an_assignment_counts_once_in_a_generation() -> None:
    # Else two members could be told different ones, the second after a fail-over.
    group = stable("a", "b")
    group.replicates = False
    group >> Join("a")
    group >> Join("b")
    group.forget()
    group >> Sync("a", {"a": b"1", "b": b"2"})
    group >> Sync("a", {"a": b"12"})
    group >> Replicate() << Synced("a", b"1") << Synced("a", b"1")
    group >> Sync("b") << Synced("b", b"2")
    group >> FailOver()
    group >> Replicate()
    group >> Sync("a") << Synced("a", b"1")
    group >> Sync("b") << Synced("b", b"2")


# --- an assignment that is not committed --------------------------------------------------


def assigning(**settings: int) -> Story:
    """`a` leads and is about to assign; `b` waits for it."""
    group = stable("a", "b", **settings)
    group.replicates = False
    group >> Join("a")
    group >> Join("b")
    group.forget()
    group >> Sync("b")
    return group


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (ErrorCode.NOT_ENOUGH_REPLICAS, ErrorCode.COORDINATOR_NOT_AVAILABLE),
        (ErrorCode.KAFKA_STORAGE_ERROR, ErrorCode.NOT_COORDINATOR),
        (ErrorCode.NOT_LEADER_OR_FOLLOWER, ErrorCode.NOT_COORDINATOR),
        (ErrorCode.MESSAGE_TOO_LARGE, ErrorCode.UNKNOWN_SERVER_ERROR),
    ],
)
def test_an_assignment_that_cannot_be_written_is_nobodys(error: ErrorCode, told: ErrorCode) -> None:
    group = assigning()
    group >> Fail(error)
    group >> Sync("a", {"a": b"1", "b": b"2"})
    group.any(Refused("a", told), Refused("b", told)).end()
    assert group.state == "PreparingRebalance"
    group >> Join("a")
    group >> Join("b")
    group.any(Joined("a", 4, "a,b"), Joined("b", 4)).end()
    group >> Sync("a", {"a": b"1", "b": b"2"})
    group >> Replicate() << Synced("a", b"1")


def test_nobody_commits_in_a_generation_that_the_next_coordinator_would_not_know_of() -> None:
    group = assigning()
    group >> Fail(ErrorCode.NOT_ENOUGH_REPLICAS)
    group >> Sync("a", {"a": b"1", "b": b"2"})
    group.forget()
    assert group.state == "PreparingRebalance"
    group >> Commit("b", 5) << Refused("b", REBALANCE)
    assert group.offset() is None
    group >> Join("a")
    group >> Join("b")
    group.any(Joined("a", 4, "a,b"), Joined("b", 4)).end()
    group.replicates = True
    group >> Sync("a", {"a": b"1", "b": b"2"}) << Synced("a", b"1")
    group >> Commit("a", 5) << Ok("a")


def test_an_assignment_that_is_not_committed_in_time_is_nobodys() -> None:
    group = assigning(commit_timeout_ms=2_000)
    group >> Sync("a", {"a": b"1", "b": b"2"})
    group >> Wait(1_900)
    group >> Wait(500)
    told = ErrorCode.COORDINATOR_NOT_AVAILABLE
    group.any(Refused("a", told), Refused("b", told)).end()
    assert group.state == "PreparingRebalance"
    # That it is committed after all changes nothing any more.
    group >> Replicate()
    assert group.state == "PreparingRebalance"


def test_an_assignment_that_fewer_replicas_hold_than_asked_for_is_nobodys() -> None:
    group = assigning()
    group >> Sync("a", {"a": b"1", "b": b"2"})
    group >> Replicate(error=ErrorCode.NOT_ENOUGH_REPLICAS_AFTER_APPEND)
    told = ErrorCode.COORDINATOR_NOT_AVAILABLE
    group.any(Refused("a", told), Refused("b", told)).end()


def test_an_assignment_that_is_overtaken_by_a_new_member_is_nobodys() -> None:
    group = assigning()
    group >> Sync("a", {"a": b"1", "b": b"2"})
    group >> Join("c")
    group.any(Refused("a", REBALANCE), Refused("b", REBALANCE)).end()
    group >> Replicate()
    assert group.state == "PreparingRebalance"
    group >> Join("a")
    group >> Join("b")
    group.any(Joined("a", 4, "a,b,c"), Joined("b", 4), Joined("c", 4)).end()
    # Nor does it become that of the next generation.
    group >> Sync("b")
    group >> Sync("a", {"a": b"3", "b": b"4", "c": b"5"})
    group >> Replicate() << Synced("a", b"3") << Synced("b", b"4")


def test_an_assignment_that_is_overtaken_by_two_generations_is_nobodys() -> None:
    group = assigning()
    group >> Sync("a", {"a": b"1", "b": b"2"})
    group >> Join("c")
    group.forget()
    group >> Join("a")
    group >> Join("b")
    group.forget()
    assert group.state == "CompletingRebalance"
    group >> Replicate()
    assert group.state == "CompletingRebalance"


def test_who_waits_for_an_assignment_when_the_leadership_ends_looks_elsewhere() -> None:
    group = assigning()
    group >> Sync("a", {"a": b"1", "b": b"2"})
    group >> FailOver(lost=1)
    told = ErrorCode.NOT_COORDINATOR
    group.any(Refused("a", told), Refused("b", told)).end()
    group >> Replicate()
    # The next coordinator has the generation before.
    group >> Sync("a", {"a": b"1", "b": b"2"}) << Refused("a", ErrorCode.ILLEGAL_GENERATION)
    group >> Sync("a", generation=2) << Synced("a", b"a")


# --- sessions -----------------------------------------------------------------------------


def test_who_is_silent_for_its_session_is_out_and_the_others_rebalance() -> None:
    group = stable("a", "b")
    group >> Wait(6_000)
    group >> Beat("a") << Ok("a")
    group >> Wait(6_000)
    assert group.state == "PreparingRebalance"
    group >> Join("a") << Joined("a", 3, leads="a")
    group >> Beat("b") << Refused("b", UNKNOWN)


@pytest.mark.parametrize("sign", [Beat("a"), Commit("a", 1), Sync("a")])
def test_heartbeats_commits_and_syncs_are_signs_of_life(sign: object) -> None:
    group = stable("a")
    for _ in range(5):
        group >> Wait(6_000)
        group >> sign
        group.forget()
    assert group.state == "Stable"


def test_a_group_that_all_left_in_silence_is_empty() -> None:
    group = stable("a", "b")
    group >> Wait(20_000)
    assert (group.state, group.group.protocol, group.group.leader) == ("Empty", None, None)
    group >> FailOver()
    assert group.state == "Empty"


def test_a_session_does_not_end_while_its_member_waits_for_the_others() -> None:
    group = sleepy("a", "b", rebalance_ms=60_000)
    group >> Join("a", session_ms=10_000)
    group >> Wait(40_000)
    group >> Join("b", session_ms=10_000)
    group.any(Joined("a", 3, "a,b"), Joined("b", 3)).end()


def test_a_session_does_not_end_while_its_member_waits_for_the_assignment() -> None:
    group = stable("a", "b")
    group >> Join("a", session_ms=FOREVER_MS)
    group >> Join("b", session_ms=10_000)
    group.forget()
    group >> Sync("b")
    group >> Wait(40_000)
    group >> Sync("a", {"b": b"2"}) << Synced("a", b"") << Synced("b", b"2")
    group >> Wait(8_000)
    group >> Beat("b") << Ok("b")


def test_a_coordinator_that_begins_gives_each_member_a_whole_session() -> None:
    group = stable("a", "b")
    group >> Wait(9_000)
    group >> FailOver()
    group >> Wait(9_000)
    group >> Beat("a") << Ok("a")
    group >> Beat("b") << Ok("b")
    group >> FailOver()
    group >> Wait(11_500)
    assert group.state == "Empty"


# --- leaving ------------------------------------------------------------------------------


def test_who_leaves_is_out_at_once() -> None:
    group = stable("a", "b")
    group >> Leave("b") << Ok("b")
    assert group.state == "PreparingRebalance"
    group >> Leave("b") << Refused("b", UNKNOWN)
    group >> Join("a") << Joined("a", 3, leads="a")


def test_who_leaves_a_rebalance_that_waited_for_it_lets_it_go_on() -> None:
    group = stable("a", "b")
    group >> Join("a")
    group >> Leave("b")
    group.any(Ok("b"), Joined("a", 3, "a")).end()


def test_a_leader_that_leaves_before_it_has_assigned_begins_the_rebalance_anew() -> None:
    group = assigning()
    group >> Leave("a")
    group.any(Ok("a"), Refused("b", REBALANCE)).end()
    group >> Join("b") << Joined("b", 4, leads="b")


def known_by_id(group: Story, *names: str) -> None:
    """They have their ids, and have not joined."""
    for name in names:
        group >> Join(name, version=4) << Refused(name, ErrorCode.MEMBER_ID_REQUIRED)


def test_a_coordinator_that_begins_does_not_know_who_has_not_been_told_that_it_is_in() -> None:
    group = stable("a")
    known_by_id(group, "b", "c")
    group >> Join("b", version=4)
    group >> Leave("a") << Ok("a")
    assert list(group.group.members) == [group.ids["b"]]
    group >> FailOver()
    assert group.state == "Empty"


def test_a_group_that_is_left_in_its_first_rebalance_can_be_joined_at_the_next_coordinator() -> (
    None
):
    group = Story(initial_rebalance_delay_ms=3_000)
    known_by_id(group, "a", "b")
    group >> Join("a", version=4)
    group >> Join("b", version=4)
    group >> Leave("a")
    group.forget()
    group >> FailOver()
    group.forget()
    group >> Join("c")
    group >> Wait(6_500)
    group << Joined("c", 1, leads="c")


def test_who_gave_up_a_protocol_is_not_bound_to_it_by_the_next_coordinator() -> None:
    group = Story()
    both = ["range", "sticky"]
    for name in "aba":
        group >> Join(name, both)
        group.forget()
    assert group.group.protocol == "range"
    group >> Join("c", both, version=4) << Refused("c", ErrorCode.MEMBER_ID_REQUIRED)
    group >> Join("b", ["sticky"])
    group >> Leave("a") << Ok("a")
    group >> FailOver() << Refused("b", ErrorCode.NOT_COORDINATOR)
    group >> Join("b", ["sticky"]) << Refused("b", UNKNOWN)
    group >> Join("b", ["sticky"], id="") << Joined("b", 3, leads="b")


def test_a_static_member_that_came_back_before_a_protocol_was_chosen_keeps_nobody_out() -> None:
    group = Story()
    for name in "ab":
        group >> Join(name, version=4) << Refused(name, ErrorCode.MEMBER_ID_REQUIRED)
    group >> Join("c", instance="one")
    group >> Join("c", instance="one", id="") << Refused("c", ErrorCode.FENCED_INSTANCE_ID)
    group >> Join("a", version=4)
    group >> Leave("a")
    group.any(Refused("a", UNKNOWN), Ok("a")).end()
    group >> FailOver() << Refused("c", ErrorCode.NOT_COORDINATOR)
    group >> Join("d") << Joined("d", 1, leads="d")


def test_an_administrator_takes_a_static_member_out_by_its_instance() -> None:
    group = sleepy("a", "b", static=True)
    group >> Leave("admin", id="", instance="i-b") << Ok("admin")
    assert group.state == "PreparingRebalance"
    assert list(group.group.static) == ["i-a"]
    group >> Leave("admin", id="", instance="i-b") << Refused("admin", UNKNOWN)
    group >> Leave("admin", id="") << Refused("admin", UNKNOWN)


def test_a_static_member_leaves_by_its_id_and_instance_only() -> None:
    group = sleepy("a", "b", static=True)
    wrong = group.ids["a"]
    group >> Leave("b", id=wrong) << Refused("b", ErrorCode.FENCED_INSTANCE_ID)
    group >> Leave("b") << Ok("b")


def test_members_that_leave_together_each_have_their_own_outcome() -> None:
    group = stable("a", "b", "c")
    outcomes = [
        leave_group._leave(group.shard, "g", MemberIdentity(member_id=id), group.turn).error_code
        for id in (group.ids["a"], "nobody", group.ids["b"], group.ids["a"])
    ]
    assert outcomes == [0, UNKNOWN, 0, UNKNOWN]
    group >> Join("c") << Joined("c", 3, leads="c")


def test_the_last_to_leave_leaves_an_empty_group_also_when_that_cannot_be_written() -> None:
    group = stable("a")
    group >> Fail()
    group >> Leave("a") << Ok("a")
    assert group.state == "Empty"
    # A new coordinator believes in the member until its session is over.
    group >> FailOver()
    assert group.state == "Stable"
    group >> Wait(12_000)
    assert group.state == "Empty"
