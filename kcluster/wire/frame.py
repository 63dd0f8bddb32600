"""Frames and headers: what stands around the body of a request and of a response.

    request   INT32 size | key, version, correlation id, client id [tagged fields] | body
    response  INT32 size | correlation id                          [tagged fields] | body

The tagged fields are there when the version is flexible (KIP-482), except in the response to
ApiVersions. The client id is an INT16-length string in every version. The size does not count
itself; whoever reads the socket cuts frames by it, and everything here works on one frame
without it, but `request_frame` and `response_frame` write it.

Source: "Kafka protocol guide"; KIP-482, KIP-511.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Any, Final

import msgspec

from kcluster.errors import RemoteProtocolError
from kcluster.limits import LIMITS
from kcluster.wire import varint
from kcluster.wire.apis import API_VERSIONS, APIS, Api, api_of
from kcluster.wire.encoding import size_of
from kcluster.wire.message import Message, encode_parts

SIZE: Final = struct.Struct(">i")
"""The length prefix of a frame."""

_REQUEST: Final = struct.Struct(">hhih")
_CORRELATION: Final = struct.Struct(">i")
_PLAIN_RESPONSE: Final = struct.Struct(">ii")
_FLEXIBLE_RESPONSE: Final = struct.Struct(">iix")

_JOINED_BYTES: Final = 1 << 16
"""A first part up to this size is copied behind the header: one part less to send."""


class RequestHeader(msgspec.Struct, frozen=True, gc=False):
    api_key: int
    api_version: int
    correlation_id: int
    client_id: str | None = None

    @property
    def api(self) -> Api:
        return APIS[self.api_key]


def parse_request_header(frame: memoryview) -> tuple[RequestHeader, int]:
    """(header, offset of the body) of a frame without its length prefix.

    Raises RemoteProtocolError on what is not one, on a key that is not served and on a version
    that is not: Kafka then closes the connection. Only ApiVersions may come in any version from
    0 up, because its answer is how a client learns what is served; the caller looks.
    """
    try:
        key, version, correlation_id, length = _REQUEST.unpack_from(frame)
        api = APIS.get(key)
        if api is None:
            raise RemoteProtocolError(f"no API has key {key}")
        if not api.serves(version) and not (key == API_VERSIONS and version >= 0):
            raise RemoteProtocolError(f"{api.name} v{version} is not served")
        position = _REQUEST.size
        client_id = None
        if length >= 0:
            end = position + length
            if end > len(frame):
                raise RemoteProtocolError("the client id is cut short")
            client_id = str(frame[position:end], "utf-8")
            position = end
        elif length != -1:
            raise RemoteProtocolError(f"a client id of length {length}")
        if version >= api.flexible_from:
            position = _skip_header_tags(frame, position)
    except (struct.error, IndexError):
        raise RemoteProtocolError("a request header is cut short") from None
    except UnicodeDecodeError as error:
        raise RemoteProtocolError(f"client id: {error}") from None
    return RequestHeader(key, version, correlation_id, client_id), position


def parse_response_header(
    frame: memoryview | bytes, api_key: int, api_version: int
) -> tuple[int, int]:
    """(correlation id, offset of the body) of a frame without its length prefix."""
    try:
        [correlation_id] = _CORRELATION.unpack_from(frame)
        position = _CORRELATION.size
        if APIS[api_key].has_flexible_response_header(api_version):
            position = _skip_header_tags(memoryview(frame), position)
    except (struct.error, IndexError):
        raise RemoteProtocolError("a response header is cut short") from None
    return correlation_id, position


def _skip_header_tags(frame: memoryview, position: int) -> int:
    count = frame[position]
    position += 1
    if not count:
        return position
    if count > LIMITS.header_tagged_fields:
        raise RemoteProtocolError("too many tagged fields in a header")
    for _ in range(count):
        _, position = varint.read_unsigned(frame, position)
        size, position = varint.read_unsigned(frame, position)
        position += size
        if position > len(frame):
            raise RemoteProtocolError("a tagged field of a header is cut short")
    return position


def response_frame(
    api_key: int, api_version: int, correlation_id: int, body: Sequence[Any]
) -> list[Any]:
    """The whole frame, length prefix first, as a list of parts: `body` are those of
    `encode_parts`. An unsupported version of ApiVersions is answered in version 0."""
    size = sum(map(size_of, body))
    if APIS[api_key].has_flexible_response_header(api_version):
        head = _FLEXIBLE_RESPONSE.pack(size + 5, correlation_id)
    else:
        head = _PLAIN_RESPONSE.pack(size + 4, correlation_id)
    return _put_before(head, body)


def request_frame(
    request: Message, version: int, correlation_id: int, client_id: str | None
) -> list[Any]:
    """The whole frame, length prefix first, as a list of parts."""
    api = api_of(request)
    body = encode_parts(request, version)
    name = b"" if client_id is None else client_id.encode()
    head = (
        _REQUEST.pack(api.key, version, correlation_id, -1 if client_id is None else len(name))
        + name
        + (b"\0" if api.is_flexible(version) else b"")
    )
    return _put_before(SIZE.pack(len(head) + sum(map(size_of, body))) + head, body)


def _put_before(head: bytes, body: Sequence[Any]) -> list[Any]:
    if not body:
        return [head]
    first = body[0]
    if isinstance(first, bytes) and len(first) <= _JOINED_BYTES:
        return [head + first, *body[1:]]
    return [head, *body]
