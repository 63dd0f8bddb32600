"""Ways to a cluster that may be broken: by name or by address, opened as often as need be.

    Reach.open() -> Transport     one for each thread that writes or reads
    Asker.ask(broker, request)    one request, one answer or None

An Asker runs the same driver as producers and consumers do, so that it works over ZeroMQ and
TCP alike and is told by Metadata where brokers listen.
"""

from __future__ import annotations

import time
from typing import Any, Final

from kcluster.client.connect import by_name, over_tcp
from kcluster.client.driver import Driver, Transport
from kcluster.core.client.exchange import METADATA_VERSION, Exchange
from kcluster.errors import UsageError
from kcluster.wire.message import Message
from kcluster.wire.messages.metadata import (
    MetadataRequest,
    MetadataRequestTopic,
    MetadataResponse,
)

ASK_MS: Final = 5_000
AGAIN_S: Final = 0.05


class Reach:
    """`cluster` is looked after by a supervisor of this machine, unless `bootstrap` is given."""

    def __init__(self, cluster: str, bootstrap: str | None = None) -> None:
        self.cluster = cluster
        self.bootstrap = bootstrap

    @property
    def is_local(self) -> bool:
        """Its files can be read."""
        return self.bootstrap is None

    def open(self) -> Transport:
        """UsageError when there is no such cluster, or no broker of it runs."""
        return by_name(self.cluster) if self.bootstrap is None else over_tcp(self.bootstrap)


class Asker:
    """Single requests, one after the other."""

    def __init__(self, reach: Reach) -> None:
        self._transport = reach.open()
        self.exchange = Exchange(self._transport.brokers())
        self._driver = Driver(self, self._transport)

    def __enter__(self) -> Asker:
        return self

    def __exit__(self, *_: object) -> None:
        self._transport.close()

    # The driver's side.

    def tick(self, now_ms: int) -> None:
        self.exchange.tick(now_ms)

    def next_deadline(self) -> int | None:
        return self.exchange.next_deadline()

    # The caller's.

    def ask(
        self,
        broker_id: int,
        request: Message,
        version: int,
        response: type[Message],
        timeout_ms: int = ASK_MS,
    ) -> Any:
        """The answer; None when there is none: the broker is away, paused or busy."""
        answers: list[Any] = []
        self.exchange.ask(
            broker_id,
            request,
            version,
            response,
            lambda answer, _: answers.append(answer),
            now_ms=self._driver.now_ms(),
            timeout_ms=timeout_ms,
        )
        while not answers:
            self._driver.step()
        return answers[0]

    def ask_any(
        self, request: Message, version: int, response: type[Message], timeout_s: float = 15.0
    ) -> Any:
        """Of whoever answers first. UsageError when nobody does in time."""
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline:
            answer = self.ask(self.exchange.any_broker(), request, version, response)
            if answer is not None:
                return answer
            self.exchange.try_another()
            time.sleep(AGAIN_S)
        raise UsageError(
            f"no broker answered in {timeout_s:g} s", "all are away or busy", "kcluster status", 3
        )

    def metadata(self, topic: str, timeout_s: float = 15.0) -> MetadataResponse:
        """Of one topic, which is not made by it."""
        answer: MetadataResponse = self.ask_any(
            MetadataRequest(
                topics=[MetadataRequestTopic(name=topic)], allow_auto_topic_creation=False
            ),
            METADATA_VERSION,
            MetadataResponse,
            timeout_s,
        )
        if answer.brokers:
            self.exchange.brokers = [broker.node_id for broker in answer.brokers]
        return answer
