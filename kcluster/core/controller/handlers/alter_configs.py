"""AlterConfigs (33), versions 0-2: replaces all overrides of a resource by those given.

Superseded by IncrementalAlterConfigs, because what a client does not name is lost; older
clients still send it. A resource that a request names twice is refused.
"""

from __future__ import annotations

from collections import Counter

from kcluster.core.controller.topics import (
    Deciding,
    change_configs,
    check_config,
    check_resource,
)
from kcluster.errors import ApiError, ErrorCode
from kcluster.wire.messages.alter_configs import (
    AlterConfigsRequest,
    AlterConfigsResource,
    AlterConfigsResourceResponse,
    AlterConfigsResponse,
)


def decide(deciding: Deciding, request: AlterConfigsRequest, version: int) -> AlterConfigsResponse:
    times = Counter((entry.resource_type, entry.resource_name) for entry in request.resources)
    responses = []
    for entry in request.resources:
        response = AlterConfigsResourceResponse(
            resource_type=entry.resource_type,
            resource_name=entry.resource_name,
            error_message=None,
        )
        try:
            if times[entry.resource_type, entry.resource_name] > 1:
                raise ApiError(ErrorCode.INVALID_REQUEST, "The resource is named more than once.")
            changes = _changes(deciding, entry)
            if not request.validate_only:
                change_configs(deciding, entry.resource_type, entry.resource_name, changes)
        except ApiError as error:
            response.error_code, response.error_message = error.code, error.message
        responses.append(response)
    return AlterConfigsResponse(responses=responses)


def _changes(deciding: Deciding, entry: AlterConfigsResource) -> dict[str, str | None]:
    resource, name = entry.resource_type, entry.resource_name
    check_resource(deciding.image, resource, name)
    changes: dict[str, str | None] = dict.fromkeys(deciding.image.overrides(resource, name))
    given = set()
    for config in entry.configs:
        if config.name in given:
            raise ApiError(ErrorCode.INVALID_CONFIG, f"{config.name} is given twice")
        given.add(config.name)
        changes[config.name] = check_config(resource, name, config.name, config.value)
    return changes
