"""How a fuzzed input is cut into what a target takes: a few small numbers, then parts.

    number ... number | length (2) part | length (2) part | ... | the rest

A length that says more than there is takes what there is, so that every input means something.
`Writer` is the inverse, for seeds.
"""

from __future__ import annotations

import struct

from kcluster.wire.records import HEADER_BYTES, LENGTH_OVERHEAD, MAGIC, crc_of

_LENGTH = struct.Struct(">H")


class Reader:
    def __init__(self, data: bytes) -> None:
        self._data = data
        self._position = 0

    def number(self) -> int:
        """0 to 255; 0 behind the end."""
        self._position += 1
        return self._data[self._position - 1] if self._position <= len(self._data) else 0

    def part(self) -> bytes:
        size = self.number() << 8 | self.number()
        self._position += size
        return self._data[self._position - size : self._position]

    def rest(self) -> bytes:
        found = self._data[self._position :]
        self._position = len(self._data)
        return found


class Writer:
    def __init__(self) -> None:
        self._parts: list[bytes] = []

    def number(self, value: int) -> Writer:
        self._parts.append(bytes((value,)))
        return self

    def part(self, data: bytes) -> Writer:
        self._parts += (_LENGTH.pack(len(data)), data)
        return self

    def rest(self, data: bytes) -> bytes:
        return b"".join([*self._parts, data])


def mended(data: bytes) -> bytes:
    """`data` with the magic and the CRC of each batch as they should be: what a fuzzer cannot
    guess, and whoever means harm can compute."""
    out = bytearray(data)
    position = 0
    while len(out) - position >= HEADER_BYTES:
        [length] = struct.unpack_from(">i", out, position + 8)
        size = length + LENGTH_OVERHEAD
        if not HEADER_BYTES <= size <= len(out) - position:
            break
        out[position + 16] = MAGIC
        struct.pack_into(">I", out, position + 17, crc_of(out, position, size))
        position += size
    return bytes(out)
