"""LeaveGroup (13): take members out of a group.

Versions 0-5, flexible from 4.

  3   many members at once, static ones by their instance id (KIP-345)
  5   reason (KIP-800)

Sources: KIP-345, KIP-800.
"""

from __future__ import annotations

from typing import Annotated, ClassVar

from kcluster.wire.plan import Message, Struct
from kcluster.wire.types import Int16, Int32, String, versions


class MemberIdentity(Struct):
    member_id: Annotated[String, versions("3+")] = ""
    group_instance_id: Annotated[String | None, versions("3+", nullable="3+")] = None
    reason: Annotated[String | None, versions("5+", nullable="5+")] = None


class LeaveGroupRequest(Message):
    KEY: ClassVar[int] = 13
    VERSIONS: ClassVar[str] = "0-5"
    FLEXIBLE: ClassVar[str] = "4+"

    group_id: Annotated[String, versions("0+")] = ""
    member_id: Annotated[String, versions("0-2")] = ""
    members: Annotated[list[MemberIdentity], versions("3+")] = []


class MemberResponse(Struct):
    member_id: Annotated[String, versions("3+")] = ""
    group_instance_id: Annotated[String | None, versions("3+", nullable="3+")] = ""
    error_code: Annotated[Int16, versions("3+")] = 0


class LeaveGroupResponse(Message):
    KEY: ClassVar[int] = 13
    VERSIONS: ClassVar[str] = "0-5"
    FLEXIBLE: ClassVar[str] = "4+"

    throttle_time_ms: Annotated[Int32, versions("1+")] = 0
    error_code: Annotated[Int16, versions("0+")] = 0
    members: Annotated[list[MemberResponse], versions("3+")] = []
