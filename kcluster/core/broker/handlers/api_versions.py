"""ApiVersions (key 18): what this broker serves, asked first on every connection.

Versions 0-4. The response header is always version 0, and a version that we do not know is
answered with a body of version 0, error 35 and one entry, our range of this API, so that a
newer client can ask again (KIP-511). From version 3 on the client names its software. Features
are only those we have: a feature named here makes clients use it (KIP-584). Up to version 3
features whose lowest level is 0 are left out, older clients cannot read them (KAFKA-17011).
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from kcluster.core.metadata.features import SUPPORTED
from kcluster.errors import ErrorCode
from kcluster.wire.apis import API_VERSIONS, APIS
from kcluster.wire.messages.api_versions import (
    ApiVersion,
    ApiVersionsRequest,
    ApiVersionsResponse,
    FinalizedFeatureKey,
    SupportedFeatureKey,
)

if TYPE_CHECKING:
    from kcluster.core.broker.broker import BrokerCore
    from kcluster.core.broker.connections import Call
    from kcluster.core.turn import Turn

_SOFTWARE = re.compile(r"[a-zA-Z0-9](?:[a-zA-Z0-9\-.]*[a-zA-Z0-9])?\Z")


def handle(
    broker: BrokerCore, call: Call, request: ApiVersionsRequest, turn: Turn
) -> ApiVersionsResponse:
    version = call.header.api_version
    if not APIS[API_VERSIONS].serves(version):
        return unknown_version()
    if version >= 3 and not (
        _SOFTWARE.match(request.client_software_name)
        and _SOFTWARE.match(request.client_software_version)
    ):
        return ApiVersionsResponse(error_code=ErrorCode.INVALID_REQUEST)
    features = {name: levels for name, levels in SUPPORTED.items() if levels[0] > 0 or version > 3}
    return ApiVersionsResponse(
        api_keys=_api_keys(),
        supported_features=[
            SupportedFeatureKey(name=name, min_version=low, max_version=high)
            for name, (low, high) in sorted(features.items())
        ],
        # The end of the metadata log only rises, as this epoch must.
        finalized_features_epoch=broker.image.next_offset,
        finalized_features=[
            FinalizedFeatureKey(name=name, min_version_level=level, max_version_level=level)
            for name, level in sorted(broker.image.features.items())
            if name in SUPPORTED
        ],
    )


def unknown_version() -> ApiVersionsResponse:
    """For a client that asked in a version of the future; to be encoded in version 0."""
    low, high = APIS[API_VERSIONS].advertised
    return ApiVersionsResponse(
        error_code=ErrorCode.UNSUPPORTED_VERSION,
        api_keys=[ApiVersion(api_key=API_VERSIONS, min_version=low, max_version=high)],
    )


def _api_keys() -> list[ApiVersion]:
    return [
        ApiVersion(api_key=key, min_version=api.advertised[0], max_version=api.advertised[1])
        for key, api in sorted(APIS.items())
    ]
