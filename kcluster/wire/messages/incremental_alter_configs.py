"""IncrementalAlterConfigs (44): change single configs of a resource.

Versions 0-1, flexible from 1. Decided by the controller.

Source: KIP-339.
"""

from __future__ import annotations

from typing import Annotated, ClassVar

from kcluster.wire.plan import Message, Struct
from kcluster.wire.types import Bool, Int8, Int16, Int32, String, versions


class AlterableConfig(Struct):
    name: Annotated[String, versions("0+")] = ""
    config_operation: Annotated[Int8, versions("0+")] = 0
    """0 set, 1 delete, 2 append to a list, 3 subtract from a list."""
    value: Annotated[String | None, versions("0+", nullable="0+")] = ""


class AlterConfigsResource(Struct):
    resource_type: Annotated[Int8, versions("0+")] = 0
    resource_name: Annotated[String, versions("0+")] = ""
    configs: Annotated[list[AlterableConfig], versions("0+")] = []


class IncrementalAlterConfigsRequest(Message):
    KEY: ClassVar[int] = 44
    VERSIONS: ClassVar[str] = "0-1"
    FLEXIBLE: ClassVar[str] = "1+"

    resources: Annotated[list[AlterConfigsResource], versions("0+")] = []
    validate_only: Annotated[Bool, versions("0+")] = False


class AlterConfigsResourceResponse(Struct):
    error_code: Annotated[Int16, versions("0+")] = 0
    error_message: Annotated[String | None, versions("0+", nullable="0+")] = ""
    resource_type: Annotated[Int8, versions("0+")] = 0
    resource_name: Annotated[String, versions("0+")] = ""


class IncrementalAlterConfigsResponse(Message):
    KEY: ClassVar[int] = 44
    VERSIONS: ClassVar[str] = "0-1"
    FLEXIBLE: ClassVar[str] = "1+"

    throttle_time_ms: Annotated[Int32, versions("0+")] = 0
    responses: Annotated[list[AlterConfigsResourceResponse], versions("0+")] = []
