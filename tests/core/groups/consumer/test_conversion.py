"""From a classic group to a consumer group and back, with its members."""

from __future__ import annotations

from typing import Any

from kcluster.errors import ErrorCode
from kcluster.model import TopicPartition
from kcluster.wire.consumer_protocol import Subscription, encode_assignment, encode_subscription
from tests.core.groups.consumer.playbook import Beaten, ConsumerStory, Heart
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
    Sync,
    Synced,
    Wait,
)


def given(*partitions: int) -> bytes:
    return encode_assignment(TopicPartition("orders", each) for each in partitions)


def owning(*partitions: int) -> bytes:
    owned = [TopicPartition("orders", each) for each in partitions]
    return encode_subscription(Subscription(["orders"], owned))


def classic(**settings: Any) -> ConsumerStory:
    """c, a member of a classic group, has all four partitions in generation 1."""
    story = ConsumerStory(**settings)
    story >> Join("c") << Joined("c", 1, leads="c")
    story >> Sync("c", {"c": given(0, 1, 2, 3)}) << Synced("c", given(0, 1, 2, 3))
    return story


def upgraded() -> ConsumerStory:
    """c, of the classic protocol, has 0 and 1; a, of the consumer protocol, 2 and 3."""
    story = classic()
    story >> Heart("a") << Beaten("a", 2, {})
    story >> Beat("c") << Refused("c", ErrorCode.REBALANCE_IN_PROGRESS)
    # It is eager: it has given up everything before it joins.
    story >> Join("c") << Joined("c", 2)
    story >> Sync("c") << Synced("c", given(0, 1))
    story >> Heart("a") << Beaten("a", 2, {"orders": [2, 3]})
    story.check_owners()
    assert story.state == "Stable"
    return story


def test_a_member_of_the_consumer_protocol_upgrades_a_classic_group() -> None:
    story = upgraded()
    story >> Beat("c") << Ok("c")
    story >> Commit("c", 5, generation=2) << Ok("c")
    story >> FailOver()
    story >> Beat("c") << Ok("c")
    story >> Heart("a") << Beaten("a", 2)
    assert story.offset() == 5


def test_what_a_classic_member_has_is_not_given_before_it_joins_again() -> None:
    story = classic()
    story >> Heart("a") << Beaten("a", 2, {})
    for _ in range(3):
        story >> Heart("a") << Beaten("a", 2)
    story.check_owners()
    # Cooperative: it joins with what it has, and is told what it may keep.
    story >> Join("c", metadata=owning(0, 1, 2, 3)) << Joined("c", 1)
    story >> Heart("a") << Beaten("a", 2)
    story >> Sync("c") << Synced("c", given(0, 1))
    story >> Beat("c") << Refused("c", ErrorCode.REBALANCE_IN_PROGRESS)
    story >> Join("c", metadata=owning(0, 1)) << Joined("c", 2)
    story >> Heart("a") << Beaten("a", 2, {"orders": [2, 3]})


def test_a_group_in_the_middle_of_a_rebalance_is_upgraded() -> None:
    story = classic()
    story >> Join("d")
    story.end()
    story >> Heart("a")
    story.any(Refused("d", ErrorCode.REBALANCE_IN_PROGRESS), Beaten("a", 2, {}))
    story >> Heart("a") << Beaten("a", 2)
    story >> Join("d") << Joined("d", 3)
    story >> Join("c") << Joined("c", 3)
    story >> Heart("a")
    story.forget()
    for name in "cd":
        story >> Sync(name)
        story.forget()
    story.check_owners()


def test_a_member_that_said_what_it_owns_keeps_it_in_the_middle_of_a_rebalance() -> None:
    story = classic()
    story >> Join("c", metadata=owning(0, 1, 2, 3)) << Joined("c", 2, leads="c")
    story >> Heart("a") << Beaten("a", 3, {})
    story >> Heart("a") << Beaten("a", 3)
    story >> Sync("c") << Refused("c", ErrorCode.REBALANCE_IN_PROGRESS)


