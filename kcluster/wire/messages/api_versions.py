"""ApiVersions (18): which requests the broker takes, in which versions.

Versions 0-4, flexible from 3.

The first request of nearly every client, so both ends must understand each other before they
know each other: the response header is v0 even where the body is flexible, and a version the
broker does not have is answered with a v0 body, UNSUPPORTED_VERSION and its own range.

  3   the client's name and version (KIP-511); features (KIP-584)
  4   features may have a lowest version of 0; below v4 such features are left out

Sources: KIP-35, KIP-511, KIP-584, KIP-1022.
"""

from __future__ import annotations

from typing import Annotated, ClassVar

from kcluster.wire.plan import Message, Struct
from kcluster.wire.types import Bool, Int16, Int32, Int64, String, versions


class ApiVersionsRequest(Message):
    KEY: ClassVar[int] = 18
    VERSIONS: ClassVar[str] = "0-4"
    FLEXIBLE: ClassVar[str] = "3+"

    client_software_name: Annotated[String, versions("3+")] = ""
    client_software_version: Annotated[String, versions("3+")] = ""


class ApiVersion(Struct):
    api_key: Annotated[Int16, versions("0+")] = 0
    min_version: Annotated[Int16, versions("0+")] = 0
    max_version: Annotated[Int16, versions("0+")] = 0


class SupportedFeatureKey(Struct):
    name: Annotated[String, versions("3+")] = ""
    min_version: Annotated[Int16, versions("3+")] = 0
    max_version: Annotated[Int16, versions("3+")] = 0


class FinalizedFeatureKey(Struct):
    name: Annotated[String, versions("3+")] = ""
    max_version_level: Annotated[Int16, versions("3+")] = 0
    min_version_level: Annotated[Int16, versions("3+")] = 0


class ApiVersionsResponse(Message):
    KEY: ClassVar[int] = 18
    VERSIONS: ClassVar[str] = "0-4"
    FLEXIBLE: ClassVar[str] = "3+"

    error_code: Annotated[Int16, versions("0+")] = 0
    api_keys: Annotated[list[ApiVersion], versions("0+")] = []
    throttle_time_ms: Annotated[Int32, versions("1+")] = 0
    supported_features: Annotated[
        list[SupportedFeatureKey], versions("3+", tag=0, tagged="3+")
    ] = []
    finalized_features_epoch: Annotated[Int64, versions("3+", tag=1, tagged="3+")] = -1
    """Rises with every change; -1 when unknown."""
    finalized_features: Annotated[
        list[FinalizedFeatureKey], versions("3+", tag=2, tagged="3+")
    ] = []
    zk_migration_ready: Annotated[Bool, versions("3+", tag=3, tagged="3+")] = False
