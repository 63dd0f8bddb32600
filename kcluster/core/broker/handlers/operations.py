"""What several read-side handlers say alike: the advertised controller, permitted operations.

Nothing is forbidden here, so the permitted operations are all that a resource has: a bit field
over Kafka's `AclOperation` codes (KIP-430), as Kafka answers without an authorizer.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from kcluster.core.broker.broker import BrokerCore

NOT_ASKED: Final = -(2**31)
"""What the field holds when the client did not ask for it."""

_READ, _WRITE, _CREATE, _DELETE, _ALTER, _DESCRIBE, _CLUSTER_ACTION = range(3, 10)
_DESCRIBE_CONFIGS, _ALTER_CONFIGS, _IDEMPOTENT_WRITE = range(10, 13)


def _bits(*operations: int) -> int:
    return sum(1 << operation for operation in operations)


_TOPIC = _bits(
    _READ, _WRITE, _CREATE, _DELETE, _ALTER, _DESCRIBE, _DESCRIBE_CONFIGS, _ALTER_CONFIGS
)
_GROUP = _bits(_READ, _DELETE, _DESCRIBE, _DESCRIBE_CONFIGS, _ALTER_CONFIGS)
_CLUSTER = _bits(
    _CREATE,
    _ALTER,
    _DESCRIBE,
    _CLUSTER_ACTION,
    _DESCRIBE_CONFIGS,
    _ALTER_CONFIGS,
    _IDEMPOTENT_WRITE,
)


def topic_operations(is_asked: bool) -> int:
    return _TOPIC if is_asked else NOT_ASKED


def group_operations(is_asked: bool) -> int:
    return _GROUP if is_asked else NOT_ASKED


def cluster_operations(is_asked: bool) -> int:
    return _CLUSTER if is_asked else NOT_ASKED


def advertised_controller(broker: BrokerCore) -> int:
    """The broker to send CreateTopics to: any live one forwards it (KIP-590). This one, where
    the client is connected already; another when this one is fenced; -1 when none lives."""
    image = broker.image
    if image.is_alive(broker.broker_id):
        return broker.broker_id
    alive = image.alive()
    return alive[0].id if alive else -1
