"""Consumer: records of assigned partitions, from any place, in any order of places.

    with Consumer(transport) as consumer:
        consumer.assign("page-views", start=From(Place.LAST, 100))
        for consumed in consumer.poll(500):
            ...

The rules are those of `core/client/consumer.py`.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Final

from kcluster.client.driver import Driver, Transport
from kcluster.core.client.consumer import Consumed, ConsumerCore, ConsumerSettings, From
from kcluster.core.client.exchange import Exchange, Patience
from kcluster.model import TopicPartition

BEGINNING: Final = From()


class Consumer:
    def __init__(
        self,
        transport: Transport,
        settings: ConsumerSettings | None = None,
        *,
        patience: Patience | None = None,
    ) -> None:
        exchange = Exchange(transport.brokers(), patience)
        self._core = ConsumerCore(exchange, settings)
        self._transport = transport
        self._driver = Driver(self._core, transport)

    def __enter__(self) -> Consumer:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def assign(
        self, topic: str, partitions: list[int] | None = None, start: From = BEGINNING
    ) -> None:
        """Read these partitions, or all of them, from there."""
        self._core.assign(topic, partitions, start, self._driver.now_ms())

    def seek(self, tp: TopicPartition, start: From) -> None:
        self._core.seek(tp, start, self._driver.now_ms())

    def poll(self, timeout_ms: int = 500, limit: int | None = None) -> list[Consumed]:
        """Records that are there, or the first that come within `timeout_ms`. Raises ApiError for
        a partition or topic that cannot be read."""
        deadline = time.monotonic() + timeout_ms / 1000
        while True:
            taken = self._core.take(limit)
            if taken:
                return taken
            if self._core.problems:
                raise self._core.problems.pop(0)[1]
            left_ms = int((deadline - time.monotonic()) * 1000)
            if left_ms <= 0:
                return []
            self._driver.step(left_ms)

    def read_to_end(self) -> Iterator[Consumed]:
        """Everything from the place of assignment to what was the end at that time."""
        while not self.is_at_end:
            yield from self.poll()

    @property
    def is_at_end(self) -> bool:
        """Everything that was there at the time of assignment has been taken."""
        return self._core.is_at_end() and not self._core.has_records

    def positions(self) -> dict[TopicPartition, int]:
        return self._core.positions()

    def close(self) -> None:
        self._transport.close()
