"""AlterClientQuotas (49): set and remove quotas.

Versions 0-1, flexible from 1. Decided by the controller.

Source: KIP-546.
"""

from __future__ import annotations

from typing import Annotated, ClassVar

from kcluster.wire.messages.alter_client_quotas_request import (
    AlterClientQuotasRequest,
    EntityData,
)
from kcluster.wire.plan import Message, Struct
from kcluster.wire.types import Int16, Int32, String, versions

__all__ = ["AlterClientQuotasRequest", "AlterClientQuotasResponse", "EntityData", "EntryData"]


class EntryData(Struct):
    error_code: Annotated[Int16, versions("0+")] = 0
    error_message: Annotated[String | None, versions("0+", nullable="0+")] = ""
    entity: Annotated[list[EntityData], versions("0+")] = []


class AlterClientQuotasResponse(Message):
    KEY: ClassVar[int] = 49
    VERSIONS: ClassVar[str] = "0-1"
    FLEXIBLE: ClassVar[str] = "1+"

    throttle_time_ms: Annotated[Int32, versions("0+")] = 0
    entries: Annotated[list[EntryData], versions("0+")] = []
