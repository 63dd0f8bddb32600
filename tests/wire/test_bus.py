"""Bus messages: there and back, and one error for all that is none."""

from __future__ import annotations

import msgspec
import pytest

from kcluster.wire import bus
from tests.fuzz.seeds import BUS

NAMED = bus.encode(bus.Envelope(1, 2, 3, 4, bus.Failed(1, 2, "abcd")))
TOO_DEEP = (
    msgspec.msgpack.encode([1, 2, 3, 4, {"type": "Freeze", "later": 1}])[:-1]
    + b"\x91" * 100_000
    + b"\x90"
)


@pytest.mark.parametrize("message", BUS, ids=lambda message: type(message).__name__)
def test_a_message_comes_back_as_it_was(message: bus.Message) -> None:
    envelope = bus.Envelope(1, 2, 3, 4, message)
    assert bus.decode(bus.encode(envelope)) == envelope


@pytest.mark.parametrize(
    "frame",
    [
        b"",
        NAMED[:-1],
        NAMED.replace(b"abcd", b"\xff\xfe\xff\xfe"),
        TOO_DEEP,
        b"\xdd\xff\xff\xff\xff",
    ],
)
def test_whatever_is_no_envelope_raises_a_decode_error(frame: bytes) -> None:
    with pytest.raises(msgspec.DecodeError):
        bus.decode(frame)
