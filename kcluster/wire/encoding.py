"""Encoders: from a class and a version to a function that writes it.

    encode(message) -> list of parts

A part is bytes, or what the message holds as `records`: that is never copied when it is large,
and an object with a `size` (a span of a file) is passed on as it stands.

Fields that the version does not have are left out, whatever they hold. A value that cannot be
written (None where null is not allowed, a number out of range) is a bug of the caller.
"""

from __future__ import annotations

import functools
import struct
from collections.abc import Callable
from typing import Any, Final

from kcluster.wire import varint
from kcluster.wire.plan import Field, Message, Struct, fields_of, flexible_versions
from kcluster.wire.source import Source
from kcluster.wire.types import WireType

Encoder = Callable[[Any], list[Any]]

JOINED_RECORDS_BYTES: Final = 4096
"""Records up to this size are copied between their neighbours: cheaper than a part of their own."""

SMALL_ARRAY: Final = 16
"""Arrays of numbers with fewer elements have a layout each, made in advance."""


@functools.cache
def _layouts(prefix: str, code: str) -> tuple[Callable[..., bytes], ...]:
    return tuple(struct.Struct(f">{prefix}{count}{code}").pack for count in range(SMALL_ARRAY))


def size_of(records: Any) -> int:
    """Bytes of a `records` value that is not None."""
    if isinstance(records, (bytes, bytearray)):
        return len(records)
    if isinstance(records, memoryview):
        return records.nbytes
    if isinstance(records, list):
        return sum(map(size_of, records))
    size: int = records.size
    return size


def _splice(parts: list[Any], out: list[bytes], records: Any) -> None:
    """Put `records` behind what is in `out`."""
    if isinstance(records, list):
        for part in records:
            _splice(parts, out, part)
    elif isinstance(records, (bytes, bytearray, memoryview)) and len(records) <= (
        JOINED_RECORDS_BYTES
    ):
        out.append(bytes(records))
    else:
        if out:
            parts.append(b"".join(out))
            out.clear()
        parts.append(records)


def explain(message: Struct, version: int, path: str = "") -> str:
    """Which field the encoder of this version cannot write: the caller's bug, in words."""
    path = path or f"{type(message).__name__} v{version}"
    for field in fields_of(type(message)):
        value = getattr(message, field.name)
        where = f"{path}: {field.name}" if ":" not in path else f"{path}.{field.name}"
        if version not in field.versions or (value is None and version in field.nullable):
            continue
        if value is None or field.is_array != isinstance(value, list):
            if not (isinstance(field.type, WireType) and field.type.name == "records"):
                return f"{where} = {value!r}"
            continue
        for one in value if field.is_array else [value]:
            if isinstance(one, Struct):
                found = explain(one, version, where)
                if " = " in found:
                    return found
            elif isinstance(field.type, WireType) and not _fits(field.type, one):
                return f"{where} = {one!r}"
    return path


def _fits(kind: WireType, value: Any) -> bool:
    if kind.code:
        try:
            struct.pack(">" + kind.code, value)
        except struct.error:
            return False
        return True
    return kind.name == "records" or isinstance(value, str if kind.name == "string" else bytes)


def build_encoder(cls: type[Message], version: int) -> Encoder:
    generator = _Encoding(version, version in flexible_versions(cls))
    source = generator.source
    source.line("parts = []; out = []; w = out.append")
    generator.struct(cls, "m", "w")
    generator.flush("w")
    source.line("if out: parts.append(join(out))")
    source.line("return parts")
    return source.function("def encode(m):", f"<{cls.__name__} {version}>")


