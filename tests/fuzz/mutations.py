"""Small damages to valid bytes: what a torn write, a flipped bit or an ill-meaning peer makes.

Each is (name, where, what): `where` a place as a share of the length in 1/65536, `what` a number
that the damage takes as it needs. So that a list of them means something for every input, and
shrinks.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

Damage = tuple[str, int, int]

VALUES: Final = (0, 1, 2, 0x7F, 0x80, 0xFF)
NUMBERS: Final = (
    b"\xff", b"\x7f\xff", b"\xff\xff", b"\x80\0", b"\x7f\xff\xff\xff", b"\xff\xff\xff\xff",
    b"\x80\0\0\0", b"\x80\0\0\1", b"\0\x80\0\0", b"\x7f" + b"\xff" * 7, b"\xff" * 8,
    b"\x80" + bytes(7), bytes(8), b"\xff\xff\xff\xff\x0f", b"\xff" * 9 + b"\1", b"\xff" * 20,
)  # fmt: skip
"""Extremes of the sizes that lengths and counts have, also as varints."""


def _flip(data: bytearray, at: int, what: int, other: bytes) -> None:
    if data:
        data[at] ^= 1 << what % 8


def _set(data: bytearray, at: int, what: int, other: bytes) -> None:
    if data:
        data[at] = VALUES[what % len(VALUES)]


def _add(data: bytearray, at: int, what: int, other: bytes) -> None:
    if data:
        data[at] = (data[at] + what % 32 - 16) & 0xFF


def _number(data: bytearray, at: int, what: int, other: bytes) -> None:
    number = NUMBERS[what % len(NUMBERS)]
    data[at : at + len(number)] = number


def _insert(data: bytearray, at: int, what: int, other: bytes) -> None:
    data[at:at] = NUMBERS[what % len(NUMBERS)]


def _cut(data: bytearray, at: int, what: int, other: bytes) -> None:
    del data[at:]


def _remove(data: bytearray, at: int, what: int, other: bytes) -> None:
    del data[at : at + what % 64 + 1]


def _repeat(data: bytearray, at: int, what: int, other: bytes) -> None:
    data[at:at] = data[at : at + what % 200 + 1]


def _zero(data: bytearray, at: int, what: int, other: bytes) -> None:
    end = min(at + what % 64 + 1, len(data))
    data[at:end] = bytes(end - at)


def _splice(data: bytearray, at: int, what: int, other: bytes) -> None:
    """Go on with another valid input, from a place of its own."""
    data[at:] = other[what * len(other) >> 16 :]


DAMAGES: Final[dict[str, Callable[[bytearray, int, int, bytes], None]]] = {
    "flip": _flip,
    "set": _set,
    "add": _add,
    "number": _number,
    "insert": _insert,
    "cut": _cut,
    "remove": _remove,
    "repeat": _repeat,
    "zero": _zero,
    "splice": _splice,
}


def damaged(seed: bytes, damages: Sequence[Damage], other: bytes = b"") -> bytes:
    data = bytearray(seed)
    for name, where, what in damages:
        DAMAGES[name](data, where * len(data) >> 16, what, other)
    return bytes(data)
