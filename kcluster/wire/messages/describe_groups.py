"""DescribeGroups (15): state and members of classic groups.

Versions 0-6, flexible from 5.

  3   authorized operations (KIP-430)
  4   group_instance_id (KIP-345)
  6   error_message, and GROUP_ID_NOT_FOUND for what is not there (KIP-1043)

Sources: KIP-345, KIP-430, KIP-1043.
"""

from __future__ import annotations

from typing import Annotated, ClassVar

from kcluster.wire.plan import Message, Struct
from kcluster.wire.types import Bool, Bytes, Int16, Int32, String, versions


class DescribeGroupsRequest(Message):
    KEY: ClassVar[int] = 15
    VERSIONS: ClassVar[str] = "0-6"
    FLEXIBLE: ClassVar[str] = "5+"

    groups: Annotated[list[String], versions("0+")] = []
    include_authorized_operations: Annotated[Bool, versions("3+")] = False


class DescribedGroupMember(Struct):
    member_id: Annotated[String, versions("0+")] = ""
    group_instance_id: Annotated[String | None, versions("4+", nullable="4+")] = None
    client_id: Annotated[String, versions("0+")] = ""
    client_host: Annotated[String, versions("0+")] = ""
    member_metadata: Annotated[Bytes, versions("0+")] = b""
    member_assignment: Annotated[Bytes, versions("0+")] = b""


class DescribedGroup(Struct):
    error_code: Annotated[Int16, versions("0+")] = 0
    error_message: Annotated[String | None, versions("6+", nullable="6+")] = None
    group_id: Annotated[String, versions("0+")] = ""
    group_state: Annotated[String, versions("0+")] = ""
    protocol_type: Annotated[String, versions("0+")] = ""
    protocol_data: Annotated[String, versions("0+")] = ""
    members: Annotated[list[DescribedGroupMember], versions("0+")] = []
    authorized_operations: Annotated[Int32, versions("3+")] = -2147483648


class DescribeGroupsResponse(Message):
    KEY: ClassVar[int] = 15
    VERSIONS: ClassVar[str] = "0-6"
    FLEXIBLE: ClassVar[str] = "5+"

    throttle_time_ms: Annotated[Int32, versions("1+")] = 0
    groups: Annotated[list[DescribedGroup], versions("0+")] = []
