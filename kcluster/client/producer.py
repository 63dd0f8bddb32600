"""Producer: records into a cluster, from an ordinary program.

    with Producer(transport) as producer:
        producer.send("page-views", b"...", key=b"user-7")

The rules are those of `core/client/producer.py`. `send` waits only when the buffer is full.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Final

from kcluster.client.driver import Driver, Transport
from kcluster.core.client.exchange import Exchange, Patience
from kcluster.core.client.producer import Delivered, Failed, ProducerCore, ProducerSettings

CLOSE_S: Final = 60.0

LET_IN_RECORDS: Final = 500
"""So many `send`s go by without looking at the sockets, unless time has passed as well."""


class Producer:
    def __init__(
        self,
        transport: Transport,
        settings: ProducerSettings | None = None,
        *,
        patience: Patience | None = None,
        creates_topics: bool = True,
    ) -> None:
        exchange = Exchange(transport.brokers(), patience, creates_topics=creates_topics)
        self._core = ProducerCore(exchange, settings)
        self._transport = transport
        self._driver = Driver(self._core, transport)
        self._since_step = 0

    def __enter__(self) -> Producer:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            self.flush()
        self.close()

    def send(
        self,
        topic: str,
        value: bytes | None,
        key: bytes | None = None,
        headers: Sequence[tuple[str, bytes | None]] = (),
        *,
        partition: int | None = None,
        timestamp_ms: int | None = None,
    ) -> None:
        while self._core.is_full:
            self._driver.step()
        self._core.send(
            topic,
            value,
            key,
            list(headers),
            partition=partition,
            timestamp_ms=int(time.time() * 1000) if timestamp_ms is None else timestamp_ms,
            now_ms=self._driver.now_ms(),
        )
        self._since_step += 1
        if self._since_step >= LET_IN_RECORDS:
            self._since_step = 0
            self._driver.step(0)

    def poll(self, timeout_ms: int = 0) -> list[Delivered | Failed]:
        """Let requests out and answers in; what became of records since the last call."""
        self._since_step = 0
        self._driver.step(timeout_ms)
        return self.take()

    def take(self) -> list[Delivered | Failed]:
        events, self._core.events = self._core.events, []
        return events

    def flush(self, timeout_s: float = CLOSE_S) -> bool:
        """Wait until everything is delivered or has failed; False when time ran out."""
        deadline = time.monotonic() + timeout_s
        self._core.flush(self._driver.now_ms())
        while not self._core.is_idle:
            left_ms = int((deadline - time.monotonic()) * 1000)
            if left_ms <= 0:
                return False
            self._driver.step(left_ms)
        return True

    def close(self) -> None:
        self._transport.close()
