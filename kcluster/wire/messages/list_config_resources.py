"""ListConfigResources (74): the resources that have configs of their own.

Versions 0-1, flexible from 0.

  1   types: all, or those named (KIP-1142)

Sources: KIP-714, KIP-1142.
"""

from __future__ import annotations

from typing import Annotated, ClassVar

from kcluster.wire.plan import Message, Struct
from kcluster.wire.types import Int8, Int16, Int32, String, versions


class ListConfigResourcesRequest(Message):
    KEY: ClassVar[int] = 74
    VERSIONS: ClassVar[str] = "0-1"
    FLEXIBLE: ClassVar[str] = "0+"

    resource_types: Annotated[list[Int8], versions("1+")] = []


class ConfigResource(Struct):
    resource_name: Annotated[String, versions("0+")] = ""
    resource_type: Annotated[Int8, versions("1+")] = 16


class ListConfigResourcesResponse(Message):
    KEY: ClassVar[int] = 74
    VERSIONS: ClassVar[str] = "0-1"
    FLEXIBLE: ClassVar[str] = "0+"

    throttle_time_ms: Annotated[Int32, versions("0+")] = 0
    error_code: Annotated[Int16, versions("0+")] = 0
    config_resources: Annotated[list[ConfigResource], versions("0+")] = []
