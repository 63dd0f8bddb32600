"""Requests in flight, and what the client knows of the cluster: the half that producer and
consumer share.

    core --outgoing--> whoever drives it --arrived | lost--> core

Pure: time comes in with every call, and `next_deadline` says when to call `tick` at the latest.
Every request ends exactly once, with its response or with None: lost with its connection, or
unanswered for too long. Both mean that nothing is known; who asked asks again, over TCP on another
connection.

A broker that says that its answer was more than this client's quota is asked nothing for as long
as it says (KIP-219), but for no longer than an answer would be waited for: over TCP it reads
nothing meanwhile, on the bus it relies on that.

Leaders come from Metadata, and from the refusals of brokers that are none any more (KIP-951),
whichever has the higher leader epoch.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

from kcluster.errors import ErrorCode
from kcluster.model import NO_LEADER, ZERO_TOPIC_ID, TopicPartition
from kcluster.wire.message import Message
from kcluster.wire.messages.metadata import (
    MetadataRequest,
    MetadataRequestTopic,
    MetadataResponse,
)

METADATA_VERSION: Final = 12

NOT_THE_LEADER: Final = frozenset(
    {
        ErrorCode.NOT_LEADER_OR_FOLLOWER,
        ErrorCode.LEADER_NOT_AVAILABLE,
        ErrorCode.UNKNOWN_TOPIC_OR_PARTITION,
        ErrorCode.UNKNOWN_TOPIC_ID,
        ErrorCode.FENCED_LEADER_EPOCH,
        ErrorCode.UNKNOWN_LEADER_EPOCH,
        ErrorCode.REPLICA_NOT_AVAILABLE,
        ErrorCode.KAFKA_STORAGE_ERROR,
        ErrorCode.NETWORK_EXCEPTION,
    }
)
"""Refusals after which the same is asked of another broker, once it is known which."""

ASK_AGAIN: Final = NOT_THE_LEADER | {
    ErrorCode.NOT_ENOUGH_REPLICAS,
    ErrorCode.NOT_ENOUGH_REPLICAS_AFTER_APPEND,
    ErrorCode.REQUEST_TIMED_OUT,
    ErrorCode.OFFSET_NOT_AVAILABLE,
    ErrorCode.COORDINATOR_LOAD_IN_PROGRESS,
    ErrorCode.COORDINATOR_NOT_AVAILABLE,
    ErrorCode.NOT_COORDINATOR,
    ErrorCode.CORRUPT_MESSAGE,
}
"""Refusals that time may heal."""


COORDINATOR_LANES: Final = 1 << 30
"""Ids from here up are second connections: to the broker of the id without it."""


def coordinator_lane(broker_id: int) -> int:
    """The connection to a broker for what must not wait behind its Fetches."""
    # Bootstrap addresses have negative ids, and no second connection.
    return broker_id + COORDINATOR_LANES if broker_id >= 0 else broker_id


def broker_of_lane(lane: int) -> int:
    return lane - COORDINATOR_LANES if lane >= COORDINATOR_LANES else lane


@dataclass(frozen=True, slots=True)
class Patience:
    """How long things may take, in ms."""

    request_ms: int = 10_000
    """Without an answer, a request counts as lost."""
    backoff_ms: int = 20
    """Before something refused is tried again."""
    topic_ms: int = 10_000
    """A topic that nobody has heard of for so long is reported as missing."""


@dataclass(slots=True)
class Outgoing:
    """A request to be sent. Without `response` none will come (acks=0)."""

    broker_id: int
    correlation: int
    request: Message
    version: int
    response: type[Message] | None


@dataclass(slots=True)
class _Pending:
    broker_id: int
    deadline_ms: int
    done: Callable[[Any, int], None]
    """(response or None, now_ms)"""


@dataclass(slots=True)
class Leader:
    broker_id: int = NO_LEADER
    leader_epoch: int = -1


@dataclass(slots=True)
class TopicView:
    """What Metadata said last."""

    error: ErrorCode = ErrorCode.LEADER_NOT_AVAILABLE
    missing_since_ms: int = 0
    topic_id: bytes = ZERO_TOPIC_ID
    leaders: dict[int, Leader] = field(default_factory=dict)
    """By partition index."""


class Exchange:
    def __init__(
        self,
        brokers: list[int],
        patience: Patience | None = None,
        *,
        creates_topics: bool = False,
    ) -> None:
        """`brokers`: ids to ask first, in this order."""
        self.patience = patience or Patience()
        self.outgoing: list[Outgoing] = []
        self.brokers = list(brokers)
        self.topics: dict[str, TopicView] = {}
        self.on_metadata: Callable[[int], None] = lambda now_ms: None
        """Called after every answer to Metadata, with now_ms."""
        self._creates_topics = creates_topics
        self._pending: dict[int, _Pending] = {}
        self._next_correlation = 1
        self._turn = 0
        self._refreshing = False
        self._refresh_at_ms: int | None = None
        self._later: list[tuple[int, Callable[[int], None]]] = []
        self._throttled: dict[int, int] = {}
        """Until when in ms, by broker."""
        self.descriptions = 0
        """Answers to Metadata so far."""
        self._silent: set[int] = set()

    # --- requests

    def ask(
        self,
        broker_id: int,
        request: Message,
        version: int,
        response: type[Message],
        done: Callable[[Any, int], None],
        *,
        now_ms: int,
        timeout_ms: int | None = None,
    ) -> None:
        """`done(response or None, now_ms)` is called once, in a later call of this object."""
        throttled_ms = self._throttled.get(broker_id, 0)
        if throttled_ms > now_ms:
            self.later(
                throttled_ms,
                lambda now_ms: self.ask(
                    broker_id, request, version, response, done, now_ms=now_ms,
                    timeout_ms=timeout_ms,
                ),
            )  # fmt: skip
            return
        correlation = self._correlation()
        wait_ms = self.patience.request_ms if timeout_ms is None else timeout_ms
        self._pending[correlation] = _Pending(broker_id, now_ms + wait_ms, done)
        self.outgoing.append(Outgoing(broker_id, correlation, request, version, response))

    def tell(self, broker_id: int, request: Message, version: int) -> None:
        """A request without an answer."""
        self.outgoing.append(Outgoing(broker_id, self._correlation(), request, version, None))

    def arrived(self, correlation: int, response: Message | None, now_ms: int) -> None:
        """None: this answer will not come."""
        pending = self._pending.pop(correlation, None)
        if pending is not None:
            throttle_ms = getattr(response, "throttle_time_ms", 0)
            if throttle_ms > 0:
                until_ms = now_ms + min(throttle_ms, self.patience.request_ms)
                before_ms = self._throttled.get(pending.broker_id, 0)
                self._throttled[pending.broker_id] = max(until_ms, before_ms)
            pending.done(response, now_ms)

    def awaits(self, outgoing: Outgoing) -> bool:
        """Its answer would still be heard, or none was wanted."""
        return outgoing.response is None or outgoing.correlation in self._pending

    def lost(self, broker_id: int, now_ms: int) -> None:
        """The connection to this broker broke: none of its answers will come any more."""
        self._throttled.pop(broker_id, None)
        broken = [key for key, pending in self._pending.items() if pending.broker_id == broker_id]
        for correlation in broken:
            pending = self._pending.pop(correlation, None)
            if pending is not None:
                pending.done(None, now_ms)

    def later(self, at_ms: int, action: Callable[[int], None]) -> None:
        """Have `action(now_ms)` called by a `tick` from `at_ms` on."""
        self._later.append((at_ms, action))

    def tick(self, now_ms: int) -> None:
        if self._refresh_at_ms is not None and now_ms >= self._refresh_at_ms:
            self._refresh_at_ms = None
            self.refresh(now_ms)
        due = [action for at_ms, action in self._later if at_ms <= now_ms]
        self._later = [entry for entry in self._later if entry[0] > now_ms]
        for action in due:
            action(now_ms)
        late = [key for key, pending in self._pending.items() if pending.deadline_ms <= now_ms]
        for correlation in late:
            pending = self._pending.pop(correlation, None)
            if pending is not None:
                self._silent.add(pending.broker_id)
                pending.done(None, now_ms)

    def take_silent(self) -> list[int]:
        """Who owes an answer for too long, since the last call. Over TCP answers come in order, so
        that none comes before that one: such a connection is to be closed, as Kafka's clients do,
        and `lost` to be told."""
        silent = sorted(self._silent)
        self._silent.clear()
        return silent

    def next_deadline(self) -> int | None:
        """When `tick` has something to do, in ms; None: not before something arrives."""
        deadlines = [pending.deadline_ms for pending in self._pending.values()]
        deadlines += [at_ms for at_ms, _ in self._later]
        if self._refresh_at_ms is not None:
            deadlines.append(self._refresh_at_ms)
        return min(deadlines, default=None)

    def in_flight(self) -> int:
        return len(self._pending)

    def any_broker(self) -> int:
        return self.brokers[self._turn % len(self.brokers)]

    def try_another(self) -> None:
        """The one that `any_broker` named did not answer."""
        self._turn += 1

    def _correlation(self) -> int:
        correlation = self._next_correlation
        self._next_correlation = correlation % 0x7FFFFFFF + 1
        return correlation

    # --- leaders

    def follow(self, topic: str, now_ms: int) -> TopicView:
        """Keep knowing who leads this topic."""
        view = self.topics.get(topic)
        if view is None:
            view = self.topics[topic] = TopicView(missing_since_ms=now_ms)
            self.refresh(now_ms)
        return view

    def leader(self, tp: TopicPartition) -> int:
        view = self.topics.get(tp.topic)
        known = view.leaders.get(tp.partition) if view is not None else None
        return known.broker_id if known is not None else NO_LEADER

    def leader_epoch(self, tp: TopicPartition) -> int:
        return self.topics[tp.topic].leaders[tp.partition].leader_epoch

    def refresh(self, now_ms: int) -> None:
        """Ask for Metadata, unless it is being asked for."""
        if self._refreshing or not self.topics:
            return
        self._refreshing = True
        self._refresh_at_ms = None
        self.ask(
            self.any_broker(),
            MetadataRequest(
                topics=[MetadataRequestTopic(name=name) for name in sorted(self.topics)],
                allow_auto_topic_creation=self._creates_topics,
            ),
            METADATA_VERSION,
            MetadataResponse,
            self._described,
            now_ms=now_ms,
        )

    def refresh_soon(self, now_ms: int) -> None:
        if self._refresh_at_ms is None and not self._refreshing:
            self._refresh_at_ms = now_ms + self.patience.backoff_ms

    def heard(self, tp: TopicPartition, leader: int, leader_epoch: int) -> bool:
        """A refusal named the leader: True when that is news."""
        view = self.topics.get(tp.topic)
        known = view.leaders.get(tp.partition) if view is not None else None
        if known is None or leader == NO_LEADER or leader_epoch <= known.leader_epoch:
            return False
        known.broker_id, known.leader_epoch = leader, leader_epoch
        return True

    def _described(self, response: MetadataResponse | None, now_ms: int) -> None:
        self._refreshing = False
        if response is None:
            self.try_another()
            self.refresh_soon(now_ms)
            return
        self.descriptions += 1
        if response.brokers:
            self.brokers = [broker.node_id for broker in response.brokers]
        wants_more = False
        for topic in response.topics:
            view = self.topics.get(topic.name or "")
            if view is None:
                continue
            view.error = ErrorCode(topic.error_code)
            if view.error:
                wants_more = True
                continue
            view.missing_since_ms = now_ms
            if view.topic_id != topic.topic_id:
                # Another topic of this name: its epochs begin anew.
                view.topic_id = topic.topic_id
                view.leaders.clear()
            for partition in topic.partitions:
                known = view.leaders.setdefault(partition.partition_index, Leader())
                # An answer of a broker that is behind must not undo what was learned since.
                if partition.leader_epoch >= known.leader_epoch:
                    known.broker_id = partition.leader_id
                    known.leader_epoch = partition.leader_epoch
                wants_more = wants_more or known.broker_id == NO_LEADER
        if self.topics.keys() - {topic.name for topic in response.topics}:
            # Followed since the question left.
            self.refresh(now_ms)
        elif wants_more:
            self.refresh_soon(now_ms)
        self.on_metadata(now_ms)
