"""Decoders: from a class and a version to a function that reads it.

    decode(buffer: memoryview, position, end, budget) -> (message, position, budget)

The generated function trusts nothing. Fixed-size fields are read by `unpack_from`, which
refuses to read past the end; every length is held against the bytes left before anything is
made of it; an array's count is held against the bytes left, divided by the least size of its
elements, and taken from `budget` before its list grows; unknown tagged fields are stepped over,
and taken from the budget too.
What it raises besides RemoteProtocolError (struct.error, IndexError, UnicodeDecodeError) means
the same and is translated by `message.decode`.

Sources: "Kafka protocol guide"; KIP-482 for flexible versions.
"""

from __future__ import annotations

import functools
import struct
from collections.abc import Callable
from typing import Any, Final, NoReturn

from kcluster.errors import RemoteProtocolError
from kcluster.wire import varint
from kcluster.wire.plan import (
    Field,
    Message,
    Struct,
    fields_of,
    flexible_versions,
    least_size,
)
from kcluster.wire.source import Source
from kcluster.wire.types import WireType

Decoder = Callable[[memoryview, int, int, int], tuple[Any, int, int]]


SMALL_ARRAY: Final = 16
"""Arrays of numbers with fewer elements have a layout each, made in advance."""


@functools.cache
def _layouts(code: str) -> tuple[Callable[..., tuple[Any, ...]], ...]:
    return tuple(struct.Struct(f">{count}{code}").unpack_from for count in range(SMALL_ARRAY))


def refuse(what: str, count: int) -> NoReturn:
    if count == -1:
        raise RemoteProtocolError(f"{what} must not be null")
    raise RemoteProtocolError(f"{what}: a length of {count} does not fit")


def refuse_budget(what: str) -> NoReturn:
    raise RemoteProtocolError(f"{what}: more elements than one message may have")


def skip_tagged(buffer: memoryview, position: int, end: int, budget: int) -> tuple[int, int]:
    """(position behind a section of tagged fields that nobody here knows, budget left).

    They cost no memory, but time: 100 MiB of empty ones would hold the loop for half a minute.
    """
    count, position = varint.read_unsigned(buffer, position)
    budget -= count
    if budget < 0:
        refuse_budget("tagged fields")
    for _ in range(count):
        _, position = varint.read_unsigned(buffer, position)
        size, position = varint.read_unsigned(buffer, position)
        position += size
        if position > end:
            refuse("a tagged field", size)
    return position, budget


def build_decoder(cls: type[Message], version: int) -> Decoder:
    generator = _Decoding(version, version in flexible_versions(cls))
    value = generator.struct(cls, cls.__name__)
    generator.source.line(f"return {value}, p, budget")
    return generator.source.function(
        "def decode(b, p, end, budget):", f"<{cls.__name__} {version}>"
    )


