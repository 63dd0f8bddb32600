"""UpdateFeatures (57), versions 0-2: raise or lower the levels of features, all or none of them.

A feature or level that this release does not have is INVALID_UPDATE_VERSION, as in Kafka, and so
is going down without saying so: `allow_downgrade` in version 0, upgrade type 2 (safe) or 3
(unsafe) later. Version 1 adds dry runs (KIP-778); up to version 1 each feature has a result of its
own, version 2 has one error for all (KIP-1022). What fails is in the error for all.

`metadata/features.py` says which there are.
"""

from __future__ import annotations

from kcluster.core.controller.topics import Deciding
from kcluster.core.metadata import records as r
from kcluster.core.metadata.features import SUPPORTED
from kcluster.errors import ApiError, ErrorCode
from kcluster.wire.messages.update_features import (
    FeatureUpdateKey,
    UpdatableFeatureResult,
    UpdateFeaturesRequest,
    UpdateFeaturesResponse,
)

_UPGRADE, _SAFE_DOWNGRADE, _UNSAFE_DOWNGRADE = 1, 2, 3


def decide(
    deciding: Deciding, request: UpdateFeaturesRequest, version: int
) -> UpdateFeaturesResponse:
    updates = request.feature_updates
    try:
        if len({update.feature for update in updates}) < len(updates):
            raise ApiError(ErrorCode.INVALID_REQUEST, "A feature is named more than once.")
        for update in updates:
            _check(deciding, update, version)
    except ApiError as error:
        return UpdateFeaturesResponse(
            error_code=error.code, error_message=error.message, results=[]
        )
    if not request.validate_only:
        for update in updates:
            if deciding.image.features.get(update.feature, 0) != update.max_version_level:
                deciding.decision.add(r.FeatureChanged(update.feature, update.max_version_level))
    return UpdateFeaturesResponse(
        error_message=None,
        results=[
            UpdatableFeatureResult(feature=update.feature, error_message=None) for update in updates
        ],
    )


def _check(deciding: Deciding, update: FeatureUpdateKey, version: int) -> None:
    """Raises ApiError."""
    name, level = update.feature, update.max_version_level
    if name not in SUPPORTED:
        raise ApiError(
            ErrorCode.INVALID_UPDATE_VERSION,
            f"kcluster does not have the feature {name}: "
            f"{', '.join(sorted(SUPPORTED)) or 'it has none'}.",
        )
    low, high = SUPPORTED[name]
    if level != 0 and not low <= level <= high:
        raise ApiError(
            ErrorCode.INVALID_UPDATE_VERSION, f"{name} has levels {low} to {high}, not {level}."
        )
    kind = update.upgrade_type
    if version == 0:
        kind = _SAFE_DOWNGRADE if update.allow_downgrade else _UPGRADE
    if kind not in (_UPGRADE, _SAFE_DOWNGRADE, _UNSAFE_DOWNGRADE):
        raise ApiError(ErrorCode.INVALID_REQUEST, f"There is no upgrade type {kind}.")
    present = deciding.image.features.get(name, 0)
    if level < present and kind == _UPGRADE:
        raise ApiError(
            ErrorCode.INVALID_UPDATE_VERSION,
            f"{name} is at level {present}: going down to {level} has to be asked for as such.",
        )
