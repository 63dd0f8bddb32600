"""UpdateFeatures (57): raise or lower finalized feature versions.

Versions 0-2, flexible from 0.

  1   upgrade types and dry runs (KIP-778)
  2   one error for all (KIP-1022)

Sources: KIP-584, KIP-778, KIP-1022.
"""

from __future__ import annotations

from typing import Annotated, ClassVar

from kcluster.wire.plan import Message, Struct
from kcluster.wire.types import Bool, Int8, Int16, Int32, String, versions


class FeatureUpdateKey(Struct):
    feature: Annotated[String, versions("0+")] = ""
    max_version_level: Annotated[Int16, versions("0+")] = 0
    allow_downgrade: Annotated[Bool, versions("0")] = False
    upgrade_type: Annotated[Int8, versions("1+")] = 1


class UpdateFeaturesRequest(Message):
    KEY: ClassVar[int] = 57
    VERSIONS: ClassVar[str] = "0-2"
    FLEXIBLE: ClassVar[str] = "0+"

    timeout_ms: Annotated[Int32, versions("0+")] = 60000
    feature_updates: Annotated[list[FeatureUpdateKey], versions("0+")] = []
    validate_only: Annotated[Bool, versions("1+")] = False


class UpdatableFeatureResult(Struct):
    feature: Annotated[String, versions("0+")] = ""
    error_code: Annotated[Int16, versions("0+")] = 0
    error_message: Annotated[String | None, versions("0+", nullable="0+")] = ""


class UpdateFeaturesResponse(Message):
    KEY: ClassVar[int] = 57
    VERSIONS: ClassVar[str] = "0-2"
    FLEXIBLE: ClassVar[str] = "0+"

    throttle_time_ms: Annotated[Int32, versions("0+")] = 0
    error_code: Annotated[Int16, versions("0+")] = 0
    error_message: Annotated[String | None, versions("0+", nullable="0+")] = ""
    results: Annotated[list[UpdatableFeatureResult], versions("0-1")] = []
