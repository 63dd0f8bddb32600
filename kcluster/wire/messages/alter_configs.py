"""AlterConfigs (33): replace all dynamic configs of a resource; what is not named is reset.

Versions 0-2, flexible from 2. Decided by the controller. Deprecated in favour of
IncrementalAlterConfigs, and still what some clients send.

Sources: KIP-133, KIP-339.
"""

from __future__ import annotations

from typing import Annotated, ClassVar

from kcluster.wire.plan import Message, Struct
from kcluster.wire.types import Bool, Int8, Int16, Int32, String, versions


class AlterableConfig(Struct):
    name: Annotated[String, versions("0+")] = ""
    value: Annotated[String | None, versions("0+", nullable="0+")] = ""


class AlterConfigsResource(Struct):
    resource_type: Annotated[Int8, versions("0+")] = 0
    resource_name: Annotated[String, versions("0+")] = ""
    configs: Annotated[list[AlterableConfig], versions("0+")] = []


class AlterConfigsRequest(Message):
    KEY: ClassVar[int] = 33
    VERSIONS: ClassVar[str] = "0-2"
    FLEXIBLE: ClassVar[str] = "2+"

    resources: Annotated[list[AlterConfigsResource], versions("0+")] = []
    validate_only: Annotated[Bool, versions("0+")] = False


class AlterConfigsResourceResponse(Struct):
    error_code: Annotated[Int16, versions("0+")] = 0
    error_message: Annotated[String | None, versions("0+", nullable="0+")] = ""
    resource_type: Annotated[Int8, versions("0+")] = 0
    resource_name: Annotated[String, versions("0+")] = ""


class AlterConfigsResponse(Message):
    KEY: ClassVar[int] = 33
    VERSIONS: ClassVar[str] = "0-2"
    FLEXIBLE: ClassVar[str] = "2+"

    throttle_time_ms: Annotated[Int32, versions("0+")] = 0
    responses: Annotated[list[AlterConfigsResourceResponse], versions("0+")] = []