class _Encoding:
    def __init__(self, version: int, flexible: bool) -> None:
        self.version = version
        self.flexible = flexible
        self.source = Source()
        self.source.names.update(
            unsigned=varint.unsigned,
            U=varint.TABLE,
            size_of=size_of,
            splice=_splice,
            join=b"".join,
            pack=struct.pack,
        )
        self._run: list[tuple[str, str]] = []
        """Fixed-size values not written yet: (struct code, expression or "" for a pad byte)."""

    def flush(self, w: str) -> None:
        """Write the values of the run with one call."""
        run, self._run = self._run, []
        if not run:
            return
        codes = "".join(code for code, _ in run)
        if codes.strip("x"):
            values = ", ".join(value for _, value in run if value)
            self.source.line(f"{w}({self.source.layout(codes, 'pack')}({values}))")
        else:
            self.source.line(f"{w}({bytes(len(codes))!r})")

    def _length(self, length: str, code: str, w: str) -> None:
        """Write a length or count, an expression that gives -1 for null."""
        if not self.flexible:
            self._run.append((code, length))
            return
        self.flush(w)
        name = self.source.fresh("n")
        self.source.line(f"{name} = {length} + 1")
        self.source.line(f"{w}(U[{name}] if {name} < {varint.TABLE_SIZE} else unsigned({name}))")

    # --- structs --------------------------------------------------------------------------

    def struct(self, cls: type[Struct], value: str, w: str) -> None:
        tagged = []
        for field in fields_of(cls):
            if self.version not in field.versions:
                continue
            if field.is_tagged(self.version):
                tagged.append(field)
            else:
                self._field(field, f"{value}.{field.name}", w)
        if not self.flexible:
            return
        if tagged:
            self.flush(w)
            self._tagged_section(sorted(tagged, key=lambda field: field.tag or 0), value, w)
        else:
            self._run.append(("x", ""))

    def _tagged_section(self, tagged: list[Field], value: str, w: str) -> None:
        """Tagged fields that do not hold their default, in the order of their tags."""
        source = self.source
        differs = {field.name: self._differs(field, f"{value}.{field.name}") for field in tagged}
        with source.block(f"if {' or '.join(differs.values())}:"):
            tags = source.fresh("tags")
            source.line(f"{tags} = []")
            for field in tagged:
                with source.block(f"if {differs[field.name]}:"):
                    inner, body = source.fresh("w"), source.fresh("body")
                    source.line(f"{body} = []; {inner} = {body}.append")
                    self._field(field, f"{value}.{field.name}", inner)
                    self.flush(inner)
                    source.line(f"{body} = join({body})")
                    source.line(
                        f"{tags}.append({varint.unsigned(field.tag or 0)!r}"
                        f" + unsigned(len({body})) + {body})"
                    )
            source.line(f"{w}(unsigned(len({tags})) + join({tags}))")
        source.line(f"else: {w}(b'\\0')")

    def _differs(self, field: Field, value: str) -> str:
        if field.default is None:
            return f"{value} is not None"
        if field.is_array and not field.default:
            return value
        if isinstance(field.default, Struct):
            return f"{value} != {self.source.refer(field.name, field.default)}"
        return f"{value} != {field.default!r}"

    # --- fields ---------------------------------------------------------------------------

    def _field(self, field: Field, value: str, w: str) -> None:
        nullable = self.version in field.nullable
        if field.is_array:
            self._array(field.type, value, w, nullable)
        elif isinstance(field.type, WireType):
            self._value(field.type, value, w, nullable)
        elif nullable:
            self.flush(w)
            name = self.source.fresh("s")
            self.source.line(f"{name} = {value}")
            self.source.line(rf"if {name} is None: {w}(b'\xff')")
            with self.source.block("else:"):
                self._run.append(("b", "1"))
                self.struct(field.type, name, w)
                self.flush(w)
        else:
            self.struct(field.type, value, w)

    def _value(self, kind: WireType, value: str, w: str, nullable: bool) -> None:
        if kind.code:
            self._run.append((kind.code, value))
        elif kind.name == "string":
            self._string(value, w, nullable)
        elif kind.name == "bytes":
            self._bytes(value, w, nullable)
        else:
            self._records(value, w, nullable)

    def _string(self, value: str, w: str, nullable: bool) -> None:
        name, encoded = self.source.fresh("s"), self.source.fresh("e")
        if nullable:
            self.source.line(f"{name} = {value}")
            self.source.line(f"if {name} is None: {encoded} = b''; {name} = -1")
            self.source.line(f"else: {encoded} = {name}.encode(); {name} = len({encoded})")
            length = name
        else:
            self.source.line(f"{encoded} = {value}.encode()")
            length = f"len({encoded})"
        self._length(length, "h", w)
        self.flush(w)
        self.source.line(f"{w}({encoded})")

    def _bytes(self, value: str, w: str, nullable: bool) -> None:
        name = self.source.fresh("s")
        self.source.line(f"{name} = {value}")
        length = f"len({name})"
        if nullable:
            length = f"(-1 if {name} is None else {length})"
        self._length(length, "i", w)
        self.flush(w)
        self.source.line(f"{w}({name} or b'')" if nullable else f"{w}({name})")

    def _records(self, value: str, w: str, nullable: bool) -> None:
        assert w == "w", "records in a tagged field"
        name = self.source.fresh("s")
        self.source.line(f"{name} = {value}")
        length = f"size_of({name})"
        if nullable:
            length = f"(-1 if {name} is None else {length})"
        self._length(length, "i", w)
        self.flush(w)
        guard = f"if {name} is not None: " if nullable else ""
        self.source.line(f"{guard}splice(parts, out, {name})")

    def _array(self, kind: WireType | type[Struct], value: str, w: str, nullable: bool) -> None:
        source = self.source
        name = source.fresh("a")
        source.line(f"{name} = {value}")
        if nullable:
            self.flush(w)
            null = b"\0" if self.flexible else b"\xff\xff\xff\xff"
            source.line(f"if {name} is None: {w}({null!r})")
            with source.block("else:"):
                self._elements(kind, name, w)
        else:
            self._elements(kind, name, w)

    def _elements(self, kind: WireType | type[Struct], name: str, w: str) -> None:
        source = self.source
        if isinstance(kind, WireType) and kind.code and kind.name != "uuid":
            self._numbers(kind.code, name, w)
            return
        self._length(f"len({name})", "i", w)
        self.flush(w)
        item = source.fresh("i")
        with source.block(f"for {item} in {name}:"):
            if isinstance(kind, WireType):
                self._value(kind, item, w, nullable=False)
            else:
                self.struct(kind, item, w)
            self.flush(w)

    def _numbers(self, code: str, name: str, w: str) -> None:
        """Count and elements, with the values of the run before them, by one call.

        Most of a Metadata response are three such arrays for each partition.
        """
        source = self.source
        run, self._run = self._run, []
        codes = "".join(each for each, _ in run)
        values = "".join(f"{value}, " for _, value in run if value)
        count = source.fresh("n")
        source.line(f"{count} = len({name})")
        prefix, plus = ("B", " + 1") if self.flexible else ("i", "")
        layouts = f"layouts_{codes.replace('?', 'o')}{prefix}_{code}"
        if layouts not in source.names:
            source.names[layouts] = _layouts(codes + prefix, code)
        source.line(
            f"if {count} < {SMALL_ARRAY}: {w}({layouts}[{count}]({values}{count}{plus}, *{name}))"
        )
        with source.block("else:"):
            if codes:
                self._run = run
                self.flush(w)
            head = f"unsigned({count} + 1)" if self.flexible else f"pack('>i', {count})"
            source.line(f"{w}({head} + pack(f'>{{{count}}}{code}', *{name}))")
