"""A member of a consumer group, heartbeat by heartbeat."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from kcluster.core.client.consumer_membership import ConsumerMembership
from kcluster.core.client.coordination import Coordination
from kcluster.core.client.exchange import Exchange, Leader, Patience
from kcluster.core.client.membership import MembershipSettings, State
from kcluster.errors import ErrorCode
from kcluster.model import TopicId, TopicPartition
from kcluster.wire.messages import consumer_group_heartbeat as h

ORDERS = TopicId(b"o" * 16)
TPS = [TopicPartition("orders", index) for index in range(4)]


class Told:
    """An owner that notes what it is told and gives partitions up when it is told to."""

    def __init__(self) -> None:
        self.news: list[tuple[str, list[int]]] = []
        self.give_up: Callable[[int], None] | None = None

    def assigned(self, partitions: list[TopicPartition], now_ms: int) -> None:
        self.news.append(("assigned", [tp.partition for tp in partitions]))

    def revoke(
        self, partitions: list[TopicPartition], now_ms: int, then: Callable[[int], None]
    ) -> None:
        self.news.append(("revoke", [tp.partition for tp in partitions]))
        self.give_up = then

    def lost(self, partitions: list[TopicPartition], now_ms: int) -> None:
        self.news.append(("lost", [tp.partition for tp in partitions]))


class Stage:
    """A member whose coordinator is known, and what it says to it."""

    def __init__(self, **settings: object) -> None:
        self.exchange = Exchange([1], Patience(backoff_ms=20))
        view = self.exchange.follow("orders", 0)
        view.topic_id, view.leaders = ORDERS, {index: Leader(1, 0) for index in range(4)}
        self.exchange.outgoing.clear()
        coordination = Coordination(self.exchange, "billing")
        coordination.broker = 1
        self.owner = Told()
        self.member = ConsumerMembership(
            coordination, ["orders"], self.owner, MembershipSettings(**settings), "me"
        )
        self.now_ms = 0

    def heartbeat(self) -> h.ConsumerGroupHeartbeatRequest:
        """The one that leaves now."""
        self.member.pump(self.now_ms)
        [outgoing], self.exchange.outgoing = self.exchange.outgoing, []
        assert isinstance(outgoing.request, h.ConsumerGroupHeartbeatRequest)
        self._correlation = outgoing.correlation
        return outgoing.request

    def is_silent(self) -> bool:
        self.member.pump(self.now_ms)
        return not self.exchange.outgoing

    def answer(self, epoch: int = 1, *has: int, error: ErrorCode = ErrorCode.NONE) -> None:
        assignment = h.Assignment(
            topic_partitions=[h.TopicPartitions(topic_id=ORDERS, partitions=list(has))]
        )
        self.exchange.arrived(
            self._correlation,
            h.ConsumerGroupHeartbeatResponse(
                error_code=error,
                member_id="me",
                member_epoch=epoch,
                heartbeat_interval_ms=3_000,
                assignment=assignment if has else None,
            ),
            self.now_ms,
        )

    def joined(self, *has: int) -> None:
        self.member.join(self.now_ms)
        self.heartbeat()
        self.answer(1, *has)
        if has:
            self.heartbeat()
            self.answer(1)


def owned(request: h.ConsumerGroupHeartbeatRequest) -> list[int] | None:
    if request.topic_partitions is None:
        return None
    return [index for topic in request.topic_partitions for index in topic.partitions]


def test_a_member_joins_takes_what_it_is_given_and_says_so() -> None:
    stage = Stage(server_assignor="range", rebalance_ms=9_000)
    stage.member.join(0)
    first = stage.heartbeat()
    assert (first.member_id, first.member_epoch, owned(first)) == ("me", 0, [])
    assert (first.subscribed_topic_names, first.server_assignor) == (["orders"], "range")
    assert first.rebalance_timeout_ms == 9_000
    stage.answer(1, 0, 1)
    assert stage.owner.news == [("assigned", [0, 1])]
    second = stage.heartbeat()
    assert (second.member_epoch, owned(second)) == (1, [0, 1])
    assert (second.subscribed_topic_names, second.rebalance_timeout_ms) == (None, -1)
    stage.answer(1)
    assert stage.is_silent()
    stage.now_ms = 3_000
    third = stage.heartbeat()
    assert (owned(third), third.subscribed_topic_names) == (None, None)


def test_what_goes_is_given_up_before_what_comes_is_taken() -> None:
    stage = Stage()
    stage.joined(0, 1)
    stage.now_ms = 3_000
    stage.heartbeat()
    stage.answer(2, 1, 2)
    assert stage.owner.news[1:] == [("revoke", [0])]
    assert stage.member.state is State.GIVING_UP
    stage.now_ms = 6_000  # heartbeats go on meanwhile
    assert owned(stage.heartbeat()) is None
    stage.answer(2)
    assert stage.owner.give_up is not None
    stage.owner.give_up(6_100)
    stage.now_ms = 6_100
    assert stage.owner.news[2:] == [("assigned", [2])]
    assert owned(stage.heartbeat()) == [1, 2]


@pytest.mark.parametrize(
    "code",
    [
        ErrorCode.FENCED_MEMBER_EPOCH,
        ErrorCode.UNKNOWN_MEMBER_ID,
        ErrorCode.GROUP_ID_NOT_FOUND,  # of a group that went back to the classic protocol
    ],
)
def test_a_fenced_member_has_lost_everything_and_joins_again(code: ErrorCode) -> None:
    stage = Stage()
    stage.joined(0, 1)
    stage.now_ms = 3_000
    stage.heartbeat()
    stage.answer(error=code)
    assert stage.owner.news[1:] == [("lost", [0, 1])]
    again = stage.heartbeat()
    assert (again.member_id, again.member_epoch, owned(again)) == ("me", 0, [])


def test_a_join_that_a_classic_group_does_not_allow_is_refused_for_good() -> None:
    stage = Stage()
    stage.member.join(0)
    stage.heartbeat()
    stage.answer(error=ErrorCode.GROUP_ID_NOT_FOUND)
    assert stage.member.state is State.OUT
    assert stage.member.problem is not None
    assert stage.member.problem.code is ErrorCode.GROUP_ID_NOT_FOUND


def test_after_a_lost_answer_everything_is_said_again() -> None:
    stage = Stage()
    stage.joined(0, 1)
    stage.now_ms = 3_000
    stage.heartbeat()
    stage.exchange.arrived(stage._correlation, None, stage.now_ms)
    stage.member.coordination.broker = 2
    stage.exchange.outgoing.clear()
    whole = stage.heartbeat()
    assert (whole.member_epoch, owned(whole)) == (1, [0, 1])
    assert whole.subscribed_topic_names == ["orders"]
    assert stage.owner.news == [("assigned", [0, 1])]


def test_a_stale_epoch_of_a_commit_is_followed_by_a_heartbeat_at_once() -> None:
    stage = Stage()
    stage.joined(0)
    stage.member.refused(ErrorCode.STALE_MEMBER_EPOCH, 100)
    stage.now_ms = 100
    stage.heartbeat()
    stage.answer(7)
    assert (stage.member.generation, stage.member.state) == (7, State.STABLE)
    assert stage.member.owned == {TPS[0]}


def test_who_leaves_gives_up_everything_first_and_a_static_member_says_that_it_comes_back() -> None:
    for instance_id, epoch in ((None, -1), ("one", -2)):
        stage = Stage(instance_id=instance_id)
        stage.joined(0, 1)
        stage.member.leave(10)
        assert stage.owner.news[1:] == [("revoke", [0, 1])]
        assert stage.owner.give_up is not None
        stage.owner.give_up(20)
        stage.now_ms = 20
        [outgoing] = stage.exchange.outgoing
        assert isinstance(outgoing.request, h.ConsumerGroupHeartbeatRequest)
        assert (outgoing.request.member_epoch, outgoing.request.instance_id) == (epoch, instance_id)
        stage.exchange.arrived(
            outgoing.correlation, h.ConsumerGroupHeartbeatResponse(member_epoch=epoch), 30
        )
        assert stage.member.state is State.OUT


def test_what_a_retry_cannot_heal_ends_the_membership_with_its_reason() -> None:
    stage = Stage(server_assignor="best")
    stage.member.join(0)
    stage.heartbeat()
    stage.answer(error=ErrorCode.UNSUPPORTED_ASSIGNOR)
    assert stage.member.state is State.OUT
    assert stage.member.problem is not None
    assert stage.member.problem.code is ErrorCode.UNSUPPORTED_ASSIGNOR


def test_a_coordinator_that_still_loads_is_asked_again() -> None:
    stage = Stage()
    stage.member.join(0)
    stage.heartbeat()
    stage.answer(error=ErrorCode.COORDINATOR_LOAD_IN_PROGRESS)
    assert stage.is_silent()
    stage.now_ms = 20
    assert stage.heartbeat().subscribed_topic_names == ["orders"]


def test_a_topic_that_is_not_known_yet_is_waited_for() -> None:
    stage = Stage()
    stage.exchange.topics["orders"].topic_id = TopicId(b"x" * 16)
    stage.member.join(0)
    stage.heartbeat()
    stage.answer(1, 0)
    assert stage.owner.news == []
    stage.exchange.topics["orders"].topic_id = ORDERS
    stage.member.pump(10)
    assert stage.owner.news == [("assigned", [0])]
