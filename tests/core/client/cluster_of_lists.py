"""A cluster that answers our client from plain lists: leaders move, answers get lost.

It keeps what must hold: a batch is taken once for each (producer, sequence), in order. Time is a
number that the test moves.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from typing import Any

from kcluster.core.client.exchange import Exchange, Outgoing, broker_of_lane
from kcluster.errors import ErrorCode
from kcluster.model import TopicPartition
from kcluster.wire.message import decode, encode
from kcluster.wire.messages import fetch, init_producer_id, list_offsets, metadata, produce
from kcluster.wire.records import Record, build_batch, patch, read_header, read_records

BROKERS = (1, 2, 3)


@dataclass
class Log:
    leader: int
    leader_epoch: int = 0
    batches: list[bytearray] = field(default_factory=list)
    log_start_offset: int = 0
    end_offset: int = 0
    sequences: dict[int, int] = field(default_factory=dict)
    """By producer id: the sequence that comes next."""
    offsets: dict[tuple[int, int], int] = field(default_factory=dict)

    def append(self, records: memoryview) -> tuple[ErrorCode, int]:
        header = read_header(records)
        if header.producer_id >= 0:
            known = self.offsets.get((header.producer_id, header.base_sequence))
            if known is not None:
                return ErrorCode.NONE, known
            if self.sequences.get(header.producer_id, 0) != header.base_sequence:
                return ErrorCode.OUT_OF_ORDER_SEQUENCE_NUMBER, -1
            self.sequences[header.producer_id] = header.base_sequence + header.record_count
            self.offsets[header.producer_id, header.base_sequence] = self.end_offset
        batch = bytearray(records)
        patch(batch, 0, self.end_offset, self.leader_epoch)
        self.batches.append(batch)
        self.end_offset += header.last_offset_delta + 1
        return ErrorCode.NONE, read_header(batch).base_offset

    def add(self, *records: Record) -> None:
        self.append(memoryview(build_batch(records)))

    def records(self) -> list[Record]:
        return [record for batch in self.batches for record in read_records(batch)]


class ClusterOfLists:
    def __init__(self, seed: int = 0) -> None:
        self.chance = random.Random(seed)
        self.logs: dict[TopicPartition, Log] = {}
        self.down: set[int] = set()
        self.loss = 0.0
        """Chance that a request, and that an answer, gets lost with its connection."""
        self.refusals: list[ErrorCode] = []
        """What the next Produce requests are answered with."""
        self.tells_leader = True
        self.now_ms = 0
        self.asked: list[Outgoing] = []
        self._next_producer_id = 100

    def create(self, topic: str, partitions: int) -> None:
        for partition in range(partitions):
            leader = BROKERS[partition % 3]
            self.logs[TopicPartition(topic, partition)] = Log(leader)

    def move_leaders(self) -> None:
        for log in self.logs.values():
            choices = [id for id in BROKERS if id != log.leader and id not in self.down]
            log.leader = self.chance.choice(choices)
            log.leader_epoch += 1

    def kill(self, broker_id: int) -> None:
        self.down.add(broker_id)
        for log in self.logs.values():
            if log.leader == broker_id:
                log.leader = self.chance.choice([id for id in BROKERS if id not in self.down])
                log.leader_epoch += 1

    def carry(self, exchange: Exchange) -> None:
        """Send all that wants to be sent, and bring the answers. What they lead to comes next."""
        outgoing, exchange.outgoing = exchange.outgoing, []
        for each in outgoing:
            self._serve(exchange, each)

    def step(self, core: Any) -> None:
        """Carry what there is, or let time pass until something is due."""
        if core.exchange.outgoing:
            self.carry(core.exchange)
            return
        deadline = core.next_deadline()
        self.now_ms = max(self.now_ms + 1, deadline if deadline is not None else 0)
        core.tick(self.now_ms)

    def _serve(self, exchange: Exchange, each: Outgoing) -> None:
        self.asked.append(each)
        is_lost = self.chance.random() < self.loss
        broker = broker_of_lane(each.broker_id)
        if broker in self.down or is_lost:
            exchange.lost(each.broker_id, self.now_ms)
            return
        request = decode(type(each.request), encode(each.request, each.version), each.version)
        answer = getattr(self, "_" + type(request).__name__)(broker, request)
        if self.chance.random() < self.loss:
            exchange.lost(each.broker_id, self.now_ms)
        elif each.response is not None:
            message = decode(each.response, encode(answer, each.version), each.version)
            exchange.arrived(each.correlation, message, self.now_ms)

    def _MetadataRequest(self, broker: int, request: Any) -> Any:  # noqa: N802
        topics = []
        for asked in request.topics:
            logs = {tp: log for tp, log in self.logs.items() if tp.topic == asked.name}
            topics.append(
                metadata.MetadataResponseTopic(
                    error_code=0 if logs else ErrorCode.UNKNOWN_TOPIC_OR_PARTITION,
                    name=asked.name,
                    partitions=[
                        metadata.MetadataResponsePartition(
                            partition_index=tp.partition,
                            leader_id=log.leader,
                            leader_epoch=log.leader_epoch,
                        )
                        for tp, log in logs.items()
                    ],
                )
            )
        return metadata.MetadataResponse(
            brokers=[
                metadata.MetadataResponseBroker(node_id=id) for id in BROKERS if id not in self.down
            ],
            topics=topics,
        )

    def _InitProducerIdRequest(self, broker: int, request: Any) -> Any:  # noqa: N802
        self._next_producer_id += 1
        return init_producer_id.InitProducerIdResponse(
            producer_id=self._next_producer_id, producer_epoch=0
        )

    def _ProduceRequest(self, broker: int, request: Any) -> Any:  # noqa: N802
        responses = []
        for topic in request.topic_data:
            answers = []
            for data in topic.partition_data:
                log = self.logs[TopicPartition(topic.name, data.index)]
                answer = produce.PartitionProduceResponse(index=data.index)
                if log.leader != broker:
                    answer.error_code = ErrorCode.NOT_LEADER_OR_FOLLOWER
                    if self.tells_leader:
                        answer.current_leader = produce.LeaderIdAndEpoch(
                            leader_id=log.leader, leader_epoch=log.leader_epoch
                        )
                elif self.refusals:
                    answer.error_code = self.refusals.pop(0)
                else:
                    answer.error_code, answer.base_offset = log.append(data.records)
                answers.append(answer)
            responses.append(
                produce.TopicProduceResponse(name=topic.name, partition_responses=answers)
            )
        return produce.ProduceResponse(responses=responses)

    def _ListOffsetsRequest(self, broker: int, request: Any) -> Any:  # noqa: N802
        topics = []
        for topic in request.topics:
            answers = []
            for asked in topic.partitions:
                log = self.logs[TopicPartition(topic.name, asked.partition_index)]
                answer = list_offsets.ListOffsetsPartitionResponse(
                    partition_index=asked.partition_index
                )
                if log.leader != broker:
                    answer.error_code = ErrorCode.NOT_LEADER_OR_FOLLOWER
                elif asked.timestamp == -1:
                    answer.offset = log.end_offset
                elif asked.timestamp == -2:
                    answer.offset = log.log_start_offset
                else:
                    later = [r.offset for r in log.records() if r.timestamp >= asked.timestamp]
                    answer.offset = min(later, default=-1)
                answers.append(answer)
            topics.append(
                list_offsets.ListOffsetsTopicResponse(name=topic.name, partitions=answers)
            )
        return list_offsets.ListOffsetsResponse(topics=topics)

    def _FetchRequest(self, broker: int, request: Any) -> Any:  # noqa: N802
        responses = []
        for topic in request.topics:
            partitions = []
            for asked in topic.partitions:
                log = self.logs[TopicPartition(topic.topic, asked.partition)]
                data = fetch.PartitionData(partition_index=asked.partition)
                if log.leader != broker:
                    data.error_code = ErrorCode.NOT_LEADER_OR_FOLLOWER
                elif not log.log_start_offset <= asked.fetch_offset <= log.end_offset:
                    data.error_code = ErrorCode.OFFSET_OUT_OF_RANGE
                else:
                    data.high_watermark = log.end_offset
                    wanted = (
                        batch
                        for batch in log.batches
                        if read_header(batch).last_offset >= asked.fetch_offset
                    )
                    data.records = bytes(next(wanted, b""))
                partitions.append(data)
            responses.append(fetch.FetchableTopicResponse(topic=topic.topic, partitions=partitions))
        if not any(data.records or data.error_code for r in responses for data in r.partitions):
            self.now_ms += request.max_wait_ms
        return fetch.FetchResponse(responses=responses)
