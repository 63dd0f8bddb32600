"""Variable-length integers: seven bits a byte, lowest first; signed ones in zigzag.

Lengths, counts and tags of flexible versions (KIP-482) are unsigned; records count in signed
ones. A varint is at most 5 bytes (32 bits) or 10 bytes (64 bits): what goes on longer, or
has bits above, is refused. Readers raise IndexError at the end of the buffer, which the
callers turn into a RemoteProtocolError.

Source: KIP-482; Protocol Buffers, "Base 128 Varints".
"""

from __future__ import annotations

from typing import Final

from kcluster.errors import RemoteProtocolError

Buffer = bytes | bytearray | memoryview


def read_unsigned(buffer: Buffer, position: int) -> tuple[int, int]:
    """(value below 2**32, position behind it)."""
    first = buffer[position]
    if first < 0x80:
        return first, position + 1
    second = buffer[position + 1]
    if second < 0x80:  # nearly all lengths end here: half the time of the loop
        return first & 0x7F | second << 7, position + 2
    value = shift = 0
    while True:
        byte = buffer[position]
        position += 1
        if byte < 0x80:
            value |= byte << shift
            if value >> 32:
                raise RemoteProtocolError("a varint of more than 32 bits")
            return value, position
        value |= (byte & 0x7F) << shift
        shift += 7
        if shift == 35:
            raise RemoteProtocolError("a varint of more than 5 bytes")


def read_signed(buffer: Buffer, position: int) -> tuple[int, int]:
    """A zigzag varint of 32 bits: (value, position behind it)."""
    value, position = read_unsigned(buffer, position)
    return value >> 1 ^ -(value & 1), position


def read_signed_long(buffer: Buffer, position: int) -> tuple[int, int]:
    """A zigzag varint of 64 bits: (value, position behind it)."""
    first = buffer[position]
    if first < 0x80:
        return first >> 1 ^ -(first & 1), position + 1
    value = shift = 0
    while True:
        byte = buffer[position]
        position += 1
        if byte < 0x80:
            value |= byte << shift
            if value >> 64:
                raise RemoteProtocolError("a varint of more than 64 bits")
            return value >> 1 ^ -(value & 1), position
        value |= (byte & 0x7F) << shift
        shift += 7
        if shift == 70:
            raise RemoteProtocolError("a varint of more than 10 bytes")


def _unsigned(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


TABLE_SIZE: Final = 4096
TABLE: Final = tuple(
    [bytes((value,)) for value in range(0x80)]
    + [bytes((value & 0x7F | 0x80, value >> 7)) for value in range(0x80, TABLE_SIZE)]
)
"""The varints that occur: lengths of names, counts of partitions."""


def unsigned(value: int) -> bytes:
    """`value` in 0 .. 2**32 - 1."""
    assert 0 <= value < 1 << 32
    return TABLE[value] if value < TABLE_SIZE else _unsigned(value)


def signed(value: int) -> bytes:
    """Zigzag; any value of 64 bits."""
    value = value << 1 if value >= 0 else (-value << 1) - 1
    return TABLE[value] if value < TABLE_SIZE else _unsigned(value)
