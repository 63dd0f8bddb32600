"""A consumer group as a story: `story >> Heart("a") << Beaten("a", 1, {"orders": [0, 1]})`.

As `Story`, with members of the consumer protocol: `Heart` joins when the member is in no group,
and goes on saying what it owns, which by itself is what it was given last. `Beaten` tells the
assignment when there is one in the answer, else None. Members of the classic protocol join, sync
and leave as they do in classic groups.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from kcluster.core.groups import rebalance
from kcluster.core.groups.consumer import classic, heartbeat
from kcluster.core.groups.consumer.group import ConsumerGroup
from kcluster.core.groups.shard import Shard
from kcluster.core.metadata import records as r
from kcluster.core.metadata.image import ClusterImage
from kcluster.core.turn import Turn
from kcluster.errors import ErrorCode
from kcluster.model import TopicId
from kcluster.wire.messages.consumer_group_heartbeat import (
    ConsumerGroupHeartbeatRequest,
    ConsumerGroupHeartbeatResponse,
    TopicPartitions,
)
from kcluster.wire.messages.leave_group import MemberIdentity, MemberResponse
from kcluster.wire.messages.sync_group import (
    SyncGroupRequest,
    SyncGroupRequestAssignment,
    SyncGroupResponse,
)
from tests.core.groups import playbook
from tests.core.groups.playbook import Beat, Leave, Ok, Refused, Sync, Synced

Owned = dict[str, list[int]]


def topic_id(name: str) -> TopicId:
    return TopicId(name.encode().ljust(16, b"."))


@dataclass
class Heart:
    """Of a member of the consumer protocol. What is None is not said, unless it joins."""

    name: str
    topics: Sequence[str] | None = None
    pattern: str | None = None
    owned: Owned | None = None
    """Instead of what it was given last."""
    says_owned: bool = True
    epoch: int | None = None
    """Instead of the one that it was told."""
    instance: str | None = None
    assignor: str | None = None
    rebalance_ms: int = -1
    version: int = 1
    id: str | None = None


@dataclass
class Topics:
    """What there is from now on: {name: partitions}."""

    partitions: dict[str, int]


@dataclass
class Beaten:
    name: str
    epoch: int
    owned: Owned | None = None


class ConsumerStory(playbook.Story):
    def __init__(self, topics: dict[str, int] | None = None, **more: Any) -> None:
        self.image = ClusterImage()
        self.epochs: dict[str, int] = {}
        self.owned: dict[str, Owned] = {}
        self._set_topics(topics or {"orders": 4})
        super().__init__(**more)

    def _open(self) -> Shard:
        shard = Shard(self.journal, self.deadlines, self._random, self.settings, lambda: self.image)
        self.load(shard)
        return shard

    @property
    def consumer_group(self) -> ConsumerGroup:
        group = self.shard.find_consumer(self.id)
        assert group is not None
        return group

    @property
    def state(self) -> str:
        group = self.shard.find_any(self.id)
        assert group is not None
        return group.state.value

    def _set_topics(self, topics: dict[str, int]) -> None:
        for name in sorted(set(self.image.topics) - set(topics)):
            self.image.replay(r.TopicDeleted(topic_id(name)))
        for name, count in topics.items():
            self.image.replay(r.TopicCreated(name, topic_id(name)))
            for index in range(count):
                self.image.replay(r.PartitionChanged(topic_id(name), index, [1], [1], 1, 0, 0))
        self.image.next_offset += 1

    # --- events ---------------------------------------------------------------------------

    def _topics(self, event: Topics) -> None:
        changed = set(event.partitions) ^ set(self.image.topics)
        changed |= {
            name
            for name, count in event.partitions.items()
            if name in self.image.topics and len(self.image.topics[name].partitions) != count
        }
        self._set_topics(event.partitions)
        self.shard.topics_changed(changed)

    def _heart(self, event: Heart) -> None:
        name = event.name
        epoch = self.epochs.get(name, 0) if event.epoch is None else event.epoch
        joins = epoch == 0
        topics, rebalance_ms = event.topics, event.rebalance_ms
        if joins:
            self.owned[name] = {}
            if topics is None and event.pattern is None:
                topics = ["orders"]
            rebalance_ms = 60_000 if rebalance_ms == -1 else rebalance_ms
            self.instances[name] = event.instance
        owned = self.owned.get(name, {}) if event.owned is None else event.owned
        member_id = self.ids.setdefault(name, name) if event.id is None else event.id
        request = ConsumerGroupHeartbeatRequest(
            group_id=self.id,
            member_id=member_id,
            member_epoch=epoch,
            instance_id=self.instances.get(name) if event.instance is None else event.instance,
            rebalance_timeout_ms=rebalance_ms,
            subscribed_topic_names=None if topics is None else list(topics),
            subscribed_topic_regex=event.pattern,
            server_assignor=event.assignor,
            topic_partitions=[
                TopicPartitions(topic_id(each), indexes) for each, indexes in owned.items()
            ]
            if event.says_owned
            else None,
        )

        def answer(turn: Turn, response: ConsumerGroupHeartbeatResponse) -> None:
            error = ErrorCode(response.error_code)
            if error:
                self.heard.append(Refused(name, error))
                return
            told: Owned | None = None
            if response.assignment is not None:
                told = {
                    self.image.topic_names[each.topic_id]: each.partitions
                    for each in response.assignment.topic_partitions
                }
                self.owned[name] = told
            self.epochs[name] = max(response.member_epoch, 0)
            self.heard.append(Beaten(name, response.member_epoch, told))

        self._try(
            name,
            lambda: heartbeat.heartbeat(
                self.shard, request, event.version, name, "/host", self.turn, answer
            ),
        )

    # --- of the classic protocol, in a consumer group ---------------------------------------

    def _sync(self, event: Sync) -> None:
        group = self.shard.find_consumer(self.id)
        if group is None:
            super()._sync(event)
            return
        name = event.name
        request = SyncGroupRequest(
            group_id=self.id,
            generation_id=self._generation(event),
            member_id=self._id(event),
            group_instance_id=event.instance or self.instances.get(name),
            assignments=[SyncGroupRequestAssignment(member_id=each) for each in event.given],
        )

        def answer(turn: Turn, response: SyncGroupResponse) -> None:
            error = ErrorCode(response.error_code)
            self.heard.append(Refused(name, error) if error else Synced(name, response.assignment))

        self._try(name, lambda: classic.sync(self.shard, group, request, self.turn, answer))

    def _beat(self, event: Beat) -> None:
        group = self.shard.find_consumer(self.id)
        if group is None:
            super()._beat(event)
            return

        def act() -> None:
            instance = event.instance or self.instances.get(event.name)
            generation = self._generation(event)
            classic.heartbeat(self.shard, group, self._id(event), instance, generation, self.turn)
            self.heard.append(Ok(event.name))

        self._try(event.name, act)

    def _leave(self, event: Leave) -> None:
        group = self.shard.find_consumer(self.id)
        if group is None:
            rebalance.leave(self.shard, self.id, self._id(event), event.instance, "", self.turn)
            self.heard.append(Ok(event.name))
            return
        identity = MemberIdentity(member_id=self._id(event), group_instance_id=event.instance)

        def answer(turn: Turn, error: ErrorCode, outcomes: list[MemberResponse]) -> None:
            code = error or ErrorCode(outcomes[0].error_code)
            self.heard.append(Refused(event.name, code) if code else Ok(event.name))

        self._try(
            event.name, lambda: classic.leave(self.shard, group, [identity], self.turn, answer)
        )

    # --- what must hold --------------------------------------------------------------------

    def check_owners(self) -> None:
        """No partition has two, and who holds what is what members say."""
        held: dict[Any, str] = {}
        for member in self.consumer_group.members.values():
            for part in (*member.assigned, *member.revoking):
                assert part not in held, (part, held[part], member.id)
                held[part] = member.id
        assert held == self.consumer_group.facts.holders