class _Decoding:
    def __init__(self, version: int, flexible: bool) -> None:
        self.version = version
        self.flexible = flexible
        self.source = Source()
        self.source.names.update(
            read_unsigned=varint.read_unsigned,
            skip_tagged=skip_tagged,
            refuse=refuse,
            refuse_budget=refuse_budget,
            unpack_from=struct.unpack_from,
        )
        self._run: list[tuple[str, str]] = []
        """Fixed-size fields not read yet: (struct code, name of the variable)."""

    # --- fixed sizes ----------------------------------------------------------------------

    def _flush(self) -> None:
        """Read the fields of the run with one call."""
        run, self._run = self._run, []
        if not run:
            return
        codes = "".join(code for code, _ in run)
        targets = "".join(f"{name}, " for _, name in run)
        unpack = self.source.layout(codes, "unpack_from")
        self.source.line(f"{targets}= {unpack}(b, p); p += {struct.calcsize('>' + codes)}")

    def _length(self, stem: str, code: str) -> str:
        """A variable with a length or count, -1 for null."""
        name = self.source.fresh(stem)
        if self.flexible:
            self._flush()
            self._unsigned(name)
            self.source.line(f"{name} -= 1")
        else:
            self._run.append((code, name))
            self._flush()
        return name

    def _unsigned(self, name: str) -> None:
        self.source.line(f"{name} = b[p]; p += 1")
        self.source.line(f"if {name} > 127: {name}, p = read_unsigned(b, p - 1)")

    # --- structs --------------------------------------------------------------------------

    def struct(self, cls: type[Struct], path: str) -> str:
        """Read a struct; the expression that makes it of what was read."""
        values = []
        tagged: list[tuple[Field, str]] = []
        for field in fields_of(cls):
            name = self.source.fresh(field.name)
            if self.version not in field.versions:
                values.append(self._default(field))
                continue
            values.append(name)
            if field.is_tagged(self.version):
                tagged.append((field, name))
            else:
                self._field(field, name, f"{path}.{field.name}")
        self._flush()
        if self.flexible:
            self._tagged_section(tagged, path)
        return f"{self.source.refer(cls.__name__, cls)}({', '.join(values)})"

    def _default(self, field: Field) -> str:
        if isinstance(field.default, Struct):
            return f"{self.source.refer(field.default.__class__.__name__, type(field.default))}()"
        return repr(field.default)

    def _tagged_section(self, tagged: list[tuple[Field, str]], path: str) -> None:
        source = self.source
        for field, name in tagged:
            source.line(f"{name} = {self._default(field)}")
        count = source.fresh("tags")
        if not tagged:
            source.line("if b[p]: p, budget = skip_tagged(b, p, end, budget)")
            source.line("else: p += 1")
            return
        self._unsigned(count)
        source.line(f"budget -= {count}")
        source.line(f"if budget < 0: refuse_budget('tagged fields of {path}')")
        with source.block(f"for _ in range({count}):"):
            tag, size, stop = source.fresh("tag"), source.fresh("size"), source.fresh("stop")
            self._unsigned(tag)
            self._unsigned(size)
            source.line(f"{stop} = p + {size}")
            source.line(f"if {stop} > end: refuse('a tagged field of {path}', {size})")
            for number, (field, name) in enumerate(tagged):
                with source.block(f"{'el' if number else ''}if {tag} == {field.tag}:"):
                    self._field(field, name, f"{path}.{field.name}")
                    self._flush()
                    source.line(f"if p != {stop}: refuse('{path}.{field.name}', {size})")
            source.line(f"else: p = {stop}")

    # --- fields ---------------------------------------------------------------------------

    def _field(self, field: Field, name: str, path: str) -> None:
        nullable = self.version in field.nullable
        if field.is_array:
            self._array(field.type, name, path, nullable)
        elif isinstance(field.type, WireType):
            self._value(field.type, name, path, nullable)
        elif nullable:
            self._nullable_struct(field.type, name, path)
        else:
            self._flush()
            value = self.struct(field.type, path)
            self.source.line(f"{name} = {value}")

    def _value(self, kind: WireType, name: str, path: str, nullable: bool) -> None:
        if kind.code:
            self._run.append((kind.code, name))
            return
        source = self.source
        length = self._length("n", "h" if kind.name == "string" else "i")
        stop = source.fresh("stop")
        with source.block(f"if {length} >= 0:"):
            source.line(f"{stop} = p + {length}")
            source.line(f"if {stop} > end: refuse('{path}', {length})")
            made = {
                "string": f"str(b[p:{stop}], 'utf-8')",
                "bytes": f"bytes(b[p:{stop}])",
                "records": f"b[p:{stop}]",
            }[kind.name]
            source.line(f"{name} = {made}; p = {stop}")
        self._null_or_refuse(name, length, path, nullable)

    def _null_or_refuse(self, name: str, length: str, path: str, nullable: bool) -> None:
        if nullable:
            self.source.line(f"elif {length} == -1: {name} = None")
        self.source.line(f"else: refuse('{path}', {length})")

    def _nullable_struct(self, cls: type[Struct], name: str, path: str) -> None:
        mark = self.source.fresh("mark")
        self._run.append(("b", mark))
        self._flush()
        with self.source.block(f"if {mark} >= 0:"):
            value = self.struct(cls, path)
            self.source.line(f"{name} = {value}")
        self.source.line(f"else: {name} = None")

    def _array(self, kind: WireType | type[Struct], name: str, path: str, nullable: bool) -> None:
        source = self.source
        count = self._length("n", "i")
        least = least_size(kind, self.version, self.flexible)
        with source.block(f"if {count} >= 0:"):
            source.line(f"if {count} * {least} > end - p: refuse('{path}', {count})")
            source.line(f"budget -= {count}")
            source.line(f"if budget < 0: refuse_budget('{path}')")
            if isinstance(kind, WireType) and kind.code and kind.name != "uuid":
                layouts = f"layouts_{kind.code}"
                if layouts not in source.names:
                    source.names[layouts] = _layouts(kind.code)
                source.line(f"if {count} < {SMALL_ARRAY}: {name} = list({layouts}[{count}](b, p))")
                source.line(f"else: {name} = list(unpack_from(f'>{{{count}}}{kind.code}', b, p))")
                source.line(f"p += {count} * {kind.size}")
            else:
                item, add = source.fresh("item"), source.fresh("add")
                source.line(f"{name} = []; {add} = {name}.append")
                with source.block(f"for _ in range({count}):"):
                    if isinstance(kind, WireType):
                        self._value(kind, item, path, nullable=False)
                        self._flush()
                        source.line(f"{add}({item})")
                    else:
                        value = self.struct(kind, path)
                        source.line(f"{add}({value})")
        self._null_or_refuse(name, count, path, nullable)
