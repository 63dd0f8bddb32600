"""DescribeProducers (key 61): the producers that a partition's log remembers (KIP-664).

Version 0. Any replica may be asked, as in Kafka: `DescribeProducersOptions.brokerId` compares
them, and a client that names no broker asks the leader. A producer is remembered until
`producer.id.expiration.ms` after its last batch, or until its records are deleted.

Gap: there are no transactions, so that none is ever open (-1), nor is there a coordinator's
epoch (-1).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from kcluster.core.broker.handlers import leadership
from kcluster.errors import ApiError, ErrorCode
from kcluster.model import TopicPartition
from kcluster.wire.messages.describe_producers import (
    DescribeProducersRequest,
    DescribeProducersResponse,
    PartitionResponse,
    ProducerState,
    TopicResponse,
)

if TYPE_CHECKING:
    from kcluster.core.broker.broker import BrokerCore
    from kcluster.core.broker.connections import Call
    from kcluster.core.turn import Turn

NONE: Final = -1


def handle(
    broker: BrokerCore, call: Call, request: DescribeProducersRequest, turn: Turn
) -> DescribeProducersResponse:
    return DescribeProducersResponse(
        topics=[
            TopicResponse(
                name=topic.name,
                partitions=[
                    _partition(broker, TopicPartition(topic.name, index))
                    for index in topic.partition_indexes
                ],
            )
            for topic in request.topics
        ]
    )


def _partition(broker: BrokerCore, tp: TopicPartition) -> PartitionResponse:
    part = PartitionResponse(partition_index=tp.partition, active_producers=[])
    try:
        part.active_producers = _producers(broker, tp)
    except ApiError as error:
        part.error_code, part.error_message = error.code, error.message
    return part


def _producers(broker: BrokerCore, tp: TopicPartition) -> list[ProducerState]:
    replica = broker.replicas.get(tp)
    if replica is None:
        raise ApiError(leadership.why_not_here(broker, tp.topic, tp.partition))
    if replica.offline:
        raise ApiError(ErrorCode.KAFKA_STORAGE_ERROR, replica.offline)
    return [
        ProducerState(
            producer_id=producer_id,
            producer_epoch=epoch,
            last_sequence=last_sequence,
            last_timestamp=timestamp,
            coordinator_epoch=NONE,
            current_txn_start_offset=NONE,
        )
        for producer_id, (epoch, batches) in replica.log.producers.view().items()
        for _, last_sequence, _, _, timestamp in batches[-1:]
    ]
