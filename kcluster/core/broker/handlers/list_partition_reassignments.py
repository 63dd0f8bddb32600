"""ListPartitionReassignments (key 46): none, since a partition keeps the replicas it was made with.

Version 0. Java's TopicCommand asks at each `--describe`. Kafka leaves topics that do not exist out
of its answer, so that an empty one is true of whatever is named. Gap: reassignment (key 45).

Source: KIP-455.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from kcluster.wire.messages.list_partition_reassignments import (
    ListPartitionReassignmentsRequest,
    ListPartitionReassignmentsResponse,
)

if TYPE_CHECKING:
    from kcluster.core.broker.broker import BrokerCore
    from kcluster.core.broker.connections import Call
    from kcluster.core.turn import Turn


def handle(
    broker: BrokerCore, call: Call, request: ListPartitionReassignmentsRequest, turn: Turn
) -> ListPartitionReassignmentsResponse:
    return ListPartitionReassignmentsResponse(error_message=None, topics=[])
