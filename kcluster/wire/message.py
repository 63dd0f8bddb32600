"""The codec engine: Kafka's messages to bytes and back.

    class ProduceRequest(Message):        messages/<api>.py: fields with their versions
        ^ fields_of                       plan.py: the same as facts
        | build_decoder, build_encoder    one generated function for each class and version,
        v                                 made when first used and kept
    decode(ProduceRequest, buffer, 9)     encode(message, 9)

There are some tens of classes with some ten versions each, and both ends are bounded by the
classes' own ranges, so what is kept is bounded too.

Bytes behind the body are ignored, as Kafka's own brokers and clients do: a newer peer may
have appended what this version does not say, and refusing them would break a client that works
against Kafka. Whoever wants to know reads the position from `decode_from`.

Source: "Kafka protocol guide".
"""

from __future__ import annotations

import functools
import struct
from typing import Any, TypeVar

from kcluster.errors import RemoteProtocolError
from kcluster.limits import LIMITS
from kcluster.wire.decoding import Decoder, build_decoder
from kcluster.wire.encoding import Encoder, build_encoder, explain, size_of
from kcluster.wire.plan import Message, Struct, valid_versions

__all__ = [
    "Message",
    "Struct",
    "decode",
    "decode_from",
    "encode",
    "encode_parts",
    "size_of",
    "valid_versions",
    "warm",
]

M = TypeVar("M", bound=Message)


@functools.cache
def _decoder(cls: type[Message], version: int) -> Decoder:
    if version not in valid_versions(cls):
        raise RemoteProtocolError(f"{cls.__name__} has no version {version}")
    return build_decoder(cls, version)


@functools.cache
def _encoder(cls: type[Message], version: int) -> Encoder:
    assert version in valid_versions(cls), f"{cls.__name__} has no version {version}"
    return build_encoder(cls, version)


def decode(
    cls: type[M],
    buffer: bytes | bytearray | memoryview,
    version: int,
    position: int = 0,
    *,
    objects: int = LIMITS.decode_objects,
) -> M:
    """The message at `position`. `records` in it are views of `buffer`.

    Raises RemoteProtocolError on whatever is not a `cls` of this version, and when it has
    more than `objects` array elements and tagged fields together.
    """
    return decode_from(cls, buffer, version, position, objects=objects)[0]


def decode_from(
    cls: type[M],
    buffer: bytes | bytearray | memoryview,
    version: int,
    position: int = 0,
    *,
    objects: int = LIMITS.decode_objects,
) -> tuple[M, int]:
    """As `decode`, with the position behind the message."""
    function = _decoder(cls, version)
    view = memoryview(buffer)
    try:
        message, end, _ = function(view, position, len(view), objects)
    except (struct.error, IndexError):
        raise RemoteProtocolError(f"{cls.__name__} v{version} is cut short") from None
    except UnicodeDecodeError as error:
        raise RemoteProtocolError(f"{cls.__name__} v{version}: {error}") from None
    return message, end


def encode_parts(message: Message, version: int) -> list[Any]:
    """Bytes and, between them, the large `records` as the message holds them."""
    encoder = _encoder(type(message), version)
    try:
        return encoder(message)
    except Exception as error:
        error.add_note(explain(message, version))
        raise


def encode(message: Message, version: int) -> bytes:
    """All of it, copied. `records` must be buffers, not spans of files."""
    parts = encode_parts(message, version)
    return parts[0] if len(parts) == 1 else b"".join(parts)


def warm(cls: type[Message], version: int) -> None:
    """Make both functions now, so that the first message of a connection need not wait."""
    _decoder(cls, version)
    _encoder(cls, version)
