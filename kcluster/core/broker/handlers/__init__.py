"""One file per API key: `handle(broker, call, request, turn) -> response | None`.

A handler is found by its module's name and imported when the first request of its kind comes, so
that a broker pays at start only for what its clients use. None means "answered later" (by
`call.answer`) or "never" (acks=0, by `call.forget`).
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from kcluster.core.broker.broker import BrokerCore
    from kcluster.core.broker.connections import Call
    from kcluster.core.turn import Turn
    from kcluster.wire.message import Message

Handler = Callable[["BrokerCore", "Call", Any, "Turn"], "Message | None"]

HANDLERS: Final[dict[int, str]] = {
    0: "produce",
    1: "fetch",
    2: "list_offsets",
    3: "metadata",
    8: "offset_commit",
    9: "offset_fetch",
    10: "find_coordinator",
    11: "join_group",
    12: "heartbeat",
    13: "leave_group",
    14: "sync_group",
    15: "describe_groups",
    16: "list_groups",
    18: "api_versions",
    19: "forward",
    20: "forward",
    21: "delete_records",
    22: "init_producer_id",
    23: "offset_for_leader_epoch",
    29: "describe_acls",
    30: "create_acls",
    31: "delete_acls",
    32: "describe_configs",
    33: "forward",
    35: "describe_log_dirs",
    37: "forward",
    42: "delete_groups",
    43: "forward",
    44: "forward",
    45: "forward",
    46: "list_partition_reassignments",
    47: "offset_delete",
    48: "describe_client_quotas",
    49: "forward",
    55: "forward",
    57: "forward",
    60: "describe_cluster",
    61: "describe_producers",
    64: "forward",
    68: "consumer_group_heartbeat",
    69: "consumer_group_describe",
    74: "list_config_resources",
    75: "describe_topic_partitions",
}
"""API key -> module in this package. What is not here is not served."""

_found: dict[int, Handler] = {}


def handler_of(api_key: int) -> Handler | None:
    handler = _found.get(api_key)
    if handler is None and api_key in HANDLERS:
        module = importlib.import_module(f"{__name__}.{HANDLERS[api_key]}")
        handler = _found[api_key] = module.handle
    return handler
