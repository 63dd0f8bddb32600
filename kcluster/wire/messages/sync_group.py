"""SyncGroup (14): hand in the assignment (the leader), and get one's own.

Versions 0-5, flexible from 4.

  3   group_instance_id (KIP-345)
  5   protocol type and name, checked and echoed (KIP-559)

Sources: KIP-345, KIP-559.
"""

from __future__ import annotations

from typing import Annotated, ClassVar

from kcluster.wire.plan import Message, Struct
from kcluster.wire.types import Bytes, Int16, Int32, String, versions


class SyncGroupRequestAssignment(Struct):
    member_id: Annotated[String, versions("0+")] = ""
    assignment: Annotated[Bytes, versions("0+")] = b""


class SyncGroupRequest(Message):
    KEY: ClassVar[int] = 14
    VERSIONS: ClassVar[str] = "0-5"
    FLEXIBLE: ClassVar[str] = "4+"

    group_id: Annotated[String, versions("0+")] = ""
    generation_id: Annotated[Int32, versions("0+")] = 0
    member_id: Annotated[String, versions("0+")] = ""
    group_instance_id: Annotated[String | None, versions("3+", nullable="3+")] = None
    protocol_type: Annotated[String | None, versions("5+", nullable="5+")] = None
    protocol_name: Annotated[String | None, versions("5+", nullable="5+")] = None
    assignments: Annotated[list[SyncGroupRequestAssignment], versions("0+")] = []


class SyncGroupResponse(Message):
    KEY: ClassVar[int] = 14
    VERSIONS: ClassVar[str] = "0-5"
    FLEXIBLE: ClassVar[str] = "4+"

    throttle_time_ms: Annotated[Int32, versions("1+")] = 0
    error_code: Annotated[Int16, versions("0+")] = 0
    protocol_type: Annotated[String | None, versions("5+", nullable="5+")] = None
    protocol_name: Annotated[String | None, versions("5+", nullable="5+")] = None
    assignment: Annotated[Bytes, versions("0+")] = b""