def test_the_last_of_the_consumer_protocol_leaves_a_classic_group() -> None:
    story = upgraded()
    story >> Heart("a", epoch=-1) << Beaten("a", -1)
    assert story.state == "PreparingRebalance"
    story >> Commit("c", 5, generation=2) << Ok("c")
    story >> Join("c") << Joined("c", 3, leads="c")
    story >> Sync("c", {"c": given(0, 1, 2, 3)}) << Synced("c", given(0, 1, 2, 3))
    assert story.state == "Stable"
    story >> FailOver()
    assert story.state == "Stable"
    story >> Beat("c") << Ok("c")


def test_a_silent_member_downgrades_the_group_too() -> None:
    story = upgraded()
    for _ in range(6):
        story >> Wait(9_000)
        story >> Beat("c")
        story.forget()
    assert story.state == "PreparingRebalance"


def test_policies_forbid() -> None:
    story = classic(migration_policy="downgrade")
    story >> Heart("a") << Refused("a", ErrorCode.GROUP_ID_NOT_FOUND)
    story >> Beat("c") << Ok("c")
    story = classic(migration_policy="upgrade")
    story >> Heart("a") << Beaten("a", 2, {})
    story >> Heart("a", epoch=-1) << Beaten("a", -1)
    assert story.consumer_group.members.keys() == {story.ids["c"]}


def test_what_cannot_be_appended_is_the_group_that_it_was() -> None:
    story = classic()
    story >> Fail()
    story >> Heart("a") << Refused("a", ErrorCode.COORDINATOR_NOT_AVAILABLE)
    story >> Beat("c") << Ok("c")
    story >> Heart("a") << Beaten("a", 2, {})
    story >> Fail()
    story >> Heart("a", epoch=-1) << Refused("a", ErrorCode.COORDINATOR_NOT_AVAILABLE)
    story >> Heart("a") << Beaten("a", 2)


def test_other_protocol_types_are_not_upgraded() -> None:
    story = ConsumerStory()
    story >> Join("c", type="connect") << Joined("c", 1, leads="c")
    story >> Heart("a") << Refused("a", ErrorCode.GROUP_ID_NOT_FOUND)


def test_assignors_that_keep_data_of_their_own_are_not_upgraded() -> None:
    story = ConsumerStory()
    # The data is the last field: of length 1 instead of none.
    assignment = given(0)[:-4] + b"\x00\x00\x00\x01x"
    story >> Join("c") << Joined("c", 1, leads="c")
    story >> Sync("c", {"c": assignment}) << Synced("c", assignment)
    story >> Heart("a") << Refused("a", ErrorCode.GROUP_ID_NOT_FOUND)
    story >> Beat("c") << Ok("c")


def test_groups_without_members_change_their_kind_and_keep_their_offsets() -> None:
    story = ConsumerStory()
    story >> Commit("", 5) << Ok("")
    story >> Join("c") << Joined("c", 1, leads="c")
    story >> Leave("c") << Ok("c")
    story >> Heart("a") << Beaten("a", 3, {"orders": [0, 1, 2, 3]})
    story >> Heart("a", epoch=-1) << Beaten("a", -1)
    story.ids.pop("c")
    # Epochs go on from generations, and these from epochs.
    story >> Join("c") << Joined("c", 5, leads="c")
    assert story.offset() == 5
    story >> FailOver()
    assert story.group.id == "g"
    assert story.offset() == 5


# --- classic members of a consumer group ----------------------------------------------------


def test_a_classic_member_joins_a_consumer_group() -> None:
    story = ConsumerStory()
    story >> Heart("a") << Beaten("a", 1, {"orders": [0, 1, 2, 3]})
    story >> Join("c", version=5) << Refused("c", ErrorCode.MEMBER_ID_REQUIRED)
    story >> Join("c", version=5) << Joined("c", 2)
    story >> Sync("c") << Synced("c", given())
    story >> Heart("a") << Beaten("a", 1, {"orders": [0, 1]})
    story >> Beat("c") << Ok("c")
    story >> Heart("a") << Beaten("a", 2)
    story >> Beat("c") << Refused("c", ErrorCode.REBALANCE_IN_PROGRESS)
    story >> Join("c") << Joined("c", 2)
    story >> Sync("c") << Synced("c", given(2, 3))
    story >> Leave("c") << Ok("c")
    story >> Heart("a") << Beaten("a", 3, {"orders": [0, 1, 2, 3]})


