"""Reassignments carried out: asked for, cancelled, followed until they are complete.

Requests go to any broker that runs, anew for each: one may be killed meanwhile.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeVar

import msgspec

from kcluster.client.control import BusClient, ControlClient
from kcluster.client.reassign import Move, throttled
from kcluster.client.requests import any_broker
from kcluster.client.snapshot import ClusterSnapshot, ask_holdings, compose, read_image
from kcluster.core.metadata.image import BROKER_RESOURCE, TOPIC_RESOURCE, ClusterImage
from kcluster.errors import ErrorCode, UsageError
from kcluster.model import TopicPartition
from kcluster.wire.messages import alter_partition_reassignments as apr
from kcluster.wire.messages import elect_leaders as el
from kcluster.wire.messages import incremental_alter_configs as ic
from kcluster.wire.messages import unregister_broker as ub

RATES = ("leader.replication.throttled.rate", "follower.replication.throttled.rate")
REPLICAS = ("leader.replication.throttled.replicas", "follower.replication.throttled.replicas")

TRY_MS = 3_000
PATIENCE_S = 15
"""Brokers may be killed while partitions are moved: others are asked."""
END_KNOWN_S = 5
LOOK_S = 0.05
_SET, _DELETE = 0, 1

T = TypeVar("T")


class Refusal(msgspec.Struct, frozen=True):
    topic: str
    partition: int
    error: str
    message: str

    def __str__(self) -> str:
        return f"{self.topic}-{self.partition}: {self.message or self.error}"


class Progress(msgspec.Struct, frozen=True):
    """Of one partition that is being moved."""

    topic: str
    partition: int
    replicas: list[int]
    adding: list[int]
    removing: list[int]
    copied: int
    """Bytes that those that are added hold ..."""
    size: int
    """... of so many."""


class Reassigner:
    """Of one cluster."""

    def __init__(self, control: ControlClient, servers: BusClient, cluster: str) -> None:
        self._control = control
        self._servers = servers
        self.cluster = cluster

    def _request(self, message: Any) -> Any:
        """All that is asked here may be asked twice."""

        def ask() -> Any:
            broker = any_broker(self._control.states(), self._servers, self.cluster)
            return broker.request(message, timeout_ms=TRY_MS)

        return _patiently(ask)

    def image(self) -> ClusterImage:
        def ask() -> ClusterImage:
            image = read_image(self._servers, self._control.states())
            if image is None:
                raise UsageError(
                    "nobody could say who holds what",
                    "neither the coordinator nor a broker answers",
                    f"kcluster status -c {self.cluster}",
                )
            return image

        return _patiently(ask)

    def snapshot(self) -> ClusterSnapshot:
        states = self._control.states()
        return compose(self._control.describe(), self.image(), ask_holdings(self._servers, states))

    # --- asking ---------------------------------------------------------------------------

    def start(self, moves: Sequence[Move]) -> list[Refusal]:
        return self._alter([(move.tp, move.target) for move in moves])

    def cancel(self, partitions: Iterable[TopicPartition]) -> list[Refusal]:
        return self._alter([(tp, None) for tp in partitions])

    def _alter(self, wanted: Sequence[tuple[TopicPartition, list[int] | None]]) -> list[Refusal]:
        topics: dict[str, list[apr.ReassignablePartition]] = {}
        for tp, replicas in wanted:
            topics.setdefault(tp.topic, []).append(
                apr.ReassignablePartition(partition_index=tp.partition, replicas=replicas)
            )
        response = self._request(
            apr.AlterPartitionReassignmentsRequest(
                topics=[
                    apr.ReassignableTopic(name=name, partitions=partitions)
                    for name, partitions in topics.items()
                ]
            )
        )
        if response.error_code:
            error = ErrorCode(response.error_code)
            raise UsageError(
                "no partition was reassigned",
                response.error_message or error.name,
                f"kcluster status -c {self.cluster}",
            )
        return [
            Refusal(
                topic.name,
                part.partition_index,
                ErrorCode(part.error_code).name,
                part.error_message or "",
            )
            for topic in response.responses
            for part in topic.partitions
            if part.error_code
        ]

    def elect_preferred(self, partitions: Iterable[TopicPartition]) -> None:
        """Who is first leads, where it can: what it cannot is left to the next rebalance."""
        topics: dict[str, list[int]] = {}
        for tp in partitions:
            topics.setdefault(tp.topic, []).append(tp.partition)
        if topics:
            wanted = [
                el.TopicPartitions(topic=name, partitions=ids) for name, ids in topics.items()
            ]
            self._request(el.ElectLeadersRequest(topic_partitions=wanted))

    def unregister(self, broker: int) -> tuple[ErrorCode, str]:
        """Have the cluster forget it; what became of that. One that is asked for too soon after
        its end, before the news of it, is still alive to the controller."""
        deadline = time.monotonic() + END_KNOWN_S
        while True:
            response = self._request(ub.UnregisterBrokerRequest(broker_id=broker))
            error = ErrorCode(response.error_code)
            if error != ErrorCode.INVALID_REQUEST or time.monotonic() > deadline:
                return error, response.error_message or ""
            time.sleep(LOOK_S)

    # --- throttles ------------------------------------------------------------------------

    def throttle(self, moves: Sequence[Move], bytes_per_s: int) -> None:
        """For what these moves copy (KIP-73)."""
        topics = {
            name: dict(zip(REPLICAS, values, strict=True))
            for name, values in throttled(moves).items()
        }
        self._configure(topics, dict.fromkeys(RATES, str(bytes_per_s)))

    def unthrottle(self) -> bool:
        """Whatever a reassignment has set; whether there was anything."""
        topics, rates = self._throttles()
        if topics or rates:
            self._configure(topics, rates)
        return bool(topics or rates)

    def is_throttled(self) -> bool:
        """Whether anything is left to `unthrottle`."""
        return any(self._throttles())

    def _throttles(self) -> tuple[dict[str, dict[str, Any]], dict[str, Any]]:
        """Configs that throttle, by topic, and of all brokers; as `_configure` removes them."""
        image = self.image()
        topics = {
            name: {key: None for key in REPLICAS if key in image.overrides(TOPIC_RESOURCE, name)}
            for name in image.topics
        }
        rates = {key: None for key in RATES if key in image.overrides(BROKER_RESOURCE, "")}
        return {name: keys for name, keys in topics.items() if keys}, rates

    def _configure(self, topics: dict[str, dict[str, Any]], brokers: dict[str, Any]) -> None:
        """Configs by topic, and of all brokers; None removes."""
        wanted = [(TOPIC_RESOURCE, name, pairs) for name, pairs in topics.items()]
        if brokers:
            wanted.append((BROKER_RESOURCE, "", brokers))
        response = self._request(
            ic.IncrementalAlterConfigsRequest(
                resources=[
                    ic.AlterConfigsResource(
                        resource_type=resource,
                        resource_name=name,
                        configs=[
                            ic.AlterableConfig(
                                name=key,
                                config_operation=_DELETE if value is None else _SET,
                                value=value,
                            )
                            for key, value in pairs.items()
                        ],
                    )
                    for resource, name, pairs in wanted
                ]
            )
        )
        for result in response.responses:
            if result.error_code:
                raise UsageError(
                    f"the throttle of {result.resource_name or 'the brokers'} was not set",
                    result.error_message or ErrorCode(result.error_code).name,
                    f"kcluster status -c {self.cluster}",
                )

    # --- following ------------------------------------------------------------------------

    def progress(self) -> list[Progress]:
        """Of all that is being moved now."""
        return progress_of(self.snapshot())


def _patiently(ask: Callable[[], T]) -> T:
    deadline = time.monotonic() + PATIENCE_S
    while True:
        try:
            return ask()
        except UsageError:
            if time.monotonic() > deadline:
                raise
        time.sleep(LOOK_S)


def progress_of(found: ClusterSnapshot) -> list[Progress]:
    ongoing = []
    for partition in found.partitions:
        if not partition.is_reassigning:
            continue
        sizes = {replica.broker: replica.size or 0 for replica in partition.replicas}
        whole = max((sizes[id] for id in partition.isr), default=0)
        done = [
            whole if id in partition.isr else min(sizes.get(id, 0), whole)
            for id in partition.adding
        ]
        ongoing.append(
            Progress(
                partition.topic,
                partition.partition,
                [replica.broker for replica in partition.replicas],
                partition.adding,
                partition.removing,
                sum(done),
                whole * len(partition.adding),
            )
        )
    return ongoing
