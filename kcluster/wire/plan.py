"""What a message class says about itself, read once: the fields of each struct, as facts.

`fields_of(cls)` turns the annotations of a class into `Field`s, which the generators of
`decoding.py` and `encoding.py` (and the comparison with Kafka's definitions) walk.
"""

from __future__ import annotations

import functools
import types
import typing
from typing import Any, ClassVar

import msgspec

from kcluster.wire.types import (
    FieldVersions,
    VersionRange,
    WireType,
    version_range,
)


class Struct(msgspec.Struct, gc=False):
    """Base of all that has fields on the wire. Mutable, compared by value.

    Made of plain values and other structs, never of cycles: the garbage collector need not
    look at it.
    """


class Message(Struct, gc=False):
    """Base of requests and responses: a struct that knows its key and versions."""

    KEY: ClassVar[int]
    VERSIONS: ClassVar[str]
    """Versions that can be encoded and decoded, in Kafka's notation."""
    FLEXIBLE: ClassVar[str]
    """Versions with compact lengths and tagged fields (KIP-482)."""


class Field(msgspec.Struct, frozen=True):
    name: str
    type: WireType | type[Struct]
    """Of the value, or of the elements when `is_array`."""
    is_array: bool
    versions: VersionRange
    nullable: VersionRange
    tag: int | None
    tagged: VersionRange
    default: Any
    """A struct's default is an instance of its class."""

    def is_tagged(self, version: int) -> bool:
        return version in self.tagged


@functools.cache
def fields_of(cls: type[Struct]) -> tuple[Field, ...]:
    """The fields of `cls` in the order of the wire."""
    hints = typing.get_type_hints(cls, include_extras=True)
    return tuple(_field(info, hints[info.name]) for info in msgspec.structs.fields(cls))


def _field(info: msgspec.structs.FieldInfo, hint: Any) -> Field:
    facts, wire_type, is_array = _parse(hint)
    assert facts is not None, f"{info.name} does not say its versions"
    default = info.default
    if default is msgspec.NODEFAULT:
        assert info.default_factory is not msgspec.NODEFAULT, f"{info.name} has no default"
        default = info.default_factory()
    return Field(
        info.name,
        wire_type,
        is_array,
        facts.present,
        facts.nullable,
        facts.tag,
        facts.tagged,
        default,
    )


def _parse(hint: Any) -> tuple[FieldVersions | None, WireType | type[Struct], bool]:
    """(versions, type, is it an array) of an annotation, through Annotated, None and list."""
    facts: FieldVersions | None = None
    if typing.get_origin(hint) is typing.Annotated:
        hint, *extras = typing.get_args(hint)
        for extra in extras:
            if isinstance(extra, FieldVersions):
                facts = extra
        for extra in extras:
            if isinstance(extra, WireType):
                return facts, extra, False
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        [hint] = [part for part in typing.get_args(hint) if part is not types.NoneType]
        return facts, *_parse(hint)[1:]
    if typing.get_origin(hint) is list:
        [element] = typing.get_args(hint)
        return facts, _parse(element)[1], True
    assert isinstance(hint, type) and issubclass(hint, Struct), hint
    return facts, hint, False


@functools.cache
def valid_versions(cls: type[Message]) -> VersionRange:
    return version_range(cls.VERSIONS)


@functools.cache
def flexible_versions(cls: type[Message]) -> VersionRange:
    return version_range(cls.FLEXIBLE)


def least_size(kind: WireType | type[Struct], version: int, flexible: bool) -> int:
    """The fewest bytes that a value takes on the wire: what an array's count is held against."""
    if isinstance(kind, WireType):
        if kind.size:
            return kind.size
        if flexible:
            return 1
        return 2 if kind.name == "string" else 4
    size = 1 if flexible else 0
    for field in fields_of(kind):
        if version not in field.versions or field.is_tagged(version):
            continue
        if field.is_array:
            size += 1 if flexible else 4
        elif isinstance(field.type, WireType) or version not in field.nullable:
            size += least_size(field.type, version, flexible)
        else:
            size += 1
    return max(size, 1)
