"""Bytes held against kio, a complete codec of Kafka 4.3 that nobody here wrote.

Each message is written by us, read by kio, compared value by value, written by kio, and must
come back as the same bytes.
"""

from __future__ import annotations

import dataclasses
import datetime
import importlib
import io
import re
import uuid
from random import Random
from typing import Any

import pytest
from kio.serial import entity_reader, entity_writer

from kcluster.wire.message import Message, decode, encode
from kcluster.wire.plan import Struct, fields_of
from tests.wire.samples import classes_and_versions, sample

MESSAGES_EACH = 5


def kio_class(cls: type[Message], version: int) -> Any:
    name = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", cls.__name__).lower()
    api, _, kind = name.rpartition("_")
    try:
        module = importlib.import_module(f"kio.schema.{api}.v{version}.{kind}")
    except ModuleNotFoundError:
        return None
    return getattr(module, cls.__name__)


def plain(value: Any) -> Any:
    """kio's value as ours has it."""
    match value:
        case datetime.timedelta():
            return value // datetime.timedelta(milliseconds=1)
        case datetime.datetime():
            epoch = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)
            return (value - epoch) // datetime.timedelta(milliseconds=1)
        case uuid.UUID():
            return value.bytes
        case tuple():
            return [plain(one) for one in value]
        case _:
            return value


def same(ours: Any, theirs: Any, version: int, where: str) -> None:
    if isinstance(ours, Struct):
        present = [field for field in fields_of(type(ours)) if version in field.versions]
        names = [field.name for field in dataclasses.fields(theirs)]
        assert len(present) == len(names), where
        for field, name in zip(present, names, strict=True):
            same(getattr(ours, field.name), getattr(theirs, name), version, f"{where}.{name}")
    elif isinstance(ours, list):
        assert len(ours) == len(theirs), where
        for one, other in zip(ours, theirs, strict=True):
            same(one, other, version, where)
    elif theirs is None and isinstance(ours, (int, bytes)):
        assert ours in (-1, bytes(16)), where  # kio says None for "no time" and "no id"
    else:
        assert ours == plain(theirs), where


@pytest.mark.parametrize(
    ("cls", "version"),
    [pytest.param(c, v, id=f"{c.__name__}-{v}") for c, v in classes_and_versions()],
)
def test_kio_reads_and_writes_the_same_bytes(cls: type[Message], version: int) -> None:
    theirs = kio_class(cls, version)
    if theirs is None:
        pytest.skip(f"kio has no {cls.__name__} v{version}")
    read, write = entity_reader(theirs), entity_writer(theirs)
    random = Random(f"kio {cls.__name__} {version}")
    for _ in range(MESSAGES_EACH):
        ours = sample(cls, version, random)
        data = encode(ours, version)
        value, end = read(data, 0)
        same(ours, value, version, cls.__name__)
        buffer = io.BytesIO()
        write(buffer, value)
        assert buffer.getvalue() == data
        assert decode(cls, buffer.getvalue(), version) == ours
        assert end == len(data)
