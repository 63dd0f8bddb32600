"""AlterConfigs (33), versions 0-2: replaces all overrides of a resource by those given.

Superseded by IncrementalAlterConfigs, because what a client does not name is lost; older
clients still send it.
"""

from __future__ import annotations

from kcluster.core.controller.topics import Deciding, alter_each, check_config
from kcluster.errors import ApiError, ErrorCode
from kcluster.wire.messages.alter_configs import (
    AlterConfigsRequest,
    AlterConfigsResource,
    AlterConfigsResourceResponse,
    AlterConfigsResponse,
)


def decide(deciding: Deciding, request: AlterConfigsRequest, version: int) -> AlterConfigsResponse:
    return AlterConfigsResponse(
        responses=alter_each(deciding, request, AlterConfigsResourceResponse, _changes)
    )


def _changes(deciding: Deciding, entry: AlterConfigsResource) -> dict[str, str | None]:
    resource, name = entry.resource_type, entry.resource_name
    changes: dict[str, str | None] = dict.fromkeys(deciding.image.overrides(resource, name))
    given = set()
    for config in entry.configs:
        if config.name in given:
            raise ApiError(ErrorCode.INVALID_CONFIG, f"{config.name} is given twice")
        given.add(config.name)
        changes[config.name] = check_config(resource, name, config.name, config.value)
    return changes