def test_what_is_of_the_other_protocol_is_refused() -> None:
    story = upgraded()
    story >> Beat("a", id="a", generation=2) << Refused("a", ErrorCode.UNKNOWN_MEMBER_ID)
    story >> Sync("a", id="a", generation=2) << Refused("a", ErrorCode.UNKNOWN_MEMBER_ID)
    story >> Leave("a", id="a") << Refused("a", ErrorCode.UNKNOWN_MEMBER_ID)
    story >> Beat("c", generation=1) << Refused("c", ErrorCode.ILLEGAL_GENERATION)
    story >> Sync("c", generation=1) << Refused("c", ErrorCode.ILLEGAL_GENERATION)
    story >> Join("x", protocols=["mine"]) << Refused("x", ErrorCode.INCONSISTENT_GROUP_PROTOCOL)
    story >> Join("x", type="other") << Refused("x", ErrorCode.INCONSISTENT_GROUP_PROTOCOL)
    story >> Join("x", metadata=b"") << Refused("x", ErrorCode.INCONSISTENT_GROUP_PROTOCOL)


def test_a_classic_member_that_does_not_sync_is_out() -> None:
    story = ConsumerStory()
    story >> Heart("a") << Beaten("a", 1, {"orders": [0, 1, 2, 3]})
    story >> Join("c", rebalance_ms=5_000) << Joined("c", 2)
    for _ in range(3):
        story >> Wait(2_000)
        story >> Beat("c")
        story.forget()
    story >> Beat("c") << Refused("c", ErrorCode.UNKNOWN_MEMBER_ID)


def test_a_classic_member_that_was_taken_out_has_lost_what_it_says_it_owns() -> None:
    story = classic()
    story >> Heart("a") << Beaten("a", 2, {})
    story >> Beat("c") << Refused("c", ErrorCode.REBALANCE_IN_PROGRESS)
    for _ in range(8):  # c stands still
        story >> Wait(9_000)
        story >> Heart("a")
        story.forget()
    assert story.owned["a"] == {"orders": [0, 1, 2, 3]}
    story >> Join("c", metadata=owning(0, 1, 2, 3)) << Refused("c", ErrorCode.UNKNOWN_MEMBER_ID)
    story >> Join("c", metadata=owning()) << Joined("c", 4)


def test_a_classic_member_that_does_not_join_again_is_out() -> None:
    story = classic()
    story >> Heart("a") << Beaten("a", 2, {})
    for _ in range(8):
        story >> Beat("c") << Refused("c", ErrorCode.REBALANCE_IN_PROGRESS)
        story >> Heart("a")
        story.forget() >> Wait(8_000)
    story >> Heart("a")
    assert story.owned["a"] == {"orders": [0, 1, 2, 3]}


def test_a_static_member_goes_from_one_protocol_to_the_other() -> None:
    story = ConsumerStory()
    story >> Join("c", instance="i", version=5) << Joined("c", 1, leads="c")
    story >> Sync("c", {"c": given(0, 1, 2, 3)}) << Synced("c", given(0, 1, 2, 3))
    story >> Heart("a", instance="i") << Beaten("a", 2, {"orders": [0, 1, 2, 3]})
    assert list(story.consumer_group.members) == ["a"]
    story >> Heart("b") << Beaten("b", 3, {})
    story >> Heart("a") << Beaten("a", 2, {"orders": [0, 1]})
    story.check_owners()


def test_the_last_static_member_of_the_consumer_protocol_comes_back_as_a_classic_one() -> None:
    story = ConsumerStory()
    story >> Heart("a", instance="i") << Beaten("a", 1, {"orders": [0, 1, 2, 3]})
    story >> Heart("a", epoch=-2) << Beaten("a", -2)
    story >> Join("c", instance="i", version=5) << Joined("c", 1)
    assert story.state == "Stable"
    story >> Sync("c") << Synced("c", given(0, 1, 2, 3))
    assert story.group.members.keys() == {story.ids["c"]}
