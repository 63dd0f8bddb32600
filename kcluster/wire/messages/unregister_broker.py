"""UnregisterBroker (64): forget a broker that will not come back.

Version 0, flexible from 0.

Source: KIP-631.
"""

from __future__ import annotations

from typing import Annotated, ClassVar

from kcluster.wire.plan import Message
from kcluster.wire.types import Int16, Int32, String, versions


class UnregisterBrokerRequest(Message):
    KEY: ClassVar[int] = 64
    VERSIONS: ClassVar[str] = "0"
    FLEXIBLE: ClassVar[str] = "0+"

    broker_id: Annotated[Int32, versions("0+")] = 0


class UnregisterBrokerResponse(Message):
    KEY: ClassVar[int] = 64
    VERSIONS: ClassVar[str] = "0"
    FLEXIBLE: ClassVar[str] = "0+"

    throttle_time_ms: Annotated[Int32, versions("0+")] = 0
    error_code: Annotated[Int16, versions("0+")] = 0
    error_message: Annotated[String | None, versions("0+", nullable="0+")] = ""
