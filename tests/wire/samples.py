"""Messages full of values, made from a class's own facts, for every test that needs any."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Iterator
from random import Random
from typing import Any, TypeVar

import kcluster.wire.messages
from kcluster.wire.plan import Message, Struct, fields_of, valid_versions
from kcluster.wire.types import WireType

_MODULES = [
    importlib.import_module(f"kcluster.wire.messages.{info.name}")
    for info in pkgutil.iter_modules(kcluster.wire.messages.__path__)
]
ALL_CLASSES = [
    cls
    for module in _MODULES
    for cls in vars(module).values()
    if isinstance(cls, type) and issubclass(cls, Message) and cls.__module__ == module.__name__
]
"""Requests and responses, also of APIs that are not served yet."""

S = TypeVar("S", bound=Struct)


def classes_and_versions() -> Iterator[tuple[type[Message], int]]:
    for cls in ALL_CLASSES:
        low, high = valid_versions(cls)
        for version in range(low, high + 1):
            yield cls, version


def sample(cls: type[S], version: int, random: Random) -> S:
    """A struct whose fields of this version hold anything; the others their default."""
    values: dict[str, Any] = {}
    for field in fields_of(cls):
        if version not in field.versions:
            continue
        if version in field.nullable and random.random() < 0.2:
            values[field.name] = None
        elif field.is_tagged(version) and random.random() < 0.3:
            continue
        elif field.is_array:
            count = random.choice((0, 1, 1, 2, 3, 20))
            if isinstance(field.type, WireType):
                values[field.name] = [_value(field.type, field.name, random) for _ in range(count)]
            else:
                values[field.name] = [
                    sample(field.type, version, random) for _ in range(min(count, 3))
                ]
        elif isinstance(field.type, WireType):
            values[field.name] = _value(field.type, field.name, random)
        else:
            values[field.name] = sample(field.type, version, random)
    return cls(**values)


def _value(kind: WireType, name: str, random: Random) -> Any:
    match kind.name:
        case "string":
            return "".join(random.choices("abcZ09-._é漢", k=random.choice((0, 1, 5, 130))))
        case "bytes" | "records":
            return random.randbytes(random.choice((0, 1, 70, 200, 5000)))
        case "uuid":
            return random.randbytes(16)
        case "bool":
            return random.random() < 0.5
        case "float64":
            return random.random()
    bits = kind.size * 8
    if name.endswith("_ms"):  # kio makes times of them, which are narrower
        return random.randrange(1 << min(bits - 1, 38))
    if name == "error_code" or name.endswith("_error_code"):
        return random.randrange(-1, 100)
    if kind.name.startswith("u"):
        return random.choice((0, 1, (1 << bits) - 1, random.randrange(1 << bits)))
    low, high = -(1 << bits - 1), (1 << bits - 1) - 1
    return random.choice((0, 1, -1, low, high, random.randint(low, high)))
