"""What the leader of a group does beside being a member: it gives out the partitions.

begin --Metadata of all that anybody wants--> is_ready --> assign     and, later,
has_news: a topic has other partitions than were given out            a reason to rejoin
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from kcluster.core.client.assignors import ASSIGNORS
from kcluster.core.client.exchange import Exchange
from kcluster.errors import ErrorCode, RemoteProtocolError
from kcluster.wire.consumer_protocol import (
    Subscription,
    decode_subscription,
    encode_assignment,
)
from kcluster.wire.messages.join_group import JoinGroupResponse, JoinGroupResponseMember
from kcluster.wire.messages.sync_group import SyncGroupRequestAssignment

if TYPE_CHECKING:
    from kcluster.core.client.membership import MembershipSettings


class GroupLeader:
    def __init__(self, exchange: Exchange, settings: MembershipSettings) -> None:
        self._exchange = exchange
        self._settings = settings
        self._members: list[tuple[str, Subscription]] = []
        """In the order in which they are served."""
        self._protocol = ""
        self._topics: set[str] = set()
        self._described_before = 0
        self._until_ms = 0
        self._counts: dict[str, int] = {}
        """Partitions of each topic, as they were given out last."""
        self._recount_at_ms = 0

    def begin(self, response: JoinGroupResponse, now_ms: int) -> int:
        """These are the members. When to assign at the latest, in ms."""
        self._members = [
            (member.member_id, _subscription(member))
            for member in sorted(response.members, key=_place)
        ]
        self._protocol = response.protocol_name or self._settings.assignor
        self._topics = {topic for _, each in self._members for topic in each.topics}
        for topic in sorted(self._topics):
            self._exchange.follow(topic, now_ms)
        self._described_before = self._exchange.descriptions
        self._exchange.refresh(now_ms)
        self._until_ms = now_ms + self._settings.assign_ms
        return self._until_ms

    def is_ready(self, now_ms: int) -> bool:
        """The topics are known, or waiting for that has taken too long."""
        if now_ms >= self._until_ms:
            return True
        is_told = self._exchange.descriptions > self._described_before
        return is_told and all(map(self._is_known, self._topics))

    def assign(self, now_ms: int) -> list[SyncGroupRequestAssignment]:
        self._counts = self._count(self._topics)
        self._recount_at_ms = now_ms + self._settings.recount_ms
        assignment = ASSIGNORS[self._protocol](dict(self._members), self._counts)
        return [
            SyncGroupRequestAssignment(member_id=member, assignment=encode_assignment(partitions))
            for member, partitions in assignment.items()
        ]

    def has_news(self, now_ms: int) -> bool:
        """There are other partitions than were given out. Asks for Metadata now and then."""
        if now_ms >= self._recount_at_ms:
            self._recount_at_ms = now_ms + self._settings.recount_ms
            self._exchange.refresh(now_ms)
        return self._count(self._counts) != self._counts

    def _is_known(self, topic: str) -> bool:
        view = self._exchange.topics.get(topic)
        return view is not None and (
            bool(view.leaders) or view.error is ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
        )

    def _count(self, topics: Iterable[str]) -> dict[str, int]:
        counts = {}
        for topic in topics:
            view = self._exchange.topics.get(topic)
            is_there = view is not None and view.error is not ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
            counts[topic] = len(view.leaders) if view is not None and is_there else 0
        return counts


def _subscription(member: JoinGroupResponseMember) -> Subscription:
    try:
        return decode_subscription(member.metadata)
    except RemoteProtocolError:
        return Subscription([], [])  # It gets nothing; the others need not suffer.


def _place(member: JoinGroupResponseMember) -> tuple[bool, str]:
    """Static members first, by their instance id, as Java's range assignor has it."""
    instance_id = member.group_instance_id
    return instance_id is None, instance_id or member.member_id
