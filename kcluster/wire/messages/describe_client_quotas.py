"""DescribeClientQuotas (48): which quotas are set.

Versions 0-1, flexible from 1. An entity is a user, a client id, or a pair of both; a name of null
is the default of its type.

Source: KIP-546.
"""

from __future__ import annotations

from typing import Annotated, ClassVar

from kcluster.wire.plan import Message, Struct
from kcluster.wire.types import Bool, Float64, Int8, Int16, Int32, String, versions


class ComponentData(Struct):
    entity_type: Annotated[String, versions("0+")] = ""
    match_type: Annotated[Int8, versions("0+")] = 0
    """0 this name, 1 the default, 2 any name or the default."""
    match: Annotated[String | None, versions("0+", nullable="0+")] = ""


class DescribeClientQuotasRequest(Message):
    KEY: ClassVar[int] = 48
    VERSIONS: ClassVar[str] = "0-1"
    FLEXIBLE: ClassVar[str] = "1+"

    components: Annotated[list[ComponentData], versions("0+")] = []
    strict: Annotated[Bool, versions("0+")] = False
    """Leave out entities with parts that no component speaks of."""


class EntityData(Struct):
    entity_type: Annotated[String, versions("0+")] = ""
    entity_name: Annotated[String | None, versions("0+", nullable="0+")] = ""


class ValueData(Struct):
    key: Annotated[String, versions("0+")] = ""
    value: Annotated[Float64, versions("0+")] = 0.0


class EntryData(Struct):
    entity: Annotated[list[EntityData], versions("0+")] = []
    values: Annotated[list[ValueData], versions("0+")] = []


class DescribeClientQuotasResponse(Message):
    KEY: ClassVar[int] = 48
    VERSIONS: ClassVar[str] = "0-1"
    FLEXIBLE: ClassVar[str] = "1+"

    throttle_time_ms: Annotated[Int32, versions("0+")] = 0
    error_code: Annotated[Int16, versions("0+")] = 0
    error_message: Annotated[String | None, versions("0+", nullable="0+")] = ""
    entries: Annotated[list[EntryData] | None, versions("0+", nullable="0+")] = []
