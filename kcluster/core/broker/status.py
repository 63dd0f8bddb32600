"""What a broker tells of itself to whoever watches: its replicas, and the image that it holds."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kcluster.core.metadata import records
from kcluster.core.turn import Received, Turn
from kcluster.wire import bus

if TYPE_CHECKING:
    from kcluster.core.broker.broker import BrokerCore


def describe_replicas(
    broker: BrokerCore, message: bus.DescribeReplicas, received: Received, turn: Turn
) -> None:
    replicas = broker.replica_set
    told = bus.Replicas(
        message.request, broker.broker_id, broker.epoch, replicas.describe(), replicas.notices
    )
    turn.send(received.source, told)


def describe_image(
    broker: BrokerCore, message: bus.DescribeImage, received: Received, turn: Turn
) -> None:
    image = broker.image
    turn.send(
        received.source,
        bus.Image(message.request, image.next_offset),
        [records.encode_all(image.records())],
    )
