"""Subscriptions by regular expression."""

from __future__ import annotations

import pytest

from kcluster.core.groups.consumer.patterns import PATTERNS_MAX, check, resolve
from kcluster.errors import ApiError, ErrorCode
from tests.core.groups.consumer.playbook import Beaten, ConsumerStory, Heart, Topics
from tests.core.groups.playbook import FailOver, Refused


def test_the_whole_name_matches() -> None:
    assert resolve("order.*", ["orders", "reorders", "order"]) == ("order", "orders")


@pytest.mark.parametrize("pattern", ["(", r"(a)\1", "(?=a)", "[", "a{1001}", "\ud800"])
def test_what_is_not_of_re2_is_refused(pattern: str) -> None:
    with pytest.raises(ApiError) as caught:
        resolve(pattern, ["a"])
    assert caught.value.code is ErrorCode.INVALID_REGULAR_EXPRESSION
    assert "cannot be used" in (caught.value.message or "")


def test_a_group_has_a_bound_of_patterns() -> None:
    known = [f"{number}.*" for number in range(PATTERNS_MAX)]
    check(known[0], known)
    check("others", known[1:])
    with pytest.raises(ApiError):
        check("others", known)


def test_a_pattern_takes_time_that_is_linear() -> None:
    assert resolve("(a*)*b", ["a" * 249]) == ()


def test_a_member_gets_what_its_pattern_matches_now_and_later() -> None:
    story = ConsumerStory({"orders": 1, "clicks": 1})
    story >> Heart("a", pattern="ord.*") << Beaten("a", 1, {"orders": [0]})
    story >> Topics({"orders": 1, "clicks": 1, "ordinary": 2})
    story >> Heart("a") << Beaten("a", 2, {"orders": [0], "ordinary": [0, 1]})
    story >> Topics({"orders": 1, "clicks": 1, "ordinary": 2, "other": 1})
    story >> Heart("a") << Beaten("a", 2)


def test_names_and_a_pattern_go_together() -> None:
    story = ConsumerStory({"orders": 1, "clicks": 1})
    story >> Heart("a", topics=["clicks"], pattern="o.*")
    story << Beaten("a", 1, {"clicks": [0], "orders": [0]})
    story >> Heart("a", pattern="") << Beaten("a", 1, {"clicks": [0]})


def test_a_pattern_that_nobody_subscribes_to_is_forgotten() -> None:
    story = ConsumerStory({"orders": 1, "clicks": 1})
    story >> Heart("a", pattern="o.*")
    story.forget() >> Heart("b", pattern="c.*")
    story.forget()
    assert set(story.consumer_group.facts.patterns) == {"o.*", "c.*"}
    story >> Heart("b", epoch=-1)
    story.forget() >> FailOver()
    assert set(story.consumer_group.facts.patterns) == {"o.*"}


def test_a_wrong_pattern_changes_nothing() -> None:
    story = ConsumerStory()
    story >> Heart("a") << Beaten("a", 1, {"orders": [0, 1, 2, 3]})
    story >> Heart("a", pattern="(") << Refused("a", ErrorCode.INVALID_REGULAR_EXPRESSION)
    story >> Heart("a") << Beaten("a", 1)
