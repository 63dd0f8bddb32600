"""Simulated members of groups of the consumer protocol that run the core of kcluster's own client.

What `group_clients` drives for the classic protocol, with the membership of the other: what its
heartbeats say and are told goes into the history of who held what.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from kcluster.check.groups import Committed
from kcluster.core.client.consumer_membership import JOINS
from kcluster.core.client.group_consumer import Assigned
from kcluster.core.client.membership import CONSUMER, MembershipSettings
from kcluster.model import TopicPartition
from kcluster.sim.clients import SimClient
from kcluster.sim.consumer_group_plan import ConsumerGroupPlan
from kcluster.sim.group_clients import Coordinators, GroupMember, GroupPlan
from kcluster.wire.messages import consumer_group_heartbeat as h


class ConsumerCoreMember(GroupMember):
    def __init__(
        self,
        client: SimClient,
        plan: ConsumerGroupPlan,
        topics: list[str],
        coordinators: Coordinators,
    ) -> None:
        terms = GroupPlan(plan.group, plan.ours, plan.classic_assignor, plan.restless * 5)
        super().__init__(client, terms, topics, coordinators)
        self._assignor = plan.assignor
        self._told: dict[tuple[bytes, int], tuple[int, int]] = {}
        """By topic id and partition, of the last heartbeat that named it: the moments in which it
        was asked and answered."""

    def _membership(self) -> MembershipSettings:
        return MembershipSettings(
            session_ms=self._random.choice([1_500, 3_000]),
            rebalance_ms=4_000,
            leave_ms=2_000,
            protocol=CONSUMER,
            server_assignor=self._assignor,
        )

    @property
    def _id(self) -> str:
        assert self.core is not None
        return self.core.membership.member_id

    def _has_got(self, event: Assigned) -> None:
        assert self.core is not None
        history, generation = self._history, event.generation
        self.client.cluster.note(f"{self._id} epoch {generation}: {list(event.partitions)}")
        history.assigned(self.plan.group, generation, self._id, event.partitions)
        topics = self.core.exchange.topics
        for tp in event.partitions:
            asked, answered = self._told[topics[tp.topic].topic_id, tp.partition]
            history.ownership.given(self._place(tp), self._id, asked, answered)

    def _has_let_go(self, partitions: Sequence[TopicPartition]) -> None:
        for tp in partitions:
            self._history.ownership.let_go(self._place(tp), self._id)

    def _heard(
        self,
        request: Any,
        response: Any,
        asked: int,
        commits: dict[TopicPartition, Committed],
        is_old: bool,
    ) -> None:
        if not isinstance(response, h.ConsumerGroupHeartbeatResponse):
            super()._heard(request, response, asked, commits, is_old)
        elif not response.error_code and self.core is not None:
            answered = self._history.moment()
            if request.member_epoch > JOINS and not is_old:
                # Who says nothing of it owns what it owned.
                for tp in sorted(self.core.membership.owned):
                    self._history.ownership.claimed(self._place(tp), self._id, asked, answered)
            for told in response.assignment.topic_partitions if response.assignment else ():
                for index in told.partitions:
                    self._told[told.topic_id, index] = asked, answered
