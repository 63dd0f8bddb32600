"""Members of a consumer group: they join, share, give up, are fenced, and leave."""

from __future__ import annotations

import pytest

from kcluster.core.groups.offsets import Place
from kcluster.errors import ErrorCode
from tests.core.groups.consumer.playbook import Beaten, ConsumerStory, Heart, Topics
from tests.core.groups.playbook import (
    Commit,
    Delete,
    Fail,
    FailOver,
    Ok,
    Refused,
    Replicate,
    Wait,
)


def two_share() -> ConsumerStory:
    """Of four partitions a has 0 and 1, b has 2 and 3; both in epoch 2."""
    story = ConsumerStory()
    story >> Heart("a") << Beaten("a", 1, {"orders": [0, 1, 2, 3]})
    story >> Heart("b") << Beaten("b", 2, {})
    story >> Heart("a") << Beaten("a", 1, {"orders": [0, 1]})
    story >> Heart("a") << Beaten("a", 2)
    story >> Heart("b") << Beaten("b", 2, {"orders": [2, 3]})
    return story


def test_the_first_member_gets_everything_at_once() -> None:
    story = ConsumerStory()
    story >> Heart("a") << Beaten("a", 1, {"orders": [0, 1, 2, 3]})
    assert story.state == "Stable"
    story >> Heart("a") << Beaten("a", 1)


def test_a_partition_is_given_when_its_owner_has_given_it_up() -> None:
    story = ConsumerStory()
    story >> Heart("a") << Beaten("a", 1, {"orders": [0, 1, 2, 3]})
    story >> Heart("b") << Beaten("b", 2, {})
    assert story.state == "Reconciling"
    story >> Heart("a") << Beaten("a", 1, {"orders": [0, 1]})
    # It was told, and has not said that it did it.
    story >> Heart("b") << Beaten("b", 2)
    story >> Heart("a", owned={"orders": [0, 1, 2]}) << Beaten("a", 1)
    story >> Heart("b") << Beaten("b", 2)
    story.check_owners()
    story >> Heart("a", owned={"orders": [0, 1]}) << Beaten("a", 2)
    story >> Heart("b") << Beaten("b", 2, {"orders": [2, 3]})
    story.check_owners()
    assert story.state == "Stable"


def test_who_does_not_say_what_it_owns_has_given_up_nothing() -> None:
    story = ConsumerStory()
    story >> Heart("a") << Beaten("a", 1, {"orders": [0, 1, 2, 3]})
    story >> Heart("b") << Beaten("b", 2, {})
    story >> Heart("a", says_owned=False) << Beaten("a", 1, {"orders": [0, 1]})
    story >> Heart("a", says_owned=False) << Beaten("a", 1)
    story >> Heart("a") << Beaten("a", 2)


def test_who_leaves_frees_its_partitions_at_once() -> None:
    story = two_share()
    story >> Heart("b", epoch=-1) << Beaten("b", -1)
    assert story.state == "Assigning"
    story >> Heart("a") << Beaten("a", 3, {"orders": [0, 1, 2, 3]})
    story >> Heart("a", epoch=-1) << Beaten("a", -1)
    assert story.state == "Empty"
    assert not story.consumer_group.clocks


def test_who_is_silent_for_a_session_is_out() -> None:
    story = two_share()
    for _ in range(3):
        story >> Wait(20_000)
        story >> Heart("a")
        story.forget()
    story >> Heart("b") << Refused("b", ErrorCode.UNKNOWN_MEMBER_ID)
    assert story.owned["a"] == {"orders": [0, 1, 2, 3]}


def test_who_does_not_give_up_in_time_is_out() -> None:
    story = ConsumerStory()
    story >> Heart("a", rebalance_ms=5_000) << Beaten("a", 1, {"orders": [0, 1, 2, 3]})
    story >> Heart("b") << Beaten("b", 2, {})
    story >> Heart("a") << Beaten("a", 1, {"orders": [0, 1]})
    for _ in range(3):
        story >> Wait(2_000)
        story >> Heart("a", owned={"orders": [0, 1, 2, 3]})
        story.forget()
    story >> Heart("a") << Refused("a", ErrorCode.UNKNOWN_MEMBER_ID)
    story >> Heart("b") << Beaten("b", 3, {"orders": [0, 1, 2, 3]})


def test_a_member_that_was_fenced_joins_again_with_its_id() -> None:
    story = two_share()
    story >> Heart("b", epoch=9) << Refused("b", ErrorCode.FENCED_MEMBER_EPOCH)
    story >> Heart("b", epoch=0) << Beaten("b", 2, {"orders": [2, 3]})


def test_the_previous_epoch_is_taken_of_who_may_have_missed_the_answer() -> None:
    story = two_share()
    story >> Heart("a", epoch=1) << Beaten("a", 2)
    story >> Heart("a", epoch=1, owned={"orders": [0, 3]})
    story << Refused("a", ErrorCode.FENCED_MEMBER_EPOCH)
    story >> Heart("a", epoch=1, says_owned=False)
    story << Refused("a", ErrorCode.FENCED_MEMBER_EPOCH)


