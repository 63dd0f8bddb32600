"""The APIs of groups of the consumer protocol in each version, with real brokers."""

from __future__ import annotations

from typing import Any

import pytest

from kcluster.core.metadata import records as r
from kcluster.errors import ErrorCode
from kcluster.model import TopicId
from kcluster.wire.messages.consumer_group_describe import ConsumerGroupDescribeRequest
from kcluster.wire.messages.consumer_group_heartbeat import (
    ConsumerGroupHeartbeatRequest,
    TopicPartitions,
)
from kcluster.wire.messages.delete_groups import DeleteGroupsRequest
from kcluster.wire.messages.describe_groups import DescribeGroupsRequest
from kcluster.wire.messages.heartbeat import HeartbeatRequest
from kcluster.wire.messages.leave_group import LeaveGroupRequest, MemberIdentity
from kcluster.wire.messages.list_groups import ListGroupsRequest
from kcluster.wire.messages.offset_fetch import OffsetFetchRequest
from tests.core.broker.groups_stage import (
    Groups,
    commit,
    delete,
    fetch,
    join,
    member,
    sync,
    versions,
)
from tests.core.broker.stage import TOPIC_ID


def beat(member_id: str = "a", epoch: int = 0, **more: Any) -> ConsumerGroupHeartbeatRequest:
    request = ConsumerGroupHeartbeatRequest(group_id="g", member_id=member_id, member_epoch=epoch)
    if epoch == 0:
        request.rebalance_timeout_ms = 10_000
        request.subscribed_topic_names = ["orders"]
        request.topic_partitions = []
    for name, value in more.items():
        setattr(request, name, value)
    return request


def owning(*partitions: int) -> list[TopicPartitions]:
    return [TopicPartitions(TopicId(TOPIC_ID), list(partitions))]


def consumers(brokers: int = 1) -> Groups:
    """A group of one, which owns both partitions in epoch 1."""
    groups = Groups(brokers)
    answer = groups.ask(beat(), 1)
    assert (answer.error_code, answer.member_epoch) == (0, 1), answer
    return groups


@pytest.mark.parametrize("version", versions(68))
def test_a_group_of_one_is_joined_and_left_in_each_version(version: int) -> None:
    groups = Groups()
    answer = groups.ask(beat(), version)
    assert (answer.error_code, answer.member_id, answer.member_epoch) == (0, "a", 1)
    assert answer.heartbeat_interval_ms == 5_000
    [topic] = answer.assignment.topic_partitions
    assert (topic.topic_id, topic.partitions) == (TOPIC_ID, [0, 1])
    assert groups.ask(beat(epoch=1), version).assignment is None
    answer = groups.ask(beat(epoch=-1), version)
    assert (answer.error_code, answer.member_epoch) == (0, -1)


def test_a_refusal_says_why() -> None:
    answer = Groups().ask(beat(subscribed_topic_regex="("), 1)
    assert answer.error_code == ErrorCode.INVALID_REGULAR_EXPRESSION
    assert answer.error_message.startswith("SubscribedTopicRegex `(` cannot be used")


@pytest.mark.parametrize("version", versions(69))
def test_a_group_is_described_in_each_version(version: int) -> None:
    groups = consumers()
    request = ConsumerGroupDescribeRequest(group_ids=["g", "nope"])
    answer = groups.ask(request, version)
    group, missing = answer.groups
    assert missing.error_code == ErrorCode.GROUP_ID_NOT_FOUND
    assert (group.group_state, group.group_epoch, group.assignment_epoch, group.assignor_name) == (
        "Stable", 1, 1, "uniform",
    )  # fmt: skip
    [told] = group.members
    assert (told.member_id, told.member_epoch, told.subscribed_topic_names) == ("a", 1, ["orders"])
    assert told.assignment == told.target_assignment
    assert told.assignment.topic_partitions[0].topic_name == "orders"
    assert told.member_type == (1 if version >= 1 else -1)


def test_each_kind_of_group_is_described_by_its_own_api() -> None:
    groups = consumers()
    [told] = groups.ask(DescribeGroupsRequest(groups=["g"]), 6).groups
    assert told.error_code == ErrorCode.GROUP_ID_NOT_FOUND
    assert told.error_message == "Group g is not a classic group."
    [told] = groups.ask(DescribeGroupsRequest(groups=["g"]), 5).groups
    assert (told.error_code, told.group_state) == (0, "Dead")
    groups = Groups()
    member(groups)
    [described] = groups.ask(ConsumerGroupDescribeRequest(group_ids=["g"]), 1).groups
    assert described.error_code == ErrorCode.GROUP_ID_NOT_FOUND


def test_groups_are_listed_by_type_and_state() -> None:
    groups = consumers()
    groups.ask(commit(group_id="other"), 9)

    def listed(**filters: Any) -> list[tuple[str, str, str]]:
        answer = groups.ask(ListGroupsRequest(**filters), 5)
        return [(each.group_id, each.group_state, each.group_type) for each in answer.groups]

    assert listed(types_filter=["Consumer"]) == [("g", "Stable", "consumer")]
    assert listed(types_filter=["classic"]) == [("other", "Empty", "classic")]
    assert listed(states_filter=["stable"]) == [("g", "Stable", "consumer")]
    assert len(listed()) == 2


