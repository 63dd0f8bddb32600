"""What every search and every test run begins with: seeds, inputs that earlier searches kept,
and all that ever crashed.

    tests/fuzz/corpus/TARGET.bin        | length (4) input | length (4) input | ...
    tests/fuzz/crashes/TARGET/<file>    one input each

    python -m tests.fuzz.corpus pack DIR    smallest inputs that together reach what DIR/TARGET/*
                                            reach (after `run --corpus DIR`), as they are kept
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path

from tests.fuzz.seeds import SEEDS

HERE = Path(__file__).parent
_LENGTH = struct.Struct(">I")


def kept(target: str) -> Iterator[bytes]:
    path = HERE / "corpus" / f"{target}.bin"
    data = path.read_bytes() if path.exists() else b""
    position = 0
    while position < len(data):
        [size] = _LENGTH.unpack_from(data, position)
        position += _LENGTH.size
        yield data[position : position + size]
        position += size


def crashes(target: str) -> Iterator[tuple[str, bytes]]:
    """(file name, input)"""
    for path in sorted((HERE / "crashes" / target).glob("*")):
        yield path.name, path.read_bytes()


def inputs(target: str) -> Iterator[bytes]:
    yield from SEEDS[target]()
    yield from kept(target)
    for _, data in crashes(target):
        yield data
