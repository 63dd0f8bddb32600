"""The topic of a load: made unless it is there, and how its partitions stand."""

from __future__ import annotations

import time
from typing import Final

from kcluster.chaos.reach import AGAIN_S, ASK_MS, Asker
from kcluster.core.client.consumer import EARLIEST, LATEST, LIST_OFFSETS_VERSION
from kcluster.errors import ErrorCode, KclusterError, UsageError
from kcluster.wire.messages.create_topics import (
    CreatableTopic,
    CreatableTopicConfig,
    CreateTopicsRequest,
    CreateTopicsResponse,
)
from kcluster.wire.messages.list_offsets import (
    ListOffsetsPartition,
    ListOffsetsRequest,
    ListOffsetsResponse,
    ListOffsetsTopic,
)
from kcluster.wire.messages.metadata import MetadataResponsePartition

CREATE_VERSION: Final = 7
CREATE_MS: Final = 15_000

READY_S: Final = 30.0
"""How long a topic may take to have a leader for each partition."""


class Topic:
    def __init__(self, name: str) -> None:
        self.name = name

    def ensure(self, asker: Asker, partitions: int, replication_factor: int | None) -> int:
        """How many partitions it has; made with `partitions` when it is not there, and with
        min.insync.replicas one below its replication factor. UsageError when it cannot be."""
        described = asker.metadata(self.name)
        [topic] = described.topics
        if topic.error_code == ErrorCode.NONE:
            return len(topic.partitions)
        if topic.error_code != ErrorCode.UNKNOWN_TOPIC_OR_PARTITION:
            code = ErrorCode(topic.error_code)
            raise UsageError(f"topic {self.name} cannot be used", code.name, "kcluster topic ls")
        factor = replication_factor or min(3, len(described.brokers))
        answer: CreateTopicsResponse = asker.ask_any(
            CreateTopicsRequest(
                topics=[
                    CreatableTopic(
                        name=self.name,
                        num_partitions=partitions,
                        replication_factor=factor,
                        configs=[
                            CreatableTopicConfig(
                                name="min.insync.replicas", value=str(max(factor - 1, 1))
                            )
                        ],
                    )
                ],
                timeout_ms=CREATE_MS,
            ),
            CREATE_VERSION,
            CreateTopicsResponse,
        )
        [created] = answer.topics
        if created.error_code not in (ErrorCode.NONE, ErrorCode.TOPIC_ALREADY_EXISTS):
            raise UsageError(
                f"topic {self.name} cannot be created",
                f"{ErrorCode(created.error_code).name}: {created.error_message or ''}",
                "kcluster load --help",
            )
        return partitions

    def await_ends(self, asker: Asker, partitions: int) -> list[int]:
        """The end of each partition, once all have a leader. UsageError when it takes too long."""
        deadline = time.monotonic() + READY_S
        while True:
            ends = [-1] * partitions
            for state in self.states(asker):
                if state.leader_id >= 0 and state.partition_index < partitions:
                    found = self._offset(asker, state.partition_index, state.leader_id, LATEST)
                    ends[state.partition_index] = -1 if found is None else found
            if min(ends) >= 0:
                return ends
            if time.monotonic() > deadline:
                missing = [number for number, end in enumerate(ends) if end < 0]
                raise UsageError(
                    f"topic {self.name} takes no records",
                    f"nobody leads partition {missing[0]}",
                    "kcluster status",
                    10,
                )
            time.sleep(AGAIN_S)

    def states(self, asker: Asker) -> list[MetadataResponsePartition]:
        """By number; empty when nobody can say."""
        try:
            [topic] = asker.metadata(self.name).topics
        except KclusterError:
            return []
        return sorted(topic.partitions, key=lambda state: state.partition_index)

    def offsets(self, asker: Asker, partition: int, leader: int) -> tuple[int, int] | None:
        """(log start offset, high watermark) as the leader has them; None when it does not say."""
        deadline = time.monotonic() + ASK_MS / 1000
        while time.monotonic() < deadline:
            first = self._offset(asker, partition, leader, EARLIEST)
            end = self._offset(asker, partition, leader, LATEST)
            if first is not None and end is not None:
                return first, end
            time.sleep(AGAIN_S)
        return None

    def _offset(self, asker: Asker, partition: int, leader: int, timestamp: int) -> int | None:
        wanted = ListOffsetsPartition(partition_index=partition, timestamp=timestamp)
        answer: ListOffsetsResponse | None = asker.ask(
            leader,
            ListOffsetsRequest(
                replica_id=-1, topics=[ListOffsetsTopic(name=self.name, partitions=[wanted])]
            ),
            LIST_OFFSETS_VERSION,
            ListOffsetsResponse,
        )
        if answer is None:
            return None
        [found] = answer.topics[0].partitions
        return None if found.error_code else found.offset
