"""Which file decides which API, and how a forwarded body becomes an answer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from kcluster.core.controller.handlers import (
    alter_client_quotas,
    alter_configs,
    alter_partition_reassignments,
    create_partitions,
    create_topics,
    delete_topics,
    describe_quorum,
    elect_leaders,
    incremental_alter_configs,
    unregister_broker,
    update_features,
)
from kcluster.core.controller.topics import Deciding
from kcluster.core.turn import Buffer
from kcluster.errors import ApiError, ErrorCode, RemoteProtocolError
from kcluster.wire.apis import (
    ALTER_CLIENT_QUOTAS,
    ALTER_CONFIGS,
    ALTER_PARTITION_REASSIGNMENTS,
    APIS,
    CREATE_PARTITIONS,
    CREATE_TOPICS,
    DELETE_TOPICS,
    DESCRIBE_QUORUM,
    ELECT_LEADERS,
    INCREMENTAL_ALTER_CONFIGS,
    UNREGISTER_BROKER,
    UPDATE_FEATURES,
)
from kcluster.wire.message import decode, encode

HANDLERS: dict[int, Callable[[Deciding, Any, int], Any]] = {
    ALTER_CLIENT_QUOTAS: alter_client_quotas.decide,
    ALTER_CONFIGS: alter_configs.decide,
    ALTER_PARTITION_REASSIGNMENTS: alter_partition_reassignments.decide,
    CREATE_PARTITIONS: create_partitions.decide,
    CREATE_TOPICS: create_topics.decide,
    DELETE_TOPICS: delete_topics.decide,
    DESCRIBE_QUORUM: describe_quorum.decide,
    ELECT_LEADERS: elect_leaders.decide,
    INCREMENTAL_ALTER_CONFIGS: incremental_alter_configs.decide,
    UNREGISTER_BROKER: unregister_broker.decide,
    UPDATE_FEATURES: update_features.decide,
}
"""By API key. The request is of the API's class, and so is what comes back."""


def answer(deciding: Deciding, api_key: int, api_version: int, body: Buffer) -> bytes:
    """The response body. Raises ApiError when there can be none: the broker answers then."""
    handler = HANDLERS.get(api_key)
    if handler is None or not APIS[api_key].serves(api_version):
        raise ApiError(
            ErrorCode.UNSUPPORTED_VERSION, f"version {api_version} of API {api_key} is not served"
        )
    try:
        request = decode(APIS[api_key].request, body, api_version)
    except RemoteProtocolError as error:
        raise ApiError(ErrorCode.INVALID_REQUEST, str(error)) from error
    return encode(handler(deciding, request, api_version), api_version)
