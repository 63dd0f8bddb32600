"""AsyncProducer, AsyncConsumer, AsyncAdmin: the same cores, run by an event loop.

    async with AsyncProducer("localhost:19092") as producer:
        await producer.send("page-views", b"...", key=b"user-7")

    async with AsyncConsumer("localhost:19092", "page-views", group="counts") as consumer:
        async for record in consumer:
            ...

To be made where an event loop runs, and used there only. Heartbeats, lingering batches and
retries go on while the program awaits something else.

Looking up the name of a host, and asking a supervisor where a broker went, block the loop for as
long as these take.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from typing import Any, TypeVar

from kcluster.client.admin import AdminCalls, make_core, waits
from kcluster.client.connect import Where, reach
from kcluster.client.consumer import (
    BEGINNING,
    Callback,
    ConsumerCalls,
    ConsumerSession,
    member_settings,
)
from kcluster.client.faces import AsyncFace, Awaited
from kcluster.client.producer import CLOSE_S, DEFAULTS, ProducerCalls, producer_settings
from kcluster.core.client import group_operations as group_ops
from kcluster.core.client import operations as ops
from kcluster.core.client.admin import ANY, OPERATION_MS, Operation
from kcluster.core.client.consumer import Consumed, ConsumerSettings, From
from kcluster.core.client.exchange import Exchange, Patience
from kcluster.core.client.membership import CLASSIC, MembershipSettings
from kcluster.core.client.producer import Delivery, ProducerCore, ProducerSettings
from kcluster.errors import ApiError, ErrorCode
from kcluster.wire.compression import Compression
from kcluster.wire.message import Message
from kcluster.wire.records import Header

T = TypeVar("T")


class AsyncProducer(ProducerCalls, AsyncFace):
    """`kcluster.client.Producer`, to be awaited."""

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
        settings = settings or producer_settings(
            acks, compression, linger_ms, batch_bytes, is_idempotent, delivery_ms
        )
        transport = reach(where, cluster)
        exchange = Exchange(transport.brokers(), patience, creates_topics=creates_topics)
        self._core: ProducerCore = ProducerCore(exchange, settings)
        AsyncFace.__init__(self, self._core, transport)

    async def __aenter__(self) -> AsyncProducer:
        return self

    async def __aexit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            if kind is None:
                if not await self.flush():
                    raise ApiError(
                        ErrorCode.REQUEST_TIMED_OUT, f"not everything was delivered in {CLOSE_S} s"
                    )
                self.raise_failure()
        finally:
            self.close()

    async def send(
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
        """As `Producer.send`: waits only when the buffer is full. `await wait(delivery)` says
        what became of it."""
        core = self._core
        while core.is_full:
            await self._wait(1000)
        if self._failure is not None:
            raise self._failure
        delivery = core.send(
            topic,
            value,
            key,
            headers,
            partition=partition,
            timestamp_ms=int(time.time() * 1000) if timestamp_ms is None else timestamp_ms,
            now_ms=self._now_ms(),
            on_delivery=on_delivery,
        )
        self._stir()
        return delivery

    def _after_step(self) -> None:
        self._call_back()

    flush = Awaited(ProducerCalls._flush)
    wait = Awaited(ProducerCalls._wait_for)

    def close(self) -> None:
        """Without `flush`: what is not delivered is dropped."""
        self._close()


class AsyncConsumer(ConsumerCalls, AsyncFace):
    """`kcluster.client.Consumer`, to be awaited. A member of a group heartbeats while its program
    awaits anything at all; its callbacks are called within `poll` and the like."""

    def __init__(
        self,
        where: Where | None = None,
        topics: str | Iterable[str] = (),
        settings: ConsumerSettings | None = None,
        *,
        cluster: str | None = None,
        group: str | None = None,
        start: From = BEGINNING,
        auto_commit: bool = True,
        commit_ms: int = 1_000,
        on_assigned: Callback | None = None,
        on_revoked: Callback | None = None,
        on_lost: Callback | None = None,
        group_protocol: str = CLASSIC,
        membership: MembershipSettings | None = None,
        patience: Patience | None = None,
    ) -> None:
        names = [topics] if isinstance(topics, str) else list(topics)
        transport = reach(where, cluster)
        self._core: ConsumerSession = ConsumerSession(
            transport.brokers(), names, group, start, settings,
            member_settings(group_protocol, membership), patience, commit_ms,
        )  # fmt: skip
        AsyncFace.__init__(self, self._core, transport)
        self._begin(names, start, auto_commit, on_assigned, on_revoked, on_lost)
        self._stir()

    async def __aenter__(self) -> AsyncConsumer:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def __aiter__(self) -> AsyncIterator[Consumed]:
        """Without end."""
        while True:
            for consumed in await self.poll():
                yield consumed

    def _now_ms(self) -> int:
        return self._driver.now_ms()

    def _stir(self) -> None:
        AsyncFace._stir(self)

    poll = Awaited(ConsumerCalls._poll)
    commit = Awaited(ConsumerCalls._commit)
    committed = Awaited(ConsumerCalls._committed)
    offsets_for_time = Awaited(ConsumerCalls._offsets_for_time)
    beginnings = Awaited(ConsumerCalls._beginnings)
    ends = Awaited(ConsumerCalls._ends)
    leave = Awaited(ConsumerCalls._leave)

    async def read_to_end(self) -> AsyncIterator[Consumed]:
        """Everything from the place of assignment to what was the end at that time."""
        while not self.is_at_end:
            for consumed in await self.poll():
                yield consumed

    async def close(self) -> None:
        """Leaves the group, with what is done committed."""
        try:
            await self.leave()
        finally:
            self._close()


class AsyncAdmin(AdminCalls, AsyncFace):
    """`kcluster.client.Admin`, to be awaited."""

    def __init__(
        self,
        where: Where | None = None,
        *,
        cluster: str | None = None,
        timeout_ms: int = OPERATION_MS,
        patience: Patience | None = None,
    ) -> None:
        transport = reach(where, cluster)
        self._core = make_core(transport.brokers(), patience)
        self.timeout_ms = timeout_ms
        AsyncFace.__init__(self, self._core, transport)

    async def __aenter__(self) -> AsyncAdmin:
        return self

    async def __aexit__(self, *_: object) -> None:
        self.close()

    def _now_ms(self) -> int:
        return self._driver.now_ms()

    def close(self) -> None:
        self._close()

    async def do(self, operation: Operation[T], timeout_ms: int | None = None) -> T:
        """Carry out an operation of one's own."""
        return await self._run(self._do(operation, timeout_ms))

    async def ask(
        self, request: Message, broker: int | None = None, version: int | None = None
    ) -> Any:
        """The response of this broker, or of any, to a request as it is."""
        return await self.do(ops.answered(ANY if broker is None else broker, request, version))

    cluster = Awaited(waits(ops.cluster))
    topics = Awaited(waits(ops.topics))
    create_topic = Awaited(waits(ops.create_topic))
    delete_topics = Awaited(waits(ops.delete_topics))
    add_partitions = Awaited(waits(ops.add_partitions))
    elect_leaders = Awaited(waits(ops.elect_leaders))
    configs = Awaited(waits(ops.configs))
    alter_configs = Awaited(waits(ops.alter_configs))
    led = Awaited(waits(ops.led))
    offsets = Awaited(waits(ops.offsets))
    delete_records = Awaited(waits(ops.delete_records))
    groups = Awaited(waits(group_ops.groups))
    describe_group = Awaited(waits(group_ops.describe_group))
    describe_groups = Awaited(waits(group_ops.describe_groups))
    delete_group = Awaited(waits(group_ops.delete_group))
    committed = Awaited(waits(group_ops.committed))
    commit = Awaited(waits(group_ops.commit))
    delete_offsets = Awaited(waits(group_ops.delete_offsets))
    coordinator = Awaited(waits(group_ops.coordinator))
