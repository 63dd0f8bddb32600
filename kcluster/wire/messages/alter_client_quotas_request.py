"""The request of AlterClientQuotas (49), whose classes have names that its response has, too."""

from __future__ import annotations

from typing import Annotated, ClassVar

from kcluster.wire.plan import Message, Struct
from kcluster.wire.types import Bool, Float64, String, versions


class EntityData(Struct):
    entity_type: Annotated[String, versions("0+")] = ""
    entity_name: Annotated[String | None, versions("0+", nullable="0+")] = ""
    """Null: the default of its type."""


class OpData(Struct):
    key: Annotated[String, versions("0+")] = ""
    value: Annotated[Float64, versions("0+")] = 0.0
    remove: Annotated[Bool, versions("0+")] = False


class EntryData(Struct):
    entity: Annotated[list[EntityData], versions("0+")] = []
    ops: Annotated[list[OpData], versions("0+")] = []


class AlterClientQuotasRequest(Message):
    KEY: ClassVar[int] = 49
    VERSIONS: ClassVar[str] = "0-1"
    FLEXIBLE: ClassVar[str] = "1+"

    entries: Annotated[list[EntryData], versions("0+")] = []
    validate_only: Annotated[Bool, versions("0+")] = False
