"""A blocking connection to any Kafka broker, for what a benchmark has to arrange around itself.

One request, one answer. The measured traffic does not pass through here: see `produce.py`.
"""

from __future__ import annotations

import socket
from collections.abc import Iterable
from typing import Final, TypeVar

from kcluster.errors import ApiError, ErrorCode, RemoteProtocolError, UsageError
from kcluster.wire.apis import APIS
from kcluster.wire.frame import parse_response_header, request_frame
from kcluster.wire.message import Message, decode
from kcluster.wire.messages.api_versions import ApiVersionsRequest, ApiVersionsResponse

CLIENT_ID: Final = "kcluster-bench"
CONNECT_S: Final = 5.0
ANSWER_S: Final = 30.0
FRAME_BYTES_MAX: Final = 64 << 20
SOCKET_BUFFER_BYTES: Final = 4 << 20
"""Room in the kernel for several batches in flight, so that a send seldom waits."""

R = TypeVar("R", bound=Message)


Address = tuple[str, int]
"""(host, port)"""


def address_text(address: Address) -> str:
    return f"{address[0]}:{address[1]}"


class Connection:
    def __init__(self, address: Address) -> None:
        """Raises UsageError when nobody answers there."""
        try:
            self.socket = socket.create_connection(address, CONNECT_S)
        except OSError as error:
            raise UsageError(
                f"nothing answers at {address_text(address)}",
                error.strerror or str(error),
                "kcluster status, or kcluster up",
                3,
            ) from None
        self.name = address_text(address)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SOCKET_BUFFER_BYTES)
        self.socket.settimeout(ANSWER_S)
        self._correlation = 0
        self._versions: dict[int, tuple[int, int]] = {}

    def __enter__(self) -> Connection:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self.socket.close()

    def ask(self, request: Message, response: type[R], version: int | None = None) -> R:
        """The answer to `request`, in the highest version that both sides know."""
        if version is None:
            version = self._highest(request.KEY)
        self._correlation += 1
        parts = request_frame(request, version, self._correlation, CLIENT_ID)
        self.socket.sendall(b"".join(parts))
        frame = self._frame()
        correlation, position = parse_response_header(frame, request.KEY, version)
        if correlation != self._correlation:
            raise RemoteProtocolError(f"{self.name} answered out of order")
        return decode(response, frame, version, position)

    def _highest(self, key: int) -> int:
        if not self._versions:
            answer = self.ask(
                ApiVersionsRequest(client_software_name="kcluster", client_software_version="1"),
                ApiVersionsResponse,
                3,
            )
            self._versions = {
                api.api_key: (api.min_version, api.max_version) for api in answer.api_keys
            }
        low, high = self._versions.get(key, (0, -1))
        version = min(high, APIS[key].versions[1])
        if version < low:
            raise ApiError(
                ErrorCode.UNSUPPORTED_VERSION, f"{self.name} does not serve {APIS[key].name}"
            )
        return version

    def _frame(self) -> memoryview:
        size = int.from_bytes(self._exactly(4), "big")
        if not 0 < size <= FRAME_BYTES_MAX:
            raise RemoteProtocolError(f"{self.name} sent a frame of {size} bytes")
        return self._exactly(size)

    def _exactly(self, size: int) -> memoryview:
        view = memoryview(bytearray(size))
        have = 0
        while have < size:
            count = self.socket.recv_into(view[have:])
            if count == 0:
                raise RemoteProtocolError(f"{self.name} closed the connection")
            have += count
        return view


def connect_any(addresses: Iterable[Address]) -> Connection:
    """To the first that answers. Raises the last one's UsageError."""
    problem: UsageError | None = None
    for address in addresses:
        try:
            return Connection(address)
        except UsageError as error:
            problem = error
    assert problem is not None, "no address"
    raise problem
