"""Heartbeat (12): a member of a group lives, and asks whether a rebalance is on.

Versions 0-4, flexible from 4.

  3   group_instance_id (KIP-345)

Sources: KIP-62, KIP-345.
"""

from __future__ import annotations

from typing import Annotated, ClassVar

from kcluster.wire.plan import Message
from kcluster.wire.types import Int16, Int32, String, versions


class HeartbeatRequest(Message):
    KEY: ClassVar[int] = 12
    VERSIONS: ClassVar[str] = "0-4"
    FLEXIBLE: ClassVar[str] = "4+"

    group_id: Annotated[String, versions("0+")] = ""
    generation_id: Annotated[Int32, versions("0+")] = 0
    member_id: Annotated[String, versions("0+")] = ""
    group_instance_id: Annotated[String | None, versions("3+", nullable="3+")] = None


class HeartbeatResponse(Message):
    KEY: ClassVar[int] = 12
    VERSIONS: ClassVar[str] = "0-4"
    FLEXIBLE: ClassVar[str] = "4+"

    throttle_time_ms: Annotated[Int32, versions("1+")] = 0
    error_code: Annotated[Int16, versions("0+")] = 0
