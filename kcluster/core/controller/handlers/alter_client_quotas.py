"""AlterClientQuotas (49), versions 0-1: set and remove quotas of users and client ids (KIP-546).

Each entity is changed whole or not at all; one that is named twice is refused, and so is a key
that is. Byte rates are whole numbers.

Refused with the reason, though Kafka knows them: entities of type `ip`, `controller_mutation_rate`,
and rates that are not above zero, by which Kafka divides.
"""

from __future__ import annotations

import math
from collections import Counter

from kcluster.core.controller.topics import Deciding
from kcluster.core.metadata import records as r
from kcluster.core.metadata.quotas import (
    CLIENT_ID,
    IP,
    NOT_HONOURED,
    USER,
    WHOLE_NUMBERS,
    Entity,
)
from kcluster.errors import ApiError, ErrorCode
from kcluster.limits import LIMITS
from kcluster.wire.messages import alter_client_quotas_request as asked
from kcluster.wire.messages.alter_client_quotas import AlterClientQuotasResponse, EntryData

WHOLE_WITHIN = 1e-6
"""How far from a whole number a byte rate may be."""


def decide(
    deciding: Deciding, request: asked.AlterClientQuotasRequest, version: int
) -> AlterClientQuotasResponse:
    times = Counter(_sorted(entry.entity) for entry in request.entries)
    results = []
    for entry in request.entries:
        result = EntryData(entity=entry.entity, error_message=None)
        try:
            if times[_sorted(entry.entity)] > 1:
                raise _invalid("an entity is named twice.")
            _alter(deciding, entry, validate_only=request.validate_only)
        except ApiError as error:
            result.error_code, result.error_message = error.code, error.message
        results.append(result)
    return AlterClientQuotasResponse(entries=results)


def _alter(deciding: Deciding, entry: asked.EntryData, *, validate_only: bool) -> None:
    entity = _entity(entry.entity)
    changes: dict[str, float | None] = {}
    for op in entry.ops:
        if op.key in changes:
            raise _invalid(f"{op.key} is named twice.")
        changes[op.key] = None if op.remove else _value(op)
    quotas = deciding.image.quotas
    adds = any(value is not None for value in changes.values())
    if adds and entity not in quotas and len(quotas) >= LIMITS.quota_entities:
        raise _invalid(f"{len(quotas)} entities have quotas, and no more are kept.")
    if validate_only:
        return
    present = dict(quotas.get(entity, {}))
    for key, value in sorted(changes.items()):
        if present.get(key) != value:
            deciding.decision.add(r.QuotaChanged(entity, key, value))


def _entity(parts: list[asked.EntityData]) -> Entity:
    if not parts:
        raise _invalid("an entity names nobody.")
    kinds = [part.entity_type for part in parts]
    for part in parts:
        kind = part.entity_type
        if kind == IP:
            raise _invalid(
                f"Quotas of an ip are refused: {NOT_HONOURED['connection_creation_rate']}."
            )
        if kind not in (USER, CLIENT_ID):
            raise _invalid(f"nothing of type {kind} has quotas.")
        if kinds.count(kind) > 1:
            raise _invalid(f"an entity has two of type {kind}.")
        if part.entity_name == "":
            raise _invalid(f"a {kind} without a name; null is the default.")
    return _sorted(parts)


def _sorted(parts: list[asked.EntityData]) -> Entity:
    return tuple(sorted(((part.entity_type, part.entity_name) for part in parts), key=str))


def _value(op: asked.OpData) -> float:
    key, value = op.key, op.value
    if key in NOT_HONOURED:
        raise _invalid(f"{key} is refused: {NOT_HONOURED[key]}.")
    if key not in WHOLE_NUMBERS:
        raise _invalid(f"there is no quota {key}.")
    if not math.isfinite(value) or value <= 0:
        raise _invalid(f"{key} must be above 0, not {value:g}.")
    if WHOLE_NUMBERS[key] and abs(round(value) - value) > WHOLE_WITHIN:
        raise _invalid(f"{key} is a whole number, not {value:g}.")
    return value


def _invalid(why: str) -> ApiError:
    return ApiError(ErrorCode.INVALID_REQUEST, why)
