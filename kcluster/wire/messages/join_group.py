"""JoinGroup (11): become a member of a group, or stay one in its next generation.

Versions 0-9, flexible from 6.

Answered when all members have joined. The leader's answer lists all members with what they
support; it assigns the partitions and hands them in by SyncGroup.

  1   rebalance_timeout_ms (KIP-62)
  4   a new member is told its id first, by MEMBER_ID_REQUIRED (KIP-394)
  5   group_instance_id: static members (KIP-345)
  7   protocol_type in the response (KIP-559)
  8   reason (KIP-800)
  9   skip_assignment (KIP-814)

Sources: KIP-62, KIP-345, KIP-394, KIP-559, KIP-800, KIP-814.
"""

from __future__ import annotations

from typing import Annotated, ClassVar

from kcluster.wire.plan import Message, Struct
from kcluster.wire.types import Bool, Bytes, Int16, Int32, String, versions


class JoinGroupRequestProtocol(Struct):
    name: Annotated[String, versions("0+")] = ""
    metadata: Annotated[Bytes, versions("0+")] = b""


class JoinGroupRequest(Message):
    KEY: ClassVar[int] = 11
    VERSIONS: ClassVar[str] = "0-9"
    FLEXIBLE: ClassVar[str] = "6+"

    group_id: Annotated[String, versions("0+")] = ""
    session_timeout_ms: Annotated[Int32, versions("0+")] = 0
    rebalance_timeout_ms: Annotated[Int32, versions("1+")] = -1
    member_id: Annotated[String, versions("0+")] = ""
    group_instance_id: Annotated[String | None, versions("5+", nullable="5+")] = None
    protocol_type: Annotated[String, versions("0+")] = ""
    protocols: Annotated[list[JoinGroupRequestProtocol], versions("0+")] = []
    reason: Annotated[String | None, versions("8+", nullable="8+")] = None


class JoinGroupResponseMember(Struct):
    member_id: Annotated[String, versions("0+")] = ""
    group_instance_id: Annotated[String | None, versions("5+", nullable="5+")] = None
    metadata: Annotated[Bytes, versions("0+")] = b""


class JoinGroupResponse(Message):
    KEY: ClassVar[int] = 11
    VERSIONS: ClassVar[str] = "0-9"
    FLEXIBLE: ClassVar[str] = "6+"

    throttle_time_ms: Annotated[Int32, versions("2+")] = 0
    error_code: Annotated[Int16, versions("0+")] = 0
    generation_id: Annotated[Int32, versions("0+")] = -1
    protocol_type: Annotated[String | None, versions("7+", nullable="7+")] = None
    protocol_name: Annotated[String | None, versions("0+", nullable="7+")] = ""
    leader: Annotated[String, versions("0+")] = ""
    skip_assignment: Annotated[Bool, versions("9+")] = False
    member_id: Annotated[String, versions("0+")] = ""
    members: Annotated[list[JoinGroupResponseMember], versions("0+")] = []