def test_another_subscription_is_another_epoch() -> None:
    story = ConsumerStory({"orders": 2, "clicks": 2})
    story >> Heart("a") << Beaten("a", 1, {"orders": [0, 1]})
    story >> Heart("a", topics=["clicks"]) << Beaten("a", 1, {})
    story >> Heart("a") << Beaten("a", 2, {"clicks": [0, 1]})
    story >> Heart("a", topics=["clicks"]) << Beaten("a", 2)


def test_partitions_and_topics_that_come_and_go_are_assigned() -> None:
    story = ConsumerStory({"orders": 1})
    story >> Heart("a", topics=["orders", "later"]) << Beaten("a", 1, {"orders": [0]})
    story >> Topics({"orders": 2})
    story >> Heart("a") << Beaten("a", 2, {"orders": [0, 1]})
    story >> Topics({"orders": 2, "later": 1, "other": 5})
    story >> Heart("a") << Beaten("a", 3, {"later": [0], "orders": [0, 1]})
    story >> Topics({"orders": 2})
    story >> Heart("a", says_owned=False) << Beaten("a", 3, {"orders": [0, 1]})


def test_most_votes_choose_the_assignor() -> None:
    story = ConsumerStory({"orders": 4, "clicks": 4})
    topics = ["orders", "clicks"]
    story >> Heart("a", topics=topics, assignor="range")
    story.forget() >> Heart("b", topics=topics, assignor="range")
    for _ in range(2):
        for name in "ab":
            story.forget() >> Heart(name)
    story.forget()
    assert story.owned == {
        "a": {"clicks": [0, 1], "orders": [0, 1]},
        "b": {"clicks": [2, 3], "orders": [2, 3]},
    }


@pytest.mark.parametrize(
    ("event", "error"),
    [
        (Heart("a", epoch=0, owned={"orders": [0]}), ErrorCode.INVALID_REQUEST),
        (Heart("a", epoch=0, says_owned=False), ErrorCode.INVALID_REQUEST),
        (Heart("a", epoch=-3), ErrorCode.INVALID_REQUEST),
        (Heart("a", epoch=-2), ErrorCode.INVALID_REQUEST),
        (Heart("a", epoch=0, id=""), ErrorCode.INVALID_REQUEST),
        (Heart("a", epoch=0, instance=""), ErrorCode.INVALID_REQUEST),
        (Heart("a", epoch=0, assignor="mine"), ErrorCode.UNSUPPORTED_ASSIGNOR),
        (Heart("a", epoch=5), ErrorCode.GROUP_ID_NOT_FOUND),
        (Heart("a", epoch=-1), ErrorCode.GROUP_ID_NOT_FOUND),
        (Heart("a", epoch=0, pattern="("), ErrorCode.INVALID_REGULAR_EXPRESSION),
        (Heart("a", epoch=0, pattern="a" * 2001), ErrorCode.INVALID_REGULAR_EXPRESSION),
    ],
)
def test_what_is_refused_leaves_no_group(event: Heart, error: ErrorCode) -> None:
    story = ConsumerStory()
    story >> event
    story << Refused("a", error)
    assert story.shard.groups == {}
    assert not story.journal.records


def test_version_0_makes_ids_for_members() -> None:
    story = ConsumerStory()
    story >> Heart("a", id="", version=0) << Beaten("a", 1, {"orders": [0, 1, 2, 3]})
    [member_id] = story.consumer_group.members
    assert len(member_id) == 36


def test_a_group_has_a_bound() -> None:
    story = ConsumerStory(consumer_max_size=1)
    story >> Heart("a")
    story.forget() >> Heart("b") << Refused("b", ErrorCode.GROUP_MAX_SIZE_REACHED)
    story >> Heart("a") << Beaten("a", 1)


# --- the log ------------------------------------------------------------------------------


def test_nothing_is_said_before_it_is_committed() -> None:
    story = ConsumerStory(replicates=False)
    story >> Replicate()
    story >> Heart("a")
    story.end()
    story >> Replicate() << Beaten("a", 1, {"orders": [0, 1, 2, 3]})
    story >> Heart("b")
    story.end()
    # What it tells of is not certain yet, though it needs no record of its own.
    story >> Heart("a", epoch=1)
    story.end()
    story >> Replicate()
    assert {answer.name for answer in story.forget_all()} == {"a", "b"}


def test_what_cannot_be_appended_has_not_happened() -> None:
    story = two_share()
    before = story.consumer_group.facts.copy()
    story >> Fail()
    story >> Heart("c") << Refused("c", ErrorCode.COORDINATOR_NOT_AVAILABLE)
    assert story.consumer_group.facts == before
    story >> Fail()
    story >> Heart("a", epoch=-1) << Refused("a", ErrorCode.COORDINATOR_NOT_AVAILABLE)
    assert story.consumer_group.facts == before
    story.check_owners()
    story >> Heart("a") << Beaten("a", 2)


