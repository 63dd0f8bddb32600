"""IncrementalAlterConfigs (44), versions 0-1: change single configs of topics and brokers.

Set, delete, append to a list, subtract from a list (KIP-339). A key that is named twice is
refused, with its resource.
"""

from __future__ import annotations

from kcluster.config import BROKER_KNOBS, TOPIC_KNOBS, Kind
from kcluster.core.controller.topics import Deciding, alter_each, check_config
from kcluster.core.metadata.image import TOPIC_RESOURCE
from kcluster.errors import ApiError, ErrorCode
from kcluster.wire.messages.incremental_alter_configs import (
    AlterableConfig,
    AlterConfigsResource,
    AlterConfigsResourceResponse,
    IncrementalAlterConfigsRequest,
    IncrementalAlterConfigsResponse,
)

_SET, _DELETE, _APPEND, _SUBTRACT = range(4)


def decide(
    deciding: Deciding, request: IncrementalAlterConfigsRequest, version: int
) -> IncrementalAlterConfigsResponse:
    return IncrementalAlterConfigsResponse(
        responses=alter_each(deciding, request, AlterConfigsResourceResponse, _changes)
    )


def _changes(deciding: Deciding, entry: AlterConfigsResource) -> dict[str, str | None]:
    resource, name = entry.resource_type, entry.resource_name
    changes: dict[str, str | None] = {}
    for config in entry.configs:
        if config.name in changes:
            raise ApiError(ErrorCode.INVALID_CONFIG, f"{config.name} is given twice")
        changes[config.name] = _value(deciding, resource, name, config)
    return changes


def _value(deciding: Deciding, resource: int, name: str, config: AlterableConfig) -> str | None:
    """The override afterwards; None for none."""
    match config.config_operation:
        case operation if operation == _SET:
            return check_config(resource, name, config.name, config.value)
        case operation if operation == _DELETE:
            return None
        case operation if operation in (_APPEND, _SUBTRACT):
            items = _list(deciding, resource, name, config)
            change = [item.strip() for item in (config.value or "").split(",") if item.strip()]
            if config.config_operation == _APPEND:
                items += [item for item in change if item not in items]
            else:
                items = [item for item in items if item not in change]
            return check_config(resource, name, config.name, ",".join(items))
    raise ApiError(
        ErrorCode.INVALID_REQUEST, f"There is no config operation {config.config_operation}."
    )


def _list(deciding: Deciding, resource: int, name: str, config: AlterableConfig) -> list[str]:
    """What a list config has now: its override, or what holds without one."""
    knob = (TOPIC_KNOBS if resource == TOPIC_RESOURCE else BROKER_KNOBS).get(config.name)
    if knob is None or knob.kind is not Kind.LIST or config.value is None:
        raise ApiError(
            ErrorCode.INVALID_CONFIG, f"{config.name} is no list: nothing to append or subtract"
        )
    overrides = deciding.image.overrides(resource, name)
    if resource == TOPIC_RESOURCE:
        value = deciding.settings.topic_text(config.name, overrides)
    else:
        value = overrides.get(config.name, deciding.settings.text(config.name))
    return [item.strip() for item in value.split(",") if item.strip()]
