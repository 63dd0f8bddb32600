"""GroupConsumer: the share of some topics that a group gives to this process.

    with GroupConsumer(transport, "counts", ["page-views"]) as consumer:
        while True:
            taken = consumer.poll(500)
            ...                         # deal with them
            consumer.done(taken)        # from now on they may be committed

The rules are those of `core/client/group_consumer.py`. Everything happens inside `poll`: who
does not call it for a session timeout loses its partitions to the others.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import Final

from kcluster.client.driver import Driver, Transport
from kcluster.core.client.consumer import Consumed, ConsumerSettings, From
from kcluster.core.client.exchange import Exchange, Patience
from kcluster.core.client.group_consumer import Assigned, GroupConsumerCore, Revoked
from kcluster.core.client.membership import MembershipSettings
from kcluster.model import TopicPartition

BEGINNING: Final = From()


class GroupConsumer:
    def __init__(
        self,
        transport: Transport,
        group: str,
        topics: list[str],
        start: From = BEGINNING,
        *,
        membership: MembershipSettings | None = None,
        consumer: ConsumerSettings | None = None,
        patience: Patience | None = None,
        commit_ms: int = 1_000,
    ) -> None:
        """`start`: where to begin what the group never committed."""
        self._core = GroupConsumerCore(
            Exchange(transport.brokers(), patience),
            group,
            topics,
            start,
            membership=membership,
            consumer=consumer,
            commit_ms=commit_ms,
        )
        self._transport = transport
        self._driver = Driver(self._core, transport)
        self._core.join(self._driver.now_ms())

    def __enter__(self) -> GroupConsumer:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def poll(self, timeout_ms: int = 500, limit: int | None = None) -> list[Consumed]:
        """Records that are there, or the first that come within `timeout_ms`. Raises ApiError
        when the group or a topic is not to be had."""
        deadline = time.monotonic() + timeout_ms / 1000
        is_first = True
        while True:
            left_ms = int((deadline - time.monotonic()) * 1000)
            # Heartbeats leave and rebalances come also while there is always something to take.
            self._driver.step(
                0 if is_first and self._core.consumer.has_records else max(left_ms, 0)
            )
            is_first = False
            taken = self._core.take(limit)
            if taken:
                return taken
            if self._core.problem is not None:
                raise self._core.problem
            if left_ms <= 0:
                return []

    def done(self, taken: Iterable[Consumed]) -> None:
        """Dealt with: to be committed within `commit_ms` by a `poll`, at the latest at the end."""
        self._core.done(taken)

    @property
    def is_at_end(self) -> bool:
        """Everything that was there when this member got its partitions has been taken."""
        return self._core.is_at_end()

    @property
    def assignment(self) -> list[TopicPartition]:
        return sorted(self._core.membership.owned)

    def take_events(self) -> list[Assigned | Revoked]:
        """What was assigned and revoked since the last call."""
        events, self._core.events = self._core.events, []
        return events

    def leave(self) -> None:
        """Commit what is done and leave the group. Returns when that has happened, or nobody has
        answered for `leave_ms`."""
        self._core.leave(self._driver.now_ms())
        while not self._core.is_out:
            self._driver.step()

    def close(self) -> None:
        self.leave()
        self._transport.close()
