"""DeleteGroups (42): delete groups without members, with their offsets.

Versions 0-2, flexible from 2.

Source: KIP-229.
"""

from __future__ import annotations

from typing import Annotated, ClassVar

from kcluster.wire.plan import Message, Struct
from kcluster.wire.types import Int16, Int32, String, versions


class DeleteGroupsRequest(Message):
    KEY: ClassVar[int] = 42
    VERSIONS: ClassVar[str] = "0-2"
    FLEXIBLE: ClassVar[str] = "2+"

    groups_names: Annotated[list[String], versions("0+")] = []


class DeletableGroupResult(Struct):
    group_id: Annotated[String, versions("0+")] = ""
    error_code: Annotated[Int16, versions("0+")] = 0


class DeleteGroupsResponse(Message):
    KEY: ClassVar[int] = 42
    VERSIONS: ClassVar[str] = "0-2"
    FLEXIBLE: ClassVar[str] = "2+"

    throttle_time_ms: Annotated[Int32, versions("0+")] = 0
    results: Annotated[list[DeletableGroupResult], versions("0+")] = []
