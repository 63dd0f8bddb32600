"""Requests that only the leader of a partition answers, each leader asked once.

Leaders(topic) --metadata--> {broker: its partitions} --one request each--> answers
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from kcluster.client.control import BusClient
from kcluster.client.requests import KafkaConnection
from kcluster.errors import ErrorCode, UsageError
from kcluster.wire import bus
from kcluster.wire.message import Message
from kcluster.wire.messages import delete_records as dr
from kcluster.wire.messages import list_offsets as lo

CONSUMER = -1
"""Replica id of who is no broker."""

EXIT_UNHEALTHY = 10


class Leaders:
    """Of the partitions of one topic, as Metadata named them when this was made."""

    def __init__(self, topic: Any, states: Sequence[bus.ProcessState], servers: BusClient) -> None:
        """`topic` is a MetadataResponseTopic."""
        self.topic: str = topic.name
        self.by_partition: dict[int, int] = {
            part.partition_index: part.leader_id for part in topic.partitions
        }
        self._states = {state.id: state for state in states}
        self._servers = servers

    def offsets(self, partitions: Iterable[int], timestamp: int) -> dict[int, Any]:
        """ListOffsets of each: a timestamp in ms, or one of Kafka's names for a place (-1 latest,
        -2 earliest, -3 largest timestamp). By partition; UsageError for any that is refused."""

        def request(indexes: list[int]) -> Message:
            parts = [
                lo.ListOffsetsPartition(partition_index=index, timestamp=timestamp)
                for index in indexes
            ]
            topics = [lo.ListOffsetsTopic(name=self.topic, partitions=parts)]
            return lo.ListOffsetsRequest(replica_id=CONSUMER, topics=topics)

        found = {part.partition_index: part for part in self._ask(partitions, request)}
        for index, part in sorted(found.items()):
            if part.error_code:
                raise self._refusal(index, part.error_code)
        return found

    def delete_records(self, offsets: dict[int, int], timeout_ms: int) -> dict[int, Any]:
        """Below these offsets, by partition. Results may be refusals: some may have been done."""

        def request(indexes: list[int]) -> Message:
            parts = [
                dr.DeleteRecordsPartition(partition_index=index, offset=offsets[index])
                for index in indexes
            ]
            topics = [dr.DeleteRecordsTopic(name=self.topic, partitions=parts)]
            return dr.DeleteRecordsRequest(topics=topics, timeout_ms=timeout_ms)

        return {part.partition_index: part for part in self._ask(offsets, request)}

    def _ask(
        self, partitions: Iterable[int], request: Callable[[list[int]], Message]
    ) -> Iterator[Any]:
        led: dict[int, list[int]] = {}
        for index in sorted(partitions):
            led.setdefault(self.by_partition[index], []).append(index)
        for leader, indexes in sorted(led.items()):
            state = self._states.get(leader)
            if state is None:
                raise self._refusal(indexes[0], ErrorCode.LEADER_NOT_AVAILABLE)
            for topic in KafkaConnection(state, self._servers).request(request(indexes)).topics:
                yield from topic.partitions

    def _refusal(self, partition: int, code: int) -> UsageError:
        return UsageError(
            f"{self.topic}-{partition} does not answer",
            ErrorCode(code).name,
            "kcluster status",
            EXIT_UNHEALTHY,
        )
