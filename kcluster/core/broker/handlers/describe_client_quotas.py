"""DescribeClientQuotas (key 48): the quotas whose entities match a filter (KIP-546).

Each component of the filter speaks of one type: this name, the default, or either. An entity
matches when all components do; a strict filter wants no other types in it, so that one without
components matches nothing. The type `ip` is known and nothing is ever set for it; others are
UNSUPPORTED_VERSION, as in Kafka.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from kcluster.core.metadata.quotas import CLIENT_ID, IP, USER, Entity
from kcluster.errors import ApiError, ErrorCode
from kcluster.wire.messages.describe_client_quotas import (
    ComponentData,
    DescribeClientQuotasRequest,
    DescribeClientQuotasResponse,
    EntityData,
    EntryData,
    ValueData,
)

if TYPE_CHECKING:
    from kcluster.core.broker.broker import BrokerCore
    from kcluster.core.broker.connections import Call
    from kcluster.core.turn import Turn

EXACT: Final = 0
DEFAULT: Final = 1
SPECIFIED: Final = 2


def handle(
    broker: BrokerCore, call: Call, request: DescribeClientQuotasRequest, turn: Turn
) -> DescribeClientQuotasResponse:
    try:
        _check(request.components)
    except ApiError as error:
        return DescribeClientQuotasResponse(
            error_code=error.code, error_message=error.message, entries=None
        )
    return DescribeClientQuotasResponse(
        error_message=None,
        entries=[
            EntryData(
                entity=[EntityData(entity_type=kind, entity_name=name) for kind, name in entity],
                values=[ValueData(key=key, value=value) for key, value in sorted(quotas.items())],
            )
            for entity, quotas in broker.image.quotas.items()
            if _matches(entity, request)
        ],
    )


def _check(components: Sequence[ComponentData]) -> None:
    """Raises ApiError for a filter that says nothing."""
    kinds = [component.entity_type for component in components]
    for component in components:
        kind = component.entity_type
        if not kind:
            raise ApiError(ErrorCode.INVALID_REQUEST, "an entity type without a name.")
        if kinds.count(kind) > 1:
            raise ApiError(
                ErrorCode.INVALID_REQUEST,
                f"the filter names {kind} twice.",
            )
        if kind not in (USER, CLIENT_ID, IP):
            raise ApiError(ErrorCode.UNSUPPORTED_VERSION, f"nothing of type {kind} has quotas.")
        if component.match_type not in (EXACT, DEFAULT, SPECIFIED):
            raise ApiError(
                ErrorCode.INVALID_REQUEST, f"there is no match type {component.match_type}."
            )
        if (component.match is not None) != (component.match_type == EXACT):
            raise ApiError(
                ErrorCode.INVALID_REQUEST,
                f"Match type {component.match_type} of {kind} comes "
                f"{'without' if component.match is None else 'with'} a name.",
            )
    if IP in kinds and len(kinds) > 1:
        raise ApiError(
            ErrorCode.INVALID_REQUEST, "A filter by ip cannot be one by user or client id as well."
        )


def _matches(entity: Entity, request: DescribeClientQuotasRequest) -> bool:
    names = dict(entity)
    components = request.components
    if request.strict and len(components) != len(names):
        return False
    if not components:
        return not request.strict
    return all(
        component.entity_type in names
        and (component.match_type == SPECIFIED or names[component.entity_type] == component.match)
        for component in components
    )
