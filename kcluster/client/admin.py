"""Admin: topics, configs, offsets and groups of any cluster that speaks Kafka's protocol.

    with Admin("localhost:19092") as admin:
        admin.create_topic("orders", partitions=6)

Each method is an operation of `core/client/operations.py` or `group_operations.py`, with its
arguments; results are the values of `core/client/results.py`. A refusal is an ApiError with
Kafka's code.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Concatenate, Final, ParamSpec, TypeVar

from kcluster.client.connect import Where, reach
from kcluster.client.faces import Blocking, SyncFace, Waiting
from kcluster.core.client import group_operations as group_ops
from kcluster.core.client import operations as ops
from kcluster.core.client.admin import ANY, OPERATION_MS, AdminCore, Operation
from kcluster.core.client.exchange import Exchange, Patience
from kcluster.wire.message import Message

GROUPS_MS: Final = 10_000
"""So long a coordinator may be moving, for who looks on."""

P = ParamSpec("P")
T = TypeVar("T")


class AdminCalls:
    """What both faces ask."""

    _core: AdminCore
    timeout_ms: int

    def _now_ms(self) -> int:
        raise NotImplementedError

    def _do(self, operation: Operation[T], timeout_ms: int | None = None) -> Waiting[T]:
        running = self._core.start(
            operation, self._now_ms(), self.timeout_ms if timeout_ms is None else timeout_ms
        )
        try:
            while not running.is_done:
                yield 1000
        finally:
            self._core.forget(running)
        if running.error is not None:
            raise running.error
        return running.result  # type: ignore[return-value]


def waits(operation: Callable[P, Operation[T]]) -> Callable[Concatenate[Any, P], Waiting[T]]:
    """A method that carries it out."""

    def method(self: Any, /, *args: P.args, **given: P.kwargs) -> Waiting[T]:
        waiting: Waiting[T] = self._do(operation(*args, **given))
        return waiting

    method.__doc__ = operation.__doc__
    return method


def make_core(transport_brokers: list[int], patience: Patience | None) -> AdminCore:
    return AdminCore(Exchange(transport_brokers, patience))


class Admin(AdminCalls, SyncFace):
    """Questions and orders to a cluster."""

    def __init__(
        self,
        where: Where | None = None,
        *,
        cluster: str | None = None,
        timeout_ms: int = OPERATION_MS,
        patience: Patience | None = None,
    ) -> None:
        """`where`: "host:port,host:port" of any Kafka cluster; or `cluster`: the name of one that
        this user started. `timeout_ms` of each call: then it is an ApiError."""
        transport = reach(where, cluster)
        self._core = make_core(transport.brokers(), patience)
        self.timeout_ms = timeout_ms
        SyncFace.__init__(self, self._core, transport)

    def __enter__(self) -> Admin:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _now_ms(self) -> int:
        return self._driver.now_ms()

    def close(self) -> None:
        self._close()

    def do(self, operation: Operation[T], timeout_ms: int | None = None) -> T:
        """Carry out an operation of one's own."""
        return self._run(self._do(operation, timeout_ms))

    def ask(self, request: Message, broker: int | None = None, version: int | None = None) -> Any:
        """The response of this broker, or of any, to a request as it is."""
        return self.do(ops.answered(ANY if broker is None else broker, request, version))

    def ids(self) -> list[int]:
        """Of the brokers that are alive."""
        return [each.id for each in self.cluster().brokers]

    cluster = Blocking(waits(ops.cluster))
    topics = Blocking(waits(ops.topics))
    create_topic = Blocking(waits(ops.create_topic))
    delete_topics = Blocking(waits(ops.delete_topics))
    add_partitions = Blocking(waits(ops.add_partitions))
    elect_leaders = Blocking(waits(ops.elect_leaders))
    configs = Blocking(waits(ops.configs))
    alter_configs = Blocking(waits(ops.alter_configs))
    led = Blocking(waits(ops.led))
    offsets = Blocking(waits(ops.offsets))
    delete_records = Blocking(waits(ops.delete_records))
    groups = Blocking(waits(group_ops.groups))
    describe_group = Blocking(waits(group_ops.describe_group))
    describe_groups = Blocking(waits(group_ops.describe_groups))
    delete_group = Blocking(waits(group_ops.delete_group))
    committed = Blocking(waits(group_ops.committed))
    commit = Blocking(waits(group_ops.commit))
    delete_offsets = Blocking(waits(group_ops.delete_offsets))
    coordinator = Blocking(waits(group_ops.coordinator))
