"""Producer: records into a cluster, from an ordinary program.

    with Producer("localhost:19092") as producer:
        producer.send("page-views", b"...", key=b"user-7")

The rules are those of `core/client/producer.py`: idempotent, acknowledged by all in sync, in
order within a partition, again until `delivery_ms` is over. `send` waits only when the buffer is
full.

Everything happens in the caller's thread: what lingers goes out with a later `send`, or in `poll`,
`flush`, `Producer.wait`. A producer belongs to one thread.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Final

from kcluster.client.connect import Where, reach
from kcluster.client.faces import Blocking, Deadline, SyncFace, Waiting
from kcluster.core.client.exchange import Exchange, Patience
from kcluster.core.client.producer import (
    Delivered,
    Delivery,
    Failed,
    ProducerCore,
    ProducerSettings,
)
from kcluster.errors import ApiError, ErrorCode, UsageError
from kcluster.wire.compression import Compression
from kcluster.wire.records import Header

CLOSE_S: Final = 60.0

LET_IN_RECORDS: Final = 500
"""So many `send`s go by without looking at the sockets, unless time has passed as well."""

DEFAULTS: Final = ProducerSettings()
ACKS: Final = {"all": -1, "-1": -1, "1": 1, "0": 0}


def producer_settings(
    acks: int | str,
    compression: str | Compression,
    linger_ms: int,
    batch_bytes: int,
    is_idempotent: bool,
    delivery_ms: int,
) -> ProducerSettings:
    """UsageError for what cannot be."""
    if str(acks) not in ACKS:
        raise UsageError(f"acks cannot be {acks!r}", "it is all, 1 or 0", 'acks="all"', 2)
    if isinstance(compression, str):
        known = {codec.name.lower(): codec for codec in Compression}
        if compression not in known:
            raise UsageError(
                f"compression cannot be {compression!r}",
                f"it is {', '.join(known)}",
                'compression="zstd"',
                2,
            )
        compression = known[compression]
    return ProducerSettings(
        acks=ACKS[str(acks)],
        compression=compression,
        is_idempotent=is_idempotent,
        linger_ms=linger_ms,
        batch_bytes=batch_bytes,
        delivery_ms=delivery_ms,
    )


class ProducerCalls:
    """What both faces do alike, and what they wait for."""

    _core: ProducerCore

    def _call_back(self) -> None:
        core = self._core
        while core.callbacks:
            callbacks, core.callbacks = core.callbacks, []
            for callback, delivery in callbacks:
                callback(delivery)

    def take(self) -> list[Delivered | Failed]:
        """What became of batches since the last call, oldest first."""
        events, self._core.events = self._core.events, []
        return events

    def raise_failure(self) -> None:
        """ApiError for the first record that was given up and that nobody has asked about."""
        for event in self._core.events:
            if isinstance(event, Failed) and not event.is_told:
                event.is_told = True
                raise ApiError(event.code, event.message)

    def _flush(self, timeout_s: float = CLOSE_S) -> Waiting[bool]:
        """Wait until everything is delivered or has failed; False when time ran out."""
        deadline = Deadline(timeout_s * 1000)
        core = self._core
        core.flush(time.monotonic_ns() // 1_000_000)
        while not core.is_idle:
            if deadline.is_over:
                return False
            yield deadline.left_ms
            self._call_back()
        return True

    def _wait_for(self, delivery: Delivery, timeout_s: float = CLOSE_S) -> Waiting[Delivery]:
        """Until a record is acknowledged. Raises ApiError when it is given up, or time is over:
        then whether it is written is not known."""
        deadline = Deadline(timeout_s * 1000)
        self._core.flush(time.monotonic_ns() // 1_000_000)
        while not delivery.is_done:
            if deadline.is_over:
                raise ApiError(ErrorCode.REQUEST_TIMED_OUT, f"no answer in {timeout_s:g} s")
            yield deadline.left_ms
        self._call_back()
        if (error := delivery.error) is not None:
            raise error
        return delivery


class Producer(ProducerCalls, SyncFace):
    """Records into a cluster. As a context manager it ends with `flush`, and raises the first
    failure that nobody has looked at."""

    def __init__(
        self,
        where: Where | None = None,
        settings: ProducerSettings | None = None,
        *,
        cluster: str | None = None,
        acks: int | str = "all",
        compression: str | Compression = Compression.NONE,
        linger_ms: int = DEFAULTS.linger_ms,
        batch_bytes: int = DEFAULTS.batch_bytes,
        is_idempotent: bool = True,
        delivery_ms: int = DEFAULTS.delivery_ms,
        patience: Patience | None = None,
        creates_topics: bool = True,
    ) -> None:
        """`where`: "host:port,host:port" of any Kafka cluster; or `cluster`: the name of one that
        this user started. `settings` say all that the single ones say, and more."""
        settings = settings or producer_settings(
            acks, compression, linger_ms, batch_bytes, is_idempotent, delivery_ms
        )
        transport = reach(where, cluster)
        exchange = Exchange(transport.brokers(), patience, creates_topics=creates_topics)
        self._core = ProducerCore(exchange, settings)
        SyncFace.__init__(self, self._core, transport)
        self._since_step = 0

    def __enter__(self) -> Producer:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            if kind is None:
                if not self.flush():
                    raise ApiError(
                        ErrorCode.REQUEST_TIMED_OUT, f"not everything was delivered in {CLOSE_S} s"
                    )
                self.raise_failure()
        finally:
            self.close()

    def send(
        self,
        topic: str,
        value: bytes | None,
        key: bytes | None = None,
        headers: Sequence[Header] = (),
        *,
        partition: int | None = None,
        timestamp_ms: int | None = None,
        on_delivery: Callable[[Delivery], None] | None = None,
    ) -> Delivery:
        """What becomes of it, `wait` waits for. `partition`: by key as Java's producer has it, or
        one after the other. `on_delivery` is called in a later call of this object."""
        core = self._core
        while core.buffered_bytes >= core.settings.buffer_bytes:
            self._driver.step()
            self._call_back()
        delivery = core.send(
            topic,
            value,
            key,
            headers,
            partition=partition,
            timestamp_ms=int(time.time() * 1000) if timestamp_ms is None else timestamp_ms,
            now_ms=time.monotonic_ns() // 1_000_000,
            on_delivery=on_delivery,
        )
        self._since_step += 1
        if self._since_step >= LET_IN_RECORDS:
            self._since_step = 0
            self._driver.step(0)
            if core.callbacks:
                self._call_back()
        return delivery

    def poll(self, timeout_ms: int = 0) -> list[Delivered | Failed]:
        """Let requests out and answers in; what became of batches since the last call."""
        self._since_step = 0
        self._driver.step(timeout_ms)
        self._call_back()
        return self.take()

    flush = Blocking(ProducerCalls._flush)
    wait = Blocking(ProducerCalls._wait_for)

    def close(self) -> None:
        """Without `flush`: what is not delivered is dropped."""
        self._close()
