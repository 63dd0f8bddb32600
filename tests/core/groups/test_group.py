"""The table of states in `core/groups/group.py`, cell by cell, and the choice of a protocol."""

from __future__ import annotations

import pytest

from kcluster.core.groups.group import MAY_FOLLOW, Group, GroupState
from kcluster.errors import ErrorCode
from kcluster.wire.consumer_protocol import Subscription, encode_subscription
from tests.core.groups.playbook import (
    Beat,
    Commit,
    Delete,
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

# --- EMPTY --------------------------------------------------------------------------------


def empty() -> Story:
    """A group that had a member once."""
    group = Story()
    group >> Join("a") << Joined("a", 1, leads="a")
    group >> Leave("a") << Ok("a")
    assert group.state == "Empty"
    return group


def test_who_joins_an_empty_group_leads_its_next_generation() -> None:
    group = empty()
    group >> Join("b") << Joined("b", 3, leads="b")
    assert group.state == "CompletingRebalance"


def test_an_empty_group_knows_no_member_that_syncs_or_beats() -> None:
    group = empty()
    group >> Sync("a") << Refused("a", ErrorCode.UNKNOWN_MEMBER_ID)
    group >> Beat("a") << Refused("a", ErrorCode.UNKNOWN_MEMBER_ID)
    group >> Join("a") << Refused("a", ErrorCode.UNKNOWN_MEMBER_ID)


def test_in_an_empty_group_only_those_without_a_member_id_and_generation_commit() -> None:
    group = empty()
    group >> Commit("a", 5) << Refused("a", ErrorCode.UNKNOWN_MEMBER_ID)
    group >> Commit(offset=5) << Ok("")
    assert group.offset() == 5


# --- PREPARING_REBALANCE ------------------------------------------------------------------


def preparing() -> Story:
    """`a` and `b` are to join again, `c` waits."""
    group = stable("a", "b")
    group >> Join("c")
    assert group.state == "PreparingRebalance"
    return group


def test_who_joins_while_a_rebalance_is_on_waits_for_all_the_others() -> None:
    group = preparing()
    group >> Join("d")
    group >> Join("b")
    group >> Join("a")
    group.any(Joined("a", 3, "a,b,c,d"), Joined("b", 3), Joined("c", 3), Joined("d", 3)).end()


def test_sync_and_heartbeat_hear_of_a_rebalance() -> None:
    group = preparing()
    group >> Sync("a") << Refused("a", ErrorCode.REBALANCE_IN_PROGRESS)
    group >> Beat("a") << Refused("a", ErrorCode.REBALANCE_IN_PROGRESS)


def test_members_still_commit_while_a_rebalance_is_on() -> None:
    group = preparing()
    group >> Commit("a", 7) << Ok("a")
    group >> Commit(offset=8) << Refused("", ErrorCode.UNKNOWN_MEMBER_ID)
    assert group.offset() == 7


# --- COMPLETING_REBALANCE -----------------------------------------------------------------


def completing() -> Story:
    group = stable("a", "b")
    group >> Join("a")
    group >> Join("b")
    group.any(Joined("a", 3, "a,b"), Joined("b", 3)).end()
    assert group.state == "CompletingRebalance"
    return group


def test_who_missed_the_answer_to_its_join_hears_it_again() -> None:
    group = completing()
    group >> Join("b") << Joined("b", 3)
    group >> Join("a") << Joined("a", 3, leads="a,b")
    assert group.state == "CompletingRebalance"


def test_other_protocols_begin_the_rebalance_anew() -> None:
    group = completing()
    group >> Sync("a", {"a": b"1"}, generation=2) << Refused("a", ErrorCode.ILLEGAL_GENERATION)
    group >> Join("b", protocols=("range", "sticky"))
    assert group.state == "PreparingRebalance"
    group >> Join("a")
    group.any(Joined("a", 4, "a,b"), Joined("b", 4)).end()


def test_a_follower_waits_for_the_leaders_assignment() -> None:
    group = completing()
    group >> Sync("b")
    group >> Sync("a", {"a": b"1", "b": b"2"}) << Synced("a", b"1") << Synced("b", b"2")
    assert group.state == "Stable"


def test_who_is_not_in_the_assignment_gets_nothing() -> None:
    group = completing()
    group >> Sync("b")
    group >> Sync("a", {"a": b"1", "nobody": b"2"}) << Synced("a", b"1") << Synced("b", b"")


def test_a_member_that_waits_for_its_assignment_lives_but_may_not_commit() -> None:
    group = completing()
    group >> Beat("b") << Ok("b")
    group >> Commit("b", 5) << Refused("b", ErrorCode.REBALANCE_IN_PROGRESS)
    group >> Commit("b", 5, generation=2) << Refused("b", ErrorCode.ILLEGAL_GENERATION)
    assert group.offset() is None


# --- STABLE -------------------------------------------------------------------------------


def test_a_follower_that_joins_a_stable_group_again_is_as_before() -> None:
    group = stable("a", "b")
    group >> Join("b") << Joined("b", 2)
    group >> Sync("b") << Synced("b", b"b")
    assert group.state == "Stable"


def test_a_leader_that_joins_a_stable_group_again_wants_to_assign_anew() -> None:
    group = stable("a", "b")
    group >> Join("a")
    assert group.state == "PreparingRebalance"
    group >> Join("b")
    group.any(Joined("a", 3, "a,b"), Joined("b", 3)).end()


def test_another_subscription_rebalances_a_stable_group() -> None:
    group = stable("a", "b")
    group >> Join("b", topics=["orders", "payments"])
    assert group.state == "PreparingRebalance"


def test_a_stable_group_tells_the_assignment_again() -> None:
    group = stable("a", "b")
    group >> Sync("b") << Synced("b", b"b")
    group >> Beat("b") << Ok("b")
    group >> Commit("b", 9) << Ok("b")
    group >> Commit(offset=1) << Refused("", ErrorCode.UNKNOWN_MEMBER_ID)
    assert group.offset() == 9


# --- DEAD ---------------------------------------------------------------------------------


def test_of_a_deleted_group_nobody_knows_anything() -> None:
    group = empty()
    group >> Commit(offset=5) << Ok("")
    group >> Delete() << Ok("")
    group >> Delete() << Refused("", ErrorCode.GROUP_ID_NOT_FOUND)
    group >> Beat("a") << Refused("a", ErrorCode.UNKNOWN_MEMBER_ID)
    group >> Join("a") << Refused("a", ErrorCode.UNKNOWN_MEMBER_ID)
    group >> Commit("a", 5) << Refused("a", ErrorCode.ILLEGAL_GENERATION)
    assert group.offset() is None
    assert group.shard.groups == {}


def test_who_waits_when_the_coordinator_moves_is_told_to_look_elsewhere() -> None:
    group = preparing()
    group >> FailOver()
    group << Refused("c", ErrorCode.NOT_COORDINATOR)
    group = completing()
    group >> Sync("b")
    group >> FailOver()
    group << Refused("b", ErrorCode.NOT_COORDINATOR)


def test_only_the_transitions_of_the_diagram_are_possible() -> None:
    group = Group("g")
    for state in GroupState:
        for following in GroupState:
            group.state = state
            if following in MAY_FOLLOW[state]:
                group.enter(following, 1)
                assert group.state is following
            else:
                with pytest.raises(AssertionError):
                    group.enter(following, 1)


# --- generations --------------------------------------------------------------------------


@pytest.mark.parametrize("ask", [Sync("a", generation=1), Beat("a", generation=3)])
def test_another_generation_is_refused_whichever_it_is(ask: object) -> None:
    group = stable("a", "b")
    group >> ask << Refused("a", ErrorCode.ILLEGAL_GENERATION)


def test_generations_wrap_and_stay_positive() -> None:
    group = stable("a")
    group.group.generation = 0x7FFFFFFF
    group >> Join("a") << Joined("a", 0, leads="a")
    group >> Sync("a", {"a": b"x"}) << Synced("a", b"x")
    group >> Commit("a", 5) << Ok("a")
    group >> FailOver()
    group >> Beat("a") << Ok("a")
    group >> Join("a") << Joined("a", 1, leads="a")


def test_generation_0_of_an_empty_group_is_a_group_as_long_as_it_has_offsets() -> None:
    group = stable("a")
    group.group.generation = group.group.settled = 0x7FFFFFFF
    group >> Commit("a", 5, generation=0x7FFFFFFF) << Ok("a")
    group >> Leave("a") << Ok("a")
    assert (group.state, group.group.generation) == ("Empty", 0)
    assert group.offset() == 5


# --- protocols ----------------------------------------------------------------------------


def test_the_protocol_that_most_members_want_first_is_chosen() -> None:
    group = Story(initial_rebalance_delay_ms=100)
    group >> Join("a", protocols=("range", "sticky"))
    group >> Join("b", protocols=("sticky", "range"))
    group >> Join("c", protocols=("sticky", "range"))
    group >> Wait(500)
    group.any(Joined("a", 1, "a,b,c"), Joined("b", 1), Joined("c", 1)).end()
    assert group.answers["b"].protocol_name == "sticky"
    assert group.answers["b"].protocol_type == "consumer"


def test_a_protocol_that_one_member_does_not_support_is_not_chosen() -> None:
    group = Story(initial_rebalance_delay_ms=100)
    group >> Join("a", protocols=("sticky", "range"))
    group >> Join("b", protocols=("sticky", "range"))
    group >> Join("c", protocols=("range",))
    group >> Wait(500)
    group.forget()
    assert group.answers["a"].protocol_name == "range"


def test_among_equals_the_protocol_of_the_first_member_is_chosen() -> None:
    group = Story(initial_rebalance_delay_ms=100)
    group >> Join("a", protocols=("range", "sticky"))
    group >> Join("b", protocols=("sticky", "range"))
    group >> Wait(500)
    group.forget()
    assert group.answers["a"].protocol_name == "range"


def test_who_shares_no_protocol_with_all_is_refused() -> None:
    group = Story(initial_rebalance_delay_ms=100)
    inconsistent = ErrorCode.INCONSISTENT_GROUP_PROTOCOL
    group >> Join("a", protocols=("range", "sticky"))
    group >> Join("b", protocols=("sticky", "other"))
    group >> Join("c", protocols=("range",)) << Refused("c", inconsistent)
    group >> Join("c", protocols=("other",)) << Refused("c", inconsistent)
    group >> Join("c", type="connect", protocols=("sticky",)) << Refused("c", inconsistent)
    group >> Join("c", protocols=()) << Refused("c", inconsistent)


@pytest.mark.parametrize("join", [Join("a", type=""), Join("a", protocols=())])
def test_a_member_without_protocols_makes_no_group(join: Join) -> None:
    group = Story()
    group >> join << Refused("a", ErrorCode.INCONSISTENT_GROUP_PROTOCOL)
    assert group.shard.groups == {}


def test_an_empty_group_takes_another_protocol_type() -> None:
    group = empty()
    group >> Join("b", type="connect", protocols=("eager",)) << Joined("b", 3, leads="b")
    assert group.group.protocol_type == "connect"


def test_a_member_may_not_change_to_protocols_that_others_do_not_have() -> None:
    group = stable("a", "b")
    refusal = Refused("b", ErrorCode.INCONSISTENT_GROUP_PROTOCOL)
    group >> Join("b", protocols=("sticky",)) << refusal
    assert group.state == "Stable"


def test_the_leader_learns_what_each_member_subscribes_to() -> None:
    group = Story()
    metadata = encode_subscription(Subscription(["orders"], []))
    group >> Join("a", protocols=("range", "sticky"), metadata=metadata) << Joined("a", 1, "a")
    [member] = group.answers["a"].members
    assert (member.metadata, member.group_instance_id) == (metadata, None)


def test_sync_names_the_protocol_of_its_generation_or_none() -> None:
    group = completing()
    wrong = ErrorCode.INCONSISTENT_GROUP_PROTOCOL
    group >> Sync("b", type="connect", protocol="range") << Refused("b", wrong)
    group >> Sync("b", type="consumer", protocol="sticky") << Refused("b", wrong)
    group >> Sync("b", type="consumer", protocol="range")
    group >> Sync("a", {"b": b"2"}) << Synced("a", b"") << Synced("b", b"2")


def test_what_members_subscribe_to_is_unknown_when_they_speak_another_protocol() -> None:
    group = Story()
    group >> Join("a", metadata=b"\xff") << Joined("a", 1, leads="a")
    assert group.group.subscribed_topics() is None
    group >> Leave("a") << Ok("a")
    assert group.group.subscribed_topics() == set()
    group >> Join("b", topics=["orders", "payments"]) << Joined("b", 3, leads="b")
    assert group.group.subscribed_topics() == {"orders", "payments"}


def test_nothing_is_answered_before_it_is_committed() -> None:
    group = Story(replicates=False)
    group >> Join("a") << Joined("a", 1, leads="a")
    group >> Sync("a", {"a": b"x"})
    assert group.state == "CompletingRebalance"
    group >> Replicate() << Synced("a", b"x")
    assert group.state == "Stable"