def test_a_session_that_ends_while_nothing_can_be_written_ends_later() -> None:
    story = ConsumerStory()
    story >> Heart("a")
    story.forget() >> Fail()
    story >> Wait(45_100)
    story >> Wait(2_000)
    assert story.state in ("Empty", "Stable")
    story >> Wait(2_000)
    assert story.state == "Empty"


def test_the_next_coordinator_knows_all_of_it() -> None:
    story = two_share()
    before = story.consumer_group.facts
    story >> FailOver()
    assert story.consumer_group.facts == before
    story.check_owners()
    story >> Heart("a") << Beaten("a", 2)
    story >> Heart("c") << Beaten("c", 3, {})


def test_the_next_coordinator_goes_on_waiting_for_partitions_to_be_given_up() -> None:
    story = ConsumerStory()
    story >> Heart("a", rebalance_ms=5_000) << Beaten("a", 1, {"orders": [0, 1, 2, 3]})
    story >> Heart("b") << Beaten("b", 2, {})
    story >> Heart("a") << Beaten("a", 1, {"orders": [0, 1]})
    story >> FailOver()
    story >> Heart("b") << Beaten("b", 2)
    story >> Wait(6_000)
    story >> Heart("b") << Beaten("b", 3, {"orders": [0, 1, 2, 3]})


def test_topics_that_changed_while_nobody_coordinated_are_found() -> None:
    story = ConsumerStory({"orders": 1})
    story >> Heart("a") << Beaten("a", 1, {"orders": [0]})
    story._set_topics({"orders": 2})
    story >> FailOver()
    story >> Heart("a") << Beaten("a", 2, {"orders": [0, 1]})


def test_a_deleted_group_leaves_nothing_in_the_log() -> None:
    story = two_share()
    story >> Commit("a", 7, generation=2) << Ok("a")
    story >> Heart("a", epoch=-1)
    story.forget() >> Heart("b", epoch=-1)
    story.forget()
    group = story.consumer_group
    story.shard.delete_group(story.turn, group, None)
    story >> Replicate()
    assert story.shard.groups == {}
    latest = {record.key: record.value for record in story.journal.records}
    assert set(latest.values()) == {None}
    story >> FailOver()
    assert story.shard.groups == {}


# --- offsets ------------------------------------------------------------------------------


def test_members_commit_with_their_epoch() -> None:
    story = two_share()
    story >> Commit("a", 5, generation=2) << Ok("a")
    story >> Commit("a", 6, generation=3) << Refused("a", ErrorCode.STALE_MEMBER_EPOCH)
    story >> Commit("c", 6, generation=2) << Refused("c", ErrorCode.UNKNOWN_MEMBER_ID)
    story >> Commit("", 6) << Refused("", ErrorCode.UNKNOWN_MEMBER_ID)
    assert story.offset() == 5


def test_an_older_epoch_commits_what_was_not_taken_away() -> None:
    story = two_share()
    kept, taken = ("orders", 0), ("orders", 2)
    story >> Commit("a", 5, kept, generation=1) << Ok("a")
    story >> Commit("a", 5, taken, generation=1) << Refused("a", ErrorCode.STALE_MEMBER_EPOCH)
    # It came with epoch 2.
    story >> Commit("b", 5, taken, generation=1) << Refused("b", ErrorCode.STALE_MEMBER_EPOCH)
    story >> Commit("b", 5, taken, generation=2) << Ok("b")


def test_what_is_being_given_up_may_be_committed() -> None:
    story = ConsumerStory()
    story >> Heart("a") << Beaten("a", 1, {"orders": [0, 1, 2, 3]})
    story >> Heart("b") << Beaten("b", 2, {})
    story >> Heart("a") << Beaten("a", 1, {"orders": [0, 1]})
    place: Place = ("orders", 3)
    story >> Commit("a", 5, place, generation=1) << Ok("a")
    story >> Heart("a") << Beaten("a", 2)
    story >> Commit("a", 6, place, generation=1) << Refused("a", ErrorCode.STALE_MEMBER_EPOCH)
    assert story.offset(place) == 5


def test_an_empty_group_takes_commits_of_anybody() -> None:
    story = ConsumerStory()
    story >> Commit("", 5) << Ok("")
    story >> Heart("a") << Beaten("a", 1, {"orders": [0, 1, 2, 3]})
    story >> Commit("", 6) << Refused("", ErrorCode.UNKNOWN_MEMBER_ID)
    story >> Heart("a", epoch=-1) << Beaten("a", -1)
    story >> Commit("", 7) << Ok("")
    assert story.offset() == 7


def test_offsets_of_topics_that_members_subscribe_to_stay() -> None:
    story = two_share()
    story >> Commit("a", 5, generation=2) << Ok("a")
    story >> Delete([("orders", 0)]) << Refused("", ErrorCode.GROUP_SUBSCRIBED_TO_TOPIC)