def test_offsets_are_committed_and_fetched_with_the_epoch() -> None:
    groups = consumers()

    def committed(version: int = 9, **more: Any) -> ErrorCode:
        answer = groups.ask(commit(version, **more), version)
        return ErrorCode(answer.topics[0].partitions[0].error_code)

    def fetched(member_id: str | None, epoch: int) -> ErrorCode:
        request: OffsetFetchRequest = fetch(9)
        request.groups[0].member_id, request.groups[0].member_epoch = member_id, epoch
        return ErrorCode(groups.ask(request, 9).groups[0].error_code)

    mine: dict[str, Any] = {"member_id": "a", "generation_id_or_member_epoch": 1}
    assert committed(**mine) is ErrorCode.NONE
    assert committed(10, **mine) is ErrorCode.NONE
    assert committed(8, **mine) is ErrorCode.UNSUPPORTED_VERSION
    assert committed(**mine | {"generation_id_or_member_epoch": 2}) is ErrorCode.STALE_MEMBER_EPOCH
    assert committed(**mine | {"member_id": "b"}) is ErrorCode.UNKNOWN_MEMBER_ID
    assert fetched("a", 1) is ErrorCode.NONE
    assert fetched("a", 0) is ErrorCode.STALE_MEMBER_EPOCH
    assert fetched("b", 1) is ErrorCode.UNKNOWN_MEMBER_ID
    assert fetched(None, -1) is ErrorCode.NONE
    assert groups.offset() == 5
    answer = groups.ask(delete(), 0)
    assert answer.topics[0].partitions[0].error_code == ErrorCode.GROUP_SUBSCRIBED_TO_TOPIC


def test_a_group_is_deleted_when_its_members_are_gone() -> None:
    groups = consumers()
    request = DeleteGroupsRequest(groups_names=["g"])
    assert groups.ask(request, 2).results[0].error_code == ErrorCode.NON_EMPTY_GROUP
    groups.ask(beat(epoch=-1), 1)
    assert groups.ask(request, 2).results[0].error_code == ErrorCode.NONE
    assert groups.ask(request, 2).results[0].error_code == ErrorCode.GROUP_ID_NOT_FOUND
    assert groups.ask(beat(epoch=1), 1).error_code == ErrorCode.GROUP_ID_NOT_FOUND


def test_classic_requests_of_who_is_no_classic_member_are_refused() -> None:
    groups = consumers()
    wanted = ErrorCode.UNKNOWN_MEMBER_ID
    for who in ("a", "b"):
        assert groups.ask(sync(who), 5).error_code == wanted
        beats = HeartbeatRequest(group_id="g", member_id=who, generation_id=1)
        assert groups.ask(beats, 4).error_code == wanted
        leaves = LeaveGroupRequest(group_id="g", members=[MemberIdentity(member_id=who)])
        assert groups.ask(leaves, 5).members[0].error_code == wanted
        assert groups.ask(LeaveGroupRequest(group_id="g", member_id=who), 2).error_code == wanted


def test_a_classic_member_joins_in_each_version() -> None:
    for version in versions(11):
        groups = consumers()
        answer = groups.ask(join(), version)
        if version >= 4:
            assert answer.error_code == ErrorCode.MEMBER_ID_REQUIRED
            answer = groups.ask(join(answer.member_id), version)
        assert (answer.error_code, answer.generation_id, answer.protocol_name) == (0, 2, "range")
        assert (answer.leader, answer.members) == ("", [])
        assert groups.ask(sync(answer.member_id, 2), 5).error_code == 0


def test_new_partitions_are_assigned_with_the_next_heartbeat() -> None:
    groups = consumers()
    groups.stage.dictate(r.PartitionChanged(TOPIC_ID, 2, [1], [1], 1, 0, 0))
    groups.settle()
    answer = groups.ask(beat(epoch=1, topic_partitions=owning(0, 1)), 1)
    assert answer.member_epoch == 2
    assert answer.assignment.topic_partitions[0].partitions == [0, 1, 2]


def test_the_next_coordinator_goes_on() -> None:
    groups = consumers(3)
    assert groups.ask(beat("b"), 1).member_epoch == 2
    groups.lead(2)
    assert groups.ask(beat(epoch=1), 1).error_code == ErrorCode.NOT_COORDINATOR
    answer = groups.ask(beat(epoch=1, topic_partitions=owning(0, 1)), 1, to=2)
    assert (answer.error_code, answer.member_epoch) == (0, 1)
    assert answer.assignment.topic_partitions[0].partitions == [0]
    assert groups.ask(beat(epoch=1, topic_partitions=owning(0)), 1, to=2).member_epoch == 2
    answer = groups.ask(beat("b", epoch=2, topic_partitions=[]), 1, to=2)
    assert answer.assignment.topic_partitions[0].partitions == [1]
