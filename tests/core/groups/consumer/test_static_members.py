"""Static members of consumer groups: a place that outlives a restart (KIP-345)."""

from __future__ import annotations

from kcluster.errors import ErrorCode
from tests.core.groups.consumer.playbook import Beaten, ConsumerStory, Heart
from tests.core.groups.playbook import FailOver, Refused, Wait


def static_and_dynamic() -> ConsumerStory:
    """s (static) has 0 and 1, a has 2 and 3; both in epoch 2."""
    story = ConsumerStory()
    story >> Heart("s", instance="i") << Beaten("s", 1, {"orders": [0, 1, 2, 3]})
    story >> Heart("a") << Beaten("a", 2, {})
    story >> Heart("s") << Beaten("s", 1, {"orders": [0, 1]})
    story >> Heart("s") << Beaten("s", 2)
    story >> Heart("a") << Beaten("a", 2, {"orders": [2, 3]})
    return story


def test_a_static_member_that_comes_back_has_its_partitions_without_a_rebalance() -> None:
    story = static_and_dynamic()
    story >> Heart("s", epoch=-2) << Beaten("s", -2)
    story >> Heart("a") << Beaten("a", 2)
    story >> Heart("t", instance="i") << Beaten("t", 2, {"orders": [0, 1]})
    story >> Heart("a") << Beaten("a", 2)
    assert list(story.consumer_group.members) == ["a", "t"]
    story.check_owners()
    story >> FailOver()
    story >> Heart("t") << Beaten("t", 2)


def test_a_place_that_is_not_free_is_not_given() -> None:
    story = static_and_dynamic()
    story >> Heart("t", instance="i") << Refused("t", ErrorCode.UNRELEASED_INSTANCE_ID)
    story >> Heart("s") << Beaten("s", 2)


def test_the_former_self_is_fenced() -> None:
    story = static_and_dynamic()
    story >> Heart("s", epoch=-2) << Beaten("s", -2)
    story >> Heart("t", instance="i") << Beaten("t", 2, {"orders": [0, 1]})
    story >> Heart("s", epoch=2, instance="i") << Refused("s", ErrorCode.FENCED_INSTANCE_ID)
    story >> Heart("s", epoch=-1, instance="i") << Refused("s", ErrorCode.FENCED_INSTANCE_ID)
    story >> Heart("u", epoch=2, instance="j") << Refused("u", ErrorCode.UNKNOWN_MEMBER_ID)


def test_a_static_member_that_stays_away_is_out_when_its_session_is_over() -> None:
    story = static_and_dynamic()
    story >> Heart("s", epoch=-2) << Beaten("s", -2)
    story >> Wait(30_000)
    story >> Heart("a") << Beaten("a", 2)
    story >> Wait(20_000)
    story >> Heart("a") << Beaten("a", 3, {"orders": [0, 1, 2, 3]})


def test_a_static_member_that_leaves_for_good_frees_its_partitions() -> None:
    story = static_and_dynamic()
    story >> Heart("s", epoch=-1) << Beaten("s", -1)
    story >> Heart("a") << Beaten("a", 3, {"orders": [0, 1, 2, 3]})


def test_it_may_come_back_with_another_subscription() -> None:
    story = ConsumerStory({"orders": 2, "clicks": 1})
    story >> Heart("s", instance="i") << Beaten("s", 1, {"orders": [0, 1]})
    story >> Heart("s", epoch=-2) << Beaten("s", -2)
    story >> Heart("t", instance="i", topics=["clicks"]) << Beaten("t", 2, {"clicks": [0]})
    story.check_owners()
