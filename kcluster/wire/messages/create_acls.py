"""CreateAcls (30): access control lists, which kcluster does not have.

Versions 1-3, flexible from 2.

  1   pattern types (KIP-290)
  3   user resources (KIP-373)

Sources: KIP-140, KIP-290.
"""

from __future__ import annotations

from typing import Annotated, ClassVar

from kcluster.wire.plan import Message, Struct
from kcluster.wire.types import Int8, Int16, Int32, String, versions


class AclCreation(Struct):
    resource_type: Annotated[Int8, versions("0+")] = 0
    resource_name: Annotated[String, versions("0+")] = ""
    resource_pattern_type: Annotated[Int8, versions("1+")] = 3
    principal: Annotated[String, versions("0+")] = ""
    host: Annotated[String, versions("0+")] = ""
    operation: Annotated[Int8, versions("0+")] = 0
    permission_type: Annotated[Int8, versions("0+")] = 0


class CreateAclsRequest(Message):
    KEY: ClassVar[int] = 30
    VERSIONS: ClassVar[str] = "1-3"
    FLEXIBLE: ClassVar[str] = "2+"

    creations: Annotated[list[AclCreation], versions("0+")] = []


class AclCreationResult(Struct):
    error_code: Annotated[Int16, versions("0+")] = 0
    error_message: Annotated[String | None, versions("0+", nullable="0+")] = ""


class CreateAclsResponse(Message):
    KEY: ClassVar[int] = 30
    VERSIONS: ClassVar[str] = "1-3"
    FLEXIBLE: ClassVar[str] = "2+"

    throttle_time_ms: Annotated[Int32, versions("0+")] = 0
    results: Annotated[list[AclCreationResult], versions("0+")] = []
