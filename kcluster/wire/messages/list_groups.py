"""ListGroups (16): the groups that this broker coordinates.

Versions 0-5, flexible from 3.

  4   filter by state (KIP-518)
  5   filter by type (KIP-848)

Sources: KIP-518, KIP-848.
"""

from __future__ import annotations

from typing import Annotated, ClassVar

from kcluster.wire.plan import Message, Struct
from kcluster.wire.types import Int16, Int32, String, versions


class ListGroupsRequest(Message):
    KEY: ClassVar[int] = 16
    VERSIONS: ClassVar[str] = "0-5"
    FLEXIBLE: ClassVar[str] = "3+"

    states_filter: Annotated[list[String], versions("4+")] = []
    types_filter: Annotated[list[String], versions("5+")] = []


class ListedGroup(Struct):
    group_id: Annotated[String, versions("0+")] = ""
    protocol_type: Annotated[String, versions("0+")] = ""
    group_state: Annotated[String, versions("4+")] = ""
    group_type: Annotated[String, versions("5+")] = ""


class ListGroupsResponse(Message):
    KEY: ClassVar[int] = 16
    VERSIONS: ClassVar[str] = "0-5"
    FLEXIBLE: ClassVar[str] = "3+"

    throttle_time_ms: Annotated[Int32, versions("1+")] = 0
    error_code: Annotated[Int16, versions("0+")] = 0
    groups: Annotated[list[ListedGroup], versions("0+")] = []
