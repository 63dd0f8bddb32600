"""What is known of groups, whatever happens to them and to their coordinator while one asks."""

from __future__ import annotations

from typing import Any

import pytest

from kcluster.core.client import group_operations
from kcluster.errors import ApiError, ErrorCode
from kcluster.model import TopicPartition
from kcluster.wire.messages import consumer_group_describe as cd
from kcluster.wire.messages import describe_groups as de
from kcluster.wire.messages import list_groups as ls
from kcluster.wire.messages import offset_fetch as of
from kcluster.wire.records import Record
from tests.core.client.test_admin import AdministeredLists, run

COORDINATOR = 3
ORDERS_0, CLICKS_0 = TopicPartition("orders", 0), TopicPartition("clicks", 0)


class Coordinated(AdministeredLists):
    """`classic` and `modern`, a group of either protocol; both have committed 1 of orders-0."""

    def __init__(self, seed: int = 0) -> None:
        super().__init__(seed)
        self.create("__consumer_offsets", 3)
        self.create("orders", 1)
        self.logs[ORDERS_0].add(Record(b"1"), Record(b"2"), Record(b"3"))
        self.types = {"classic": "classic", "modern": "consumer"}
        self.after_listing: dict[str, str] = {}
        """What a group has become when it is described; nothing when it is gone."""

    def _ListGroupsRequest(self, broker: int, request: Any) -> Any:  # noqa: N802
        listed = []
        if broker == COORDINATOR:
            listed = [
                ls.ListedGroup(group_id=group, group_type=type, group_state="Stable")
                for group, type in self.types.items()
            ]
            self.types |= self.after_listing
            self.types = {group: type for group, type in self.types.items() if type}
        return ls.ListGroupsResponse(groups=listed)

    def _DescribeGroupsRequest(self, broker: int, request: Any) -> Any:  # noqa: N802
        [group] = request.groups
        if broker != COORDINATOR or self.types.get(group) != "classic":
            found = de.DescribedGroup(
                group_id=group, group_state="Dead", error_code=ErrorCode.GROUP_ID_NOT_FOUND
            )
        else:
            found = de.DescribedGroup(
                group_id=group, group_state="Stable", protocol_type="consumer",
                protocol_data="range", members=[de.DescribedGroupMember(member_id="m-1")],
            )  # fmt: skip
        return de.DescribeGroupsResponse(groups=[found])

    def _ConsumerGroupDescribeRequest(self, broker: int, request: Any) -> Any:  # noqa: N802
        [group] = request.group_ids
        if broker != COORDINATOR or self.types.get(group) != "consumer":
            return cd.ConsumerGroupDescribeResponse(
                groups=[cd.DescribedGroup(group_id=group, error_code=ErrorCode.GROUP_ID_NOT_FOUND)]
            )
        topics = [cd.TopicPartitions(topic_name="orders", partitions=[0])]
        member = cd.Member(
            member_id="m-2", member_epoch=4, client_host="/::1", member_type=1,
            assignment=cd.Assignment(topic_partitions=topics),
        )  # fmt: skip
        found = cd.DescribedGroup(
            group_id=group, group_state="Reconciling", group_epoch=5, assignment_epoch=5,
            assignor_name="uniform", members=[member],
        )  # fmt: skip
        return cd.ConsumerGroupDescribeResponse(groups=[found])

    def _OffsetFetchRequest(self, broker: int, request: Any) -> Any:  # noqa: N802
        [group] = request.groups
        topics = [
            of.OffsetFetchResponseTopics(
                name=name,
                partitions=[
                    of.OffsetFetchResponsePartitions(partition_index=0, committed_offset=1)
                ],
            )
            for name in ("orders", "clicks")
        ]
        return of.OffsetFetchResponse(
            groups=[of.OffsetFetchResponseGroup(group_id=group.group_id, topics=topics)]
        )


@pytest.mark.parametrize("seed", range(5))
def test_groups_of_either_protocol_are_described(seed: int) -> None:
    cluster = Coordinated(seed)
    cluster.loss = 0.2
    classic, modern = run(cluster, group_operations.describe_groups(), timeout_ms=100_000)
    assert (classic.group, classic.type, classic.epoch) == ("classic", "classic", None)
    assert (modern.group, modern.type, modern.epoch) == ("modern", "consumer", 5)
    [member] = modern.members
    assert (member.partitions, member.target, member.is_reconciled) == ([ORDERS_0], [], False)
    assert (member.host, member.protocol) == ("::1", "consumer")
    # clicks is no more: what was committed of it is still told.
    rows = [(each.topic, each.committed, each.log_end, each.lag) for each in modern.partitions]
    assert rows == [("clicks", 1, None, None), ("orders", 1, 3, 2)]
    assert [each.member for each in modern.partitions] == [None, "m-2"]


def test_those_that_are_not_there_are_left_out_and_one_alone_is_dead() -> None:
    cluster = Coordinated()
    found = run(cluster, group_operations.describe_groups(["nobody", "modern"]))
    assert [each.group for each in found] == ["modern"]
    assert run(cluster, group_operations.describe_group("nobody")).state == "Dead"


@pytest.mark.parametrize("becomes", ["classic", ""])
def test_a_group_that_changes_while_it_is_looked_at_is_looked_at_again(becomes: str) -> None:
    cluster = Coordinated()
    cluster.after_listing = {"modern": becomes}
    found = run(cluster, group_operations.describe_groups(with_offsets=False))
    assert [each.type for each in found] == ["classic"] * (2 if becomes else 1)
    cluster = Coordinated()
    cluster.after_listing = {"modern": becomes}
    found = run(cluster, group_operations.describe_group("modern"))
    assert (found.type, found.state) == ("classic", "Stable" if becomes else "Dead")


def test_no_list_leaves_out_the_groups_of_who_has_no_coordinator() -> None:
    cluster = Coordinated()
    cluster.logs[TopicPartition("__consumer_offsets", 1)].leader = -1
    with pytest.raises(ApiError, match="nobody leads __consumer_offsets-1") as late:
        run(cluster, group_operations.groups())
    assert late.value.code is ErrorCode.COORDINATOR_NOT_AVAILABLE


def test_time_is_over_with_what_the_coordinator_said() -> None:
    cluster = Coordinated()
    cluster.is_slow = 1_000_000
    with pytest.raises(ApiError) as late:
        run(cluster, group_operations.describe_group("classic"))
    assert late.value.code is ErrorCode.COORDINATOR_NOT_AVAILABLE
