"""Our own client: of kcluster's clusters by name over ZeroMQ, of any Kafka by address over TCP.

    from kcluster.client import Producer, Consumer, Admin

    with Producer("localhost:19092") as producer:
        producer.send("orders", b"...", key=b"user-7")

    with Consumer("localhost:19092", "orders", group="billing") as consumer:
        for record in consumer:
            ...

    with Admin(cluster="dev") as admin:
        admin.create_topic("orders", partitions=6)

AsyncProducer, AsyncConsumer and AsyncAdmin are the same cores in an event loop. How a record goes:

    producer, consumer, admin, asynchronous   the faces; `faces` is what they share
    core.client                               batching, positions, membership, retries: no socket
    driver                                    frames out, answers in, the clock
    over_bus, over_tcp                        ways to the brokers; `connect` chooses

The rest of this room is for commands and the screen: `control` asks the supervisor, `snapshot` and
`watch` tell the state of a cluster, `verify` and `dump` read its files.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from kcluster.client.admin import Admin
    from kcluster.client.asynchronous import AsyncAdmin, AsyncConsumer, AsyncProducer
    from kcluster.client.consumer import Consumer
    from kcluster.client.producer import Producer
    from kcluster.core.client.consumer import Consumed, ConsumerSettings
    from kcluster.core.client.membership import MembershipSettings
    from kcluster.core.client.places import From, Place
    from kcluster.core.client.producer import Delivered, Delivery, Failed, ProducerSettings
    from kcluster.errors import ApiError, ErrorCode
    from kcluster.model import TopicPartition

__all__ = [
    "Admin", "ApiError", "AsyncAdmin", "AsyncConsumer", "AsyncProducer", "Consumed", "Consumer",
    "ConsumerSettings", "Delivered", "Delivery", "ErrorCode", "Failed", "From",
    "MembershipSettings", "Place", "Producer", "ProducerSettings", "TopicPartition",
]  # fmt: skip

_WHERE: Final = {
    "Admin": "kcluster.client.admin",
    "AsyncAdmin": "kcluster.client.asynchronous",
    "AsyncConsumer": "kcluster.client.asynchronous",
    "AsyncProducer": "kcluster.client.asynchronous",
    "Consumer": "kcluster.client.consumer",
    "Producer": "kcluster.client.producer",
    "Consumed": "kcluster.core.client.places",
    "From": "kcluster.core.client.places",
    "Place": "kcluster.core.client.places",
    "ConsumerSettings": "kcluster.core.client.consumer",
    "MembershipSettings": "kcluster.core.client.membership",
    "Delivered": "kcluster.core.client.deliveries",
    "Delivery": "kcluster.core.client.deliveries",
    "Failed": "kcluster.core.client.deliveries",
    "ProducerSettings": "kcluster.core.client.producer",
    "ApiError": "kcluster.errors",
    "ErrorCode": "kcluster.errors",
    "TopicPartition": "kcluster.model",
}
"""Imported when first named: a command that asks the supervisor pays for no producer."""


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    found = getattr(importlib.import_module(_WHERE[name]), name)
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return sorted(__all__)
