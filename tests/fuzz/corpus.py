"""What every search and every test run begins with: seeds, inputs that earlier searches kept,
and all that ever crashed.

    tests/fuzz/corpus/TARGET.bin        | length (4) input | length (4) input | ...
    tests/fuzz/crashes/TARGET/<file>    one input each

    python -m tests.fuzz.corpus DIR     keeps the smallest of DIR/TARGET/*, each of which reached
                                        code of its own, after `run --corpus DIR`
"""

from __future__ import annotations

import struct
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from tests.fuzz.seeds import SEEDS

HERE = Path(__file__).parent
KEPT_BYTES: Final = 12 << 10
"""Of each target: all of them are run through with every `make test`."""
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


def keep(directory: Path) -> None:
    (HERE / "corpus").mkdir(exist_ok=True)
    for target in SEEDS:
        known = set(SEEDS[target]())
        found = {path.read_bytes() for path in (directory / target).glob("*")} - known
        out = bytearray()
        for data in sorted(found | set(kept(target)), key=lambda data: (len(data), data)):
            if len(out) + len(data) + _LENGTH.size > KEPT_BYTES:
                break
            out += _LENGTH.pack(len(data)) + data
        (HERE / "corpus" / f"{target}.bin").write_bytes(out)


if __name__ == "__main__":
    keep(Path(sys.argv[1]))
