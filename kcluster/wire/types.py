"""The types of Kafka's protocol, and how a message class says which versions have a field.

A field of a message is an annotation: its type on the wire, and its versions.

    class PartitionProduceData(Struct):
        index: Annotated[Int32, versions("0+")] = 0
        records: Annotated[Records, versions("0+", nullable="0+")] = None

To a type checker `Int32` is an int and `String` a str; the codec reads the rest of the
annotation (see `plan.py`). The value behind `=` is Kafka's default: what a field holds in
versions that do not have it, and what keeps a tagged field off the wire.

Source: "Kafka protocol guide", Protocol Primitive Types; KIP-482 (compact and tagged fields).
"""

from __future__ import annotations

from typing import Annotated, Any, Final, NamedTuple

import msgspec

from kcluster.model import TopicId

HIGHEST: Final = 32767
"""The end of an open range such as `3+`."""


class VersionRange(NamedTuple):
    """Versions low to high, both inclusive; empty when high is less than low."""

    low: int
    high: int

    def __contains__(self, version: object) -> bool:
        return isinstance(version, int) and self.low <= version <= self.high

    def __str__(self) -> str:
        if self.high < self.low:
            return "none"
        if self.high == HIGHEST:
            return f"{self.low}+"
        return str(self.low) if self.low == self.high else f"{self.low}-{self.high}"


NO_VERSIONS: Final = VersionRange(0, -1)


def version_range(text: str) -> VersionRange:
    """Kafka's notation: `3`, `0-13`, `9+` or `none`."""
    if text == "none":
        return NO_VERSIONS
    if text.endswith("+"):
        return VersionRange(int(text[:-1]), HIGHEST)
    low, _, high = text.partition("-")
    return VersionRange(int(low), int(high or low))


class FieldVersions(msgspec.Struct, frozen=True):
    present: VersionRange
    nullable: VersionRange
    tag: int | None
    tagged: VersionRange


def versions(
    present: str, *, nullable: str = "none", tag: int | None = None, tagged: str = "none"
) -> FieldVersions:
    """In which versions a field is there, may be null, and travels as tagged field `tag`."""
    assert (tag is None) == (tagged == "none")
    return FieldVersions(
        version_range(present), version_range(nullable), tag, version_range(tagged)
    )


class WireType(msgspec.Struct, frozen=True):
    name: str
    """As in Kafka's message definitions."""
    code: str = ""
    """Of the struct module, big-endian; empty for what has no fixed size."""
    size: int = 0
    """Bytes on the wire; 0 for what has no fixed size."""


BOOL: Final = WireType("bool", "?", 1)
INT8: Final = WireType("int8", "b", 1)
INT16: Final = WireType("int16", "h", 2)
UINT16: Final = WireType("uint16", "H", 2)
INT32: Final = WireType("int32", "i", 4)
UINT32: Final = WireType("uint32", "I", 4)
INT64: Final = WireType("int64", "q", 8)
FLOAT64: Final = WireType("float64", "d", 8)
UUID: Final = WireType("uuid", "16s", 16)
STRING: Final = WireType("string")
BYTES: Final = WireType("bytes")
RECORDS: Final = WireType("records")

Bool = Annotated[bool, BOOL]
Int8 = Annotated[int, INT8]
Int16 = Annotated[int, INT16]
UInt16 = Annotated[int, UINT16]
Int32 = Annotated[int, INT32]
UInt32 = Annotated[int, UINT32]
Int64 = Annotated[int, INT64]
Float64 = Annotated[float, FLOAT64]
Uuid = Annotated[TopicId, UUID]
"""16 bytes. Nearly all of them are topic ids, so that is what a type checker sees."""
String = Annotated[str, STRING]
Bytes = Annotated[bytes, BYTES]
Records = Annotated[Any, RECORDS]
"""Record batches, which the codec does not look into. Decoded: a memoryview of the input, no
copy, or None. To encode: None, a buffer, an object with a `size` in bytes (a `Span` of a file,
which stays in the list of parts as it is), or a list of such."""

ZERO_UUID: Final = TopicId(bytes(16))
