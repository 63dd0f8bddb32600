"""A simulated consumer of one partition, outside of any group.

One with a rack reads where its leader says (KIP-392), and goes back to the leader at the first
answer that is none.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import Any

from kcluster.errors import ErrorCode
from kcluster.model import ZERO_TOPIC_ID, TopicPartition
from kcluster.sim.clients import RETRY_BACKOFF_MS, Call, Life, SimClient, Sleep, Step
from kcluster.wire.messages import fetch as f
from kcluster.wire.messages import list_offsets as lo
from kcluster.wire.records import batches, read_records

EARLIEST_TIMESTAMP = -2
"""Of ListOffsets: where the log begins."""

LATEST_TIMESTAMP = -1
"""Of ListOffsets: the high watermark."""


@dataclass(slots=True)
class Consumer:
    """Reads one partition in order: from its start, or from where it ends at first."""

    client: SimClient
    tp: TopicPartition
    version: int = 12
    max_wait_ms: int = 300
    max_bytes: int = 1 << 20
    position: int = 0
    label: TopicPartition | None = None
    """What the history calls the partition, when that is not its name."""
    deleted: Callable[[TopicPartition], int] = lambda tp: 0
    """The offset below which records were deleted on purpose."""
    is_from_latest: bool = False
    rack: str = ""
    reads_from: int = -1
    """The follower that it was sent to; -1 for the leader."""

    def life(self) -> Life:
        client = self.client
        if self.is_from_latest:
            yield from self._seek_latest()
        while not client.is_stopped:
            leader = yield from client.find_leader(self.tp)
            if leader < 0:
                return
            source = leader if self.reads_from < 0 else self.reads_from
            response = yield Call(source, self._request(), self.version, 3000)
            if response is not None and self._is_out_of_range(response):
                self.reads_from = -1
                yield from self._reset(leader)
            elif response is not None and self._is_sent_on(response):
                pass
            elif response is None or not self._take(response):
                client.forget_leader(self.tp)
                self.reads_from = -1
                yield Sleep(RETRY_BACKOFF_MS)

    def _is_sent_on(self, response: Any) -> bool:
        if response.error_code or not response.responses:
            return False
        told = response.responses[0].partitions[0]
        if told.error_code or told.preferred_read_replica < 0:
            return False
        self.reads_from = told.preferred_read_replica
        return True

    def _request(self) -> f.FetchRequest:
        partition = f.FetchPartition(
            partition=self.tp.partition,
            fetch_offset=self.position,
            partition_max_bytes=self.max_bytes,
        )
        topic = f.FetchTopic(
            topic=self.tp.topic,
            topic_id=self.client.topic_ids.get(self.tp.topic, ZERO_TOPIC_ID),
            partitions=[partition],
        )
        return f.FetchRequest(
            max_wait_ms=self.max_wait_ms,
            min_bytes=1,
            max_bytes=self.max_bytes,
            topics=[topic],
            rack_id=self.rack,
        )

    def _is_out_of_range(self, response: Any) -> bool:
        if response.error_code or not response.responses:
            return False
        return bool(response.responses[0].partitions[0].error_code == ErrorCode.OFFSET_OUT_OF_RANGE)

    def _reset(self, leader: int) -> Generator[Step, Any, None]:
        """Go on where the log begins: right only when that is behind what was deleted. Who was
        deposed and has not heard of it may end before the position; another one is asked then."""
        start = yield from self._list_offset(leader, EARLIEST_TIMESTAMP)
        if start > self.position >= self.deleted(self.tp):
            self.client.surprises.append(
                f"{self.tp}: a consumer at {self.position} was told OFFSET_OUT_OF_RANGE, the log "
                f"begins at {start}, deleted is what is below {self.deleted(self.tp)}"
            )
        self.position = max(self.position, start)
        self.client.forget_leader(self.tp)
        yield Sleep(RETRY_BACKOFF_MS)

    def _seek_latest(self) -> Generator[Step, Any, None]:
        while not self.client.is_stopped:
            leader = yield from self.client.find_leader(self.tp)
            if leader < 0:
                return
            end = yield from self._list_offset(leader, LATEST_TIMESTAMP)
            if end >= 0:
                self.position = end
                return
            self.client.forget_leader(self.tp)
            yield Sleep(RETRY_BACKOFF_MS)

    def _list_offset(self, leader: int, timestamp: int) -> Generator[Step, Any, int]:
        """-1 when it is not told."""
        wanted = lo.ListOffsetsPartition(partition_index=self.tp.partition, timestamp=timestamp)
        topic = lo.ListOffsetsTopic(name=self.tp.topic, partitions=[wanted])
        response = yield Call(leader, lo.ListOffsetsRequest(replica_id=-1, topics=[topic]), 7)
        if response is None:
            return -1
        told = response.topics[0].partitions[0]
        return -1 if told.error_code else int(told.offset)

    def _take(self, response: Any) -> bool:
        if response.error_code or not response.responses:
            return not response.error_code
        told = response.responses[0].partitions[0]
        if told.error_code:
            return False
        fresh = []
        data = memoryview(bytes(told.records or b""))
        for position, header in batches(data):
            for record in read_records(data[position : position + header.size]):
                if record.offset >= self.position:
                    if record.value is not None:
                        fresh.append((record.offset, bytes(record.value)))
                    self.position = record.offset + 1
            # A compacted batch may end without its last records, or be empty.
            self.position = max(self.position, header.last_offset + 1)
        self.client.history.poll(self.client.name, self.label or self.tp, fresh)
        return True
